//! Links and seals at the borders of segments, where they are all that is left, or stand side by
//! side.

use wal::sim_disk::{Fate, Fault, OperationKind, SimDisk};
use wal::{Append, Check, Damage, Entry, OpenError, Wal};

use crate::harness::{observe, options};

fn put(wal: &mut Wal, bytes: usize) {
    let next = Entry::new(wal.last().index + 1, 1, 0, vec![b'x'; bytes]);
    wal.stage(Append { entries: vec![next], ..Append::default() }).unwrap();
    wal.commit().unwrap();
}

#[test]
fn a_rotten_link_of_the_only_segment_is_named_and_not_the_segment_before() {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(4096)).unwrap();
    while wal.segment_count() < 3 {
        put(&mut wal, 300);
    }
    put(&mut wal, 300);
    wal.drop_prefix(wal.last().index - 1).unwrap();
    wal.commit().unwrap();
    let removed = wal.take_job().unwrap();
    wal.finish_job(removed.run()).unwrap();
    let spare = wal.take_job().unwrap();
    wal.finish_job(spare.run()).unwrap();
    drop(wal);
    assert_eq!(medium.files(), ["0000000000000003.wal", "0000000000000004.wal"]);
    // The padding behind is made again without a word about the link.
    for bit in 0..93 * 8 {
        let medium = medium.fork();
        medium.corrupt("0000000000000003.wal", |bytes| bytes[64 + bit / 8] ^= 1 << (bit % 8));
        match Wal::open(medium.disk(), options(4096), Check::default()) {
            Err(OpenError::Corrupt { segment, offset: 64, damage: Damage::Link, .. }) => {
                assert_eq!(segment, "0000000000000003.wal", "bit {bit}");
            }
            other => panic!("bit {bit}: {:?}", other.map(|(_, recovery)| recovery)),
        }
    }
}

/// A log whose second segment is so small that its link and its seal went out in one write.
fn link_beside_seal() -> SimDisk {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(4096)).unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    for _ in 0..6 {
        put(&mut wal, 300);
    }
    assert_eq!(wal.segment_count(), 1);
    // The power goes when the first segment is sealed and the second one is still empty.
    medium.inject(1, Some(OperationKind::SyncData), Fault::PowerOff);
    let next = Entry::new(7, 1, 0, vec![b'x'; 900]);
    wal.stage(Append { entries: vec![next], ..Append::default() }).unwrap();
    assert!(wal.commit().is_err());
    drop(wal);
    medium.crash_with(|_| Fate::Lose);
    let larger = options(16 * 1024);
    let (mut wal, _) = Wal::open(medium.disk(), larger, Check::default()).unwrap();
    assert_eq!(wal.segment_count(), 2, "the second one is in use");
    put(&mut wal, 3500);
    assert_eq!(wal.segment_count(), 3, "and was too small for this");
    put(&mut wal, 10);
    medium
}

#[test]
fn a_rotten_seal_beside_its_link_is_made_again() {
    let medium = link_beside_seal();
    let larger = || options(16 * 1024);
    let (wal, _) = Wal::open(medium.disk(), larger(), Check::default()).unwrap();
    let model = observe(&wal);
    drop(wal);
    let file = "0000000000000002.wal";
    let contents = medium.contents(file).unwrap();
    let used = contents.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(used < 400, "a link and a seal, and nothing else: {used}");
    for bit in 64 * 8..used * 8 {
        let medium = medium.fork();
        medium.corrupt(file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let (wal, recovery) = Wal::open(medium.disk(), larger(), Check::default())
            .unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        assert_eq!(recovery.mended.len(), 1, "bit {bit}: {recovery:?}");
        assert!(observe(&wal) == model, "bit {bit}");
        drop(wal);
        assert!(medium.contents(file).unwrap() == contents, "bit {bit}: as it was written");
    }
}
