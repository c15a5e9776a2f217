//! What the log asks of the allocator: nothing per entry once it runs, and never more than a
//! fixed sum for bytes that it does not trust yet.
//!
//! A binary of its own, because the allocator counts for a whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod counting;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use counting::allocations;
use wal::sim_disk::{Random, SimDisk};
use wal::{Append, Check, Disk, Entry, File, Lock, LogId, Metadata, Options, Wal};

/// A file that takes everything and keeps nothing: what is counted is the log's own.
#[derive(Debug)]
struct Sink;

impl File for Sink {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }
    fn write_at(&self, buffer: &[u8], _: u64) -> io::Result<usize> {
        Ok(buffer.len())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Knows the names of its files, and nothing else about them.
#[derive(Debug, Default)]
struct SinkDisk {
    names: Mutex<BTreeSet<String>>,
}

impl Disk for SinkDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let is_known = self.names.lock().unwrap().contains(name);
        if is_known { Ok(Box::new(Sink)) } else { Err(io::ErrorKind::NotFound.into()) }
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.names.lock().unwrap().insert(name.to_owned());
        Ok(Box::new(Sink))
    }
    fn rename(&self, _: &str, to: &str) -> io::Result<()> {
        self.names.lock().unwrap().insert(to.to_owned());
        Ok(())
    }
    fn rename_new(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, _: &str) -> io::Result<Lock> {
        Ok(Lock::new(()))
    }
    fn subdirectory(&self, _: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(SinkDisk::default()))
    }
    fn room(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    fn path(&self, name: &str) -> String {
        name.to_owned()
    }
}

#[test]
fn an_entry_costs_no_allocation_once_the_log_runs() {
    let mut options = Options::with_segment_bytes(64 * 1024 * 1024);
    options.cache_bytes = 100_000;
    let mut wal = Wal::create(Arc::new(SinkDisk::default()), options).unwrap();
    let payload = Bytes::from(vec![b'x'; 100]);
    let mut index = 0;
    let mut run = |batches: u64, count: u64| {
        for _ in 0..batches {
            let first = index + 1;
            index += count;
            let entries = (first..=index).map(|at| Entry::new(at, 1, 0, payload.clone()));
            let metadata = Some(Metadata::new(b"vote").unwrap());
            let append = Append { entries, metadata, reset: None, truncate_after: None };
            wal.stage(append).unwrap();
            wal.commit().unwrap();
        }
    };
    run(100, 256);
    let (small, _) = allocations(|| run(100, 1));
    let (large, _) = allocations(|| run(100, 256));
    assert!(large <= small + 20, "{small} allocations for 100 entries, {large} for 25,600");
    assert!(small <= 3 * 100, "{small} allocations for 100 batches");
}

#[test]
fn entries_without_payload_take_no_more_memory_than_others() {
    let mut options = Options::with_segment_bytes(64 * 1024 * 1024);
    options.cache_bytes = 100_000;
    let mut wal = Wal::create(Arc::new(SinkDisk::default()), options).unwrap();
    let (_, largest) = allocations(|| {
        for batch in 0..1_000 {
            let entries = (1..=100).map(|at| Entry::new(batch * 100 + at, 1, 0, Bytes::new()));
            wal.stage(Append { entries, metadata: None, reset: None, truncate_after: None })
                .unwrap();
            wal.commit().unwrap();
        }
    });
    assert!(largest <= 400_000, "{largest} bytes at once for a cache of 100,000");
}

#[test]
fn bytes_that_are_not_trusted_make_nobody_allocate() {
    let medium = SimDisk::new();
    let mut options = Options::with_segment_bytes(16 * 1024 * 1024);
    options.log_id = Some(LogId(1));
    drop(Wal::create(medium.disk(), options.clone()).unwrap());
    let file = medium.files().remove(0);
    // Lengths of all sizes wherever a header or a directory could stand.
    medium.corrupt(&file, |contents| {
        let mut random = Random::new(1);
        contents.iter_mut().skip(160).for_each(|byte| *byte = random.draw() as u8);
    });
    let disk = medium.disk();
    let (_, largest) = allocations(|| {
        let _ = Wal::open(disk, options, Check::default());
    });
    assert!(largest <= 1024 * 1024, "{largest} bytes at once");
}
