//! A medium that gives two answers: what cannot be read, or opened, at one moment and can be at the
//! next is neither damage nor a torn end. And a mend that was interrupted before its sync is not
//! taken for one that is durable.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal::disk::write_all_at;
use wal::sim_disk::{Fate, Fault, OperationKind, Pending, SimDisk};
use wal::{Append, Check, Entry, Metadata, OpenError, Options, Position, Wal};

use crate::harness::{Model, observe, options};
use crate::twisted::{Twist, twisted};

/// A log of so many segments, with a vote in every batch.
fn grown(segments: usize) -> (SimDisk, Options, Wal) {
    let medium = SimDisk::new();
    let options = options(4096);
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    while wal.segment_count() < segments {
        let next = wal.last().index + 1;
        wal.stage(Append {
            metadata: Some(Metadata::new(format!("vote {next}").as_bytes()).unwrap()),
            entries: vec![Entry::new(next, 1, 0, vec![7; 900])],
            ..Append::default()
        })
        .unwrap();
        wal.commit().unwrap();
    }
    (medium, options, wal)
}

/// Lets `run` operations in a row fail, at every place of an opening: nothing may be lost, and
/// nothing may be called damaged.
fn fail_in_a_row(medium: &SimDisk, options: &Options, acknowledged: &Model, run: u64) {
    let probe = medium.fork();
    let opens = |medium: &SimDisk| medium.count(Some(OperationKind::Open));
    let before = opens(&probe);
    drop(Wal::open(probe.disk(), options.clone(), Check::default()).unwrap());
    for at in 0..opens(&probe) - before {
        let failing = medium.fork();
        for more in 0..run {
            failing.inject(at + more, Some(OperationKind::Open), Fault::Error(24));
        }
        let story = format!("{run} failures from open {at} on");
        match Wal::open(failing.disk(), options.clone(), Check::default()) {
            Ok((wal, recovery)) => {
                failing.clear_faults();
                assert!(recovery.lost.is_empty(), "{story}: {:?}", recovery.lost);
                assert!(observe(&wal) == *acknowledged, "{story}");
            }
            Err(error) => assert!(!error.is_damage(), "{story}: {error}"),
        }
        failing.clear_faults();
        let (wal, _) = Wal::open(failing.disk(), options.clone(), Check::default()).unwrap();
        assert!(observe(&wal) == *acknowledged, "{story}: opened again");
    }
}

#[test]
fn files_that_cannot_be_opened_for_a_while_cost_nothing_and_are_no_damage() {
    let (medium, options, wal) = grown(40);
    let acknowledged = observe(&wal);
    drop(wal);
    for run in [1, 2, 4, 1000] {
        fail_in_a_row(&medium, &options, &acknowledged, run);
    }
}

#[test]
fn a_reset_whose_file_cannot_be_opened_for_a_while_stays() {
    let (medium, options, mut wal) = grown(40);
    wal.stage(Append::<Vec<Entry>> {
        reset: Some(Position::new(wal.last().index + 100, 7)),
        metadata: Some(Metadata::new(b"vote of the reset").unwrap()),
        ..Append::default()
    })
    .unwrap();
    wal.commit().unwrap();
    let acknowledged = observe(&wal);
    drop(wal);
    for run in [2, 4] {
        fail_in_a_row(&medium, &options, &acknowledged, run);
    }
}

/// The first sector of one file gives errors for some reads, and then answers again.
#[derive(Debug)]
struct Marginal {
    name: &'static str,
    /// Reads of the sector so far.
    reads: AtomicU64,
    failing: Range<u64>,
}

impl Twist for Marginal {
    fn before_read(&self, name: &str, offset: u64) -> io::Result<()> {
        if name == self.name
            && offset < 512
            && self.failing.contains(&self.reads.fetch_add(1, Ordering::Relaxed))
        {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

#[test]
fn a_sector_that_fails_for_a_while_takes_nothing_along() {
    let (medium, options, wal) = grown(3);
    let acknowledged = observe(&wal);
    drop(wal);
    for name in ["0000000000000002.wal", "0000000000000003.wal"] {
        for from in 0..16 {
            for many in 1..12 {
                let medium = medium.fork();
                let (reads, failing) = (AtomicU64::new(0), from..from + many);
                let marginal = Arc::new(Marginal { name, reads, failing });
                let disk = twisted(medium.disk(), Arc::clone(&marginal) as Arc<dyn Twist>);
                let story = format!("{name}: reads {from}..{}", from + many);
                match Wal::open(disk, options.clone(), Check::default()) {
                    Ok((wal, recovery)) => {
                        assert!(recovery.lost.is_empty(), "{story}: {:?}", recovery.lost);
                        let held = (wal.last(), wal.metadata());
                        assert_eq!(held, (acknowledged.last(), acknowledged.metadata), "{story}");
                    }
                    // Only a sector that did not answer again before this opening ended is damage.
                    Err(error) if marginal.reads.load(Ordering::Relaxed) > from + many => {
                        assert!(!error.is_damage(), "{story}: {error}");
                    }
                    Err(_) => {}
                }
                match Wal::open(medium.disk(), options.clone(), Check::default()) {
                    Ok((wal, _)) => assert!(observe(&wal) == acknowledged, "{story}"),
                    Err(error) => panic!("{story}: {error}"),
                }
            }
        }
    }
}

/// Drops the prefix until the first segment goes, then cuts the power, so that only what was
/// synced stays, and opens again.
fn let_the_first_go_and_cut(medium: &SimDisk, options: Options, check: Check<'_>, mut wal: Wal) {
    let mut through = 0;
    while medium.contents("0000000000000001.wal").is_some() {
        through += 1;
        wal.drop_prefix(through).unwrap();
        wal.commit().unwrap();
        while let Some(job) = wal.take_job() {
            wal.finish_job(job.run()).unwrap();
        }
    }
    let acknowledged = observe(&wal);
    drop(wal);
    medium.crash_with(|pending| match pending {
        Pending::Name { .. } => Fate::Keep,
        _ => Fate::Lose,
    });
    let (wal, _) = Wal::open(medium.disk(), options, check).unwrap();
    assert!(observe(&wal) == acknowledged);
}

#[test]
fn a_mend_whose_sync_did_not_happen_is_synced_by_the_next_opening() {
    let second = "0000000000000002.wal";
    for failed_sync in [true, false] {
        let (medium, options, wal) = grown(6);
        let check = Check { verify_from: wal.last().index, ..Check::default() };
        drop(wal);
        medium.corrupt(second, |bytes| bytes[64 + 40] ^= 1);
        if failed_sync {
            medium.inject(0, Some(OperationKind::SyncData), Fault::EIO);
            assert!(matches!(
                Wal::open(medium.disk(), options.clone(), check),
                Err(OpenError::Io(_))
            ));
            medium.clear_faults();
        } else {
            // The process ended between the write of the mend and its sync.
            let mended = medium.fork();
            drop(Wal::open(mended.disk(), options.clone(), check).unwrap());
            let whole = mended.contents(second).unwrap();
            let file = medium.disk().open(second).unwrap();
            write_all_at(&*file, &whole[64..224], 64).unwrap();
        }
        let (wal, _) = Wal::open(medium.disk(), options.clone(), check).unwrap();
        let_the_first_go_and_cut(&medium, options, check, wal);
    }
}
