//! What applying a command gives back. A reply is part of the replicated state, because sessions
//! keep replies for retries, so it is small, has a fixed size bound and is encoded with care.

use super::digest::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of the latest change to the whole store.
///
/// It starts at 0 for an empty store and grows by one with every write that changed something,
/// however many keys that write touched.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The three numbers that the store keeps with every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyState {
    /// The revision at which the key came into being, since it was last absent.
    pub create_revision: Revision,
    /// The revision of the latest write to the key.
    pub mod_revision: Revision,
    /// How many writes the key has seen since it was created; 1 for a new key.
    pub version: u64,
}

/// The answer of the state machine to one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The revision of the store right after the command.
    pub revision: Revision,
    /// What the command did.
    pub outcome: Outcome,
}

/// What a command did to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The key now has the value. Its `mod_revision` is the reply's revision.
    Set(KeyState),
    /// So many keys were deleted; 0 if there was nothing to delete.
    Deleted {
        /// The number of keys that are gone.
        keys: u64,
    },
    /// The condition did not hold, and nothing was changed.
    ConditionFailed {
        /// The key as it is, or `None` if there is no such key.
        found: Option<KeyState>,
    },
    /// The command was not carried out, for a reason that is not the caller's condition.
    Refused(Refusal),
}

/// Why the state machine did not carry out a command that was in the log.
///
/// A refusal is a result like any other: every replica reaches the same one. It always means that
/// *this entry* changed nothing. Of an earlier attempt under the same sequence it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The session is unknown and old enough to have been evicted, so the store cannot tell
    /// whether this sequence was applied before. A new session is needed.
    #[error(
        "the session has expired: sessions that started at or below {evicted_start_max} are gone"
    )]
    SessionExpired {
        /// The highest start of any session that was evicted.
        evicted_start_max: u64,
    },
    /// The session claims to have started at or after the entry that carries it.
    #[error("the session claims to start at {start}, which is not below the log index {index}")]
    SessionStart {
        /// The start that the session claims.
        start: u64,
        /// The index of the entry.
        index: u64,
    },
    /// The same sequence was used before with another request.
    #[error("sequence {sequence} was used before, for another request")]
    SequenceReused {
        /// The sequence that was used twice.
        sequence: u64,
    },
    /// The client has said before that it has the answer to this sequence.
    #[error("sequence {sequence} is below {lowest_unanswered}, the lowest still unanswered")]
    BelowMark {
        /// The sequence of the command.
        sequence: u64,
        /// The lowest sequence whose reply is kept.
        lowest_unanswered: u64,
    },
    /// The session has more requests open than the store keeps replies for.
    #[error(
        "sequence {sequence} is too far above {lowest_unanswered}, the lowest still unanswered: \
         a session may have {session_window_max} open"
    )]
    WindowFull {
        /// The sequence of the command.
        sequence: u64,
        /// The lowest sequence whose reply is kept.
        lowest_unanswered: u64,
        /// How many replies a session keeps at most.
        session_window_max: u64,
    },
    /// The write would grow a store that is already full. Deletes still work.
    #[error(
        "the store is full: {live_bytes} bytes of keys and values, limit {live_bytes_max}; \
         delete something first"
    )]
    Full {
        /// Bytes of keys and values in the store.
        live_bytes: u64,
        /// How many there may be.
        live_bytes_max: u64,
    },
}

impl Refusal {
    /// Whether the refusal speaks about the session and not about the operation. Such a refusal
    /// is never kept as the reply to its sequence.
    pub fn is_about_session(&self) -> bool {
        !matches!(self, Refusal::Full { .. })
    }
}

impl Reply {
    /// Feeds every field, so that replicas can compare the replies that they keep.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.word(self.revision.0);
        match self.outcome {
            Outcome::Set(state) => {
                digest.word(0);
                state.digest(digest);
            }
            Outcome::Deleted { keys } => {
                digest.word(1);
                digest.word(keys);
            }
            Outcome::ConditionFailed { found: None } => digest.word(2),
            Outcome::ConditionFailed { found: Some(state) } => {
                digest.word(3);
                state.digest(digest);
            }
            Outcome::Refused(refusal) => {
                digest.word(4);
                digest.bytes(refusal.to_string().as_bytes());
            }
        }
    }
}

impl KeyState {
    /// Feeds the three numbers.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.word(self.create_revision.0);
        digest.word(self.mod_revision.0);
        digest.word(self.version);
    }
}
