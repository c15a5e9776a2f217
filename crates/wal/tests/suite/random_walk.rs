//! Long random lives of a log: appends, truncations, resets, prefix removals, restarts, and power
//! cuts at any moment.

use wal::sim_disk::{Fault, OperationKind};
use wal::{Check, Fsync};

use crate::harness::{Harness, Random, for_seeds, observe, options};

const SEGMENT_SIZES: [u64; 3] = [4096, 6144, 16384];

/// Lives through `steps` operations with a power cut now and then.
fn live(seed: u64, steps: u64, fsync: Fsync) {
    let mut random = Random::new(seed);
    let mut options = options(SEGMENT_SIZES[random.below(3) as usize]);
    options.fsync = fsync;
    let mut harness = Harness::with(options);
    let mut cuts = 0;
    let mut is_armed = false;
    for step in 0..steps {
        if random.below(12) == 0 {
            harness.medium.inject(random.below(30), None, Fault::PowerOff);
            is_armed = true;
        }
        let story = format!("seed {seed}, step {step}, cut {cuts}");
        if harness.step(&mut random).is_err() {
            cuts += 1;
            is_armed = false;
            cut_the_power(&mut harness, &mut random, &story);
        } else if !is_armed {
            let seen = observe(harness.wal.as_ref().unwrap());
            assert!(seen == harness.model, "{story}: the running log is not as its model");
        }
    }
}

fn cut_the_power(harness: &mut Harness, random: &mut Random, story: &str) {
    let check = harness.check(random);
    harness.wal = None;
    harness.medium.crash(random.draw());
    // Opening may be cut short as well, any number of times.
    while random.below(3) == 0 {
        harness.medium.inject(random.below(20), None, Fault::PowerOff);
        let opened = wal::Wal::open(harness.medium.disk(), harness.options.clone(), check);
        drop(opened);
        harness.medium.crash(random.draw());
    }
    harness.recover(check, story);
    // What was returned is durable: another cut, right away, takes nothing of it.
    harness.wal = None;
    harness.medium.crash(random.draw());
    harness.recover(Check { verify_from: 0, ..check }, &format!("{story}, second cut"));
}

#[test]
fn a_log_survives_power_cuts_at_any_moment_of_any_life() {
    for_seeds(200, |seed| live(seed, 200, Fsync::Always));
}

#[test]
fn without_syncs_a_power_cut_leaves_an_earlier_state_and_never_looks_like_damage() {
    for_seeds(150, |seed| live(seed, 200, Fsync::UnsafeNever));
}

#[test]
fn interrupted_and_short_calls_change_nothing() {
    for_seeds(60, |seed| {
        let mut random = Random::new(seed);
        let mut harness = Harness::create(SEGMENT_SIZES[random.below(3) as usize]);
        for _ in 0..150 {
            for kind in [
                OperationKind::Read,
                OperationKind::Write,
                OperationKind::SyncData,
                OperationKind::SyncAll,
            ] {
                let is_sync = matches!(kind, OperationKind::SyncData | OperationKind::SyncAll);
                let fault = if is_sync || random.below(2) == 0 {
                    Fault::EINTR
                } else {
                    Fault::Short(random.below(40) as usize)
                };
                harness.medium.inject(random.below(3), Some(kind), fault);
            }
            harness.step(&mut random).unwrap();
        }
        let seen = observe(harness.wal.as_ref().unwrap());
        assert!(seen == harness.model, "seed {seed}: the log is not as its model");
    });
}
