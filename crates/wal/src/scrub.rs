//! Reading old segments again while the log runs, so that rot is found while another copy of what
//! it took still exists.
//!
//! The work is handed out, like everything that takes long: a segment is read in full on whatever
//! thread its owner likes, from the medium and not from the cache, and the findings come back.

use std::sync::Arc;

use crate::entry::Position;
use crate::error::{Failure, ReadError};
use crate::pool::Pool;
use crate::reader::scan_to_end;
use crate::scan::{Depth, Source};
use crate::segment::segment_name;
use crate::wal::Wal;

/// One full segment to be read.
#[derive(Debug)]
pub struct Scrub {
    disk: Arc<Pool>,
    source: Source,
    end: u64,
}

/// A segment that was read, and what was found.
#[derive(Debug)]
pub struct Scrubbed {
    sequence: u64,
    found: Result<Vec<Position>, ReadError>,
}

impl Scrub {
    /// The number of the segment, to be handed to [`Wal::scrub`] for the next one.
    pub fn sequence(&self) -> u64 {
        self.source.sequence
    }

    /// Reads the segment.
    pub fn run(self) -> Scrubbed {
        Scrubbed { sequence: self.source.sequence, found: self.read() }
    }

    /// The file is opened by its name, since the log may hold one open that has lost its name, and
    /// stays open, so that nothing has to be opened again in the middle.
    fn read(&self) -> Result<Vec<Position>, ReadError> {
        let Source { sequence, path, .. } = &self.source;
        let failed = |operation, error| Failure::new(operation, path, error).of_segment(*sequence);
        let file = self.disk.open_anew(&segment_name(*sequence));
        let file = file.map_err(|error| failed("open", error))?;
        file.drop_cache().map_err(|error| failed("drop the cache of", error))?;
        let source = Source { file, ..self.source.clone() };
        let scanned = scan_to_end(&source, self.end, Depth::Payloads)?;
        Ok(scanned.damaged.into_iter().flat_map(|damaged| damaged.lost).collect())
    }
}

impl Wal {
    /// The oldest full segment with a number above `after`, to be read again; `None` if there is
    /// no other, and when the log is poisoned. Begin with zero.
    ///
    /// A segment whose seal a flush is about to write is not full yet: what is missing there would
    /// look like damage.
    pub fn scrub(&self, after: u64) -> Option<Scrub> {
        if self.poison.is_some() {
            return None;
        }
        let written_to = self.in_flight.as_ref().map(|in_flight| in_flight.first_sequence);
        let before = written_to.unwrap_or(self.active.sequence);
        let segment = self.segments.next_between(after, before)?;
        Some(Scrub { disk: Arc::clone(&self.disk), source: segment.source(), end: segment.end })
    }

    /// Takes note of what was found, and returns the entries that are known as damaged only since.
    ///
    /// [`ReadError::Corrupt`] means that the segment's structure has rotted: the log goes on, but
    /// it would not open again. [`ReadError::Io`] means that its structure could not be read: the
    /// file is gone, the medium refuses it, or the machine had nothing left to open it with.
    /// Entries that were cut or dropped meanwhile are not reported.
    pub fn finish_scrub(&mut self, scrubbed: Scrubbed) -> Result<Vec<Position>, ReadError> {
        let Scrubbed { sequence, found } = scrubbed;
        let is_held = |lost: &Position| {
            let holder = self.segments.find(lost.index).map(|segment| segment.sequence);
            holder == Some(sequence) && self.term(lost.index) == Some(lost.term)
        };
        let is_new = |lost: &Position| lost.index > self.start.index && is_held(lost);
        let found = match found {
            Ok(found) => found,
            // A segment that is gone meanwhile cannot be damaged.
            Err(_) if self.segments.get(sequence).is_none() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut lost: Vec<Position> = found.into_iter().filter(is_new).collect();
        lost.retain(|lost| !self.lost.contains_key(&lost.index));
        self.lost.extend(lost.iter().map(|lost| (lost.index, *lost)));
        Ok(lost)
    }
}
