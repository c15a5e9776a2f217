//! What lies between servers: connections that carry encoded frames, each made by the side that
//! sends on it, and a second one for snapshots.
//!
//! A sender knows whom its connection leads to, and every frame names that life of the receiver. A
//! frame is delayed, lost, repeated, overtaken or changed on its way, and may arrive after its
//! connection was replaced; a connection ends when either side dies, when it is reset, and when a
//! frame arrives that cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use kvstore::wire::frame::{self, FRAME_BYTES_MAX};
use kvstore::wire::peer::{self, Addressee, PeerMessage};
use raft::founding::Standing;
use raft::node::{Boot, Envelope, Member, Message, Term};
use raft::replica::{Carried, SnapshotEnvelope, Transport};
use wal::sim_disk::Random;

use super::agenda::Moment;
use super::clock::ServerClock;
use super::course::FrameName;
use super::dice::Chance;
use super::plan::NetworkPlan;
use super::server::number_of;

/// From one server to another.
pub(super) type Path = (usize, usize);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Raft's messages, and what servers stand for.
    Raft,
    /// Snapshots.
    Snapshots,
}

/// A connection's two ends, the one that made it first, and what it is for.
pub(super) type Way = (Path, Purpose);

/// A connection, as both of its ends know it since their handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up {
    /// Frames of an earlier connection do not arrive on a later one.
    pub(super) number: u64,
    /// Who made it.
    pub(super) from: Member,
    /// In which of its starts.
    pub(super) boot: Boot,
    /// The cluster that this one said it belongs to.
    pub(super) cluster: Option<[u8; 16]>,
    /// Who accepted it.
    pub(super) to: Member,
    /// How frames name that one.
    pub(super) addressee: Addressee,
    /// Which of its server's processes that is.
    pub(super) life: u64,
    /// The term of the last append that arrived over it.
    pub(super) led: Option<Term>,
}

/// A frame on its way over a connection.
#[derive(Clone, Debug)]
pub(super) struct Travelling {
    pub(super) way: Way,
    pub(super) up: Up,
    pub(super) name: FrameName,
    /// From the side that accepted the connection to the one that made it.
    pub(super) is_answer: bool,
    /// It says what its sender stands for.
    pub(super) is_standing: bool,
    /// A bit of it has flipped.
    pub(super) is_damaged: bool,
    /// It is read even if the connection is gone by then, by whoever is there.
    pub(super) outlives: bool,
    pub(super) bytes: BytesMut,
}

impl Travelling {
    /// Where it comes from and where it goes.
    pub(super) fn path(&self) -> Path {
        let ((from, to), _) = self.way;
        if self.is_answer { (to, from) } else { (from, to) }
    }
}

#[derive(Default)]
pub(super) struct Network {
    ups: BTreeMap<Way, Up>,
    connections: u64,
    /// Paths that carry nothing, and how many reasons there are for it.
    cut: BTreeMap<Path, u32>,
    /// Paths on which frames are held back, and until when.
    clogged: BTreeMap<Path, Moment>,
    /// Servers that no path leads to or from.
    pub(super) isolated: BTreeSet<usize>,
}

impl Network {
    /// Both sides have accepted.
    pub(super) fn connect(&mut self, way: Way, up: Up) {
        self.connections += 1;
        self.ups.insert(way, Up { number: self.connections, ..up });
    }

    pub(super) fn up(&self, way: Way) -> Option<&Up> {
        self.ups.get(&way)
    }

    /// Ends a connection.
    pub(super) fn disconnect(&mut self, way: Way) -> Option<Up> {
        self.ups.remove(&way)
    }

    pub(super) fn is_cut(&self, path: Path) -> bool {
        let is_alone = !self.isolated.is_empty()
            && (self.isolated.contains(&path.0) || self.isolated.contains(&path.1));
        is_alone || self.cut.contains_key(&path)
    }

    pub(super) fn cut(&mut self, path: Path) {
        *self.cut.entry(path).or_default() += 1;
    }

    /// One of the reasons for which the path is cut is gone.
    pub(super) fn mend(&mut self, path: Path) {
        if let Some(reasons) = self.cut.get_mut(&path) {
            *reasons -= 1;
            if *reasons == 0 {
                self.cut.remove(&path);
            }
        }
    }

    /// Whatever leaves on the path arrives not before `until`.
    pub(super) fn clog(&mut self, path: Path, until: Moment) {
        self.clogged.insert(path, until);
    }

    /// When a frame arrives on the path that would do so at this moment.
    pub(super) fn arrival(&self, path: Path, at: Moment) -> Moment {
        self.clogged.get(&path).map_or(at, |until| at.max(*until))
    }

    pub(super) fn mend_all(&mut self) {
        self.cut.clear();
        self.clogged.clear();
        self.isolated.clear();
    }

    /// Notes an append that arrived.
    pub(super) fn note_append(&mut self, way: Way, term: Term) {
        if let Some(up) = self.ups.get_mut(&way) {
            up.led = Some(term);
        }
    }
}

/// How long after it left each copy of a frame arrives, if any does.
pub(super) fn fates(plan: &NetworkPlan, dice: &mut Random) -> [Option<u64>; 2] {
    let is_lost = dice.permille(plan.lost_permille);
    let first = delay(plan, dice);
    let is_repeated = dice.permille(plan.repeated_permille);
    let second = is_repeated.then(|| delay(plan, dice));
    [(!is_lost).then_some(first), second]
}

pub(super) fn delay(plan: &NetworkPlan, dice: &mut Random) -> u64 {
    let delay = dice.between(plan.delay_min, plan.delay_max.max(plan.delay_min));
    if dice.permille(plan.late_permille) { delay * dice.between(2, 100) } else { delay }
}

/// Where a replica leaves what it says, until the turn is over.
pub(super) struct Outbox {
    pub(super) said: Vec<(Said, u64)>,
    /// Whom there is a connection for snapshots to, a bit for each.
    snapshot_ways: u32,
    /// Whom one is wanted to.
    pub(super) wanted: u32,
    /// The server's clock, which goes on while the disk is waited for.
    clock: ServerClock,
    begun: u64,
    /// Nothing about snapshots can leave now.
    is_congested: bool,
}

pub(super) enum Said {
    Raft(Envelope),
    Snapshot(SnapshotEnvelope),
    Standing(Standing),
}

impl Said {
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Said::Raft(_) | Said::Standing(_) => Purpose::Raft,
            Said::Snapshot(_) => Purpose::Snapshots,
        }
    }

    /// The frame that it is sent as.
    pub(super) fn encode(&self, to: Addressee) -> BytesMut {
        let mut bytes = BytesMut::new();
        let encoded = match self {
            Said::Raft(it) => peer::encode_raft(&mut bytes, to, it.term, &it.message),
            Said::Snapshot(it) => peer::encode_snapshot(&mut bytes, to, it.snapshot, &it.message),
            Said::Standing(it) => peer::encode_standing(&mut bytes, it),
        };
        encoded.expect("limits in bytes keep messages far below a frame");
        bytes
    }

    /// In a few words.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Said::Raft(envelope) => envelope.message.name(),
            Said::Snapshot(envelope) => envelope.message.name(),
            Said::Standing(_) => "Standing",
        }
    }
}

impl Outbox {
    /// For a turn that begins now.
    pub(super) fn new(clock: &ServerClock, snapshot_ways: u32, is_congested: bool) -> Outbox {
        let (clock, begun) = (clock.clone(), clock.shown());
        Outbox { said: Vec::new(), snapshot_ways, wanted: 0, clock, begun, is_congested }
    }

    /// How long the server has stood still since the turn began, in microseconds.
    pub(super) fn stood_still(&self) -> u64 {
        self.clock.shown() - self.begun
    }
}

impl Transport for Outbox {
    fn send(&mut self, envelope: Envelope) {
        let after = self.stood_still();
        self.said.push((Said::Raft(envelope), after));
    }

    fn send_snapshot(&mut self, envelope: &SnapshotEnvelope) -> Carried {
        let to = 1 << number_of(envelope.to.id);
        if self.snapshot_ways & to == 0 {
            self.wanted |= to;
            return Carried::NotNow;
        }
        if self.is_congested {
            return Carried::NotNow;
        }
        let after = self.stood_still();
        self.said.push((Said::Snapshot(envelope.clone()), after));
        Carried::Taken
    }

    fn flush(&mut self) {}
}

/// What arrived, if it can be read.
pub(super) fn read(mut bytes: BytesMut) -> Option<PeerMessage> {
    let frame = frame::decode(&mut bytes, FRAME_BYTES_MAX).ok().flatten()?;
    peer::decode(&frame).ok()
}

/// The term in which an append was sent.
pub(super) fn term_of_append(message: &PeerMessage) -> Option<Term> {
    match message {
        PeerMessage::Raft { term, message: Message::Append { .. }, .. } => Some(*term),
        _ => None,
    }
}
