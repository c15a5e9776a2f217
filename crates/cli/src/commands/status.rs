//! `status`: what every member of the cluster says of itself, side by side.

use std::io::{self, Write};

use kvstore::client::{ClusterStatus, ServerStatus};
use kvstore::wire::response::Receiving;
use serde_json::{Value, json};

use super::member::progress_json;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Answer, Table};
use crate::session::Session;

impl Answer for ClusterStatus {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let leader = self.leader_id().unwrap_or("none");
        writeln!(
            out,
            "cluster {}   leader {leader}   term {}   revision {}",
            self.cluster().unwrap_or("unknown"),
            self.term(),
            self.revision().0
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
        for server in &self.servers {
            let id = server.endpoint.id.clone().unwrap_or_else(|| "?".to_owned());
            let mut row = vec![id.clone()];
            match &server.report {
                Ok(report) => {
                    let leads = leader == Some(&id);
                    row.push(if leads { "LEADER".to_owned() } else { report.role.to_string() });
                    row.push(server.endpoint.address.clone());
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
                    row.push(server.endpoint.address.clone());
                    row.extend(std::iter::repeat_n("-".to_owned(), 6));
                    row.push(reason.to_string());
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
            "revision": self.revision().0,
            "members": self.json_lines(),
        })
    }

    fn json_lines(&self) -> Vec<Value> {
        self.servers.iter().map(server_json).collect()
    }
}

fn server_json(server: &ServerStatus) -> Value {
    let report = server.report.as_deref().ok();
    let mut object = json!({
        "id": server.endpoint.id,
        "role": report.map(|report| report.role.to_string()),
        "address": server.endpoint.address,
        "term": report.map(|report| report.term),
        "commit": report.map(|report| report.commit),
        "applied": report.map(|report| report.applied),
        "durable": report.map(|report| report.durable),
        "last": report.map(|report| report.last),
        "snapshot": report.map(|report| report.snapshot),
        "reachable": report.is_some(),
    });
    // Only while there is something to tell.
    if let Some(receiving) = report.and_then(|report| report.receiving.as_ref())
        && let Some(fields) = object.as_object_mut()
    {
        fields.insert("receiving".to_owned(), receiving_json(receiving));
    }
    object
}

fn receiving_json(receiving: &Receiving) -> Value {
    json!({ "from": receiving.from, "progress": progress_json(receiving.progress) })
}

/// `kvctl status`.
pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let status = session.client().cluster_status().await;
    session.answer(&status)?;
    let mut warnings: Vec<String> = Vec::new();
    for report in status.reports() {
        let receiving = report.receiving.as_ref();
        warnings.extend(receiving.map(|receiving| {
            format!("{}: receives {} from {}", report.node, receiving.progress, receiving.from)
        }));
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
