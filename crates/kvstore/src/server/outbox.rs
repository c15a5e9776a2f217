//! Bytes on their way out of one connection. Whoever has something to say appends it; at the end
//! of a turn everything leaves in one system call, without waking a task. Only what the socket
//! does not take at once is left to the connection's own task.

use std::cell::{Cell, RefCell};
use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::wire::frame::{self, Frame, FrameError, HANDSHAKE_FRAME_BYTES_MAX};

/// A buffer that grew beyond this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A socket and what waits to be written to it.
#[derive(Debug)]
pub(super) struct Outbox {
    socket: TcpStream,
    queued: RefCell<BytesMut>,
    /// Wakes the connection's task: something was left over, or the connection is to end.
    changed: Notify,
    /// Wakes those who wait for the queue to shrink.
    shrunk: Notify,
    closed: Cell<bool>,
}

impl Outbox {
    pub(super) fn new(socket: TcpStream) -> Self {
        let queued = RefCell::new(BytesMut::new());
        Self {
            socket,
            queued,
            changed: Notify::new(),
            shrunk: Notify::new(),
            closed: Cell::new(false),
        }
    }

    /// Lets `fill` append frames.
    pub(super) fn append<T>(&self, fill: impl FnOnce(&mut BytesMut) -> T) -> T {
        fill(&mut self.queued.borrow_mut())
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued.borrow().len()
    }

    /// Writes what the socket takes now.
    pub(super) fn flush(&self) {
        let mut queued = self.queued.borrow_mut();
        if queued.is_empty() {
            return;
        }
        while !queued.is_empty() && !self.closed.get() {
            match self.socket.try_write(&queued) {
                Ok(written) => {
                    queued.advance(written);
                    self.shrunk.notify_waiters();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.changed.notify_one();
                    return;
                }
                Err(_) => self.close(),
            }
        }
        queued.clear();
        if queued.capacity() > KEPT_BYTES_MAX {
            *queued = BytesMut::new();
        }
    }

    /// Ends the connection: its task notices and stops.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
        self.shrunk.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Waits until there is something to read (if `wanted`) or the socket takes what is queued;
    /// writes meanwhile. Returns whether there may be something to read.
    pub(super) async fn ready(&self, wanted: Reading) -> io::Result<bool> {
        let queued = self.queued_bytes() > 0;
        let interest = match (wanted, queued) {
            (Reading::Wanted, false) => Interest::READABLE,
            (Reading::Wanted, true) => Interest::READABLE | Interest::WRITABLE,
            (Reading::Paused, true) => Interest::WRITABLE,
            (Reading::Paused, false) => {
                self.changed.notified().await;
                return Ok(false);
            }
        };
        tokio::select! {
            ready = self.socket.ready(interest) => {
                let ready = ready?;
                if queued && ready.is_writable() {
                    self.flush();
                }
                Ok(ready.is_readable() && wanted == Reading::Wanted)
            }
            () = self.changed.notified() => Ok(false),
        }
    }

    /// Reads what is there. `None` when there is nothing now; `Some(0)` at the end.
    pub(super) fn try_read(&self, input: &mut BytesMut) -> io::Result<Option<usize>> {
        match self.socket.try_read_buf(input) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads up to the end of the first frame; what came behind it stays in `input`. Bytes that are
    /// no frame are told apart from a connection that ended.
    pub(super) async fn first_frame(
        &self,
        input: &mut BytesMut,
    ) -> io::Result<Result<Frame, FrameError>> {
        loop {
            match frame::decode(input, HANDSHAKE_FRAME_BYTES_MAX) {
                Err(error) => return Ok(Err(error)),
                Ok(Some(frame)) => return Ok(Ok(frame)),
                Ok(None) => input.reserve(HANDSHAKE_FRAME_BYTES_MAX as usize),
            }
            if self.ready(Reading::Wanted).await? && self.try_read(input)? == Some(0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits until some of the queue was written, or the connection ends.
    pub(super) async fn flushed(&self) {
        self.shrunk.notified().await;
    }

    /// Wakes the connection's task to look at its state again.
    pub(super) fn nudge(&self) {
        self.changed.notify_one();
    }
}

/// Whether more input is wanted from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Wanted,
    /// Its answers pile up: it must first take some.
    Paused,
}
