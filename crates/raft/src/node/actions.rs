//! What a node asks of the world around it. One drain gives all of it; nothing else leaves.

use std::ops::RangeInclusive;

use super::configuration::Configuration;
use super::entries::Entries;
use super::message::{Cause, Envelope};
use super::types::{
    Entry, FetchId, HardState, Index, Member, NodeId, Position, ReadId, SnapshotId, Term, Ticket,
};

/// Everything that a node wants done, in any order that its owner likes, except that appends are
/// carried out in the order of their tickets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions {
    /// To be written and synced; answered with [`Node::on_durable`](super::Node::on_durable).
    pub append: Option<Append>,
    /// To be sent. May be lost, repeated or reordered by the network.
    pub send: Vec<Envelope>,
    /// Committed entries for the state machine, in order and without gaps; answered with
    /// [`Node::on_applied`](super::Node::on_applied).
    pub apply: Entries,
    /// Entries to read back; answered with [`Node::on_fetched`](super::Node::on_fetched).
    pub fetch: Vec<Fetch>,
    /// The state machine is to be written down as it is now, before anything of `apply`;
    /// answered with [`Node::on_snapshot_written`](super::Node::on_snapshot_written) or
    /// [`Node::on_snapshot_failed`](super::Node::on_snapshot_failed).
    pub snapshot: Option<SnapshotPoint>,
    /// The log up to this index is not needed any more. It need not go at once.
    pub compact: Option<Index>,
    /// A leader has a snapshot that this server lacks. It is to be fetched, and answered with
    /// [`Node::on_snapshot_received`](super::Node::on_snapshot_received). A later offer takes the
    /// place of an earlier one; the same one may come many times.
    pub offered: Option<SnapshotOffer>,
    /// The state machine is to be exchanged for that of this received snapshot, before anything
    /// of `apply`; answered with
    /// [`Node::on_snapshot_installed`](super::Node::on_snapshot_installed).
    pub install: Option<SnapshotId>,
    /// Proposals that ended. Each ends exactly once.
    pub ended: Vec<Ended>,
    /// Reads that ended. Each ends exactly once.
    pub reads: Vec<ReadEnded>,
    /// Changes of the membership that ended. Each ends exactly once.
    pub changes: Vec<ChangeEnded>,
    /// Transfers of leadership that ended. Each ends exactly once.
    pub transfers: Vec<TransferEnded>,
    /// What happened, for people.
    pub events: Vec<Event>,
}

impl Actions {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            append,
            send,
            apply,
            fetch,
            snapshot,
            compact,
            offered,
            install,
            ended,
            reads,
            changes,
            transfers,
            events,
        } = self;
        append.is_none()
            && snapshot.is_none()
            && compact.is_none()
            && offered.is_none()
            && install.is_none()
            && send.is_empty()
            && apply.is_empty()
            && fetch.is_empty()
            && ended.is_empty()
            && reads.is_empty()
            && changes.is_empty()
            && transfers.is_empty()
            && events.is_empty()
    }
}

/// One write: hard state, truncation and entries, made durable together. Whatever asserts that
/// it happened (votes, acknowledgements, requests for votes) stays inside the node until
/// [`Node::on_durable`](super::Node::on_durable) names its ticket, so no owner can send it early.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    /// Names the append. Tickets complete strictly in order.
    pub ticket: Ticket,
    /// The new term and vote, when they changed.
    pub hard_state: Option<HardState>,
    /// The whole log is to go; it goes on after this position, which a snapshot stands for. Such
    /// an append has neither truncation nor entries.
    pub reset: Option<Position>,
    /// Entries above this index are to go, before any of `entries` is written.
    pub truncate_after: Option<Index>,
    /// Contiguous entries that follow the end of the log.
    pub entries: Entries,
    /// Entries that the log holds and whose payloads are damaged on the disk: to be put back in
    /// their own places, and nothing else there is to change.
    pub repairs: Vec<Entry>,
}

impl Append {
    /// Whether there is nothing to write: such an append only keeps its place in the order and
    /// costs no sync.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { ticket: _, hard_state, reset, truncate_after, entries, repairs } = self;
        hard_state.is_none()
            && reset.is_none()
            && truncate_after.is_none()
            && entries.is_empty()
            && repairs.is_empty()
    }
}

/// The state that a snapshot is to be taken of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotPoint {
    /// The last entry that the state machine has applied.
    pub position: Position,
    /// The configuration in force there.
    pub configuration: Configuration,
}

/// A snapshot that a leader has for this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotOffer {
    /// The leader.
    pub from: Member,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// Entries wanted back from the log, at least one, as far as `bytes_max` allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// Names the fetch.
    pub id: FetchId,
    /// The first index wanted.
    pub from: Index,
    /// The last index wanted.
    pub to: Index,
    /// Stop before the entries count for more than this.
    pub bytes_max: u64,
}

/// The end of a run of proposals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// The indexes they were given.
    pub indexes: RangeInclusive<Index>,
    /// The term they were proposed in.
    pub term: Term,
    /// How they ended.
    pub outcome: ProposalOutcome,
}

/// How a proposal that entered the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProposalOutcome {
    /// It is committed, and will be applied at its index.
    Committed,
    /// It lost its place in the log: another leader's entry is committed there, or before it where
    /// it followed on. It will never be applied.
    Superseded,
    /// This node stopped leading first. A later leader may still commit it, or may not.
    Unknown,
}

/// The end of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadEnded {
    /// The read.
    pub id: ReadId,
    /// The read may be answered by a state machine that has applied this index, or
    /// `Err`: leadership changed before that was certain, ask again.
    pub outcome: Result<Index, LeadershipChanged>,
}

/// Leadership changed before a read was confirmed. Nothing was read; it is safe to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("leadership changed before the read was confirmed")]
pub struct LeadershipChanged;

/// The end of a change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChangeEnded {
    /// The index of its joint configuration, which was given when it began.
    pub index: Index,
    /// How it ended.
    pub outcome: ChangeOutcome,
}

/// How a change of the membership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeOutcome {
    /// The new configuration is committed. A learner that is meant to vote may not do so yet.
    Finished,
    /// This node stopped leading, but the change can no longer be undone: the next leader finishes
    /// it. So it mostly is with a leader that removes itself.
    Certain,
    /// This node stopped leading first. A later leader may finish the change, or undo it.
    Unknown,
}

/// The end of a transfer of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransferEnded {
    /// Whom leadership was handed to.
    pub to: NodeId,
    /// How it ended.
    pub outcome: TransferOutcome,
    /// Whether the target may still take over.
    pub target: Target,
}

/// What the target of a transfer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Nothing: it does not campaign for the transfer's sake.
    Untold,
    /// To campaign. However the transfer ended here, it may lead by now, or soon.
    Told,
}

/// How a transfer of leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferOutcome {
    /// The target was told, and a later term has begun.
    HandedOver,
    /// Nothing came of it within an election timeout. This node still leads and takes proposals
    /// again.
    TimedOut,
    /// This node stopped leading for another reason.
    LeadershipLost,
}

/// What a node did, for the people who watch it. Nothing in the protocol depends on events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// It heard nothing from a leader for an election timeout and asks whether it would win.
    AskingForVotes {
        /// The term in which it would campaign.
        campaign: Term,
        /// Ticks since it last heard from a leader or gave a vote.
        silent_ticks: u32,
        /// Whom it asks.
        asked: Vec<NodeId>,
    },
    /// A quorum would vote for it: it campaigns in a new term.
    Campaigning {
        /// The new term.
        term: Term,
        /// Ticks for which it had not heard from a leader when it asked whether it would win.
        silent_ticks: u32,
        /// Why.
        cause: Cause,
        /// Whom it asks.
        asked: Vec<NodeId>,
    },
    /// It answered a request for its vote, or whether it would give it.
    VoteAnswered {
        /// Who asked.
        candidate: NodeId,
        /// The term of the campaign.
        term: Term,
        /// What was asked for.
        ballot: Ballot,
        /// Why not; `None` when the vote was given.
        refusal: Option<VoteRefusal>,
    },
    /// An answer to its own request came.
    VoteReceived {
        /// Who answered.
        voter: NodeId,
        /// The term of the campaign.
        term: Term,
        /// What was asked for.
        ballot: Ballot,
        /// Whether the vote was given.
        granted: bool,
    },
    /// It leads.
    BecameLeader {
        /// Its term.
        term: Term,
        /// Who voted for it.
        votes: Vec<NodeId>,
        /// How many could vote.
        voters: u32,
    },
    /// It follows a leader, or waits for one.
    BecameFollower {
        /// Its term.
        term: Term,
        /// The leader of that term, once heard from.
        leader: Option<NodeId>,
        /// How long it will wait to hear from a leader, in ticks.
        timeout_ticks: u32,
    },
    /// The leader's process is gone for certain: its connection was closed and nobody answers, or
    /// another start of it does.
    LeaderGone {
        /// The leader.
        leader: NodeId,
        /// The term that it led.
        term: Term,
    },
    /// It hears no leader, and it is not for it to campaign. Told once for every wait.
    Waits {
        /// Why.
        bar: Bar,
    },
    /// A write waits for the disk, or has waited, for an election timeout or longer. Until one
    /// completes in time this server does not campaign.
    DiskSlow {
        /// For how many ticks.
        ticks: u32,
    },
    /// A write completed in time again.
    DiskInTime {
        /// In how many ticks.
        ticks: u32,
    },
    /// It led and does so no more.
    SteppedDown {
        /// Its term now.
        term: Term,
        /// Why.
        reason: StepDown,
    },
    /// A follower of this leader lacks more than what is under way to it.
    FollowerLags {
        /// The follower.
        follower: NodeId,
        /// The first entry it lacks.
        from: Index,
        /// The last entry of the leader.
        to: Index,
    },
    /// That follower holds everything that it was found to lack.
    FollowerCaughtUp {
        /// The follower.
        follower: NodeId,
        /// The last entry it holds.
        at: Index,
    },
    /// This follower lacks entries that its leader has committed.
    CatchingUp {
        /// The leader.
        leader: NodeId,
        /// The first entry it lacks.
        from: Index,
        /// The last one that is committed.
        to: Index,
    },
    /// What a follower of this leader lacks is gone from the log: it gets a snapshot.
    SnapshotOffered {
        /// The follower.
        follower: NodeId,
        /// The last entry that the snapshot stands for.
        index: Index,
    },
    /// A received snapshot has taken the place of state machine and log.
    SnapshotInstalled {
        /// The last entry that it stands for.
        index: Index,
    },
    /// Entries of an older term, never committed, made way for a leader's.
    Truncated {
        /// What was kept.
        after: Index,
        /// The old end of the log.
        last: Index,
    },
    /// Another configuration is in force, since it was appended, or since a later one was
    /// truncated.
    MembersChanged {
        /// Where it stands in the log.
        index: Index,
        /// What it says.
        configuration: Configuration,
    },
    /// A configuration that does not list this server is committed: it has left the cluster.
    Removed {
        /// Where that configuration stands in the log.
        index: Index,
    },
    /// This leader hands over, and takes no proposals meanwhile.
    TransferBegun {
        /// To whom.
        to: NodeId,
    },
    /// Handing over took longer than an election timeout; this leader takes proposals again.
    TransferTimedOut {
        /// To whom it did not.
        to: NodeId,
    },
    /// There is no room on the disk for the leader's next entry: this follower takes none until
    /// there is.
    DiskFull {
        /// What there is room for, in bytes.
        room: u64,
    },
    /// The disk has room again for what it had none for.
    DiskHasRoom {
        /// How much, in bytes.
        bytes: u64,
    },
    /// Something about entries whose payloads are damaged on this server's disk.
    Damage(DamageEvent),
    /// A message that no correct server sends; it was ignored.
    Ignored {
        /// Who sent it.
        from: Member,
        /// What was wrong with it.
        reason: &'static str,
    },
}

/// What a node finds out and does about entries whose payloads are damaged on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DamageEvent {
    /// There are some. The server asks others for them, and until it has them it neither
    /// campaigns nor acknowledges or applies what follows.
    Found {
        /// How many, in all.
        entries: u64,
        /// The first of them.
        first: Index,
        /// The last of them.
        last: Index,
        /// Whom it asks, in this order.
        asked: Vec<NodeId>,
    },
    /// Some were put back in their places.
    Repaired {
        /// How many.
        entries: u64,
        /// Who had them; this server itself, if they were still in its memory.
        from: NodeId,
        /// How many are still damaged.
        left: u64,
        /// Ticks since the damage was found.
        ticks: u32,
    },
    /// No member that answered has what is damaged here. They are asked again from time to time.
    NobodyHasIt {
        /// How many are damaged.
        entries: u64,
        /// The first of them.
        first: Index,
    },
}

/// What a candidate asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ballot {
    /// Whether a vote would be given; promises nothing.
    PreVote,
    /// The vote of a term.
    Vote,
}

/// Why a vote was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteRefusal {
    /// It hears from a leader, and will not help to depose it.
    HasLeader(NodeId),
    /// It voted for another in this term.
    VotedFor(NodeId),
    /// The candidate's log lacks something that this server's log has.
    LogBehind {
        /// Where the candidate's log ends.
        theirs: Position,
        /// Where this server's log ends.
        mine: Position,
    },
    /// Its own term is later.
    TermOver(Term),
}

/// Why a server does not campaign, whatever it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bar {
    /// It learns: it does not vote yet.
    Learner,
    /// The configuration does not list it.
    NotListed,
    /// It has lost its state, or is installing another one, and could serve nothing.
    NoState,
    /// So many entries of its log are damaged, which it could neither send nor count.
    Damaged(u64),
    /// Its disk keeps a write waiting for an election timeout or longer.
    SlowDisk,
}

/// Why a leader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepDown {
    /// It saw a later term.
    LaterTerm(Term),
    /// It has not heard from a quorum for an election timeout.
    NoQuorum,
    /// Its disk keeps a write waiting for an election timeout or longer.
    SlowDisk,
    /// Its configuration is committed and does not let it vote.
    NotAVoter,
    /// It lost an entry that it has not applied: it can neither apply it nor send it on.
    Damaged,
}
