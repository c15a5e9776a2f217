//! A small log that has used everything that the format has, for tests that damage it or look at
//! it.

use std::ops::Range;

use wal::sim_disk::SimDisk;
use wal::{Append, Check, Entry, Metadata, OpenError, Options, Recovery, Wal};

use crate::harness::{Model, observe, options};

pub(crate) const SEGMENT_BYTES: u64 = 4096;

/// A log of three segments that has used everything that the format has, and what it holds.
pub(crate) struct Sample {
    pub(crate) medium: SimDisk,
    pub(crate) options: Options,
    pub(crate) model: Model,
    /// What it held before its last batch.
    pub(crate) before_last: Model,
    /// Entries that were cut or dropped and still stand in the files.
    pub(crate) dead: Vec<Entry>,
    /// Where the last batch begins, in the last segment that holds any.
    pub(crate) last_batch: u64,
}

pub(crate) fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let mut payload = format!("entry {index} of term {term} ").into_bytes();
    payload.resize(bytes, b'.');
    Entry::new(index, term, index as u8, payload)
}

pub(crate) fn append(entries: Vec<Entry>) -> Append {
    Append { entries, ..Append::default() }
}

pub(crate) fn metadata(number: u64) -> Option<Metadata> {
    Some(Metadata::new(format!("vote {number}").as_bytes()).unwrap())
}

impl Sample {
    pub(crate) fn new() -> Sample {
        let medium = SimDisk::new();
        let options = options(SEGMENT_BYTES);
        let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
        let mut index = 0;
        let mut term = 1;
        let mut written = Vec::new();
        while medium.files().len() < 3 || wal.segment_count() < 3 {
            let mut entries = Vec::new();
            for _ in 0..3 {
                index += 1;
                entries.push(entry(index, term, 90 + index as usize % 13));
            }
            written.extend(entries.iter().cloned());
            let vote = metadata(index);
            wal.stage(Append { metadata: vote, ..append(entries) }).unwrap();
            wal.commit().unwrap();
            if index == 9 {
                term = 2;
                let entries = vec![entry(8, term, 100)];
                wal.stage(Append { truncate_after: Some(7), ..append(entries) }).unwrap();
                wal.commit().unwrap();
                index = 8;
            }
            if index == 17 {
                wal.drop_prefix(3).unwrap();
                wal.commit().unwrap();
            }
        }
        wal.stage(append(vec![entry(index + 1, term + 1, 200)])).unwrap();
        wal.commit().unwrap();
        let before_last = observe(&wal);
        medium.record_operations();
        wal.stage(append(vec![entry(index + 2, term + 1, 77)])).unwrap();
        wal.commit().unwrap();
        let last_batch = medium.operations()[0].offset;
        let model = observe(&wal);
        drop(wal);
        written.retain(|entry| model.entries.get(&entry.index) != Some(entry));
        Sample { medium, options, model, before_last, dead: written, last_batch }
    }

    /// Where payloads of entries stand that count no more.
    pub(crate) fn dead_bytes(&self, contents: &[u8]) -> Vec<Range<usize>> {
        let find = |entry: &Entry| {
            let payload = entry.payload();
            let at = contents.windows(payload.len()).position(|window| window == payload)?;
            Some(at..at + payload.len())
        };
        self.dead.iter().filter_map(find).collect()
    }

    pub(crate) fn open(
        &self,
        medium: &SimDisk,
        check: Check<'_>,
    ) -> Result<(Wal, Recovery), OpenError> {
        Wal::open(medium.disk(), self.options.clone(), check)
    }

    pub(crate) fn last_file(&self) -> String {
        self.medium.files().last().unwrap().clone()
    }
}
