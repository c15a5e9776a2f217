//! `member`: who belongs to the cluster, and changing that. A change that a new server is to vote
//! by is followed until it does.

use std::io::{self, Write};
use std::time::Instant;

use kvstore::client::ClientError;
use kvstore::wire::admin::MemberChange;
use kvstore::wire::response::{Feed, Member, MemberKind, SnapshotProgress, StatusReport};
use serde_json::{Value, json};

use crate::args::{AddArgs, MemberArgs, MemberCommand, RemoveArgs, ReplaceArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Answer, Table};
use crate::session::{self, Session};

/// The members as one server knows them.
struct Members {
    /// Who says so; the leader, if there is one.
    report: Box<StatusReport>,
}

impl Answer for Members {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.table(out)
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table =
            Table::new(&["id", "part", "address", "matched", "behind", "heard", "gets"]);
        let leader = self.leader();
        for member in &self.report.members {
            let leads = leader == Some(member.id.as_str()) && member.kind == MemberKind::Voter;
            let matched = member.matched.map_or("-".to_owned(), |index| index.to_string());
            let behind = member
                .matched
                .map_or("-".to_owned(), |index| self.report.last.saturating_sub(index).to_string());
            let heard = match member.heard_ms_ago {
                _ if member.id == self.report.node => "itself".to_owned(),
                None => "never".to_owned(),
                Some(ago) => format!("{ago} ms ago"),
            };
            table.row(vec![
                member.id.clone(),
                if leads { "voter, LEADER".to_owned() } else { member.kind.to_string() },
                member.address.clone(),
                matched,
                behind,
                heard,
                gets(member),
            ]);
        }
        writeln!(out, "{table}")?;
        match self.unsettled() {
            Some(text) => writeln!(out, "{text}"),
            None => Ok(()),
        }
    }

    fn json(&self) -> Value {
        json!({
            "cluster": self.report.cluster,
            "leader": self.leader(),
            "last": self.report.last,
            "commit": self.report.commit,
            "joint": self.report.joint,
            "members_committed": self.report.members_committed,
            "commit_waits_for": self.commit_waits_for(),
            "members": self.json_lines(),
        })
    }

    fn json_lines(&self) -> Vec<Value> {
        self.report.members.iter().map(member_json).collect()
    }
}

impl Members {
    /// The voters without whose acknowledgements the leader's next entry is not committed: all
    /// that have not given one. Nobody is waited for where everything is committed.
    fn commit_waits_for(&self) -> Vec<&str> {
        let next = self.report.commit + 1;
        let votes = |it: &&Member| matches!(it.kind, MemberKind::Voter | MemberKind::Outgoing);
        let lacks = |it: &&Member| it.matched.is_some_and(|matched| matched < next);
        let waits = self.report.last >= next;
        let lacking = self.report.members.iter().filter(votes).filter(lacks).filter(|_| waits);
        lacking.map(|member| member.id.as_str()).collect()
    }

    /// What is under way and concerns all members.
    fn unsettled(&self) -> Option<String> {
        let mut parts = Vec::new();
        if self.report.joint {
            parts.push(
                "the members change: majorities of the old and the new ones are needed".to_owned(),
            );
        } else if !self.report.members_committed {
            parts.push("these members are not committed yet".to_owned());
        }
        let lacking = self.commit_waits_for();
        if !lacking.is_empty() {
            let (next, lacking) = (self.report.commit + 1, lacking.join(" "));
            parts.push(format!("entry {next} waits for enough of: {lacking}"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn leader(&self) -> Option<&str> {
        self.report.leader.as_ref().map(|leader| leader.id.as_str())
    }
}

/// What the leader sends to a member.
fn gets(member: &Member) -> String {
    match (member.sending, member.feed) {
        (Some(progress), _) => progress.to_string(),
        (None, Some(feed)) => feed_name(feed).to_owned(),
        (None, None) => "-".to_owned(),
    }
}

fn feed_name(feed: Feed) -> &'static str {
    match feed {
        Feed::Probes => "probes",
        Feed::Entries => "entries",
        Feed::Heartbeats => "heartbeats, it is silent",
        Feed::Snapshot => "needs a snapshot",
    }
}

fn feed_word(feed: Feed) -> &'static str {
    match feed {
        Feed::Probes => "probes",
        Feed::Entries => "entries",
        Feed::Heartbeats => "heartbeats",
        Feed::Snapshot => "snapshot",
    }
}

pub(super) fn progress_json(progress: SnapshotProgress) -> Value {
    let SnapshotProgress { index, bytes, done_bytes } = progress;
    json!({ "index": index, "bytes": bytes, "done_bytes": done_bytes })
}

fn member_json(member: &Member) -> Value {
    let (kind, replaces) = match &member.kind {
        MemberKind::Voter => ("voter", None),
        MemberKind::Learner => ("learner", None),
        MemberKind::Outgoing => ("outgoing", None),
        MemberKind::Promoting { replaces } => ("promoting", replaces.clone()),
        MemberKind::Joining => ("joining", None),
    };
    json!({
        "id": member.id,
        "kind": kind,
        "replaces": replaces,
        "address": member.address,
        "incarnation": format!("{:016x}", member.incarnation),
        "matched": member.matched,
        "gets": member.feed.map(feed_word),
        "sending": member.sending.map(progress_json),
        "heard_ms_ago": member.heard_ms_ago,
    })
}

/// `kvctl member`.
pub(crate) async fn run(session: &Session, args: MemberArgs) -> Result<(), Failure> {
    match args.command {
        MemberCommand::List => list(session).await,
        MemberCommand::Add(args) => add(session, args).await,
        MemberCommand::Promote(args) => {
            change(session, MemberChange::Promote { id: args.id.clone() }).await?;
            until_it_votes(session, &args.id).await
        }
        MemberCommand::Remove(args) => remove(session, args).await,
        MemberCommand::Replace(args) => replace(session, args).await,
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let (report, leads) = find(session).await?;
    if !leads {
        session.note(&format!("no server leads; this is what {} knows", report.node));
    }
    session.answer(&Members { report })
}

/// What the leader knows, or, without one, the server that has seen most of the log.
async fn find(session: &Session) -> Result<(Box<StatusReport>, bool), Failure> {
    let status = session.client().cluster_status().await;
    if let Some(leader) = status.leader() {
        return Ok((Box::new(leader.clone()), true));
    }
    let latest = status.reports().max_by_key(|report| (report.term, report.last));
    let latest =
        latest.ok_or_else(|| Failure::new(Exit::Unreachable, "no server could be reached"))?;
    Ok((Box::new(latest.clone()), false))
}

async fn add(session: &Session, args: AddArgs) -> Result<(), Failure> {
    let AddArgs { id, address, learner } = args;
    if learner {
        change(session, MemberChange::AddLearner { id: id.clone(), address }).await?;
        return done(session, &id, "learns; it votes once it is promoted").await;
    }
    change(session, MemberChange::AddVoter { id: id.clone(), address }).await?;
    until_it_votes(session, &id).await
}

async fn replace(session: &Session, args: ReplaceArgs) -> Result<(), Failure> {
    let ReplaceArgs { old, new, address } = args;
    let new = new.unwrap_or_else(|| old.clone());
    change(session, MemberChange::Replace { old, new: new.clone(), address }).await?;
    until_it_votes(session, &new).await
}

async fn remove(session: &Session, args: RemoveArgs) -> Result<(), Failure> {
    ask_if_it_is_needed(session, &args.id).await?;
    change(session, MemberChange::Remove { id: args.id.clone() }).await?;
    done(session, &args.id, "is no member of the cluster any more; stop it").await
}

/// Asks before the removal of a server without which no other one could be lost.
async fn ask_if_it_is_needed(session: &Session, id: &str) -> Result<(), Failure> {
    let status = session.client().cluster_status().await;
    let Some(leader) = status.leader() else { return Ok(()) };
    let is_voter = |member: &&Member| member.kind == MemberKind::Voter;
    if !leader.members.iter().filter(is_voter).any(|member| member.id == id) {
        return Ok(());
    }
    let left = leader.members.iter().filter(is_voter).filter(|member| member.id != id);
    let (mut voters, mut reachable) = (0_usize, 0_usize);
    for member in left {
        voters += 1;
        let is_reachable = status.reports().any(|report| report.node == member.id);
        reachable += usize::from(is_reachable);
    }
    let needed = voters / 2 + 1;
    if reachable > needed || session.trusts() {
        return Ok(());
    }
    let warning = format!(
        "without {id} there are {voters} voters, {reachable} of them reachable and {needed} \
         needed: the cluster could not lose one more"
    );
    if !session::can_ask() {
        return Err(Failure::usage(warning).detail("nothing was changed; say --yes if it is meant"));
    }
    session::ask(&format!("{warning}. Remove it?"), "nothing was changed")
}

/// Has the leader carry out a change. Whoever hears nothing is told where to look.
async fn change(session: &Session, change: MemberChange) -> Result<(), Failure> {
    match session.client().change_members(change).await {
        Ok(_) => Ok(()),
        Err(error @ ClientError::InDoubt { .. }) => {
            Err(Failure::from(error).detail("look: kvctl member list"))
        }
        Err(error) => Err(Failure::from(error).detail("nothing was changed")),
    }
}

/// Follows a server until it votes, telling how far it is. It may take as long as it needs, but
/// something must move.
async fn until_it_votes(session: &Session, id: &str) -> Result<(), Failure> {
    let mut told = String::new();
    let mut moved = Instant::now();
    loop {
        if let Ok((report, true)) = find(session).await {
            match Standing::of(&report, id) {
                Standing::CatchesUp { matched } => {
                    let progress = format!("{id} catches up {matched} of {}", report.last);
                    if progress != told {
                        session.note(&progress);
                        (told, moved) = (progress, Instant::now());
                    }
                }
                Standing::Votes => return done(session, id, "votes").await,
                Standing::Unsettled => {}
                Standing::Gone => {
                    let gone = format!("{id} was taken out again before it voted");
                    return Err(Failure::new(Exit::Refused, gone));
                }
            }
        }
        if moved.elapsed() > session.timeout() {
            let stuck = format!("{id} has not got on for {:?}", session.timeout());
            return Err(Failure::new(Exit::TimedOut, stuck)
                .detail(
                    "it is a member and votes as soon as it has caught up and a majority says so",
                )
                .detail("look: kvctl member list"));
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// How far a server has come that is to vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It learns.
    CatchesUp {
        /// What it holds of the log.
        matched: u64,
    },
    /// It is a voter in a configuration that is joint, or that could still be undone.
    Unsettled,
    /// It votes, and that is committed.
    Votes,
    /// It is no member.
    Gone,
}

impl Standing {
    fn of(report: &StatusReport, id: &str) -> Standing {
        let lives = || report.members.iter().filter(|member| member.id == id);
        if let Some(learner) = lives().find(|it| matches!(it.kind, MemberKind::Promoting { .. })) {
            return Standing::CatchesUp { matched: learner.matched.unwrap_or(0) };
        }
        let votes = lives().any(|it| it.kind == MemberKind::Voter);
        match (votes, !report.joint && report.members_committed) {
            (true, true) => Standing::Votes,
            (true, false) => Standing::Unsettled,
            (false, _) => Standing::Gone,
        }
    }
}

/// What was reached.
struct Done {
    id: String,
    what: &'static str,
    members: Members,
}

impl Answer for Done {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} {}", self.id, self.what)
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        self.members.table(out)
    }

    fn json(&self) -> Value {
        self.members.json()
    }
}

async fn done(session: &Session, id: &str, what: &'static str) -> Result<(), Failure> {
    // A leader that was taken out has a successor soon.
    let led = session.until(async || find(session).await.ok().filter(|(_, leads)| *leads)).await;
    let report = match led {
        Some((report, _)) => report,
        None => find(session).await?.0,
    };
    session.confirm(&Done { id: id.to_owned(), what, members: Members { report } })
}

/// Between two looks at a server that catches up.
const FOLLOW_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use kvstore::store::Revision;
    use kvstore::wire::handshake::Timing;
    use kvstore::wire::response::ServerRole;

    use super::*;

    fn report(kind: MemberKind) -> StatusReport {
        let member = |id: &str, kind, matched| Member {
            id: id.to_owned(),
            address: String::new(),
            incarnation: 1,
            kind,
            matched: Some(matched),
            heard_ms_ago: None,
            feed: None,
            sending: None,
        };
        StatusReport {
            node: "s1".to_owned(),
            address: String::new(),
            cluster: "demo".to_owned(),
            cluster_id: None,
            incarnation: 1,
            boot: 1,
            uptime_ms: 1,
            role: ServerRole::Leader,
            term: 1,
            leader: None,
            revision: Revision(1),
            keys: 0,
            live_bytes: 0,
            sessions: 0,
            commit: 8,
            applied: 8,
            durable: 9,
            last: 9,
            snapshot: 0,
            timing: Timing { heartbeat_ms: 50, election_min_ms: 500, election_max_ms: 1000 },
            members: vec![member("s1", MemberKind::Voter, 9), member("s2", kind, 7)],
            joint: false,
            members_committed: true,
            receiving: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_server_votes_only_once_that_is_committed_and_not_joint() {
        let learns = report(MemberKind::Promoting { replaces: None });
        assert_eq!(Standing::of(&learns, "s2"), Standing::CatchesUp { matched: 7 });
        assert_eq!(Standing::of(&learns, "s3"), Standing::Gone);
        let votes = report(MemberKind::Voter);
        assert_eq!(Standing::of(&votes, "s2"), Standing::Votes);
        let joint = StatusReport { joint: true, ..votes.clone() };
        assert_eq!(Standing::of(&joint, "s2"), Standing::Unsettled);
        let open = StatusReport { members_committed: false, ..votes };
        assert_eq!(Standing::of(&open, "s2"), Standing::Unsettled);
    }

    #[test]
    fn a_commit_waits_for_the_voters_that_have_not_acknowledged() {
        let waits = |report: StatusReport| {
            let members = Members { report: Box::new(report) };
            members.commit_waits_for().join(" ")
        };
        assert_eq!(waits(report(MemberKind::Voter)), "s2");
        assert_eq!(waits(report(MemberKind::Learner)), "");
        let all = StatusReport { commit: 9, ..report(MemberKind::Voter) };
        assert_eq!(waits(all), "");
    }
}
