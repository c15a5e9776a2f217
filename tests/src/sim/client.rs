//! Clients that do what the client library does: one request at a time, under a session, repeated
//! at another server while its outcome is not known, and given up after a while. What they were
//! told is the history that is judged in the end.

use bytes::Bytes;
use kvstore::store::command::Command;
use kvstore::store::{Condition, Operation, Outcome, Refusal, Reply, SessionId, SessionTag};
use wal::sim_disk::Random;

use super::agenda::{MILLISECOND, Moment, SECOND};
use super::dice::Chance;
use super::history::{Ask, Told};

/// An attempt is given up after so long.
const ATTEMPT_MICROS: u64 = 700 * MILLISECOND;

/// A request is given up after so long.
const REQUEST_MICROS: u64 = 5 * SECOND;

/// Between a refusal and the next attempt.
const BACK_OFF_MICROS: u64 = 30 * MILLISECOND;

/// What a server answers to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The command was applied, now or before.
    Applied(Reply),
    /// What a key has, by the name of its value.
    Read(Option<u64>),
    /// Nothing happened; somebody else may lead.
    NothingHappened { leader: Option<usize> },
    /// It may have happened.
    Unknown,
}

/// One client.
pub(super) struct Client {
    session: Option<SessionId>,
    sequence: u64,
    request: Option<Request>,
    attempts: u64,
    /// Who led when a server was last asked.
    leader: usize,
    /// So many of a thousand reads are asked of any server.
    reads_anywhere_permille: u64,
    /// It begins nothing more.
    pub(super) is_done: bool,
}

/// What a client is waiting for.
struct Request {
    /// Its place in the history.
    place: usize,
    key: u64,
    ask: Ask,
    /// What is sent, of a write.
    command: Option<Bytes>,
    /// The attempt that it waits for; 0 while there is none.
    attempt: u64,
    /// Some attempt may have happened.
    may_have_happened: bool,
    give_up: Moment,
}

/// What a client does next.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// Sends this to a server, and asks to be called if no answer came by then.
    Send {
        place: usize,
        to: usize,
        attempt: u64,
        what: Sent,
        patience: Moment,
    },
    /// Wants to be called at this moment.
    Later(Moment),
    /// The request ended so.
    Ended {
        place: usize,
        told: Option<Told>,
        again: Moment,
    },
    Nothing,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    Write(Bytes),
    Read(u64),
}

/// What a client sees of the servers when it connects.
pub(super) struct Door {
    pub(super) server: usize,
    /// An index that is committed, as the server says when it is connected to.
    pub(super) commit: u64,
}

impl Client {
    pub(super) fn new(reads_anywhere_permille: u64) -> Client {
        Client {
            session: None,
            sequence: 0,
            request: None,
            attempts: 0,
            leader: 0,
            reads_anywhere_permille,
            is_done: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.request.is_none()
    }

    /// It waits for nothing, and begins nothing more.
    pub(super) fn has_gone(&self) -> bool {
        self.is_done && self.is_idle()
    }

    /// Begins a request, which has this place in the history.
    pub(super) fn begin(&mut self, place: usize, key: u64, ask: Ask, now: Moment) {
        assert!(self.request.is_none(), "a client asks for one thing at a time");
        self.sequence += 1;
        self.request = Some(Request {
            place,
            key,
            ask,
            command: None,
            attempt: 0,
            may_have_happened: false,
            give_up: now + REQUEST_MICROS,
        });
    }

    /// The place in the history of what it waits for.
    pub(super) fn place(&self, attempt: u64) -> Option<usize> {
        let request = self.request.as_ref().filter(|it| it.attempt == attempt)?;
        Some(request.place)
    }

    /// Tries, at the server that is believed to lead or at any other that is open.
    pub(super) fn attempt(&mut self, doors: &[Door], now: Moment, dice: &mut Random) -> Next {
        let waits = |request: &&mut Request| request.attempt == 0;
        let Some(request) = self.request.as_mut().filter(waits) else { return Next::Nothing };
        if now >= request.give_up {
            return self.give_up(now);
        }
        if doors.is_empty() {
            return Next::Later(now + BACK_OFF_MICROS);
        }
        let likely = doors.iter().find(|door| door.server == self.leader);
        let any = &doors[dice.place(doors.len())];
        let anywhere = match request.ask {
            Ask::Get => self.reads_anywhere_permille.max(100),
            _ => 100,
        };
        let door = likely.filter(|_| !dice.permille(anywhere)).unwrap_or(any);
        let start = door.commit;
        let session = *self.session.get_or_insert_with(|| SessionId { start, nonce: dice.draw() });
        self.attempts += 1;
        request.attempt = self.attempts;
        let what = match request.ask {
            Ask::Get => Sent::Read(request.key),
            ask => {
                let sequence = self.sequence;
                let tag = SessionTag { session, sequence, lowest_unanswered: sequence };
                let encode = || command(request.key, ask, tag);
                Sent::Write(request.command.get_or_insert_with(encode).clone())
            }
        };
        let patience = (now + ATTEMPT_MICROS).min(request.give_up);
        let (place, to) = (request.place, door.server);
        Next::Send { place, to, attempt: self.attempts, what, patience }
    }

    fn is_current(&self, attempt: u64) -> bool {
        self.request.as_ref().is_some_and(|request| request.attempt == attempt)
    }

    /// No answer came in time.
    pub(super) fn on_silence(&mut self, attempt: u64, now: Moment, dice: &mut Random) -> Next {
        if !self.is_current(attempt) {
            return Next::Nothing;
        }
        self.leader = self.leader.wrapping_add(dice.place(3)) % 8;
        self.on_unknown(now)
    }

    fn on_unknown(&mut self, now: Moment) -> Next {
        if let Some(request) = &mut self.request {
            request.may_have_happened |= request.ask != Ask::Get;
            request.attempt = 0;
        }
        Next::Later(now)
    }

    /// An answer came.
    pub(super) fn on_answer(&mut self, attempt: u64, answer: &Answer, now: Moment) -> Next {
        if !self.is_current(attempt) {
            return Next::Nothing;
        }
        let told = match answer {
            Answer::Unknown => return self.on_unknown(now),
            Answer::NothingHappened { leader } => {
                let back_off = if leader.is_some() { 0 } else { BACK_OFF_MICROS };
                self.leader = leader.unwrap_or(self.leader + 1);
                if let Some(request) = &mut self.request {
                    request.attempt = 0;
                }
                return Next::Later(now + back_off);
            }
            Answer::Read(value) => Told::Value(*value),
            Answer::Applied(reply) => match reply.outcome {
                Outcome::Set(_) => Told::Done,
                Outcome::Deleted { keys } => Told::Deleted(keys > 0),
                Outcome::ConditionFailed { .. } => Told::Failed,
                Outcome::Refused(refusal) => return self.on_refusal(refusal, now),
            },
        };
        self.end(Some(told), now)
    }

    /// The store refused the command. Of other attempts under the same sequence that says nothing.
    fn on_refusal(&mut self, refusal: Refusal, now: Moment) -> Next {
        let expired = matches!(refusal, Refusal::SessionExpired { .. });
        self.session = None;
        match &mut self.request {
            Some(request) if expired && !request.may_have_happened => {
                (request.command, request.attempt) = (None, 0);
                Next::Later(now)
            }
            _ => self.give_up(now),
        }
    }

    /// What may have happened is unknown for good; what did not is no part of the history.
    fn give_up(&mut self, now: Moment) -> Next {
        let may_have_happened = self.request.as_ref().is_some_and(|it| it.may_have_happened);
        let told = (!may_have_happened).then_some(Told::NothingHappened);
        self.end(told, now)
    }

    fn end(&mut self, told: Option<Told>, now: Moment) -> Next {
        match self.request.take() {
            Some(request) => Next::Ended { place: request.place, told, again: now },
            None => Next::Nothing,
        }
    }
}

/// The bytes of a key.
pub(super) fn key_bytes(key: u64) -> Vec<u8> {
    format!("key {key}").into_bytes()
}

/// The bytes of a value, which name it.
pub(super) fn value_bytes(value: u64) -> Vec<u8> {
    format!("{value}").into_bytes()
}

/// Which value these bytes name.
pub(super) fn value_of(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok()).expect("only named values are written")
}

fn command(key: u64, ask: Ask, tag: SessionTag) -> Bytes {
    let key = key_bytes(key);
    let (old, new);
    let operation = match ask {
        Ask::Get => unreachable!("a read is no command"),
        Ask::Set(value) => {
            new = value_bytes(value);
            Operation::Set { key: &key, value: &new, condition: Condition::None }
        }
        Ask::SetIfAbsent(value) => {
            new = value_bytes(value);
            Operation::Set { key: &key, value: &new, condition: Condition::Absent }
        }
        Ask::SetIf(from, to) => {
            (old, new) = (value_bytes(from), value_bytes(to));
            Operation::Set { key: &key, value: &new, condition: Condition::Value(&old) }
        }
        Ask::Delete => Operation::Delete { key: &key, condition: Condition::None },
    };
    Command { session: Some(tag), operation }.to_bytes()
}
