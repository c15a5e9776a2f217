//! The store as records: what a snapshot says. The same state gives the same records, whichever
//! server wrote them, and the last one has a digest of all that the others said.
//!
//! ```text
//! a record is a kind byte and a body in postcard:
//!   0 head      version, limits, applied, revision, highest start of a forgotten session
//!   1 key       key, value, create revision, mod revision, version        by ascending key
//!   2 session   id, mark, last used, kept replies                         by ascending id
//!   3 end       number of keys, number of sessions, digest of the whole store
//! ```

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::keyspace::EntryRef;
use super::reply::{KeyState, Reply, Revision};
use super::session::{SessionLimits, SessionRecord};
use super::{Store, StoreLimits};
use crate::codec::{self, DecodeError};
use crate::store::command::SessionId;

/// The version of the records that this build writes, and the only one that it reads.
const VERSION: u16 = 1;

/// No record is longer: the largest value there may be, or a session with all its replies.
pub const RECORD_BYTES_MAX: u32 = 16 << 20;

const HEAD: u8 = 0;
const KEY: u8 = 1;
const SESSION: u8 = 2;
const END: u8 = 3;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u16,
    live_bytes_max: u64,
    session_window_max: u64,
    sessions_max: u64,
    session_bytes_max: u64,
    applied: u64,
    revision: Revision,
    evicted_start_max: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Key<'a> {
    #[serde(borrow, with = "codec::raw")]
    key: &'a [u8],
    #[serde(borrow, with = "codec::raw")]
    value: &'a [u8],
    state: KeyState,
}

#[derive(Serialize, Deserialize)]
struct Session {
    id: SessionId,
    mark: u64,
    last_used: u64,
    /// Sequence, digest of the request, reply.
    replies: Vec<(u64, u64, Reply)>,
}

#[derive(Serialize, Deserialize)]
struct End {
    keys: u64,
    sessions: u64,
    digest: u64,
}

/// Why records are no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] DecodeError),
    /// A newer build wrote it.
    #[error("version {0} of the store's snapshots is unknown; a newer program wrote it")]
    Version(u16),
    /// The records are not those of one store, in their order.
    #[error("the records do not make a store: {0}")]
    Contradiction(&'static str),
}

impl Store {
    /// Hands over every record, in order, each in one piece.
    pub fn records<E>(&self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut record = BytesMut::new();
        let mut give = |kind: u8, fill: &dyn Fn(&mut BytesMut)| {
            record.clear();
            record.extend_from_slice(&[kind]);
            fill(&mut record);
            sink(&record)
        };
        let StoreLimits { live_bytes_max, sessions } = self.limits;
        let SessionLimits { session_window_max, sessions_max, session_bytes_max } = sessions;
        let head = Head {
            version: VERSION,
            live_bytes_max,
            session_window_max,
            sessions_max,
            session_bytes_max,
            applied: self.applied,
            revision: self.revision,
            evicted_start_max: self.sessions.evicted_start_max(),
        };
        give(HEAD, &|out| codec::append(out, &head))?;
        for EntryRef { key, value, state } in self.keyspace.iter() {
            give(KEY, &|out| codec::append(out, &Key { key, value, state }))?;
        }
        for SessionRecord { id, mark, last_used, replies } in self.sessions.records() {
            let session = Session { id, mark, last_used, replies };
            give(SESSION, &|out| codec::append(out, &session))?;
        }
        let (keys, sessions) = (self.keyspace.len(), self.sessions.len());
        let end = End { keys, sessions, digest: self.hash() };
        give(END, &|out| codec::append(out, &end))
    }
}

/// What a snapshot of a store has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The last entry that the store has applied.
    pub applied: u64,
    /// The revision of the store.
    pub revision: Revision,
    /// How many keys it has.
    pub keys: u64,
    /// How many sessions it remembers.
    pub sessions: u64,
}

/// A record that stands where it may.
enum Record<'a> {
    Head(Store),
    Key(Key<'a>),
    Session(Session),
    End(End),
}

/// Goes through records and counts them: their order and their numbers must be right. It keeps
/// nothing of what they say.
#[derive(Debug, Default)]
pub struct Counting {
    contents: Option<Contents>,
    last_key: Vec<u8>,
    is_complete: bool,
}

impl Counting {
    /// Takes the next record.
    pub fn take(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        self.read(record).map(|_| ())
    }

    fn read<'r>(&mut self, record: &'r [u8]) -> Result<Record<'r>, RestoreError> {
        let contradiction = |what| Err(RestoreError::Contradiction(what));
        let Some((&kind, body)) = record.split_first() else {
            return contradiction("a record without a kind");
        };
        if self.is_complete {
            return contradiction("something behind the end");
        }
        match (kind, &mut self.contents) {
            (HEAD, contents @ None) => {
                let store = from_head(body)?;
                let (applied, revision) = (store.applied, store.revision);
                *contents = Some(Contents { applied, revision, keys: 0, sessions: 0 });
                Ok(Record::Head(store))
            }
            (KEY, Some(contents)) => {
                let key: Key<'_> = codec::exact("a key", body)?;
                if key.state.mod_revision > contents.revision || contents.sessions > 0 {
                    return contradiction("a key out of order, or of a later revision");
                }
                if contents.keys > 0 && key.key <= &self.last_key[..] {
                    return contradiction("keys do not ascend");
                }
                contents.keys += 1;
                self.last_key.clear();
                self.last_key.extend_from_slice(key.key);
                Ok(Record::Key(key))
            }
            (SESSION, Some(contents)) => {
                let session: Session = codec::exact("a session", body)?;
                if session.last_used > contents.applied {
                    return contradiction("a session was used in the future");
                }
                contents.sessions += 1;
                Ok(Record::Session(session))
            }
            (END, Some(contents)) => {
                let end: End = codec::exact("the end", body)?;
                if (end.keys, end.sessions) != (contents.keys, contents.sessions) {
                    return contradiction("keys or sessions are missing");
                }
                self.is_complete = true;
                Ok(Record::End(end))
            }
            _ => contradiction("a record of another kind was expected"),
        }
    }

    /// What there is, once the last record was taken.
    pub fn finish(self) -> Result<Contents, RestoreError> {
        let contents = self.contents.filter(|_| self.is_complete);
        contents.ok_or(RestoreError::Contradiction("the end is missing"))
    }
}

/// A store in the making, out of records.
#[derive(Debug, Default)]
pub struct Restoring {
    counting: Counting,
    /// None before the first record, and after one that was refused.
    store: Option<Store>,
}

impl Restoring {
    /// Takes the next record. After one that was refused there is no store to be had.
    pub fn take(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let contradiction = |what| Err(RestoreError::Contradiction(what));
        let store = self.store.take();
        let store = match (self.counting.read(record)?, store) {
            (Record::Head(store), None) => store,
            (Record::Key(Key { key, value, state }), Some(mut store)) => {
                if !store.keyspace.restore(key, value, state) {
                    return contradiction("keys do not ascend");
                }
                store
            }
            (Record::Session(session), Some(mut store)) => {
                let Session { id, mark, last_used, replies } = session;
                if !store.sessions.restore(SessionRecord { id, mark, last_used, replies }) {
                    return contradiction("a session stands twice");
                }
                store
            }
            (Record::End(end), Some(store)) if end.digest == store.hash() => store,
            (Record::End(_), Some(_)) => return contradiction("the digest is another one"),
            _ => return contradiction("a record before it was refused"),
        };
        self.store = Some(store);
        Ok(())
    }

    /// The store, once its last record was taken.
    pub fn finish(self) -> Result<Store, RestoreError> {
        self.counting.finish()?;
        self.store.ok_or(RestoreError::Contradiction("a record was refused"))
    }
}

fn from_head(body: &[u8]) -> Result<Store, RestoreError> {
    let (version, _) = codec::take::<u16>("the head", body)?;
    if version != VERSION {
        return Err(RestoreError::Version(version));
    }
    let head: Head = codec::exact("the head", body)?;
    let limits = StoreLimits {
        live_bytes_max: head.live_bytes_max,
        sessions: SessionLimits {
            session_window_max: head.session_window_max,
            sessions_max: head.sessions_max,
            session_bytes_max: head.session_bytes_max,
        },
    };
    let mut store = Store::new(limits);
    store.applied = head.applied;
    store.revision = head.revision;
    store.sessions.restore_evicted(head.evicted_start_max);
    Ok(store)
}
