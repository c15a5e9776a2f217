//! Putting a payload back that was lost, in its own place.
//!
//! The directory still says what the payload was, so only the very bytes that were written are
//! taken. Nothing around them changes: repair never cuts, moves or renumbers anything.

use bytes::Bytes;

use crate::disk::{uninterrupted, write_all_at};
use crate::entry::Position;
use crate::error::{Failure, RepairError, WalError};
use crate::reader::{Chunk, Cursor};
use crate::record::{EntryRow, Row, Rows};
use crate::wal::Wal;

impl Wal {
    /// Writes the payload of a damaged entry again, durable before this returns.
    ///
    /// Fails with [`RepairError::WrongPayload`] if it is not the one that was written.
    pub fn repair(&mut self, position: Position, payload: &Bytes) -> Result<(), RepairError> {
        if let Err(WalError::Poisoned(failure)) = self.check_poison() {
            return Err(RepairError::Poisoned(failure));
        }
        if self.lost.get(&position.index) != Some(&position) {
            return Err(RepairError::NotLost(position));
        }
        let Some(segment) = self.segments.find(position.index) else {
            return Err(RepairError::NotLost(position));
        };
        let (row, offset) = self.find_row(position)?;
        let is_same = payload.len() as u64 == u64::from(row.length)
            && crc32fast::hash(payload) == row.checksum;
        if !is_same {
            return Err(RepairError::WrongPayload(position));
        }
        let written = write_all_at(&*segment.file, payload, offset)
            .and_then(|()| uninterrupted(|| segment.file.sync_data()));
        if let Err(error) = written {
            let failure = Failure::new("repair", &segment.path, error);
            let failure = self.poison.get_or_insert(failure).clone();
            return Err(RepairError::Poisoned(failure));
        }
        self.lost.remove(&position.index);
        Ok(())
    }

    /// The row of a committed entry, and where its payload begins.
    fn find_row(&self, position: Position) -> Result<(EntryRow, u64), RepairError> {
        let Some(segment) = self.segments.find(position.index) else {
            return Err(RepairError::NotLost(position));
        };
        let mut chunk = Chunk::new(segment, 0);
        let (offset, _) = self.find_offset(segment, position.index)?;
        let mut cursor = Cursor::new(offset);
        loop {
            let header = cursor.enter(&mut chunk)?;
            let mut index = header.first_index;
            let mut at = cursor.payloads;
            for row in Rows::new(&cursor.directory) {
                let Ok(Row::Entry(row)) = row else { continue };
                if index == position.index && row.term == position.term {
                    return Ok((row, at));
                }
                index = index.saturating_add(1);
                at = at.saturating_add(u64::from(row.length));
            }
            cursor.offset = cursor.offset.saturating_add(u64::from(header.total_bytes));
        }
    }
}
