//! Looking at a real directory leaves no trace in it.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use wal::{Append, Disk, Entry, Health, Inspector, OpenError, ReadOnlyDisk, RealDisk, Wal};

use crate::harness::options;

/// Names, lengths and times of everything in a directory.
fn trace(path: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let items = std::fs::read_dir(path).unwrap().map(|item| {
        let item = item.unwrap();
        let metadata = item.metadata().unwrap();
        let name = item.file_name().into_string().unwrap();
        (name, (metadata.len(), metadata.modified().unwrap()))
    });
    items.collect()
}

fn log() -> (tempfile::TempDir, Wal) {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    let mut wal = Wal::create(disk, options(4096)).unwrap();
    let entries = vec![Entry::new(1, 1, 0, b"one".to_vec()), Entry::new(2, 1, 0, b"two".to_vec())];
    wal.stage(Append { entries, ..Append::default() }).unwrap();
    wal.commit().unwrap();
    (directory, wal)
}

#[test]
fn everything_can_be_seen_and_no_trace_is_left() {
    let (directory, wal) = log();
    drop(wal);
    // As in a copy that was made without it.
    std::fs::remove_file(directory.path().join("LOCK")).unwrap();
    let before = trace(directory.path());
    let disk = ReadOnlyDisk::open(directory.path()).unwrap();
    let inspector = Inspector::open(disk.clone()).unwrap();
    inspector.forget_cached().unwrap();
    assert!(matches!(inspector.verify().unwrap(), Health::Clean));
    assert_eq!(inspector.summarize().unwrap().last.index, 2);
    inspector.dump(|_| ControlFlow::Continue(())).unwrap();
    assert!(disk.bytes_read() >= inspector.segment_bytes().unwrap());
    assert_eq!(trace(directory.path()), before);
}

#[test]
fn readers_get_along_with_each_other_and_not_with_an_owner() {
    let (directory, wal) = log();
    let open = || Inspector::open(ReadOnlyDisk::open(directory.path()).unwrap());
    assert!(matches!(open(), Err(OpenError::Locked { .. })), "the log is in use");
    drop(wal);
    let (first, second) = (open().unwrap(), open().unwrap());
    let disk = RealDisk::open(directory.path()).unwrap();
    let opened = Wal::open(disk, options(4096), Default::default());
    assert!(matches!(opened, Err(OpenError::Locked { .. })), "somebody looks at it");
    drop((first, second));
}

#[test]
fn a_directory_without_a_log_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    for disk in [
        RealDisk::open(directory.path()).unwrap(),
        ReadOnlyDisk::open(directory.path()).unwrap() as _,
    ] {
        assert!(matches!(Inspector::open(disk), Err(OpenError::NoLog { .. })));
    }
    assert_eq!(trace(directory.path()), BTreeMap::new());
    let missing = ReadOnlyDisk::open(directory.path().join("missing")).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert_eq!(trace(directory.path()), BTreeMap::new());
}

#[test]
fn whatever_would_change_the_directory_is_refused() {
    let (directory, wal) = log();
    drop(wal);
    let before = trace(directory.path());
    let disk = ReadOnlyDisk::open(directory.path()).unwrap();
    let name = disk.list().unwrap().pop().unwrap();
    let file = disk.open(&name).unwrap();
    let refusals = [
        disk.create("new").map(drop),
        disk.rename(&name, "other"),
        disk.rename_new(&name, "other"),
        disk.remove(&name),
        file.write_at(b"x", 0).map(drop),
        file.set_len(0),
    ];
    for refusal in refusals {
        assert_eq!(refusal.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
    assert_eq!(trace(directory.path()), before);
}
