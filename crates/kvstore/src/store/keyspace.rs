//! The keys, in order, on a persistent map: a clone costs nothing and stays as it was, so that a
//! long scan reads one revision while writes go on.

use super::digest::Digest;
use super::range::KeyRange;
use super::reply::{KeyState, Revision};
use imbl::OrdMap;
use std::sync::Arc;

/// One key's value and numbers.
#[derive(Debug)]
struct Record {
    state: KeyState,
    value: Box<[u8]>,
}

/// All keys of a store.
///
/// Invariant: `live_bytes` is the sum of the lengths of all keys and values.
///
/// Keys and values own their bytes. A slice of the command would keep the whole network buffer
/// alive that the command came in, for as long as the key lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Keyspace {
    records: OrdMap<Arc<[u8]>, Arc<Record>>,
    live_bytes: u64,
}

/// A key with its value, where they lie in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The numbers that the store keeps with the key.
    pub state: KeyState,
}

impl Keyspace {
    pub(super) fn len(&self) -> u64 {
        self.records.len() as u64
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.records.get_key_value(key).map(|(key, record)| entry(key, record))
    }

    /// By how much a set would change `live_bytes`.
    pub(super) fn growth(&self, key: &[u8], value: &[u8]) -> i64 {
        let before = self.get(key).map_or(0, |old| old.key.len() + old.value.len());
        (key.len() + value.len()) as i64 - before as i64
    }

    /// Gives `key` the value, as the change of `revision`.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8], revision: Revision) -> KeyState {
        if let Some(record) = self.records.get_mut(key) {
            let before = record.state;
            let state = KeyState { mod_revision: revision, version: before.version + 1, ..before };
            self.live_bytes -= record.value.len() as u64;
            self.live_bytes += value.len() as u64;
            *record = Arc::new(Record { state, value: value.into() });
            return state;
        }
        let state = KeyState { create_revision: revision, mod_revision: revision, version: 1 };
        self.live_bytes += (key.len() + value.len()) as u64;
        self.records.insert(key.into(), Arc::new(Record { state, value: value.into() }));
        state
    }

    /// Removes `key` and says whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let removed = self.records.remove(key);
        if let Some(record) = &removed {
            self.live_bytes -= (key.len() + record.value.len()) as u64;
        }
        removed.is_some()
    }

    /// Removes all keys of a range and says how many there were.
    pub(super) fn remove_range(&mut self, range: &KeyRange) -> u64 {
        let found = self.entries(range);
        let keys: Vec<Arc<[u8]>> = found.map(|(key, _)| Arc::clone(key)).collect();
        for key in &keys {
            self.remove(key);
        }
        keys.len() as u64
    }

    /// All entries, by ascending keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.records.iter().map(|(key, record)| entry(key, record))
    }

    /// Adds an entry as it was, behind all that are there. False if it does not belong there.
    pub(super) fn restore(&mut self, key: &[u8], value: &[u8], state: KeyState) -> bool {
        if self.records.get_max().is_some_and(|(last, _)| *key <= **last) {
            return false;
        }
        self.live_bytes += (key.len() + value.len()) as u64;
        self.records.insert(key.into(), Arc::new(Record { state, value: value.into() }));
        true
    }

    /// The entries of a range, by ascending keys from the front, descending from the back.
    pub(super) fn range(
        &self,
        range: &KeyRange,
    ) -> impl DoubleEndedIterator<Item = EntryRef<'_>> + use<'_> {
        self.entries(range).map(|(key, record)| entry(key, record))
    }

    fn entries(
        &self,
        range: &KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&Arc<[u8]>, &Arc<Record>)> + use<'_> {
        let bounds = range.bounds();
        let found = bounds.map(|bounds| self.records.range::<_, [u8]>(bounds));
        found.into_iter().flatten()
    }

    /// Feeds every key, in order, with all that is kept with it.
    pub(super) fn digest(&self, digest: &mut Digest) {
        digest.word(self.len());
        for (key, record) in &self.records {
            digest.bytes(key);
            digest.bytes(&record.value);
            record.state.digest(digest);
        }
    }
}

fn entry<'a>(key: &'a Arc<[u8]>, record: &'a Arc<Record>) -> EntryRef<'a> {
    EntryRef { key, value: &record.value, state: record.state }
}
