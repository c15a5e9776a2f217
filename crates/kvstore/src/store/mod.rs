//! The deterministic state machine: a function of its commands and their log indexes.
//!
//! Every server applies the same commands at the same indexes and must reach the same state, bit
//! for bit. So nothing here reads a clock, a random number or the order of a hash map, and every
//! limit that is enforced here is part of the state.
//!
//! Reading order: [`command`] is what comes in, [`Reply`] what comes out, `keyspace` holds the
//! keys, `session` makes retries safe, `snapshot` writes all of it down, and this file ties them
//! together.

pub mod command;
mod digest;
mod keyspace;
mod range;
mod reply;
mod session;
mod snapshot;
#[cfg(test)]
mod tests;

pub use command::{Condition, Operation, SessionId, SessionTag, Undecodable};
pub use keyspace::EntryRef;
pub use range::KeyRange;
pub use reply::{KeyState, Outcome, Refusal, Reply, Revision};
pub use session::SessionLimits;
pub use snapshot::{Contents, Counting, RECORD_BYTES_MAX, RestoreError, Restoring};

use bytes::Bytes;
use command::Decoded;
use digest::Digest;
use keyspace::Keyspace;
use session::{Admission, Sessions};

/// The limits that the state machine itself enforces.
///
/// They are part of the replicated state: two servers with different ones would disagree about
/// what a command did. They are therefore not settings of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Keys and values together; growing writes beyond it are refused.
    pub live_bytes_max: u64,
    /// What the sessions may hold.
    pub sessions: SessionLimits,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits { live_bytes_max: 8 << 30, sessions: SessionLimits::default() }
    }
}

/// The state machine.
///
/// Invariants:
/// - `applied` only grows, and every command is applied at an index above it;
/// - `revision` grows by one with each command that changed a key, and by nothing else;
/// - no key has a `mod_revision` above `revision`.
///
/// A clone costs nothing, and later commands do not show in it.
#[derive(Clone, Debug)]
pub struct Store {
    limits: StoreLimits,
    applied: u64,
    revision: Revision,
    keyspace: Keyspace,
    sessions: Sessions,
}

/// The keys of a store as they were at one moment. Later writes do not show in it.
#[derive(Clone, Debug)]
pub struct View {
    applied: u64,
    revision: Revision,
    keyspace: Keyspace,
}

/// What a store holds, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSize {
    /// How many keys there are.
    pub keys: u64,
    /// The bytes of all keys and values.
    pub live_bytes: u64,
    /// How many sessions are remembered.
    pub sessions: u64,
    /// What the sessions are taken to cost.
    pub session_bytes: u64,
}

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Store {
        Store {
            limits,
            applied: 0,
            revision: Revision(0),
            keyspace: Keyspace::default(),
            sessions: Sessions::new(limits.sessions),
        }
    }

    /// Applies the command at `index` of the log. It is carried out, found to have been carried
    /// out before, or refused; all three are replies.
    ///
    /// Bytes that are not a command change nothing. They mean that this build cannot follow the
    /// log any further, and the server must stop.
    pub fn apply(&mut self, index: u64, command: &Bytes) -> Result<Reply, Undecodable> {
        let Decoded { command, operation_bytes } = command::decode(command)?;
        self.advance(index);

        let Some(tag) = command.session else {
            return Ok(self.execute(command.operation));
        };
        let digest = Digest::of(operation_bytes);
        match self.sessions.admit(index, &tag, digest) {
            Admission::Fresh => {
                let reply = self.execute(command.operation);
                self.sessions.keep(&tag, digest, reply);
                Ok(reply)
            }
            Admission::Repeated(reply) => Ok(reply),
            Admission::Refused(refusal) => Ok(self.reply(Outcome::Refused(refusal))),
        }
    }

    /// Notes that the log has gone on to `index`, where there is nothing for the store.
    pub fn advance(&mut self, index: u64) {
        assert!(
            index > self.applied,
            "entries must be applied once and in order: {index} comes after {}",
            self.applied
        );
        self.applied = index;
    }

    /// The index of the last entry that was applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The revision of the latest change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The key with its value and numbers.
    pub fn get(&self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.keyspace.get(key)
    }

    /// The keys as they are now, for as long as the view is held. Takes constant time.
    pub fn view(&self) -> View {
        let keyspace = self.keyspace.clone();
        View { applied: self.applied, revision: self.revision, keyspace }
    }

    /// How much the store holds.
    pub fn size(&self) -> StoreSize {
        StoreSize {
            keys: self.keyspace.len(),
            live_bytes: self.keyspace.live_bytes(),
            sessions: self.sessions.len(),
            session_bytes: self.sessions.bytes(),
        }
    }

    /// A digest of everything that is replicated. Two servers that have applied the log up to the
    /// same index have the same one. Reads the whole store.
    pub fn hash(&self) -> u64 {
        let mut digest = Digest::new();
        digest.word(self.limits.live_bytes_max);
        digest.word(self.applied);
        digest.word(self.revision.0);
        self.keyspace.digest(&mut digest);
        self.sessions.digest(&mut digest);
        digest.finish()
    }

    /// Carries out one operation.
    fn execute(&mut self, operation: Operation<'_>) -> Reply {
        let next = Revision(self.revision.0 + 1);
        let outcome = match operation {
            Operation::Set { key, value, condition } => match self.check(key, condition) {
                Err(failed) => failed,
                Ok(()) => match self.check_room(key, value) {
                    Err(full) => full,
                    Ok(()) => {
                        self.revision = next;
                        Outcome::Set(self.keyspace.set(key, value, next))
                    }
                },
            },
            Operation::Delete { key, condition } => match self.check(key, condition) {
                Err(failed) => failed,
                Ok(()) => self.deleted(|keyspace| u64::from(keyspace.remove(key))),
            },
            Operation::DeletePrefix { prefix } => {
                let range = KeyRange::prefix(Bytes::copy_from_slice(prefix));
                self.deleted(|keyspace| keyspace.remove_range(&range))
            }
        };
        self.reply(outcome)
    }

    /// Deletes, and counts a revision if that removed anything.
    fn deleted(&mut self, remove: impl FnOnce(&mut Keyspace) -> u64) -> Outcome {
        let keys = remove(&mut self.keyspace);
        if keys > 0 {
            self.revision = Revision(self.revision.0 + 1);
        }
        Outcome::Deleted { keys }
    }

    /// Whether the condition holds of the key.
    fn check(&self, key: &[u8], condition: Condition<'_>) -> Result<(), Outcome> {
        let found = match condition {
            Condition::None => return Ok(()),
            Condition::Absent | Condition::ModRevision(_) | Condition::Value(_) => self.get(key),
        };
        let holds = match (condition, found) {
            (Condition::None, _) | (Condition::Absent, None) => true,
            (Condition::ModRevision(revision), Some(found)) => {
                found.state.mod_revision == Revision(revision)
            }
            (Condition::Value(value), Some(found)) => found.value == value,
            (Condition::Absent, Some(_))
            | (Condition::ModRevision(_) | Condition::Value(_), None) => false,
        };
        let found = found.map(|found| found.state);
        if holds { Ok(()) } else { Err(Outcome::ConditionFailed { found }) }
    }

    /// Whether there is room for a set. One that does not grow the store always has room.
    fn check_room(&self, key: &[u8], value: &[u8]) -> Result<(), Outcome> {
        let live_bytes = self.keyspace.live_bytes();
        let live_bytes_max = self.limits.live_bytes_max;
        if live_bytes + (key.len() + value.len()) as u64 <= live_bytes_max {
            // There is room even if the key is new, so it need not be looked up.
            return Ok(());
        }
        let growth = self.keyspace.growth(key, value);
        match growth > 0 && live_bytes.saturating_add_signed(growth) > live_bytes_max {
            true => Err(Outcome::Refused(Refusal::Full { live_bytes, live_bytes_max })),
            false => Ok(()),
        }
    }

    fn reply(&self, outcome: Outcome) -> Reply {
        Reply { revision: self.revision, outcome }
    }
}

impl View {
    /// The index of the last entry that shows in the view.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The revision of the latest change that shows in the view.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The key with its value and numbers.
    pub fn get(&self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.keyspace.get(key)
    }

    /// The keys of a range: ascending from the front of the iterator, descending from its back.
    pub fn range(
        &self,
        range: &KeyRange,
    ) -> impl DoubleEndedIterator<Item = EntryRef<'_>> + use<'_> {
        self.keyspace.range(range)
    }

    /// How many keys lie in a range. Takes time in proportion to their number.
    pub fn count(&self, range: &KeyRange) -> u64 {
        self.range(range).count() as u64
    }

    /// How many keys there are altogether.
    pub fn len(&self) -> u64 {
        self.keyspace.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
