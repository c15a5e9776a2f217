//! The client against servers that play a part. Each test is one story; the servers say and do
//! exactly what the story needs, over real sockets.

mod fake;
mod finding;
mod outcomes;
mod scans;
mod sessions;
mod sharing;

use super::*;
use crate::store::{KeyState, Outcome, Refusal, Revision, SessionTag, command::Command};
use crate::wire::request::Write;
use crate::wire::response::{ErrorReply, Found, LeaderHint, ServerRole, ServerState};
use crate::wire::{ErrorCode, RequestOutcome};
use fake::{Fake, Peer};
use std::time::Duration;

/// Long enough that only a broken test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// For stories that end with the deadline.
const SHORT: Duration = Duration::from_millis(300);

fn options(servers: &[&Fake], timeout: Duration) -> ClientOptions {
    let endpoints = servers.iter().map(|server| server.endpoint()).collect();
    ClientOptions { endpoints, timeout, ..ClientOptions::default() }
}

fn client(servers: &[&Fake], timeout: Duration) -> Client {
    Client::new(options(servers, timeout)).unwrap()
}

/// The reply to a set that was the first change of all.
fn done() -> Reply {
    let revision = Revision(1);
    let state = KeyState { create_revision: revision, mod_revision: revision, version: 1 };
    Reply { revision, outcome: Outcome::Set(state) }
}

fn refused(refusal: Refusal) -> Reply {
    Reply { revision: Revision(1), outcome: Outcome::Refused(refusal) }
}

fn value(text: &'static str) -> Value {
    let revision = Revision(1);
    let state = KeyState { create_revision: revision, mod_revision: revision, version: 1 };
    Value { revision, found: Some(Found { state, value: Bytes::from_static(text.as_bytes()) }) }
}

fn candidate() -> ServerState {
    ServerState { role: ServerRole::Candidate, term: 9 }
}

fn not_leader(leader: Option<&Fake>) -> Response {
    let hint = leader.map(|leader| LeaderHint {
        id: leader.id.to_owned(),
        address: leader.address.clone(),
        term: 6,
    });
    let server = ServerState { role: ServerRole::Follower, term: 6 };
    Response::Error(ErrorReply::not_leader(server, hint))
}

/// The session tag in a write.
fn tag(write: &Write) -> SessionTag {
    Command::decode(&write.command).unwrap().session.unwrap()
}
