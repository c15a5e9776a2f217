//! How a call can fail. The one question that matters to a caller, whether something can have
//! happened, is answered by every variant.

use super::options::Endpoint;
use super::session::RequestId;
use crate::store::Refusal;
use crate::wire::response::ServerRole;
use crate::wire::{ErrorCode, LeaderHint};
use std::fmt;
use std::time::Duration;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A server refused. Nothing happened.
    #[error("{text}")]
    Refused {
        /// The kind of reason.
        code: ErrorCode,
        /// The reason, for a human.
        text: String,
        /// The server that refused.
        server: String,
        /// The last leader that it heard from.
        leader: Option<LeaderHint>,
    },
    /// The state machine refused. Nothing happened.
    #[error("{0}")]
    StoreRefused(Refusal),
    /// Servers answered, but none of them led until the deadline. Nothing happened.
    #[error("{}", no_leader(.servers, *.needed))]
    NoLeader {
        /// What is known of every server.
        servers: Vec<ServerReport>,
        /// How many must work together for a leader.
        needed: u32,
    },
    /// No server could be reached. Nothing was sent.
    #[error("cannot reach any server{}", list(.servers))]
    Unreachable {
        /// What is known of every server.
        servers: Vec<ServerReport>,
    },
    /// Servers were reached, and would not talk to this client. Nothing was sent.
    #[error("no server that can be reached accepts this client{}", list(.servers))]
    Unwelcome {
        /// What is known of every server.
        servers: Vec<ServerReport>,
    },
    /// A write was sent, and may or may not have happened, or happen later. It can be repeated
    /// under its name, and is then applied once altogether.
    #[error(
        "outcome unknown: {}{why}; repeated as request {request} it cannot be applied twice",
        sent(.sent_to)
    )]
    Unknown {
        /// The name of the write.
        request: RequestId,
        /// The servers that may have seen it in this call; none if only an earlier one sent it.
        sent_to: Vec<String>,
        /// Why there is no answer.
        why: String,
    },
    /// A change of the cluster was sent, and may or may not have happened, or happen later. The
    /// members tell; asking again without looking is not safe.
    #[error("outcome unknown: {}{why}; look at the members before asking again", sent(.sent_to))]
    InDoubt {
        /// The servers that may have seen it.
        sent_to: Vec<String>,
        /// Why there is no answer.
        why: String,
    },
    /// A read was sent and not answered in time. Reads change nothing.
    #[error("no answer from {server} within {} ms: {why}", .timeout.as_millis())]
    ReadTimeout {
        /// The server that was asked last.
        server: String,
        /// How long the call could take.
        timeout: Duration,
        /// Why there is no answer, as far as is known.
        why: String,
    },
    /// The request cannot be sent: it does not fit into a frame. Nothing happened.
    #[error("the request is too large: {bytes} bytes, limit {bytes_max}")]
    TooLarge {
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// The client was set up or used in a way that makes no sense. Nothing happened.
    #[error("{0}")]
    Invalid(String),
}

impl ClientError {
    /// Whether it is certain that the call had no effect and will have none.
    pub fn is_definite(&self) -> bool {
        !matches!(self, ClientError::Unknown { .. } | ClientError::InDoubt { .. })
    }
}

/// What is known of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// Which one.
    pub endpoint: Endpoint,
    /// How it was found.
    pub condition: ServerCondition,
}

/// How a server was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCondition {
    /// It answered.
    Ok {
        /// What it is.
        role: ServerRole,
        /// Its term.
        term: u64,
    },
    /// It could not be reached. Nothing was sent.
    Failed(String),
    /// It did not accept a connection in time. Nothing was sent.
    TimedOut(Duration),
    /// It was reached, and refused to talk or to answer. Nothing happened.
    Refused(String),
    /// It was asked, and its answer never came or made no sense.
    Unanswered(String),
}

impl ServerCondition {
    /// It was asked and did not answer within this time.
    pub(super) fn silent_for(time: Duration) -> ServerCondition {
        ServerCondition::Unanswered(ServerCondition::TimedOut(time).to_string())
    }
}

impl fmt::Display for ServerCondition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerCondition::Ok { role, term } => write!(formatter, "ok, {role}, term {term}"),
            ServerCondition::Failed(why)
            | ServerCondition::Refused(why)
            | ServerCondition::Unanswered(why) => formatter.write_str(why),
            ServerCondition::TimedOut(after) if after.subsec_millis() == 0 => {
                write!(formatter, "timed out after {} s", after.as_secs())
            }
            ServerCondition::TimedOut(after) => {
                write!(formatter, "timed out after {} ms", after.as_millis())
            }
        }
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = &self.endpoint.id {
            write!(formatter, "{id} ")?;
        }
        write!(formatter, "{}  {}", self.endpoint.address, self.condition)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.id.as_ref().unwrap_or(&self.address))
    }
}

fn sent(to: &[String]) -> String {
    if to.is_empty() { String::new() } else { format!("sent to {}, ", to.join(", ")) }
}

fn no_leader(servers: &[ServerReport], needed: u32) -> String {
    let role = |server: &ServerReport| match &server.condition {
        ServerCondition::Ok { role, .. } => Some(*role),
        _ => None,
    };
    let roles: Vec<ServerRole> = servers.iter().filter_map(role).collect();
    let reachable = roles.len();
    // One that does not take part in the cluster is no help in electing a leader.
    let joining = match roles.iter().filter(|role| **role == ServerRole::Joining).count() {
        0 => String::new(),
        joining => format!(" ({joining} of them without a part in the cluster)"),
    };
    let of = servers.len();
    let list = list(servers);
    format!("no leader: {reachable} of {of} servers reachable{joining}, {needed} needed{list}")
}

fn list(servers: &[ServerReport]) -> String {
    servers.iter().map(|server| format!("\n  {server}")).collect()
}
