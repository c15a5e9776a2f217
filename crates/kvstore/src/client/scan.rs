//! Scans. The answer to a scan may be larger than memory, so it comes on a connection of its own,
//! which stands still when its reader does, and holds up nobody else.

use super::call::{Ask, Call};
use super::connection::{self, ANSWER_BYTES_MAX, ConnectError, Link};
use super::directory::Reached;
use super::error::ClientError;
use super::outcome::Next;
use super::{Client, Inner};
use crate::store::Revision;
use crate::wire::request::{self, Consistency, Content, Order, Request, Selection};
use crate::wire::response::{ChunkEnd, Entry, ScanChunk};
use crate::wire::{Response, frame};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Which keys to read, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Which keys.
    pub selection: Selection,
    /// How much of each key.
    pub content: Content,
    /// Which way to go.
    pub order: Order,
    /// At most so many keys; `None` for all of them.
    pub limit: Option<u64>,
    /// Go on behind this key: the last one of an earlier scan.
    pub after: Option<Bytes>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

/// The answer to a scan, as it arrives. All of it is of one revision.
#[derive(Debug)]
pub struct ScanStream {
    link: ScanLink,
    entries: VecDeque<Entry>,
    revision: Revision,
    count: Option<u64>,
    end: ChunkEnd,
    timeout: Duration,
}

/// The whole answer to a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanResult {
    /// The revision of the store that was read.
    pub revision: Revision,
    /// The keys, in the order of the scan; none if they were only to be counted.
    pub entries: Vec<Entry>,
    /// How many keys there are, or were returned.
    pub count: u64,
    /// Whether there are more keys than the limit allowed.
    pub rest: Rest,
}

/// Whether there are more keys behind the last one of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// No.
    None,
    /// Yes; a scan that goes on after the last key returns them.
    Some,
}

/// The connection that delivers a scan, or a snapshot.
#[derive(Debug)]
pub(super) struct ScanLink {
    link: Link,
}

/// How the delivery of a scan, or of a snapshot, was interrupted.
pub(super) enum Interrupted {
    Lost(String),
    TimedOut,
}

impl Scan {
    /// All keys that begin with `prefix`, with their values, upwards.
    pub fn prefix(prefix: impl Into<Bytes>) -> Scan {
        Scan::of(Selection::Prefix(prefix.into()))
    }

    /// The keys from `from` on, up to but without `to`, with their values, upwards.
    pub fn range(from: impl Into<Bytes>, to: Option<Bytes>) -> Scan {
        Scan::of(Selection::Range { from: from.into(), to })
    }

    /// The selected keys, with their values, upwards.
    pub fn of(selection: Selection) -> Scan {
        Scan {
            selection,
            content: Content::KeysAndValues,
            order: Order::Ascending,
            limit: None,
            after: None,
            consistency: Consistency::Linearizable,
        }
    }
}

impl Client {
    /// Reads many keys as of one revision. The stream holds a connection until it is dropped.
    pub async fn scan(&self, scan: Scan) -> Result<ScanStream, ClientError> {
        let Inner { options, .. } = &*self.inner;
        let timeout = options.timeout;
        let request = Request::Scan(request::Scan {
            timeout_ms: 0,
            consistency: scan.consistency,
            route: self.inner.route(),
            order: scan.order,
            content: scan.content,
            limit: scan.limit,
            selection: scan.selection,
            after: scan.after,
        });
        let call = Call::new(&self.inner, Ask::Read(request), timeout);
        let response = call.run().await?;
        match (response, call.take_scan_link()) {
            (Response::ScanChunk(first), Some(link)) => {
                let ScanChunk { end, revision, count, entries } = first;
                Ok(ScanStream { link, entries: entries.into(), revision, count, end, timeout })
            }
            (other, _) => Err(ClientError::Invalid(super::survey::unexpected(other).to_string())),
        }
    }
}

impl ScanStream {
    /// The revision of the store that is read.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next key; `None` behind the last one. After an error there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Entry>, ClientError> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Ok(Some(entry));
            }
            if self.end != ChunkEnd::Continues {
                return Ok(None);
            }
            let chunk = self.next_chunk().await;
            let chunk = chunk.inspect_err(|_| self.end = ChunkEnd::Complete)?;
            self.end = chunk.end;
            self.entries = chunk.entries.into();
        }
    }

    /// Reads to the end and keeps everything.
    pub async fn collect(mut self) -> Result<ScanResult, ClientError> {
        let mut entries = Vec::new();
        while let Some(entry) = self.next().await? {
            entries.push(entry);
        }
        let count = self.count.unwrap_or(entries.len() as u64);
        let rest = if self.end == ChunkEnd::LimitReached { Rest::Some } else { Rest::None };
        Ok(ScanResult { revision: self.revision, entries, count, rest })
    }

    async fn next_chunk(&mut self) -> Result<ScanChunk, ClientError> {
        let server = self.link.link.welcome.node.clone();
        let failed = |why| ClientError::ReadTimeout { server, timeout: self.timeout, why };
        match self.link.response(self.timeout).await {
            Ok(Response::ScanChunk(chunk)) if chunk.revision == self.revision => Ok(chunk),
            Ok(Response::Error(error)) => Err(failed(error.text)),
            Ok(_) => Err(failed("the server gave an answer that is no part of the scan".into())),
            Err(Interrupted::Lost(why)) => Err(failed(why)),
            Err(Interrupted::TimedOut) => Err(failed("the rest of the scan did not come".into())),
        }
    }
}

impl Call<'_> {
    /// Opens a connection for the scan or the snapshot, asks, and waits for the first part of the
    /// answer.
    pub(super) async fn attempt_scan(
        &self,
        reached: &Reached,
        mut request: Request,
    ) -> Result<Response, Next> {
        let Some((endpoint, expected)) = self.inner.directory.target(reached.index) else {
            return Err(Next::AskAnother);
        };
        let patience = super::directory::CONNECT_PATIENCE;
        let link = connection::connect(&endpoint.address, &expected, patience).await;
        let mut link = ScanLink {
            link: link.map_err(|error: ConnectError| {
                self.attempts().why = error.to_string();
                self.lost()
            })?,
        };
        request.set_timeout_ms(self.patience_ms(reached));
        let mut out = BytesMut::new();
        request.encode(&mut out, 1).map_err(|error| Next::too_long(&error))?;

        self.attempts().in_flight = Some(reached.server());
        let sent = link.link.stream.write_all(&out).await;
        let answer = match sent {
            Ok(()) => link.response(self.remaining()).await,
            Err(error) => Err(Interrupted::Lost(format!("cannot send: {error}"))),
        };
        match answer {
            Ok(response) => {
                let mut attempts = self.attempts();
                attempts.in_flight = None;
                attempts.scan_link = Some(link);
                Ok(response)
            }
            Err(Interrupted::Lost(why)) => {
                self.attempts().in_flight = None;
                Err(self.unanswered(reached, why))
            }
            // The caller's deadline ends the call; the request stays in flight until then.
            Err(Interrupted::TimedOut) => std::future::pending().await,
        }
    }
}

impl ScanLink {
    /// The server that delivers.
    pub(super) fn server(&self) -> String {
        self.link.welcome.node.clone()
    }

    /// The next answer, if it comes within `patience`.
    pub(super) async fn response(&mut self, patience: Duration) -> Result<Response, Interrupted> {
        let Link { stream, input, .. } = &mut self.link;
        let read = async {
            loop {
                let decoded = frame::decode(input, ANSWER_BYTES_MAX);
                let garbage = |error: &dyn std::error::Error| {
                    Interrupted::Lost(format!("the server sent garbage: {error}"))
                };
                if let Some(frame) = decoded.map_err(|error| garbage(&error))? {
                    return Response::decode(&frame).map_err(|error| garbage(&error));
                }
                let lost = "connection lost before the answer";
                match stream.read_buf(input).await {
                    Ok(0) => return Err(Interrupted::Lost(lost.into())),
                    Ok(_) => {}
                    Err(error) => return Err(Interrupted::Lost(format!("{lost}: {error}"))),
                }
            }
        };
        timeout(patience, read).await.unwrap_or(Err(Interrupted::TimedOut))
    }
}
