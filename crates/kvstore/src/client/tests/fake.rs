//! A server that does what a test tells it, one frame at a time.

use super::PATIENCE;
use crate::client::Endpoint;
use crate::store::Revision;
use crate::wire::frame::{self, FRAME_BYTES_MAX, Frame, HANDSHAKE_FRAME_BYTES_MAX, Message};
use crate::wire::handshake::{Hello, Timing, Welcome};
use crate::wire::request::{Request, Write};
use crate::wire::response::{ServerRole, StatusReport};
use crate::wire::{LeaderHint, Response};
use bytes::BytesMut;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// A server of the cluster `demo` at a port of its own.
pub(super) struct Fake {
    pub(super) id: &'static str,
    pub(super) address: String,
    /// The commit index that it welcomes clients with.
    pub(super) commit: u64,
    listener: TcpListener,
}

/// A client's connection to a fake server, as the server has it.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    pub(super) input: BytesMut,
}

impl Fake {
    pub(super) async fn start(id: &'static str) -> Fake {
        Fake::at(id, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// A server whose system takes little off a client's hands before it reads it.
    pub(super) async fn start_with_a_small_window(id: &'static str) -> Fake {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Fake::at(id, socket.listen(16).unwrap())
    }

    fn at(id: &'static str, listener: TcpListener) -> Fake {
        let address = listener.local_addr().unwrap().to_string();
        Fake { id, address, commit: 40, listener }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint { id: Some(self.id.to_owned()), address: self.address.clone() }
    }

    /// Accepts a connection and nothing more.
    pub(super) async fn accept_silently(&self) -> Peer {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        let (stream, _) = accepted.expect("no client has come").unwrap();
        Peer { stream, input: BytesMut::new() }
    }

    /// Accepts a connection and welcomes the client.
    pub(super) async fn accept(&self) -> Peer {
        let mut peer = self.accept_silently().await;
        let hello = peer.frame(HANDSHAKE_FRAME_BYTES_MAX).await.unwrap();
        Hello::decode_body(&hello.body).unwrap();
        peer.send(&self.welcome(), 0).await;
        peer
    }

    pub(super) fn welcome(&self) -> Welcome {
        Welcome {
            version: crate::wire::PROTOCOL_VERSION_MAX,
            node: self.id.to_owned(),
            cluster: "demo".to_owned(),
            cluster_id: Some([7; 16]),
            incarnation: 1,
            age: crate::wire::handshake::Age { boot: 1, nonce: 1, term: 1 },
            commit: self.commit,
            timing: TIMING,
        }
    }

    /// What it says of itself when asked.
    pub(super) fn status(&self, role: ServerRole, term: u64) -> Response {
        Response::Status(Box::new(StatusReport {
            node: self.id.to_owned(),
            address: self.address.clone(),
            cluster: "demo".to_owned(),
            cluster_id: Some([7; 16]),
            incarnation: 1,
            boot: 1,
            uptime_ms: 1,
            role,
            term,
            leader: None,
            revision: Revision(0),
            keys: 0,
            live_bytes: 0,
            sessions: 0,
            commit: self.commit,
            applied: self.commit,
            durable: self.commit,
            last: self.commit,
            snapshot: 0,
            timing: TIMING,
            members: Vec::new(),
            joint: false,
            members_committed: true,
            receiving: None,
            warnings: Vec::new(),
        }))
    }

    pub(super) fn hint(&self, term: u64) -> LeaderHint {
        LeaderHint { id: self.id.to_owned(), address: self.address.clone(), term }
    }

    /// Whether no further client comes for a while.
    pub(super) async fn is_left_alone(&self) -> bool {
        let patience = Duration::from_millis(50);
        timeout(patience, self.listener.accept()).await.is_err()
    }
}

const TIMING: Timing = Timing { heartbeat_ms: 50, election_min_ms: 500, election_max_ms: 1000 };

impl Peer {
    /// The next frame; `None` once the client has left.
    pub(super) async fn frame(&mut self, frame_bytes_max: u32) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::decode(&mut self.input, frame_bytes_max).unwrap() {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            if read.expect("nothing has come from the client").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next request and its id.
    pub(super) async fn request(&mut self) -> (u64, Request) {
        let frame = self.frame(FRAME_BYTES_MAX).await.expect("the client must ask something");
        (frame.request_id, Request::decode(&frame).unwrap())
    }

    /// The next write. Questions about the server itself go unanswered.
    pub(super) async fn write(&mut self) -> (u64, Write) {
        loop {
            match self.request().await {
                (id, Request::Write(write)) => return (id, write),
                (_, Request::Status(_)) => {}
                (_, other) => panic!("not a write but {other:?}"),
            }
        }
    }

    pub(super) async fn answer(&mut self, id: u64, response: impl Into<Response>) {
        let mut out = BytesMut::new();
        response.into().encode(&mut out, id).unwrap();
        self.send_bytes(&out).await;
    }

    /// Answers every request, until the client leaves.
    pub(super) async fn answer_all(mut self, answer: impl Fn(Request) -> Response) {
        while let Some(frame) = self.frame(FRAME_BYTES_MAX).await {
            let response = answer(Request::decode(&frame).unwrap());
            self.answer(frame.request_id, response).await;
        }
    }

    pub(super) async fn send<M: Message>(&mut self, message: &M, id: u64) {
        let mut out = BytesMut::new();
        frame::encode(&mut out, id, message, FRAME_BYTES_MAX).unwrap();
        self.send_bytes(&out).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        // A client that has left is part of some stories.
        let _ = self.stream.write_all(bytes).await;
    }
}

impl From<crate::store::Reply> for Response {
    fn from(reply: crate::store::Reply) -> Response {
        Response::Written(reply)
    }
}

impl From<crate::wire::response::Value> for Response {
    fn from(value: crate::wire::response::Value) -> Response {
        Response::Value(value)
    }
}
