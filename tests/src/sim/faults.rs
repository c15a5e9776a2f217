//! What goes wrong, and that it ends.

use raft::node::Member;
use wal::sim_disk::{Fault, OperationKind, Random};

use crate::check::Broken;

use super::agenda::SECOND;
use super::client::Answer;
use super::course::{SnapshotCut, Strike};
use super::dice::{Chance, Single};
use super::network::{Purpose, Way};
use super::plan::FaultKind;
use super::server::{RESTART_MICROS, number_of};
use super::world::{Happening, World};

impl World {
    /// One thing goes wrong.
    pub(super) fn strike(&mut self, strike: Strike) -> Result<(), Broken> {
        let Strike { kind, server, lasts, chance, .. } = strike;
        if self.is_calm || server >= self.servers.len() {
            return Ok(());
        }
        // What it is like does not depend on what struck before.
        *self.dice.fault(kind) = Random::new(chance);
        let now = self.now();
        self.trace.tell(now, || format!("{kind:?} at s{} for {lasts} us", server + 1));
        let has_fired = self.do_fault(kind, server, lasts)?;
        if has_fired {
            self.note_fired(kind);
        }
        self.trace.note_strike(now, &strike, has_fired);
        Ok(())
    }

    /// True if it made a difference at once. What does so later, or may not, is counted then.
    fn do_fault(&mut self, kind: FaultKind, server: usize, lasts: u64) -> Result<bool, Broken> {
        let is_up = self.servers[server].is_up();
        match kind {
            FaultKind::Kill if is_up => self.kill(server)?,
            FaultKind::TornWrite => {
                self.power_fails(server, is_up);
                return Ok(false);
            }
            FaultKind::RestartAll => (0..self.servers.len()).for_each(|it| self.cut_power(it)),
            FaultKind::Pause if is_up => self.servers[server].busy_until = self.now() + lasts,
            FaultKind::SlowDisk => {
                let until = self.now() + lasts;
                self.servers[server].slow_down(lasts, until);
                return Ok(false);
            }
            FaultKind::Partition => return Ok(self.partition(lasts)),
            FaultKind::PartitionOneWay => {
                let count = self.servers.len();
                let other = self.dice.fault(kind).place(count);
                if other == server {
                    return Ok(false);
                }
                self.cut((server, other), lasts);
            }
            FaultKind::Message => return self.disturb(server),
            FaultKind::Clock => self.adjust_clock(server, lasts),
            FaultKind::FsyncError if is_up => {
                let after = self.dice.fault(kind).below(4);
                let sync = Some(OperationKind::SyncData);
                self.servers[server].disk.inject(after, sync, Fault::EIO);
                return Ok(false);
            }
            FaultKind::NoSpace => return Ok(self.fill(server, lasts)),
            FaultKind::Membership => return self.change_something(server),
            FaultKind::Coup => return self.depose(),
            FaultKind::Snapshot => return Ok(self.cut_a_transfer()),
            FaultKind::BitFlip => {
                let has_changed = self.flip_bits(server);
                // Whoever starts finds what it would have read much later, if ever.
                if has_changed && is_up && self.dice.fault(kind).permille(500) {
                    self.kill(server)?;
                }
                return Ok(has_changed);
            }
            FaultKind::MisdirectedWrite => return Ok(self.misdirect(server)),
            FaultKind::Kill | FaultKind::Pause | FaultKind::FsyncError => return Ok(false),
        }
        Ok(true)
    }

    // ------------------------------------------------------------------ processes and machines

    /// The process ends. Its machine closes its connections, and what it had written stays, synced
    /// or not.
    pub(super) fn kill(&mut self, server: usize) -> Result<(), Broken> {
        let was_up = self.servers[server].is_up();
        self.end_process(server);
        self.close_all_of(server)?;
        if was_up || !self.servers[server].is_held_down {
            self.plan_restart(server);
        }
        Ok(())
    }

    /// Whoever waited for an answer does so in vain.
    fn end_process(&mut self, server: usize) {
        self.servers[server].entrance = None;
        self.note_disk_errors(server);
        self.servers[server].disk.clear_faults();
        let Some(process) = self.servers[server].process.take() else { return };
        let writes = process.writes.into_values();
        let asked: Vec<_> = writes.chain(process.reads.into_values().map(|(it, _)| it)).collect();
        for asked in asked {
            self.answer(asked, Answer::Unknown);
        }
    }

    /// The machine is gone, with all that was not synced. Nobody is told.
    pub(super) fn cut_power(&mut self, server: usize) {
        self.servers[server].process = None;
        self.servers[server].entrance = None;
        self.note_disk_errors(server);
        let life = self.servers[server].life;
        let names = [server as u64, life, self.now().0];
        let seed = self.dice.single(Single::PowerCut, names).draw();
        self.servers[server].disk.clear_faults();
        let crash = self.servers[server].disk.crash(seed);
        if crash.lost > 0 || crash.mangled > 0 {
            self.note_fired(FaultKind::TornWrite);
        }
        self.lose_all_of(server);
        self.plan_restart(server);
    }

    /// Whatever runs there ends, and comes back only when somebody says so.
    pub(super) fn stop_for_good(&mut self, server: usize) {
        self.end_process(server);
        self.lose_all_of(server);
    }

    /// Often at once: whoever forgets a vote or a term is asked again while it is still of use.
    fn plan_restart(&mut self, server: usize) {
        let names = [server as u64, self.servers[server].life, 0];
        let mut dice = self.dice.single(Single::Restart, names);
        let is_quick = self.is_calm || dice.permille(400);
        let most = if is_quick { 0 } else { self.plan.faults.lasts_max };
        let micros = RESTART_MICROS + dice.below(most + 1);
        self.plan_in(micros, Happening::Start(server));
    }

    fn power_fails(&mut self, server: usize, is_up: bool) {
        let dice = self.dice.fault(FaultKind::TornWrite);
        let (at_an_operation, after) = (dice.permille(500), dice.below(8));
        if is_up && at_an_operation {
            self.servers[server].disk.inject(after, None, Fault::PowerOff);
        } else {
            self.cut_power(server);
        }
    }

    fn adjust_clock(&mut self, server: usize, lasts: u64) {
        let now = self.now();
        let dice = self.dice.fault(FaultKind::Clock);
        let drift = i64::try_from(dice.below(100_001)).unwrap_or_default() - 50_000;
        let ahead = if dice.permille(500) { lasts } else { 0 };
        self.servers[server].clock.adjust(now, drift, ahead);
        self.wake(server);
    }

    // ------------------------------------------------------------------ disks

    /// Whether a sync of the present or the last process there has failed.
    pub(super) fn has_disk_failed(&self, server: usize) -> bool {
        self.servers[server].disk.struck(Fault::EIO) > 0
    }

    fn note_disk_errors(&mut self, server: usize) {
        let struck = self.servers[server].disk.take_struck(Fault::EIO);
        for _ in 0..struck {
            self.note_fired(FaultKind::FsyncError);
        }
        let refused = self.servers[server].disk.take_refused();
        if refused > 0 {
            self.note_fired(FaultKind::NoSpace);
        }
    }

    /// A disk is full, or nearly so, for a while.
    fn fill(&mut self, server: usize, lasts: u64) -> bool {
        let dice = self.dice.fault(FaultKind::NoSpace);
        let left = dice.pick(&[0, 100, 700, 5000, 20_000]);
        let it = &mut self.servers[server];
        if it.is_short_of_room {
            return false;
        }
        it.disk.set_room(Some(it.disk.used() + left));
        it.is_short_of_room = true;
        self.plan_in(lasts.max(SECOND), Happening::MakeRoom(server));
        false
    }

    pub(super) fn make_room(&mut self, server: usize) {
        let refused = self.servers[server].disk.take_refused();
        if refused > 0 {
            self.note_fired(FaultKind::NoSpace);
        }
        self.servers[server].disk.set_room(None);
        self.servers[server].is_short_of_room = false;
    }

    // ------------------------------------------------------------------ between servers

    pub(super) fn cut(&mut self, path: (usize, usize), lasts: u64) {
        self.network.cut(path);
        self.plan_in(lasts, Happening::Mend(path));
    }

    /// Servers are cut off from each other: two groups; all but one that both groups reach; a
    /// chain, in which each reaches only its neighbours; or two groups, on and off.
    fn partition(&mut self, lasts: u64) -> bool {
        let count = self.servers.len();
        let dice = self.dice.fault(FaultKind::Partition);
        let shape = dice.below(4);
        let some: Vec<bool> = (0..count).map(|_| dice.permille(400)).collect();
        let bridge = dice.place(count);
        let is_cut = |from: usize, to: usize| match shape {
            1 => some[from] != some[to] && from != bridge && to != bridge,
            2 => from.abs_diff(to) > 1,
            _ => some[from] != some[to],
        };
        let mut is_felt = false;
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        for path in pairs.filter(|(from, to)| is_cut(*from, *to)) {
            is_felt = true;
            match shape {
                3 => self.flap(path, lasts),
                _ => self.cut(path, lasts),
            }
        }
        is_felt
    }

    /// A path is cut and mended in turn.
    fn flap(&mut self, path: (usize, usize), lasts: u64) {
        const TURNS: u64 = 4;
        for turn in 0..TURNS {
            let begin = lasts * 2 * turn / (2 * TURNS);
            self.plan_in(begin, Happening::Cut(path));
            self.plan_in(begin + lasts / (2 * TURNS), Happening::Mend(path));
        }
    }

    /// Connections are reset, or somebody speaks who should not be heard.
    fn disturb(&mut self, server: usize) -> Result<bool, Broken> {
        let count = self.servers.len();
        let dice = self.dice.fault(FaultKind::Message);
        let (what, other) = (dice.below(4), dice.place(count));
        match what {
            0 => {
                let mut any = false;
                for other in (0..count).filter(|other| *other != server) {
                    for way in [(server, other), (other, server)] {
                        any |= self.network.up((way, Purpose::Raft)).is_some();
                        self.reset((way, Purpose::Raft));
                    }
                }
                Ok(any)
            }
            1 => self.speak_as_a_stranger(server, other),
            2 => self.speak_to_another_life(server, other),
            _ => self.speak_as_an_earlier_start(server, other),
        }
    }

    /// While a part of a snapshot is on its way, something happens to the transfer.
    pub(super) fn interrupt_a_snapshot(
        &mut self,
        way: Way,
        cut: SnapshotCut,
    ) -> Result<(), Broken> {
        self.note_fired(FaultKind::Snapshot);
        match cut {
            SnapshotCut::SenderDies => self.kill(way.0.0),
            SnapshotCut::HandOver { heir } => self.hand_over(way.0.0, heir),
            SnapshotCut::ConnectionLost => {
                self.reset(way);
                Ok(())
            }
        }
    }

    /// A server that has received a snapshot whole takes long to make a state of it, and the leader
    /// changes meanwhile: the log may go on beyond it.
    pub(super) fn dawdles(&mut self, server: usize) -> Result<bool, Broken> {
        let process = self.servers[server].process.as_ref();
        let receiving = process.and_then(|process| process.driver.replica().receiving());
        let whole = receiving.filter(|(_, snapshot, received)| *received == snapshot.bytes);
        let cuts = self.plan.faults.snapshot_cut_permille;
        let count = self.servers.len();
        let dice = self.dice.fault(FaultKind::Snapshot);
        let Some((from, ..)) = whole.filter(|_| cuts > 0 && dice.permille(400)) else {
            return Ok(false);
        };
        if self.is_calm {
            return Ok(false);
        }
        let heir = dice.place(count);
        self.note_fired(FaultKind::Snapshot);
        self.hand_over(number_of(from.id), heir)?;
        Ok(true)
    }

    /// The transfer of a snapshot ends, if there is one.
    fn cut_a_transfer(&mut self) -> bool {
        let receiver = self.servers.iter().enumerate().find_map(|(number, server)| {
            let (from, _, _) = server.process.as_ref()?.driver.replica().receiving()?;
            Some((number, from))
        });
        let Some((to, Member { id, .. })) = receiver else { return false };
        let way = ((number_of(id), to), Purpose::Snapshots);
        let any = self.network.up(way).is_some();
        self.reset(way);
        any
    }

    // ------------------------------------------------------------------ the end

    /// Whatever is wrong ends, and nothing else goes wrong.
    pub(super) fn calm_down(&mut self) {
        self.is_calm = true;
        self.plan.network = self.plan.network.calm();
        self.network.mend_all();
        let now = self.now();
        for server in 0..self.servers.len() {
            self.note_disk_errors(server);
            self.make_room(server);
            let it = &mut self.servers[server];
            it.disk.clear_faults();
            it.busy_until = it.busy_until.min(now);
            it.speed_up();
            if it.disk.disk().list().is_err() {
                self.cut_power(server);
            }
            self.plan_in(0, Happening::Start(server));
        }
    }

    /// The server that leads the latest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let processes = self.servers.iter().filter_map(|server| server.process.as_ref());
        let leaders = processes.filter(|process| process.leads());
        let newest = leaders.max_by_key(|process| process.node().term())?;
        Some(number_of(newest.node().me().id))
    }
}
