//! Where entries lie: which segment holds which indexes, and where in a segment to begin reading.
//!
//! Offsets are kept for every few kilobytes only, so that the memory for them is a small and
//! fixed part of the bytes on disk, however small the entries are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use crate::disk::File;
use crate::scan::Source;
use crate::segment::Seed;

/// A new reading point is noted when the current one lies this far back.
const EXTENT_BYTES: u64 = 32 * 1024;

/// A stretch of batches of one segment whose entries ascend without a gap or a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    first: u64,
    offset: u64,
}

/// Reading points of one segment, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extents {
    extents: Vec<Extent>,
    /// The index that continues the newest extent; `None` after a cut.
    next: Option<u64>,
}

impl Extents {
    /// Notes a batch at `offset` that holds `count` entries from `first` on.
    pub(crate) fn push(&mut self, first: u64, count: u64, offset: u64) {
        if count == 0 {
            return;
        }
        let near = self.extents.last().is_some_and(|newest| {
            self.next == Some(first) && offset.saturating_sub(newest.offset) < EXTENT_BYTES
        });
        if !near {
            self.extents.push(Extent { first, offset });
        }
        self.next = first.checked_add(count);
    }

    /// Notes that entries above `index` no longer count.
    pub(crate) fn truncate_after(&mut self, index: u64) {
        while self.extents.last().is_some_and(|newest| newest.first > index) {
            self.extents.pop();
        }
        self.next = None;
    }

    /// The offset of a batch from which entry `index` is found by walking forward, and the last
    /// index for which that walk is the right one: what comes after it may have been cut, although
    /// it still stands there, and been written again further on.
    pub(crate) fn find(&self, index: u64) -> Option<(u64, u64)> {
        let after = self.extents.partition_point(|extent| extent.first <= index);
        let extent = self.extents.get(after.checked_sub(1)?)?;
        let last = self.extents.get(after).map_or(u64::MAX, |next| next.first.saturating_sub(1));
        Some((extent.offset, last))
    }
}

/// How far the latest walk through a segment came, so that whoever reads on does not walk the
/// same way again: entry by entry that would be as many steps as there are batches in a stretch,
/// for every one of them.
///
/// Nothing depends on it: it is only a later batch on the very walk that begins at a reading
/// point. A reading point stands for one stretch for ever, since a segment is only appended to.
#[derive(Debug, Default)]
pub(crate) struct Walked(Mutex<Option<Step>>);

/// A batch on a walk.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The reading point where the walk began.
    begin: u64,
    /// The first index of the batch, or of the next one if it has none.
    first: u64,
    offset: u64,
}

impl Walked {
    /// Where to begin to find entry `index`, on the walk that begins at `begin`.
    pub(crate) fn resume(&self, begin: u64, index: u64) -> u64 {
        // Whoever cannot look at once walks.
        let step = self.0.try_lock().ok().and_then(|step| *step);
        let step = step.filter(|step| step.begin == begin && step.first <= index);
        step.map_or(begin, |step| step.offset)
    }

    /// A walk from `begin` has come to the batch at `offset`.
    pub(crate) fn note(&self, begin: u64, first: u64, offset: u64) {
        if let Ok(mut step) = self.0.try_lock() {
            *step = Some(Step { begin, first, offset });
        }
    }
}

/// A segment as readers see it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: Arc<str>,
    pub(crate) capacity: u64,
    pub(crate) seed: Seed,
    /// The entries for which this segment is the place to look: none if `last < first`.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Where its last batch ends.
    pub(crate) end: u64,
    /// Filled while appending, or at the first read of a segment that was opened by its seal.
    pub(crate) extents: OnceLock<Extents>,
    pub(crate) walked: Walked,
}

impl Segment {
    /// The same segment, to be scanned.
    pub(crate) fn source(&self) -> Source {
        Source {
            sequence: self.sequence,
            file: Arc::clone(&self.file),
            path: Arc::clone(&self.path),
            capacity: self.capacity,
            seed: self.seed.clone(),
        }
    }
}

/// All segments that may still be read, oldest first; the last one is being written.
///
/// There may be thousands of them, so they are searched and not walked through.
///
/// Invariant: sequences ascend, and each range begins behind the end of every range before it.
/// Those of segments without valid entries are empty and stand in their order all the same, so
/// that the ends never descend.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    list: VecDeque<Segment>,
}

impl Segments {
    /// Adds a newer segment. What it holds takes the place of the same indexes in older ones.
    pub(crate) fn push(&mut self, mut segment: Segment) {
        if let Some(newest) = self.list.back() {
            assert!(newest.sequence < segment.sequence, "segments were added out of order");
        }
        let before = segment.first.saturating_sub(1);
        self.end_at(before);
        segment.last = segment.last.max(before);
        self.list.push_back(segment);
    }

    /// How many segments end before entry `index`.
    fn count_before(&self, index: u64) -> usize {
        self.list.partition_point(|segment| segment.last < index)
    }

    /// Lets no range reach beyond `index`.
    fn end_at(&mut self, index: u64) {
        let longer = self.count_before(index.saturating_add(1));
        self.list.range_mut(longer..).for_each(|segment| segment.last = segment.last.min(index));
    }

    /// Entries above `index` no longer count, wherever they lie.
    pub(crate) fn truncate_after(&mut self, index: u64) {
        self.end_at(index);
        if let Some(extents) = self.list.back_mut().and_then(|newest| newest.extents.get_mut()) {
            extents.truncate_after(index);
        }
    }

    /// The segment that is being written.
    pub(crate) fn newest_mut(&mut self) -> Option<&mut Segment> {
        self.list.back_mut()
    }

    pub(crate) fn find(&self, index: u64) -> Option<&Segment> {
        let reaching = self.list.get(self.count_before(index))?;
        (reaching.first <= index).then_some(reaching)
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Segment> {
        let at = self.list.binary_search_by_key(&sequence, |segment| segment.sequence);
        self.list.get(at.ok()?)
    }

    /// The oldest segment above `after` and below `before`.
    pub(crate) fn next_between(&self, after: u64, before: u64) -> Option<&Segment> {
        let next = self.list.partition_point(|segment| segment.sequence <= after);
        self.list.get(next).filter(|segment| segment.sequence < before)
    }

    /// The lowest index of `first..=last` that no segment holds.
    pub(crate) fn first_gap(&self, first: u64, last: u64) -> Option<u64> {
        let mut next = first;
        for segment in &self.list {
            if segment.first <= next && segment.last >= next {
                next = segment.last.saturating_add(1);
            }
        }
        (next <= last).then_some(next)
    }

    /// The oldest segment needed when entries up to `start` are gone.
    pub(crate) fn first_needed(&self, start: u64) -> Option<u64> {
        let behind = self.count_before(start.saturating_add(1));
        let mut behind = self.list.range(behind..);
        let needed = behind.find(|segment| segment.first <= segment.last);
        needed.or(self.list.back()).map(|segment| segment.sequence)
    }

    /// Takes out all segments below `sequence` and returns their numbers.
    pub(crate) fn drop_below(&mut self, sequence: u64) -> Vec<u64> {
        let mut dropped = Vec::new();
        while self.list.front().is_some_and(|oldest| oldest.sequence < sequence) {
            dropped.extend(self.list.pop_front().map(|oldest| oldest.sequence));
        }
        dropped
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_point_never_lies_behind_a_cut_or_beyond_the_entry() {
        let mut extents = Extents::default();
        extents.push(1, 10, 100);
        extents.push(11, 10, 200);
        assert_eq!(extents.find(15), Some((100, u64::MAX)), "both batches belong to one stretch");
        extents.truncate_after(12);
        extents.push(13, 5, 300);
        assert_eq!(extents.find(12), Some((100, 12)), "the old entry 13 at 200 no longer counts");
        assert_eq!(extents.find(13), Some((300, u64::MAX)));
        extents.truncate_after(4);
        extents.push(5, 1, 400);
        assert_eq!(extents.find(5), Some((400, u64::MAX)));
        assert_eq!(extents.find(4), Some((100, 4)));
        assert_eq!(extents.find(0), None);
    }

    #[test]
    fn reading_points_are_a_fixed_distance_apart() {
        let mut extents = Extents::default();
        for number in 0..10_000 {
            extents.push(number, 1, number * 128);
        }
        assert!(extents.extents.len() <= 1 + 10_000 * 128 / EXTENT_BYTES as usize);
        let newest = extents.extents.last().map(|extent| (extent.offset, u64::MAX));
        assert_eq!(extents.find(9_999), newest);
    }

    /// What is found by searching is what walking through all segments from the newest on finds.
    #[cfg(feature = "sim")]
    #[test]
    fn every_entry_is_found_in_the_newest_segment_that_holds_it() {
        use crate::options::LogId;
        use crate::sim_disk::{Random, SimDisk};

        let disk = SimDisk::new().disk();
        let file: Arc<dyn File> = disk.create("any").unwrap().into();
        let mut random = Random::new(1);
        for _ in 0..300 {
            let mut segments = Segments::default();
            let mut ranges: Vec<(u64, u64)> = Vec::new();
            let mut end = 0;
            for sequence in 1..=random.below(12) {
                // It holds nothing, goes on where the log ended, or replaces a part of it.
                let first = end + 1 - random.below(end.min(9) + 1);
                let last = first - 1 + random.below(6);
                end = last;
                segments.push(Segment {
                    sequence,
                    file: Arc::clone(&file),
                    path: "any".into(),
                    capacity: 0,
                    seed: Seed::new(LogId(1), sequence),
                    first,
                    last,
                    end: 0,
                    extents: OnceLock::new(),
                    walked: Walked::default(),
                });
                ranges.iter_mut().for_each(|(_, older)| *older = (*older).min(first - 1));
                ranges.push((first, last));
                if random.below(4) == 0 {
                    end -= random.below(end.min(9) + 1);
                    segments.truncate_after(end);
                    ranges.iter_mut().for_each(|(_, last)| *last = (*last).min(end));
                }
            }
            for index in 0..=end + 2 {
                let holder =
                    ranges.iter().rposition(|(first, last)| (first..=last).contains(&&index));
                let found = segments.find(index).map(|segment| segment.sequence);
                assert_eq!(found, holder.map(|at| at as u64 + 1), "{index} in {ranges:?}");
                let needed = ranges.iter().position(|(first, last)| first <= last && *last > index);
                let expected = needed.map_or(ranges.len() as u64, |at| at as u64 + 1);
                assert_eq!(
                    segments.first_needed(index).unwrap_or(0),
                    expected,
                    "{index} {ranges:?}"
                );
            }
        }
    }
}
