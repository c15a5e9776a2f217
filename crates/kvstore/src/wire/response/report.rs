//! What a server tells about itself: its status, and the entries of its log.

use super::error::LeaderHint;
use crate::codec::{self, DecodeError};
use crate::store::Revision;
use crate::wire::frame::{Kind, Message};
use crate::wire::handshake::Timing;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What part a server plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerRole {
    /// Up, but the cluster is not founded or does not list it.
    Joining,
    /// Follows the leader's log without a vote.
    Learner,
    /// Follows a leader, or waits to hear from one.
    Follower,
    /// Asks whether an election could succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Was a member, and is none any more.
    Removed,
}

impl fmt::Display for ServerRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            ServerRole::Joining => "joining",
            ServerRole::Learner => "learner",
            ServerRole::Follower => "follower",
            ServerRole::PreCandidate => "pre-candidate",
            ServerRole::Candidate => "candidate",
            ServerRole::Leader => "leader",
            ServerRole::Removed => "removed",
        })
    }
}

/// A server's account of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Its id.
    pub node: String,
    /// Where it listens.
    pub address: String,
    /// The name of its cluster.
    pub cluster: String,
    /// The id of its cluster; `None` before the cluster is founded.
    pub cluster_id: Option<[u8; 16]>,
    /// Which of the disks that ever carried this id it is.
    pub incarnation: u64,
    /// How many times it was started on that disk.
    pub boot: u64,
    /// How long it has been up.
    pub uptime_ms: u64,
    /// What it is at the moment.
    pub role: ServerRole,
    /// Its term.
    pub term: u64,
    /// The leader it follows, or itself; `None` if it knows of none in its term.
    pub leader: Option<LeaderHint>,
    /// The revision of its store.
    pub revision: Revision,
    /// How many keys its store holds.
    pub keys: u64,
    /// How many bytes of keys and values its store holds.
    pub live_bytes: u64,
    /// How many sessions its store knows.
    pub sessions: u64,
    /// The index up to which it knows its log to be committed.
    pub commit: u64,
    /// The index up to which its store has applied the log.
    pub applied: u64,
    /// The index up to which its log is on its disk.
    pub durable: u64,
    /// The last index of its log.
    pub last: u64,
    /// The index of its latest snapshot; 0 if it has none.
    pub snapshot: u64,
    /// How it counts time.
    pub timing: Timing,
    /// The servers of the cluster, itself included, and those that wait to be taken in.
    pub members: Vec<Member>,
    /// Whether a change of the members is in its joint phase: a majority of those before and one
    /// of those after it must agree.
    pub joint: bool,
    /// Whether it knows the members that it lists to be committed.
    pub members_committed: bool,
    /// The snapshot that it fetches.
    pub receiving: Option<Receiving>,
    /// What a human should look at, in sentences.
    pub warnings: Vec<String>,
}

/// One server of a cluster, as another sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// Which of the disks that ever carried this id is the member.
    pub incarnation: u64,
    /// What part it has.
    pub kind: MemberKind,
    /// The index up to which it has acknowledged the log. Only a leader knows.
    pub matched: Option<u64>,
    /// How long ago it was last heard from; `None` if never since the start.
    pub heard_ms_ago: Option<u64>,
    /// What it is sent. Only a leader knows.
    pub feed: Option<Feed>,
    /// How far a snapshot that it is sent has come.
    pub sending: Option<SnapshotProgress>,
}

/// What a leader sends to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Feed {
    /// Questions about where its log agrees with the leader's.
    Probes,
    /// Entries as they come.
    Entries,
    /// Heartbeats only: it has not been heard for an election timeout.
    Heartbeats,
    /// A snapshot: what it lacks is gone from the leader's log.
    Snapshot,
}

/// How far the transfer of a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// The last entry that the snapshot stands for.
    pub index: u64,
    /// Its size.
    pub bytes: u64,
    /// How much of it was transferred.
    pub done_bytes: u64,
}

impl fmt::Display for SnapshotProgress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.done_bytes.saturating_mul(100) / self.bytes.max(1);
        write!(formatter, "snapshot at {}, {percent} % of {} bytes", self.index, self.bytes)
    }
}

/// A snapshot that a server fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiving {
    /// From whom.
    pub from: String,
    /// How much of it is there.
    pub progress: SnapshotProgress,
}

/// What part a member has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberKind {
    /// Votes, and counts for commits.
    Voter,
    /// Receives the log only.
    Learner,
    /// Votes until the change that is under way is finished.
    Outgoing,
    /// Receives the log, and votes as soon as it has caught up.
    Promoting {
        /// The voter that goes in the same change.
        replaces: Option<String>,
    },
    /// Is no member: it runs and waits to be taken in.
    Joining,
}

impl fmt::Display for MemberKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberKind::Voter => formatter.pad("voter"),
            MemberKind::Learner => formatter.pad("learner"),
            MemberKind::Outgoing => formatter.pad("voter, about to go"),
            MemberKind::Promoting { replaces: None } => formatter.pad("learner, will vote"),
            MemberKind::Promoting { replaces: Some(old) } => {
                formatter.pad(&format!("learner, will replace {old}"))
            }
            MemberKind::Joining => formatter.pad("waiting to join"),
        }
    }
}

/// Entries of a server's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntries {
    /// The first index that the log still holds.
    pub first: u64,
    /// The last index of the log.
    pub last: u64,
    /// The index up to which the server knows the log to be committed.
    pub commit: u64,
    /// The entries, in the order of their indexes.
    pub entries: Vec<LogEntry>,
}

/// One entry of a log, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its index.
    pub index: u64,
    /// The term in which a leader wrote it.
    pub term: u64,
    /// What it is.
    pub kind: EntryKind,
    /// What it says, cut where it is long.
    pub text: String,
}

/// What an entry of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// The empty entry with which a leader begins its term.
    Empty,
    /// A command for the store.
    Command,
    /// A configuration of the cluster.
    Configuration,
}

impl Message for StatusReport {
    const KIND: Kind = Kind::STATUS_REPORT;

    fn encode_body(&self, out: &mut BytesMut) {
        codec::append(out, self);
    }

    fn decode_body(body: &Bytes) -> Result<StatusReport, DecodeError> {
        codec::exact("StatusReport", body)
    }
}

impl Message for LogEntries {
    const KIND: Kind = Kind::LOG_ENTRIES;

    fn encode_body(&self, out: &mut BytesMut) {
        codec::append(out, self);
    }

    fn decode_body(body: &Bytes) -> Result<LogEntries, DecodeError> {
        codec::exact("LogEntries", body)
    }
}
