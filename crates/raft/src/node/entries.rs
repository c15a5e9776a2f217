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
    /// What that part counts for in every limit.
    bytes: u64,
}

impl Entries {
    fn whole(batch: Arc<[Entry]>) -> Self {
        Self { range: 0..batch.len(), bytes: batch.iter().map(Entry::bytes).sum(), batch }
    }

    /// What all of them count for in every limit. It is known without looking at each.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lets go of all but the first `count`. What it lets go of stays in memory with the others.
    pub(super) fn truncate(&mut self, count: usize) {
        self.bytes -= self.iter().skip(count).map(Entry::bytes).sum::<u64>();
        self.range.end = self.range.end.min(self.range.start.saturating_add(count));
    }

    /// Lets go of the first `count`. They stay in memory with the others.
    pub(super) fn skip_first(&mut self, count: usize) {
        self.bytes -= self.iter().take(count).map(Entry::bytes).sum::<u64>();
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
        Self::whole(entries.into())
    }
}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Self {
        Self::whole(Arc::new([entry]))
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self::whole(entries.into_iter().collect())
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
                let mut part = all.clone();
                part.truncate(to);
                part.skip_first(from);
                assert_eq!(*part, all[from..to]);
                assert_eq!(part.bytes(), part.iter().map(Entry::bytes).sum::<u64>());
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
