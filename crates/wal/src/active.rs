//! The segment that is being written: where the next batch goes, and how it gets there.

use std::sync::Arc;

use crate::batch::{Before, Place, encode_batch, encode_control};
use crate::disk::File;
use crate::entry::Entry;
use crate::inventory::encode_link;
use crate::options::LogId;
use crate::record::{Boundary, Link, Row};
use crate::segment::{SEGMENT_HEADER_BYTES, Seed};
use crate::staged::Staged;
use crate::tally::Tally;

/// Kept free at the end of every segment: more than the largest seal takes.
pub(crate) const SEAL_RESERVE_BYTES: u64 = 1024;

/// The largest link.
pub(crate) const LINK_BYTES_MAX: u64 = 192;

/// A segment in use.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) sequence: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: Arc<str>,
    pub(crate) capacity: u64,
    pub(crate) seed: Seed,
    /// Where the next batch goes.
    pub(crate) end: u64,
    /// The crc of the batch before it.
    pub(crate) last_crc: u32,
    /// What everything written so far amounts to.
    pub(crate) tally: Tally,
    /// Where the predecessor's seal stands, while the link that repeats it is not written yet.
    pub(crate) unlinked: Option<(u64, u64)>,
    /// Whether everything written so far is durable.
    pub(crate) before: Before,
    /// The last batch is a close record.
    pub(crate) is_closed: bool,
}

impl Active {
    /// An empty segment behind a sealed one.
    pub(crate) fn unlinked(
        log_id: LogId,
        spare: Spare,
        boundary: Boundary,
        seal: (u64, u64),
        seal_crc: u32,
        before: Before,
    ) -> Active {
        Active {
            sequence: spare.sequence,
            file: spare.file,
            path: spare.path,
            capacity: spare.capacity,
            seed: Seed::new(log_id, spare.sequence),
            end: SEGMENT_HEADER_BYTES,
            last_crc: seal_crc,
            tally: Tally::begin(boundary),
            unlinked: Some(seal),
            before,
            is_closed: false,
        }
    }

    /// How many bytes a batch may take here.
    pub(crate) fn left(&self) -> u64 {
        let link = if self.unlinked.is_some() { LINK_BYTES_MAX } else { 0 };
        let taken = self.end.saturating_add(SEAL_RESERVE_BYTES).saturating_add(link);
        self.capacity.saturating_sub(taken)
    }

    fn place(&self, offset: u64) -> Place<'_> {
        let Active { seed, last_crc, before, .. } = self;
        Place { seed, offset, previous_crc: *last_crc, before: *before }
    }

    /// Encodes the link, if it is still missing, as a batch of its own: without payload and made
    /// only of what the seal says too, it can be made again if it rots.
    pub(crate) fn encode_link(&mut self, buffer: &mut Vec<u8>) {
        let Some((seal_offset, seal_end)) = self.unlinked.take() else { return };
        let link = Link { boundary: self.tally.boundary, seal_offset, seal_end };
        self.last_crc = encode_link(&self.seed, link, self.last_crc, self.before, buffer);
        // What follows in the same write goes to the medium together with the link.
        self.before = Before::Unsynced;
    }

    /// Encodes a batch without entries, behind what the buffer holds from `begin` on.
    pub(crate) fn encode_control(&mut self, row: &Row, buffer: &mut Vec<u8>, begin: usize) {
        let next_index = self.tally.boundary.last.index.saturating_add(1);
        let offset = self.offset_in(buffer, begin);
        self.last_crc = encode_control(buffer, self.place(offset), row, next_index);
    }

    /// Where in the file the end of the buffer will stand, if it is written from `begin` on.
    pub(crate) fn offset_in(&self, buffer: &[u8], begin: usize) -> u64 {
        self.end.saturating_add(buffer.len().saturating_sub(begin) as u64)
    }

    /// Encodes what is staged and counts it in. Returns the offset of the batch.
    pub(crate) fn encode_staged<'e>(
        &mut self,
        staged: &Staged,
        first_needed: u64,
        entries: impl Iterator<Item = &'e Entry> + Clone,
        buffer: &mut Vec<u8>,
    ) -> u64 {
        let begin = buffer.len();
        let mut rows = Vec::with_capacity(3);
        if let (Some(reset), Some((seal_offset, seal_end))) = (staged.reset, self.unlinked) {
            self.unlinked = None;
            let metadata = staged.metadata.or(self.tally.boundary.metadata);
            let first_sequence = self.sequence;
            let boundary = Boundary { start: reset, last: reset, first_sequence, metadata };
            self.tally = Tally::begin(boundary);
            rows.push(Row::Reset(Link { boundary, seal_offset, seal_end }));
        } else {
            self.encode_link(buffer);
        }
        if let Some(metadata) = staged.metadata {
            self.tally.metadata(metadata);
            rows.push(Row::Metadata(metadata));
        }
        let mut counted = Some(());
        if let Some(keep) = staged.truncate {
            counted = counted.and(self.tally.truncate(keep));
            rows.push(Row::Truncate(keep));
        }
        let first_index = self.tally.boundary.last.index.saturating_add(1);
        let terms = entries.clone().map(|entry| entry.term);
        counted = counted.and(self.tally.entries(terms));
        let prefix = staged.prefix.map(|start| {
            let first_sequence = first_needed.max(self.tally.boundary.first_sequence);
            counted = counted.and(self.tally.prefix(start, first_sequence, self.sequence));
            Row::Prefix { start, first_sequence }
        });
        assert!(counted.is_some(), "a staged batch does not continue the log it was staged for");
        let offset = self.offset_in(buffer, begin);
        let next_index = if entries.clone().next().is_some() {
            first_index
        } else {
            self.tally.boundary.last.index.saturating_add(1)
        };
        let last_rows = prefix.as_slice();
        let place = self.place(offset);
        self.last_crc = encode_batch(buffer, place, &rows, entries, last_rows, next_index);
        offset
    }

    /// Counts `bytes` of encoded batches as written, and as durable if a sync follows.
    pub(crate) fn advance(&mut self, bytes: usize, before: Before) {
        self.end = self.end.saturating_add(bytes as u64);
        self.before = before;
    }
}

/// A segment that is made and durable, and not in use yet.
#[derive(Clone, Debug)]
pub(crate) struct Spare {
    pub(crate) sequence: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: Arc<str>,
    pub(crate) capacity: u64,
}
