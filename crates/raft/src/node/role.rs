//! The four roles. What belongs to a role lives in it, so that leaving the role forgets it: a
//! transfer, a read round or a follower's progress that outlives its leadership is a bug that
//! cannot be written here (hashicorp/raft#696).

use std::collections::{BTreeMap, VecDeque};

use super::progress::Progress;
use super::read::{FollowerReads, ReadRounds};
use super::reconfiguration::Reconfiguration;
use super::transfer::Transfer;
use super::types::{Index, Member, Term};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
}

/// Follows a leader, or waits to hear from one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    /// The leader of this term, once heard from.
    pub(super) leader: Option<Member>,
    /// The highest index that this leader's appends have verified in this term.
    pub(super) verified: Index,
    /// What the leader had committed when this server was found to lack it, until it has it.
    pub(super) lagging_to: Option<Index>,
    /// The highest read round of this leader that was echoed.
    pub(super) round_echoed: u64,
    /// Whether it was told, since a leader was last heard, why this server does not campaign.
    pub(super) told_bar: bool,
    pub(super) timer: ElectionTimer,
    pub(super) reads: FollowerReads,
}

/// Asks for votes: whether it would get them (pre-candidate) or to get them (candidate).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Campaign {
    /// The term of the campaign; the current one for a candidate, the next for a pre-candidate.
    pub(super) term: Term,
    /// Each voter's answer; the first one counts.
    pub(super) votes: BTreeMap<Member, bool>,
    /// For how long no leader had been heard when it began.
    pub(super) silent_ticks: u32,
    pub(super) timer: ElectionTimer,
}

/// Leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    /// The other members, and former ones as long as they are still told that they are no more.
    pub(super) progress: BTreeMap<Member, Progress>,
    /// The index of the empty entry of its own term.
    pub(super) term_start: Index,
    pub(super) heartbeat_elapsed: u32,
    pub(super) rounds: ReadRounds,
    /// Last index and bytes of each batch of proposals that is not committed.
    pub(super) uncommitted: VecDeque<(Index, u64)>,
    pub(super) uncommitted_bytes: u64,
    pub(super) reconfiguration: Reconfiguration,
    /// Leadership is being handed over, and no proposals are taken.
    pub(super) transfer: Option<Transfer>,
    /// Who let a transfer to it time out: others are asked first.
    pub(super) declined: Vec<Member>,
    /// Ticks until a leader without room tries again to hand over.
    pub(super) makes_way_in: Option<u32>,
}

/// Counts ticks since there was last a reason not to campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ElectionTimer {
    pub(super) elapsed: u32,
    /// Drawn anew for every wait, so that two servers rarely campaign at once (3.4).
    pub(super) timeout: u32,
    /// For so many more ticks attempts follow each other quickly, since the leader is known to be
    /// gone. Only a leader that is heard ends it sooner.
    pub(super) haste: u32,
}

impl ElectionTimer {
    /// One tick; true when the timeout is over.
    pub(super) fn tick(&mut self) -> bool {
        self.elapsed = self.elapsed.saturating_add(1);
        self.haste = self.haste.saturating_sub(1);
        self.elapsed >= self.timeout
    }
}
