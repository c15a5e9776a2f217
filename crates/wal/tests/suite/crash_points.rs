//! Every point at which the power can go during a short life, and every way in which it can go.

use wal::Check;
use wal::sim_disk::{Fate, Fault, Pending, SimDisk};

use crate::counts::tell;
use crate::harness::{Harness, Random};

/// Up to this many pending things all combinations are tried; beyond, a sample.
const EXHAUSTIVE_MAX: usize = 12;
const MANGLED: u64 = 20;

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
    for _ in 0..MANGLED {
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

/// How many points there were, and how many subsets and mangled media were tried at them.
#[derive(Default)]
struct Tried {
    points: u64,
    /// All subsets of what was pending, and samples of them where that was too much.
    subsets: u64,
    samples: u64,
    mangled: u64,
}

fn every_crash_point(seed: u64, steps: u64) -> Tried {
    let mut tried = Tried::default();
    while let Some(mut harness) = run_until(seed, steps, tried.points) {
        let mut random = Random::new(seed ^ tried.points);
        let story = format!("seed {seed}, power off at operation {}", tried.points);
        harness.wal = None;
        let pending = harness.medium.pending().len();
        let subsets = every_subset(&mut harness, pending, &mut random, &story);
        if pending > EXHAUSTIVE_MAX {
            tried.samples += subsets
        } else {
            tried.subsets += subsets
        }
        mangled(&mut harness, &mut random, &story);
        tried.mangled += MANGLED;
        tried.points += 1;
    }
    tried
}

#[test]
fn acknowledged_is_recovered_for_every_crash_point_and_every_subset_of_sectors() {
    let mut all = Tried::default();
    for seed in 0..3 {
        let tried = every_crash_point(seed, 50);
        let points = tried.points;
        assert!(points > 30, "seed {seed} lived through {points} operations only");
        all.points += points;
        all.subsets += tried.subsets;
        all.samples += tried.samples;
        all.mangled += tried.mangled;
    }
    assert!(all.subsets > 1_000, "only {} subsets were tried", all.subsets);
    // After each of them the power goes a second time.
    tell(&[
        ("crash points", all.points),
        ("subsets of unsynced sectors and names", all.subsets),
        ("samples of larger sets", all.samples),
        ("media with torn or garbled sectors", all.mangled),
        ("simulated power cuts", 2 * (all.subsets + all.samples + all.mangled)),
    ]);
}
