//! Long random lives of a log: appends, truncations, resets, prefix removals, restarts, and power
//! cuts at any moment.

use std::sync::atomic::{AtomicU64, Ordering};

use wal::sim_disk::{Fault, OperationKind};
use wal::{Check, Fsync};

use crate::counts::tell;
use crate::harness::{Harness, Random, for_seeds, observe, options};

const SEGMENT_SIZES: [u64; 3] = [4096, 6144, 16384];

/// Lives through `steps` operations with a power cut now and then.
fn live(seed: u64, steps: u64, fsync: Fsync) -> u64 {
    let mut random = Random::new(seed);
    let mut options = options(SEGMENT_SIZES[random.below(3) as usize]);
    options.fsync = fsync;
    let mut harness = Harness::with(options);
    let mut stops = 0;
    let mut cuts = 0;
    let mut is_armed = false;
    for step in 0..steps {
        if random.below(12) == 0 {
            harness.medium.inject(random.below(30), None, Fault::PowerOff);
            is_armed = true;
        }
        let story = format!("seed {seed}, step {step}, cut {stops}");
        if harness.step(&mut random).is_err() {
            stops += 1;
            is_armed = false;
            cuts += cut_the_power(&mut harness, &mut random, &story);
        } else if !is_armed {
            let seen = observe(harness.wal.as_ref().unwrap());
            assert!(seen == harness.model, "{story}: the running log is not as its model");
        }
    }
    cuts
}

/// How often the power went until the log was open again for good.
fn cut_the_power(harness: &mut Harness, random: &mut Random, story: &str) -> u64 {
    let mut cuts = 2;
    let check = harness.check(random);
    harness.wal = None;
    harness.medium.crash(random.draw());
    // Opening may be cut short as well, any number of times.
    while random.below(3) == 0 {
        harness.medium.inject(random.below(20), None, Fault::PowerOff);
        let opened = wal::Wal::open(harness.medium.disk(), harness.options.clone(), check);
        drop(opened);
        harness.medium.crash(random.draw());
        cuts += 1;
    }
    harness.recover(check, story);
    // What was returned is durable: another cut, right away, takes nothing of it.
    harness.wal = None;
    harness.medium.crash(random.draw());
    harness.recover(Check { verify_from: 0, ..check }, &format!("{story}, second cut"));
    cuts
}

fn live_many(seeds: u64, fsync: Fsync) {
    let cuts = AtomicU64::new(0);
    for_seeds(seeds, |seed| {
        cuts.fetch_add(live(seed, 200, fsync), Ordering::Relaxed);
    });
    tell(&[("simulated power cuts", cuts.into_inner())]);
}

#[test]
fn a_log_survives_power_cuts_at_any_moment_of_any_life() {
    live_many(200, Fsync::Always);
}

#[test]
fn without_syncs_a_power_cut_leaves_an_earlier_state_and_never_looks_like_damage() {
    live_many(150, Fsync::UnsafeNever);
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

/// A log whose truncations were right in memory once came back from the disk with entries that had
/// been cut (etcd-io/etcd#22442).
#[test]
fn after_every_step_the_log_on_the_disk_is_as_its_model() {
    for_seeds(80, |seed| {
        let mut random = Random::new(seed);
        let mut harness = Harness::create(SEGMENT_SIZES[random.below(3) as usize]);
        for step in 0..60 {
            harness.step(&mut random).unwrap();
            harness.reopen(&mut random).unwrap();
            let seen = observe(harness.wal.as_ref().unwrap());
            assert!(seen == harness.model, "seed {seed}, step {step}: not as the model");
        }
    });
}
