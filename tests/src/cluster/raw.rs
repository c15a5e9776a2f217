//! A connection to a server that says whatever a test wants, also what no client would.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kvstore::wire::frame::{self, FRAME_BYTES_MAX, Frame, HANDSHAKE_FRAME_BYTES_MAX};
use kvstore::wire::handshake::VersionRange;
use kvstore::wire::request::Request;
use kvstore::wire::{Answer, ClusterClaim, Hello, Role};

/// No server takes longer to answer or to hang up.
const LIMIT: Duration = Duration::from_secs(10);

/// A raw connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    read: BytesMut,
}

impl Raw {
    /// A connection on which nothing was said yet.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(address: SocketAddrV4) -> Raw {
        let stream = TcpStream::connect(address).expect("a server listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket has timeouts");
        Raw { stream, read: BytesMut::new() }
    }

    /// A client's connection whose handshake was accepted.
    ///
    /// # Panics
    /// If it was not.
    pub fn welcomed(address: SocketAddrV4) -> Raw {
        let mut raw = Raw::connect(address);
        raw.send_hello(VersionRange::OURS, ClusterClaim::Any);
        assert!(matches!(raw.answer(), Some(Answer::Welcome(_))), "a client is welcome");
        raw
    }

    /// Sends bytes. The server may have hung up already, which shows when reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Introduces a client.
    pub fn send_hello(&mut self, versions: VersionRange, claim: ClusterClaim) {
        self.introduce(Hello { versions, role: Role::Client(claim) });
    }

    /// Sends any first frame.
    ///
    /// # Panics
    /// If it is longer than a first frame may be.
    pub fn introduce(&mut self, hello: Hello) {
        let mut out = BytesMut::new();
        let encoded = frame::encode(&mut out, 0, &hello, HANDSHAKE_FRAME_BYTES_MAX);
        encoded.expect("a greeting is short");
        self.send(&out);
    }

    /// Sends requests, numbered from 1 on, in as few writes as they fit into.
    ///
    /// # Panics
    /// If one of them is longer than a frame may be.
    pub fn send_requests<'r>(&mut self, requests: impl IntoIterator<Item = &'r Request>) {
        let mut out = BytesMut::new();
        for (request, id) in requests.into_iter().zip(1..) {
            request.encode(&mut out, id).expect("a request fits a frame");
        }
        self.send(&out);
    }

    /// Says nothing more, and can still be answered.
    pub fn say_no_more(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next frame, or `None` once the server has hung up.
    ///
    /// # Panics
    /// If the server neither answers nor hangs up.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let decoded = frame::decode(&mut self.read, FRAME_BYTES_MAX);
            if let Some(frame) = decoded.expect("a server sends frames") {
                return Some(frame);
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.read.put_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the server neither answered nor hung up: {error}"),
            }
        }
    }

    /// What the server answers to the first frame.
    ///
    /// # Panics
    /// If that is no answer to one.
    pub fn answer(&mut self) -> Option<Answer> {
        let frame = self.next_frame()?;
        Some(Answer::decode(frame.kind, &frame.body).expect("a first frame is answered"))
    }
}
