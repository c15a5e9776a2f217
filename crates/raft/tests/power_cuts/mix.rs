//! Chance, and how often it lets things go wrong.

use raft::node::Config;
use raft::storage::SnapshotOptions;

/// Where chance comes from; everything in a run follows from the seed.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("it is below a usize")
    }

    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How often things go wrong in one run, in percent; every seed draws its own mix.
#[derive(Clone)]
pub(super) struct Mix {
    pub(super) crashes: usize,
    /// All lose their power at once.
    pub(super) blackouts: usize,
    pub(super) cuts: usize,
    /// Reports that a leader is gone, most of them untrue.
    pub(super) rumours: usize,
    /// Disks that take an election timeout or longer for a write.
    pub(super) stalls: usize,
    /// Disks on a thread of their own, and how rarely they complete a write; 0 for disks on the
    /// replica's own thread, which complete each at once.
    pub(super) late: usize,
    /// Changes of the membership, transfers, and disks that are lost for good.
    pub(super) churn: usize,
    pub(super) losses: usize,
    pub(super) repeats: usize,
    pub(super) order: usize,
    /// How many messages arrive at once, at most.
    pub(super) deliveries: usize,
    /// How many ticks pass at once, at most.
    pub(super) pace: usize,
    /// How much of the time that passes each server notices.
    pub(super) clocks: [usize; 7],
    /// Payloads that rot on the disks.
    pub(super) rot: usize,
    /// How soon long work is done.
    pub(super) jobs: usize,
    pub(super) snapshots: SnapshotMix,
}

/// How often snapshots are taken, and in what portions they go.
#[derive(Clone, Copy)]
pub(super) struct SnapshotMix {
    pub(super) every_bytes: u64,
    pub(super) tail_bytes: u64,
    pub(super) pinned_bytes_max: u64,
    pub(super) options: SnapshotOptions,
}

impl SnapshotMix {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        Self {
            every_bytes: [50, 100, 300, u64::MAX][chance.below(4)],
            tail_bytes: [0, 0, 0, 200][chance.below(4)],
            pinned_bytes_max: [0, 0, 5000][chance.below(3)],
            options: SnapshotOptions {
                block_bytes: 64,
                piece_bytes_max: [64, 500, 2000][chance.below(3)],
                chunk_bytes_max: [200, 700, 3000][chance.below(3)],
                bytes_per_heartbeat: [1000, 10_000, 100_000][chance.below(3)],
            },
        }
    }
}

impl SnapshotMix {
    pub(super) fn apply(&self, config: &mut Config) {
        config.snapshot_every_bytes = self.every_bytes;
        config.snapshot_growth_percent = 0;
        config.tail_bytes = self.tail_bytes;
        config.pinned_bytes_max = self.pinned_bytes_max;
    }
}

impl Mix {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        // Where members come and go, the last whole copy of an entry could go with one.
        let (churn, rot) = match chance.below(6) {
            0 => (0, 0),
            1..=3 => ([30, 100][chance.below(2)], 0),
            _ => (0, [10, 30, 100][chance.below(3)]),
        };
        Self {
            crashes: [0, 20, 50, 100][chance.below(4)],
            blackouts: 20,
            cuts: [0, 10, 30, 100][chance.below(4)],
            rumours: [0, 10, 50][chance.below(3)],
            stalls: [0, 0, 10, 50][chance.below(4)],
            late: [0, 0, 10, 50, 90][chance.below(5)],
            churn,
            losses: [0, 2, 10, 30][chance.below(4)],
            repeats: [0, 5, 20][chance.below(3)],
            order: [100, 80, 40][chance.below(3)],
            deliveries: [5, 20, 60][chance.below(3)],
            pace: [4, 12, 40][chance.below(3)],
            rot,
            clocks: std::array::from_fn(|_| [100, 100, 50, 2][chance.below(4)]),
            jobs: [100, 100, 30][chance.below(3)],
            snapshots: SnapshotMix::draw(chance),
        }
    }

    /// Nothing goes wrong.
    pub(super) fn calm(&self) -> Self {
        Self {
            crashes: 0,
            blackouts: 0,
            cuts: 0,
            rumours: 0,
            stalls: 0,
            late: 0,
            churn: 0,
            rot: 0,
            losses: 0,
            repeats: 0,
            order: 100,
            clocks: [100; 7],
            jobs: 100,
            ..self.clone()
        }
    }
}
