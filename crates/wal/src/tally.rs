//! What the records of a segment amount to, counted in one way by the writer and by recovery.
//!
//! Because both count with the same code, recovery can compare a seal with what came before it,
//! and can make a rotten seal or link again, byte for byte.

use crate::entry::{Metadata, Position};
use crate::record::{Boundary, SEAL_RUNS_MAX, Seal};
use crate::terms::TermRuns;

/// The state of the log at some point in a segment.
///
/// Invariants: `start <= last`; `low` is at most one above `last.index`; `runs` are the terms of
/// the entries that this segment holds and that still count.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) boundary: Boundary,
    /// The lowest index for which this segment, of all up to it, holds the valid entry.
    pub(crate) low: u64,
    pub(crate) runs: TermRuns,
}

impl Tally {
    /// The state at the beginning of a segment, as its link tells it.
    pub(crate) fn begin(boundary: Boundary) -> Tally {
        let low = boundary.last.index.saturating_add(1);
        Tally { boundary, low, runs: TermRuns::default() }
    }

    /// Counts an entry in; `None` if its term falls or its index would not exist.
    pub(crate) fn entry(&mut self, term: u64) -> Option<Position> {
        let last = self.boundary.last;
        let position = Position { index: last.index.checked_add(1)?, term };
        if position.term < last.term {
            return None;
        }
        self.runs.push(position)?;
        self.boundary.last = position;
        Some(position)
    }

    /// Counts entries in, as [`entry`](Tally::entry) does, at the cost of their terms.
    pub(crate) fn entries(&mut self, terms: impl Iterator<Item = u64>) -> Option<()> {
        let mut counted = None;
        for term in terms {
            if counted == Some(term) {
                let index = &mut self.boundary.last.index;
                *index = index.checked_add(1)?;
            } else {
                self.entry(term)?;
                counted = Some(term);
            }
        }
        Some(())
    }

    pub(crate) fn metadata(&mut self, metadata: Metadata) {
        self.boundary.metadata = Some(metadata);
    }

    /// Cuts the entries above `keep`; `None` if that is not within the log.
    pub(crate) fn truncate(&mut self, keep: Position) -> Option<()> {
        let boundary = &mut self.boundary;
        let within = (boundary.start.index..=boundary.last.index).contains(&keep.index);
        if !within || keep.term > boundary.last.term {
            return None;
        }
        boundary.last = keep;
        self.runs.truncate_after(keep.index);
        // What this segment knows itself must agree.
        if self.runs.term(keep.index).is_some_and(|term| term != keep.term) {
            return None;
        }
        self.low = self.low.min(keep.index.checked_add(1)?);
        Some(())
    }

    /// Drops the entries up to `start`; `None` if that is not within the log, or if a segment that
    /// is said to be needed does not exist yet. `sequence` is the segment that says so.
    pub(crate) fn prefix(
        &mut self,
        start: Position,
        first_sequence: u64,
        sequence: u64,
    ) -> Option<()> {
        let boundary = &mut self.boundary;
        let within = (boundary.start.index..=boundary.last.index).contains(&start.index);
        let sequences = boundary.first_sequence..=sequence;
        if !within || !sequences.contains(&first_sequence) {
            return None;
        }
        boundary.start = start;
        boundary.first_sequence = first_sequence;
        self.runs.drop_through(start.index, boundary.last.index);
        Some(())
    }

    /// The seal that ends a segment in this state.
    pub(crate) fn seal(&self) -> Seal {
        let listed = self.runs.len() <= SEAL_RUNS_MAX;
        Seal {
            boundary: self.boundary,
            low: self.low,
            runs: listed.then(|| self.runs.iter().collect()),
        }
    }
}
