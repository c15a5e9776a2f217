//! The shortest stories: what is written can be read, before and after a restart.

use std::sync::Arc;

use wal::sim_disk::SimDisk;
use wal::{Append, Check, Disk, Ending, Entry, Metadata, Options, Position, RealDisk, Wal};

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    range.map(|index| Entry::new(index, term, 7, format!("entry {index} of term {term}"))).collect()
}

fn append(entries: Vec<Entry>) -> Append {
    Append { entries, ..Append::default() }
}

fn write_and_reopen(disk: &dyn Fn() -> Arc<dyn Disk>) {
    let options = Options::with_segment_bytes(16 * 1024);
    let mut wal = Wal::create(disk(), options.clone()).unwrap();
    for round in 0..50 {
        let first = round * 20 + 1;
        wal.stage(append(entries(first..=first + 19, round / 10 + 1))).unwrap();
        let metadata = Some(Metadata::new(&round.to_le_bytes()).unwrap());
        wal.stage(Append::<Vec<Entry>> { metadata, ..Append::default() }).unwrap();
        wal.commit().unwrap();
        if let Some(job) = wal.take_job() {
            wal.finish_job(job.run()).unwrap();
        }
    }
    assert!(wal.segment_count() > 2, "the log has rotated");
    wal.close().unwrap();

    let (mut wal, recovery) = Wal::open(disk(), options.clone(), Check::default()).unwrap();
    assert_eq!(recovery.ending, Ending::Closed);
    assert_eq!(wal.last(), Position::new(1000, 5));
    assert_eq!(wal.metadata(), Some(Metadata::new(&49_u64.to_le_bytes()).unwrap()));
    assert_eq!(wal.terms(), (0..5).map(|k| Position::new(k * 200 + 1, k + 1)).collect::<Vec<_>>());
    assert_eq!(wal.read(1, 1000, u64::MAX).unwrap().len(), 1000);
    assert_eq!(wal.read(401, 402, u64::MAX).unwrap(), entries(401..=402, 3));

    wal.stage(Append {
        truncate_after: Some(500),
        entries: entries(501..=510, 9),
        ..Append::default()
    })
    .unwrap();
    wal.drop_prefix(300).unwrap();
    wal.commit().unwrap();
    while let Some(job) = wal.take_job() {
        wal.finish_job(job.run()).unwrap();
    }
    drop(wal);

    let check = Check { verify_from: 500, floor: Some(400), suspects: &[] };
    let (wal, recovery) = Wal::open(disk(), options, check).unwrap();
    assert_eq!(recovery.ending, Ending::Whole);
    assert_eq!(wal.log_start(), Position::new(300, 2));
    assert_eq!(wal.last(), Position::new(510, 9));
    let all = wal.read(301, 510, u64::MAX).unwrap();
    let expected: Vec<Entry> = [(301..=400, 2), (401..=500, 3), (501..=510, 9)]
        .into_iter()
        .flat_map(|(range, term)| entries(range, term))
        .collect();
    assert_eq!(all, expected);
}

#[test]
fn what_is_written_can_be_read_after_a_restart_on_a_real_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep").join("log");
    write_and_reopen(&|| RealDisk::open(&path).unwrap());
}

#[test]
fn what_is_written_can_be_read_after_a_restart_on_a_simulated_disk() {
    let medium = SimDisk::new();
    write_and_reopen(&|| medium.disk());
}
