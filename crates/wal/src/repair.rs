//! Putting payloads back that were lost, in their own places.
//!
//! The directory still says what each payload was, so only the very bytes that were written are
//! taken. Nothing around them changes: repair never cuts, moves or renumbers anything.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::padding;
use crate::disk::{File, uninterrupted, write_all_at};
use crate::entry::Position;
use crate::error::{Failure, RepairError, WalError};
use crate::index::Segment;
use crate::reader::{Chunk, Cursor};
use crate::record::{EntryRow, Row, Rows};
use crate::wal::Wal;

/// What the directory still says of an entry whose payload is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostPayload {
    /// Where the entry stands.
    pub position: Position,
    /// Its tag.
    pub tag: u8,
    /// The length of its payload.
    pub bytes: u32,
    /// CRC-32 of its payload.
    pub checksum: u32,
}

/// One file that repairs are written to, and what they put back there.
#[derive(Debug)]
struct Touched<'p> {
    file: Arc<dyn File>,
    path: Arc<str>,
    /// What is put back, by where it begins.
    payloads: BTreeMap<u64, PutBack<'p>>,
}

/// A payload that is put back.
#[derive(Debug)]
struct PutBack<'p> {
    position: Position,
    payload: &'p Bytes,
    /// How many bytes of padding follow: some, if it is the last of its batch.
    padding: usize,
}

impl Touched<'_> {
    /// Writes what stands back to back in one piece, padding included. A page that cannot be read
    /// takes all payloads in it along, and can be written over only as a whole: for a part of it
    /// the operating system has to read the rest first.
    fn write(&self) -> io::Result<()> {
        let mut run: Vec<u8> = Vec::new();
        let mut begin: u64 = 0;
        for (offset, PutBack { payload, padding: filled, .. }) in &self.payloads {
            if begin.saturating_add(run.len() as u64) != *offset {
                write_all_at(&*self.file, &run, begin)?;
                run.clear();
                begin = *offset;
            }
            run.extend_from_slice(payload);
            run.extend(padding(*filled));
        }
        write_all_at(&*self.file, &run, begin)?;
        uninterrupted(|| self.file.sync_data())
    }
}

/// Where a committed entry stands.
struct Found<'w> {
    segment: &'w Segment,
    row: EntryRow,
    /// Where its payload begins.
    offset: u64,
    /// How many bytes of padding follow, if its payload is the last of the batch.
    padding: usize,
}

impl Wal {
    /// What is known of a damaged entry: one of [`lost`](Wal::lost), or one that could not be
    /// [read](Wal::read) and counts as lost from now on.
    ///
    /// Fails with [`RepairError::NotLost`] if the log does not hold that entry on the medium.
    pub fn note_lost(&mut self, position: Position) -> Result<LostPayload, RepairError> {
        let row = self.find_row(position)?.row;
        self.lost.insert(position.index, position);
        let EntryRow { tag, length, checksum, .. } = row;
        Ok(LostPayload { position, tag, bytes: length, checksum })
    }

    /// Writes the payload of a damaged entry again, durable before this returns.
    ///
    /// Fails with [`RepairError::WrongPayload`] if it is not the one that was written.
    pub fn repair(&mut self, position: Position, payload: &Bytes) -> Result<(), RepairError> {
        self.repair_all([(position, payload)])
    }

    /// Writes the payloads of damaged entries again, all durable before this returns, with one
    /// sync for each segment.
    ///
    /// Fails, before anything is written, at the first that is not lost or not the one that was
    /// written.
    pub fn repair_all<'p>(
        &mut self,
        payloads: impl IntoIterator<Item = (Position, &'p Bytes)>,
    ) -> Result<(), RepairError> {
        if let Err(WalError::Poisoned(failure)) = self.check_poison() {
            return Err(RepairError::Poisoned(failure));
        }
        let mut touched: BTreeMap<u64, Touched<'p>> = BTreeMap::new();
        for (position, payload) in payloads {
            if self.lost.get(&position.index) != Some(&position) {
                return Err(RepairError::NotLost(position));
            }
            let Found { segment, row, offset, padding } = self.find_row(position)?;
            let is_same = payload.len() as u64 == u64::from(row.length)
                && crc32fast::hash(payload) == row.checksum;
            if !is_same {
                return Err(RepairError::WrongPayload(position));
            }
            let touched = touched.entry(segment.sequence).or_insert_with(|| Touched {
                file: Arc::clone(&segment.file),
                path: Arc::clone(&segment.path),
                payloads: BTreeMap::new(),
            });
            touched.payloads.insert(offset, PutBack { position, payload, padding });
        }
        for (sequence, touched) in touched {
            if let Err(error) = touched.write() {
                let failure = Failure::new("repair", &touched.path, error).of_segment(sequence);
                return Err(self.poisoned_by_repair(failure));
            }
            for PutBack { position, .. } in touched.payloads.into_values() {
                self.lost.remove(&position.index);
            }
        }
        Ok(())
    }

    fn poisoned_by_repair(&mut self, failure: Failure) -> RepairError {
        RepairError::Poisoned(self.poison.get_or_insert(failure).clone())
    }

    fn find_row(&self, position: Position) -> Result<Found<'_>, RepairError> {
        if position.index <= self.start.index || self.term(position.index) != Some(position.term) {
            return Err(RepairError::NotLost(position));
        }
        let Some(segment) = self.segments.find(position.index) else {
            return Err(RepairError::NotLost(position));
        };
        let mut chunk = Chunk::new(segment, 0);
        let (offset, last) = self.find_offset(segment, position.index)?;
        if position.index > last {
            return Err(RepairError::NotLost(position));
        }
        let mut cursor = Cursor::new(offset);
        loop {
            let header = cursor.enter(&mut chunk)?;
            let mut index = header.first_index;
            let mut at = cursor.payloads;
            let mut found = None;
            for row in Rows::new(&cursor.directory) {
                let Ok(Row::Entry(row)) = row else { continue };
                if index == position.index && row.term == position.term {
                    found = Some((row, at));
                }
                index = index.saturating_add(1);
                at = at.saturating_add(u64::from(row.length));
            }
            let batch_end = cursor.offset.saturating_add(u64::from(header.total_bytes));
            if let Some((row, offset)) = found {
                let is_last = offset.saturating_add(u64::from(row.length)) == at;
                let behind = if is_last { batch_end.saturating_sub(at) } else { 0 };
                let padding = usize::try_from(behind).unwrap_or(0);
                return Ok(Found { segment, row, offset, padding });
            }
            cursor.offset = batch_end;
        }
    }
}
