//! A disk that says no: failed writes and syncs, lost writes, unreadable sectors.

use wal::sim_disk::{Fate, Fault, OperationKind, SimDisk};
use wal::{
    Append, AppendError, Check, Damage, Ending, Entry, OpenError, Options, Position, ReadError,
    Wal, WalError,
};

use crate::harness::{Harness, Random, for_seeds, observe, options};

pub(crate) fn entries(range: std::ops::RangeInclusive<u64>) -> Append {
    let entry = |index| Entry::new(index, 1, 0, format!("payload of {index}").into_bytes());
    Append { entries: range.map(entry).collect(), ..Append::default() }
}

pub(crate) fn log_with(medium: &SimDisk, options: &Options, last: u64) -> Wal {
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    wal.stage(entries(1..=last)).unwrap();
    wal.commit().unwrap();
    wal
}

fn fail_a_commit(fault: Fault, kind: OperationKind) -> (SimDisk, Options) {
    let medium = SimDisk::new();
    let options = options(16 * 1024);
    let mut wal = log_with(&medium, &options, 3);
    wal.stage(entries(4..=6)).unwrap();
    medium.inject(0, Some(kind), fault);
    let error = wal.commit().unwrap_err();
    assert!(matches!(error, WalError::Poisoned(_)), "{error}");
    assert_eq!(wal.durable(), Position::new(3, 1), "nothing of it is acknowledged");

    let before = medium.count(None);
    let again = wal.commit().unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "everyone is told the same cause");
    assert!(matches!(wal.stage(entries(7..=7)), Err(AppendError::Poisoned(_))));
    assert!(matches!(wal.drop_prefix(1), Err(WalError::Poisoned(_))));
    assert!(wal.take_job().is_none());
    assert_eq!(wal.room(), 0);
    assert!(wal.close().is_err());
    assert_eq!(medium.count(None), before, "and the disk is left alone");
    (medium, options)
}

#[test]
fn a_failed_sync_poisons_the_log_for_good() {
    let (medium, options) = fail_a_commit(Fault::EIO, OperationKind::SyncData);
    // The pages of the failed sync still read well, the next sync says that all is well, and the
    // medium has nothing. What is opened must be what the medium has.
    let (mut wal, _) = Wal::open(medium.disk(), options.clone(), Check::default()).unwrap();
    assert_eq!(wal.last(), Position::new(3, 1));
    wal.stage(entries(4..=4)).unwrap();
    wal.commit().unwrap();
    let model = observe(&wal);
    drop(wal);
    medium.crash_with(|_| Fate::Lose);
    let (wal, _) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    assert!(observe(&wal) == model);
}

#[test]
fn a_failed_write_poisons_the_log_for_good() {
    for fault in [Fault::EIO, Fault::ENOSPC] {
        let (medium, options) = fail_a_commit(fault, OperationKind::Write);
        let (wal, _) = Wal::open(medium.disk(), options, Check::default()).unwrap();
        assert_eq!(wal.last(), Position::new(3, 1));
    }
}

#[test]
fn a_failed_write_or_sync_at_any_moment_loses_nothing_that_was_acknowledged() {
    for_seeds(150, |seed| {
        for kind in [
            OperationKind::Write,
            OperationKind::SyncData,
            OperationKind::SyncAll,
            OperationKind::SyncDirectory,
            OperationKind::Rename,
            OperationKind::Create,
        ] {
            let mut random = Random::new(seed);
            let mut harness = Harness::create(4096);
            let fault = if seed % 3 == 0 { Fault::ENOSPC } else { Fault::EIO };
            harness.medium.inject(random.below(12), Some(kind), fault);
            for _ in 0..40 {
                if harness.step(&mut random).is_err() {
                    break;
                }
            }
            harness.wal = None;
            harness.medium.clear_faults();
            let story = format!("seed {seed}, {kind:?} failed");
            if seed % 2 == 0 {
                harness.medium.crash(seed);
            }
            harness.recover(Check::default(), &story);
            harness.wal = None;
            harness.medium.crash_with(|_| Fate::Lose);
            harness.recover(Check::default(), &format!("{story}, then the power went"));
        }
    });
}

#[test]
fn a_segment_whose_name_was_never_durable_has_acknowledged_nothing() {
    let medium = SimDisk::new();
    let options = options(4096);
    let mut wal = log_with(&medium, &options, 3);
    let job = wal.take_job().unwrap();
    medium.inject(0, Some(OperationKind::SyncDirectory), Fault::EIO);
    let error = wal.finish_job(job.run()).unwrap_err();
    assert!(matches!(error, WalError::Poisoned(_)), "a directory is not trusted twice: {error}");
    assert!(wal.commit().is_err());
    drop(wal);
    medium.crash_with(|_| Fate::Keep);
    let (wal, _) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    assert_eq!(wal.last(), Position::new(3, 1));
}

#[test]
fn a_write_that_was_silently_lost_is_damage_once_a_later_one_proves_it() {
    for fault in [Fault::LoseWrite, Fault::Misdirect(512), Fault::Misdirect(64)] {
        let medium = SimDisk::new();
        let options = options(16 * 1024);
        let mut wal = log_with(&medium, &options, 3);
        medium.inject(0, Some(OperationKind::Write), fault);
        wal.stage(entries(4..=4)).unwrap();
        wal.commit().unwrap();
        wal.stage(entries(5..=6)).unwrap();
        wal.commit().unwrap();
        drop(wal);
        match Wal::open(medium.disk(), options, Check::default()) {
            Err(OpenError::Corrupt { damage: Damage::BatchHeader, lost, .. }) => {
                assert_eq!(lost.after, Position::new(3, 1));
                assert_eq!((lost.through, lost.term_max), (Some(4), Some(1)), "{fault:?}");
            }
            other => panic!("{fault:?}: {:?}", other.map(|(_, recovery)| recovery)),
        }
    }
}

#[test]
fn an_unreadable_sector_is_damage_where_it_was_durable_and_an_error_at_the_end() {
    let medium = SimDisk::new();
    let options = options(16 * 1024);
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    for index in 1..=4 {
        let payload = vec![index as u8; 1024];
        let entries = vec![Entry::new(index, 1, 0, payload)];
        wal.stage(Append { entries, ..Append::default() }).unwrap();
        wal.commit().unwrap();
    }
    drop(wal);
    let file = "0000000000000001.wal";

    // Inside of the first payload: only that payload is lost.
    let fork = medium.fork();
    fork.spoil_sector(file, 1);
    let (mut wal, recovery) = Wal::open(fork.disk(), options.clone(), Check::default()).unwrap();
    assert_eq!(recovery.lost, [Position::new(1, 1)]);
    assert!(matches!(wal.read(1, 4, u64::MAX), Err(ReadError::Lost { .. })));
    assert_eq!(wal.read(2, 4, u64::MAX).unwrap().len(), 3);
    wal.repair(Position::new(1, 1), &vec![1; 1024].into()).unwrap();
    assert_eq!(wal.read(1, 4, u64::MAX).unwrap().len(), 4);

    // Where a header stands: history is lost, and the loss has bounds.
    let fork = medium.fork();
    fork.spoil_sector(file, 2);
    let opened = Wal::open(fork.disk(), options.clone(), Check::default());
    match opened {
        Err(OpenError::Corrupt { damage: Damage::Unreadable, lost, .. }) => {
            assert_eq!((lost.after.index, lost.through), (1, Some(2)));
        }
        other => panic!("{:?}", other.map(|(_, recovery)| recovery)),
    }

    // In the last batch, of which nothing says that it was durable, and behind it: neither the
    // end of the log nor damage, but a disk that must be asked again.
    for sector in [7, 12] {
        let fork = medium.fork();
        fork.spoil_sector(file, sector);
        let opened = Wal::open(fork.disk(), options.clone(), Check::default());
        assert!(matches!(opened, Err(OpenError::UnreadableEnd { .. })), "sector {sector}");
    }
}

#[test]
fn opening_twice_changes_nothing_and_a_second_owner_is_refused() {
    for_seeds(40, |seed| {
        let mut random = Random::new(seed);
        let mut harness = Harness::create(4096);
        harness.medium.inject(100 + seed, None, Fault::PowerOff);
        while harness.step(&mut random).is_ok() {}
        harness.wal = None;
        harness.medium.crash(seed);
        harness.recover(Check::default(), "first");
        let options = harness.options.clone();
        let second = Wal::open(harness.medium.disk(), options, Check::default());
        assert!(matches!(second, Err(OpenError::Locked { .. })));
        harness.wal = None;
        let files = harness.medium.files();
        let contents: Vec<_> = files.iter().map(|file| harness.medium.contents(file)).collect();
        let recovery = harness.recover(Check::default(), "second");
        assert!(!matches!(recovery.ending, Ending::Torn(_)), "seed {seed}");
        assert_eq!(harness.medium.files(), files, "seed {seed}");
        let again: Vec<_> = files.iter().map(|file| harness.medium.contents(file)).collect();
        assert!(again == contents, "seed {seed}: opening an orderly log writes nothing");
    });
}

#[test]
fn an_unused_segment_that_cannot_be_read_is_made_again() {
    for sector in 0..8 {
        for is_torn in [false, true] {
            let medium = SimDisk::new();
            let options = options(4096);
            let mut wal = log_with(&medium, &options, 3);
            let job = wal.take_job().unwrap();
            wal.finish_job(job.run()).unwrap();
            drop(wal);
            if is_torn {
                medium.corrupt("0000000000000001.wal", |bytes| bytes[1000] = 1);
            }
            medium.spoil_sector("0000000000000002.wal", sector);
            let opened = Wal::open(medium.disk(), options, Check::default());
            if is_torn && sector == 0 {
                // What is torn may have been a seal, and the link behind it cannot be read.
                assert!(matches!(opened, Err(OpenError::UnreadableEnd { .. })));
                assert_eq!(medium.files().len(), 2, "nothing is removed");
                continue;
            }
            let (mut wal, _) = opened.unwrap();
            assert_eq!(medium.files(), ["0000000000000001.wal"], "sector {sector}");
            let job = wal.take_job().unwrap();
            wal.finish_job(job.run()).unwrap();
            for index in 4..=60 {
                wal.stage(entries(index..=index)).unwrap();
                wal.commit().unwrap();
            }
            assert!(wal.segment_count() > 1, "the log has gone on in it");
        }
    }
}

#[test]
fn a_repair_whose_sync_failed_leaves_the_payload_lost() {
    let medium = SimDisk::new();
    let options = options(4096);
    let mut wal = log_with(&medium, &options, 3);
    for index in 4..=80 {
        wal.stage(entries(index..=index)).unwrap();
        wal.commit().unwrap();
    }
    assert!(wal.segment_count() > 2, "the damaged segment is an old one");
    drop(wal);
    let (payload, position) = (b"payload of 1", Position::new(1, 1));
    medium.corrupt("0000000000000001.wal", |bytes| {
        let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
        bytes[at] ^= 1;
    });
    let (mut wal, recovery) = Wal::open(medium.disk(), options.clone(), Check::default()).unwrap();
    assert_eq!(recovery.lost, [position]);
    medium.inject(0, Some(OperationKind::SyncData), Fault::EIO);
    assert!(wal.repair(position, &payload.to_vec().into()).is_err());
    drop(wal);
    let (_, recovery) = Wal::open(medium.disk(), options, Check::default()).unwrap();
    assert_eq!(recovery.lost, [position], "what is cached of it was never durable");
}
