//! Errors between server and client. The code is for programs, the text for people, and the
//! outcome is what a client may conclude about its own request.

use super::report::ServerRole;
use crate::codec::{self, DecodeError};
use crate::wire::frame::{Kind, Message};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A request could not be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct ErrorReply {
    /// What went wrong.
    pub code: ErrorCode,
    /// Whether the request can have had an effect.
    pub outcome: RequestOutcome,
    /// What the server is, where that explains the error.
    pub server: Option<ServerState>,
    /// The last leader that the server heard from.
    pub leader: Option<LeaderHint>,
    /// What went wrong, for a human, with the limit where one was hit.
    pub text: String,
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request wanted a leader, and this server does not lead.
    NotLeader,
    /// The server waited for a leader until shortly before the deadline, and there was none.
    NoLeader,
    /// The server has as much to do as it accepts. Trying again later may help.
    Overloaded,
    /// The request, a key or a value is over a limit.
    TooLarge,
    /// The request is malformed or asks for something that cannot be.
    Invalid,
    /// The time that the client gave was over before there was an answer.
    Timeout,
    /// The session of the request is gone; see the refusal of the same name.
    SessionExpired,
    /// The server is about to stop.
    ShuttingDown,
    /// The disk has no room for more writes.
    NoSpace,
    /// The server is up but not yet a working member of a cluster.
    NotReady,
    /// The server does not know this kind of request.
    UnknownKind,
    /// Something went wrong inside the server.
    Internal,
    /// Something else must end first: another change of the membership, or a leader's first
    /// commit. Trying again later helps.
    Busy,
    /// The server that is to become a member is not known to the leader: it must run, and wait to
    /// be taken in. Trying again helps once it does.
    NotAnnounced,
}

/// Whether a request that ended with an error can have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestOutcome {
    /// It was not proposed, or is known never to commit.
    NothingHappened,
    /// It was proposed, and may or may not be applied, now or later.
    Unknown,
}

/// What a server is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// Its role.
    pub role: ServerRole,
    /// Its term.
    pub term: u64,
}

/// Who leads, as far as the server knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderHint {
    /// The leader's id.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// The term in which it led.
    pub term: u64,
}

impl fmt::Display for LeaderHint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}, term {})", self.id, self.address, self.term)
    }
}

impl ErrorReply {
    /// An error that ended the request before it could have an effect.
    pub fn nothing_happened(code: ErrorCode, text: impl Into<String>) -> ErrorReply {
        let outcome = RequestOutcome::NothingHappened;
        ErrorReply { code, outcome, server: None, leader: None, text: text.into() }
    }

    /// An error that leaves open whether the request has or will have an effect.
    pub fn unknown(code: ErrorCode, text: impl Into<String>) -> ErrorReply {
        let outcome = RequestOutcome::Unknown;
        ErrorReply { code, outcome, server: None, leader: None, text: text.into() }
    }

    /// The refusal of a server that does not lead.
    pub fn not_leader(server: ServerState, leader: Option<LeaderHint>) -> ErrorReply {
        let text = match &leader {
            Some(leader) => {
                format!("Sorry, I am not the leader. Last leader I heard from is: {leader}")
            }
            None => "Sorry, I am not the leader. I have heard from none yet.".to_owned(),
        };
        let outcome = RequestOutcome::NothingHappened;
        ErrorReply { code: ErrorCode::NotLeader, outcome, server: Some(server), leader, text }
    }

    /// The refusal of a server that waited for a leader in vain.
    pub fn no_leader(server: ServerState, leader: Option<LeaderHint>) -> ErrorReply {
        let text = match &leader {
            Some(leader) => format!("no leader; the last one heard from is {leader}"),
            None => "no leader, and none was ever heard from".to_owned(),
        };
        let outcome = RequestOutcome::NothingHappened;
        ErrorReply { code: ErrorCode::NoLeader, outcome, server: Some(server), leader, text }
    }
}

impl Message for ErrorReply {
    const KIND: Kind = Kind::ERROR;

    fn encode_body(&self, out: &mut BytesMut) {
        codec::append(out, self);
    }

    fn decode_body(body: &Bytes) -> Result<ErrorReply, DecodeError> {
        codec::exact("Error", body)
    }
}
