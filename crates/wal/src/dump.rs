//! Every record of a log in the order in which it was written, broken places included.
//!
//! A dump judges nothing and follows no chain: it reads batch after batch, and after a broken
//! place goes on at the next header that is whole.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader, Before};
use crate::entry::{Metadata, Position};
use crate::error::{Damage, OpenError};
use crate::inspect::Inspector;
use crate::inventory::take_inventory;
use crate::record::{Boundary, EntryRow, Link, Row, Rows, Seal};
use crate::scan::{Source, read_directory};
use crate::search::search;
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::window::Window;

/// Something that a dump comes across.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A segment file begins.
    Segment {
        /// Its number.
        sequence: u64,
        /// Where it is.
        path: String,
        /// What makes it unreadable as a whole; then nothing of it follows.
        problem: Option<Damage>,
    },
    /// Segment files that are not there, between two that are.
    Missing {
        /// The number of the first of them.
        first: u64,
        /// The number of the last of them.
        last: u64,
    },
    /// A batch begins; its records follow.
    Batch {
        /// Where in the segment.
        offset: u64,
        /// How long it is.
        bytes: u64,
        /// The first index in it, or the next one if it holds no entry.
        first_index: u64,
        /// Everything before it was synced when it was written.
        claims_synced: bool,
    },
    /// A record of the batch.
    Record(Record),
    /// Something that is not a batch stands where one should begin.
    Broken {
        /// Where in the segment.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
        /// How far it is to the next whole header, or to the last byte that is not zero.
        bytes: u64,
        /// The first index in it, or the next one if it holds no entry, if its header is whole.
        first_index: Option<u64>,
    },
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Ties the segment to the one before.
    Link {
        /// The position before the first entry of the log.
        start: Position,
        /// The last entry before this segment.
        last: Position,
        /// The oldest segment that was needed.
        first_sequence: u64,
        /// The metadata at that time.
        metadata: Option<Metadata>,
    },
    /// The log was emptied; it goes on after this position.
    Reset {
        /// The position.
        position: Position,
        /// The metadata at that time.
        metadata: Option<Metadata>,
    },
    /// New metadata.
    Metadata(Metadata),
    /// Entries above this position were cut.
    Truncate(Position),
    /// An entry.
    Entry {
        /// Its place.
        position: Position,
        /// Its tag.
        tag: u8,
        /// Where its payload begins in the segment.
        offset: u64,
        /// The length of its payload.
        bytes: u64,
        /// The CRC-32 of its payload.
        checksum: u32,
        /// The payload, if it is as it was written.
        payload: Payload,
    },
    /// Entries up to this position were dropped.
    Prefix {
        /// The position.
        start: Position,
        /// The oldest segment that is needed since.
        first_sequence: u64,
    },
    /// The segment is full.
    Seal {
        /// The last entry in it.
        last: Position,
        /// How many terms it holds, if that is listed.
        terms: Option<u64>,
    },
    /// The owner closed the log.
    Close,
}

/// The condition of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// As it was written.
    Whole(Bytes),
    /// Its checksum does not match.
    Damaged,
    /// The medium refused to read it.
    Unreadable,
}

impl Inspector {
    /// Shows every segment, batch and record to `visit`, oldest first, until it has seen enough.
    ///
    /// Memory holds one batch's directory and one payload at a time. Where a salvage was
    /// interrupted, it is the log as it was before.
    pub fn dump(&self, mut visit: impl FnMut(Item) -> ControlFlow<()>) -> Result<(), OpenError> {
        let mut window = Window::default();
        let original = self.original()?;
        let no_log = || OpenError::NoLog { path: self.disk.path("") };
        let mut expected = None;
        for head in take_inventory(&*original, &mut window)?.ok_or_else(no_log)?.heads {
            let source = head.source;
            let (path, sequence) = (source.path.to_string(), source.sequence);
            let missing = expected.filter(|first| *first < sequence);
            expected = Some(sequence.saturating_add(1));
            let mut flow = match missing {
                Some(first) => visit(Item::Missing { first, last: sequence.saturating_sub(1) }),
                None => ControlFlow::Continue(()),
            };
            if flow.is_continue() {
                flow = visit(Item::Segment { sequence, path, problem: head.problem });
            }
            if flow.is_continue() && head.problem.is_none() {
                flow = dump_segment(&source, &mut window, &mut visit);
            }
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn dump_segment(
    source: &Source,
    window: &mut Window,
    visit: &mut impl FnMut(Item) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < source.capacity {
        let mut flow = ControlFlow::Continue(());
        let mut guarded = |item| {
            flow = visit(item);
            flow
        };
        let dumped = dump_batch(source, window, offset, &mut guarded);
        flow?;
        let damage = match dumped {
            Ok(end) => {
                offset = end;
                continue;
            }
            Err(damage) => damage,
        };
        let found = search(source, window, offset);
        let next = found.beyond.map(|(next, _)| next);
        let end = next.unwrap_or(found.dirty_end);
        if end > offset {
            let bytes = end.saturating_sub(offset);
            let first_index = header(source, window, offset).map(|header| header.first_index);
            visit(Item::Broken { offset, damage, bytes, first_index })?;
        }
        match next {
            Some(next) => offset = next,
            None => break,
        }
    }
    ControlFlow::Continue(())
}

/// The header at an offset, if a whole one stands there.
fn header(source: &Source, window: &mut Window, offset: u64) -> Option<BatchHeader> {
    let room = source.capacity.saturating_sub(offset);
    let bytes = source.view(window, offset, BATCH_HEADER_BYTES).ok()?;
    BatchHeader::decode(bytes, &source.seed, offset, room)
}

/// Shows one batch, unless `visit` has seen enough, and returns where it ends.
fn dump_batch(
    source: &Source,
    window: &mut Window,
    offset: u64,
    visit: &mut impl FnMut(Item) -> ControlFlow<()>,
) -> Result<u64, Damage> {
    let room = source.capacity.saturating_sub(offset);
    let bytes = source.view(window, offset, BATCH_HEADER_BYTES).map_err(|_| Damage::Unreadable)?;
    let header =
        BatchHeader::decode(bytes, &source.seed, offset, room).ok_or(Damage::BatchHeader)?;
    let directory =
        read_directory(source, window, offset, &header).map_err(|broken| broken.damage)?;
    let directory = directory.to_vec();
    let end = offset.saturating_add(u64::from(header.total_bytes));
    let batch = Item::Batch {
        offset,
        bytes: u64::from(header.total_bytes),
        first_index: header.first_index,
        claims_synced: header.before == Before::Synced,
    };
    if visit(batch).is_break() {
        return Ok(end);
    }
    let mut index = header.first_index;
    let mut at =
        offset.saturating_add(BATCH_HEADER_BYTES).saturating_add(u64::from(header.directory_bytes));
    for row in Rows::new(&directory) {
        let row = row.map_err(|_| Damage::Malformed)?;
        let record = record(row, |row| {
            let entry = entry(source, window, &row, index, at);
            index = index.saturating_add(1);
            at = at.saturating_add(u64::from(row.length));
            entry
        });
        if visit(Item::Record(record)).is_break() {
            break;
        }
    }
    Ok(end)
}

fn entry(source: &Source, window: &mut Window, row: &EntryRow, index: u64, offset: u64) -> Record {
    let bytes = u64::from(row.length);
    let payload = match source.view(window, offset, bytes) {
        Ok(payload) if crc32fast::hash(payload) == row.checksum => {
            Payload::Whole(Bytes::copy_from_slice(payload))
        }
        Ok(_) => Payload::Damaged,
        Err(_) => Payload::Unreadable,
    };
    let position = Position { index, term: row.term };
    Record::Entry { position, tag: row.tag, offset, bytes, checksum: row.checksum, payload }
}

/// What a row says; what it says of an entry stands partly elsewhere, where `entry` finds it.
fn record(row: Row, entry: impl FnOnce(EntryRow) -> Record) -> Record {
    match row {
        Row::Entry(row) => entry(row),
        Row::Link(Link { boundary, .. }) => {
            let Boundary { start, last, first_sequence, metadata } = boundary;
            Record::Link { start, last, first_sequence, metadata }
        }
        Row::Reset(Link { boundary, .. }) => {
            Record::Reset { position: boundary.last, metadata: boundary.metadata }
        }
        Row::Metadata(metadata) => Record::Metadata(metadata),
        Row::Truncate(position) => Record::Truncate(position),
        Row::Prefix { start, first_sequence } => Record::Prefix { start, first_sequence },
        Row::Seal(Seal { boundary, runs, .. }) => {
            Record::Seal { last: boundary.last, terms: runs.map(|runs| runs.len() as u64) }
        }
        Row::Close => Record::Close,
    }
}
