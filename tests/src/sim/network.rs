//! What lies between servers: connections that carry encoded frames, each way one of its own.
//!
//! A sender knows whom its connection leads to, and every frame names that life of the receiver. A
//! frame is delayed, lost, repeated, overtaken or changed on its way; a connection ends when either
//! side dies, when it is reset, and when a frame arrives that cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use kvstore::wire::frame::{self, FRAME_BYTES_MAX};
use kvstore::wire::peer::{self, Addressee, PeerMessage};
use raft::node::{Envelope, Member, Message, NodeId, Term};
use raft::replica::{Carried, SnapshotEnvelope, Transport};
use wal::sim_disk::Random;

use super::clock::ServerClock;
use super::dice::Chance;
use super::plan::NetworkPlan;
use super::server::number_of;

/// From one server to another.
pub(super) type Path = (usize, usize);

/// A connection, as its sender sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up {
    /// Frames of an earlier connection do not arrive on a later one.
    pub(super) number: u64,
    /// Whom it leads to.
    pub(super) to: Addressee,
    /// The term of the last append that arrived over it.
    pub(super) led: Option<Term>,
}

/// A frame on its way.
#[derive(Clone, Debug)]
pub(super) struct Travelling {
    pub(super) path: Path,
    pub(super) connection: u64,
    pub(super) bytes: BytesMut,
}

#[derive(Default)]
pub(super) struct Network {
    ups: BTreeMap<Path, Up>,
    connections: u64,
    /// Paths that carry nothing.
    pub(super) cut: BTreeSet<Path>,
}

impl Network {
    pub(super) fn connect(&mut self, path: Path, to: Addressee) {
        self.connections += 1;
        self.ups.insert(path, Up { number: self.connections, to, led: None });
    }

    pub(super) fn up(&self, path: Path) -> Option<&Up> {
        self.ups.get(&path)
    }

    /// Ends a connection; what is on its way over it is lost.
    pub(super) fn disconnect(&mut self, path: Path) -> Option<Up> {
        self.ups.remove(&path)
    }

    pub(super) fn is_cut(&self, path: Path) -> bool {
        self.cut.contains(&path)
    }

    /// Notes an append that arrived.
    pub(super) fn note_append(&mut self, path: Path, term: Term) {
        if let Some(up) = self.ups.get_mut(&path) {
            up.led = Some(term);
        }
    }
}

/// How long after it left each copy of a frame arrives, if any does.
pub(super) fn fates(plan: &NetworkPlan, dice: &mut Random) -> Vec<u64> {
    let mut fates = Vec::with_capacity(1);
    if !dice.permille(plan.lost_permille) {
        fates.push(delay(plan, dice));
    }
    if dice.permille(plan.repeated_permille) {
        fates.push(delay(plan, dice));
    }
    fates
}

pub(super) fn delay(plan: &NetworkPlan, dice: &mut Random) -> u64 {
    let delay = dice.between(plan.delay_min, plan.delay_max.max(plan.delay_min));
    if dice.permille(plan.late_permille) { delay * dice.between(2, 100) } else { delay }
}

/// Where a replica leaves what it says, until the turn is over.
pub(super) struct Outbox {
    pub(super) said: Vec<(Said, u64)>,
    /// The server's clock, which goes on while the disk is waited for.
    clock: ServerClock,
    begun: u64,
    /// Nothing about snapshots can leave now.
    pub(super) is_congested: bool,
}

pub(super) enum Said {
    Raft(Envelope),
    Snapshot(SnapshotEnvelope),
}

impl Said {
    pub(super) fn to(&self) -> Member {
        match self {
            Said::Raft(envelope) => envelope.to,
            Said::Snapshot(envelope) => envelope.to,
        }
    }

    /// The frame that it is sent as.
    pub(super) fn encode(&self, to: Addressee) -> BytesMut {
        let mut bytes = BytesMut::new();
        let encoded = match self {
            Said::Raft(it) => peer::encode_raft(&mut bytes, to, it.term, &it.message),
            Said::Snapshot(it) => peer::encode_snapshot(&mut bytes, to, it.snapshot, &it.message),
        };
        encoded.expect("limits in bytes keep messages far below a frame");
        bytes
    }

    /// In a few words.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Said::Raft(envelope) => envelope.message.name(),
            Said::Snapshot(envelope) => envelope.message.name(),
        }
    }
}

impl Outbox {
    /// For a turn that begins now.
    pub(super) fn new(clock: &ServerClock, is_congested: bool) -> Outbox {
        let (clock, begun) = (clock.clone(), clock.shown());
        Outbox { said: Vec::new(), clock, begun, is_congested }
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

/// The path of a message of `from` to `to`.
pub(super) fn path(from: usize, to: NodeId) -> Path {
    (from, number_of(to))
}
