//! The unit of transport: a checked length, a checksum, what it is, which request it belongs to,
//! and a body. Encoding appends to a buffer, so that many frames leave in one write.
//!
//! ```text
//! offset  size  field
//!      0     4  length      bytes that follow this field: 13 + body
//!      4     4  crc32       over length, kind, request id and body
//!      8     1  kind
//!      9     8  request id  chosen by the client, repeated in every answer
//!     17     -  body
//! ```
//! All numbers are little endian.

use crate::codec::DecodeError;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes in front of every body.
pub const HEADER_BYTES: usize = 17;
/// What `length` counts beside the body: checksum, kind and request id.
const LENGTH_OVERHEAD: u32 = 13;

/// The longest frame that is read before a handshake was accepted, header included.
pub const HANDSHAKE_FRAME_BYTES_MAX: u32 = 256;
/// The longest frame that is read afterwards, header included: the largest command there may be,
/// 2 MiB, with room for what stands around it.
pub const FRAME_BYTES_MAX: u32 = 2 * 1024 * 1024 + 4096;

/// What a frame is. Numbers are never given a second meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind(pub u8);

impl Kind {
    /// First frame of the side that connected.
    pub const HELLO: Kind = Kind(0x01);
    /// The connection is accepted.
    pub const WELCOME: Kind = Kind(0x02);
    /// The connection is refused, with a reason; it is closed after this frame.
    pub const REFUSED: Kind = Kind(0x03);

    /// Read one key.
    pub const GET: Kind = Kind(0x10);
    /// Propose one command.
    pub const WRITE: Kind = Kind(0x11);
    /// Read many keys, in order.
    pub const SCAN: Kind = Kind(0x12);
    /// Ask a server about itself.
    pub const STATUS: Kind = Kind(0x13);
    /// Read entries of a server's log.
    pub const LOG: Kind = Kind(0x14);
    /// Change who belongs to the cluster.
    pub const CHANGE: Kind = Kind(0x15);
    /// Hand leadership over.
    pub const TRANSFER: Kind = Kind(0x16);
    /// Read the whole state, as a snapshot.
    pub const SAVE: Kind = Kind(0x17);

    /// Answer to `GET`.
    pub const VALUE: Kind = Kind(0x20);
    /// Answer to `WRITE`.
    pub const WRITTEN: Kind = Kind(0x21);
    /// One of the answers to `SCAN`.
    pub const SCAN_CHUNK: Kind = Kind(0x22);
    /// Answer to `STATUS`.
    pub const STATUS_REPORT: Kind = Kind(0x23);
    /// Answer to `LOG`.
    pub const LOG_ENTRIES: Kind = Kind(0x24);
    /// Answer to `CHANGE`.
    pub const CHANGED: Kind = Kind(0x25);
    /// Answer to `TRANSFER`.
    pub const TRANSFERRED: Kind = Kind(0x26);
    /// One of the answers to `SAVE`.
    pub const SAVED_PART: Kind = Kind(0x27);
    /// Answer to any request that could not be served.
    pub const ERROR: Kind = Kind(0x2f);

    /// The first of the numbers that belong to messages between servers.
    pub const PEER_FIRST: Kind = Kind(0x40);
    /// The last of the numbers that belong to messages between servers.
    pub const PEER_LAST: Kind = Kind(0x5f);

    /// Whether this number belongs to messages between servers.
    pub fn is_peer(self) -> bool {
        (Kind::PEER_FIRST..=Kind::PEER_LAST).contains(&self)
    }
}

/// One frame as it came off a connection. The body shares the buffer it was read into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: Kind,
    /// Which request it belongs to; 0 in a handshake.
    pub request_id: u64,
    /// The message itself.
    pub body: Bytes,
}

/// Why bytes are not a frame. After any of these the stream has lost its place: close it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame says that it is longer than this side accepts.
    #[error("a frame of {frame_bytes} bytes, where at most {frame_bytes_max} are accepted")]
    TooLong {
        /// The size of the whole frame.
        frame_bytes: u64,
        /// The limit.
        frame_bytes_max: u32,
    },
    /// The frame says that it is shorter than its own header.
    #[error("a frame that says its length is {length}, where the shortest has {LENGTH_OVERHEAD}")]
    TooShort {
        /// The length field.
        length: u32,
    },
    /// The content is not what was sent.
    #[error("a frame with the checksum {stored:#010x} whose content has {computed:#010x}")]
    Checksum {
        /// The checksum in the frame.
        stored: u32,
        /// The checksum of what came with it.
        computed: u32,
    },
}

/// A message that knows its kind number and its body.
pub trait Message: Sized {
    /// The kind byte of frames that carry this message.
    const KIND: Kind;

    /// Appends the body to `out`.
    fn encode_body(&self, out: &mut BytesMut);

    /// Reads the message back; byte strings in it share `body`.
    fn decode_body(body: &Bytes) -> Result<Self, DecodeError>;
}

/// Appends one message as a frame. Fails, and leaves `out` as it was, only if the frame would be
/// longer than `frame_bytes_max`.
pub fn encode<M: Message>(
    out: &mut BytesMut,
    request_id: u64,
    message: &M,
    frame_bytes_max: u32,
) -> Result<(), FrameError> {
    encode_with(out, M::KIND, request_id, frame_bytes_max, |out| message.encode_body(out))
}

/// Appends one frame whose body `fill` appends. `fill` must only append.
pub fn encode_with(
    out: &mut BytesMut,
    kind: Kind,
    request_id: u64,
    frame_bytes_max: u32,
    fill: impl FnOnce(&mut BytesMut),
) -> Result<(), FrameError> {
    let start = out.len();
    out.put_bytes(0, 8);
    out.put_u8(kind.0);
    out.put_u64_le(request_id);
    fill(out);
    let frame_bytes = out.len() - start;
    let length = match u32::try_from(frame_bytes) {
        Ok(bytes) if bytes <= frame_bytes_max => bytes - 4,
        _ => {
            out.truncate(start);
            let frame_bytes = frame_bytes as u64;
            return Err(FrameError::TooLong { frame_bytes, frame_bytes_max });
        }
    };
    if let Some(frame) = out.get_mut(start..) {
        let (head, content) = frame.split_at_mut(8);
        let checksum = checksum(length, content);
        let (length_field, checksum_field) = head.split_at_mut(4);
        length_field.copy_from_slice(&length.to_le_bytes());
        checksum_field.copy_from_slice(&checksum.to_le_bytes());
    }
    Ok(())
}

/// Takes the first frame off `input`. `None` means that the rest of it has not arrived yet.
///
/// The length is checked against the limit as soon as its four bytes are there, and nothing is
/// allocated for a frame before its bytes have come: a peer can make us hold only what it sends.
pub fn decode(input: &mut BytesMut, frame_bytes_max: u32) -> Result<Option<Frame>, FrameError> {
    let Some(length) = input.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes)) else {
        return Ok(None);
    };
    let frame_bytes = u64::from(length) + 4;
    if frame_bytes > u64::from(frame_bytes_max) {
        return Err(FrameError::TooLong { frame_bytes, frame_bytes_max });
    }
    if length < LENGTH_OVERHEAD {
        return Err(FrameError::TooShort { length });
    }
    if (input.len() as u64) < frame_bytes {
        return Ok(None);
    }
    let mut frame = input.split_to(frame_bytes as usize).freeze();
    frame.advance(4);
    let stored = frame.get_u32_le();
    let computed = checksum(length, &frame);
    if stored != computed {
        return Err(FrameError::Checksum { stored, computed });
    }
    let kind = Kind(frame.get_u8());
    let request_id = frame.get_u64_le();
    Ok(Some(Frame { kind, request_id, body: frame }))
}

/// The checksum of a frame; `content` is everything behind the checksum field.
fn checksum(length: u32, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}
