//! Putting a stopped log in order, and copying it before worse is done to it.

use wal::sim_disk::SimDisk;
use wal::{BackupError, Check, Health, Inspector, OpenError};

use crate::sample::{SEGMENT_BYTES, Sample};

fn contents(medium: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let files = medium.files().into_iter();
    files.map(|file| (file.clone(), medium.contents(&file).unwrap())).collect()
}

#[test]
fn mending_removes_a_torn_end_and_nothing_else() {
    let sample = Sample::new();
    let (last, offset) = (sample.last_file(), sample.last_batch as usize);
    sample.medium.corrupt(&last, |contents| contents[offset + 40] ^= 1);
    let before = contents(&sample.medium);
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let mended = inspector.mend().unwrap();
    assert_eq!(mended.torn.map(|torn| torn.offset), Some(sample.last_batch));
    assert_eq!(mended.places, []);
    assert!(matches!(inspector.verify().unwrap(), Health::Clean));
    for ((file, before), (_, after)) in before.iter().zip(contents(&sample.medium)) {
        let kept = if *file == last { offset } else { before.len() };
        assert!(before[..kept] == after[..kept], "{file}");
        assert!(after[kept..].iter().all(|byte| *byte == 0), "{file}");
    }
    drop(inspector);
    let (wal, _) = sample.open(&sample.medium, Check::default()).unwrap();
    assert_eq!(wal.last(), sample.before_last.last());
}

#[test]
fn mending_puts_the_very_bytes_back_that_can_be_told_from_others() {
    let sample = Sample::new();
    let whole = contents(&sample.medium);
    let mut mended = 0;
    for file in sample.medium.files() {
        let length = sample.medium.contents(&file).unwrap().len();
        for byte in 0..length {
            let medium = sample.medium.fork();
            medium.corrupt(&file, |contents| contents[byte] ^= 0x10);
            let inspector = Inspector::open(medium.disk()).unwrap();
            let Health::Damaged(findings) = inspector.verify().unwrap() else { continue };
            let places = inspector.mend().unwrap().places;
            if places.len() == findings.len() {
                assert!(contents(&medium) == whole, "{file} byte {byte}");
                mended += 1;
            } else {
                // What is left is a payload, and it stays where it was.
                let lost = matches!(inspector.verify().unwrap(), Health::Damaged(_));
                assert!(lost, "{file} byte {byte}");
            }
        }
    }
    assert!(mended > 100, "{mended}");
}

#[test]
fn lost_history_is_not_mended() {
    let sample = Sample::new();
    let files = sample.medium.files();
    assert!(sample.medium.destroy(&files[1]));
    let before = contents(&sample.medium);
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    assert!(matches!(inspector.mend(), Err(OpenError::Corrupt { .. })));
    assert!(contents(&sample.medium) == before);
}

#[test]
fn a_backup_is_every_file_as_it_is_and_never_takes_the_place_of_another() {
    let sample = Sample::new();
    let files = sample.medium.files();
    sample.medium.corrupt(&files[1], |contents| contents[100] ^= 1);
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let target = SimDisk::new();
    let backup = inspector.back_up(&*target.disk()).unwrap();
    assert_eq!((backup.files, backup.unreadable_bytes), (files.len() as u64, 0));
    assert_eq!(backup.bytes, inspector.segment_bytes().unwrap());
    target.crash(1);
    assert!(contents(&target) == contents(&sample.medium), "it survives a power cut");
    let again = inspector.back_up(&*target.disk());
    assert!(matches!(again, Err(BackupError::Io(_))), "{again:?}");
}

#[test]
fn a_backup_that_would_not_fit_is_not_begun() {
    let sample = Sample::new();
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let target = SimDisk::new();
    target.set_room(Some(inspector.segment_bytes().unwrap()));
    let refused = inspector.back_up(&*target.disk());
    assert!(matches!(refused, Err(BackupError::NoSpace { .. })), "{refused:?}");
    assert_eq!(target.files(), Vec::<String>::new());
}

#[test]
fn what_the_medium_cannot_read_is_zeros_in_the_backup_and_is_counted() {
    let sample = Sample::new();
    let file = sample.medium.files()[0].clone();
    sample.medium.spoil_sector(&file, 2);
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let target = SimDisk::new();
    let backup = inspector.back_up(&*target.disk()).unwrap();
    assert_eq!(backup.unreadable_bytes, 512);
    let mut expected = sample.medium.contents(&file).unwrap();
    expected[1024..1536].fill(0);
    assert!(target.contents(&file).unwrap() == expected);
    assert_eq!(expected.len() as u64, SEGMENT_BYTES);
}
