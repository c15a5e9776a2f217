//! The terms of all entries, kept as runs: a log has few terms, however many entries.

use std::collections::VecDeque;

use crate::entry::Position;

/// For each term, in order, the first index that has it.
///
/// Invariants: indexes and terms both strictly ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TermRuns {
    runs: VecDeque<Position>,
}

impl TermRuns {
    /// Notes the next entry; only a new term takes room. `None` if it cannot follow.
    #[must_use]
    pub(crate) fn push(&mut self, position: Position) -> Option<()> {
        if let Some(newest) = self.runs.back() {
            if position.index <= newest.index || position.term < newest.term {
                return None;
            }
            if position.term == newest.term {
                return Some(());
            }
        }
        self.runs.push_back(position);
        Some(())
    }

    /// Forgets all entries above `index`.
    pub(crate) fn truncate_after(&mut self, index: u64) {
        while self.runs.back().is_some_and(|run| run.index > index) {
            self.runs.pop_back();
        }
    }

    /// Forgets all entries up to `index`; `last` is the last entry of the log.
    pub(crate) fn drop_through(&mut self, index: u64, last: u64) {
        if last <= index {
            self.runs.clear();
            return;
        }
        while self.runs.get(1).is_some_and(|second| second.index <= index.saturating_add(1)) {
            self.runs.pop_front();
        }
        if let Some(first) = self.runs.front_mut() {
            first.index = first.index.max(index.saturating_add(1));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// The term of an entry, if it is not below the first run.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        let after = self.runs.partition_point(|run| run.index <= index);
        self.runs.get(after.checked_sub(1)?).map(|run| run.term)
    }

    /// The first index of each term, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Position> + '_ {
        self.runs.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(terms: &[u64]) -> TermRuns {
        let mut runs = TermRuns::default();
        for (index, term) in (1..).zip(terms) {
            runs.push(Position::new(index, *term)).unwrap();
        }
        runs
    }

    #[test]
    fn every_cut_of_every_small_log_keeps_exactly_the_terms_that_are_left() {
        let logs: [&[u64]; 5] = [&[], &[1], &[1, 1, 1], &[1, 2, 3, 4], &[1, 1, 3, 3, 3, 7, 8, 8]];
        for terms in logs {
            let last = terms.len() as u64;
            for keep in 0..=last {
                for drop in 0..=keep {
                    let mut cut = runs(terms);
                    cut.truncate_after(keep);
                    cut.drop_through(drop, keep);
                    for index in drop + 1..=keep {
                        let expected = terms[index as usize - 1];
                        assert_eq!(cut.term(index), Some(expected), "{terms:?} {drop} {keep}");
                    }
                    assert_eq!(cut.term(drop), None, "{terms:?} {drop} {keep}");
                }
            }
        }
    }
}
