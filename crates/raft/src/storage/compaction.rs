//! The beginning of the log: what a snapshot stands for goes, or all of it where a snapshot takes
//! its place.

use super::entry::{from_position, to_position};
use super::hard_state::encode_hard_state;
use super::log_store::{LogError, LogStore};
use crate::node::{HardState, Index, Position};

impl LogStore {
    /// The position before the first entry.
    pub(super) fn start(&self) -> Position {
        from_position(self.wal.log_start())
    }

    /// The last entry.
    pub(super) fn last(&self) -> Position {
        from_position(self.wal.last())
    }

    /// Whether the log holds that very entry, or starts behind it.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.wal.term(position.index.0) == Some(position.term.0)
    }

    /// Empties the log, durably; it goes on after `position`, which a snapshot stands for.
    pub(super) fn reset(&mut self, position: Position) -> Result<(), LogError> {
        let hard_state = self.hard_state()?;
        // The snapshot may have come with a term whose record did not reach the disk in time.
        let promise = match hard_state.term < position.term {
            true => HardState { term: position.term, vote: None },
            false => hard_state,
        };
        self.wal.stage(wal::Append::<[wal::Entry; 0]> {
            metadata: Some(encode_hard_state(promise)?),
            reset: Some(to_position(position)),
            truncate_after: None,
            entries: [],
        })?;
        self.wal.commit()?;
        self.make_successor()
    }

    /// Lets go of the entries up to `index`. Their segments go after the next
    /// [`complete`](Self::complete). On a disk too full to note that, they stay until next time.
    ///
    /// # Errors
    /// An earlier write failed.
    pub fn compact(&mut self, index: Index) -> Result<(), LogError> {
        match self.wal.drop_prefix(index.0) {
            Err(wal::WalError::NoSpace { .. } | wal::WalError::Job(_)) => Ok(()),
            result => {
                self.compacted = result.is_ok();
                result?;
                Ok(())
            }
        }
    }

    /// Whether the log can be emptied now: that takes a fresh segment.
    pub(crate) fn has_room_to_reset(&self) -> bool {
        self.wal.has_fresh_segment()
    }
}
