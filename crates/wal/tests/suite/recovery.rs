//! What opening makes of unsynced bytes, of stale ones, and of the ends of segments.

use wal::sim_disk::{Fate, Fault, OperationKind, Pending, SimDisk};
use wal::{Append, Check, Damage, Ending, Entry, Fsync, Metadata, OpenError, Position, Wal};

use crate::faults::{entries, log_with};
use crate::harness::{observe, options};

#[test]
fn bytes_of_a_torn_batch_never_come_back() {
    let medium = SimDisk::new();
    let options = options(16 * 1024);
    let mut wal = log_with(&medium, &options, 3);
    // A long batch of which all but its first sector reaches the medium.
    medium.inject(0, Some(OperationKind::SyncData), Fault::PowerOff);
    wal.stage(entries(4..=60)).unwrap();
    assert!(wal.commit().is_err());
    drop(wal);
    let mut sectors = 0;
    medium.crash_with(|_| {
        sectors += 1;
        if sectors == 1 { Fate::Lose } else { Fate::Keep }
    });
    assert!(sectors > 3);
    let (mut wal, recovery) = Wal::open(medium.disk(), options.clone(), Check::default()).unwrap();
    let Ending::Torn(torn) = recovery.ending else { panic!("{:?}", recovery.ending) };
    assert_eq!(torn.after, Position::new(3, 1));
    // A shorter one over it, torn as well.
    medium.inject(0, Some(OperationKind::SyncData), Fault::PowerOff);
    wal.stage(entries(4..=10)).unwrap();
    assert!(wal.commit().is_err());
    drop(wal);
    medium.crash_with(|_| Fate::Lose);
    let contents = medium.contents("0000000000000001.wal").unwrap();
    let tail = &contents[torn.offset as usize..];
    assert!(tail.iter().all(|byte| *byte == 0), "opening has wiped what was torn");
    let (wal, recovery) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    assert_eq!(recovery.ending, Ending::Whole);
    assert_eq!(wal.last(), Position::new(3, 1));
}

#[test]
fn bytes_of_a_torn_first_batch_of_a_segment_never_come_back() {
    let medium = SimDisk::new();
    let options = options(4096);
    let mut wal = log_with(&medium, &options, 3);
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    let large = |index| Append {
        entries: vec![Entry::new(index, 1, 0, vec![b'x'; 1000])],
        ..Append::default()
    };
    wal.stage(large(4)).unwrap();
    wal.commit().unwrap();
    wal.stage(large(5)).unwrap();
    wal.commit().unwrap();
    // The seal is synced, the batch behind it is not: all but its first sector arrives.
    medium.inject(1, Some(OperationKind::SyncData), Fault::PowerOff);
    wal.stage(large(6)).unwrap();
    assert!(wal.commit().is_err());
    drop(wal);
    let mut sectors = 0;
    medium.crash_with(|_| {
        sectors += 1;
        if sectors == 1 { Fate::Lose } else { Fate::Keep }
    });
    assert!(sectors >= 2);
    let (wal, recovery) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    assert!(matches!(recovery.ending, Ending::Torn(torn) if torn.segment == 2));
    assert_eq!(wal.last().index, 5);
    let successor = medium.contents("0000000000000002.wal").unwrap();
    assert!(successor[64..].iter().all(|byte| *byte == 0), "opening has wiped what was torn");
}

#[test]
fn a_torn_directory_does_not_take_along_what_its_header_proves() {
    let file = "0000000000000001.wal";
    let base = SimDisk::new();
    let options = options(16 * 1024);
    let mut wal = log_with(&base, &options, 3);
    base.record_operations();
    wal.stage(entries(4..=6)).unwrap();
    wal.commit().unwrap();
    let acknowledged = base.operations()[0].clone();
    base.inject(0, Some(OperationKind::SyncData), Fault::PowerOff);
    // A directory of more than two sectors.
    wal.stage(entries(7..=83)).unwrap();
    assert!(wal.commit().is_err());
    drop(wal);
    let torn_at = acknowledged.offset + acknowledged.bytes;
    let contents = base.contents(file).unwrap();
    let needle = b"payload of 5";
    let payload = contents.windows(needle.len()).position(|window| window == needle).unwrap();
    let end = torn_at as usize - 1;
    let sectors = base.pending().len();
    assert!(sectors > 4);
    for lost_sector in 1..sectors {
        for (flipped, lost) in [(payload, vec![Position::new(5, 1)]), (end, Vec::new())] {
            let medium = base.fork();
            let mut number = 0;
            medium.crash_with(|_| {
                number += 1;
                if number == lost_sector + 1 { Fate::Lose } else { Fate::Keep }
            });
            medium.corrupt(file, |contents| contents[flipped] ^= 1);
            let story = format!("sector {lost_sector} did not arrive, byte {flipped} rotted");
            let opened = Wal::open(medium.disk(), options.clone(), Check::default());
            let (wal, recovery) = opened.unwrap();
            let Ending::Torn(torn) = recovery.ending else { panic!("{story}: not torn") };
            assert_eq!((torn.offset, torn.after), (torn_at, Position::new(6, 1)), "{story}");
            assert_eq!(recovery.lost, lost, "{story}");
            assert_eq!(wal.last(), Position::new(6, 1), "{story}");
        }
    }
}

#[test]
fn a_seal_is_not_believed_if_nothing_says_that_its_segment_was_synced() {
    let medium = SimDisk::new();
    let mut options = options(4096);
    options.fsync = Fsync::UnsafeNever;
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    while wal.segment_count() < 3 {
        let index = wal.last().index + 1;
        let entries = vec![Entry::new(index, 1, 0, vec![b'x'; 300])];
        wal.stage(Append { entries, ..Append::default() }).unwrap();
        wal.commit().unwrap();
    }
    let last = wal.last().index;
    drop(wal);
    // One sector in the middle of the first segment is all that the power cut takes.
    medium.crash_with(|pending| match pending {
        Pending::Sector { path, number: 3, .. } if path == "0000000000000001.wal" => Fate::Lose,
        _ => Fate::Keep,
    });
    let check = Check { verify_from: last + 1, floor: None, suspects: &[] };
    let (wal, recovery) = Wal::open(medium.disk(), options, check).unwrap();
    assert!(matches!(recovery.ending, Ending::Torn(torn) if torn.segment == 1));
    assert!(wal.last().index < 8, "what stands behind the lost sector does not count");
    observe(&wal);
}

#[test]
fn a_seal_that_the_next_link_does_not_confirm_is_not_believed() {
    let medium = SimDisk::new();
    let options = options(4096);
    drop(log_with(&medium, &options, 3));
    let other = medium.fork();
    // Two lives of the same log, alike in every length: only the votes differ.
    let live = |medium: &SimDisk, vote: &[u8]| {
        let opened = Wal::open(medium.disk(), options.clone(), Check::default());
        let (mut wal, _) = opened.unwrap();
        for index in 4..=12 {
            let metadata = Some(Metadata::new(vote).unwrap());
            let entries = vec![Entry::new(index, 1, 0, vec![b'x'; 400])];
            wal.stage(Append { metadata, entries, ..Append::default() }).unwrap();
            wal.commit().unwrap();
        }
        assert!(wal.segment_count() > 1);
        observe(&wal)
    };
    let model = live(&medium, b"for s1");
    live(&other, b"for s2");
    let file = "0000000000000001.wal";
    let stale = other.contents(file).unwrap();
    medium.corrupt(file, |contents| {
        let needle = b"for s1";
        let at = contents.windows(needle.len()).rposition(|window| window == needle).unwrap();
        // The seal is what stands at the very end.
        contents[at - 100..].copy_from_slice(&stale[at - 100..]);
    });
    let check = Check { verify_from: model.last().index, floor: None, suspects: &[] };
    let (wal, recovery) = Wal::open(medium.disk(), options, check).unwrap();
    assert_eq!(recovery.mended.len(), 1, "the seal was made again from what it seals");
    assert!(observe(&wal) == model);
}

#[test]
fn a_batch_whose_last_sector_never_arrived_is_torn_even_if_it_ends_in_zeros() {
    let zeros = |bytes| Metadata::new(&vec![0; bytes]).unwrap();
    for filler in 0..48 {
        let medium = SimDisk::new();
        let options = options(16 * 1024);
        let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
        let entries = vec![Entry::new(1, 1, 0, vec![b'x'; 240 + 4 * filler])];
        wal.stage(Append { entries, ..Append::default() }).unwrap();
        wal.commit().unwrap();
        medium.inject(0, Some(OperationKind::SyncData), Fault::PowerOff);
        let metadata = Some(zeros(64));
        wal.stage(Append::<Vec<Entry>> { metadata, ..Append::default() }).unwrap();
        assert!(wal.commit().is_err());
        drop(wal);
        let sectors = medium.pending().len();
        let mut number = 0;
        medium.crash_with(|_| {
            number += 1;
            if number < sectors { Fate::Keep } else { Fate::Lose }
        });
        let (wal, recovery) = Wal::open(medium.disk(), options, Check::default()).unwrap();
        assert_eq!(wal.metadata(), None, "{filler}: {sectors} sectors");
        let is_torn = matches!(recovery.ending, Ending::Torn(_));
        assert_eq!(is_torn, sectors > 1, "{filler}: {sectors} sectors");
    }
}

#[test]
fn a_batch_that_was_exchanged_for_another_whole_one_is_noticed() {
    let medium = SimDisk::new();
    let options = options(16 * 1024);
    drop(log_with(&medium, &options, 3));
    let other = medium.fork();
    let write = |medium: &SimDisk, payload: &str, more: u64| {
        let opened = Wal::open(medium.disk(), options.clone(), Check::default());
        let (mut wal, _) = opened.unwrap();
        medium.record_operations();
        let fourth = vec![Entry::new(4, 1, 0, payload.as_bytes().to_vec())];
        wal.stage(Append { entries: fourth, ..Append::default() }).unwrap();
        wal.commit().unwrap();
        for index in 5..5 + more {
            wal.stage(entries(index..=index)).unwrap();
            wal.commit().unwrap();
        }
        let first = medium.operations()[0].clone();
        first.offset as usize..(first.offset + first.bytes) as usize
    };
    let place = write(&medium, "what was acknowledged", 2);
    write(&other, "what never happened..", 0);
    let file = "0000000000000001.wal";
    let stale = other.contents(file).unwrap();
    medium.corrupt(file, |contents| {
        contents[place.clone()].copy_from_slice(&stale[place.clone()]);
    });
    match Wal::open(medium.disk(), options.clone(), Check::default()) {
        Err(OpenError::Corrupt { damage: Damage::Splice, offset, .. }) => {
            assert_eq!(offset as usize, place.end, "what follows does not continue it");
        }
        other => panic!("{:?}", other.map(|(_, recovery)| recovery)),
    }
}
