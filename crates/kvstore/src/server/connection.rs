//! One client's connection: reads frames, hands requests to the core, and paces itself. A client
//! that does not take its answers, or has too much under way, is not read from until that ends,
//! so what it can make this server hold is bounded.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::time::{Duration, Instant, timeout};

use super::core::SharedCore;
use super::outbox::{Outbox, Reading};
use crate::wire::frame::{self, FRAME_BYTES_MAX};

/// Answers that wait to be taken, in bytes, beyond which no more requests are read.
const QUEUED_BYTES_MAX: usize = 4 << 20;

/// Answers of many frames that one client may have under way at once.
const STREAMS_MAX: u32 = 16;

/// How long a client may take nothing of such an answer.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests under way, beyond which no more are read.
const IN_FLIGHT_MAX: u64 = 16 << 10;

/// How long one client's requests may keep the loop before others get their turn.
const TURN_MAX: Duration = Duration::from_millis(2);

/// The size of the pieces of memory that sockets are read into.
const READ_BYTES: usize = 64 << 10;

/// Makes room for a read, if little is left. What was read before may be held for long as the
/// payload of an entry, and the piece of memory around it with it; so a piece is used up before
/// there is another.
pub(super) fn make_room(input: &mut BytesMut) {
    if input.capacity() - input.len() < READ_BYTES / 4 {
        input.reserve(READ_BYTES);
    }
}

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) outbox: Outbox,
    /// Requests that have no answer yet.
    in_flight: Cell<u64>,
    /// Answers of many frames under way.
    streams: Cell<u32>,
    /// Reads that may be answered, by their keys in the table of pending requests, once the client
    /// has taken enough of the answers before them: only then is what they read copied.
    confirmed: RefCell<VecDeque<usize>>,
    /// Set while nothing is read, so that an answer knows to wake the task.
    paused: Cell<bool>,
    /// Set while the connection stands in the core's list of those with answers to flush.
    pub(super) dirty: Cell<bool>,
}

impl Connection {
    pub(super) fn new(outbox: Outbox) -> Rc<Self> {
        let (paused, dirty) = (Cell::new(false), Cell::new(false));
        Rc::new(Self {
            outbox,
            in_flight: Cell::new(0),
            streams: Cell::new(0),
            confirmed: RefCell::default(),
            paused,
            dirty,
        })
    }

    /// Whether the client has taken enough of its answers to be given more.
    pub(super) fn has_room(&self) -> bool {
        self.outbox.queued_bytes() < QUEUED_BYTES_MAX
    }

    /// A read may be answered once there is room.
    pub(super) fn push_confirmed(&self, key: usize) {
        self.confirmed.borrow_mut().push_back(key);
    }

    /// The next read that waits for room.
    pub(super) fn pop_confirmed(&self) -> Option<usize> {
        self.confirmed.borrow_mut().pop_front()
    }

    /// Whether reads wait for room.
    pub(super) fn has_confirmed(&self) -> bool {
        !self.confirmed.borrow().is_empty()
    }

    /// Drops the reads that wait for room and are not to be answered any more.
    pub(super) fn retain_confirmed(&self, keep: impl FnMut(&usize) -> bool) {
        self.confirmed.borrow_mut().retain(keep);
    }

    pub(super) fn on_request(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(super) fn on_answered(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        if self.paused.get() {
            self.outbox.nudge();
        }
    }

    /// Whether it has every answer that it waits for, or is gone.
    pub(super) fn is_served(&self) -> bool {
        self.outbox.is_closed() || self.in_flight.get() == 0 && self.outbox.queued_bytes() == 0
    }

    fn reading(&self) -> Reading {
        let full = !self.has_room() || self.in_flight.get() >= IN_FLIGHT_MAX;
        self.paused.set(full);
        if full { Reading::Paused } else { Reading::Wanted }
    }

    /// Waits until what is queued is below the limit again, for answers of many frames. A client
    /// that takes nothing for long loses its connection: what it reads pins a version of the
    /// store.
    pub(super) async fn drained(&self) {
        while !self.has_room() && !self.outbox.is_closed() {
            if timeout(STREAM_TIMEOUT, self.outbox.flushed()).await.is_err() {
                self.outbox.close();
            }
        }
    }

    /// Waits until everything that is queued was taken. A client that needs long for it loses its
    /// connection, even if it takes a little now and then: there is a bound on how long it can
    /// pin what it reads.
    pub(super) async fn emptied(&self) {
        let emptied = async {
            while self.outbox.queued_bytes() > 0 && !self.outbox.is_closed() {
                self.outbox.flushed().await;
            }
        };
        if timeout(STREAM_TIMEOUT, emptied).await.is_err() {
            self.outbox.close();
        }
    }

    /// Begins an answer of many frames, unless too many are under way.
    pub(super) fn begin_stream(&self) -> bool {
        let fits = self.streams.get() < STREAMS_MAX;
        self.streams.set(self.streams.get() + u32::from(fits));
        fits
    }

    /// Ends an answer of many frames.
    pub(super) fn end_stream(&self) {
        self.streams.set(self.streams.get().saturating_sub(1));
        self.on_answered();
    }
}

/// Serves a client until it leaves, breaks the protocol, or the server stops.
pub(super) async fn serve(core: SharedCore, connection: Rc<Connection>, mut input: BytesMut) {
    core.borrow_mut().on_connected(&connection);
    // Whatever the reason, there is nobody left to tell it to.
    let _ = read_requests(&core, &connection, &mut input).await;
    connection.outbox.close();
    core.borrow_mut().forget(&connection);
}

async fn read_requests(
    core: &SharedCore,
    connection: &Rc<Connection>,
    input: &mut BytesMut,
) -> io::Result<()> {
    let outbox = &connection.outbox;
    'reading: while !outbox.is_closed() {
        while connection.has_confirmed() && connection.has_room() && !outbox.is_closed() {
            core.borrow_mut().answer_confirmed(connection);
            tokio::task::yield_now().await;
        }
        let mut taken = false;
        let begun = Instant::now();
        while connection.reading() == Reading::Wanted {
            if begun.elapsed() > TURN_MAX {
                // Others wait, and heartbeats among them.
                core.borrow().wake();
                tokio::task::yield_now().await;
                continue 'reading;
            }
            let decoded = frame::decode(input, FRAME_BYTES_MAX).map_err(io::Error::other)?;
            let Some(frame) = decoded else { break };
            core.borrow_mut().on_request(connection, &frame);
            taken = true;
        }
        if taken {
            core.borrow().wake();
        }
        if outbox.ready(connection.reading()).await? {
            make_room(input);
            if outbox.try_read(input)? == Some(0) {
                return Ok(());
            }
        }
    }
    Ok(())
}
