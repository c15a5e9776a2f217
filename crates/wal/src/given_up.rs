//! Which of the entries that can still be read a salvage would give up.

use std::ops::ControlFlow;

use crate::dump::{Item, Payload, Record};
use crate::entry::Position;
use crate::terms::TermRuns;

/// The entries of a log that can be read and that the log itself has neither cut nor dropped, as
/// far as what is left of it tells.
///
/// Invariant: rows ascend, do not overlap, and hold one term each.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    rows: Vec<EntryRange>,
    /// The last index that was dropped with a prefix.
    dropped: u64,
}

/// Entries without a gap, of one term.
#[derive(Clone, Copy, Debug)]
struct EntryRange {
    first: u64,
    last: u64,
    term: u64,
}

impl GivenUp {
    /// Takes in what a dump shows, in the order in which it was written.
    pub(crate) fn note(&mut self, item: &Item) -> ControlFlow<()> {
        match item {
            // A batch goes on where the log ended when it was written: if that is not behind
            // everything before it, it was cut, whether or not the record of that is still there.
            Item::Batch { first_index, .. }
            | Item::Broken { first_index: Some(first_index), .. } => self.cut_from(*first_index),
            Item::Record(Record::Entry { position, payload: Payload::Whole(_), .. }) => {
                self.add(*position);
            }
            Item::Record(Record::Link { start, .. } | Record::Prefix { start, .. }) => {
                self.dropped = start.index;
            }
            Item::Record(Record::Reset { position, .. }) => {
                self.rows.clear();
                self.dropped = position.index;
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn cut_from(&mut self, index: u64) {
        self.rows.retain(|row| row.first < index);
        if let Some(newest) = self.rows.last_mut() {
            newest.last = newest.last.min(index.saturating_sub(1));
        }
    }

    fn add(&mut self, position: Position) {
        let Position { index, term } = position;
        match self.rows.last_mut() {
            Some(row) if row.last.saturating_add(1) == index && row.term == term => {
                row.last = index;
            }
            _ => self.rows.push(EntryRange { first: index, last: index, term }),
        }
    }

    /// All but those that a log holds which begins after `start` and ends with `last`: the first
    /// and the last of each row.
    pub(crate) fn without(
        &self,
        start: Position,
        last: Position,
        runs: &TermRuns,
    ) -> Vec<(Position, Position)> {
        let runs: Vec<Position> = runs.iter().collect();
        let mut rows = Vec::new();
        for row in &self.rows {
            let row = EntryRange { first: row.first.max(self.dropped.saturating_add(1)), ..*row };
            let kept = runs.iter().position(|run| run.term == row.term).and_then(|number| {
                let next = runs.get(number.saturating_add(1));
                let end = next.map_or(last.index, |next| next.index.saturating_sub(1));
                let first = runs.get(number)?.index.max(start.index.saturating_add(1));
                (first <= end).then_some((first, end))
            });
            match kept {
                Some((first, end)) => {
                    join(
                        &mut rows,
                        EntryRange { last: row.last.min(first.saturating_sub(1)), ..row },
                    );
                    join(
                        &mut rows,
                        EntryRange { first: row.first.max(end.saturating_add(1)), ..row },
                    );
                }
                None => join(&mut rows, row),
            }
        }
        rows
    }
}

/// Adds a row, if there is anything in it, to the one that it continues.
fn join(rows: &mut Vec<(Position, Position)>, row: EntryRange) {
    if row.first > row.last {
        return;
    }
    let (first, last) = (Position::new(row.first, row.term), Position::new(row.last, row.term));
    match rows.last_mut() {
        Some((_, newest)) if newest.index.saturating_add(1) == row.first => *newest = last,
        _ => rows.push((first, last)),
    }
}
