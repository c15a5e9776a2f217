//! `status`: what every member of the cluster says of itself, side by side.

use std::io::{self, Write};

use kvstore::wire::response::{ServerRole, StatusReport};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Answer, Table};
use crate::session::{ServerAddress, Session};

/// A member, and what it answered.
struct MemberStatus {
    id: Option<String>,
    address: String,
    report: Result<Box<StatusReport>, String>,
}

/// The cluster as its members see it.
pub(crate) struct ClusterStatus {
    members: Vec<MemberStatus>,
}

impl ClusterStatus {
    fn reports(&self) -> impl Iterator<Item = &StatusReport> {
        self.members.iter().filter_map(|member| member.report.as_deref().ok())
    }

    /// The report of the leader: of those that say they lead, the one of the highest term. There
    /// is none if somebody has heard of a higher term, in which nobody leads yet.
    fn leader(&self) -> Option<&StatusReport> {
        let leaders = self.reports().filter(|report| report.role == ServerRole::Leader);
        let latest = leaders.max_by_key(|report| report.term)?;
        (latest.term == self.term()).then_some(latest)
    }

    /// The id of the leader, if there is one.
    pub(crate) fn leader_id(&self) -> Option<&str> {
        self.leader().map(|report| report.node.as_str())
    }

    /// A member that plays this part.
    pub(crate) fn find(&self, role: ServerRole) -> Option<ServerAddress> {
        let mut reports = self.reports();
        let report = if role == ServerRole::Leader {
            self.leader()
        } else {
            reports.find(|report| report.role == role)
        }?;
        Some(ServerAddress { id: Some(report.node.clone()), address: report.address.clone() })
    }

    /// Where the members are.
    pub(crate) fn servers(&self) -> Vec<ServerAddress> {
        let members = self.members.iter();
        let server = |member: &MemberStatus| {
            let (id, address) = (member.id.clone(), member.address.clone());
            ServerAddress { id, address }
        };
        members.map(server).collect()
    }

    /// The highest term that anybody has heard of.
    fn term(&self) -> u64 {
        self.reports().map(|report| report.term).max().unwrap_or(0)
    }

    fn revision(&self) -> u64 {
        self.reports().map(|report| report.revision.0).max().unwrap_or(0)
    }

    fn cluster(&self) -> Option<&str> {
        self.reports().next().map(|report| report.cluster.as_str())
    }
}

impl Answer for ClusterStatus {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let leader = self.leader_id().unwrap_or("none");
        writeln!(
            out,
            "cluster {}   leader {leader}   term {}   revision {}",
            self.cluster().unwrap_or("unknown"),
            self.term(),
            self.revision()
        )?;
        self.table(out)
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&[
            "id",
            "role",
            "address",
            "term",
            "commit",
            "applied",
            "durable",
            "last",
            "snapshot",
            "reachable",
        ]);
        let leader = self.leader_id();
        for member in &self.members {
            let id = member.id.clone().unwrap_or_else(|| "?".to_owned());
            let mut row = vec![id.clone()];
            match &member.report {
                Ok(report) => {
                    let leads = leader == Some(&id);
                    row.push(if leads { "LEADER".to_owned() } else { report.role.to_string() });
                    row.push(member.address.clone());
                    row.extend(
                        [
                            report.term,
                            report.commit,
                            report.applied,
                            report.durable,
                            report.last,
                            report.snapshot,
                        ]
                        .map(|number| number.to_string()),
                    );
                    row.push("yes".to_owned());
                }
                Err(reason) => {
                    row.push("-".to_owned());
                    row.push(member.address.clone());
                    row.extend(std::iter::repeat_n("-".to_owned(), 6));
                    row.push(reason.clone());
                }
            }
            table.row(row);
        }
        writeln!(out, "{table}")
    }

    fn json(&self) -> Value {
        json!({
            "cluster": self.cluster(),
            "leader": self.leader_id(),
            "term": self.term(),
            "revision": self.revision(),
            "members": self.json_lines(),
        })
    }

    fn json_lines(&self) -> Vec<Value> {
        self.members.iter().map(member_json).collect()
    }
}

fn member_json(member: &MemberStatus) -> Value {
    let report = member.report.as_deref().ok();
    json!({
        "id": member.id,
        "role": report.map(|report| report.role.to_string()),
        "address": member.address,
        "term": report.map(|report| report.term),
        "commit": report.map(|report| report.commit),
        "applied": report.map(|report| report.applied),
        "durable": report.map(|report| report.durable),
        "last": report.map(|report| report.last),
        "snapshot": report.map(|report| report.snapshot),
        "reachable": report.is_some(),
    })
}

/// `kvctl status`.
pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let status = gather(session).await;
    session.answer(&status)?;
    let mut warnings: Vec<String> = Vec::new();
    for report in status.reports() {
        warnings.extend(report.warnings.iter().map(|text| format!("{}: {text}", report.node)));
    }
    for warning in warnings {
        session.note(&warning);
    }
    if status.reports().next().is_none() {
        return Err(Failure::new(Exit::Unreachable, "no server could be reached"));
    }
    Ok(())
}

/// Asks the servers that are known, then those that these know of.
pub(crate) async fn gather(session: &Session) -> ClusterStatus {
    let mut members = ask(session, session.servers().to_vec()).await;
    let known: Vec<&str> = members.iter().filter_map(|member| member.id.as_deref()).collect();
    let mut others: Vec<ServerAddress> = Vec::new();
    for report in members.iter().filter_map(|member| member.report.as_deref().ok()) {
        for member in &report.members {
            let is_new = !known.contains(&member.id.as_str())
                && !others.iter().any(|other| other.id.as_deref() == Some(&member.id));
            if is_new {
                let (id, address) = (Some(member.id.clone()), member.address.clone());
                others.push(ServerAddress { id, address });
            }
        }
    }
    members.extend(ask(session, others).await);
    members.sort_by(|left, right| left.id.cmp(&right.id));
    ClusterStatus { members }
}

/// Asks all of these at the same time.
async fn ask(session: &Session, servers: Vec<ServerAddress>) -> Vec<MemberStatus> {
    let mut asking = tokio::task::JoinSet::new();
    for server in servers {
        let session = session.clone();
        asking.spawn(async move {
            let report = session.status_of(&server).await;
            let id = report.as_ref().map(|report| report.node.clone()).ok().or(server.id);
            MemberStatus { id, address: server.address, report: report.map(Box::new) }
        });
    }
    asking.join_all().await
}
