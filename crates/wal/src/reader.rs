//! Reading entries back: recent ones from memory, older ones from their segments.
//!
//! Every payload that comes from the medium is compared with its checksum, each time.

use bytes::Bytes;

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::disk::read_exact_at;
use crate::entry::{Entry, Position};
use crate::error::{Damage, Failure, ReadError};
use crate::index::Segment;
use crate::record::{Row, Rows};
use crate::scan::{Begin, Broken, Depth, Scan, Source, Stop, scan};
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::wal::Wal;
use crate::window::Window;

/// The least and the most that is read from a segment at once. Entries share the memory of the
/// piece that they were read in, so a small read must not hold on to a large piece.
const CHUNK_BYTES_MIN: u64 = 4 * 1024;
const CHUNK_BYTES_MAX: u64 = 256 * 1024;

/// The answer to a read, while it is put together.
#[derive(Debug)]
struct Collected {
    entries: Vec<Entry>,
    bytes: u64,
    bytes_max: u64,
    next: u64,
    to: u64,
    is_full: bool,
}

impl Collected {
    fn wants_more(&self) -> bool {
        !self.is_full && self.next <= self.to
    }

    /// Whether `bytes` more still belong to the answer; the first entry always does.
    fn admits(&mut self, bytes: u64) -> bool {
        let total = self.bytes.saturating_add(bytes);
        self.is_full = !self.entries.is_empty() && total > self.bytes_max;
        !self.is_full
    }

    fn take(&mut self, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.payload_bytes());
        self.next = entry.index.saturating_add(1);
        self.entries.push(entry);
    }
}

impl Wal {
    /// The entries `from..=to`, as many as fit into `bytes_max` of payload, but at least one.
    ///
    /// Staged entries are included. Entries before a damaged one are returned; asking for the
    /// damaged one itself is [`ReadError::Lost`].
    pub fn read(&self, from: u64, to: u64, bytes_max: u64) -> Result<Vec<Entry>, ReadError> {
        if from <= self.start.index {
            return Err(ReadError::Dropped { index: from, start: self.start.index });
        }
        let newest = from.max(to);
        if newest > self.last.index {
            return Err(ReadError::BeyondEnd { index: newest, last: self.last.index });
        }
        let mut collected =
            Collected { entries: Vec::new(), bytes: 0, bytes_max, next: from, to, is_full: false };
        let recent_first = self.recent.front().map_or(u64::MAX, |oldest| oldest.index);
        while collected.wants_more() && collected.next < recent_first {
            let through = to.min(recent_first.saturating_sub(1));
            let result = self.read_segment(&mut collected, through);
            match result {
                // What was read before the trouble is an answer; the trouble comes when its own
                // entry is asked for.
                Err(_) if !collected.entries.is_empty() => return Ok(collected.entries),
                result => result?,
            }
        }
        let skipped = collected.next.saturating_sub(recent_first);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.recent.len());
        for entry in self.recent.range(skipped..) {
            if !collected.wants_more() || !collected.admits(entry.payload_bytes()) {
                break;
            }
            collected.take(entry.clone());
        }
        Ok(collected.entries)
    }

    /// Reads on from one segment, as far as it goes.
    fn read_segment(&self, collected: &mut Collected, through: u64) -> Result<(), ReadError> {
        let first = collected.next;
        let segment = self.segments.find(first);
        assert!(segment.is_some(), "entry {first} is held but no segment covers it");
        let Some(segment) = segment else { return Ok(()) };
        let (begin, last) = self.find_offset(segment, first)?;
        let through = through.min(segment.last).min(last);
        let mut chunk = Chunk::new(segment, collected.bytes_max);
        let mut cursor = Cursor::new(segment.walked.resume(begin, first));
        while collected.wants_more() && collected.next <= through {
            let header = cursor.enter(&mut chunk)?;
            segment.walked.note(begin, header.first_index, cursor.offset);
            self.read_batch(&header, &cursor, &mut chunk, collected, through)?;
            cursor.offset = cursor.offset.saturating_add(u64::from(header.total_bytes));
        }
        Ok(())
    }

    fn read_batch(
        &self,
        header: &BatchHeader,
        cursor: &Cursor,
        chunk: &mut Chunk<'_>,
        collected: &mut Collected,
        through: u64,
    ) -> Result<(), ReadError> {
        let mut index = header.first_index;
        let mut at = cursor.payloads;
        for row in Rows::new(&cursor.directory) {
            let Ok(row) = row else {
                return Err(chunk.corrupt(cursor.offset, Damage::Malformed));
            };
            let Row::Entry(entry) = row else { continue };
            let length = u64::from(entry.length);
            if index == collected.next && index <= through {
                if !collected.admits(length) {
                    return Ok(());
                }
                let position = Position { index, term: entry.term };
                if self.lost.contains_key(&index) {
                    return Err(chunk.lost(position));
                }
                let payload = chunk.get(at, length)?;
                if crc32fast::hash(&payload) != entry.checksum {
                    return Err(chunk.lost(position));
                }
                let (term, tag, checksum) = (entry.term, entry.tag, entry.checksum);
                collected.take(Entry::with_checksum(index, term, tag, payload, checksum));
            }
            index = index.saturating_add(1);
            at = at.saturating_add(length);
        }
        Ok(())
    }

    /// Where to begin walking to find an entry, and how far that walk is the right one. Segments
    /// that were opened by their seals are scanned for this once.
    pub(crate) fn find_offset(
        &self,
        segment: &Segment,
        index: u64,
    ) -> Result<(u64, u64), ReadError> {
        let extents = match segment.extents.get() {
            Some(extents) => extents,
            None => {
                let scanned = scan_to_end(&segment.source(), segment.end, Depth::Directories)?;
                segment.extents.get_or_init(|| scanned.extents)
            }
        };
        let damage = Damage::Malformed;
        let (segment, sequence, offset) = (segment.path.to_string(), segment.sequence, 0);
        extents.find(index).ok_or(ReadError::Corrupt { segment, sequence, offset, damage })
    }
}

/// Reads a segment whose last batch is known to end at `end`.
///
/// What cannot be read is not called damaged: a machine without descriptors or memory, or a medium
/// that fails for a moment, says nothing about the bytes.
pub(crate) fn scan_to_end(source: &Source, end: u64, depth: Depth) -> Result<Scan, ReadError> {
    let scanned = scan(source, &mut Window::default(), Begin::Link, Some(end), depth);
    let (offset, broken) = match scanned {
        Ok(scanned) if scanned.end == end => return Ok(scanned),
        Ok(Scan { end, stop: Stop::Broken(broken), .. }) => (end, broken),
        // Nothing but zeros, or another batch than the last one that stood here.
        Ok(Scan { end, .. }) => (end, Broken::at(Damage::BatchHeader)),
        Err(broken) => (SEGMENT_HEADER_BYTES, broken),
    };
    match broken {
        Broken { damage: Damage::Unreadable, unreadable: Some(failure), .. } => {
            Err(ReadError::Io(failure))
        }
        Broken { damage, .. } => {
            let (segment, sequence) = (source.path.to_string(), source.sequence);
            Err(ReadError::Corrupt { segment, sequence, offset, damage })
        }
    }
}

/// A place in a segment: a batch, its directory, and where its payloads begin.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) offset: u64,
    pub(crate) directory: Bytes,
    pub(crate) payloads: u64,
}

impl Cursor {
    pub(crate) fn new(offset: u64) -> Cursor {
        Cursor { offset, directory: Bytes::new(), payloads: 0 }
    }

    /// Reads header and directory of the batch at the cursor.
    pub(crate) fn enter(&mut self, chunk: &mut Chunk<'_>) -> Result<BatchHeader, ReadError> {
        let offset = self.offset;
        let bytes = chunk.get(offset, BATCH_HEADER_BYTES)?;
        let room = chunk.segment.end.saturating_sub(offset);
        let header = BatchHeader::decode(&bytes, &chunk.segment.seed, offset, room)
            .ok_or_else(|| chunk.corrupt(offset, Damage::BatchHeader))?;
        let at = offset.saturating_add(BATCH_HEADER_BYTES);
        let length = u64::from(header.directory_bytes);
        self.directory = chunk.get(at, length)?;
        if crc32fast::hash(&self.directory) != header.directory_crc {
            return Err(chunk.corrupt(offset, Damage::Directory));
        }
        self.payloads = at.saturating_add(length);
        Ok(header)
    }
}

/// A piece of a segment in memory, replaced by the next one as reading goes on.
#[derive(Debug)]
pub(crate) struct Chunk<'s> {
    segment: &'s Segment,
    begin: u64,
    bytes: Bytes,
    ahead: u64,
}

impl<'s> Chunk<'s> {
    pub(crate) fn new(segment: &'s Segment, bytes_max: u64) -> Chunk<'s> {
        let ahead = bytes_max.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        Chunk { segment, begin: 0, bytes: Bytes::new(), ahead }
    }

    fn get(&mut self, offset: u64, length: u64) -> Result<Bytes, ReadError> {
        let held = self.begin.saturating_add(self.bytes.len() as u64);
        let after = offset.saturating_add(length);
        if after > self.segment.end {
            return Err(self.corrupt(offset, Damage::BatchHeader));
        }
        if offset < self.begin || after > held {
            let left = self.segment.end.saturating_sub(offset);
            let wanted = self.ahead.max(length).min(left);
            // A piece that cannot be read as a whole may hold what is wanted all the same.
            self.fill(offset, wanted).or_else(|_| self.fill(offset, length))?;
        }
        let from = usize::try_from(offset.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(self.bytes.slice(from..from.saturating_add(length)))
    }

    fn fill(&mut self, offset: u64, length: u64) -> Result<(), ReadError> {
        let Segment { path, sequence, .. } = self.segment;
        let failed = |error| Failure::new("read", path, error).of_segment(*sequence);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut buffer = vec![0; length];
        read_exact_at(&*self.segment.file, &mut buffer, offset).map_err(failed)?;
        self.begin = offset;
        self.bytes = buffer.into();
        Ok(())
    }

    fn corrupt(&self, offset: u64, damage: Damage) -> ReadError {
        let (segment, sequence) = (self.segment.path.to_string(), self.segment.sequence);
        ReadError::Corrupt { segment, sequence, offset, damage }
    }

    fn lost(&self, position: Position) -> ReadError {
        let (segment, sequence) = (self.segment.path.to_string(), self.segment.sequence);
        ReadError::Lost { position, segment, sequence }
    }
}
