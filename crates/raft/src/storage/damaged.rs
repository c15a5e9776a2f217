//! Damaged entries of the log on the disk: what is still known of them, putting them back, and
//! reading old segments again so that damage is found while others still have what it took.

use super::entry::kind_of;
use super::log_store::{LogError, LogStore};
use crate::node::{Entry, Fetch, Index, LostEntry, Position, Term};

/// What a fetch found.
#[derive(Debug)]
pub enum ReadBack {
    /// Entries, from the first one on that was asked for.
    Entries(Vec<Entry>),
    /// The first one that was asked for is damaged.
    Lost(LostEntry),
}

impl LogStore {
    /// Reads entries back for the node. Damage to a payload is an answer; everything else that
    /// goes wrong is not, and is never taken for the end of the log.
    ///
    /// # Errors
    /// The disk failed, or more than a payload is damaged.
    pub fn read(&mut self, fetch: &Fetch) -> Result<ReadBack, LogError> {
        match self.entries(fetch) {
            Err(LogError::Read(wal::ReadError::Lost { position, .. })) => {
                Ok(ReadBack::Lost(self.note_lost(position)?))
            }
            entries => Ok(ReadBack::Entries(entries.map_err(|error| self.suspect(error))?)),
        }
    }

    /// The entries that are known to be damaged, ascending.
    pub(super) fn lost_entries(&mut self) -> Result<Vec<LostEntry>, LogError> {
        let lost = self.wal.lost();
        lost.into_iter().map(|position| self.note_lost(position)).collect()
    }

    fn note_lost(&mut self, position: wal::Position) -> Result<LostEntry, LogError> {
        let lost = self.wal.note_lost(position);
        let lost = lost.map_err(|error| self.suspect(error.into()))?;
        let wal::LostPayload { tag, bytes, checksum, .. } = lost;
        let index = Index(position.index);
        let kind = kind_of(tag, index)?;
        let position = Position { index, term: Term(position.term) };
        Ok(LostEntry { position, kind, bytes: bytes.into(), checksum })
    }

    /// Whether any entry is known to be damaged.
    pub(super) fn is_damaged(&self) -> bool {
        !self.wal.lost().is_empty()
    }

    /// Puts damaged entries back in their own places, durable before this returns.
    pub(super) fn put_back(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        let payload = |entry: &Entry| wal::Position::new(entry.index.0, entry.term.0);
        let payloads = entries.iter().map(|entry| (payload(entry), &entry.payload.bytes));
        let repaired = self.wal.repair_all(payloads);
        repaired.map_err(|error| self.suspect(error.into()))
    }

    /// The next full segment to be read again, on whatever thread its owner likes. `None` when all
    /// were read; the next call begins with the oldest.
    pub fn scrub(&mut self) -> Option<wal::Scrub> {
        let scrub = self.wal.scrub(self.scrubbed);
        self.scrubbed = scrub.as_ref().map_or(0, wal::Scrub::sequence);
        scrub
    }

    /// Takes note of what was found, and returns the entries whose damage is news.
    ///
    /// A segment that the machine had no descriptor or memory left for was not looked at. Nothing
    /// is known of it then, and the next round reads it.
    ///
    /// # Errors
    /// More than payloads are damaged, or the segment could not be read.
    pub fn finish_scrub(&mut self, scrubbed: wal::Scrubbed) -> Result<Vec<LostEntry>, LogError> {
        let found = match self.wal.finish_scrub(scrubbed) {
            Err(wal::ReadError::Io(failure)) if failure.is_exhaustion() => return Ok(Vec::new()),
            found => found.map_err(|error| self.suspect(error.into()))?,
        };
        found.into_iter().map(|position| self.note_lost(position)).collect()
    }
}
