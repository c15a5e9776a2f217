//! Fast recovery: a leader that is known to be gone is not waited for. Losing one then costs
//! milliseconds instead of an election timeout.
//!
//! Silence proves nothing, and neither does a lost connection: networks lose them. But a process
//! that dies has its connections closed by its kernel, and a dial that is refused afterwards, or
//! answered by a later start of the same server, says that this leader will send nothing more in
//! its term. Whoever drives the node finds that out; here is what follows from it.

use super::Node;
use super::actions::Event;
use super::role::{ElectionTimer, Role};
use super::types::{Member, Term};

/// Between two hasty attempts lie 1 to so many heartbeats.
const HASTY_HEARTBEATS_MAX: u32 = 3;

impl Node {
    /// The process that led `term` as `leader` is gone: it closed the connection over which its
    /// appends came, and a dial was refused or answered by another start of that server. Whoever
    /// calls this must know it: after a connection that merely broke, or while the same start
    /// still answers, nothing is to be reported.
    ///
    /// This server is loyal to that leader no longer, and asks for pre-votes after a random part
    /// of a heartbeat: followers that all asked at once would split the vote. Those who do not
    /// know yet refuse, as always, so it asks again every one to three heartbeats.
    pub fn on_disconnected(&mut self, leader: Member, term: Term) {
        // What was found out may be about a term that is over: the next leader, though it be the
        // same server, is not concerned.
        if term != self.hard_state.term || self.last_leader != Some((leader, term)) {
            return;
        }
        let mut timer = self.new_timer();
        // Whoever makes way for others is not in haste.
        if self.ticks_to_make_way() == 0 {
            let wait = self.random.between(1, self.config.heartbeat_ticks);
            timer.timeout = timer.timeout.min(wait);
            timer.haste = self.config.election_ticks_max;
        }
        match &mut self.role {
            Role::Follower(follower) if follower.leader == Some(leader) => {
                self.events.push(Event::LeaderGone { leader: leader.id, term });
                self.forget_leader(timer);
            }
            // It had stopped waiting for that leader already; now it knows that it was right.
            Role::Follower(follower) => follower.timer = timer,
            Role::PreCandidate(campaign) => campaign.timer = timer,
            Role::Candidate(_) | Role::Leader(_) => {}
        }
        self.assert_invariants();
    }

    /// How long to wait before the next attempt to be elected: an election timeout, or far less
    /// while there is haste.
    ///
    /// Haste ends after the longest election timeout. Where a disk or a link takes longer than a
    /// few heartbeats, hasty campaigns only get in each other's way; the ordinary pace does not.
    pub(super) fn next_timer(&mut self) -> ElectionTimer {
        let haste = match &self.role {
            Role::Follower(follower) => follower.timer.haste,
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.timer.haste,
            Role::Leader(_) => 0,
        };
        let timer = self.new_timer();
        if haste == 0 {
            return timer;
        }
        let heartbeat = self.config.heartbeat_ticks;
        let wait = self.random.between(heartbeat, HASTY_HEARTBEATS_MAX * heartbeat);
        ElectionTimer { timeout: wait.min(timer.timeout), haste, ..timer }
    }
}
