//! What is said between replicas, before chance decides what becomes of it.

use raft::node::{Envelope, NodeId};
use raft::replica::{Carried, SnapshotEnvelope, Transport};

/// What one server says to another.
#[derive(Clone)]
pub(super) enum Said {
    Raft(Envelope),
    Snapshot(SnapshotEnvelope),
}

impl Said {
    pub(super) fn path(&self) -> (NodeId, NodeId) {
        match self {
            Said::Raft(envelope) => (envelope.from.id, envelope.to.id),
            Said::Snapshot(envelope) => (envelope.from.id, envelope.to.id),
        }
    }
}

/// Where a replica leaves what it says.
pub(super) struct Outbox {
    pub(super) said: Vec<Said>,
    /// Nothing about snapshots can leave now.
    pub(super) is_congested: bool,
}

impl Transport for Outbox {
    fn send(&mut self, envelope: Envelope) {
        self.said.push(Said::Raft(envelope));
    }

    fn send_snapshot(&mut self, envelope: &SnapshotEnvelope) -> Carried {
        if self.is_congested {
            return Carried::NotNow;
        }
        self.said.push(Said::Snapshot(envelope.clone()));
        Carried::Taken
    }

    fn flush(&mut self) {}
}
