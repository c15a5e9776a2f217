//! The client library.
//!
//! A [`Client`] is cheap to clone and meant to be shared. All clones use one connection per server
//! and send their requests down it without waiting for each other. The client finds the leader,
//! follows it when it changes, and tries again until the deadline of a call; what it never does is
//! to guess about the outcome. A call ends as *done*, as *refused: nothing happened*, or as
//! *unknown*, see [`ClientError::is_definite`].
//!
//! Writes belong to a session, which the client opens by itself with the first write. Because of
//! it, a write that is sent again after a lost connection, through whichever server, is applied
//! once. A write that ends as unknown carries its [`RequestId`]; repeating it under that name, also
//! from another process, is safe as well.
//!
//! ```no_run
//! use kvstore::client::{Client, ClientOptions};
//!
//! # async fn example() -> Result<(), kvstore::client::ClientError> {
//! let client = Client::new(ClientOptions::default())?;
//! let written = client.set("ana", "4").await?;
//! let read = client.get("ana").await?;
//! assert!(read.revision >= written.revision);
//! assert_eq!(read.found.map(|found| found.value), Some("4".into()));
//! # Ok(())
//! # }
//! ```
//!
//! Read on in this order: `connection` and `driver` move bytes, `directory` knows the servers,
//! `session` numbers the writes, `call` makes attempts, `outcome` decides what they amount to.
//! `status` tells how the cluster is, and `admin` changes it.

mod admin;
mod call;
mod connection;
mod directory;
mod driver;
mod error;
mod options;
mod outcome;
mod save;
mod scan;
mod session;
mod status;
mod survey;
#[cfg(test)]
mod tests;

pub use error::{ClientError, ServerCondition, ServerReport};
pub use options::{ClientOptions, Endpoint, Redirect, WriteOptions};
pub use save::SnapshotStream;
pub use scan::{Rest, Scan, ScanResult, ScanStream};
pub use session::{RequestId, RequestIdError};
pub use status::{ClusterStatus, ServerStatus};

use crate::store::{Condition, Operation, Reply};
use crate::wire::request::{Get, Log, Request};
use crate::wire::response::{LogEntries, StatusReport, Value};
use crate::wire::{Consistency, Response, Route};
use bytes::Bytes;
use call::{Ask, Call};
use directory::Directory;
use session::Sessions;
use std::sync::Arc;

/// A client of one cluster. Clones share everything, their session included.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

/// What the clones of a client share.
#[derive(Debug)]
struct Inner {
    options: ClientOptions,
    directory: Arc<Directory>,
    sessions: Arc<Sessions>,
}

impl Client {
    /// A client with these options. Nothing is connected before the first call, which must run
    /// inside a tokio runtime.
    pub fn new(options: ClientOptions) -> Result<Client, ClientError> {
        let mut endpoints = options.endpoints.clone();
        if options.redirect == Redirect::Never {
            endpoints.truncate(1);
        }
        if endpoints.is_empty() {
            return Err(ClientError::Invalid("a client needs at least one endpoint".to_owned()));
        }
        if options.timeout.is_zero() {
            return Err(ClientError::Invalid("a timeout must be longer than nothing".to_owned()));
        }
        let directory = Arc::new(Directory::new(endpoints, options.cluster.clone()));
        let sessions = Arc::new(Sessions::new());
        Ok(Client { inner: Arc::new(Inner { options, directory, sessions }) })
    }

    /// Reads a key: everything that was acknowledged to anybody before is visible.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Value, ClientError> {
        self.read(key.as_ref(), Consistency::Linearizable).await
    }

    /// Reads a key as some server has it, which may be out of date. Needs no leader.
    pub async fn get_stale(&self, key: impl AsRef<[u8]>) -> Result<Value, ClientError> {
        self.read(key.as_ref(), Consistency::Stale).await
    }

    async fn read(&self, key: &[u8], consistency: Consistency) -> Result<Value, ClientError> {
        let route = self.inner.route();
        let key = Bytes::copy_from_slice(key);
        let get = Request::Get(Get { timeout_ms: 0, consistency, route, key });
        match Call::new(&self.inner, Ask::Read(get), self.inner.options.timeout).run().await? {
            Response::Value(value) => Ok(detach(value)),
            other => Err(ClientError::Invalid(survey::unexpected(other).to_string())),
        }
    }

    /// Gives a key a value.
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Reply, ClientError> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let operation = Operation::Set { key, value, condition: Condition::None };
        self.write(operation, WriteOptions::default()).await
    }

    /// Removes a key. That there was none is no error; the reply tells.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Reply, ClientError> {
        let operation = Operation::Delete { key: key.as_ref(), condition: Condition::None };
        self.write(operation, WriteOptions::default()).await
    }

    /// Removes all keys that begin with a prefix.
    pub async fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Reply, ClientError> {
        let operation = Operation::DeletePrefix { prefix: prefix.as_ref() };
        self.write(operation, WriteOptions::default()).await
    }

    /// Carries out one operation. The reply's outcome is never a refusal, those are errors; a
    /// condition that did not hold is an outcome.
    pub async fn write(
        &self,
        operation: Operation<'_>,
        options: WriteOptions,
    ) -> Result<Reply, ClientError> {
        let timeout = options.timeout.unwrap_or(self.inner.options.timeout);
        let call = Call::new(&self.inner, Ask::Write(operation, options.request), timeout);
        match call.run().await? {
            Response::Written(reply) => Ok(reply),
            other => Err(ClientError::Invalid(survey::unexpected(other).to_string())),
        }
    }

    /// The writes of this client's session that ended as unknown, or whose future was dropped
    /// before it ended, oldest first. Each can be repeated under its name. A session has room for
    /// a few thousand; the oldest are forgotten when that is needed for new ones.
    pub fn unknown_writes(&self) -> Vec<RequestId> {
        self.inner.sessions.unknown()
    }

    /// The servers that are known: those that were given, then those that others spoke of.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.inner.directory.endpoints()
    }

    /// Asks one server about itself, with or without a leader.
    pub async fn status(&self, endpoint: &Endpoint) -> Result<StatusReport, ServerCondition> {
        let index = self.inner.find(endpoint)?;
        let patience = survey::PATIENCE.min(self.inner.options.timeout);
        survey::status(&self.inner, index, patience).await
    }

    /// Reads at most `limit` entries of one server's log from the index `from` on, in words.
    pub async fn log(
        &self,
        endpoint: &Endpoint,
        from: u64,
        limit: u32,
    ) -> Result<LogEntries, ServerCondition> {
        let index = self.inner.find(endpoint)?;
        let request = Request::Log(Log { timeout_ms: 0, from, limit });
        match survey::ask(&self.inner, index, request, self.inner.options.timeout).await? {
            Response::LogEntries(entries) => Ok(entries),
            other => Err(survey::unexpected(other)),
        }
    }
}

impl Inner {
    /// Which servers may answer.
    fn route(&self) -> Route {
        match self.options.redirect {
            Redirect::Follow => Route::Any,
            Redirect::Never => Route::LeaderOnly,
        }
    }

    fn find(&self, endpoint: &Endpoint) -> Result<directory::ServerIndex, ServerCondition> {
        let found = self.directory.find_or_add(endpoint);
        found.ok_or_else(|| ServerCondition::Failed("too many servers are known".to_owned()))
    }
}

/// A value of its own: a slice would keep all that was read with it for as long as it lives.
fn detach(mut value: Value) -> Value {
    if let Some(found) = &mut value.found {
        found.value = Bytes::copy_from_slice(&found.value);
    }
    value
}
