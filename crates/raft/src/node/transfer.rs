//! Leadership handed over (dissertation 3.10). The leader takes no proposals until the target
//! holds its whole log, and then tells it to campaign at once. That campaign skips the pre-vote
//! and says so, and only such a one passes the loyalty of servers that hear from their leader.
//!
//! Nothing rests on the target's campaign: it is an election like any other, and a target that
//! campaigns late, or never, breaks nothing. So a transfer that takes longer than an election
//! timeout is given up by simply taking proposals again. Reads go on all the time; they are
//! confirmed by a quorum and by no lease.

use super::Node;
use super::actions::{Event, StepDown, Target, TransferEnded, TransferOutcome};
use super::message::{Cause, Message};
use super::progress::Progress;
use super::role::{Leader, Role};
use super::types::{Index, Member, NodeId, Position};

/// Why leadership is not handed over. Nothing was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only a leader has it to give.
    #[error("not the leader{}", .leader.map(|id| format!("; {id} is")).unwrap_or_default())]
    NotLeader {
        /// The leader of this term, as far as it is known.
        leader: Option<NodeId>,
    },
    /// It has it.
    #[error("{0} leads already")]
    AlreadyLeads(NodeId),
    /// One at a time.
    #[error("leadership is being handed to {to} already")]
    Pending {
        /// The target of the transfer that is under way.
        to: NodeId,
    },
    /// No such server.
    #[error("{0} is no member of this cluster")]
    Unknown(NodeId),
    /// A leader that does not vote, or soon will not, would have to hand over itself.
    #[error("{0} does not vote, so it cannot lead")]
    NotAVoter(NodeId),
    /// There is only this server.
    #[error("there is no other server that votes")]
    NobodyElse,
}

/// A transfer that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    to: Member,
    /// For how long proposals have been refused, and how much of that for this target.
    ticks: u32,
    target_ticks: u32,
    /// Whether the target was told to campaign, and whether it is to be told now: once, and again
    /// with every heartbeat.
    told: bool,
    due: bool,
    reason: Reason,
}

/// Why leadership is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reason {
    /// Somebody asked that this very server leads, and hears how it ended.
    Asked,
    /// Somebody asked that anybody else leads, and hears how it ended.
    AskedAny,
    /// The leader is no voter of its newest configuration.
    Departure,
    /// The leader has no room on its disk.
    NoSpace,
}

impl Transfer {
    fn new(to: Member, reason: Reason) -> Self {
        Self { to, ticks: 0, target_ticks: 0, told: false, due: true, reason }
    }

    pub(super) fn to(&self) -> NodeId {
        self.to.id
    }

    /// Ticks until it is given up.
    pub(super) fn ticks_left(&self, ticks_max: u32) -> u32 {
        ticks_max.saturating_sub(self.ticks)
    }

    /// A heartbeat is due: what the target was told may have been lost.
    pub(super) fn on_heartbeat(&mut self) {
        self.due = true;
    }

    /// How it ended, for whoever asked, when the leader leads no more.
    pub(super) fn end_with_leadership(&self, reason: Option<StepDown>) -> Option<TransferEnded> {
        let outcome = match reason {
            Some(StepDown::LaterTerm(_) | StepDown::NotAVoter) if self.told => {
                TransferOutcome::HandedOver
            }
            _ => TransferOutcome::LeadershipLost,
        };
        self.end(outcome)
    }

    fn end(&self, outcome: TransferOutcome) -> Option<TransferEnded> {
        let is_asked = matches!(self.reason, Reason::Asked | Reason::AskedAny);
        let target = if self.told { Target::Told } else { Target::Untold };
        is_asked.then_some(TransferEnded { to: self.to.id, outcome, target })
    }
}

impl Node {
    /// Hands leadership to a voter. The end is told in
    /// [`Actions::transfers`](super::Actions::transfers), exactly once.
    ///
    /// A change of the membership that is under way does not stand in the way: whoever leads
    /// finishes it. But the target must be one that votes after it.
    ///
    /// # Errors
    /// Nothing was begun.
    pub fn transfer_leadership(&mut self, to: NodeId) -> Result<(), TransferError> {
        let me = self.config.me.id;
        let leader = self.check_may_transfer()?;
        let configuration = self.membership.current();
        let voters = configuration.voters().iter().map(|voter| voter.member);
        let target =
            voters.filter(|voter| voter.id == to).find(|it| leader.progress.contains_key(it));
        let known = configuration.members().any(|member| member.id == to);
        match target {
            Some(target) => self.begin_transfer(target, Reason::Asked),
            None if to == me => return Err(TransferError::AlreadyLeads(to)),
            None if known => return Err(TransferError::NotAVoter(to)),
            None => return Err(TransferError::Unknown(to)),
        }
        Ok(())
    }

    /// Hands leadership to the voter that holds most of the log; returns which. If that one does
    /// not take it, the next is tried. For a server that is about to stop, or cannot go on leading.
    ///
    /// # Errors
    /// Nothing was begun.
    pub fn hand_over(&mut self) -> Result<NodeId, TransferError> {
        self.check_may_transfer()?;
        let target = self.best_successor().ok_or(TransferError::NobodyElse)?;
        self.begin_transfer(target, Reason::AskedAny);
        Ok(target.id)
    }

    /// Whom leadership is being handed to.
    #[must_use]
    pub fn transferring_to(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.transfer.as_ref().map(Transfer::to),
            _ => None,
        }
    }

    fn check_may_transfer(&self) -> Result<&Leader, TransferError> {
        let Role::Leader(leader) = &self.role else {
            return Err(TransferError::NotLeader { leader: self.leader() });
        };
        match &leader.transfer {
            Some(transfer) => Err(TransferError::Pending { to: transfer.to() }),
            None => Ok(leader),
        }
    }

    /// Of the other voters, the one that holds most of the log; the first of several. One that let
    /// a transfer time out is asked only after all others: it may have a slow disk, damage or no
    /// state, of which a leader knows nothing.
    fn best_successor(&self) -> Option<Member> {
        let Role::Leader(leader) = &self.role else { return None };
        let voters = self.membership.current().voters().iter().map(|voter| voter.member);
        let others = voters.filter_map(|voter| Some((voter, leader.progress.get(&voter)?)));
        // Of several greatest, the last is taken.
        let fitness = |(voter, progress): &(Member, &Progress)| {
            (!leader.declined.contains(voter), progress.matched())
        };
        others.rev().max_by_key(fitness).map(|(voter, _)| voter)
    }

    /// Begins to hand over, unless that is under way, without anybody having asked.
    pub(super) fn begin_departure(&mut self) {
        if self.check_may_transfer().is_ok()
            && let Some(target) = self.best_successor()
        {
            self.begin_transfer(target, Reason::Departure);
        }
    }

    /// Hands over, if there is anybody to hand over to, for want of room.
    pub(super) fn begin_to_make_way(&mut self) {
        if self.check_may_transfer().is_ok()
            && let Some(target) = self.best_successor()
        {
            self.begin_transfer(target, Reason::NoSpace);
        }
    }

    fn begin_transfer(&mut self, target: Member, reason: Reason) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.declined.contains(&target) {
            // So have all others, or somebody wants this one all the same.
            leader.declined.clear();
        }
        leader.makes_way_in = None;
        leader.transfer = Some(Transfer::new(target, reason));
        self.events.push(Event::TransferBegun { to: target.id });
    }

    /// A tick of a leader: after an election timeout it takes proposals again. If anybody may take
    /// over, half of that is for the first target and half for the next; and one that lacks room
    /// tries again after another election timeout, until it has it.
    pub(super) fn tick_transfer(&mut self) {
        let ticks_max = self.config.election_ticks_min;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return self.tick_to_make_way() };
        transfer.ticks += 1;
        transfer.target_ticks += 1;
        let to = transfer.to;
        let is_over = transfer.ticks_left(ticks_max) == 0;
        if !is_over && (transfer.reason == Reason::Asked || transfer.target_ticks < ticks_max / 2) {
            return;
        }
        if !leader.declined.contains(&to) {
            leader.declined.push(to);
        }
        if !is_over {
            return self.try_next_successor();
        }
        self.transfers.extend(transfer.end(TransferOutcome::TimedOut));
        if transfer.reason == Reason::NoSpace {
            leader.makes_way_in = Some(ticks_max);
        }
        leader.transfer = None;
        self.events.push(Event::TransferTimedOut { to: to.id });
    }

    /// The target has had its time. Somebody else is asked, if there is anybody who was not.
    fn try_next_successor(&mut self) {
        let next = self.best_successor();
        let Role::Leader(leader) = &mut self.role else { return };
        let next = next.filter(|next| !leader.declined.contains(next));
        let (Some(transfer), Some(next)) = (&mut leader.transfer, next) else { return };
        let to = std::mem::replace(&mut transfer.to, next).id;
        (transfer.target_ticks, transfer.due) = (0, true);
        self.events.push(Event::TransferTimedOut { to });
        self.events.push(Event::TransferBegun { to: next.id });
    }

    /// Nobody took over from a leader without room. If it still lacks it, it asks again.
    fn tick_to_make_way(&mut self) {
        let is_lacking = self.lacking.is_some();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.makes_way_in = leader.makes_way_in.filter(|_| is_lacking).map(|ticks| ticks - 1);
        if leader.makes_way_in == Some(0) {
            leader.makes_way_in = None;
            self.begin_to_make_way();
        }
    }

    /// Tells the target to campaign once it holds the whole log, and all of it is committed, so
    /// that no proposal ends as unknown for the transfer's sake. A leader that leaves does not
    /// wait for the configuration without it to be committed.
    pub(super) fn advance_transfer(&mut self) {
        let last = self.log.last();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let committed = match transfer.reason {
            Reason::Asked | Reason::AskedAny | Reason::NoSpace => last.index,
            Reason::Departure => self.membership.index().previous(),
        };
        let matched = leader.progress.get(&transfer.to).map_or(Index(0), |it| it.matched());
        if transfer.due && matched >= last.index && self.commit >= committed {
            self.send_timeout_now();
        }
    }

    /// Tells the target of the transfer, or else the best successor, to campaign.
    pub(super) fn send_timeout_now(&mut self) {
        let (last, best) = (self.log.last(), self.best_successor());
        let Role::Leader(leader) = &mut self.role else { return };
        let target = match &mut leader.transfer {
            Some(transfer) => {
                (transfer.told, transfer.due) = (true, false);
                Some(transfer.to)
            }
            None => best,
        };
        if let Some(target) = target {
            self.send(target, Message::TimeoutNow { last });
        }
    }

    /// The leader wants this server to take over. If its log ends elsewhere than the leader's
    /// did, the transfer was given up and the message is late.
    pub(super) fn on_timeout_now(&mut self, from: Member, last: Position) {
        let from_leader = match &self.role {
            Role::Follower(follower) => follower.leader.is_none_or(|leader| leader == from),
            Role::PreCandidate(_) => true,
            Role::Candidate(_) | Role::Leader(_) => false,
        };
        let fit = self.bar().is_none();
        if from_leader && fit && last == self.log.last() {
            self.start_election(Cause::Transfer);
        }
    }
}
