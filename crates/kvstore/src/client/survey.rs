//! Asking servers about themselves: for a status, and for errors that tell how each server was
//! found.

use super::Inner;
use super::connection::{ConnectError, Lost, Sent};
use super::directory::{Patience, Reached, ServerIndex, Wanted};
use super::error::{ServerCondition, ServerReport};
use super::options::Endpoint;
use crate::wire::Response;
use crate::wire::request::{self, Request};
use crate::wire::response::{MemberKind, StatusReport};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A server that does not tell how it is within this time is taken for absent.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How all servers were found, and how many must work together.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) servers: Vec<ServerReport>,
    pub(super) needed: u32,
}

/// Asks all servers from a place in the directory on how they are, at the same time. They come in
/// the order in which they are known.
pub(super) async fn status_from(
    inner: &Arc<Inner>,
    first: ServerIndex,
    patience: Duration,
) -> Vec<(Endpoint, Result<StatusReport, ServerCondition>)> {
    let end = inner.directory.endpoints().len();
    let mut asking = JoinSet::new();
    for index in first..end {
        let inner = Arc::clone(inner);
        asking.spawn(async move { (index, status(&inner, index, patience).await) });
    }
    let mut found = Vec::new();
    while let Some(answer) = asking.join_next().await {
        found.extend(answer);
    }
    found.sort_by_key(|(index, _)| *index);
    let found = found.into_iter().map(|(_, status)| status);
    // The endpoints are read again, because a server that answers tells its id.
    inner.directory.endpoints().into_iter().skip(first).zip(found).collect()
}

/// Asks all servers, for an error to tell.
pub(super) async fn survey(inner: &Arc<Inner>, patience: Duration) -> Survey {
    let found = status_from(inner, 0, patience).await;
    let voters = found.iter().filter_map(|(_, status)| status.as_ref().ok()).map(|report| {
        report.members.iter().filter(|member| member.kind == MemberKind::Voter).count()
    });
    let voters = voters.max().filter(|voters| *voters > 0).unwrap_or(found.len());
    let needed = u32::try_from(voters / 2 + 1).unwrap_or(u32::MAX);
    let servers = found.into_iter().map(|(endpoint, status)| {
        let condition = match status {
            Ok(report) => ServerCondition::Ok { role: report.role, term: report.term },
            Err(condition) => condition,
        };
        ServerReport { endpoint, condition }
    });
    Survey { servers: servers.collect(), needed }
}

/// Asks one server how it is.
pub(super) async fn status(
    inner: &Arc<Inner>,
    index: ServerIndex,
    patience: Duration,
) -> Result<StatusReport, ServerCondition> {
    match ask(inner, index, Request::Status(request::Status { timeout_ms: 0 }), patience).await? {
        Response::Status(report) => Ok(*report),
        other => Err(unexpected(other)),
    }
}

/// Asks one server something that is not about the cluster's data, and no other.
pub(super) async fn ask(
    inner: &Arc<Inner>,
    index: ServerIndex,
    request: Request,
    patience: Duration,
) -> Result<Response, ServerCondition> {
    let mut sent = Sent::No;
    let asking = ask_until_answered(inner, index, request, patience, &mut sent);
    let answer = timeout(patience, asking).await;
    answer.unwrap_or_else(|_| {
        Err(match sent {
            Sent::No => ServerCondition::TimedOut(patience),
            Sent::Maybe => ServerCondition::silent_for(patience),
        })
    })
}

async fn ask_until_answered(
    inner: &Arc<Inner>,
    index: ServerIndex,
    mut request: Request,
    patience: Duration,
    sent: &mut Sent,
) -> Result<Response, ServerCondition> {
    request.set_timeout_ms(u32::try_from(patience.as_millis()).unwrap_or(u32::MAX));
    let mut lost = ServerCondition::Failed("cannot be reached".to_owned());
    // A connection may have ended unnoticed since it was used the last time, so one is not enough.
    for _ in 0..2 {
        let reach = inner.directory.reach(Wanted::Only(index), None, Patience::OneAttempt).await;
        let Ok(Reached { connection, .. }) = reach else {
            return Err(match inner.directory.last_failure(index) {
                Some(ConnectError::TimedOut(after)) => ServerCondition::TimedOut(after),
                Some(error @ ConnectError::Refused(_)) => {
                    ServerCondition::Refused(error.to_string())
                }
                Some(error) => ServerCondition::Failed(error.to_string()),
                None => lost,
            });
        };
        let pending = match connection.send(|out, id| request.encode(out, id)) {
            Ok(pending) => pending,
            Err(error) => {
                lost = ServerCondition::Failed(error.to_string());
                continue;
            }
        };
        *sent = Sent::Maybe;
        let frame = match pending.await {
            Ok(frame) => frame,
            Err(Lost { sent: how, why }) => {
                *sent = how;
                lost = match how {
                    Sent::No => ServerCondition::Failed(why.to_string()),
                    Sent::Maybe => ServerCondition::Unanswered(why.to_string()),
                };
                continue;
            }
        };
        return match Response::decode(&frame) {
            Ok(Response::Error(error)) => Err(ServerCondition::Refused(error.text)),
            Ok(response) => Ok(response),
            Err(error) => Err(ServerCondition::Unanswered(format!("sent garbage: {error}"))),
        };
    }
    Err(lost)
}

/// A server answered another question than the one that was asked.
pub(super) fn unexpected(response: Response) -> ServerCondition {
    ServerCondition::Unanswered(format!("gave an answer of kind {:#04x}", response.kind().0))
}
