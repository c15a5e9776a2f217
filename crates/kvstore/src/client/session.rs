//! The client's side of exactly-once: which requests of its session are open, and how one is named
//! so that somebody else can repeat it.

use crate::store::command::{SessionId, SessionTag};
use crate::store::{Refusal, SessionLimits};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The name of one write. Whoever repeats the write under this name cannot apply it twice.
///
/// It prints as `session:sequence` in hexadecimal and decimal, and parses back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The session that it was first sent in.
    pub session: SessionId,
    /// Its number in that session.
    pub sequence: u64,
}

/// A text that names no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" names no request; a name is what an unknown outcome shows, such as 5f2c...:17")]
pub struct RequestIdError(String);

/// Hexadecimal digits of the random part of a session, which has a fixed width; the start follows.
const NONCE_DIGITS: usize = 16;

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequestId { session: SessionId { start, nonce }, sequence } = self;
        write!(formatter, "{nonce:016x}{start:x}:{sequence}")
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<RequestId, RequestIdError> {
        let parse = || {
            let (session, sequence) = text.split_once(':')?;
            let (nonce, start) = session.split_at_checked(NONCE_DIGITS)?;
            // The standard parsers accept a leading sign, which is never printed.
            let plain = |digits: &str| digits.bytes().all(|it| it.is_ascii_hexdigit());
            if ![nonce, start, sequence].into_iter().all(plain) {
                return None;
            }
            let nonce = u64::from_str_radix(nonce, 16).ok()?;
            let start = u64::from_str_radix(start, 16).ok()?;
            let sequence = sequence.parse().ok()?;
            Some(RequestId { session: SessionId { start, nonce }, sequence })
        };
        parse().ok_or_else(|| RequestIdError(text.to_owned()))
    }
}

/// The session of a client, shared by its clones.
#[derive(Debug)]
pub(super) struct Sessions {
    state: Mutex<State>,
    /// Callers that wait for the window to move.
    pub(super) room: Notify,
    window_max: u64,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Session>,
    /// The highest index that is known to be committed, where a new session starts.
    committed: u64,
}

/// Invariant: `open` holds no sequence at or above `next`, and spans less than the window.
#[derive(Debug)]
struct Session {
    id: SessionId,
    next: u64,
    open: BTreeMap<u64, Open>,
}

/// Why a sequence is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// Somebody waits for it.
    InFlight,
    /// It ended without an answer, or whoever waited for it gave up. It may be repeated by name.
    Unknown,
}

impl Sessions {
    pub(super) fn new() -> Sessions {
        let window_max = SessionLimits::default().session_window_max;
        Sessions { state: Mutex::default(), room: Notify::new(), window_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the next request of the session, and the session if there is none; `committed` is
    /// what the server says that will be asked. `None` if as many requests are open as a session
    /// may have; `room` tells when to try again.
    pub(super) fn begin(
        self: &Arc<Sessions>,
        committed: u64,
    ) -> Result<Option<OpenRequest>, getrandom::Error> {
        let mut state = self.state();
        state.committed = state.committed.max(committed);
        let start = state.committed;
        let session = match &mut state.current {
            Some(session) => session,
            none => {
                let id = SessionId { start, nonce: getrandom::u64()? };
                none.insert(Session { id, next: 1, open: BTreeMap::new() })
            }
        };
        let sequence = session.next;
        // What ended as unknown is kept for as long as it does not stand in the way.
        while let Some(lowest) = session.open.first_entry()
            && sequence - lowest.key() >= self.window_max
        {
            if *lowest.get() == Open::InFlight {
                return Ok(None);
            }
            lowest.remove();
        }
        session.next += 1;
        session.open.insert(sequence, Open::InFlight);
        let lowest_unanswered = session.open.keys().next().copied().unwrap_or(sequence);
        let tag = SessionTag { session: session.id, sequence, lowest_unanswered };
        Ok(Some(OpenRequest { sessions: Arc::clone(self), tag, end: End::Unknown }))
    }

    /// Gives up the session `id`, because of what a server said about it. Later requests open
    /// another one, with a start that the server can accept.
    pub(super) fn abandon(&self, id: SessionId, refusal: &Refusal) {
        let mut state = self.state();
        match *refusal {
            // Every session ever forgotten started at or below this, and all of them started
            // below entries that are in the log by now.
            Refusal::SessionExpired { evicted_start_max } => {
                state.committed = state.committed.max(evicted_start_max + 1);
            }
            Refusal::SessionStart { index, .. } => state.committed = index.saturating_sub(1),
            _ => {}
        }
        if state.current.as_ref().is_some_and(|session| session.id == id) {
            state.current = None;
        }
    }

    /// The requests of the session that ended as unknown, oldest first.
    pub(super) fn unknown(&self) -> Vec<RequestId> {
        let state = self.state();
        let Some(session) = &state.current else { return Vec::new() };
        let is_unknown = |(_, open): &(&u64, &Open)| **open == Open::Unknown;
        let unknown = session.open.iter().filter(is_unknown);
        unknown.map(|(&sequence, _)| RequestId { session: session.id, sequence }).collect()
    }

    fn end(&self, tag: &SessionTag, end: End) {
        let mut state = self.state();
        let Some(session) = &mut state.current else { return };
        if session.id != tag.session {
            return;
        }
        match end {
            End::Answered => session.open.remove(&tag.sequence),
            End::Unknown => session.open.insert(tag.sequence, Open::Unknown),
        };
        drop(state);
        self.room.notify_waiters();
    }

    /// Notes that a request that had ended as unknown was answered after all.
    pub(super) fn resolved(&self, request: &RequestId) {
        let RequestId { session, sequence } = *request;
        self.end(&SessionTag { session, sequence, lowest_unanswered: 0 }, End::Answered);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answered,
    Unknown,
}

/// A request that holds its place in the session until it is dropped. One that is dropped without
/// a word is one whose caller gave up: its outcome is unknown.
#[derive(Debug)]
pub(super) struct OpenRequest {
    sessions: Arc<Sessions>,
    tag: SessionTag,
    end: End,
}

impl OpenRequest {
    pub(super) fn tag(&self) -> SessionTag {
        self.tag
    }

    /// Ends the request: its outcome is known, so nobody will ask for it again.
    pub(super) fn settle(mut self) {
        self.end = End::Answered;
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.sessions.end(&self.tag, self.end);
    }
}
