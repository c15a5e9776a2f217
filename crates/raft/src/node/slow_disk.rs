//! The slow-disk rule: whoever cannot write within an election timeout shall not lead. With the
//! disk on another thread a leader whose disk hangs would go on sending heartbeats, keep everybody
//! loyal and stop the cluster for ever (hashicorp/raft#503, #683; etcd-io/etcd#13527). With the
//! disk on the node's own thread heartbeats stop by themselves, and the rule is for the moment
//! after: what was a leader before a stall steps down before it does anything else.
//!
//! A write that waits is seen by the ticks that pass; one that kept its owner from giving ticks
//! says at its end how long it took. Afterwards the server does not campaign until a write has
//! completed in time. If nobody gives it anything to write, it writes its term and vote once more.

use std::collections::VecDeque;

use super::Node;
use super::actions::{Append, Event, StepDown};
use super::role::Role;
use super::types::Ticket;

/// How the own disk keeps up.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskPace {
    /// Appends that the disk has not completed, oldest first.
    waiting: VecDeque<Waiting>,
    /// The latest write took an election timeout or longer, or still does.
    is_slow: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    ticket: Ticket,
    ticks: u32,
    work: Work,
}

/// What an append asks of the disk. One without anything to write completes when those before it
/// do, and says nothing about the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Write,
    Nothing,
}

impl DiskPace {
    /// An append was given to the disk.
    pub(super) fn on_handed_out(&mut self, append: &Append) {
        let work = if append.is_empty() { Work::Nothing } else { Work::Write };
        self.waiting.push_back(Waiting { ticket: append.ticket, ticks: 0, work });
    }

    /// It completed; its owner says how many ticks it was kept from giving meanwhile. Returns how
    /// long the write took, if there was one.
    fn on_completed(&mut self, ticket: Ticket, took_ticks: u32) -> Option<u32> {
        let done = self.waiting.pop_front_if(|waiting| waiting.ticket == ticket)?;
        (done.work == Work::Write).then_some(done.ticks.max(took_ticks))
    }

    /// A tick; returns for how many the oldest write has waited.
    fn tick(&mut self) -> u32 {
        for waiting in &mut self.waiting {
            waiting.ticks = waiting.ticks.saturating_add(1);
        }
        let mut writes = self.waiting.iter().filter(|waiting| waiting.work == Work::Write);
        writes.next().map_or(0, |oldest| oldest.ticks)
    }

    /// Everything that decides what comes next: of the names of appends only their order does.
    fn essence(&self) -> (bool, Vec<(u32, bool)>) {
        let waiting = self.waiting.iter().map(|it| (it.ticks, it.work == Work::Write));
        (self.is_slow, waiting.collect())
    }
}

impl Node {
    /// Looks at the writes that wait, once a tick.
    pub(super) fn tick_disk(&mut self) {
        let waited = self.disk.tick();
        if waited >= self.config.election_ticks_min {
            self.on_slow_disk(waited);
        }
    }

    /// Learns from a completion how the disk keeps up, before anything else follows from it.
    pub(super) fn judge_disk(&mut self, ticket: Ticket, took_ticks: u32) {
        let Some(took) = self.disk.on_completed(ticket, took_ticks) else { return };
        if took >= self.config.election_ticks_min {
            self.on_slow_disk(took);
        } else if self.disk.is_slow {
            self.disk.is_slow = false;
            self.events.push(Event::DiskInTime { ticks: took });
        }
    }

    /// The disk kept this node's owner from everything else for so long, be it to read or to put
    /// something back: whoever leads must not do that either.
    pub fn on_stood_still(&mut self, ticks: u32) {
        if ticks >= self.config.election_ticks_min {
            self.on_slow_disk(ticks);
        }
    }

    fn on_slow_disk(&mut self, ticks: u32) {
        // Nobody could lead in its place.
        if self.is_alone() {
            return;
        }
        if !self.disk.is_slow {
            self.disk.is_slow = true;
            self.events.push(Event::DiskSlow { ticks });
        }
        match &self.role {
            // To tell a successor takes no disk. If that one lacks something, or has gone on to a
            // later term, it does not listen; then the others elect one when they miss us.
            Role::Leader(_) => {
                self.send_timeout_now();
                self.step_down(StepDown::SlowDisk);
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.follow(None),
            Role::Follower(_) => {}
        }
    }

    /// Whether this server leaves it to others to lead. A disk that became slow while there were
    /// others does not keep the last of them from leading.
    pub(super) fn is_barred_by_disk(&self) -> bool {
        self.disk.is_slow && !self.is_alone()
    }

    /// The election timeout is over, but the disk is slow. Unless a write is under way anyway, one
    /// is made to find out whether that still holds.
    pub(super) fn try_disk(&mut self) {
        if self.disk.waiting.is_empty() {
            self.durability.rewrite_state();
        }
    }
}

impl PartialEq for DiskPace {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Eq for DiskPace {}

impl std::hash::Hash for DiskPace {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}
