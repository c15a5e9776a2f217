//! What goes wrong, and that it ends.

use raft::driver::Input;
use raft::replica::Token;
use wal::sim_disk::{Fault, OperationKind};

use crate::check::Broken;

use super::agenda::MILLISECOND;
use super::client::Answer;
use super::dice::Chance;
use super::plan::FaultKind;
use super::server::{RESTART_MICROS, number_of};
use super::world::{Happening, World};

impl World {
    /// One thing goes wrong, and the next one is planned.
    pub(super) fn strike(&mut self) -> Result<(), Broken> {
        if self.is_calm {
            return Ok(());
        }
        let every = self.plan.faults.every;
        let next = self.dice.faults.between(every / 4, every * 7 / 4);
        self.plan_in(next, Happening::Strike);
        let Some(kind) = self.plan.faults.choose(&mut self.dice.faults) else { return Ok(()) };
        let server = self.dice.faults.place(self.servers.len());
        let lasts = self.dice.faults.between(MILLISECOND, self.plan.faults.lasts_max);
        let now = self.now();
        self.trace.tell(now, || format!("{kind:?} at s{} for {lasts} us", server + 1));
        if self.do_fault(kind, server, lasts) {
            *self.fired.entry(kind).or_default() += 1;
        }
        Ok(())
    }

    /// False if there was nothing to be done.
    fn do_fault(&mut self, kind: FaultKind, server: usize, lasts: u64) -> bool {
        let is_running = self.servers[server].process.is_some();
        match kind {
            FaultKind::Kill if is_running => self.kill(server),
            FaultKind::PowerCut if is_running && self.dice.faults.permille(500) => {
                let after = self.dice.faults.below(8);
                self.servers[server].disk.inject(after, None, Fault::PowerOff);
            }
            FaultKind::PowerCut => self.cut_power(server),
            FaultKind::RestartAll => (0..self.servers.len()).for_each(|it| self.cut_power(it)),
            FaultKind::Pause if is_running => self.servers[server].busy_until = self.now() + lasts,
            FaultKind::SlowDisk => {
                let until = self.now() + lasts;
                self.servers[server].slow_down(lasts, until);
            }
            FaultKind::Partition => self.partition(lasts),
            FaultKind::PartitionOneWay => {
                let other = self.dice.faults.place(self.servers.len());
                self.cut((server, other), lasts);
            }
            FaultKind::Reset => {
                for other in (0..self.servers.len()).filter(|other| *other != server) {
                    self.reset((server, other));
                    self.reset((other, server));
                }
            }
            FaultKind::FsyncError if is_running => {
                let after = self.dice.faults.below(4);
                let kind = Some(OperationKind::SyncData);
                self.servers[server].disk.inject(after, kind, Fault::EIO);
            }
            FaultKind::Transfer if is_running => {
                if let Some(process) = &mut self.servers[server].process {
                    let token = Token(process.next_name());
                    process.inbox.push(Input::HandOver(token));
                }
                self.wake(server);
            }
            _ => return false,
        }
        true
    }

    /// The process ends. Its machine closes its connections, and what it had written stays, synced
    /// or not.
    pub(super) fn kill(&mut self, server: usize) {
        let Some(process) = self.servers[server].process.take() else { return };
        let writes = process.writes.into_values();
        let asked: Vec<_> = writes.chain(process.reads.into_values().map(|(it, _)| it)).collect();
        for asked in asked {
            self.answer(asked, Answer::Unknown);
        }
        self.servers[server].disk.clear_faults();
        self.close_all_of(server);
        self.plan_restart(server);
    }

    /// The machine is gone, with all that was not synced. Nobody is told.
    pub(super) fn cut_power(&mut self, server: usize) {
        self.servers[server].process = None;
        let seed = self.dice.disk.draw();
        self.servers[server].disk.clear_faults();
        self.servers[server].disk.crash(seed);
        for other in (0..self.servers.len()).filter(|other| *other != server) {
            self.network.disconnect((server, other));
            self.reset((other, server));
        }
        self.plan_restart(server);
    }

    /// Often at once: whoever forgets a vote or a term is asked again while it is still of use.
    fn plan_restart(&mut self, server: usize) {
        let is_quick = self.is_calm || self.dice.faults.permille(400);
        let most = if is_quick { 0 } else { self.plan.faults.lasts_max };
        let micros = RESTART_MICROS + self.dice.faults.below(most + 1);
        self.plan_in(micros, Happening::Start(server));
    }

    /// Some servers are cut off from all others.
    fn partition(&mut self, lasts: u64) {
        let some: Vec<bool> =
            (0..self.servers.len()).map(|_| self.dice.faults.permille(400)).collect();
        for from in 0..self.servers.len() {
            for to in 0..self.servers.len() {
                if some[from] != some[to] {
                    self.cut((from, to), lasts);
                }
            }
        }
    }

    fn cut(&mut self, path: (usize, usize), lasts: u64) {
        self.network.cut.insert(path);
        self.plan_in(lasts, Happening::Mend(path));
    }

    /// Whatever is wrong ends, and nothing else goes wrong.
    pub(super) fn calm_down(&mut self) {
        self.is_calm = true;
        self.plan.network = self.plan.network.calm();
        self.network.cut.clear();
        let now = self.now();
        for server in 0..self.servers.len() {
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
