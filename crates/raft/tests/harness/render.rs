//! What scripts show: one line for each thing that happened or was said.

use std::fmt::Write;

use raft::node::{
    Ballot, Bar, Cause, ChangeEnded, ChangeOutcome, Configuration, DamageEvent, Ended, Entry,
    EntryKind, Envelope, Event, Index, Intent, Learner, Member, Message, NodeId, Position,
    ProposalOutcome, ReadEnded, StepDown, TransferEnded, TransferOutcome, VoteRefusal, Voter,
};

use super::membership::LIFE;

pub fn envelope(envelope: &Envelope) -> String {
    let Envelope { from, to, term, message } = envelope;
    let details = match message {
        Message::PreVoteRequest { campaign, last } => format!("campaign={campaign} last={last}"),
        Message::PreVoteGranted { campaign } | Message::PreVoteRefused { campaign } => {
            format!("campaign={campaign}")
        }
        Message::VoteRequest { last, cause: Cause::Silence } | Message::TimeoutNow { last } => {
            format!("last={last}")
        }
        Message::VoteRequest { last, cause: Cause::Transfer } => format!("last={last} by transfer"),
        Message::VoteGranted | Message::VoteRefused | Message::TermIsOver => String::new(),
        Message::Append { previous, entries, commit, round } => {
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("previous={previous} commit={commit} round={round} [{}]", entries.join(", "))
        }
        Message::AppendAccepted { matched } => format!("matched={matched}"),
        Message::AppendAcceptedInPart { matched, verified } => {
            format!("matched={matched} verified={verified}")
        }
        Message::RepairRequest { positions } => positions_text(positions),
        Message::RepairAnswer { entries, lacking, compacted } => {
            let entries: Vec<String> = entries.iter().map(entry).collect();
            let lacking = positions_text(lacking);
            format!("[{}] lacking=[{lacking}] compacted={compacted}", entries.join(", "))
        }
        Message::AppendRejected { previous, hint } => format!("previous={previous} hint={hint}"),
        Message::RoundEcho { round } => format!("round={round}"),
        Message::SnapshotOffer { snapshot } => format!("snapshot={}", snapshot.position),
        Message::SnapshotRequest { after } => format!("after={after}"),
        Message::ReadIndexRequest { counter, .. } => format!("counter={counter}"),
        Message::ReadIndexAnswer { counter, index, .. } => {
            format!("counter={counter} index={index}")
        }
    };
    format!("  {from} -> {to} t{term} {} {details}", message.name()).trim_end().to_string()
}

fn positions_text(positions: &[Position]) -> String {
    positions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub fn entry(entry: &Entry) -> String {
    let what = command(entry).unwrap_or_else(|| match entry.kind {
        EntryKind::Empty => "empty".into(),
        _ if entry.index == Index(1) => "configuration".into(),
        _ => {
            let decoded = Configuration::decode(&entry.payload.bytes);
            format!("({})", configuration(&decoded.expect("a node wrote it")))
        }
    });
    format!("{} {what}", entry.position())
}

/// The voters, who voted before, who learns and what for.
pub fn configuration(configuration: &Configuration) -> String {
    let names = |voters: &[Voter]| {
        let names = voters.iter().map(|voter| life(voter.member));
        names.collect::<Vec<_>>().join(" ")
    };
    let mut text = names(configuration.voters());
    if text.is_empty() {
        return "nobody".into();
    }
    if configuration.is_joint() {
        let _ = write!(text, " and {}", names(configuration.outgoing()));
    }
    for Learner { member, intent, .. } in configuration.learners() {
        let _ = write!(text, ", {} ", life(*member));
        text += &match intent {
            Intent::Stay => "learns".to_string(),
            Intent::Promote { replaces: None } => "is to vote".to_string(),
            Intent::Promote { replaces: Some(old) } => format!("is to replace {}", life(*old)),
        };
    }
    text
}

/// A server's name, with a prime for every directory that it lost.
fn life(member: Member) -> String {
    let primes = usize::try_from(member.incarnation.0 / LIFE).expect("few lives");
    format!("{}{}", member.id, "'".repeat(primes))
}

pub fn change(ended: ChangeEnded) -> String {
    let outcome = match ended.outcome {
        ChangeOutcome::Finished => "is finished",
        ChangeOutcome::Certain => "will be finished by the next leader",
        ChangeOutcome::Unknown => "has an unknown end",
    };
    format!("change {} {outcome}", ended.index)
}

pub fn transfer(ended: TransferEnded) -> String {
    let to = ended.to;
    match ended.outcome {
        TransferOutcome::HandedOver => format!("transfer to {to} ended: handed over"),
        TransferOutcome::TimedOut => format!("transfer to {to} ended: timed out"),
        TransferOutcome::LeadershipLost => format!("transfer to {to} ended: leadership lost"),
    }
}

/// What a command says; `None` for an entry that is none.
pub fn command(entry: &Entry) -> Option<String> {
    (entry.kind == EntryKind::Command)
        .then(|| String::from_utf8_lossy(&entry.payload.bytes).into_owned())
}

pub fn ended(ended: &Ended) -> String {
    let outcome = match ended.outcome {
        ProposalOutcome::Committed => "committed",
        ProposalOutcome::Superseded => "superseded",
        ProposalOutcome::Unknown => "unknown",
    };
    format!("proposals {}..{} {outcome}", ended.indexes.start(), ended.indexes.end())
}

pub fn read(read: &ReadEnded) -> String {
    match read.outcome {
        Ok(index) => format!("read {} may be answered at {index}", read.id),
        Err(changed) => format!("read {} ended: {changed}", read.id),
    }
}

pub fn event(event: &Event) -> String {
    match event {
        Event::AskingForVotes { campaign, asked, .. } => {
            format!("asks {} about term {campaign}", names(asked))
        }
        Event::Campaigning { term, asked, .. } => {
            format!("CAMPAIGNS in {term}, asks {}", names(asked))
        }
        Event::MembersChanged { index, configuration: members } => {
            format!("from {index} on: {}", configuration(members))
        }
        Event::Removed { index } => format!("is out of the cluster since {index}"),
        Event::TransferBegun { to } => format!("hands over to {to}"),
        Event::TransferTimedOut { to } => format!("gives up handing over to {to}"),
        Event::VoteAnswered { candidate, term, ballot, refusal } => {
            let kind = kind(*ballot);
            match refusal {
                None => format!("gives {candidate} its {kind} in {term}"),
                Some(refusal) => {
                    format!("refuses {candidate} its {kind} in {term}: {}", why_not(*refusal))
                }
            }
        }
        Event::VoteReceived { voter, term, ballot, granted } => {
            let kind = kind(*ballot);
            let said = if *granted { "yes" } else { "no" };
            format!("hears {said} of {voter} ({kind} in {term})")
        }
        Event::BecameLeader { term, votes, voters } => {
            format!("LEADS in {term} with {} of {voters} ({})", votes.len(), names(votes))
        }
        Event::BecameFollower { term, leader: Some(leader), .. } => {
            format!("follows {leader} in {term}")
        }
        Event::BecameFollower { term, leader: None, .. } => format!("waits in {term}"),
        Event::LeaderGone { leader, term } => format!("knows that {leader} of {term} is gone"),
        Event::Waits { bar } => format!("does not campaign: {}", why_it_waits(*bar)),
        Event::DiskSlow { ticks } => format!("has a slow disk: {ticks} ticks for a write"),
        Event::DiskFull { room } => format!("takes no entries: room for {room} bytes"),
        Event::DiskHasRoom { bytes } => format!("has room again: {bytes} bytes"),
        Event::DiskInTime { ticks } => format!("has a quick disk again: {ticks} ticks"),
        Event::SteppedDown { term, reason } => match reason {
            StepDown::LaterTerm(later) => format!("steps down: term {later} has begun"),
            StepDown::NoQuorum => format!("steps down in {term}: no quorum"),
            StepDown::SlowDisk => format!("steps down in {term}: its disk is slow"),
            StepDown::NotAVoter => format!("steps down in {term}: it does not vote"),
            StepDown::Damaged => format!("steps down in {term}: it lost what it has not applied"),
        },
        Event::FollowerLags { follower, from, to } => {
            format!("finds {follower} to lack {from}..{to}")
        }
        Event::FollowerCaughtUp { follower, at } => format!("finds {follower} caught up at {at}"),
        Event::CatchingUp { leader, from, to } => format!("lacks {from}..{to} of {leader}"),
        Event::SnapshotOffered { follower, index } => {
            format!("offers {follower} its snapshot at {index}")
        }
        Event::SnapshotInstalled { index } => format!("goes on from the snapshot at {index}"),
        Event::Truncated { after, last } => format!("truncates {}..{last}", after.next()),
        Event::Damage(event) => damage(event),
        Event::Ignored { from, reason } => format!("ignores {from}: {reason}"),
    }
}

fn damage(event: &DamageEvent) -> String {
    match event {
        DamageEvent::Found { entries, first, last, asked } => {
            format!("finds {entries} damaged, {first}..{last}, to ask {}", names(asked))
        }
        DamageEvent::Repaired { entries, from, left, .. } => {
            format!("has repaired {entries} from {from}, {left} left")
        }
        DamageEvent::NobodyHasIt { entries, first } => {
            format!("finds nobody who has its {entries} damaged, from {first} on")
        }
    }
}

fn kind(ballot: Ballot) -> &'static str {
    match ballot {
        Ballot::PreVote => "pre-vote",
        Ballot::Vote => "vote",
    }
}

fn why_not(refusal: VoteRefusal) -> String {
    match refusal {
        VoteRefusal::HasLeader(leader) => format!("it hears from {leader}"),
        VoteRefusal::VotedFor(other) => format!("it voted for {other}"),
        VoteRefusal::LogBehind { theirs, mine } => {
            format!("its log ends at {theirs}, before {mine}")
        }
        VoteRefusal::TermOver(term) => format!("its own term is {term}"),
    }
}

fn why_it_waits(bar: Bar) -> String {
    match bar {
        Bar::Learner => "it learns".into(),
        Bar::NotListed => "it is not listed".into(),
        Bar::NoState => "it has no state".into(),
        Bar::Damaged(entries) => format!("{entries} damaged"),
        Bar::SlowDisk => "its disk is slow".into(),
    }
}

fn names(ids: &[NodeId]) -> String {
    if ids.is_empty() {
        return "nobody".into();
    }
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
