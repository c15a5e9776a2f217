//! Whoever watches a run: sees after each event what has changed, and marks it for the diagram.
//! Only runs that are watched pay for it.

use kvstore::wire::peer::PeerMessage;
use raft::node::{Message, Position, Term};
use wal::sim_disk::Fault;

use super::diagram::{Lifeline, What};
use super::history::Ask;
use super::network::{self, Path, Travelling};
use super::plan::SERVERS_MAX;
use super::server::Server;
use super::world::World;

/// A server as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    life: u64,
    is_up: bool,
    is_member: bool,
    leads: Option<Term>,
    commit: u64,
    struck: u64,
    is_full: bool,
}

/// What was last seen.
#[derive(Default)]
pub(super) struct Onlooker {
    servers: Vec<Seen>,
    cut: Vec<Path>,
}

impl Seen {
    fn of(server: &Server) -> Seen {
        let node = server.process.as_ref().map(|process| process.node());
        let leads = server.process.as_ref().is_some_and(|process| process.leads());
        Seen {
            life: server.life,
            is_up: server.is_up(),
            is_member: server.process.is_some(),
            leads: node.filter(|_| leads).map(|node| node.term()),
            commit: node.map_or(0, |node| node.commit().0),
            struck: server.disk.struck(Fault::EIO),
            is_full: server.is_short_of_room,
        }
    }
}

impl World {
    /// An event is over.
    pub(super) fn look_on(&mut self) {
        if !self.trace.is_watched() {
            return;
        }
        let now = self.now();
        let mut lifelines = [Lifeline::Down; SERVERS_MAX];
        for (server, lifeline) in self.servers.iter().zip(&mut lifelines) {
            let leads = server.process.as_ref().is_some_and(|process| process.leads());
            *lifeline = match server.is_up() {
                false => Lifeline::Down,
                // Longer than a disk takes for a write.
                true if server.busy_until > now + self.plan.disk.sync_max * 8 => Lifeline::Paused,
                true if leads => Lifeline::Leads,
                true => Lifeline::Up,
            };
        }
        self.trace.set_lifelines(lifelines);
        let seen: Vec<Seen> = self.servers.iter().map(Seen::of).collect();
        let before = std::mem::replace(&mut self.onlooker.servers, seen.clone());
        for (number, is) in seen.iter().enumerate() {
            let was = before.get(number).cloned().unwrap_or_default();
            for what in changes(number, &was, is) {
                self.trace.mark(now, || what);
            }
        }
        self.look_at_paths();
    }

    fn look_at_paths(&mut self) {
        let count = self.servers.len();
        let paths = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let cut: Vec<Path> =
            paths.filter(|path| path.0 != path.1 && self.network.is_cut(*path)).collect();
        if cut == self.onlooker.cut {
            return;
        }
        let note = match cut.is_empty() {
            true => "all paths carry".to_string(),
            false => {
                let names = cut.iter().map(|(from, to)| format!("s{}>s{}", from + 1, to + 1));
                format!("CUT {}", names.collect::<Vec<_>>().join(" "))
            }
        };
        self.onlooker.cut = cut;
        let now = self.now();
        self.trace.mark(now, || What::World { is_grave: true, note });
    }

    /// A frame comes to the end of its way.
    pub(super) fn see_arrival(&mut self, frame: &Travelling) {
        if !self.trace.is_watched() {
            return;
        }
        let (from, to) = frame.path();
        let is_current = self.network.up(frame.way).is_some_and(|up| up.number == frame.up.number);
        let (told, is_dull) = match network::read(frame.bytes.clone()) {
            Some(message) => describe(&message),
            None => ("a frame that cannot be read".to_string(), false),
        };
        let (arrives, fate) = match () {
            () if !self.servers[to].is_up() => (false, " (nobody is there)"),
            () if self.network.is_cut((from, to)) => (false, " (the path is cut)"),
            () if !is_current && frame.outlives => (true, " (outlives its connection)"),
            () if !is_current => (false, " (its connection is gone)"),
            () => (true, ""),
        };
        let (now, note) = (self.now(), format!("{told}{fate}"));
        self.trace.mark(now, || What::Frame { from, to, arrives, is_dull, note });
    }
}

/// What has become of a server.
fn changes(server: usize, was: &Seen, is: &Seen) -> Vec<What> {
    let mut changes = Vec::new();
    let mut mark = |sign, is_grave, note: String| {
        changes.push(What::Server { server, sign, is_grave, note });
    };
    let name = format!("s{}", server + 1);
    if was.is_up && (!is.is_up || is.life != was.life) {
        mark("CRASH", true, format!("{name} is down"));
    }
    if is.is_up && (!was.is_up || is.life != was.life) {
        mark("start", true, format!("{name} starts, life {}", is.life));
    }
    if is.is_member && (!was.is_member || is.life != was.life) {
        mark("member", false, format!("{name} has its log, commit {}", is.commit));
    }
    if is.leads != was.leads {
        match is.leads {
            Some(term) => mark("LEADS", true, format!("{name} leads term {term}")),
            None if is.is_up => mark("yields", true, format!("{name} leads no more")),
            None => {}
        }
    }
    if is.is_member && was.is_member && is.commit > was.commit && is.life == was.life {
        mark("commit", false, format!("{name} takes {} for committed", is.commit));
    }
    if is.struck > was.struck {
        mark("disk!", true, format!("a sync fails at {name}"));
    }
    if is.is_full != was.is_full {
        let what = if is.is_full { "is nearly full" } else { "has room again" };
        mark("disk", true, format!("the disk of {name} {what}"));
    }
    changes
}

fn at(position: &Position) -> String {
    format!("{}@{}", position.index, position.term)
}

/// A message in few words, and whether it says nothing new.
fn describe(message: &PeerMessage) -> (String, bool) {
    match message {
        PeerMessage::Standing(standing) => {
            let text = format!("{standing:?}");
            let name: String = text.chars().take_while(|it| it.is_alphanumeric()).collect();
            (format!("stands for: {name}"), false)
        }
        PeerMessage::Snapshot { message, .. } => (message.name().to_string(), false),
        PeerMessage::Raft { term, message, .. } => {
            let is_dull = match message {
                Message::Append { entries, .. } => entries.is_empty(),
                Message::RoundEcho { .. } => true,
                _ => false,
            };
            (format!("{} term {term}{}", message.name(), details(message)), is_dull)
        }
    }
}

fn details(message: &Message) -> String {
    match message {
        Message::Append { previous, entries, commit, .. } => {
            format!(", {} after {}, commit {commit}", entries.len(), at(previous))
        }
        Message::AppendAccepted { matched } => format!(", up to {matched}"),
        Message::AppendAcceptedInPart { matched, verified } => {
            format!(", up to {matched} of {verified}")
        }
        Message::AppendRejected { previous, hint } => {
            format!(", not {previous}, perhaps {}", at(hint))
        }
        Message::PreVoteRequest { campaign, last } => {
            format!(", for term {campaign}, log ends {}", at(last))
        }
        Message::VoteRequest { last, .. } => format!(", log ends {}", at(last)),
        Message::PreVoteGranted { campaign } | Message::PreVoteRefused { campaign } => {
            format!(", for term {campaign}")
        }
        Message::SnapshotOffer { snapshot } => format!(", up to {}", at(&snapshot.position)),
        Message::ReadIndexAnswer { index, .. } => format!(", index {index}"),
        _ => String::new(),
    }
}

/// What a client wants, as a script says it.
pub(super) fn words(key: u64, ask: Ask) -> String {
    match ask {
        Ask::Get => format!("get key {key}"),
        Ask::Set(value) => format!("set key {key} to {value}"),
        Ask::SetIfAbsent(value) => format!("set absent key {key} to {value}"),
        Ask::SetIf(from, to) => format!("set key {key} from {from} to {to}"),
        Ask::Delete => format!("delete key {key}"),
    }
}
