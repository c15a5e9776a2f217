//! Places that could not be read once: what is asked about them at the next opening, and what it
//! takes to write over them. And a log that is not the one that was asked for.

use std::fs;

use wal::sim_disk::SimDisk;
use wal::{Append, Check, Entry, LogId, OpenError, Options, Position, ReadError, RealDisk, Wal};

use crate::faults::log_with;
use crate::harness::options;

/// Small entries, three segments of them; the first is full and holds entries from 1 on.
fn three_segments(medium: &SimDisk, options: &Options) -> u64 {
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    let mut last = 0;
    while wal.segment_count() < 3 {
        let entries = (1..=20).map(|more| Entry::new(last + more, 1, 0, payload(last + more)));
        wal.stage(Append { entries: entries.collect::<Vec<_>>(), ..Append::default() }).unwrap();
        wal.commit().unwrap();
        last += 20;
    }
    last
}

fn payload(index: u64) -> Vec<u8> {
    vec![index as u8; 100]
}

#[test]
fn a_suspect_segment_is_read_in_full_and_what_it_lost_is_listed() {
    let medium = SimDisk::new();
    let options = options(16 * 1024);
    let last = three_segments(&medium, &options);
    // The fifth sector is in the payloads of the first batch.
    medium.spoil_sector("0000000000000001.wal", 3);
    let check = Check { verify_from: last + 1, ..Check::default() };
    let (wal, recovery) = Wal::open(medium.disk(), options.clone(), check).unwrap();
    assert_eq!(recovery.lost, [], "a segment that is believed by its seal is not read");
    let error = wal.read(1, 40, u64::MAX).map(|entries| entries.len());
    let failed = match error {
        Err(error) => error,
        // The first entries are whole; the one that is not says so itself.
        Ok(count) => wal.read(count as u64 + 1, 40, u64::MAX).unwrap_err(),
    };
    assert!(matches!(failed, ReadError::Io(_)), "{failed}");
    assert_eq!(failed.segment(), Some(1));
    drop(wal);

    let check = Check { suspects: &[1], ..check };
    let (mut wal, recovery) = Wal::open(medium.disk(), options, check).unwrap();
    let lost = recovery.lost;
    assert!(lost.len() > 3 && lost.iter().all(|lost| lost.index <= 20), "{lost:?}");
    // The sector holds parts of several payloads, and can only be written as a whole.
    let payloads: Vec<(Position, bytes::Bytes)> =
        lost.iter().map(|lost| (*lost, payload(lost.index).into())).collect();
    let alone = wal.repair(lost[1], &payloads[1].1);
    drop(wal);
    assert!(alone.is_err(), "a part of a sector cannot be written while the rest is unreadable");
    let (mut wal, _) = Wal::open(medium.disk(), wal_options(), check).unwrap();
    wal.repair_all(payloads.iter().map(|(position, payload)| (*position, payload))).unwrap();
    assert_eq!(wal.read(1, last, u64::MAX).unwrap().len() as u64, last);
}

fn wal_options() -> Options {
    options(16 * 1024)
}

#[test]
fn a_log_that_is_not_the_one_asked_for_is_refused_and_left_alone() {
    let medium = SimDisk::new();
    let create = Options { log_id: Some(LogId(1)), ..options(16 * 1024) };
    drop(log_with(&medium, &create, 10));
    let before = medium.contents("0000000000000001.wal");
    let other = Options { log_id: Some(LogId(2)), ..create.clone() };
    match Wal::open(medium.disk(), other, Check::default()) {
        Err(error @ OpenError::OtherLog { found: LogId(1), expected: LogId(2), .. }) => {
            assert!(error.is_damage() && error.to_string().contains("put the right one back"));
        }
        opened => panic!("{:?}", opened.map(|(_, recovery)| recovery)),
    }
    assert_eq!(medium.contents("0000000000000001.wal"), before);
    for log_id in [None, Some(LogId(1))] {
        let options = Options { log_id, ..create.clone() };
        let (wal, _) = Wal::open(medium.disk(), options, Check::default()).unwrap();
        assert_eq!(wal.log_id(), LogId(1));
    }
}

#[test]
fn an_unreadable_sector_under_the_end_is_named_with_its_place_and_never_written_around() {
    let medium = SimDisk::new();
    let options = options(16 * 1024);
    let mut wal = log_with(&medium, &options, 3);
    // The sector that holds the end of the last batch and the beginning of the next.
    medium.spoil_sector("0000000000000001.wal", 0);
    wal.stage(Append { entries: vec![Entry::new(4, 1, 0, b"four".to_vec())], ..Append::default() })
        .unwrap();
    let failed = wal.commit().unwrap_err();
    assert!(failed.to_string().contains("0000000000000001.wal"), "{failed}");
    drop(wal);
    // The header of the segment stands in the same sector; so the sector behind it is taken for
    // what comes now.
    let medium = SimDisk::new();
    let mut wal = log_with(&medium, &options, 3);
    let entries = vec![Entry::new(4, 1, 0, vec![4; 900])];
    wal.stage(Append { entries, ..Append::default() }).unwrap();
    wal.commit().unwrap();
    drop(wal);
    for start in 0..3 {
        medium.spoil_sector("0000000000000001.wal", 2);
        let before = medium.contents("0000000000000001.wal");
        let opened = Wal::open(medium.disk(), options.clone(), Check::default());
        match opened.map(|(_, recovery)| recovery) {
            Err(error @ OpenError::UnreadableEnd { offset, .. }) => {
                assert!((64..1024).contains(&offset), "start {start}: {offset}");
                let text = error.to_string();
                assert!(error.is_damage() && text.contains("0000000000000001.wal"), "{text}");
                assert!(text.contains(&format!("offset {offset}")), "{text}");
                assert!(text.contains("another replica"), "{text}");
            }
            opened => panic!("start {start}: {opened:?}"),
        }
        assert_eq!(medium.contents("0000000000000001.wal"), before, "nothing was touched");
    }
}

/// The files that this process has open below a directory.
fn open_files(directory: &std::path::Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|file| fs::read_link(file.unwrap().path()).ok())
        .filter(|path| path.starts_with(directory))
        .count()
}

#[test]
fn a_log_of_hundreds_of_segments_keeps_few_files_open() {
    let directory = tempfile::tempdir().unwrap();
    let disk = || RealDisk::open(directory.path()).unwrap();
    for fsync in [wal::Fsync::UnsafeNever, wal::Fsync::Always] {
        let options = Options { fsync, cache_bytes: 0, ..options(4096) };
        let mut most = 0;
        let mut wal = match Wal::exists(&*disk()).unwrap() {
            false => Wal::create(disk(), options.clone()).unwrap(),
            true => Wal::open(disk(), options.clone(), Check::default()).unwrap().0,
        };
        for _ in 0..150 {
            let next = wal.last().index + 1;
            let entries = vec![Entry::new(next, 1, 0, vec![next as u8; 1000])];
            wal.stage(Append { entries, ..Append::default() }).unwrap();
            wal.commit().unwrap();
            most = most.max(open_files(directory.path()));
        }
        wal.close().unwrap();
        for verify_from in [0, u64::MAX] {
            let check = Check { verify_from, ..Check::default() };
            let (wal, _) = Wal::open(disk(), options.clone(), check).unwrap();
            assert!(wal.segment_count() > 70, "{}", wal.segment_count());
            for index in 1..=wal.last().index {
                let read = wal.read(index, index, 1).unwrap();
                assert_eq!(read[0].payload().len(), 1000);
                most = most.max(open_files(directory.path()));
            }
        }
        // Those used last, those of which a sync is owed, and a few in use.
        let limit = if fsync == wal::Fsync::Always { 40 } else { 72 };
        assert!(most <= limit, "{most} files were open with {fsync:?}");
    }
}

#[test]
fn a_segment_that_is_removed_while_it_is_read_again_is_no_damage() {
    let medium = SimDisk::new();
    let options = options(16 * 1024);
    let last = three_segments(&medium, &options);
    let (mut wal, _) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    let scrub = wal.scrub(0).expect("the first is full");
    wal.drop_prefix(last - 1).unwrap();
    wal.commit().unwrap();
    while let Some(job) = wal.take_job() {
        wal.finish_job(job.run()).unwrap();
    }
    assert!(medium.contents("0000000000000001.wal").is_none(), "its file is gone");
    assert_eq!(wal.finish_scrub(scrub.run()).unwrap(), []);
}
