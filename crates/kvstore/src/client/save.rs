//! A snapshot of the whole state, as a client gets it. It may be larger than memory, so it comes on
//! a connection of its own, as a scan does, a part at a time.

use super::call::{Ask, Call};
use super::error::ClientError;
use super::scan::{Interrupted, ScanLink};
use super::{Client, survey};
use crate::wire::Response;
use crate::wire::request::{Consistency, Request};
use crate::wire::save::{Save, SavedPart};
use bytes::Bytes;
use raft::node::{Configuration, Index, Position, SnapshotPoint, Term};
use std::time::Duration;

/// The state of a cluster at one moment, as it arrives. It holds a connection until it is dropped.
#[derive(Debug)]
pub struct SnapshotStream {
    link: ScanLink,
    server: String,
    point: SnapshotPoint,
    state_bytes: u64,
    /// The hash of all of the state, once it came.
    hash: Option<[u8; 16]>,
    timeout: Duration,
}

impl Client {
    /// Reads the whole state.
    ///
    /// # Errors
    /// No server could answer.
    pub async fn snapshot(&self, consistency: Consistency) -> Result<SnapshotStream, ClientError> {
        let timeout = self.inner.options.timeout;
        let route = self.inner.route();
        let request = Request::Save(Save { timeout_ms: 0, consistency, route });
        let call = Call::new(&self.inner, Ask::Read(request), timeout);
        let response = call.run().await?;
        match (response, call.take_scan_link()) {
            (Response::SavedPart(SavedPart::Begin { index, term, configuration }), Some(link)) => {
                let configuration = Configuration::decode(&configuration)
                    .map_err(|error| ClientError::Invalid(error.to_string()))?;
                let position = Position { index: Index(index), term: Term(term) };
                let point = SnapshotPoint { position, configuration };
                let server = link.server();
                let (state_bytes, hash) = (0, None);
                Ok(SnapshotStream { link, server, point, state_bytes, hash, timeout })
            }
            (other, _) => Err(ClientError::Invalid(survey::unexpected(other).to_string())),
        }
    }
}

impl SnapshotStream {
    /// What the state stands for.
    #[must_use]
    pub fn point(&self) -> &SnapshotPoint {
        &self.point
    }

    /// The server that sends it.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The hash of the state, as its server computed it; `None` before all of it has come.
    #[must_use]
    pub fn hash(&self) -> Option<[u8; 16]> {
        self.hash
    }

    /// The next bytes of the state; `None` behind the last ones.
    ///
    /// # Errors
    /// The rest will not come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        if self.hash.is_some() {
            return Ok(None);
        }
        match self.link.response(self.timeout).await {
            Ok(Response::SavedPart(SavedPart::State(state))) => {
                self.state_bytes += state.len() as u64;
                Ok(Some(state))
            }
            Ok(Response::SavedPart(SavedPart::End { state_bytes, hash }))
                if state_bytes == self.state_bytes =>
            {
                self.hash = Some(hash);
                Ok(None)
            }
            Ok(Response::Error(error)) => Err(self.failed(error.text)),
            Ok(_) => Err(self.failed("the server gave an answer that does not follow".into())),
            Err(Interrupted::Lost(why)) => Err(self.failed(why)),
            Err(Interrupted::TimedOut) => {
                Err(self.failed("the rest of the snapshot did not come".into()))
            }
        }
    }

    fn failed(&self, why: String) -> ClientError {
        ClientError::ReadTimeout { server: self.server.clone(), timeout: self.timeout, why }
    }
}
