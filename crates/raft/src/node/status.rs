//! What a node says of itself to people and tools.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Node;
use super::actions::Bar;
use super::progress::Progress;
use super::role::Role;
use super::snapshot::MachineState;
use super::types::{Index, Member, NodeId, Position, Term};

/// The role of a node, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// Follows, or waits for, a leader.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks to be elected.
    Candidate,
    /// Leads.
    Leader,
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RoleName::Follower => "follower",
            RoleName::PreCandidate => "pre-candidate",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
        })
    }
}

/// A node at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node.
    pub id: NodeId,
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// The leader of its term, as far as it has heard.
    pub leader: Option<NodeId>,
    /// The last leader that it heard from in any term, and that term.
    pub last_leader: Option<(NodeId, Term)>,
    /// Whom it voted for in its term.
    pub vote: Option<NodeId>,
    /// Everything up to here is committed.
    pub commit: Index,
    /// Everything up to here is applied.
    pub applied: Index,
    /// Everything up to here is on its disk.
    pub durable: Index,
    /// The end of its log.
    pub last: Index,
    /// How many entries of its log are damaged on its disk.
    pub damaged: u64,
    /// The position before its log: what is gone from it.
    pub compacted: Index,
    /// The last entry that its newest snapshot stands for.
    pub snapshot: Index,
    /// The size of that snapshot's file.
    pub snapshot_bytes: u64,
    /// Whether its state machine has what its log stands on.
    pub machine: MachineState,
    /// Why it would not campaign if it heard no leader.
    pub bar: Option<Bar>,
    /// A leader's view of the others.
    pub followers: Vec<FollowerStatus>,
}

/// What a leader knows of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// The follower.
    pub member: Member,
    /// Durable there and equal to the leader's log up to here.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// What it is sent.
    pub feed: Feed,
}

/// What a leader sends to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Questions, one at a time: where its log agrees with the leader's is not known.
    Probes,
    /// Entries as they come.
    Entries,
    /// Heartbeats only: it has not been heard for an election timeout.
    Heartbeats,
    /// A snapshot: what it lacks is gone from the leader's log.
    Snapshot,
}

impl Node {
    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// The position before the log: what is gone from it.
    #[must_use]
    pub fn log_start(&self) -> Position {
        self.log.start()
    }

    /// The term of the entry at `index`; also of the position before the log. `None` outside it.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    /// Everything up to here is on its disk.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.durability.durable()
    }

    /// Whom it voted for in its term.
    #[must_use]
    pub fn vote(&self) -> Option<Member> {
        self.hard_state.vote
    }

    /// How many entries of its log are damaged on its disk.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.repair.count()
    }

    /// The first entry of its log that is damaged on its disk.
    #[must_use]
    pub fn first_damaged(&self) -> Option<Index> {
        self.repair.lost().next().map(|lost| lost.position.index)
    }

    /// What it knows of the others, if it leads.
    pub fn followers(&self) -> impl Iterator<Item = FollowerStatus> + '_ {
        let follower = |(member, progress): (&Member, &Progress)| FollowerStatus {
            member: *member,
            matched: progress.matched(),
            next: progress.next(),
            feed: progress.feed(),
        };
        let progress = match &self.role {
            Role::Leader(leader) => Some(leader.progress.iter().map(follower)),
            _ => None,
        };
        progress.into_iter().flatten()
    }

    /// The node at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            id: self.config.me.id,
            role: self.role(),
            term: self.hard_state.term,
            leader: self.leader(),
            last_leader: self.last_leader(),
            vote: self.hard_state.vote.map(|vote| vote.id),
            commit: self.commit,
            applied: self.applied,
            durable: self.durable(),
            last: self.last().index,
            damaged: self.damaged(),
            compacted: self.log.start().index,
            snapshot: self.newest_snapshot(),
            snapshot_bytes: self.snapshots.newest().map_or(0, |newest| newest.bytes),
            machine: match self.snapshots.machine_is_lost() {
                true => MachineState::Lost,
                false => MachineState::Whole,
            },
            bar: self.bar(),
            followers: self.followers().collect(),
        }
    }
}
