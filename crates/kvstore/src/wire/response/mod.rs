//! What servers answer. Every request ends with exactly one final frame: its own answer, the last
//! chunk of a scan, or an error that says whether anything can have happened.

mod error;
mod read;
mod report;

pub use error::{ErrorCode, ErrorReply, LeaderHint, RequestOutcome, ServerState};
pub use read::{
    ChunkEnd, ChunkProgress, Entry, Found, SCAN_CHUNK_BYTES_MAX, ScanChunk, Value,
    encode_scan_chunk, encode_scan_count, encode_value,
};
pub use report::{
    EntryKind, Feed, LogEntries, LogEntry, Member, MemberKind, Receiving, ServerRole,
    SnapshotProgress, StatusReport,
};

use super::admin::{Changed, Transferred};
use super::frame::{self, FRAME_BYTES_MAX, Frame, FrameError, Kind, Message};
use super::save::SavedPart;
use crate::codec::{self, DecodeError};
use crate::store::Reply;
use bytes::{Bytes, BytesMut};

/// Any answer, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Answer to a get.
    Value(Value),
    /// Answer to a write: what the state machine said.
    Written(Reply),
    /// A part of the answer to a scan; [`ScanChunk::end`] tells whether it is the last.
    ScanChunk(ScanChunk),
    /// Answer to a status request.
    Status(Box<StatusReport>),
    /// Answer to a log request.
    LogEntries(LogEntries),
    /// Answer to a change of the membership.
    Changed(Changed),
    /// Answer to a request to hand leadership over.
    Transferred(Transferred),
    /// A part of the answer to a request for the whole state.
    SavedPart(SavedPart),
    /// The request could not be served.
    Error(ErrorReply),
}

impl Response {
    /// Reads the answer in a frame. Byte strings in it share the frame's body.
    pub fn decode(frame: &Frame) -> Result<Response, DecodeError> {
        let body = &frame.body;
        match frame.kind {
            Kind::VALUE => Value::decode_body(body).map(Response::Value),
            Kind::WRITTEN => Reply::decode_body(body).map(Response::Written),
            Kind::SCAN_CHUNK => ScanChunk::decode_body(body).map(Response::ScanChunk),
            Kind::STATUS_REPORT => {
                StatusReport::decode_body(body).map(|report| Response::Status(Box::new(report)))
            }
            Kind::LOG_ENTRIES => LogEntries::decode_body(body).map(Response::LogEntries),
            Kind::CHANGED => Changed::decode_body(body).map(Response::Changed),
            Kind::TRANSFERRED => Transferred::decode_body(body).map(Response::Transferred),
            Kind::SAVED_PART => SavedPart::decode_body(body).map(Response::SavedPart),
            Kind::ERROR => ErrorReply::decode_body(body).map(Response::Error),
            Kind(kind) => Err(DecodeError::UnknownKind { kind }),
        }
    }
}

impl Response {
    /// The kind of frame that carries it.
    pub fn kind(&self) -> Kind {
        match self {
            Response::Value(_) => Kind::VALUE,
            Response::Written(_) => Kind::WRITTEN,
            Response::ScanChunk(_) => Kind::SCAN_CHUNK,
            Response::Status(_) => Kind::STATUS_REPORT,
            Response::LogEntries(_) => Kind::LOG_ENTRIES,
            Response::Changed(_) => Kind::CHANGED,
            Response::Transferred(_) => Kind::TRANSFERRED,
            Response::SavedPart(_) => Kind::SAVED_PART,
            Response::Error(_) => Kind::ERROR,
        }
    }

    /// Appends the answer as a frame.
    ///
    /// # Errors
    /// The frame would be longer than frames may be.
    pub fn encode(&self, out: &mut BytesMut, request_id: u64) -> Result<(), FrameError> {
        match self {
            Response::Value(message) => frame::encode(out, request_id, message, FRAME_BYTES_MAX),
            Response::Written(message) => frame::encode(out, request_id, message, FRAME_BYTES_MAX),
            Response::ScanChunk(message) => {
                frame::encode(out, request_id, message, FRAME_BYTES_MAX)
            }
            Response::Status(message) => {
                frame::encode(out, request_id, &**message, FRAME_BYTES_MAX)
            }
            Response::LogEntries(message) => {
                frame::encode(out, request_id, message, FRAME_BYTES_MAX)
            }
            Response::Changed(message) => frame::encode(out, request_id, message, FRAME_BYTES_MAX),
            Response::Transferred(message) => {
                frame::encode(out, request_id, message, FRAME_BYTES_MAX)
            }
            Response::SavedPart(message) => message.encode(out, request_id),
            Response::Error(message) => frame::encode(out, request_id, message, FRAME_BYTES_MAX),
        }
    }
}

impl Message for Reply {
    const KIND: Kind = Kind::WRITTEN;

    fn encode_body(&self, out: &mut BytesMut) {
        codec::append(out, self);
    }

    fn decode_body(body: &Bytes) -> Result<Reply, DecodeError> {
        codec::exact("Written", body)
    }
}
