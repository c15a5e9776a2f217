//! What passes between servers: how they connect and shake hands, what they say over their
//! connections, and how they take it. What decides is production code.

use bytes::BytesMut;
use kvstore::wire::frame::{self, HANDSHAKE_FRAME_BYTES_MAX};
use kvstore::wire::handshake::{Age, Answer, Hello, Role, VersionRange};
use kvstore::wire::peer::PeerMessage;
use raft::ClusterId;
use raft::driver::Input;
use raft::founding::{Founded, Seat, Standing};
use raft::node::{Boot, Envelope, Member, Message, Term};
use raft::replica::SnapshotEnvelope;

use crate::check::Broken;

use super::agenda::MILLISECOND;
use super::dice::Chance;
use super::meeting::{self, Noted};
use super::network::{self, Path, Purpose, Said, Travelling, Up, Way};
use super::plan::FaultKind;
use super::server::{address, number_of};
use super::world::{Happening, World};

/// Between two attempts to connect.
const DIAL_AGAIN: u64 = 100 * MILLISECOND;

/// Between a close and the dial that tells what it meant.
const SUSPECT_AFTER: u64 = 2 * MILLISECOND;

/// The highest protocol version, which all servers here speak.
const VERSION: u16 = kvstore::wire::PROTOCOL_VERSION_MAX;

impl World {
    // ------------------------------------------------------------------ connections

    fn others(&self, server: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.servers.len()).filter(move |other| *other != server)
    }

    /// Has a connection made in so many microseconds, or earlier if that is planned.
    pub(super) fn dial_in(&mut self, micros: u64, way: Way) {
        let at = self.now() + micros;
        if self.dials.get(&way).is_none_or(|planned| at < *planned) {
            self.dials.insert(way, at);
            self.agenda.plan(at, Happening::Dial(way));
        }
    }

    /// A server has come up: it dials all others, and they it.
    pub(super) fn dial_all_of(&mut self, server: usize) {
        if self.servers[server].is_up() {
            for other in self.others(server) {
                self.dial_in(1, ((server, other), Purpose::Raft));
                self.dial_in(1, ((other, server), Purpose::Raft));
            }
        }
    }

    /// Whom there is a connection for snapshots to, a bit for each.
    pub(super) fn snapshot_ways_of(&self, server: usize) -> u32 {
        let is_up = |other: &usize| self.network.up(((server, *other), Purpose::Snapshots));
        self.others(server).filter(|other| is_up(other).is_some()).map(|other| 1 << other).sum()
    }

    pub(super) fn dial_for_snapshots(&mut self, server: usize, wanted: u32) {
        for other in self.others(server).filter(|other| wanted & (1 << other) != 0) {
            self.dial_in(1, ((server, other), Purpose::Snapshots));
        }
    }

    pub(super) fn on_dial(&mut self, way: Way) -> Result<(), Broken> {
        let ((from, to), purpose) = way;
        if self.dials.get(&way).is_none_or(|at| *at > self.now()) {
            return Ok(());
        }
        self.dials.remove(&way);
        if !self.servers[from].is_up() || self.network.up(way).is_some() {
            return Ok(());
        }
        let is_open = !self.network.is_cut((from, to)) && !self.network.is_cut((to, from));
        let answers = self.servers[to].busy_until <= self.now() && self.servers[to].is_up();
        let shaken = if is_open && answers { self.shake_hands(way)? } else { None };
        match shaken {
            Some(up) => {
                self.network.connect(way, up);
                match purpose {
                    Purpose::Raft => self.say_standing(from, to),
                    Purpose::Snapshots => {
                        self.wake(from);
                        Ok(())
                    }
                }
            }
            None if purpose == Purpose::Raft && self.servers[from].is_up() => {
                self.dial_in(DIAL_AGAIN, way);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Both sides say who they are, and judge it. `None` if either objects, or fails.
    fn shake_hands(&mut self, way: Way) -> Result<Option<Up>, Broken> {
        let ((from, to), purpose) = way;
        let (Some(caller), Some(host)) = (self.servers[from].host(), self.servers[to].host())
        else {
            return Ok(None);
        };
        let hello = caller.hello_to(&Seat { id: host.me.id, address: address(to) });
        let role = match purpose {
            Purpose::Raft => Role::Peer(hello),
            Purpose::Snapshots => Role::Snapshots(hello),
        };
        let (me, my_age, cluster) = (caller.me, caller.age, caller.cluster_id);
        let (member, age, theirs) = (host.me, host.age, host.cluster_id);
        self.begin_frame((from, to));
        let Some(Role::Peer(hello) | Role::Snapshots(hello)) = self.carry_hello(role)? else {
            return Ok(None);
        };
        let Some(host) = self.servers[to].host() else { return Ok(None) };
        let Some(seen) = host.check_peer(&hello) else { return Ok(None) };
        assert!(seen == me, "a server is taken for who it says that it is");
        let commit = self.servers[to].process.as_ref().map_or(0, |it| it.node().commit().0);
        let welcome = host.welcome(VERSION, commit);
        let addressee = host.addressee();
        let mut bytes = BytesMut::new();
        frame::encode(&mut bytes, 0, &welcome, HANDSHAKE_FRAME_BYTES_MAX).expect("it is short");
        let frame = frame::decode(&mut bytes, HANDSHAKE_FRAME_BYTES_MAX).ok().flatten();
        let answer = frame.and_then(|frame| Answer::decode(frame.kind, &frame.body).ok());
        let Some(Answer::Welcome(welcome)) = answer else {
            return Err(Broken::new("the wire", "a welcome cannot be read"));
        };
        if !self.note_start(to, (me, my_age), cluster)? {
            return Ok(None);
        }
        let Some(caller) = self.servers[from].host() else { return Ok(None) };
        if caller.check_welcome(member.id, &welcome) != Some(member)
            || !self.note_start(from, (member, age), theirs)?
        {
            return Ok(None);
        }
        let (boot, life) = (Boot(my_age.boot), self.servers[to].life);
        Ok(Some(Up { number: 0, from: me, boot, cluster, to: member, addressee, life, led: None }))
    }

    /// What a server says of itself goes over the wire. `None` if it arrives damaged.
    fn carry_hello(&mut self, role: Role) -> Result<Option<Role>, Broken> {
        let mut bytes = BytesMut::new();
        let hello = Hello { versions: VersionRange::OURS, role };
        frame::encode(&mut bytes, 0, &hello, HANDSHAKE_FRAME_BYTES_MAX).expect("it is short");
        let is_damaged = self.flip_a_bit(&mut bytes);
        let frame = frame::decode(&mut bytes, HANDSHAKE_FRAME_BYTES_MAX).ok().flatten();
        match (frame, is_damaged) {
            (Some(_), true) => Err(accepted_damage()),
            (None, _) => Ok(None),
            (Some(frame), false) => match meeting::read_hello(&frame) {
                Some((VERSION, role)) => Ok(Some(role)),
                other => Err(Broken::new("the wire", format!("a hello reads as {other:?}"))),
            },
        }
    }

    /// A server compares another's start with what it has seen. False if it fails over it.
    fn note_start(
        &mut self,
        server: usize,
        (member, age): (Member, Age),
        cluster: Option<[u8; 16]>,
    ) -> Result<bool, Broken> {
        let it = &mut self.servers[server];
        let ours = it.host().and_then(|host| host.cluster_id);
        let members = it.process.as_ref().map(|process| process.node().configuration().clone());
        let seats = &self.seats;
        let is_known = |other: Member| match &members {
            Some(members) => members.lists(other),
            None => seats.iter().any(|seat| seat.id == other.id),
        };
        let Some((met, home)) = it.accounts() else { return Ok(false) };
        match met.note(home.boots_mut(), (member, age), (ours, cluster), is_known) {
            Ok(Noted::Current { has_restarted }) => {
                if has_restarted {
                    self.hand_in(server, Input::Restarted(member))?;
                }
                Ok(true)
            }
            Ok(Noted::RolledBack) => {
                let what = format!("{member} is taken for an older copy of itself: {age:?}");
                Err(Broken::new("no start is counted twice", what))
            }
            Err(error) => self.on_fatal(server, &error.to_string()).map(|()| false),
        }
    }

    /// A bit of a frame flips, if chance has it so.
    fn flip_a_bit(&mut self, bytes: &mut BytesMut) -> bool {
        let flips = self.dice.frame.permille(self.course.network.flipped_permille);
        if flips {
            let bit = self.dice.frame.place(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            self.note_mishap_now();
            self.note_fired(FaultKind::Message);
        }
        flips
    }

    /// A connection ends while both sides live.
    pub(super) fn reset(&mut self, way: Way) {
        let Some(up) = self.network.disconnect(way) else { return };
        let ((from, to), purpose) = way;
        if purpose == Purpose::Raft {
            let micros = self.dice.network.between(MILLISECOND, DIAL_AGAIN);
            self.dial_in(micros, way);
            return;
        }
        for (server, other) in [(from, up.to), (to, up.from)] {
            if let Some(process) = &mut self.servers[server].process {
                process.inbox.push(Input::SnapshotStreamLost(other));
                self.wake(server);
            }
        }
    }

    /// The machine of a process that died closes its connections; whoever followed it notices.
    pub(super) fn close_all_of(&mut self, server: usize) -> Result<(), Broken> {
        for other in self.others(server) {
            if let Some(up) = self.network.disconnect(((server, other), Purpose::Raft))
                && let Some(term) = up.led
            {
                let (leader, life) = (server, self.servers[server].life);
                let suspect = Happening::Suspect { server: other, leader, life, term };
                self.plan_in(SUSPECT_AFTER, suspect);
            }
            self.reset(((other, server), Purpose::Raft));
            self.reset(((server, other), Purpose::Snapshots));
            self.reset(((other, server), Purpose::Snapshots));
        }
        self.forget_joiners(server);
        Ok(())
    }

    /// The machine is gone, and nobody is told; those who send to it notice in time.
    pub(super) fn lose_all_of(&mut self, server: usize) {
        for other in self.others(server) {
            self.network.disconnect(((server, other), Purpose::Raft));
            self.reset(((other, server), Purpose::Raft));
            self.reset(((server, other), Purpose::Snapshots));
            self.reset(((other, server), Purpose::Snapshots));
        }
        self.forget_joiners(server);
    }

    /// Others forget that a server has announced itself.
    fn forget_joiners(&mut self, server: usize) {
        let id = self.servers[server].member().id;
        for process in self.servers.iter_mut().filter_map(|it| it.process.as_mut()) {
            process.joiners.remove(&id);
        }
    }

    /// A server makes all its connections anew, to say which cluster it belongs to.
    pub(super) fn renew_ways_of(&mut self, server: usize) -> Result<(), Broken> {
        for other in self.others(server) {
            let way = ((server, other), Purpose::Raft);
            self.network.disconnect(way);
            self.dial_in(1, way);
        }
        self.forget_joiners(server);
        Ok(())
    }

    pub(super) fn on_suspicion(
        &mut self,
        server: usize,
        leader: usize,
        life: u64,
        term: Term,
    ) -> Result<(), Broken> {
        let is_open =
            !self.network.is_cut((server, leader)) && !self.network.is_cut((leader, server));
        if !is_open || self.is_alive(leader, life) {
            return Ok(());
        }
        let gone = self.servers[leader].member();
        if let Some(process) = &mut self.servers[server].process {
            process.inbox.push(Input::LeaderGone(gone, term));
            self.trace.count_event();
            self.wake(server);
        }
        Ok(())
    }

    // ------------------------------------------------------------------ what servers stand for

    fn standing(&self, server: usize) -> Option<Standing> {
        let it = &self.servers[server];
        if let Some(entrance) = &it.entrance {
            return Some(entrance.standing());
        }
        let process = it.process.as_ref()?;
        let (node, charter) = (process.node(), process.charter()?.clone());
        let (members, index) = (node.configuration().clone(), node.configuration_index());
        let since = Some(index).filter(|index| *index <= node.commit());
        Some(Standing::Founded(Founded { charter, members, since }))
    }

    fn say_standing(&mut self, from: usize, to: usize) -> Result<(), Broken> {
        let Some(standing) = self.standing(from) else { return Ok(()) };
        let way = ((from, to), Purpose::Raft);
        self.transmit(way, &Said::Standing(standing), 0, false);
        Ok(())
    }

    /// Tells all others what a server stands for.
    pub(super) fn tell_standing(&mut self, server: usize) -> Result<(), Broken> {
        self.others(server).try_for_each(|other| self.say_standing(server, other))
    }

    /// The membership has changed: whoever waits to be taken in should know where to ask now.
    pub(super) fn tell_joiners(&mut self, server: usize) -> Result<(), Broken> {
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let configuration = process.driver.replica().node().configuration().clone();
        let joiners: Vec<usize> = process.joiners.keys().map(|id| number_of(*id)).collect();
        process.joiners.retain(|_, joiner| !configuration.lists(*joiner));
        for joiner in joiners {
            self.answer_standing(server, joiner);
        }
        Ok(())
    }

    /// On the connection that the other side made, since there may be no other.
    fn answer_standing(&mut self, server: usize, to: usize) {
        if let Some(standing) = self.standing(server) {
            self.transmit(((to, server), Purpose::Raft), &Said::Standing(standing), 0, true);
        }
    }

    fn on_standing(&mut self, to: usize, from: Member, said: Standing) -> Result<(), Broken> {
        if let Some(entrance) = &mut self.servers[to].entrance {
            let before = entrance.step();
            entrance.hear(from, said);
            let has_news = entrance.step() != before;
            self.advance(to)?;
            if has_news && self.servers[to].entrance.is_some() {
                return self.tell_standing(to);
            }
            return Ok(());
        }
        let Some(process) = &mut self.servers[to].process else { return Ok(()) };
        let is_member = process.node().configuration().lists(from);
        if is_member || matches!(said, Standing::Founded(_)) {
            return Ok(());
        }
        if matches!(said, Standing::Joining { .. }) {
            process.joiners.insert(from.id, from);
        }
        self.answer_standing(to, number_of(from.id));
        Ok(())
    }

    // ------------------------------------------------------------------ messages

    pub(super) fn send(&mut self, from: usize, said: &Said, after: u64) -> Result<(), Broken> {
        let to = match said {
            Said::Raft(envelope) => {
                if let Some(process) = &self.servers[from].process {
                    self.checks.on_spoken(envelope, process.node())?;
                }
                if let Message::TimeoutNow { .. } = envelope.message {
                    self.deafen(from);
                }
                envelope.to
            }
            Said::Snapshot(envelope) => envelope.to,
            Said::Standing(_) => return Ok(()),
        };
        let way = ((from, number_of(to.id)), said.purpose());
        if self.network.up(way).is_some_and(|up| up.to == to) {
            self.transmit(way, said, after, false);
        }
        Ok(())
    }

    /// Sets a frame on its way, as often as chance has it.
    fn transmit(&mut self, way: Way, said: &Said, after: u64, is_answer: bool) {
        let Some(up) = self.network.up(way).copied() else { return };
        let bytes = said.encode(up.addressee);
        let (from, to) = way.0;
        self.trace.note(&[3, from as u64, to as u64, u64::from(crc32fast::hash(&bytes))]);
        let now = self.now();
        let path = if is_answer { (to, from) } else { (from, to) };
        let name = self.begin_frame(path);
        let calm = network::fates(&self.course.network.calm(), &mut self.dice.frame.clone());
        let mut fates = network::fates(&self.course.network, &mut self.dice.frame);
        let is_standing = matches!(said, Said::Standing(_));
        if is_standing {
            // It is said once, so it must come in order and cannot be lost but with its connection.
            fates = [Some(self.plan.network.delay_max), None];
        }
        if fates[0].is_none() || fates[1].is_some() {
            self.note_fired(FaultKind::Message);
        }
        if fates != calm && !is_standing {
            self.note_mishap_now();
            self.trace.note_fates(now, path, said.name(), fates);
        }
        for delay in fates.into_iter().flatten() {
            let mut bytes = bytes.clone();
            let is_damaged = self.flip_a_bit(&mut bytes);
            let outlives = self.dice.frame.permille(self.course.network.outlives_permille);
            let outlives = outlives && !is_standing;
            let kind = said.name();
            self.trace.tell(now, || {
                format!("s{} -> s{} {kind}, {delay} us, answer {is_answer}", from + 1, to + 1)
            });
            let frame =
                Travelling { way, up, name, is_answer, is_standing, is_damaged, outlives, bytes };
            let at = self.network.arrival(frame.path(), now + (after + delay));
            self.agenda.plan(at, Happening::Arrive(frame));
        }
    }

    pub(super) fn on_arrival(&mut self, frame: Travelling) -> Result<(), Broken> {
        let (path, way) = (frame.path(), frame.way);
        let is_current = self.network.up(way).is_some_and(|up| up.number == frame.up.number);
        if self.network.is_cut(path) || !self.servers[path.1].is_up() {
            // What cannot be asked for again is lost only with its connection.
            if is_current && frame.is_standing {
                self.reset(way);
            }
            return Ok(());
        }
        if !is_current {
            if !frame.outlives || frame.is_answer {
                return Ok(());
            }
            self.note_fired(FaultKind::Message);
            self.note_mishap(frame.name);
        }
        let Some(message) = network::read(frame.bytes) else {
            self.reset(way);
            return Ok(());
        };
        if frame.is_damaged {
            return Err(accepted_damage());
        }
        if is_current && let Some(term) = network::term_of_append(&message) {
            self.network.note_append(way, term);
        }
        if way.1 == Purpose::Snapshots
            && is_current
            && let Some(cut) = self.snapshot_cut(frame.name)
        {
            self.note_mishap(frame.name);
            return self.interrupt_a_snapshot(way, cut);
        }
        self.take(path, &frame.up, message)
    }

    /// A server takes what arrived, as the connection's handshake said whose it is.
    fn take(&mut self, (_, to): Path, up: &Up, message: PeerMessage) -> Result<(), Broken> {
        let is_life = up.life == self.servers[to].life;
        let Some(host) = self.servers[to].host() else { return Ok(()) };
        let me = host.me;
        let sender = if me.id == up.from.id { up.to } else { up.from };
        let is_for_me = match &message {
            PeerMessage::Raft { to, .. } | PeerMessage::Snapshot { to, .. } => {
                host.is_for_me(*to, up.cluster)
            }
            // It names nobody, and no socket outlives its process.
            PeerMessage::Standing(_) => is_life || me.id == up.from.id,
        };
        if !is_for_me {
            return Ok(());
        }
        if !is_life && me.id != up.from.id {
            let what = format!("{me} takes what an earlier life of it was told");
            return Err(Broken::new("a message is for one life", what));
        }
        let boot = if me.id == up.from.id { up.addressee.boot } else { up.boot };
        let is_about_snapshots = matches!(message, PeerMessage::Snapshot { .. });
        if !is_about_snapshots && !self.servers[to].met.is_latest(sender, boot) {
            return Ok(());
        }
        match message {
            PeerMessage::Standing(standing) => self.on_standing(to, sender, standing),
            PeerMessage::Raft { term, message, .. } => {
                if self.servers[to].entrance.is_some() && !self.admit(to, up, &message)? {
                    return Ok(());
                }
                self.servers[to].met.hear(sender, term);
                let envelope = Envelope { from: sender, to: me, term, message };
                self.hand_in(to, Input::Message(envelope))
            }
            PeerMessage::Snapshot { snapshot, message, .. } => {
                let envelope = SnapshotEnvelope { from: sender, to: me, snapshot, message };
                self.hand_in(to, Input::Snapshot(envelope))
            }
        }
    }

    pub(super) fn hand_in(&mut self, server: usize, input: Input) -> Result<(), Broken> {
        if let Some(process) = &mut self.servers[server].process {
            process.inbox.push(input);
            self.trace.count_event();
            self.wake(server);
        }
        Ok(())
    }

    /// A message of Raft came to a server that belongs to no cluster. True if it does now.
    fn admit(&mut self, server: usize, up: &Up, message: &Message) -> Result<bool, Broken> {
        let options = self.servers[server].log_options(&self.plan);
        let Some(entrance) = &mut self.servers[server].entrance else { return Ok(false) };
        match entrance.admit(up.cluster.map(ClusterId), message, &options) {
            Ok(None) => Ok(false),
            Ok(Some(_)) => {
                self.advance(server)?;
                Ok(self.servers[server].process.is_some())
            }
            Err(error) => self.on_fatal(server, &error.to_string()).map(|()| false),
        }
    }
}

fn accepted_damage() -> Broken {
    Broken::new("a damaged frame is refused", "a frame with a flipped bit was read")
}
