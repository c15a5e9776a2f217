//! What the node does, in words and in fields: its elections, its log, its members.

use std::fmt;
use std::time::Duration;

use raft::node::{
    self, Ballot, Bar, Cause, Configuration, Intent, NodeId, StepDown, VoteRefusal, Voter,
};

use super::{Field, Names, damage, milliseconds};

pub(super) fn name(event: &node::Event) -> &'static str {
    match event {
        node::Event::AskingForVotes { .. } => "asks",
        node::Event::Campaigning { .. } => "candidate",
        node::Event::VoteAnswered { .. } => "vote",
        node::Event::VoteReceived { .. } => "answer",
        node::Event::BecameLeader { .. } => "leader",
        node::Event::BecameFollower { .. } => "follower",
        node::Event::LeaderGone { .. } => "leader-gone",
        node::Event::Waits { .. } => "waits",
        node::Event::DiskSlow { .. } => "disk-slow",
        node::Event::DiskInTime { .. } => "disk-in-time",
        node::Event::SteppedDown { .. } => "steps-down",
        node::Event::FollowerLags { .. } => "lags",
        node::Event::FollowerCaughtUp { .. } => "caught-up",
        node::Event::CatchingUp { .. } => "catches-up",
        node::Event::SnapshotOffered { .. } => "needs-snapshot",
        node::Event::SnapshotInstalled { .. } => "installed",
        node::Event::Truncated { .. } => "truncated",
        node::Event::MembersChanged { .. } => "members",
        node::Event::Removed { .. } => "removed",
        node::Event::TransferBegun { .. } => "hands-over",
        node::Event::TransferTimedOut { .. } => "keeps-leading",
        node::Event::DiskFull { .. } => "disk-full",
        node::Event::DiskHasRoom { .. } => "disk-has-room",
        node::Event::Damage(event) => damage::name(event),
        node::Event::Ignored { .. } => "ignored",
    }
}

pub(super) fn fields(event: &node::Event, tick: Duration) -> Vec<(&'static str, Field)> {
    let time = |ticks: u32| Field::Number(milliseconds(tick * ticks));
    match event {
        node::Event::AskingForVotes { campaign, silent_ticks, asked } => vec![
            ("term", campaign.0.into()),
            ("silent_ms", time(*silent_ticks)),
            ("asked", asked.as_slice().into()),
        ],
        node::Event::Campaigning { term, silent_ticks, cause, asked } => vec![
            ("term", term.0.into()),
            ("silent_ms", time(*silent_ticks)),
            ("by_transfer", (*cause == Cause::Transfer).into()),
            ("asked", asked.as_slice().into()),
        ],
        node::Event::VoteAnswered { candidate, term, ballot, refusal } => vec![
            ("candidate", (*candidate).into()),
            ("term", term.0.into()),
            ("binding", (*ballot == Ballot::Vote).into()),
            ("granted", refusal.is_none().into()),
            ("reason", refusal.map(|it| Refusal(it).to_string()).unwrap_or_default().into()),
        ],
        node::Event::VoteReceived { voter, term, ballot, granted } => vec![
            ("voter", (*voter).into()),
            ("term", term.0.into()),
            ("binding", (*ballot == Ballot::Vote).into()),
            ("granted", (*granted).into()),
        ],
        node::Event::BecameLeader { term, votes, voters } => vec![
            ("term", term.0.into()),
            ("votes", votes.as_slice().into()),
            ("voters", u64::from(*voters).into()),
        ],
        node::Event::BecameFollower { term, leader, timeout_ticks } => vec![
            ("term", term.0.into()),
            ("leader", leader.map(|id| id.to_string()).unwrap_or_default().into()),
            ("election_timeout_ms", time(*timeout_ticks)),
        ],
        node::Event::LeaderGone { .. }
        | node::Event::Waits { .. }
        | node::Event::DiskSlow { .. }
        | node::Event::DiskInTime { .. }
        | node::Event::DiskFull { .. }
        | node::Event::DiskHasRoom { .. } => trouble_fields(event, tick),
        node::Event::SteppedDown { term, reason } => {
            vec![("term", term.0.into()), ("reason", StepDownReason(*reason).to_string().into())]
        }
        node::Event::FollowerLags { follower, from, to } => {
            vec![("follower", (*follower).into()), ("from", from.0.into()), ("to", to.0.into())]
        }
        node::Event::FollowerCaughtUp { follower, at } => {
            vec![("follower", (*follower).into()), ("at", at.0.into())]
        }
        node::Event::CatchingUp { leader, from, to } => {
            vec![("leader", (*leader).into()), ("from", from.0.into()), ("to", to.0.into())]
        }
        node::Event::SnapshotOffered { follower, index } => {
            vec![("follower", (*follower).into()), ("index", index.0.into())]
        }
        node::Event::SnapshotInstalled { index } => vec![("index", index.0.into())],
        node::Event::Truncated { after, last } => {
            vec![("after", after.0.into()), ("last", last.0.into())]
        }
        node::Event::MembersChanged { .. }
        | node::Event::Removed { .. }
        | node::Event::TransferBegun { .. }
        | node::Event::TransferTimedOut { .. } => member_fields(event),
        node::Event::Damage(event) => damage::fields(event, tick),
        node::Event::Ignored { from, reason } => {
            vec![("from", from.id.into()), ("reason", (*reason).to_string().into())]
        }
    }
}

/// What keeps servers from leading.
fn trouble_fields(event: &node::Event, tick: Duration) -> Vec<(&'static str, Field)> {
    match event {
        node::Event::LeaderGone { leader, term } => {
            vec![("leader", (*leader).into()), ("term", term.0.into())]
        }
        node::Event::Waits { bar } => vec![("reason", WhyItWaits(*bar).to_string().into())],
        node::Event::DiskSlow { ticks } | node::Event::DiskInTime { ticks } => {
            vec![("write_ms", milliseconds(tick * *ticks).into())]
        }
        node::Event::DiskFull { room: bytes } | node::Event::DiskHasRoom { bytes } => {
            vec![("room_bytes", (*bytes).into())]
        }
        _ => Vec::new(),
    }
}

/// Who belongs to the cluster, and who is to lead it.
fn member_fields(event: &node::Event) -> Vec<(&'static str, Field)> {
    match event {
        node::Event::MembersChanged { index, configuration } => {
            let ids = |voters: &[Voter]| -> Field {
                Field::Servers(voters.iter().map(|voter| voter.member.id).collect())
            };
            let learners = configuration.learners().iter().map(|learner| learner.member.id);
            vec![
                ("index", index.0.into()),
                ("voters", ids(configuration.voters())),
                ("outgoing", ids(configuration.outgoing())),
                ("learners", Field::Servers(learners.collect())),
            ]
        }
        node::Event::Removed { index } => vec![("index", index.0.into())],
        node::Event::TransferBegun { to } | node::Event::TransferTimedOut { to } => {
            vec![("to", (*to).into())]
        }
        _ => Vec::new(),
    }
}

pub(super) fn fmt_event(
    f: &mut fmt::Formatter<'_>,
    event: &node::Event,
    tick: Duration,
) -> fmt::Result {
    let ms = |ticks: u32| milliseconds(tick * ticks);
    match event {
        node::Event::AskingForVotes { campaign, silent_ticks, asked } => write!(
            f,
            "asks        {}: no leader for {} ms, would you elect me in term {campaign}?",
            Names(asked),
            ms(*silent_ticks)
        ),
        node::Event::Campaigning { term, cause: Cause::Transfer, asked, .. } => {
            write!(f, "candidate   term {term}   the leader hands over, asking {}", Names(asked))
        }
        node::Event::Campaigning { term, silent_ticks, asked, .. } => write!(
            f,
            "candidate   term {term}   no leader for {} ms, asking {}",
            ms(*silent_ticks),
            Names(asked)
        ),
        node::Event::VoteAnswered { .. } | node::Event::VoteReceived { .. } => fmt_vote(f, event),
        node::Event::BecameLeader { term, votes, voters } => write!(
            f,
            "LEADER      term {term}   {} of {voters} votes ({})",
            votes.len(),
            Names(votes)
        ),
        node::Event::BecameFollower { term, leader, timeout_ticks } => {
            write!(f, "follower    term {term}   ")?;
            if let Some(leader) = leader {
                write!(f, "of {leader}, ")?;
            }
            write!(f, "election timeout {} ms", ms(*timeout_ticks))
        }
        node::Event::LeaderGone { .. }
        | node::Event::Waits { .. }
        | node::Event::DiskSlow { .. }
        | node::Event::DiskInTime { .. }
        | node::Event::DiskFull { .. }
        | node::Event::DiskHasRoom { .. } => fmt_trouble(f, event, tick),
        node::Event::SteppedDown { term, reason } => {
            write!(f, "steps down  term {term}   {}", StepDownReason(*reason))
        }
        node::Event::FollowerLags { .. }
        | node::Event::SnapshotOffered { .. }
        | node::Event::SnapshotInstalled { .. }
        | node::Event::FollowerCaughtUp { .. }
        | node::Event::CatchingUp { .. }
        | node::Event::Truncated { .. } => fmt_log(f, event),
        node::Event::MembersChanged { .. }
        | node::Event::Removed { .. }
        | node::Event::TransferBegun { .. }
        | node::Event::TransferTimedOut { .. } => fmt_members(f, event),
        node::Event::Damage(event) => damage::tell(f, event, tick),
        node::Event::Ignored { from, reason } => {
            write!(f, "ignored     a message from {from}: {reason}")
        }
    }
}

/// What servers say of each other's campaigns.
fn fmt_vote(f: &mut fmt::Formatter<'_>, event: &node::Event) -> fmt::Result {
    match event {
        node::Event::VoteAnswered { candidate, term, ballot, refusal } => {
            let word = if *ballot == Ballot::Vote { "vote  " } else { "would " };
            match refusal {
                None => write!(f, "{word}      term {term}   {candidate}, count on me"),
                Some(refusal) => write!(
                    f,
                    "{word}      term {term}   {candidate}, do not count on me: {}",
                    Refusal(*refusal)
                ),
            }
        }
        node::Event::VoteReceived { voter, term, ballot, granted } => {
            let word = if *ballot == Ballot::Vote { "answer" } else { "hint  " };
            let said = if *granted { "count on me" } else { "do not count on me" };
            write!(f, "{word}      term {term}   {voter}: {said}")
        }
        _ => Ok(()),
    }
}

/// How logs become equal.
fn fmt_log(f: &mut fmt::Formatter<'_>, event: &node::Event) -> fmt::Result {
    match event {
        node::Event::FollowerLags { follower, from, to } => {
            write!(f, "lags        {follower} lacks entries {from}..{to}")
        }
        node::Event::FollowerCaughtUp { follower, at } => {
            write!(f, "caught up   {follower} holds everything up to {at}")
        }
        node::Event::CatchingUp { leader, from, to } => {
            write!(f, "catches up  entries {from}..{to} from {leader}")
        }
        node::Event::SnapshotOffered { follower, index } => write!(
            f,
            "lags        {follower} lacks entries that are gone; it gets the snapshot at {index}"
        ),
        node::Event::SnapshotInstalled { index } => {
            write!(f, "snapshot    at {index} is installed; the log goes on from there")
        }
        node::Event::Truncated { after, last } => write!(
            f,
            "truncated   entries {}..{last}, never committed, make way for the leader's",
            after.next()
        ),
        _ => Ok(()),
    }
}

/// What keeps servers from leading.
fn fmt_trouble(f: &mut fmt::Formatter<'_>, event: &node::Event, tick: Duration) -> fmt::Result {
    let ms = |ticks: u32| milliseconds(tick * ticks);
    match event {
        node::Event::LeaderGone { leader, term } => write!(
            f,
            "leader gone term {term}   {leader} closed its connection and is not there any more"
        ),
        node::Event::Waits { bar } => {
            write!(f, "waits       no leader, but I do not campaign: {}", WhyItWaits(*bar))
        }
        node::Event::DiskSlow { ticks } => write!(
            f,
            "slow disk   a write takes {} ms or more; I do not lead until one is in time again",
            ms(*ticks)
        ),
        node::Event::DiskInTime { ticks } => {
            write!(f, "disk        in time again: a write took {} ms", ms(*ticks))
        }
        node::Event::DiskFull { room } => write!(
            f,
            "full disk   {room} bytes are left for entries; I take none until there is more"
        ),
        node::Event::DiskHasRoom { bytes } => {
            write!(f, "disk        has room again: {bytes} bytes for entries")
        }
        _ => Ok(()),
    }
}

/// Who belongs to the cluster, and who is to lead it.
fn fmt_members(f: &mut fmt::Formatter<'_>, event: &node::Event) -> fmt::Result {
    match event {
        node::Event::MembersChanged { index, configuration } => {
            write!(f, "members     from {index} on: {}", Members(configuration))
        }
        node::Event::Removed { index } => {
            write!(f, "removed     this server is no member of the cluster since entry {index}")
        }
        node::Event::TransferBegun { to } => {
            write!(f, "hands over  to {to}, which is to lead; writes wait")
        }
        node::Event::TransferTimedOut { to } => {
            write!(f, "leads on    {to} did not take over within an election timeout")
        }
        _ => Ok(()),
    }
}

/// Who votes, who voted before, who learns.
pub(in crate::server) struct Members<'a>(pub(in crate::server) &'a Configuration);

impl fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |voters: &[Voter]| -> Vec<NodeId> {
            voters.iter().map(|voter| voter.member.id).collect()
        };
        write!(f, "{}", Names(&names(self.0.voters())))?;
        if self.0.is_joint() {
            write!(f, ", together with {}", Names(&names(self.0.outgoing())))?;
        }
        for learner in self.0.learners() {
            write!(f, ", {} ", learner.member.id)?;
            match learner.intent {
                Intent::Stay => write!(f, "learns")?,
                Intent::Promote { replaces: None } => write!(f, "learns and will vote")?,
                Intent::Promote { replaces: Some(old) } => {
                    write!(f, "learns and will replace {old}")?;
                }
            }
        }
        Ok(())
    }
}

struct Refusal(VoteRefusal);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            VoteRefusal::HasLeader(leader) => write!(f, "I hear from {leader}, which leads"),
            VoteRefusal::VotedFor(other) => write!(f, "I voted for {other}"),
            VoteRefusal::LogBehind { theirs, mine } => {
                write!(f, "your log ends at {theirs}, mine at {mine}")
            }
            VoteRefusal::TermOver(term) => write!(f, "I am in term {term} already"),
        }
    }
}

struct WhyItWaits(Bar);

impl fmt::Display for WhyItWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Bar::Learner => write!(f, "I learn, and do not vote yet"),
            Bar::NotListed => write!(f, "the cluster does not list me"),
            Bar::NoState => write!(f, "I have no state to serve, and wait for a snapshot"),
            Bar::Damaged(entries) => write!(f, "{entries} entries here are damaged"),
            Bar::SlowDisk => write!(f, "my disk is slow"),
        }
    }
}

struct StepDownReason(StepDown);

impl fmt::Display for StepDownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            StepDown::LaterTerm(term) => write!(f, "term {term} has begun"),
            StepDown::NoQuorum => write!(f, "a majority has not answered for an election timeout"),
            StepDown::SlowDisk => write!(f, "a write keeps the disk for an election timeout"),
            StepDown::NotAVoter => write!(f, "this server does not vote"),
            StepDown::Damaged => write!(f, "an entry that I had not applied yet is damaged"),
        }
    }
}
