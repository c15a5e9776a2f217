//! One connection to one server, shared by everybody who has something to ask it. Requests of many
//! callers leave in one write and their answers come back in one read: a caller pays for a place
//! in a buffer and for being woken, not for a task or a system call of its own.

use super::driver::Driver;
use crate::wire::frame::{self, FRAME_BYTES_MAX, Frame, HANDSHAKE_FRAME_BYTES_MAX};
use crate::wire::handshake::VersionRange;
use crate::wire::{Answer, ClusterClaim, FrameError, Hello, Refused, RefusedReason, Role, Welcome};
use bytes::BytesMut;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

/// Requests that the server does not take off our hands wait here, up to so many bytes.
const UNSENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A connection that was accepted by the server.
#[derive(Debug)]
pub(super) struct Connection {
    /// What the server said of itself.
    pub(super) welcome: Welcome,
    outbox: Mutex<Outbox>,
    /// Callers that wait for `outbox` to shrink.
    pub(super) room: Notify,
}

/// What the callers and the driver of a connection share.
///
/// Invariants: `taken + out.len()` is the position in the stream at which the next frame begins;
/// once `closed` is set, `waiting` is empty and stays so.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Frames that the driver has not taken yet.
    pub(super) out: BytesMut,
    /// How many bytes the driver has taken since the beginning.
    pub(super) taken: u64,
    /// Who waits for the answer to which request.
    pub(super) waiting: HashMap<u64, Waiting>,
    /// Wakes the driver, if it sleeps.
    pub(super) driver: Option<Waker>,
    /// Nobody will ask anything any more.
    pub(super) hang_up: bool,
    /// Why the connection is no more.
    pub(super) closed: Option<Arc<str>>,
    last_request_id: u64,
}

/// A caller that waits for an answer.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Where in the stream its request begins.
    starts_at: u64,
    pub(super) answer: oneshot::Sender<Result<Frame, Lost>>,
}

/// A request that got no answer, because the connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) sent: Sent,
    pub(super) why: Arc<str>,
}

/// Whether the server can have seen a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Not one byte of it left this process.
    No,
    /// It may have arrived.
    Maybe,
}

/// Why there is no connection to a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    /// The operating system could not reach it.
    #[error("{0}")]
    Io(String),
    /// It did not answer.
    #[error("timed out after {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It answered that it does not want us.
    #[error("refused: {0}")]
    Refused(Refused),
    /// It is not what we are looking for.
    #[error("{0}")]
    Wrong(String),
}

impl ConnectError {
    /// Whether trying again cannot help until somebody changes something.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            ConnectError::Io(_) | ConnectError::TimedOut(_) => false,
            ConnectError::Wrong(_) => true,
            ConnectError::Refused(refused) => matches!(
                refused.reason,
                RefusedReason::WrongMagic
                    | RefusedReason::Malformed
                    | RefusedReason::Version
                    | RefusedReason::Cluster
                    | RefusedReason::Identity
            ),
        }
    }
}

/// What the server on the other end must be.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// The id that belongs to the address.
    pub(super) node: Option<String>,
    /// The name of the cluster, from the configuration.
    pub(super) cluster: Option<String>,
    /// The id of the cluster, from an earlier connection.
    pub(super) cluster_id: Option<[u8; 16]>,
}

/// A connection after the handshake, with what was read beyond it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) welcome: Welcome,
    pub(super) input: BytesMut,
}

/// Connects and shakes hands, within `patience`.
pub(super) async fn connect(
    address: &str,
    expected: &Expected,
    patience: Duration,
) -> Result<Link, ConnectError> {
    match tokio::time::timeout(patience, shake_hands(address, expected)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut(patience)),
    }
}

async fn shake_hands(address: &str, expected: &Expected) -> Result<Link, ConnectError> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| io_error(&error))?;
    stream.set_nodelay(true).map_err(|error| io_error(&error))?;

    let claim = expected.cluster.clone().map_or(ClusterClaim::Any, ClusterClaim::Name);
    let hello = Hello { versions: VersionRange::OURS, role: Role::Client(claim) };
    let mut out = BytesMut::new();
    frame::encode(&mut out, 0, &hello, HANDSHAKE_FRAME_BYTES_MAX)
        .map_err(|error| ConnectError::Wrong(format!("cannot introduce myself: {error}")))?;
    stream.write_all(&out).await.map_err(|error| io_error(&error))?;

    let mut input = BytesMut::new();
    let first = loop {
        let decoded = frame::decode(&mut input, HANDSHAKE_FRAME_BYTES_MAX);
        if let Some(frame) = decoded.map_err(|error| not_ours(&error))? {
            break frame;
        }
        match stream.read_buf(&mut input).await {
            Ok(0) => return Err(ConnectError::Io("connection closed in the handshake".into())),
            Ok(_) => {}
            Err(error) => return Err(io_error(&error)),
        }
    };
    match Answer::decode(first.kind, &first.body).map_err(|error| not_ours(&error))? {
        Answer::Refused(refused) => Err(ConnectError::Refused(refused)),
        Answer::Welcome(welcome) => {
            expected.check(&welcome)?;
            Ok(Link { stream, welcome, input })
        }
    }
}

impl Expected {
    fn check(&self, welcome: &Welcome) -> Result<(), ConnectError> {
        if let Some(node) = self.node.as_ref().filter(|node| **node != welcome.node) {
            let text = format!("is server {}, not {node}; check the addresses", welcome.node);
            return Err(ConnectError::Wrong(text));
        }
        if self.cluster.as_ref().is_some_and(|name| *name != welcome.cluster)
            || (self.cluster_id.is_some()
                && welcome.cluster_id.is_some()
                && self.cluster_id != welcome.cluster_id)
        {
            let text = format!("is a server of another cluster, \"{}\"", welcome.cluster);
            return Err(ConnectError::Wrong(text));
        }
        Ok(())
    }
}

fn io_error(error: &io::Error) -> ConnectError {
    ConnectError::Io(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => error.to_string(),
    })
}

fn not_ours(error: &dyn std::error::Error) -> ConnectError {
    ConnectError::Wrong(format!("does not answer like a kvctl server: {error}"))
}

impl Connection {
    /// Takes a connection into use: from here on a task of its own moves its bytes.
    pub(super) fn start(link: Link) -> Arc<Connection> {
        let Link { stream, welcome, input } = link;
        let connection = Arc::new(Connection {
            welcome,
            outbox: Mutex::new(Outbox::default()),
            room: Notify::new(),
        });
        tokio::spawn(Driver::new(Arc::clone(&connection), stream, input));
        connection
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // Nothing that runs under this lock leaves it half done.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether requests can still be sent.
    pub(super) fn is_open(&self) -> bool {
        self.outbox().closed.is_none()
    }

    /// Lets the connection end once everything was sent.
    pub(super) fn hang_up(&self) {
        let mut outbox = self.outbox();
        outbox.hang_up = true;
        let driver = outbox.driver.take();
        drop(outbox);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Queues a request that `encode` appends under the id that it is given.
    pub(super) fn send(
        self: &Arc<Connection>,
        encode: impl FnOnce(&mut BytesMut, u64) -> Result<(), FrameError>,
    ) -> Result<PendingAnswer, SendError> {
        let mut outbox = self.outbox();
        if let Some(why) = &outbox.closed {
            return Err(SendError::Closed(Arc::clone(why)));
        }
        if outbox.out.len() > UNSENT_BYTES_MAX {
            return Err(SendError::Crowded);
        }
        let starts_at = outbox.taken + outbox.out.len() as u64;
        let request_id = outbox.last_request_id + 1;
        encode(&mut outbox.out, request_id).map_err(SendError::TooLong)?;
        outbox.last_request_id = request_id;
        let (answer, receiver) = oneshot::channel();
        outbox.waiting.insert(request_id, Waiting { starts_at, answer });
        let driver = outbox.driver.take();
        drop(outbox);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(PendingAnswer { connection: Arc::clone(self), request_id, receiver, done: Done::No })
    }

    /// Ends the connection: everybody who waits is told, `written` bytes having been sent.
    pub(super) fn close(&self, why: &str, written: u64) {
        let mut outbox = self.outbox();
        if outbox.closed.is_some() {
            return;
        }
        let why: Arc<str> = why.into();
        outbox.closed = Some(Arc::clone(&why));
        outbox.out = BytesMut::new();
        let waiting = std::mem::take(&mut outbox.waiting);
        drop(outbox);
        self.room.notify_waiters();
        for Waiting { starts_at, answer } in waiting.into_values() {
            let sent = if starts_at < written { Sent::Maybe } else { Sent::No };
            // A caller that has left does not want to know.
            let _ = answer.send(Err(Lost { sent, why: Arc::clone(&why) }));
        }
    }
}

/// Why a request was not queued.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The connection has ended.
    #[error("{0}")]
    Closed(Arc<str>),
    /// Too much waits to be sent already; the connection's `room` tells when to try again.
    #[error("too many requests wait to be sent")]
    Crowded,
    /// The request does not fit into a frame.
    #[error(transparent)]
    TooLong(FrameError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    No,
    Yes,
}

/// The answer to a request, once it comes. A caller that stops waiting leaves nothing behind.
#[derive(Debug)]
pub(super) struct PendingAnswer {
    connection: Arc<Connection>,
    request_id: u64,
    receiver: oneshot::Receiver<Result<Frame, Lost>>,
    done: Done,
}

impl Future for PendingAnswer {
    type Output = Result<Frame, Lost>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = std::task::ready!(Pin::new(&mut self.receiver).poll(context));
        self.done = Done::Yes;
        let gone = || Lost { sent: Sent::Maybe, why: "the connection's task has ended".into() };
        Poll::Ready(received.unwrap_or_else(|_| Err(gone())))
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        if self.done == Done::No {
            self.connection.outbox().waiting.remove(&self.request_id);
        }
    }
}

/// The longest frame that a server sends.
pub(super) const ANSWER_BYTES_MAX: u32 = FRAME_BYTES_MAX;
