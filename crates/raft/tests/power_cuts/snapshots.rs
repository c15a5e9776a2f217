//! Snapshots among everything else that goes on: long work that is done sooner or later or never,
//! and a server that is away until what it lacks is gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use raft::replica::SnapshotEvent;
use raft::storage::FoundSnapshots;

use super::{World, founder};

/// How often what snapshots are for came up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SnapshotCounts {
    pub(super) written: u64,
    pub(super) installed: u64,
    pub(super) resumed: u64,
    pub(super) finished_at_start: u64,
}

impl SnapshotCounts {
    pub(super) fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.installed += other.installed;
        self.resumed += other.resumed;
        self.finished_at_start += other.finished_at_start;
    }

    /// Whether so many runs have met enough of it to mean something.
    pub(super) fn are_enough(&self, runs: u64) -> bool {
        self.written > 10 * runs && self.installed > runs / 4 && self.resumed > 0
    }
}

impl World {
    pub(super) fn note_recovery(&mut self, found: &FoundSnapshots) {
        assert!(found.damaged.is_empty(), "no power cut damages a snapshot: {:?}", found.damaged);
        self.snapshots.finished_at_start += u64::from(found.finished_install);
    }

    pub(super) fn on_snapshot_event(&mut self, event: &SnapshotEvent) {
        match event {
            SnapshotEvent::Written { .. } => self.snapshots.written += 1,
            SnapshotEvent::Receiving { offset, .. } if *offset > 0 => self.snapshots.resumed += 1,
            SnapshotEvent::Damaged { reason } => panic!("no power cut damages: {reason}"),
            _ => {}
        }
    }

    /// Some of a server's long work is done, in any order.
    pub(super) fn work(&mut self, n: usize) {
        if !self.chance.percent(self.mix.jobs) {
            return;
        }
        for _ in 0..=self.chance.below(4) {
            let at = self.chance.below(self.servers[n].jobs.len());
            if at < self.servers[n].jobs.len() {
                let done = self.servers[n].jobs.remove(at).run();
                if self.servers[n].disk.disk().list().is_err() {
                    // The power went while the job ran.
                    return self.crash(n);
                }
                if self.chance.percent(self.mix.crashes / 10) {
                    // Between the work and what the replica makes of it.
                    self.power_will_fail(n);
                }
                if let Some((_, replica)) = &mut self.servers[n].running {
                    replica.finish_job(done, Duration::ZERO);
                }
            }
            self.advance(n);
        }
    }

    /// One server is away while all goes well for the others, so that what it lacks is gone from
    /// their logs when it comes back, into whatever goes wrong then.
    pub(super) fn leave_one_behind(&mut self) {
        let away = self.chance.below(self.servers.len());
        let calm = self.mix.calm();
        let mix = std::mem::replace(&mut self.mix, calm);
        self.cut.clear();
        for n in (0..self.servers.len()).filter(|n| *n != away) {
            self.calm_down(n);
            self.cut.insert((founder(away).id, founder(n).id));
            self.cut.insert((founder(n).id, founder(away).id));
        }
        for _ in 0..500 {
            self.step();
        }
        self.cut.clear();
        self.mix = mix;
    }

    /// Whatever is wrong with a server ends.
    pub(super) fn calm_down(&mut self, n: usize) {
        self.servers[n].disk.clear_faults();
        self.servers[n].write_ticks.store(0, Ordering::Relaxed);
        if self.servers[n].disk.disk().list().is_err() {
            // The power went, and the server did not notice yet.
            self.crash(n);
        }
        if self.servers[n].running.is_none() {
            self.start(n);
        }
    }
}
