//! A socket that epoll watches, with what was received and what is to be sent.

use std::net::TcpStream;

use load::Result;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// Room for one read.
const READ_BYTES: usize = 256 * 1024;

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// There may be something.
    Open,
    /// The other side has closed.
    Closed,
}

/// A connection; it never blocks.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    /// Received and not yet consumed.
    input: Vec<u8>,
    consumed: usize,
    /// What the socket has not taken yet.
    pub(crate) out: Vec<u8>,
    /// Whether something was put into `out` since the last flush.
    pub(crate) is_dirty: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (input, out) = (Vec::new(), Vec::new());
        Ok(Connection { stream, input, consumed: 0, out, is_dirty: false })
    }

    /// Receives once into `buffer`, which all connections share, and shows all that is there.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<Heard> {
        self.input.drain(..self.consumed);
        self.consumed = 0;
        match recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Ok(Heard::Closed),
            Ok((bytes, _)) => {
                self.input.extend_from_slice(&buffer[..bytes]);
                Ok(Heard::Open)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Heard::Open),
            Err(Errno::CONNRESET) => Ok(Heard::Closed),
            Err(error) => Err(error.into()),
        }
    }

    /// What was received and not yet consumed.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input[self.consumed..]
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
    }

    /// Sends what the socket takes. Returns whether all was taken.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        self.is_dirty = false;
        let mut sent = 0;
        while sent < self.out.len() {
            match send(&self.stream, &self.out[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(bytes) => sent += bytes,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // It will be noticed by the next read.
                Err(Errno::PIPE | Errno::CONNRESET) => sent = self.out.len(),
                Err(error) => return Err(error.into()),
            }
        }
        self.out.drain(..sent);
        Ok(self.out.is_empty())
    }
}

/// A buffer for [`Connection::receive`].
pub(crate) fn read_buffer() -> Vec<u8> {
    vec![0; READ_BYTES]
}
