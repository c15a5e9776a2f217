//! How commands ask the cluster, and what an error of the client library becomes on the command
//! line: an exit code, the words, and what to do next.

use std::time::Instant;

use bytes::Bytes;
use kvstore::client::{
    ClientError, RequestId, Scan, ScanResult, ScanStream, ServerCondition, WriteOptions,
};
use kvstore::store::{KeyState, Operation, Outcome, Reply};
use kvstore::wire::Consistency;
use kvstore::wire::request::Content;
use kvstore::wire::response::{LogEntries, StatusReport, Value};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{visible, visible_short};
use crate::session::{ServerAddress, Session};

impl Session {
    /// Reads one key.
    pub(crate) async fn get(&self, key: &[u8], consistency: Consistency) -> Result<Value, Failure> {
        let start = Instant::now();
        let value = match consistency {
            Consistency::Linearizable => self.client().get(key).await,
            Consistency::Stale => self.client().get_stale(key).await,
        };
        let value = value.map_err(|error| {
            Failure::from(error).hint_at_stale(&format!("kvctl get {} --stale", visible(key)))
        })?;
        self.trace(value.revision, start);
        Ok(value)
    }

    /// Begins to read many keys.
    pub(crate) async fn stream(&self, scan: Scan) -> Result<ScanStream, Failure> {
        self.client()
            .scan(scan)
            .await
            .map_err(|error| Failure::from(error).hint_at_stale("kvctl get --prefix '' --stale"))
    }

    /// Reads many keys and keeps them all.
    pub(crate) async fn scan(&self, scan: Scan) -> Result<ScanResult, Failure> {
        let start = Instant::now();
        let found = self.stream(scan).await?.collect().await.map_err(Failure::from)?;
        self.trace(found.revision, start);
        Ok(found)
    }

    /// Up to `limit` keys with a prefix, as any server has them.
    pub(crate) async fn keys_beginning_with(
        &self,
        prefix: &str,
        limit: u64,
    ) -> Result<Vec<Bytes>, ClientError> {
        let scan = Scan {
            content: Content::KeysOnly,
            limit: Some(limit),
            consistency: Consistency::Stale,
            ..Scan::prefix(prefix.to_owned())
        };
        let found = self.client().scan(scan).await?.collect().await?;
        Ok(found.entries.into_iter().map(|entry| entry.key).collect())
    }

    /// Changes something. A condition that does not hold is a failure.
    pub(crate) async fn write(
        &self,
        operation: Operation<'_>,
        request: Option<RequestId>,
    ) -> Result<Reply, Failure> {
        let start = Instant::now();
        let options = WriteOptions { request, timeout: None };
        let reply = self.client().write(operation, options).await.map_err(|error| {
            let no_leader = matches!(error, ClientError::NoLeader { .. });
            let failure = Failure::from(error);
            if no_leader { failure.nothing_written(&operation) } else { failure }
        })?;
        self.trace(reply.revision, start);
        match reply.outcome {
            Outcome::ConditionFailed { found } => Err(condition_failed(&operation, found)),
            Outcome::Set(_) | Outcome::Deleted { .. } | Outcome::Refused(_) => Ok(reply),
        }
    }

    /// What one server says of itself, or why it cannot be asked.
    pub(crate) async fn status_of(&self, server: &ServerAddress) -> Result<StatusReport, String> {
        self.client().status(server).await.map_err(|condition| condition.to_string())
    }

    /// A part of one server's log.
    pub(crate) async fn log_of(
        &self,
        server: &ServerAddress,
        from: u64,
        limit: u32,
    ) -> Result<LogEntries, Failure> {
        self.client().log(server, from, limit).await.map_err(|condition| match condition {
            ServerCondition::Refused(why) => {
                Failure::new(Exit::Refused, format!("{server} refuses: {why}"))
            }
            ServerCondition::Unanswered(why) => {
                Failure::new(Exit::TimedOut, format!("no answer from {server}: {why}"))
            }
            condition => {
                Failure::new(Exit::Unreachable, format!("cannot reach {server}: {condition}"))
            }
        })
    }
}

impl Failure {
    /// A way to read all the same, if what is missing is a leader.
    fn hint_at_stale(self, command: &str) -> Failure {
        if self.exit() != Exit::NoLeader {
            return self;
        }
        self.detail(format!("reads that may be stale still work: {command}"))
    }

    /// The same for a write that no leader has seen.
    fn nothing_written(self, operation: &Operation<'_>) -> Failure {
        let key = match operation {
            Operation::Set { key, .. } | Operation::Delete { key, .. } => visible(key),
            Operation::DeletePrefix { prefix } => format!("--prefix {}", visible(prefix)),
        };
        self.detail(format!(
            "nothing was written.  reads that may be stale still work: kvctl get {key} --stale"
        ))
    }
}

fn condition_failed(operation: &Operation<'_>, found: Option<KeyState>) -> Failure {
    let key = match operation {
        Operation::Set { key, .. } | Operation::Delete { key, .. } => key,
        Operation::DeletePrefix { prefix } => prefix,
    };
    let key = visible_short(key);
    let now = match found {
        Some(state) => format!("{key} was last changed at revision {}", state.mod_revision),
        None => format!("there is no key `{key}`"),
    };
    Failure::new(Exit::ConditionFailed, format!("the condition does not hold: {now}"))
        .detail("nothing was written")
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let exit = match &error {
            ClientError::Refused { .. }
            | ClientError::StoreRefused(_)
            | ClientError::Unwelcome { .. }
            | ClientError::TooLarge { .. } => Exit::Refused,
            ClientError::NoLeader { .. } => Exit::NoLeader,
            ClientError::Unreachable { .. } => Exit::Unreachable,
            ClientError::ReadTimeout { .. } => Exit::TimedOut,
            ClientError::Invalid(_) => Exit::Usage,
            ClientError::InDoubt { .. } => Exit::Unknown,
            ClientError::Unknown { request, sent_to, why } => {
                return outcome_unknown(request, sent_to, why);
            }
        };
        Failure::from_text(exit, &error.to_string())
    }
}

/// The servers may have it or not. The line that repeats it safely is added by whoever knows the
/// line that asked for it.
fn outcome_unknown(request: &RequestId, sent_to: &[String], why: &str) -> Failure {
    let servers = if sent_to.is_empty() { "a server".to_owned() } else { sent_to.join(", ") };
    Failure::new(Exit::Unknown, format!("outcome unknown: sent to {servers}, {why}"))
        .request(request.to_string())
}

#[cfg(test)]
mod tests {
    use kvstore::client::{ClientError, RequestId};
    use kvstore::wire::ErrorCode;

    use super::Failure;
    use crate::exit::Exit;

    fn request() -> RequestId {
        "00000000000000ff2a:17".parse().unwrap()
    }

    #[test]
    fn every_error_of_the_client_has_its_exit_code() {
        let timeout = std::time::Duration::from_secs(1);
        let text = "Sorry, I am not the leader.".to_owned();
        let code = ErrorCode::NotLeader;
        let cases = [
            (
                ClientError::Refused { code, text, server: "s1".to_owned(), leader: None },
                Exit::Refused,
            ),
            (ClientError::TooLarge { bytes: 2, bytes_max: 1 }, Exit::Refused),
            (ClientError::NoLeader { servers: Vec::new(), needed: 2 }, Exit::NoLeader),
            (ClientError::Unreachable { servers: Vec::new() }, Exit::Unreachable),
            (ClientError::Unwelcome { servers: Vec::new() }, Exit::Refused),
            (
                ClientError::Unknown {
                    request: request(),
                    sent_to: Vec::new(),
                    why: String::new(),
                },
                Exit::Unknown,
            ),
            (
                ClientError::ReadTimeout { server: "s1".to_owned(), timeout, why: String::new() },
                Exit::TimedOut,
            ),
            (ClientError::Invalid(String::new()), Exit::Usage),
        ];
        for (error, exit) in cases {
            assert_eq!(Failure::from(error.clone()).exit(), exit, "{error:?}");
        }
    }

    #[test]
    fn an_unknown_outcome_names_the_servers_the_reason_and_the_request() {
        let failure = Failure::from(ClientError::Unknown {
            request: request(),
            sent_to: vec!["s1".to_owned(), "s2".to_owned()],
            why: "connection lost before the answer".to_owned(),
        });
        let expected = "outcome unknown: sent to s1, s2, connection lost before the answer";
        assert_eq!(failure.to_string(), expected);
        assert_eq!(failure.json()["error"]["request"], "00000000000000ff2a:17");
    }
}
