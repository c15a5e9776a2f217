//! What one run is like, drawn from its seed: how many servers there are, how small their limits
//! are, and what goes wrong how often. Every seed draws its own mix, since faults that always come
//! together hide each other ("swarm testing").

use raft::node::Config;
use raft::storage::SnapshotOptions;
use wal::sim_disk::Random;

use super::agenda::{MILLISECOND, SECOND};
use super::dice::Chance;

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) servers: usize,
    pub(super) clients: usize,
    pub(super) keys: u64,
    /// How long things go wrong, in microseconds.
    pub(super) length: u64,
    pub(super) network: NetworkPlan,
    pub(super) disk: DiskPlan,
    pub(super) faults: FaultPlan,
    pub(super) limits: LimitPlan,
}

/// What happens to frames on their way. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct NetworkPlan {
    pub(super) delay_min: u64,
    pub(super) delay_max: u64,
    /// So many of a thousand take up to a hundred times as long.
    pub(super) late_permille: u64,
    pub(super) lost_permille: u64,
    pub(super) repeated_permille: u64,
    /// A bit of the frame flips; whoever reads it ends the connection.
    pub(super) flipped_permille: u64,
}

/// How the disks are. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskPlan {
    /// The disk has a thread of its own.
    pub(super) is_beside: bool,
    pub(super) sync_min: u64,
    pub(super) sync_max: u64,
    pub(super) job_max: u64,
}

/// What is done to servers and paths. A weight of zero turns a fault off.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultPlan {
    /// Between two faults, on average, in microseconds.
    pub(super) every: u64,
    pub(super) weights: [u64; FaultKind::ALL.len()],
    /// How long most of them last, at most, in microseconds.
    pub(super) lasts_max: u64,
    /// How much the clocks may be off, in parts per million.
    pub(super) drift_ppm_max: u64,
}

/// A fault that is done at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FaultKind {
    /// A process dies, its machine lives.
    Kill,
    /// A machine loses power, now or at one of its next disk operations.
    PowerCut,
    /// All lose power.
    RestartAll,
    /// A process stands still.
    Pause,
    /// A disk takes long for its next writes.
    SlowDisk,
    /// Servers are cut off from each other, both ways.
    Partition,
    /// A path carries nothing, in one direction.
    PartitionOneWay,
    /// All connections of a server are reset.
    Reset,
    /// A sync fails.
    FsyncError,
    /// A leader is told to hand over.
    Transfer,
}

impl FaultKind {
    pub(super) const ALL: [FaultKind; 10] = [
        FaultKind::Kill,
        FaultKind::PowerCut,
        FaultKind::RestartAll,
        FaultKind::Pause,
        FaultKind::SlowDisk,
        FaultKind::Partition,
        FaultKind::PartitionOneWay,
        FaultKind::Reset,
        FaultKind::FsyncError,
        FaultKind::Transfer,
    ];

    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            FaultKind::Kill => "kill",
            FaultKind::PowerCut => "torn_write",
            FaultKind::RestartAll => "restart_all",
            FaultKind::Pause => "pause",
            FaultKind::SlowDisk => "slow_disk",
            FaultKind::Partition => "partition",
            FaultKind::PartitionOneWay => "partition_one_way",
            FaultKind::Reset => "reset",
            FaultKind::FsyncError => "fsync_error",
            FaultKind::Transfer => "transfer",
        }
    }
}

/// Small limits, so that what is rare in production is common here.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitPlan {
    pub(super) segment_bytes: u64,
    pub(super) cache_bytes: u64,
    window_bytes_max: u64,
    message_bytes_max: u64,
    in_flight_bytes_max: u64,
    apply_bytes_max: u64,
    snapshot_every_bytes: u64,
    tail_bytes: u64,
    pinned_bytes_max: u64,
    pub(super) snapshots: SnapshotOptions,
}

impl LimitPlan {
    pub(super) fn apply_to(&self, config: &mut Config) {
        config.window_bytes_max = self.window_bytes_max;
        config.message_bytes_max = self.message_bytes_max;
        config.in_flight_bytes_max = self.in_flight_bytes_max;
        config.in_flight_total_bytes_max = self.in_flight_bytes_max * 4;
        config.apply_bytes_max = self.apply_bytes_max;
        config.snapshot_every_bytes = self.snapshot_every_bytes;
        config.snapshot_growth_percent = 0;
        config.tail_bytes = self.tail_bytes;
        config.pinned_bytes_max = self.pinned_bytes_max;
    }
}

impl Plan {
    pub(super) fn draw(dice: &mut Random) -> Plan {
        Plan {
            servers: dice.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 7]),
            clients: dice.pick(&[1, 3, 6, 12]),
            keys: dice.pick(&[1, 3, 8]),
            length: dice.pick(&[5, 15, 40]) * SECOND,
            network: NetworkPlan::draw(dice),
            disk: DiskPlan {
                is_beside: dice.permille(400),
                sync_min: dice.pick(&[20, 80]),
                sync_max: dice.pick(&[100, 500, 5000]),
                job_max: dice.pick(&[100, 5000, 100_000]),
            },
            faults: FaultPlan::draw(dice),
            limits: LimitPlan::draw(dice),
        }
    }
}

impl NetworkPlan {
    fn draw(dice: &mut Random) -> NetworkPlan {
        NetworkPlan {
            delay_min: dice.pick(&[20, 100, 1000]),
            delay_max: dice.pick(&[1000, 2000, 20_000]),
            late_permille: dice.pick(&[0, 1, 20]),
            lost_permille: dice.pick(&[0, 0, 5, 50, 200]),
            repeated_permille: dice.pick(&[0, 0, 10, 100]),
            flipped_permille: dice.pick(&[0, 0, 1, 5]),
        }
    }

    /// Nothing goes wrong.
    pub(super) fn calm(&self) -> NetworkPlan {
        NetworkPlan {
            late_permille: 0,
            lost_permille: 0,
            repeated_permille: 0,
            flipped_permille: 0,
            ..*self
        }
    }
}

impl FaultPlan {
    fn draw(dice: &mut Random) -> FaultPlan {
        FaultPlan {
            every: dice.pick(&[100, 500, 2000]) * MILLISECOND,
            weights: std::array::from_fn(|_| dice.pick(&[0, 1, 1, 4])),
            lasts_max: dice.pick(&[300, 1500, 6000]) * MILLISECOND,
            drift_ppm_max: dice.pick(&[0, 1000, 50_000]),
        }
    }

    /// A fault, by its weight; `None` if all are turned off.
    pub(super) fn choose(&self, dice: &mut Random) -> Option<FaultKind> {
        let mut left = dice.below(self.weights.iter().sum());
        FaultKind::ALL.into_iter().zip(self.weights).find_map(|(kind, weight)| {
            let is_it = left < weight;
            left = left.saturating_sub(weight);
            is_it.then_some(kind)
        })
    }
}

impl LimitPlan {
    fn draw(dice: &mut Random) -> LimitPlan {
        LimitPlan {
            segment_bytes: dice.pick(&[16, 16, 64]) << 10,
            cache_bytes: dice.pick(&[500, 5000]),
            window_bytes_max: dice.pick(&[300, 1000, 10_000]),
            message_bytes_max: dice.pick(&[200, 1000, 4000]),
            in_flight_bytes_max: dice.pick(&[400, 2000, 8000]),
            apply_bytes_max: dice.pick(&[300, 3000]),
            snapshot_every_bytes: dice.pick(&[300, 2000, 20_000, u64::MAX]),
            tail_bytes: dice.pick(&[0, 0, 200, 2000]),
            pinned_bytes_max: dice.pick(&[0, 5000, 50_000]),
            snapshots: SnapshotOptions {
                block_bytes: 64,
                piece_bytes_max: dice.pick(&[64, 500, 2000]),
                chunk_bytes_max: dice.pick(&[200, 700, 3000]),
                bytes_per_heartbeat: dice.pick(&[2000, 10_000, 100_000]),
            },
        }
    }
}
