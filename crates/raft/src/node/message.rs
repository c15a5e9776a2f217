//! What servers say to each other. One variant per meaning: no field changes its sense with the
//! situation, and none is there for another variant's sake.

use serde::{Deserialize, Serialize};

use super::entries::Entries;
use super::types::{Boot, Entry, Index, Member, Position, SnapshotId, Term};

/// A message with its sender, its receiver and the sender's current term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Who says it.
    pub from: Member,
    /// Whom it is for; another incarnation of the same server must not take it.
    pub to: Member,
    /// The sender's term when it was said.
    pub term: Term,
    /// What is said.
    pub message: Message,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// "Would you vote for me?" Asked before the term is raised, so that a server that cannot win
    /// disturbs nobody (9.6).
    PreVoteRequest {
        /// The term in which the sender would campaign.
        campaign: Term,
        /// The end of its log.
        last: Position,
    },
    /// "I would." Promises nothing, and goes only to the campaign it names.
    PreVoteGranted {
        /// The campaign that was asked about.
        campaign: Term,
    },
    /// "I would not." The envelope's term tells a sender that lags behind what it missed
    /// (etcd-io/etcd#8243).
    PreVoteRefused {
        /// The campaign that was asked about.
        campaign: Term,
    },
    /// "Vote for me in this term" (3.4).
    VoteRequest {
        /// The end of the sender's log.
        last: Position,
        /// Why it campaigns.
        cause: Cause,
    },
    /// "You have my vote in this term", said only once the vote is durable.
    VoteGranted,
    /// "You do not have my vote in this term."
    VoteRefused,
    /// Entries, or none: a heartbeat is an append without entries (3.5).
    Append {
        /// The position just before the first entry.
        previous: Position,
        /// Contiguous entries from `previous.index + 1`.
        entries: Entries,
        /// The leader's commit index.
        commit: Index,
        /// The latest read round of this leader in this term; see [`Message::RoundEcho`].
        round: u64,
    },
    /// "My log equals yours up to here, durably."
    AppendAccepted {
        /// The last index that is both verified against this leader and durable.
        matched: Index,
    },
    /// "My log equals yours up to `verified`, durably, but I have lost what entry `matched + 1`
    /// says: count me only below it."
    AppendAcceptedInPart {
        /// The last index below the first entry whose payload is damaged here.
        matched: Index,
        /// The last index that is both verified against this leader and durable: send what
        /// follows it.
        verified: Index,
    },
    /// "I do not hold the position before those entries."
    AppendRejected {
        /// The position that was refused, to tell a late answer from a current one.
        previous: Index,
        /// The last position of the sender's log, at or below the refused index, whose term does
        /// not exceed the refused term: nothing above it can match, so a probe goes back over a
        /// whole term at once (3.5, the optimisation at its end).
        hint: Position,
    },
    /// "Your term is over": the answer to an append of an older term. The envelope says the term.
    TermIsOver,
    /// "In this term, I still followed you when I saw this round." It says nothing of the log and
    /// so needs no disk; a quorum of these confirms reads and the leader's hold on its quorum.
    RoundEcho {
        /// The highest round that the sender has seen from this leader.
        round: u64,
    },
    /// "The payloads of these entries are damaged here. What do they say?"
    RepairRequest {
        /// The entries, ascending.
        positions: Vec<Position>,
    },
    /// An answer to a [`Message::RepairRequest`]: of some of those positions, the first among
    /// them.
    RepairAnswer {
        /// What they say, ascending but not contiguous.
        entries: Vec<Entry>,
        /// Of these the sender does not have what they say either.
        lacking: Vec<Position>,
        /// The index before the sender's log: a snapshot stands for everything up to here.
        compacted: Index,
    },
    /// "What you lack is gone from my log; I have this snapshot for you." Repeated with every
    /// heartbeat until the sender hears an [`AppendAccepted`](Message::AppendAccepted) that reaches
    /// its log.
    SnapshotOffer {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// "My log is whole, but I lost the state before it: I need a snapshot."
    SnapshotRequest {
        /// Where the sender's log begins; an older snapshot would leave a gap.
        after: Index,
    },
    /// "From which index on may I answer reads?" from a follower (6.4).
    ReadIndexRequest {
        /// The asker's boot, and a counter within it: an answer to another life's question must
        /// not be taken for an answer to this one.
        boot: Boot,
        /// Counts the questions of that boot.
        counter: u64,
    },
    /// "A quorum confirmed, after your question came, that this index was committed."
    ReadIndexAnswer {
        /// Repeated from the question.
        boot: Boot,
        /// Repeated from the question.
        counter: u64,
        /// The read index.
        index: Index,
    },
    /// "Campaign now, I hand over to you" (3.10).
    TimeoutNow {
        /// The end of the leader's log, and of the receiver's: a receiver whose log ends elsewhere
        /// reads a message of a transfer that was given up.
        last: Position,
    },
}

/// Why a server campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// It heard no leader for an election timeout.
    Silence,
    /// The leader itself asked it to, so that servers that hear from that leader may vote for it
    /// all the same (3.10).
    Transfer,
}

impl Message {
    /// The message's name, for stories and diagrams.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Message::PreVoteRequest { .. } => "PreVoteRequest",
            Message::PreVoteGranted { .. } => "PreVoteGranted",
            Message::PreVoteRefused { .. } => "PreVoteRefused",
            Message::VoteRequest { .. } => "VoteRequest",
            Message::VoteGranted => "VoteGranted",
            Message::VoteRefused => "VoteRefused",
            Message::Append { .. } => "Append",
            Message::AppendAccepted { .. } => "AppendAccepted",
            Message::AppendAcceptedInPart { .. } => "AppendAcceptedInPart",
            Message::AppendRejected { .. } => "AppendRejected",
            Message::TermIsOver => "TermIsOver",
            Message::RoundEcho { .. } => "RoundEcho",
            Message::RepairRequest { .. } => "RepairRequest",
            Message::RepairAnswer { .. } => "RepairAnswer",
            Message::SnapshotOffer { .. } => "SnapshotOffer",
            Message::SnapshotRequest { .. } => "SnapshotRequest",
            Message::ReadIndexRequest { .. } => "ReadIndexRequest",
            Message::ReadIndexAnswer { .. } => "ReadIndexAnswer",
            Message::TimeoutNow { .. } => "TimeoutNow",
        }
    }
}
