//! Reading old segments again while the log runs: what is found, and what is only not read.

use wal::sim_disk::{Fault, OperationKind, SimDisk};
use wal::{Append, Check, Damage, Entry, ReadError, Wal};

use crate::damage::rot;
use crate::harness::{observe, options};
use crate::sample::Sample;

#[test]
fn a_scrub_finds_rot_in_a_running_log_and_repair_heals_it() {
    let sample = Sample::new();
    let check = Check { verify_from: sample.model.last().index, floor: None, suspects: &[] };
    let (mut wal, _) = sample.open(&sample.medium, check).unwrap();
    let victim = sample.model.entries[&6].clone();
    rot(&sample.medium, std::slice::from_ref(&victim));
    let mut scrubbed = Vec::new();
    let mut lost = Vec::new();
    while let Some(scrub) = wal.scrub(scrubbed.last().copied().unwrap_or(0)) {
        scrubbed.push(scrub.sequence());
        lost.extend(wal.finish_scrub(scrub.run()).unwrap());
    }
    assert_eq!(scrubbed, [1, 2], "every full segment, once");
    assert_eq!((&lost, wal.lost()), (&vec![victim.position()], lost.clone()));
    assert!(matches!(wal.read(victim.index, victim.index, 1), Err(ReadError::Lost { .. })));
    let again = wal.scrub(0).unwrap().run();
    assert_eq!(wal.finish_scrub(again).unwrap(), [], "known already");
    wal.repair(victim.position(), victim.payload()).unwrap();
    assert!(observe(&wal) == sample.model);
}

#[test]
fn a_scrub_leaves_a_segment_alone_whose_seal_is_on_its_way() {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(4096)).unwrap();
    let successor = wal.take_job().unwrap().run();
    wal.finish_job(successor).unwrap();
    let mut index = 0;
    let flush = loop {
        index += 1;
        let entries = vec![Entry::new(index, 1, 0, vec![b'x'; 400])];
        wal.stage(Append { entries, ..Append::default() }).unwrap();
        let flush = wal.begin_commit().unwrap().unwrap();
        if wal.segment_count() > 1 {
            break flush;
        }
        wal.finish_commit(flush.run()).unwrap();
    };
    assert!(wal.scrub(0).is_none(), "the first segment is not sealed yet");
    wal.finish_commit(flush.run()).unwrap();
    let scrub = wal.scrub(0).unwrap();
    assert_eq!(scrub.sequence(), 1);
    assert_eq!(wal.finish_scrub(scrub.run()).unwrap(), [], "it is whole");
}

#[test]
fn a_scrub_reports_a_rotten_structure_and_forgets_what_was_dropped_meanwhile() {
    let sample = Sample::new();
    let (mut wal, _) = sample.open(&sample.medium, Check::default()).unwrap();
    let (first, second) = (wal.scrub(0).unwrap(), wal.scrub(1).unwrap());
    for file in &sample.medium.files()[..2] {
        sample.medium.corrupt(file, |contents| contents[170] ^= 1);
    }
    let (first, second) = (first.run(), second.run());
    assert!(matches!(wal.finish_scrub(second), Err(ReadError::Corrupt { .. })));
    wal.drop_prefix(wal.last().index).unwrap();
    wal.commit().unwrap();
    assert_eq!(wal.finish_scrub(first).unwrap(), [], "nothing needs that segment any more");
}

#[test]
fn a_scrub_tells_of_a_file_that_does_not_open_and_goes_on_behind_it() {
    let sample = Sample::new();
    let (mut wal, _) = sample.open(&sample.medium, Check::default()).unwrap();
    sample.medium.destroy(&sample.medium.files()[0].clone());
    let scrub = wal.scrub(0).expect("its file is gone, and it is needed all the same");
    assert_eq!(scrub.sequence(), 1);
    let missed = wal.finish_scrub(scrub.run()).unwrap_err();
    assert!(matches!(&missed, ReadError::Io(failure) if !failure.is_exhaustion()), "{missed}");
    assert_eq!(missed.segment(), Some(1));
    let scrub = wal.scrub(1).expect("the next one is read all the same");
    sample.medium.inject(0, Some(OperationKind::Open), Fault::Error(24));
    let missed = wal.finish_scrub(scrub.run()).unwrap_err();
    assert!(matches!(&missed, ReadError::Io(failure) if failure.is_exhaustion()), "{missed}");
    let again = wal.scrub(1).unwrap();
    assert_eq!(wal.finish_scrub(again.run()).unwrap(), [], "whole, now that it opens");
    assert!(wal.scrub(2).is_none());
}

#[test]
fn what_cannot_be_read_in_a_running_log_is_not_called_rotten_and_rot_is_named_in_its_place() {
    let sample = Sample::new();
    let check = Check { verify_from: u64::MAX, ..Check::default() };
    let first = sample.medium.files()[0].clone();
    let held = sample.model.start.index + 1;
    let both = |medium: &SimDisk| {
        let (mut wal, _) = sample.open(medium, check).unwrap();
        let read = wal.read(held, held, 1).unwrap_err();
        let scrub = wal.scrub(0).unwrap();
        [read, wal.finish_scrub(scrub.run()).unwrap_err()]
    };
    // The link can be read and the batch in the next sector cannot. The batches of the whole
    // segment are walked through for an entry that opening did not look for.
    let medium = sample.medium.fork();
    medium.spoil_sector(&first, 1);
    for error in both(&medium) {
        assert!(matches!(error, ReadError::Io(_)), "{error}");
        assert_eq!(error.segment(), Some(1));
    }
    // The directory of the batch that stands behind the link.
    let medium = sample.medium.fork();
    let contents = medium.contents(&first).unwrap();
    let link_bytes = u32::from_le_bytes(contents[80..84].try_into().unwrap());
    let batch = 64 + link_bytes as usize;
    medium.corrupt(&first, |contents| contents[batch + 40] ^= 1);
    for error in both(&medium) {
        match error {
            ReadError::Corrupt { offset, damage, .. } => {
                assert_eq!((offset, damage), (batch as u64, Damage::Directory));
            }
            error => panic!("{error}"),
        }
    }
}
