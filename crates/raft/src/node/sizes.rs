//! What stretches of the log count for, in bytes, remembered coarsely: enough to say where a tail
//! of so many bytes begins, at the cost of a few numbers.

use std::collections::VecDeque;

use super::types::Index;

/// Invariant: marks ascend in index and in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sizes {
    /// Everything that was ever added.
    total_bytes: u64,
    /// At least so much lies between two marks.
    step_bytes: u64,
    /// Some indexes, each with the total once it was added.
    marks: VecDeque<(Index, u64)>,
}

impl Sizes {
    pub(super) fn new(step_bytes: u64) -> Self {
        Self { total_bytes: 0, step_bytes, marks: VecDeque::new() }
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The log goes on to `index`, with so many bytes.
    pub(super) fn add(&mut self, index: Index, bytes: u64) {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        let due = |last: &(Index, u64)| self.total_bytes - last.1 >= self.step_bytes;
        if self.marks.back().is_none_or(due) {
            self.marks.push_back((index, self.total_bytes));
        }
    }

    /// The log goes on by so many bytes, none of which would be marked; false, and nothing is
    /// added, if some would.
    pub(super) fn add_unmarked(&mut self, bytes: u64) -> bool {
        let total_bytes = self.total_bytes.saturating_add(bytes);
        let is_unmarked =
            self.marks.back().is_some_and(|last| total_bytes - last.1 < self.step_bytes);
        if is_unmarked {
            self.total_bytes = total_bytes;
        }
        is_unmarked
    }

    /// The highest marked index that has at least `bytes` behind it, up to where the total was
    /// `until_bytes`.
    pub(super) fn index_before(&self, until_bytes: u64, bytes: u64) -> Option<Index> {
        let limit = until_bytes.checked_sub(bytes)?;
        let below = self.marks.partition_point(|(_, total)| *total <= limit);
        self.marks.get(below.checked_sub(1)?).map(|(index, _)| *index)
    }

    /// What lies below `index` is not asked about any more.
    pub(super) fn forget(&mut self, index: Index) {
        while self.marks.front().is_some_and(|(mark, _)| *mark < index) {
            self.marks.pop_front();
        }
    }

    /// The log begins anew, elsewhere.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition, for every step, tail and end.
    #[test]
    fn a_tail_has_at_least_its_bytes_and_little_more() {
        for step in 0..6 {
            let mut sizes = Sizes::new(step);
            let mut totals = vec![0];
            for index in 1..=20_u64 {
                let bytes = 1 + index * 7 % 5;
                sizes.add(Index(index), bytes);
                totals.push(sizes.total_bytes());
            }
            for until in 0..=sizes.total_bytes() {
                for tail in 0..=until {
                    let fits = |index: &usize| totals[*index] + tail <= until;
                    let exact = (1..=20).filter(fits).max().map_or(0, |index| index as u64);
                    let found = sizes.index_before(until, tail).map_or(0, |index| index.0);
                    assert!(found <= exact, "step {step}: too little is kept");
                    let at = |index: u64| totals[index as usize];
                    assert!(at(exact) - at(found) < step + 6, "step {step}: {found} for {exact}");
                }
            }
        }
    }

    #[test]
    fn what_is_forgotten_is_not_found() {
        let mut sizes = Sizes::new(0);
        (1..=5).for_each(|index| sizes.add(Index(index), 10));
        sizes.forget(Index(3));
        assert_eq!(sizes.index_before(50, 30), None);
        assert_eq!(sizes.index_before(50, 20), Some(Index(3)));
    }
}
