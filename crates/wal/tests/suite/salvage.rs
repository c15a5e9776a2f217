//! Lost history: what is left opens again, and everything that was given up lies beside it.

use wal::sim_disk::{OperationKind, SimDisk};
use wal::{Append, Check, Damage, Entry, Inspector, OpenError, Position, Salvage, Wal};

use crate::harness::{observe, options};
use crate::sample::{SEGMENT_BYTES, Sample, append, entry};

fn salvage(medium: &SimDisk) -> Result<Salvage, OpenError> {
    Inspector::open(medium.disk()).unwrap().salvage()
}

/// How many operations have changed the medium.
fn changes(medium: &SimDisk) -> u64 {
    let kinds =
        [OperationKind::Write, OperationKind::Create, OperationKind::Remove, OperationKind::Rename];
    kinds.iter().map(|kind| medium.count(Some(*kind))).sum()
}

/// Whatever is left holds only entries that were written, and takes new ones.
fn check_what_is_left(sample: &Sample, medium: &SimDisk, found: &Salvage, story: &str) {
    let (mut wal, _) = sample.open(medium, Check::default()).unwrap_or_else(|error| {
        panic!("{story}: does not open after salvage: {error}");
    });
    assert_eq!((wal.log_start(), wal.last()), (found.start, found.last), "{story}");
    let lost = wal.lost();
    for index in found.start.index + 1..=found.last.index {
        if lost.iter().any(|lost| lost.index == index) {
            continue;
        }
        let entry = wal.read(index, index, 1).unwrap().remove(0);
        let is_held = sample.model.entries.get(&index) == Some(&entry);
        assert!(is_held || sample.dead.contains(&entry), "{story}: entry {index}");
    }
    let next = Entry::new(found.last.index + 1, found.last.term, 0, b"after".to_vec());
    wal.stage(Append { entries: vec![next], ..Append::default() }).unwrap();
    wal.commit().unwrap();
}

#[test]
fn whatever_bit_took_history_along_the_rest_opens_again() {
    let sample = Sample::new();
    let (mut salvaged, mut hopeless) = (0, 0);
    for file in sample.medium.files() {
        let used = sample.medium.contents(&file).unwrap().len();
        for byte in (0..used).step_by(3) {
            let medium = sample.medium.fork();
            medium.corrupt(&file, |contents| contents[byte] ^= 1 << (byte % 8));
            if sample.open(&medium.fork(), Check::default()).is_ok() {
                continue;
            }
            let story = format!("{file} byte {byte}");
            let inspector = Inspector::open(medium.disk()).unwrap();
            let before = changes(&medium);
            let plan = inspector.plan_salvage();
            assert_eq!(changes(&medium), before, "{story}: a plan changed something");
            match inspector.salvage() {
                Ok(found) => {
                    let plan = plan.unwrap().expect("it did not open");
                    assert_eq!((plan.start, plan.last), (found.start, found.last), "{story}");
                    drop(inspector);
                    assert!(!found.aside.is_empty(), "{story}: nothing was put aside");
                    check_what_is_left(&sample, &medium, &found, &story);
                    salvaged += 1;
                }
                Err(_) => {
                    assert!(plan.is_err(), "{story}: planned what cannot be done");
                    hopeless += 1;
                }
            }
        }
    }
    assert!(salvaged > 100, "{salvaged} were salvaged, {hopeless} were not");
    assert!(hopeless * 20 < salvaged, "{salvaged} were salvaged, {hopeless} were not");
}

#[test]
fn a_log_without_one_of_its_segments_opens_again() {
    let sample = Sample::new();
    let files = sample.medium.files();
    let lasts: Vec<Position> = files
        .iter()
        .enumerate()
        .map(|(number, file)| {
            let medium = sample.medium.fork();
            assert!(medium.destroy(file));
            let found = salvage(&medium).unwrap();
            check_what_is_left(&sample, &medium, &found, &format!("without segment {number}"));
            if number == 0 {
                assert!(found.start.index > sample.model.start.index, "the beginning is gone");
            } else {
                assert!(found.start <= sample.model.start, "the beginning is there");
            }
            found.last
        })
        .collect();
    assert_eq!(lasts[0], sample.model.last(), "the end is there");
    assert!(lasts[1] < lasts[2] && lasts[2] < lasts[0], "{lasts:?}");
}

#[test]
fn damage_that_hides_a_dropped_prefix_leaves_the_newest_segments() {
    let sample = Sample::new();
    let (mut wal, _) = sample.open(&sample.medium, Check::default()).unwrap();
    let last = wal.last();
    wal.drop_prefix(last.index - 1).unwrap();
    wal.commit().unwrap();
    while let Some(job) = wal.take_job() {
        wal.finish_job(job.run()).unwrap();
    }
    drop(wal);
    let files: Vec<String> = sample.medium.files();
    assert_eq!(files.len(), 2, "one segment and a spare");
    // The batch before the dropped prefix: without what follows, older segments are missing.
    sample.medium.corrupt(&files[0], |contents| contents[sample.last_batch as usize + 2] ^= 1);
    match sample.open(&sample.medium, Check::default()) {
        Err(OpenError::Corrupt { segment, damage: Damage::BatchHeader, .. }) => {
            assert_eq!(segment, files[0], "the damaged segment is named, not the dropped ones");
        }
        other => panic!("{:?}", other.map(|(_, recovery)| recovery)),
    }
    let found = salvage(&sample.medium).unwrap();
    let (wal, _) = sample.open(&sample.medium, Check::default()).unwrap();
    assert_eq!((wal.log_start(), wal.last()), (found.start, found.last));
    assert!(found.start > sample.model.start && found.last < last);
    observe(&wal);
}

#[test]
fn a_plan_names_the_entries_behind_the_damage_that_would_go_with_it() {
    let sample = Sample::new();
    let files = sample.medium.files();
    assert!(sample.medium.destroy(&files[1]));
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let plan = inspector.plan_salvage().unwrap().expect("a segment is missing");
    let OpenError::Corrupt { segment, damage: Damage::Missing, lost, .. } = &plan.damage else {
        panic!("{}", plan.damage);
    };
    assert_eq!(segment, &files[1]);
    assert_eq!(lost.after.index, plan.last.index);
    let [(first, last)] = plan.given_up[..] else { panic!("{:?}", plan.given_up) };
    assert_eq!(last, sample.model.last());
    assert_eq!(Some(first.index - 1), lost.through, "what is not lost begins right behind");
}

#[test]
fn a_log_that_opens_is_left_alone() {
    let sample = Sample::new();
    let before: Vec<_> =
        sample.medium.files().iter().map(|file| sample.medium.contents(file)).collect();
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    assert!(inspector.plan_salvage().unwrap().is_none());
    drop(inspector);
    let found = salvage(&sample.medium).unwrap();
    assert_eq!(found.aside, Vec::<String>::new());
    assert_eq!((found.start, found.last), (sample.model.start, sample.model.last()));
    let after: Vec<_> =
        sample.medium.files().iter().map(|file| sample.medium.contents(file)).collect();
    assert!(before == after);
}

#[test]
fn nothing_that_was_given_up_is_thrown_away() {
    let sample = Sample::new();
    let files = sample.medium.files();
    let originals: Vec<Vec<u8>> = {
        let medium = &sample.medium;
        medium.corrupt(&files[1], |contents| contents[600] ^= 1);
        files.iter().map(|file| medium.contents(file).unwrap()).collect()
    };
    if sample.open(&sample.medium.fork(), Check::default()).is_ok() {
        sample.medium.corrupt(&files[1], |contents| contents[64..600].fill(1));
    }
    let damaged = sample.medium.contents(&files[1]).unwrap();
    let found = salvage(&sample.medium).unwrap();
    let aside: Vec<Vec<u8>> =
        found.aside.iter().map(|path| sample.medium.contents(path).unwrap()).collect();
    assert!(aside.contains(&originals[2]) && aside.contains(&damaged));
    assert!(aside.iter().all(|contents| contents.len() as u64 == SEGMENT_BYTES));
}

#[test]
fn of_a_segment_that_was_cut_short_everything_before_the_cut_is_left() {
    let sample = Sample::new();
    let files = sample.medium.files();
    for (number, file) in files.iter().enumerate() {
        let original = sample.medium.contents(file).unwrap();
        let used = original.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for length in (64..SEGMENT_BYTES as usize).step_by(97) {
            let medium = sample.medium.fork();
            medium.corrupt(file, |contents| contents.truncate(length));
            let story = format!("{file} has {length} bytes");
            let inspector = Inspector::open(medium.disk()).unwrap();
            let plan = inspector.plan_salvage().unwrap().expect(&story);
            let OpenError::Corrupt { lost, .. } = &plan.damage else { panic!("{}", plan.damage) };
            if number > 0 {
                assert!(lost.after >= plan.last, "{story}: what is left is not lost: {lost}");
            }
            let found = inspector.carry_out(&plan).unwrap();
            drop(inspector);
            check_what_is_left(&sample, &medium, &found, &story);
            match number {
                0 => assert_eq!(found.last, sample.model.last(), "{story}: the newer end is left"),
                _ if length >= used => assert_eq!(found.last, sample.model.last(), "{story}"),
                _ => assert!(found.start <= sample.model.start, "{story}"),
            }
            if number > 0 && length > used / 2 {
                let before = number as u64 * 10;
                assert!(found.last.index > before, "{story}: {:?} is left", found.last);
            }
        }
    }
}

#[test]
fn a_log_whose_only_segment_was_cut_short_keeps_what_stands_before_the_cut() {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(SEGMENT_BYTES)).unwrap();
    for index in 1..=10 {
        wal.stage(append(vec![entry(index, 1, 100)])).unwrap();
        wal.commit().unwrap();
    }
    drop(wal);
    medium.corrupt("0000000000000001.wal", |contents| contents.truncate(1_000));
    let found = salvage(&medium).unwrap();
    assert_eq!(found.start, Position::default());
    assert!((4..10).contains(&found.last.index), "{:?}", found.last);
    let (wal, _) = Wal::open(medium.disk(), options(SEGMENT_BYTES), Check::default()).unwrap();
    assert_eq!(wal.last(), found.last);
}
