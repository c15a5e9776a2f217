//! A full disk: refused before a byte is written, with room left for what must go on.

use wal::sim_disk::SimDisk;
use wal::{Append, AppendError, Check, Entry, Metadata, Options, Wal};

use crate::harness::{observe, options};

fn entry(index: u64) -> Append {
    let entries = vec![Entry::new(index, 1, 0, vec![b'x'; 200])];
    Append { entries, ..Append::default() }
}

fn vote(number: u64) -> Append {
    let metadata = Some(Metadata::new(&number.to_le_bytes()).unwrap());
    Append { metadata, ..Append::default() }
}

/// Fills a log on a disk that has no room for a third segment.
fn fill() -> (SimDisk, Options, Wal, u64) {
    let medium = SimDisk::new();
    let options = options(4096);
    medium.set_room(Some(2 * 4096 + 100));
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    let mut index = 0;
    loop {
        let room = wal.room();
        match wal.stage(entry(index + 1)) {
            Ok(_) => index += 1,
            Err(AppendError::NoSpace { bytes, .. }) => {
                assert!(room < bytes, "room for {room} was announced, {bytes} were refused");
                break;
            }
            Err(error) => panic!("{error}"),
        }
        wal.commit().unwrap();
        if let Some(job) = wal.take_job() {
            wal.finish_job(job.run()).unwrap();
        }
    }
    assert!(index > 15, "two segments were filled, not {index} entries");
    (medium, options, wal, index)
}

#[test]
fn on_a_full_disk_entries_are_refused_and_votes_are_not() {
    let (medium, _, mut wal, index) = fill();
    let model = observe(&wal);
    assert_eq!(model.last().index, index);
    for number in 0..3 {
        wal.stage(vote(number)).unwrap();
        wal.commit().unwrap();
    }
    assert!(medium.used() <= 2 * 4096 + 100);
}

#[test]
fn dropping_a_prefix_makes_room_on_a_full_disk() {
    let (_, _, mut wal, index) = fill();
    wal.drop_prefix(index).unwrap();
    wal.commit().unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    for more in 1..=20 {
        wal.stage(entry(index + more)).unwrap();
        wal.commit().unwrap();
        wal.drop_prefix(index + more).unwrap();
    }
}

#[test]
fn a_log_opens_on_a_disk_without_a_free_byte() {
    let (medium, options, wal, _) = fill();
    let model = observe(&wal);
    drop(wal);
    medium.set_room(Some(0));
    medium.crash(3);
    let (mut wal, _) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    assert!(observe(&wal) == model);
    wal.stage(vote(9)).unwrap();
    wal.commit().unwrap();
}

#[test]
fn a_job_without_space_is_no_error_and_is_offered_again() {
    let medium = SimDisk::new();
    medium.set_room(Some(4096 + 100));
    let mut wal = Wal::create(medium.disk(), options(4096)).unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    assert!(wal.take_job().is_none(), "not again at once");
    assert_eq!(medium.files(), ["0000000000000001.wal"]);
    wal.stage(entry(1)).unwrap();
    wal.commit().unwrap();
    medium.set_room(None);
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    assert_eq!(medium.files().len(), 2);
}

/// A log that was closed with a spare of 4096 bytes, and options with larger segments.
fn grown() -> (SimDisk, Options) {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(4096)).unwrap();
    wal.stage(entry(1)).unwrap();
    wal.commit().unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    wal.close().unwrap();
    (medium, options(64 * 1024))
}

#[test]
fn after_the_segment_size_was_raised_the_largest_records_find_a_place() {
    let (medium, options) = grown();
    let (mut wal, _) = Wal::open(medium.disk(), options.clone(), Check::default()).unwrap();
    let payload = vec![b'x'; options.record_bytes_max as usize];
    let entries = vec![Entry::new(2, 1, 0, payload)];
    assert!(wal.room() > options.record_bytes_max);
    wal.stage(Append { entries, ..Append::default() }).unwrap();
    wal.commit().unwrap();
    let model = observe(&wal);
    drop(wal);
    medium.crash(7);
    let (wal, _) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    assert!(observe(&wal) == model);
}

#[test]
fn a_small_spare_is_kept_while_the_disk_has_no_room_for_a_larger_one() {
    let (medium, options) = grown();
    medium.set_room(Some(medium.used()));
    let files = medium.files();
    let (mut wal, _) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    assert_eq!(medium.files(), files);
    let mut index = 2;
    while wal.stage(entry(index)).is_ok() {
        wal.commit().unwrap();
        index += 1;
    }
    assert_eq!(wal.segment_count(), 2, "the log has gone on in the small one");
}

#[test]
fn however_small_entries_are_they_leave_room_for_votes() {
    let medium = SimDisk::new();
    let options = options(64 * 1024);
    medium.set_room(Some(64 * 1024 + 100));
    let mut wal = Wal::create(medium.disk(), options).unwrap();
    for payload in [8000, 100, 0] {
        loop {
            let next = Entry::new(wal.last().index + 1, 1, 0, vec![b'x'; payload]);
            match wal.stage(Append { entries: vec![next], ..Append::default() }) {
                Ok(_) => wal.commit().unwrap(),
                Err(AppendError::NoSpace { .. }) => break,
                Err(error) => panic!("{error}"),
            };
        }
    }
    for number in 0..30 {
        wal.stage(vote(number)).unwrap();
        wal.commit().unwrap();
    }
    wal.drop_prefix(wal.last().index).unwrap();
    wal.commit().unwrap();
}
