//! What clients ask. Every request says how long its sender will go on waiting, so that no server
//! works for somebody who has left.

use super::admin::{Change, Transfer};
use super::frame::{self, FRAME_BYTES_MAX, Frame, FrameError, Kind, Message};
use super::save::Save;
use crate::codec::{self, DecodeError, Raw};
use crate::store::KeyRange;
use crate::store::command::KEY_BYTES_MAX;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Any request, as a server reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read one key.
    Get(Get),
    /// Propose one command.
    Write(Write),
    /// Read many keys.
    Scan(Scan),
    /// Ask the server about itself.
    Status(Status),
    /// Read the server's log.
    Log(Log),
    /// Change who belongs to the cluster.
    Change(Change),
    /// Hand leadership over.
    Transfer(Transfer),
    /// Read the whole state, as a snapshot.
    Save(Save),
}

impl Request {
    /// Reads the request in a frame. Byte strings in it share the frame's body.
    pub fn decode(frame: &Frame) -> Result<Request, DecodeError> {
        match frame.kind {
            Kind::GET => Get::decode_body(&frame.body).map(Request::Get),
            Kind::WRITE => Write::decode_body(&frame.body).map(Request::Write),
            Kind::SCAN => Scan::decode_body(&frame.body).map(Request::Scan),
            Kind::STATUS => Status::decode_body(&frame.body).map(Request::Status),
            Kind::LOG => Log::decode_body(&frame.body).map(Request::Log),
            Kind::CHANGE => Change::decode_body(&frame.body).map(Request::Change),
            Kind::TRANSFER => Transfer::decode_body(&frame.body).map(Request::Transfer),
            Kind::SAVE => Save::decode_body(&frame.body).map(Request::Save),
            Kind(kind) => Err(DecodeError::UnknownKind { kind }),
        }
    }

    /// Appends the request as a frame.
    ///
    /// # Errors
    /// The frame would be longer than frames may be.
    pub fn encode(&self, out: &mut BytesMut, request_id: u64) -> Result<(), FrameError> {
        match self {
            Request::Get(request) => frame::encode(out, request_id, request, FRAME_BYTES_MAX),
            Request::Write(request) => frame::encode(out, request_id, request, FRAME_BYTES_MAX),
            Request::Scan(request) => frame::encode(out, request_id, request, FRAME_BYTES_MAX),
            Request::Status(request) => frame::encode(out, request_id, request, FRAME_BYTES_MAX),
            Request::Log(request) => frame::encode(out, request_id, request, FRAME_BYTES_MAX),
            Request::Change(request) => frame::encode(out, request_id, request, FRAME_BYTES_MAX),
            Request::Transfer(request) => frame::encode(out, request_id, request, FRAME_BYTES_MAX),
            Request::Save(request) => frame::encode(out, request_id, request, FRAME_BYTES_MAX),
        }
    }

    /// How much longer the client waits for the answer, in milliseconds, as it was sent.
    pub fn timeout_ms(&self) -> u32 {
        match self {
            Request::Get(Get { timeout_ms, .. })
            | Request::Write(Write { timeout_ms, .. })
            | Request::Scan(Scan { timeout_ms, .. })
            | Request::Status(Status { timeout_ms })
            | Request::Log(Log { timeout_ms, .. })
            | Request::Change(Change { timeout_ms, .. })
            | Request::Transfer(Transfer { timeout_ms, .. })
            | Request::Save(Save { timeout_ms, .. }) => *timeout_ms,
        }
    }

    /// Says how much longer the client waits, before the request is sent.
    pub fn set_timeout_ms(&mut self, remaining_ms: u32) {
        match self {
            Request::Get(Get { timeout_ms, .. })
            | Request::Write(Write { timeout_ms, .. })
            | Request::Scan(Scan { timeout_ms, .. })
            | Request::Status(Status { timeout_ms })
            | Request::Log(Log { timeout_ms, .. })
            | Request::Change(Change { timeout_ms, .. })
            | Request::Transfer(Transfer { timeout_ms, .. })
            | Request::Save(Save { timeout_ms, .. }) => *timeout_ms = remaining_ms,
        }
    }
}

/// What a read may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Everything that was acknowledged to anybody before the read began.
    Linearizable,
    /// Whatever this server has applied, even with no leader in sight.
    Stale,
}

/// Which servers may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route {
    /// Any server that can: reads are served wherever they arrive. A request that has to wait for
    /// a leader waits at the server.
    Any,
    /// The server that was asked, and only if it leads; otherwise it refuses at once.
    LeaderOnly,
}

/// Reads one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// How much longer the client waits, in milliseconds.
    pub timeout_ms: u32,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// Who may answer.
    pub route: Route,
    /// The key.
    pub key: Bytes,
}

#[derive(Serialize, Deserialize)]
struct GetBody<'a> {
    timeout_ms: u32,
    consistency: Consistency,
    route: Route,
    #[serde(borrow)]
    key: Raw<'a>,
}

impl Message for Get {
    const KIND: Kind = Kind::GET;

    fn encode_body(&self, out: &mut BytesMut) {
        let Get { timeout_ms, consistency, route, ref key } = *self;
        codec::append(out, &GetBody { timeout_ms, consistency, route, key: Raw(key) });
    }

    fn decode_body(body: &Bytes) -> Result<Get, DecodeError> {
        let read: GetBody<'_> = codec::exact("Get", body)?;
        codec::within("key", read.key.0, KEY_BYTES_MAX)?;
        Ok(Get {
            timeout_ms: read.timeout_ms,
            consistency: read.consistency,
            route: read.route,
            key: read.key.share(body),
        })
    }
}

/// Proposes one command.
///
/// The command comes last and fills the frame, so that a server checks it where it lies and
/// proposes those very bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// How much longer the client waits, in milliseconds.
    pub timeout_ms: u32,
    /// Who may propose it.
    pub route: Route,
    /// An encoded [`Command`](crate::store::command::Command).
    pub command: Bytes,
}

#[derive(Serialize, Deserialize)]
struct WriteHead {
    timeout_ms: u32,
    route: Route,
}

impl Message for Write {
    const KIND: Kind = Kind::WRITE;

    fn encode_body(&self, out: &mut BytesMut) {
        codec::append(out, &WriteHead { timeout_ms: self.timeout_ms, route: self.route });
        out.put_slice(&self.command);
    }

    fn decode_body(body: &Bytes) -> Result<Write, DecodeError> {
        let (head, rest): (WriteHead, _) = codec::take("Write", body)?;
        let command = body.slice_ref(rest);
        Ok(Write { timeout_ms: head.timeout_ms, route: head.route, command })
    }
}

/// Which keys a scan is about. Keys are ordered as byte strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All keys that begin with these bytes; all keys there are, if there are none.
    Prefix(Bytes),
    /// All keys from `from` on, up to but without `to`.
    Range {
        /// The first key that belongs to the range.
        from: Bytes,
        /// The first key after the range; `None` if it has no end.
        to: Option<Bytes>,
    },
}

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// From the lowest key up.
    Ascending,
    /// From the highest key down.
    Descending,
}

/// How much of each key a scan returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Keys with their values.
    KeysAndValues,
    /// Keys only: values are empty in the answer.
    KeysOnly,
    /// No entries at all, only how many there are.
    CountOnly,
}

/// Reads many keys, in order, as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// How much longer the client waits for the first part of the answer, in milliseconds.
    pub timeout_ms: u32,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// Who may answer.
    pub route: Route,
    /// Which way to go.
    pub order: Order,
    /// How much to return.
    pub content: Content,
    /// At most so many keys; `None` for all of them.
    pub limit: Option<u64>,
    /// Which keys.
    pub selection: Selection,
    /// Go on behind this key, in the direction of the scan: the last key of an earlier answer.
    pub after: Option<Bytes>,
}

/// The end of a range: the longest key, and the byte that makes it the first key behind that one.
const BOUND_BYTES_MAX: u32 = KEY_BYTES_MAX + 1;

impl Scan {
    /// The bytes of all keys in it.
    pub fn bytes(&self) -> usize {
        let selected = match &self.selection {
            Selection::Prefix(prefix) => prefix.len(),
            Selection::Range { from, to } => from.len() + to.as_ref().map_or(0, Bytes::len),
        };
        selected + self.after.as_ref().map_or(0, Bytes::len)
    }

    /// Shows `change` every byte string in it.
    pub(crate) fn each_bytes(&mut self, mut change: impl FnMut(&mut Bytes)) {
        match &mut self.selection {
            Selection::Prefix(prefix) => change(prefix),
            Selection::Range { from, to } => {
                change(from);
                to.iter_mut().for_each(&mut change);
            }
        }
        self.after.iter_mut().for_each(change);
    }

    /// The keys that are still to come: the selection without what lies before `after`.
    pub fn range(&self) -> KeyRange {
        let range = match &self.selection {
            Selection::Prefix(prefix) => KeyRange::prefix(prefix.clone()),
            Selection::Range { from, to } => KeyRange::between(from.clone(), to.clone()),
        };
        match (&self.after, self.order) {
            (None, _) => range,
            (Some(key), Order::Ascending) => range.above(key.clone()),
            (Some(key), Order::Descending) => range.below(key.clone()),
        }
    }
}

#[derive(Serialize, Deserialize)]
enum SelectionBody<'a> {
    Prefix(#[serde(borrow)] Raw<'a>),
    Range {
        #[serde(borrow)]
        from: Raw<'a>,
        #[serde(borrow)]
        to: Option<Raw<'a>>,
    },
}

#[derive(Serialize, Deserialize)]
struct ScanBody<'a> {
    timeout_ms: u32,
    consistency: Consistency,
    route: Route,
    order: Order,
    content: Content,
    limit: Option<u64>,
    #[serde(borrow)]
    selection: SelectionBody<'a>,
    #[serde(borrow)]
    after: Option<Raw<'a>>,
}

impl Message for Scan {
    const KIND: Kind = Kind::SCAN;

    fn encode_body(&self, out: &mut BytesMut) {
        let selection = match &self.selection {
            Selection::Prefix(prefix) => SelectionBody::Prefix(Raw(prefix)),
            Selection::Range { from, to } => {
                SelectionBody::Range { from: Raw(from), to: to.as_deref().map(Raw) }
            }
        };
        let body = ScanBody {
            timeout_ms: self.timeout_ms,
            consistency: self.consistency,
            route: self.route,
            order: self.order,
            content: self.content,
            limit: self.limit,
            selection,
            after: self.after.as_deref().map(Raw),
        };
        codec::append(out, &body);
    }

    fn decode_body(body: &Bytes) -> Result<Scan, DecodeError> {
        let read: ScanBody<'_> = codec::exact("Scan", body)?;
        let selection = match read.selection {
            SelectionBody::Prefix(prefix) => Selection::Prefix(prefix.share(body)),
            SelectionBody::Range { from, to } => {
                Selection::Range { from: from.share(body), to: to.map(|to| to.share(body)) }
            }
        };
        let mut scan = Scan {
            timeout_ms: read.timeout_ms,
            consistency: read.consistency,
            route: read.route,
            order: read.order,
            content: read.content,
            limit: read.limit,
            selection,
            after: read.after.map(|after| after.share(body)),
        };
        let mut checked = Ok(());
        scan.each_bytes(|bytes| {
            let within = codec::within("key of the scan", bytes, BOUND_BYTES_MAX);
            checked = std::mem::replace(&mut checked, Ok(())).and(within);
        });
        checked.map(|()| scan)
    }
}

/// Asks the server about itself. It answers whether there is a leader or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How much longer the client waits, in milliseconds.
    pub timeout_ms: u32,
}

impl Message for Status {
    const KIND: Kind = Kind::STATUS;

    fn encode_body(&self, out: &mut BytesMut) {
        codec::append(out, self);
    }

    fn decode_body(body: &Bytes) -> Result<Status, DecodeError> {
        codec::exact("Status", body)
    }
}

/// Reads entries of the server's own log, committed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// How much longer the client waits, in milliseconds.
    pub timeout_ms: u32,
    /// The first index wanted. The answer begins later if the log does.
    pub from: u64,
    /// At most so many entries. The answer may hold fewer, to stay within a frame.
    pub limit: u32,
}

impl Message for Log {
    const KIND: Kind = Kind::LOG;

    fn encode_body(&self, out: &mut BytesMut) {
        codec::append(out, self);
    }

    fn decode_body(body: &Bytes) -> Result<Log, DecodeError> {
        codec::exact("Log", body)
    }
}
