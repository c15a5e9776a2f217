//! The node's view of the log: the term of every entry, and the entries themselves as far back as
//! memory allows. Older entries are asked for with a fetch.

use std::collections::VecDeque;

use super::entries::Entries;
use super::types::{Entry, Index, Position, Term};

/// Invariants, asserted where they could break:
/// - indexes are contiguous from `start.index + 1` to `last`, terms never fall;
/// - `runs` names the first index of each term, ascending, and covers every entry;
/// - `window` holds a suffix of the log: if it is not empty, its last entry is the log's last;
/// - none of the batches in `window` is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Log {
    /// The position before the first entry that still exists.
    start: Position,
    /// The first position of each run of equal terms.
    runs: Vec<Position>,
    /// The end of the log; `start` when it is empty.
    last: Position,
    /// The recent entries, in the batches in which they came.
    window: VecDeque<Entries>,
    /// What the window's entries count for.
    window_bytes: u64,
}

impl Log {
    /// The log as storage found it. `runs` and `recent` must agree; see [`Log::check`].
    pub(super) fn restore(
        start: Position,
        runs: Vec<Position>,
        last: Position,
        recent: Vec<Entry>,
    ) -> Self {
        let window_bytes = recent.iter().map(Entry::bytes).sum();
        let window = Some(Entries::from(recent)).filter(|recent| !recent.is_empty());
        Self { start, runs, last, window: window.into_iter().collect(), window_bytes }
    }

    /// Whether the invariants hold, for a log that comes from outside; says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut previous = self.start;
        for (number, run) in self.runs.iter().enumerate() {
            let follows = run.index > previous.index && run.term > previous.term
                || number == 0 && run.index == self.start.index.next();
            if !follows || run.term < previous.term {
                return Err(format!("the run of term {} cannot follow {previous}", run.term));
            }
            previous = *run;
        }
        match self.runs.first() {
            None if self.last != self.start => {
                return Err(format!("the log ends at {} but has no entries", self.last));
            }
            Some(run) if run.index != self.start.index.next() => {
                return Err(format!("the log starts at {} but its entries at {run}", self.start));
            }
            _ => {}
        }
        if previous.term != self.last.term || previous.index > self.last.index {
            return Err(format!("the log ends at {} but its last run is {previous}", self.last));
        }
        let recent = self.window.iter().map(|batch| batch.len() as u64).sum::<u64>();
        let mut expected = Index(self.last.index.0.saturating_sub(recent));
        for entry in self.window.iter().flatten() {
            expected = expected.next();
            if entry.index != expected || self.term(entry.index) != Some(entry.term) {
                return Err(format!("entry {} does not belong at {expected}", entry.position()));
            }
        }
        Ok(())
    }

    pub(super) fn start(&self) -> Position {
        self.start
    }

    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// The first index that is in memory; one past the end when nothing is.
    pub(super) fn window_first(&self) -> Index {
        let oldest = self.window.front().and_then(|batch| batch.first());
        oldest.map_or(self.last.index.next(), |entry| entry.index)
    }

    /// The term of the entry at `index`; also of the position before the first one.
    pub(super) fn term(&self, index: Index) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.start.index || index > self.last.index {
            return None;
        }
        let run = self.runs.partition_point(|run| run.index <= index).checked_sub(1)?;
        self.runs.get(run).map(|run| run.term)
    }

    /// Whether this log holds that very entry.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.term(position.index) == Some(position.term)
    }

    /// The highest position at or below `index` whose term is at most `term`. Where two logs
    /// differ at `index`, nothing above it can be common to both: the other side's entry there
    /// has `term`, and terms never fall along a log.
    pub(super) fn highest_with_term_at_most(&self, index: Index, term: Term) -> Position {
        let limit = index.min(self.last.index);
        let below = self.runs.partition_point(|run| run.term <= term);
        // Everything before the first run of a later term has a term of at most `term`.
        let end = self.runs.get(below).map_or(self.last.index, |run| run.index.previous());
        let index = limit.min(end).max(self.start.index);
        Position { index, term: self.term(index).unwrap_or(self.start.term) }
    }

    pub(super) fn append(&mut self, entries: Entries) {
        for entry in &entries {
            assert!(
                entry.index == self.last.index.next() && entry.term >= self.last.term,
                "an entry follows the end of the log in index and term: {} after {}",
                entry.position(),
                self.last
            );
            if self.runs.last().is_none_or(|run| run.term != entry.term) {
                self.runs.push(entry.position());
            }
            self.last = entry.position();
        }
        self.window_bytes += entries.bytes();
        if !entries.is_empty() {
            self.window.push_back(entries);
        }
    }

    /// Removes everything above `index`.
    pub(super) fn truncate_after(&mut self, index: Index) {
        assert!(
            index >= self.start.index && index <= self.last.index,
            "a truncation to {index} lies within the log, {} to {}",
            self.start,
            self.last
        );
        let Some(term) = self.term(index) else { return };
        while self.runs.last().is_some_and(|run| run.index > index) {
            self.runs.pop();
        }
        while let Some(newest) = self.window.back_mut()
            && newest.last().is_some_and(|entry| entry.index > index)
        {
            self.window_bytes -= newest.bytes();
            newest.truncate(newest.partition_point(|entry| entry.index <= index));
            self.window_bytes += newest.bytes();
            self.window.pop_back_if(|batch| batch.is_empty());
        }
        self.last = Position { index, term };
    }

    /// Lets go of everything up to `index`, which a snapshot stands for.
    pub(super) fn compact(&mut self, index: Index) {
        let term = self.term(index);
        assert!(
            index >= self.start.index && term.is_some(),
            "only what exists is compacted, not {index} of {} to {}",
            self.start,
            self.last
        );
        let Some(term) = term else { return };
        self.start = Position { index, term };
        let gone = self.runs.partition_point(|run| run.index <= index);
        // The run that `index` stands in goes on behind it, if there is anything behind it.
        let goes_on = gone > 0
            && index < self.last.index
            && self.runs.get(gone).is_none_or(|next| next.index > index.next());
        self.runs.drain(..gone);
        if goes_on {
            self.runs.insert(0, Position { index: index.next(), term });
        }
        while self.window_first() <= index && self.forget_oldest() {}
    }

    /// Forgets the oldest entry in memory; false if there is none.
    fn forget_oldest(&mut self) -> bool {
        let Some(batch) = self.window.front_mut() else { return false };
        self.window_bytes -= batch.first().map_or(0, Entry::bytes);
        batch.skip_first(1);
        self.window.pop_front_if(|batch| batch.is_empty());
        true
    }

    /// Lets go of everything. The log goes on after `position`.
    pub(super) fn reset(&mut self, position: Position) {
        *self = Self::restore(position, Vec::new(), position, Vec::new());
    }

    /// Entries from `from` to `to` as far as `bytes_max` allows, at least one. `None` when the
    /// first of them is no longer in memory. Those that came in one batch are shared; only where
    /// batches meet are entries copied.
    pub(super) fn slice(&self, from: Index, to: Index, bytes_max: u64) -> Option<Entries> {
        if from > to {
            return Some(Entries::default());
        }
        if from < self.window_first() {
            return None;
        }
        let is_before = |batch: &Entries| batch.last().is_none_or(|last| last.index < from);
        let batches = self.window.range(self.window.partition_point(is_before)..);
        let mut left = Some(bytes_max);
        let mut parts = batches.map_while(|batch| {
            let mut part = batch.clone();
            if part.first().is_some_and(|first| first.index < from) {
                part.skip_first(batch.partition_point(|entry| entry.index < from));
            }
            if part.last().is_some_and(|last| last.index > to) {
                part.truncate(part.partition_point(|entry| entry.index <= to));
            }
            if left.is_none_or(|left| left < part.bytes()) {
                let fits = |entry: &&Entry| {
                    left = left.and_then(|left| left.checked_sub(entry.bytes()));
                    left.is_some() || entry.index == from
                };
                part.truncate(part.iter().take_while(fits).count());
            } else {
                left = left.map(|left| left - part.bytes());
            }
            (!part.is_empty()).then_some(part)
        });
        let first = parts.next().unwrap_or_default();
        let second = parts.next();
        let Some(second) = second else { return Some(first) };
        let mut entries = Vec::with_capacity(first.len() + second.len());
        entries.extend_from_slice(&first);
        entries.extend_from_slice(&second);
        parts.for_each(|part| entries.extend_from_slice(&part));
        Some(entries.into())
    }

    /// Forgets the oldest entries in memory while they count for more than `bytes_max`, but none
    /// above `limit`: those are not durable yet, so nobody else could give them back.
    pub(super) fn evict(&mut self, bytes_max: u64, limit: Index) {
        while let Some(over) = self.window_bytes.checked_sub(bytes_max).filter(|over| *over > 0) {
            let Some(oldest) = self.window.front_mut() else { return };
            let before = oldest.bytes();
            let may_go = oldest.last().is_some_and(|last| last.index <= limit);
            if may_go && before <= over {
                oldest.truncate(0);
            } else {
                let mut freed = 0;
                let goes = |entry: &&Entry| {
                    let goes = freed < over && entry.index <= limit;
                    freed += entry.bytes();
                    goes
                };
                oldest.skip_first(oldest.iter().take_while(goes).count());
            }
            let freed = before - oldest.bytes();
            self.window_bytes -= freed;
            self.window.pop_front_if(|batch| batch.is_empty());
            if freed == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::{EntryKind, Payload};

    /// A log whose entries, from index 1, have these terms.
    fn log_of(terms: &[u64]) -> Log {
        let mut log =
            Log::restore(Position::default(), Vec::new(), Position::default(), Vec::new());
        for (offset, &term) in terms.iter().enumerate() {
            let entry = Entry {
                index: Index(offset as u64 + 1),
                term: Term(term),
                kind: EntryKind::Command,
                payload: Payload::new(vec![b'x'; 10]),
            };
            log.append(entry.into());
        }
        log
    }

    #[test]
    fn terms_are_found_after_appends_and_truncations() {
        let mut log = log_of(&[1, 1, 3, 3, 3, 6]);
        log.truncate_after(Index(4));
        let terms: Vec<_> = (0..6).map(|index| log.term(Index(index)).map(|term| term.0)).collect();
        assert_eq!(terms, [Some(0), Some(1), Some(1), Some(3), Some(3), None]);
        assert_eq!(log.check(), Ok(()));
    }

    #[test]
    fn a_hint_skips_every_entry_of_a_later_term() {
        let log = log_of(&[1, 1, 3, 3, 3, 6]);
        let hint = |index, term| log.highest_with_term_at_most(Index(index), Term(term)).index.0;
        assert_eq!(hint(6, 5), 5);
        assert_eq!(hint(6, 2), 2);
        assert_eq!(hint(4, 3), 4);
        assert_eq!(hint(99, 9), 6);
        assert_eq!(hint(6, 0), 0);
    }

    #[test]
    fn eviction_spares_what_is_not_durable_and_a_slice_of_it_asks_for_a_fetch() {
        let mut log = log_of(&[1, 1, 2, 2]);
        log.evict(0, Index(2));
        assert_eq!(log.window_first(), Index(3));
        assert_eq!(log.slice(Index(2), Index(4), 1000), None);
        assert_eq!(log.slice(Index(3), Index(4), 1000).unwrap().len(), 2);
        assert_eq!(log.slice(Index(3), Index(4), 1).unwrap().len(), 1, "at least one");
        assert_eq!(log.term(Index(1)), Some(Term(1)), "terms outlive the entries in memory");
    }

    /// Every compaction of a log, against one that never had what went.
    #[test]
    fn a_compacted_log_is_the_rest_of_the_log() {
        let terms = [1, 1, 3, 3, 3, 6];
        for to in 0..=terms.len() as u64 {
            let mut log = log_of(&terms);
            log.compact(Index(to));
            assert_eq!(log.check(), Ok(()), "compacted to {to}");
            for index in 0..=terms.len() as u64 + 1 {
                let whole = log_of(&terms).term(Index(index)).filter(|_| index >= to);
                assert_eq!(log.term(Index(index)), whole, "{index}, compacted to {to}");
            }
            assert_eq!(log.last(), log_of(&terms).last());
            assert_eq!(log.window_first(), Index(to + 1));
        }
    }

    #[test]
    fn a_log_that_was_reset_goes_on_behind_the_position() {
        let mut log = log_of(&[1, 1]);
        let position = Position { index: Index(9), term: Term(4) };
        log.reset(position);
        assert_eq!((log.start(), log.last(), log.check()), (position, position, Ok(())));
        assert_eq!(log.term(Index(2)), None);
    }

    #[test]
    fn a_log_from_outside_is_checked() {
        let at = |index, term| Position { index: Index(index), term: Term(term) };
        let good = Log::restore(at(3, 2), vec![at(4, 2), at(6, 5)], at(9, 5), Vec::new());
        assert_eq!(good.check(), Ok(()));
        let cases = [
            Log::restore(at(3, 2), vec![at(5, 2)], at(9, 2), Vec::new()),
            Log::restore(at(3, 2), vec![at(4, 1)], at(9, 1), Vec::new()),
            Log::restore(at(3, 2), vec![at(4, 2), at(6, 5)], at(9, 4), Vec::new()),
            Log::restore(at(3, 2), vec![], at(9, 2), Vec::new()),
            Log::restore(at(3, 2), vec![at(4, 3), at(4, 4)], at(9, 4), Vec::new()),
        ];
        for log in cases {
            assert!(log.check().is_err(), "{log:?}");
        }
    }
}
