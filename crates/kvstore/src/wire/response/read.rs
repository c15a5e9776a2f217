//! Answers to reads. Servers encode them straight out of the store, without building the owned
//! forms that clients decode.

use crate::codec::{self, DecodeError, Raw};
use crate::store::{EntryRef, KeyState, Revision};
use crate::wire::frame::{self, FRAME_BYTES_MAX, FrameError, Kind, Message};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// A chunk of a scan is closed before it would grow beyond this, unless a single entry does.
pub const SCAN_CHUNK_BYTES_MAX: usize = 256 * 1024;
/// What an entry of a chunk takes at most beside its key and value: three numbers, two lengths.
const ENTRY_OVERHEAD_BYTES_MAX: usize = 3 * 10 + 2 * 5;

/// The answer to a get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The revision of the store that was read.
    pub revision: Revision,
    /// What was found; `None` if there is no such key.
    pub found: Option<Found>,
}

/// What a get found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The numbers that the store keeps with the key.
    pub state: KeyState,
    /// The value.
    pub value: Bytes,
}

#[derive(Serialize, Deserialize)]
struct ValueBody<'a> {
    revision: Revision,
    #[serde(borrow)]
    found: Option<FoundBody<'a>>,
}

#[derive(Serialize, Deserialize)]
struct FoundBody<'a> {
    state: KeyState,
    #[serde(borrow)]
    value: Raw<'a>,
}

/// Appends the answer to a get.
pub fn encode_value(
    out: &mut BytesMut,
    request_id: u64,
    revision: Revision,
    found: Option<(KeyState, &[u8])>,
) -> Result<(), FrameError> {
    let found = found.map(|(state, value)| FoundBody { state, value: Raw(value) });
    frame::encode_with(out, Kind::VALUE, request_id, FRAME_BYTES_MAX, |out| {
        codec::append(out, &ValueBody { revision, found });
    })
}

impl Message for Value {
    const KIND: Kind = Kind::VALUE;

    fn encode_body(&self, out: &mut BytesMut) {
        let found = self.found.as_ref();
        let found = found.map(|it| FoundBody { state: it.state, value: Raw(&it.value) });
        codec::append(out, &ValueBody { revision: self.revision, found });
    }

    fn decode_body(body: &Bytes) -> Result<Value, DecodeError> {
        let read: ValueBody<'_> = codec::exact("Value", body)?;
        let found =
            read.found.map(|found| Found { state: found.state, value: found.value.share(body) });
        Ok(Value { revision: read.revision, found })
    }
}

/// One part of the answer to a scan. All parts are of the same revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanChunk {
    /// Whether more parts follow, and why not.
    pub end: ChunkEnd,
    /// The revision of the store that was read.
    pub revision: Revision,
    /// How many keys there are, if that was all that was asked.
    pub count: Option<u64>,
    /// The keys of this part, in the order of the scan.
    pub entries: Vec<Entry>,
}

/// How a chunk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkEnd {
    /// Another chunk follows.
    Continues,
    /// The last chunk: there are no more keys in the selection.
    Complete,
    /// The last chunk: there are more keys, but the limit is reached.
    LimitReached,
}

/// A key with its value, or without it in a scan for keys only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value; empty if only keys were asked for.
    pub value: Bytes,
    /// The numbers that the store keeps with the key.
    pub state: KeyState,
}

/// What stands before the entries, which fill the rest of the frame.
///
/// `end` is one byte and comes first, because it is known only when the entries are written.
#[derive(Serialize, Deserialize)]
struct ChunkHead {
    end: ChunkEnd,
    revision: Revision,
    count: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct EntryBody<'a> {
    state: KeyState,
    #[serde(borrow)]
    key: Raw<'a>,
    #[serde(borrow)]
    value: Raw<'a>,
}

/// What [`encode_scan_chunk`] put into a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkProgress<'a> {
    /// How the chunk ends.
    pub end: ChunkEnd,
    /// How many entries it holds.
    pub entries: u64,
    /// The last key in it, behind which the next chunk begins.
    pub last_key: Option<&'a [u8]>,
}

/// Appends the next chunk of a scan: entries until the chunk is full, `limit` entries are written,
/// or there are no more. The server goes on behind `last_key`, with what is left of the limit,
/// once the client has taken this chunk off its hands.
pub fn encode_scan_chunk<'e>(
    out: &mut BytesMut,
    request_id: u64,
    revision: Revision,
    entries: impl Iterator<Item = EntryRef<'e>>,
    limit: Option<u64>,
) -> Result<ChunkProgress<'e>, FrameError> {
    let mut progress = ChunkProgress { end: ChunkEnd::Complete, entries: 0, last_key: None };
    let limit = limit.unwrap_or(u64::MAX);
    frame::encode_with(out, Kind::SCAN_CHUNK, request_id, FRAME_BYTES_MAX, |out| {
        let start = out.len();
        codec::append(out, &ChunkHead { end: ChunkEnd::Complete, revision, count: None });
        for EntryRef { key, value, state } in entries {
            let entry_bytes = key.len() + value.len() + ENTRY_OVERHEAD_BYTES_MAX;
            let chunk_bytes = frame::HEADER_BYTES + out.len() - start;
            if progress.entries == limit {
                progress.end = ChunkEnd::LimitReached;
                break;
            }
            if progress.entries > 0 && chunk_bytes + entry_bytes > SCAN_CHUNK_BYTES_MAX {
                progress.end = ChunkEnd::Continues;
                break;
            }
            codec::append(out, &EntryBody { state, key: Raw(key), value: Raw(value) });
            progress.entries += 1;
            progress.last_key = Some(key);
        }
        if let Some(end) = out.get_mut(start) {
            *end = progress.end as u8;
        }
    })?;
    Ok(progress)
}

/// Appends the whole answer to a scan that only counts.
pub fn encode_scan_count(
    out: &mut BytesMut,
    request_id: u64,
    revision: Revision,
    count: u64,
) -> Result<(), FrameError> {
    let head = ChunkHead { end: ChunkEnd::Complete, revision, count: Some(count) };
    frame::encode_with(out, Kind::SCAN_CHUNK, request_id, FRAME_BYTES_MAX, |out| {
        codec::append(out, &head);
    })
}

impl Message for ScanChunk {
    const KIND: Kind = Kind::SCAN_CHUNK;

    fn encode_body(&self, out: &mut BytesMut) {
        let ScanChunk { end, revision, count, .. } = *self;
        codec::append(out, &ChunkHead { end, revision, count });
        for Entry { key, value, state } in &self.entries {
            codec::append(out, &EntryBody { state: *state, key: Raw(key), value: Raw(value) });
        }
    }

    fn decode_body(body: &Bytes) -> Result<ScanChunk, DecodeError> {
        let (head, mut rest): (ChunkHead, _) = codec::take("ScanChunk", body)?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (entry, after): (EntryBody<'_>, _) = codec::take("ScanChunk", rest)?;
            let (key, value) = (entry.key.share(body), entry.value.share(body));
            entries.push(Entry { key, value, state: entry.state });
            rest = after;
        }
        Ok(ScanChunk { end: head.end, revision: head.revision, count: head.count, entries })
    }
}
