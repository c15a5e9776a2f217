//! `member`: who belongs to the cluster, and changing that. A change that a new server is to vote
//! by is followed until it does.

use std::io::{self, Write};
use std::time::Instant;

use kvstore::client::ClientError;
use kvstore::wire::admin::MemberChange;
use kvstore::wire::response::{Member, MemberKind, StatusReport};
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
        let mut table = Table::new(&["id", "part", "address", "matched", "heard"]);
        let leader = self.leader();
        for member in &self.report.members {
            let leads = leader == Some(member.id.as_str()) && member.kind == MemberKind::Voter;
            let matched = member.matched.map_or("-".to_owned(), |index| index.to_string());
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
                heard,
            ]);
        }
        writeln!(out, "{table}")
    }

    fn json(&self) -> Value {
        json!({
            "cluster": self.report.cluster,
            "leader": self.leader(),
            "last": self.report.last,
            "members": self.json_lines(),
        })
    }

    fn json_lines(&self) -> Vec<Value> {
        self.report.members.iter().map(member_json).collect()
    }
}

impl Members {
    fn leader(&self) -> Option<&str> {
        self.report.leader.as_ref().map(|leader| leader.id.as_str())
    }
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
    let named = (id.clone(), Some(address));
    if learner {
        let (id, address) = named;
        change(session, MemberChange::AddLearner { id: id.clone(), address }).await?;
        return done(session, &id, "learns; it votes once it is promoted").await;
    }
    let (voter, address) = named;
    change(session, MemberChange::AddVoter { id: voter, address }).await?;
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
            let lives: Vec<&Member> =
                report.members.iter().filter(|member| member.id == id).collect();
            let learns = lives.iter().find(|it| matches!(it.kind, MemberKind::Promoting { .. }));
            let votes = lives.iter().any(|it| it.kind == MemberKind::Voter);
            let is_joint = report.members.iter().any(|it| it.kind == MemberKind::Outgoing);
            match learns {
                Some(learner) => {
                    let matched = learner.matched.unwrap_or(0);
                    let progress = format!("{id} catches up {matched} of {}", report.last);
                    if progress != told {
                        session.note(&progress);
                        (told, moved) = (progress, Instant::now());
                    }
                }
                None if votes && !is_joint => return done(session, id, "votes").await,
                None if votes => {}
                None => {
                    let gone = format!("{id} was taken out again before it voted");
                    return Err(Failure::new(Exit::Refused, gone));
                }
            }
        }
        if moved.elapsed() > session.timeout() {
            let stuck = format!("{id} has not got on for {:?}", session.timeout());
            return Err(Failure::new(Exit::TimedOut, stuck)
                .detail("it is a member and votes as soon as it has caught up")
                .detail("look: kvctl member list"));
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
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
