//! The next segment is made by one job at a time, and never in the place of one that is in use.

use std::io;
use std::sync::Arc;

use wal::sim_disk::{Fate, Fault, OperationKind, SimDisk};
use wal::{Append, AppendError, Check, Disk, Entry, OpenError, RealDisk, Wal};

use crate::harness::options;

fn entry(index: u64) -> Append {
    let entries = vec![Entry::new(index, 1, 0, vec![b'x'; 400])];
    Append { entries, ..Append::default() }
}

fn put(wal: &mut Wal, index: u64) {
    wal.stage(entry(index)).unwrap();
    wal.commit().unwrap();
}

fn new_log() -> (SimDisk, Wal) {
    let medium = SimDisk::new();
    let wal = Wal::create(medium.disk(), options(4096)).unwrap();
    (medium, wal)
}

fn open(medium: &SimDisk) -> Wal {
    Wal::open(medium.disk(), options(4096), Check::default()).unwrap().0
}

/// Opens the log again after a power cut, and expects everything up to `last`.
fn expect_after_a_cut(medium: &SimDisk, wal: Wal, last: u64) {
    assert_eq!(wal.durable().index, last);
    drop(wal);
    medium.crash_with(|_| Fate::Lose);
    assert_eq!(open(medium).last().index, last);
}

#[test]
fn a_job_is_offered_once_until_it_is_brought_back() {
    let (medium, mut wal) = new_log();
    put(&mut wal, 1);
    let job = wal.take_job().unwrap();
    assert!(wal.take_job().is_none(), "it was not run yet");
    let done = job.run();
    assert!(wal.take_job().is_none(), "it was not brought back yet");
    wal.finish_job(done).unwrap();
    assert!(wal.take_job().is_none(), "there is a successor");
    for index in 2..=9 {
        put(&mut wal, index);
    }
    expect_after_a_cut(&medium, wal, 9);
}

#[test]
fn a_cancelled_job_that_comes_back_late_does_not_end_another() {
    let (medium, mut wal) = new_log();
    let first = wal.take_job().unwrap();
    medium.set_room(Some(4096));
    let mut index = 0;
    while wal.stage(entry(index + 1)).is_ok() {
        wal.commit().unwrap();
        index += 1;
    }
    medium.set_room(None);
    let second = wal.take_job().unwrap();
    wal.finish_job(first.run()).unwrap();
    assert!(wal.take_job().is_none(), "the second is still out");
    wal.finish_job(second.run()).unwrap();
    for _ in 0..3 {
        index += 1;
        put(&mut wal, index);
    }
    expect_after_a_cut(&medium, wal, index);
}

#[test]
fn the_log_opens_no_file_to_go_on_in_what_a_job_has_made() {
    let (medium, mut wal) = new_log();
    let done = wal.take_job().unwrap().run();
    medium.inject(0, Some(OperationKind::Open), Fault::Error(24));
    for index in 1..=9 {
        put(&mut wal, index);
    }
    wal.finish_job(done).unwrap();
    medium.clear_faults();
    expect_after_a_cut(&medium, wal, 9);
}

#[test]
fn nobody_opens_a_log_while_a_job_of_its_last_owner_may_still_run() {
    let (medium, mut wal) = new_log();
    put(&mut wal, 1);
    let stale = wal.take_job().unwrap();
    drop(wal);
    let opened = Wal::open(medium.disk(), options(4096), Check::default());
    assert!(matches!(opened, Err(OpenError::Locked { .. })));
    let done = stale.run();
    assert_eq!(medium.files(), ["0000000000000001.wal"], "it had nothing to make any more");
    let mut wal = open(&medium);
    let own = wal.take_job().unwrap();
    wal.finish_job(done).unwrap();
    assert!(wal.take_job().is_none(), "the report of another life ends nothing");
    for index in 2..=9 {
        put(&mut wal, index);
    }
    wal.finish_job(own.run()).unwrap();
    expect_after_a_cut(&medium, wal, 9);
}

#[test]
fn nobody_opens_a_log_while_a_flush_of_its_last_owner_may_still_run() {
    let (medium, mut wal) = new_log();
    wal.stage(entry(1)).unwrap();
    let flush = wal.begin_commit().unwrap().unwrap();
    drop(wal);
    let opened = Wal::open(medium.disk(), options(4096), Check::default());
    assert!(matches!(opened, Err(OpenError::Locked { .. })));
    let _ = flush.run();
    assert_eq!(open(&medium).last().index, 1);
}

#[test]
fn a_job_that_could_not_give_its_name_poisons_the_log_whoever_hears_of_it_first() {
    let (medium, mut wal) = new_log();
    let job = wal.take_job().unwrap();
    medium.inject(0, Some(OperationKind::SyncDirectory), Fault::EIO);
    let done = job.run();
    let mut index = 0;
    while wal.stage(entry(index + 1)).is_ok() {
        wal.commit().unwrap();
        index += 1;
    }
    assert_eq!(wal.room(), 0, "the log needed its successor, and heard that it failed");
    assert!(wal.commit().is_err());
    drop(done);
    expect_after_a_cut(&medium, wal, index);
}

#[test]
fn a_new_name_never_replaces_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let real = RealDisk::open(directory.path()).unwrap();
    for disk in [SimDisk::new().disk(), real] {
        let disk: Arc<dyn Disk> = disk;
        disk.create("old").unwrap().write_at(b"in use", 0).unwrap();
        disk.create("new").unwrap();
        let error = disk.rename_new("new", "old").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.open("old").unwrap().len().unwrap(), 6);
        disk.rename_new("new", "free").unwrap();
        assert_eq!(disk.list().unwrap(), ["free", "old"]);
    }
}

/// Too many open files.
const EMFILE: Fault = Fault::Error(24);

#[test]
fn a_successor_that_cannot_be_made_costs_nothing_and_may_be_tried_again() {
    let kinds = [
        (OperationKind::Create, EMFILE),
        (OperationKind::Write, Fault::EIO),
        (OperationKind::SyncData, Fault::EIO),
        (OperationKind::SyncAll, Fault::EIO),
    ];
    for (kind, fault) in kinds {
        let (medium, mut wal) = new_log();
        let mut index = 1;
        while wal.ready_room() > 1000 {
            put(&mut wal, index);
            index += 1;
        }
        let contents = medium.contents("0000000000000001.wal");
        for attempt in 0..3 {
            medium.inject(0, Some(kind), fault);
            let refused = [wal.prepare(2000).unwrap_err(), {
                medium.inject(0, Some(kind), fault);
                let two = vec![Entry::new(index, 1, 0, vec![b'y'; 900])];
                wal.stage(Append { entries: two, ..Append::default() }).unwrap_err()
            }];
            for error in refused {
                let is_told = matches!(error, AppendError::Successor(_));
                assert!(is_told, "{kind:?}, attempt {attempt}: {error}");
            }
            assert_eq!(wal.last().index, index - 1, "{kind:?}: nothing was staged");
            assert!(medium.contents("0000000000000001.wal") == contents, "{kind:?}");
            assert_eq!(medium.files().len(), 1, "{kind:?}: a temporary file stays");
        }
        wal.prepare(2000).unwrap();
        assert!(wal.ready_room() >= 2000);
        for _ in 0..8 {
            put(&mut wal, index);
            index += 1;
        }
        drop(wal);
        medium.crash_with(|_| Fate::Lose);
        assert_eq!(open(&medium).last().index, index - 1, "{kind:?}");
    }
}
