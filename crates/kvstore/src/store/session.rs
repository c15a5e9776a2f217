//! Sessions: why a write that is sent twice is applied once. The table of sessions is replicated
//! state like the keys, so that a retry finds its answer on whichever server leads by then.
//!
//! A client makes up its session: the commit index that some server told it (`start`), and a
//! random number. Nothing is registered; the first command of a session creates it. Room is made
//! by forgetting the session whose last command is the oldest in the log. What makes forgetting
//! safe is `evicted_start_max`: a command of an unknown session is taken for the first of a new
//! one only if the session started above every session ever forgotten. Otherwise it might be a
//! retry whose answer is lost, and it is refused.
//!
//! A start that is not below the entry's own index is refused too. Without that rule a session
//! could claim any start, and one eviction would shut out every other new session.

use super::command::{SessionId, SessionTag};
use super::digest::Digest;
use super::reply::{Outcome, Refusal, Reply};
use imbl::OrdMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a session is taken to cost, beside its replies.
const SESSION_BYTES: u64 = 128;
/// What a kept reply is taken to cost. Part of the definition of the state: it decides when
/// sessions are forgotten.
const REPLY_BYTES: u64 = 96;

/// How much the sessions of a store may hold. Part of the replicated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How many requests a session may have open, and so how many replies it keeps.
    pub session_window_max: u64,
    /// How many sessions are remembered.
    pub sessions_max: u64,
    /// How many bytes all sessions may take together. The one that is being served may exceed it.
    pub session_bytes_max: u64,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            session_window_max: 4096,
            sessions_max: 16 * 1024,
            session_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// A reply that is kept for retries.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Of the operation that it answers, to notice another one under the same sequence.
    digest: u64,
    reply: Reply,
}

/// One session.
///
/// Invariant: every sequence in `replies` lies in `mark .. mark + session_window_max`.
#[derive(Clone, Debug)]
struct Session {
    /// The client has the answers to all sequences below.
    mark: u64,
    /// The index of the session's latest command.
    last_used: u64,
    /// Replies by sequence.
    replies: BTreeMap<u64, Kept>,
}

/// All sessions of a store.
///
/// Invariants: `by_use` holds each session once, under its `last_used`; `bytes` is what all
/// sessions and replies are taken to cost; no session in the table starts at or below
/// `evicted_start_max` unless it was there before that value was reached.
///
/// The maps are persistent: a clone costs nothing and stays as it was, so that a snapshot can be
/// written while commands go on.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    limits: SessionLimits,
    by_id: OrdMap<SessionId, Arc<Session>>,
    by_use: OrdMap<u64, SessionId>,
    bytes: u64,
    evicted_start_max: Option<u64>,
}

/// All that is to be known of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRecord {
    pub(super) id: SessionId,
    pub(super) mark: u64,
    pub(super) last_used: u64,
    /// Sequence, digest of the request, reply; by ascending sequence.
    pub(super) replies: Vec<(u64, u64, Reply)>,
}

/// Whether a command is to be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes; its reply is to be handed to [`Sessions::keep`].
    Fresh,
    /// It was carried out before, with this reply.
    Repeated(Reply),
    /// No.
    Refused(Refusal),
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Sessions {
        Sessions {
            limits,
            by_id: OrdMap::new(),
            by_use: OrdMap::new(),
            bytes: 0,
            evicted_start_max: None,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.by_id.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Decides about the command at `index`, whose operation has the digest `digest`.
    pub(super) fn admit(&mut self, index: u64, tag: &SessionTag, digest: u64) -> Admission {
        let SessionTag { session: id, sequence, lowest_unanswered } = *tag;
        if id.start >= index {
            return Admission::Refused(Refusal::SessionStart { start: id.start, index });
        }
        let Some(session) = self.by_id.get_mut(&id) else {
            return self.admit_unknown(index, tag);
        };
        let session = Arc::make_mut(session);

        self.by_use.remove(&session.last_used);
        self.by_use.insert(index, id);
        session.last_used = index;
        self.bytes -= session.raise_mark(lowest_unanswered) * REPLY_BYTES;

        if let Some(kept) = session.replies.get(&sequence) {
            return match kept.digest == digest {
                true => Admission::Repeated(kept.reply),
                false => Admission::Refused(Refusal::SequenceReused { sequence }),
            };
        }
        match self.limits.place(sequence, session.mark) {
            Ok(()) => Admission::Fresh,
            Err(refusal) => Admission::Refused(refusal),
        }
    }

    /// A session that is not in the table is new, or was forgotten.
    fn admit_unknown(&mut self, index: u64, tag: &SessionTag) -> Admission {
        let SessionTag { session: id, sequence, lowest_unanswered: mark } = *tag;
        if let Some(evicted_start_max) = self.evicted_start_max
            && id.start <= evicted_start_max
        {
            return Admission::Refused(Refusal::SessionExpired { evicted_start_max });
        }
        if let Err(refusal) = self.limits.place(sequence, mark) {
            return Admission::Refused(refusal);
        }
        let session = Session { mark, last_used: index, replies: BTreeMap::new() };
        self.by_id.insert(id, Arc::new(session));
        self.by_use.insert(index, id);
        self.bytes += SESSION_BYTES;
        Admission::Fresh
    }

    /// Keeps the reply to a command that was admitted as fresh, then makes room.
    pub(super) fn keep(&mut self, tag: &SessionTag, digest: u64, reply: Reply) {
        let about_session =
            matches!(reply.outcome, Outcome::Refused(refusal) if refusal.is_about_session());
        assert!(!about_session, "a refusal that is about the session must not be kept: {reply:?}");
        let session = self.by_id.get_mut(&tag.session);
        assert!(session.is_some(), "a command that was admitted must have a session");
        if let Some(session) = session {
            let replies = &mut Arc::make_mut(session).replies;
            let before = replies.insert(tag.sequence, Kept { digest, reply });
            assert!(before.is_none(), "sequence {} must not be answered twice", tag.sequence);
            self.bytes += REPLY_BYTES;
        }
        self.make_room();
    }

    /// Forgets the sessions that were used least recently, by the order of the log, until the rest
    /// is within the limits. The one that was used last always stays.
    fn make_room(&mut self) {
        while self.by_id.len() > 1
            && (self.len() > self.limits.sessions_max || self.bytes > self.limits.session_bytes_max)
        {
            let Some((oldest, id)) = self.by_use.get_min().copied() else { break };
            self.by_use.remove(&oldest);
            let Some(session) = self.by_id.remove(&id) else { break };
            self.bytes -= SESSION_BYTES + session.replies.len() as u64 * REPLY_BYTES;
            self.evicted_start_max = self.evicted_start_max.max(Some(id.start));
        }
        assert_eq!(self.by_id.len(), self.by_use.len(), "each session must be in both orders");
    }

    pub(super) fn evicted_start_max(&self) -> Option<u64> {
        self.evicted_start_max
    }

    /// All sessions, in the order of their ids.
    pub(super) fn records(&self) -> impl Iterator<Item = SessionRecord> + '_ {
        self.by_id.iter().map(|(id, session)| {
            let reply = |(sequence, kept): (&u64, &Kept)| (*sequence, kept.digest, kept.reply);
            let replies = session.replies.iter().map(reply).collect();
            SessionRecord { id: *id, mark: session.mark, last_used: session.last_used, replies }
        })
    }

    /// Sets what is known of forgotten sessions.
    pub(super) fn restore_evicted(&mut self, evicted_start_max: Option<u64>) {
        self.evicted_start_max = evicted_start_max;
    }

    /// Adds a session as it was. False if it is there already, or its numbers make no sense.
    pub(super) fn restore(&mut self, record: SessionRecord) -> bool {
        let SessionRecord { id, mark, last_used, replies } = record;
        let kept = |(sequence, digest, reply)| (sequence, Kept { digest, reply });
        let given = replies.len();
        let replies: BTreeMap<u64, Kept> = replies.into_iter().map(kept).collect();
        let is_sound = replies.len() == given
            && replies.keys().all(|sequence| self.limits.place(*sequence, mark).is_ok());
        if !is_sound || self.by_id.contains_key(&id) || self.by_use.contains_key(&last_used) {
            return false;
        }
        self.bytes += SESSION_BYTES + given as u64 * REPLY_BYTES;
        self.by_use.insert(last_used, id);
        self.by_id.insert(id, Arc::new(Session { mark, last_used, replies }));
        true
    }

    /// Feeds all sessions, in the order of their ids, with all that decides about later commands.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.word(self.limits.session_window_max);
        digest.word(self.limits.sessions_max);
        digest.word(self.limits.session_bytes_max);
        digest.word(u64::from(self.evicted_start_max.is_some()));
        digest.word(self.evicted_start_max.unwrap_or(0));
        digest.word(self.len());
        for (id, session) in &self.by_id {
            digest.word(id.start);
            digest.word(id.nonce);
            digest.word(session.mark);
            digest.word(session.last_used);
            digest.word(session.replies.len() as u64);
            for (sequence, kept) in &session.replies {
                digest.word(*sequence);
                digest.word(kept.digest);
                kept.reply.digest(digest);
            }
        }
    }
}

impl SessionLimits {
    /// Whether a session with this mark can take this sequence.
    fn place(&self, sequence: u64, mark: u64) -> Result<(), Refusal> {
        let session_window_max = self.session_window_max;
        match sequence.checked_sub(mark) {
            None => Err(Refusal::BelowMark { sequence, lowest_unanswered: mark }),
            Some(distance) if distance >= session_window_max => {
                Err(Refusal::WindowFull { sequence, lowest_unanswered: mark, session_window_max })
            }
            Some(_) => Ok(()),
        }
    }
}

impl Session {
    /// Drops the replies that the client has, and says how many. A mark never falls: an older one
    /// only means that its command was overtaken.
    fn raise_mark(&mut self, mark: u64) -> u64 {
        self.mark = self.mark.max(mark);
        let mut dropped = 0;
        while let Some(first) = self.replies.first_entry()
            && *first.key() < self.mark
        {
            first.remove();
            dropped += 1;
        }
        dropped
    }
}
