//! Segments that the log has no use for: which may be removed, and in what order.

use wal::sim_disk::{Fault, SimDisk};
use wal::{Append, Check, LogId, OpenError, Options, Position, Wal};

use crate::harness::{Model, observe, options};
use crate::sample::{Sample, append, entry};

const SEGMENT_BYTES: u64 = 4096;

fn open(medium: &SimDisk, segment_bytes: u64) -> Result<(Wal, Vec<u64>), OpenError> {
    let opened = Wal::open(medium.disk(), options(segment_bytes), Check::default());
    opened.map(|(wal, recovery)| (wal, recovery.removed))
}

/// A log whose last segment is full and not sealed yet, with two empty ones behind it.
fn between_two_segments() -> (SimDisk, Model) {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(SEGMENT_BYTES)).unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    let mut model = observe(&wal);
    for index in 1.. {
        wal.stage(append(vec![entry(index, 1, 400)])).unwrap();
        let flush = wal.begin_commit().unwrap().unwrap();
        if let Some(job) = wal.take_job() {
            // It goes on in the next one, and nothing of that is on the medium.
            let _ = job.run();
            break;
        }
        wal.finish_commit(flush.run()).unwrap();
        model = observe(&wal);
    }
    drop(wal);
    medium.crash_with(|_| wal::sim_disk::Fate::Lose);
    assert_eq!(medium.files().iter().filter(|file| file.ends_with(".wal")).count(), 3);
    (medium, model)
}

#[test]
fn spares_of_another_size_go_without_a_trace_wherever_the_power_is_cut() {
    let (before, model) = between_two_segments();
    let mut removed = Vec::new();
    for at in 0.. {
        let medium = before.fork();
        medium.inject(at, None, Fault::PowerOff);
        if let Ok((_, all)) = open(&medium, 2 * SEGMENT_BYTES) {
            removed = all;
            break;
        }
        for seed in 0..32 {
            let medium = medium.fork();
            medium.crash(seed);
            let (wal, _) = open(&medium, 2 * SEGMENT_BYTES)
                .unwrap_or_else(|error| panic!("cut at {at}, seed {seed}: {error}"));
            assert!(observe(&wal) == model, "cut at {at}, seed {seed}");
        }
    }
    removed.sort_unstable();
    assert_eq!(removed, [2, 3], "both were of another size or of no use");
}

#[test]
fn a_segment_of_another_log_is_named_and_takes_nothing_along() {
    let sample = Sample::new();
    let stranger = SimDisk::new();
    let another = Options { log_id: Some(LogId(7)), ..options(SEGMENT_BYTES) };
    let mut wal = Wal::create(stranger.disk(), another).unwrap();
    let reset = Some(Position::new(70, 9));
    wal.stage(Append { reset, ..append(vec![entry(71, 9, 50)]) }).unwrap();
    wal.commit().unwrap();
    drop(wal);
    for (own, place) in [("first", 1), ("newest", 9)] {
        let medium = sample.medium.fork();
        let mut names = stranger.files().into_iter().filter(|name| name.ends_with(".wal"));
        let bytes = stranger.contents(&names.next_back().unwrap()).unwrap();
        let name = format!("{place:016x}.wal");
        let disk = medium.disk();
        if disk.list().unwrap().contains(&name) {
            disk.remove(&name).unwrap();
        }
        let file = disk.create(&name).unwrap();
        wal::disk::write_all_at(&*file, &bytes, 0).unwrap();
        file.sync_all().unwrap();
        disk.sync().unwrap();
        let before: Vec<_> = medium.files();
        let opened = sample.open(&medium, Check::default()).map(|(_, recovery)| recovery);
        assert!(matches!(opened, Err(OpenError::OtherLog { .. })), "{own}: {opened:?}");
        assert_eq!(medium.files(), before, "{own}: something was removed");
    }
}
