//! Entries that are shared and not copied. A batch is put together once, and from then on the log,
//! the write for the disk, the message to each follower and the state machine hold the same one:
//! what a batch costs does not grow with the number of those who see it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::types::Entry;

/// Entries of a log that follow each other. Cloning copies none of them.
#[derive(Clone, Default)]
pub struct Entries {
    /// What was put together at once.
    batch: Arc<[Entry]>,
    /// The part of it that counts here.
    range: Range<usize>,
}

impl Entries {
    /// A part of these, which keeps all of them in memory.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        let at = |place: usize| self.range.start.saturating_add(place).min(self.range.end);
        Self { batch: Arc::clone(&self.batch), range: at(range.start)..at(range.end) }
    }

    /// Lets go of all but the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.range.end = self.range.end.min(self.range.start.saturating_add(count));
    }

    /// Lets go of the first `count`.
    pub(super) fn skip_first(&mut self, count: usize) {
        self.range.start = self.range.start.saturating_add(count).min(self.range.end);
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.batch.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self { range: 0..entries.len(), batch: entries.into() }
    }
}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Self {
        Self { batch: Arc::new([entry]), range: 0..1 }
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let batch: Arc<[Entry]> = entries.into_iter().collect();
        Self { range: 0..batch.len(), batch }
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The same entries are the same, however they came together.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::{EntryKind, Index, Payload, Term};

    fn entries(indexes: Range<u64>) -> Entries {
        let entry = |index| Entry {
            index: Index(index),
            term: Term(1),
            kind: EntryKind::Command,
            payload: Payload::default(),
        };
        indexes.map(entry).collect()
    }

    #[test]
    fn a_part_is_what_a_slice_would_be_and_equal_to_a_copy_of_it() {
        let all = entries(1..7);
        for from in 0..=6 {
            for to in from..=6 {
                let mut part = all.part(from..to);
                assert_eq!(*part, all[from..to]);
                assert_eq!(part, entries(from as u64 + 1..to as u64 + 1));
                for count in 0..=part.len() {
                    let mut rest = part.clone();
                    rest.skip_first(count);
                    assert_eq!(*rest, part[count..]);
                }
                part.truncate(2);
                assert_eq!(*part, all[from..to.min(from + 2)]);
                part.skip_first(9);
                assert!(part.is_empty());
            }
        }
    }
}
