//! raft-engine, the log of TiKV: one engine for many Raft groups, of which each writer has one.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use benches::Result;
use benches::log::{SEGMENT_BYTES, Syncs};
use benches::measure::{Side, Slice, alone, closed_loop, counted};
use bytes::Bytes;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use raft_proto::eraftpb::Entry;

use super::Work;

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// A writer with a group of its own, and what it reuses from batch to batch.
struct Group {
    region: u64,
    last: u64,
    batch: LogBatch,
    entries: Vec<Entry>,
}

impl Group {
    fn append(&mut self, engine: &Engine, is_synced: bool) -> Result<()> {
        for entry in &mut self.entries {
            self.last += 1;
            entry.index = self.last;
        }
        self.batch.add_entries::<Entries>(self.region, &self.entries)?;
        engine.write(&mut self.batch, is_synced)?;
        Ok(())
    }
}

pub(super) struct RaftEngine {
    engine: Engine,
    groups: Vec<Mutex<Group>>,
    work: Work,
}

impl RaftEngine {
    pub(super) fn open(directory: &Path, work: Work, payload: &Bytes) -> Result<RaftEngine> {
        let (threads, count) = work.threads_and_entries();
        let directory = directory.join("raft-engine").to_string_lossy().into_owned();
        let config = Config {
            dir: directory,
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(SEGMENT_BYTES),
            purge_threshold: ReadableSize(2 * SEGMENT_BYTES),
            enable_log_recycle: true,
            prefill_for_recycle: true,
            prefill_limit: Some(ReadableSize(4 * SEGMENT_BYTES)),
            ..Config::default()
        };
        let entry = Entry { term: 1, data: payload.clone(), ..Entry::default() };
        let group = |thread| Group {
            region: thread as u64 + 1,
            last: 0,
            batch: LogBatch::with_capacity(1),
            entries: vec![entry.clone(); count as usize],
        };
        Ok(RaftEngine {
            engine: Engine::open(config)?,
            groups: (0..threads).map(|thread| Mutex::new(group(thread))).collect(),
            work,
        })
    }

    fn append(&self, thread: usize, is_synced: bool) -> Result<()> {
        let group = self.groups.get(thread).ok_or("a writer without a group")?;
        group.lock().unwrap_or_else(PoisonError::into_inner).append(&self.engine, is_synced)
    }
}

impl Side for RaftEngine {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let (_, entries) = self.work.threads_and_entries();
        let slice = match self.work {
            Work::Writers(writers) => closed_loop(writers, length, |it| self.append(it, true)),
            Work::Batches(_, Syncs::Always) => alone(length, || self.append(0, true)),
            Work::Batches(_, Syncs::Never { batches }) => {
                counted(batches, || self.append(0, false))
            }
        };
        Ok(slice?.times(entries))
    }

    /// Gives up all entries, so that full files can be used again, and leaves clean pages behind.
    fn settle(&mut self) -> Result<()> {
        for group in &self.groups {
            let group = group.lock().unwrap_or_else(PoisonError::into_inner);
            self.engine.compact_to(group.region, group.last);
        }
        self.engine.purge_expired_files()?;
        Ok(self.engine.sync()?)
    }
}
