//! Reading old segments again while the log runs, so that rot is found while another copy of what
//! it took still exists.
//!
//! The work is handed out, like everything that takes long: a segment is read in full on whatever
//! thread its owner likes, from the medium and not from the cache, and the findings come back.

use std::sync::Arc;

use crate::entry::Position;
use crate::error::{Damage, Failure, ReadError};
use crate::scan::{Begin, Depth, Source, scan};
use crate::segment::segment_name;
use crate::wal::Wal;
use crate::window::Window;

/// One full segment to be read.
#[derive(Debug)]
pub struct Scrub {
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

    fn read(&self) -> Result<Vec<Position>, ReadError> {
        let source = &self.source;
        source
            .file
            .drop_cache()
            .map_err(|error| Failure::new("drop the cache of", &source.path, error))?;
        let mut window = Window::default();
        let until = Some(self.end);
        let corrupt = |offset, damage| {
            Err(ReadError::Corrupt { segment: source.path.to_string(), offset, damage })
        };
        match scan(source, &mut window, Begin::Link, until, Depth::Payloads) {
            Ok(scanned) if scanned.end == self.end => {
                Ok(scanned.damaged.into_iter().flat_map(|damaged| damaged.lost).collect())
            }
            Ok(scanned) => corrupt(scanned.end, Damage::BatchHeader),
            Err(broken) => corrupt(0, broken.damage),
        }
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
        let source = Source {
            sequence: segment.sequence,
            // Held open: what could not be opened again in the middle would look like damage.
            file: self.disk.hold(&segment_name(segment.sequence)).ok()?,
            path: Arc::clone(&segment.path),
            capacity: segment.capacity,
            seed: segment.seed.clone(),
        };
        Some(Scrub { source, end: segment.end })
    }

    /// Takes note of what was found, and returns the entries that are known as damaged only since.
    ///
    /// [`ReadError::Corrupt`] means that the segment's structure has rotted: the log goes on, but
    /// it would not open again. Entries that were cut or dropped meanwhile are not reported.
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
