//! What two servers say to each other while a snapshot goes from one to the other. The receiver
//! pulls: it says what it has and how much more it can take, so a lost connection or a restart of
//! either side costs what was on its way and no more. Nothing in here has to do with terms: what
//! arrives counts by its hash.

use crate::node::{Member, Payload, SnapshotId};

/// A message about a snapshot, with its sender and its receiver. Meant for a connection of its own,
/// so that no heartbeat waits behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEnvelope {
    /// Who says it.
    pub from: Member,
    /// Whom it is for.
    pub to: Member,
    /// The snapshot that it is about. Two servers' snapshots of the same name are the same.
    pub snapshot: SnapshotId,
    /// What is said.
    pub message: SnapshotMessage,
}

/// What is said about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotMessage {
    /// "I have the first `offset` bytes. Send what follows, up to `until`."
    Want {
        /// Where to go on, or to begin.
        offset: u64,
        /// How far the receiver has room.
        until: u64,
    },
    /// "I have taken enough that you may go on up to `until`."
    Allow {
        /// How far the receiver has room.
        until: u64,
    },
    /// A part of the file.
    Chunk {
        /// Where it stands.
        offset: u64,
        /// Its bytes and their checksum.
        content: Payload,
    },
    /// "All of it is here, and it is not what you offered."
    Damaged,
}

impl SnapshotMessage {
    /// The message's name, for stories and diagrams.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            SnapshotMessage::Want { .. } => "SnapshotWant",
            SnapshotMessage::Allow { .. } => "SnapshotAllow",
            SnapshotMessage::Chunk { .. } => "SnapshotChunk",
            SnapshotMessage::Damaged => "SnapshotDamaged",
        }
    }
}
