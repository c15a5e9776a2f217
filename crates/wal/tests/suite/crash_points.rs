//! Every point at which the power can go during a short life, and every way in which it can go.

use wal::Check;
use wal::sim_disk::{Fate, Fault, Pending, SimDisk};

use crate::harness::{Harness, Random};

/// Up to this many pending things all combinations are tried; beyond, a sample.
const EXHAUSTIVE_MAX: usize = 12;
const SAMPLES: u64 = 200;

/// Runs a life up to its `point`-th operation on the disk, where the power goes. `None` if the
/// life is over before.
fn run_until(seed: u64, steps: u64, point: u64) -> Option<Harness> {
    let mut random = Random::new(seed);
    let mut harness = Harness::create(4096);
    harness.medium.inject(point, None, Fault::PowerOff);
    for _ in 0..steps {
        if harness.step(&mut random).is_err() {
            return Some(harness);
        }
    }
    None
}

/// Reopens the medium as one crash left it, and once more after another.
fn check_recovery(harness: &mut Harness, medium: SimDisk, random: &mut Random, story: &str) {
    let allowed = harness.allowed.clone();
    let check = harness.check(random);
    harness.medium = medium;
    harness.recover(check, story);
    harness.wal = None;
    harness.medium.crash_with(|_| Fate::Lose);
    harness.recover(Check::default(), &format!("{story}, then all unsynced lost"));
    harness.allowed = allowed;
    harness.wal = None;
}

fn every_subset(harness: &mut Harness, pending: usize, random: &mut Random, story: &str) -> u64 {
    let medium = harness.medium.clone();
    let subsets = 1_u64 << pending.min(EXHAUSTIVE_MAX);
    for subset in 0..subsets {
        let mut kept = subset;
        if pending > EXHAUSTIVE_MAX {
            kept = random.draw();
        }
        let fork = medium.fork();
        let mut number = 0;
        fork.crash_with(|_| {
            number += 1;
            if kept >> (number - 1) & 1 == 1 { Fate::Keep } else { Fate::Lose }
        });
        check_recovery(harness, fork, random, &format!("{story}, subset {kept:b} of {pending}"));
    }
    harness.medium = medium;
    subsets
}

fn mangled(harness: &mut Harness, random: &mut Random, story: &str) {
    let medium = harness.medium.clone();
    for _ in 0..SAMPLES / 10 {
        let fork = medium.fork();
        fork.crash_with(|pending| match (pending, random.below(4)) {
            (Pending::Sector { is_blank: true, .. }, 0) => {
                Fate::Tear { bytes: random.below(512) as u16 }
            }
            (Pending::Sector { is_blank: true, .. }, 1) => Fate::Garble { seed: random.draw() },
            (_, 2) => Fate::Keep,
            _ => Fate::Lose,
        });
        check_recovery(harness, fork, random, &format!("{story}, mangled"));
    }
    harness.medium = medium;
}

fn every_crash_point(seed: u64, steps: u64) -> (u64, u64) {
    let mut points = 0;
    let mut crashes = 0;
    while let Some(mut harness) = run_until(seed, steps, points) {
        let mut random = Random::new(seed ^ points);
        let story = format!("seed {seed}, power off at operation {points}");
        harness.wal = None;
        let pending = harness.medium.pending().len();
        crashes += every_subset(&mut harness, pending, &mut random, &story);
        mangled(&mut harness, &mut random, &story);
        points += 1;
    }
    (points, crashes)
}

#[test]
fn acknowledged_is_recovered_for_every_crash_point_and_every_subset_of_sectors() {
    let mut crashes = 0;
    for seed in 0..3 {
        let (points, tried) = every_crash_point(seed, 50);
        assert!(points > 30, "seed {seed} lived through {points} operations only");
        crashes += tried;
    }
    assert!(crashes > 1_000, "only {crashes} crashes were tried");
}
