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
    /// Machines, of which some may be in no cluster at first.
    pub(super) servers: usize,
    /// Those that found the cluster.
    pub(super) founders: usize,
    pub(super) clients: usize,
    /// So many of a thousand reads are asked of any server, and not of the leader.
    pub(super) reads_anywhere_permille: u64,
    pub(super) keys: u64,
    /// How long things go wrong, in microseconds.
    pub(super) length: u64,
    /// What is mostly looked at now and then, since it takes long, is looked at every time.
    pub(super) looks_closely: bool,
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
    /// The frame arrives even if its connection is gone by then.
    pub(super) outlives_permille: u64,
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

/// What is done to servers and paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultPlan {
    /// Between two faults of a kind, on average, in microseconds; `None` if it is turned off.
    every: [Option<u64>; FaultKind::ALL.len()],
    /// How long most of them last, at most, in microseconds.
    pub(super) lasts_max: u64,
    /// How much the clocks may be off, in parts per million.
    pub(super) drift_ppm_max: u64,
    /// So many of a thousand changes of the membership are followed by another one at once.
    pub(super) hasty_permille: u64,
    /// So many of a thousand parts of snapshots end the connection that they come over.
    pub(super) snapshot_cut_permille: u64,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A process dies, its machine lives.
    Kill,
    /// A process stands still.
    Pause,
    /// Servers are cut off from each other, both ways.
    Partition,
    /// A path carries nothing, in one direction.
    PartitionOneWay,
    /// Frames are lost, repeated, changed or come late; connections are reset; strangers and the
    /// dead speak.
    Message,
    /// A server's clock jumps ahead, or begins to run at another pace.
    Clock,
    /// A machine loses power, now or at one of its next disk operations, and with it some of what
    /// was not synced.
    TornWrite,
    /// Bits of durable bytes flip.
    BitFlip,
    /// A write is lost although it was synced, or is found somewhere else.
    MisdirectedWrite,
    /// A sync fails.
    FsyncError,
    /// A disk is full for a while.
    NoSpace,
    /// A disk takes long for its next writes.
    SlowDisk,
    /// Somebody changes who belongs to the cluster, or who leads it.
    Membership,
    /// The transfer of a snapshot is cut short.
    Snapshot,
    /// All machines lose power.
    RestartAll,
    /// A leader is cut off, and given much to do: its log ends with what nobody else has.
    Coup,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [FaultKind; 16] = [
        FaultKind::Kill,
        FaultKind::Pause,
        FaultKind::Partition,
        FaultKind::PartitionOneWay,
        FaultKind::Message,
        FaultKind::Clock,
        FaultKind::TornWrite,
        FaultKind::BitFlip,
        FaultKind::MisdirectedWrite,
        FaultKind::FsyncError,
        FaultKind::NoSpace,
        FaultKind::SlowDisk,
        FaultKind::Membership,
        FaultKind::Snapshot,
        FaultKind::RestartAll,
        FaultKind::Coup,
    ];

    /// Its name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Kill => "kill",
            FaultKind::Pause => "pause",
            FaultKind::Partition => "partition",
            FaultKind::PartitionOneWay => "partition_one_way",
            FaultKind::Message => "message",
            FaultKind::Clock => "clock",
            FaultKind::TornWrite => "torn_write",
            FaultKind::BitFlip => "bit_flip",
            FaultKind::MisdirectedWrite => "misdirected_write",
            FaultKind::FsyncError => "fsync_error",
            FaultKind::NoSpace => "no_space",
            FaultKind::SlowDisk => "slow_disk",
            FaultKind::Membership => "membership",
            FaultKind::Snapshot => "snapshot",
            FaultKind::RestartAll => "restart_all",
            FaultKind::Coup => "coup",
        }
    }
}

/// Which faults may happen. Those that may not leave the others as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed(Option<Vec<FaultKind>>);

impl Allowed {
    /// Everything may go wrong.
    pub const ALL: Allowed = Allowed(None);

    /// Nothing but this.
    pub fn only(kinds: Vec<FaultKind>) -> Allowed {
        Allowed(Some(kinds))
    }

    fn allows(&self, kind: FaultKind) -> bool {
        self.0.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }
}

/// Small limits, so that what is rare in production is common here.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitPlan {
    pub(super) segment_bytes: u64,
    pub(super) cache_bytes: u64,
    pub(super) window_bytes_max: u64,
    pub(super) message_bytes_max: u64,
    pub(super) in_flight_bytes_max: u64,
    pub(super) apply_bytes_max: u64,
    pub(super) snapshot_every_bytes: u64,
    pub(super) tail_bytes: u64,
    pub(super) pinned_bytes_max: u64,
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
    pub(super) fn draw(dice: &mut Random, allowed: &Allowed) -> Plan {
        let founders = dice.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 7]);
        let outside = dice.pick(&[0, 0, 1, 2, 3]);
        let mut plan = Plan {
            servers: SERVERS_MAX.min(founders + outside),
            founders,
            clients: dice.pick(&[1, 3, 6, CLIENTS_MAX]),
            reads_anywhere_permille: dice.pick(&[0, 300, 900]),
            keys: dice.pick(&[1, 3, 8]),
            length: dice.pick(&[5, 15, 40]) * SECOND,
            looks_closely: false,
            network: NetworkPlan::draw(dice),
            disk: DiskPlan {
                is_beside: dice.permille(400),
                sync_min: dice.pick(&[20, 80]),
                sync_max: dice.pick(&[100, 500, 5000]),
                job_max: dice.pick(&[100, 5000, 100_000]),
            },
            faults: FaultPlan::draw(dice),
            limits: LimitPlan::draw(dice),
        };
        plan.turn_off(allowed);
        plan
    }

    /// Turns off what may not happen.
    fn turn_off(&mut self, allowed: &Allowed) {
        for (kind, every) in FaultKind::ALL.into_iter().zip(&mut self.faults.every) {
            *every = every.filter(|_| allowed.allows(kind));
        }
        if !allowed.allows(FaultKind::Message) {
            self.network = self.network.calm();
        }
        if !allowed.allows(FaultKind::Clock) {
            self.faults.drift_ppm_max = 0;
        }
        if !allowed.allows(FaultKind::Snapshot) {
            self.faults.snapshot_cut_permille = 0;
        }
    }
}

/// A name's number has one digit, and a round of votes stays short.
pub(super) const SERVERS_MAX: usize = 7;

/// Clients are given so many streams of chance.
pub(super) const CLIENTS_MAX: usize = 12;

impl NetworkPlan {
    fn draw(dice: &mut Random) -> NetworkPlan {
        NetworkPlan {
            delay_min: dice.pick(&[20, 100, 1000]),
            delay_max: dice.pick(&[1000, 2000, 20_000]),
            late_permille: dice.pick(&[0, 1, 20]),
            lost_permille: dice.pick(&[0, 0, 5, 50, 200]),
            repeated_permille: dice.pick(&[0, 0, 10, 100]),
            flipped_permille: dice.pick(&[0, 0, 1, 5]),
            outlives_permille: dice.pick(&[0, 100, 500]),
        }
    }

    /// Nothing goes wrong.
    pub(super) fn calm(&self) -> NetworkPlan {
        NetworkPlan {
            late_permille: 0,
            lost_permille: 0,
            repeated_permille: 0,
            flipped_permille: 0,
            outlives_permille: 0,
            ..*self
        }
    }
}

impl FaultPlan {
    fn draw(dice: &mut Random) -> FaultPlan {
        let base = dice.pick(&[100, 500, 2000]) * MILLISECOND;
        let every = std::array::from_fn(|_| {
            let weight = dice.pick(&[0, 1, 1, 4]);
            (10 * base).checked_div(weight)
        });
        FaultPlan {
            every,
            lasts_max: dice.pick(&[300, 1500, 6000]) * MILLISECOND,
            drift_ppm_max: dice.pick(&[0, 1000, 50_000]),
            snapshot_cut_permille: dice.pick(&[0, 20, 200]),
            hasty_permille: dice.pick(&[0, 300, 800]),
        }
    }

    /// Between two faults of this kind, on average; `None` if it does not happen.
    pub(super) fn every(&self, kind: FaultKind) -> Option<u64> {
        self.every[kind as usize]
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
