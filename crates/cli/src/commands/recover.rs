//! `recover`: makes a cluster of its own out of the last survivor's directory. Everything is
//! decided below; here it is told, and asked for.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use kvstore::client::{Client, ClientOptions, Endpoint, ServerStatus};
use kvstore::config::Config;
use kvstore::server::{self, Recovery, ServeError};
use raft::node::{NodeId, Position};
use raft::storage::{Account, HomeError, RescueError, Wanted};
use serde_json::{Value, json};

use crate::args::{Global, RecoverArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Answer};
use crate::quote::quoted;
use crate::runtime::block_on;
use crate::session::can_ask;

/// `kvctl recover`.
pub(crate) fn run(global: &Global, args: RecoverArgs) -> Result<(), Failure> {
    let usage = |text: String| Failure::from_text(Exit::Usage, &text);
    let config = Config::discover(global.config.as_deref());
    let config = config.map_err(|error| usage(error.to_string()))?;
    let data = match (&args.place.data, &args.place.id) {
        (Some(data), _) => data.clone(),
        (None, Some(id)) => config.data.directory(id),
        (None, None) => return Err(Failure::usage("which directory? name it: --data DIR")),
    };
    let id = args.place.id.as_deref().map(NodeId::new).transpose();
    let id = id.map_err(|error| usage(error.to_string()))?;
    let wanted = Wanted { cluster: args.cluster.clone(), id, address: args.addr };
    let recovery = match server::prepare_recovery(&data, &config, &wanted) {
        Ok(recovery) => recovery,
        Err(ServeError::Rescue(error @ RescueError::NotNeeded { .. })) => {
            return print(global, &NotNeeded(error.to_string()));
        }
        Err(error) => return Err(failure(error, &data)),
    };
    let refusal = match args.force {
        true => Ok(()),
        false => refuse_if_alive(recovery.account()),
    };
    if let Err(refusal) = refusal.and_then(|()| confirm(global, &args.cluster, &recovery, &data)) {
        recovery.abandon().map_err(|error| failure(error.into(), &data))?;
        return Err(refusal);
    }
    let account = recovery.carry_out().map_err(|error| failure(error.into(), &data))?;
    print(global, &Recovered { account, data })
}

fn print(global: &Global, answer: &dyn Answer) -> Result<(), Failure> {
    Ok(output::print(answer, global.output, &mut io::stdout().lock())?)
}

/// Asks the other servers of the old cluster whether they are there. One that is may belong to a
/// majority that works: then there would be two clusters, both of which serve what was there.
fn refuse_if_alive(account: &Account) -> Result<(), Failure> {
    let others = account.members.addresses().filter(|(member, _)| member.id != account.server.id);
    let endpoints: Vec<Endpoint> = others
        .map(|(member, address)| Endpoint {
            id: Some(member.id.to_string()),
            address: address.to_owned(),
        })
        .collect();
    if endpoints.is_empty() {
        return Ok(());
    }
    let options = ClientOptions { endpoints, ..ClientOptions::default() };
    let status = block_on(async { Ok(Client::new(options)?.cluster_status().await) })?;
    let is_old = |server: &&ServerStatus| {
        let Ok(report) = &server.report else { return false };
        match (account.old_cluster, report.cluster_id) {
            (Some(old), Some(found)) => old.0 == found,
            // What the directory does not say, its name must.
            _ => report.cluster == account.cluster,
        }
    };
    let alive: Vec<String> = status
        .servers
        .iter()
        .filter(is_old)
        .map(|server| {
            let id = server.endpoint.id.as_deref().unwrap_or("a server");
            format!("{id} at {}", server.endpoint.address)
        })
        .collect();
    if alive.is_empty() {
        return Ok(());
    }
    let what = format!("the old cluster is not gone: {} answered", alive.join(", "));
    Err(Failure::new(Exit::Refused, what)
        .detail(
            "nothing was changed; if a majority of it runs, this server comes back as a new one:",
        )
        .detail(format!(
            "kvctl serve --id {} with an empty directory and --join",
            account.server.id
        ))
        .detail(
            "if its majority is lost for good all the same, stop what is left of it, or --force",
        ))
}

/// Goes on only if the cluster's name was typed, or given together with `--yes`.
fn confirm(
    global: &Global,
    given: &Option<String>,
    recovery: &Recovery,
    data: &Path,
) -> Result<(), Failure> {
    if given.is_some() && global.yes {
        return Ok(());
    }
    let account = recovery.account();
    let lines = lines(account);
    if !can_ask() {
        let what = "this cannot be undone, and nobody has confirmed it: nothing was changed";
        let failure = lines.into_iter().fold(Failure::usage(what), Failure::detail);
        return Err(failure.detail(format!(
            "if it is meant: kvctl recover --data {} --cluster {} --yes",
            quoted(&data.display().to_string()),
            quoted(&account.cluster)
        )));
    }
    let mut stderr = anstream::stderr().lock();
    for line in lines {
        writeln!(stderr, "{line}")?;
    }
    write!(stderr, "This cannot be undone. Type the name of the cluster to go on: ")?;
    stderr.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    match line.trim() == account.cluster {
        true => Ok(()),
        false => Err(Failure::new(Exit::Interrupted, "not confirmed; nothing was changed")),
    }
}

/// What a recovery comes to, in words.
fn lines(account: &Account) -> Vec<String> {
    let Account { server, address, cluster, kept, .. } = account;
    let members: Vec<String> =
        account.members.addresses().map(|(member, at)| format!("{} {at}", member.id)).collect();
    let mut lines = vec![
        format!(
            "server     {} of cluster {cluster}, data directory {}",
            server.id, account.old_path
        ),
        match members.is_empty() {
            true => "members    not known here".to_owned(),
            false => format!("members    {}", members.join(", ")),
        },
        format!("kept       everything up to entry {}, term {}", kept.index, kept.term),
    ];
    lines.push(match (account.snapshot, account.log) {
        (Some(snapshot), _) => {
            format!("certain    entries up to {} were committed", snapshot.index)
        }
        (None, _) => {
            "certain    of no entry does this directory say that it was committed".to_owned()
        }
    });
    let first = account.snapshot.map_or(1, |snapshot| snapshot.index.0 + 1);
    if first <= kept.index.0 {
        lines.push(format!(
            "not known  which of entries {first} to {} were committed: those that were not are \
             kept too, so a write that ended as unknown may turn out to be done",
            kept.index
        ));
    }
    lines.push(format!(
        "lost       whatever the other servers had acknowledged behind entry {} or later than \
         term {}; how much that is, nobody can tell here",
        kept.index, account.term
    ));
    lines.extend(account.losses.iter().map(|loss| format!("damaged    {loss}")));
    lines.push(format!(
        "becomes    a cluster of {} alone, at {address}, with the id {}",
        server.id, account.new_cluster
    ));
    lines.push(format!(
        "never      start the other servers with their old directories again: a majority of them \
         would be the old {cluster}, and serve what is there"
    ));
    lines
}

fn position(position: Position) -> Value {
    json!({ "index": position.index.0, "term": position.term.0 })
}

/// What was done.
struct Recovered {
    account: Account,
    data: PathBuf,
}

impl Answer for Recovered {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Account { server, address, .. } = &self.account;
        lines(&self.account).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        writeln!(out, "backup     all that was there is there still: {}", self.account.old_path)?;
        writeln!(
            out,
            "\n{} is a cluster of its own now. Start it as always, then add others:",
            server.id
        )?;
        writeln!(
            out,
            "  kvctl serve --id ID --join {address} --addr HOST:PORT   with an empty directory"
        )?;
        writeln!(out, "  kvctl member add ID HOST:PORT")
    }

    fn json(&self) -> Value {
        let account = &self.account;
        let members = account.members.addresses().map(|(member, address)| {
            json!({
                "id": member.id.to_string(),
                "incarnation": member.incarnation.to_string(),
                "address": address,
            })
        });
        json!({
            "recovered": true,
            "server": account.server.id.to_string(),
            "directory": self.data.display().to_string(),
            "address": account.address,
            "cluster": account.cluster,
            "old_cluster_id": account.old_cluster.map(|id| id.to_string()),
            "new_cluster_id": account.new_cluster.to_string(),
            "old_incarnation": account.before.map(|member| member.incarnation.to_string()),
            "new_incarnation": account.server.incarnation.to_string(),
            "members": members.collect::<Vec<_>>(),
            "snapshot": account.snapshot.map(position),
            "log_start": account.log.map(|(start, _)| position(start)),
            "log_last": account.log.map(|(_, last)| position(last)),
            "term": account.term.0,
            "kept": position(account.kept),
            "losses": account.losses,
            "backup": account.old_path,
            "new": account.new_path,
        })
    }
}

/// There was nothing to do.
struct NotNeeded(String);

impl Answer for NotNeeded {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "nothing to recover: {}; start it", self.0)
    }

    fn json(&self) -> Value {
        json!({ "recovered": false, "reason": self.0 })
    }
}

fn failure(error: ServeError, data: &Path) -> Failure {
    let exit = match &error {
        ServeError::Rescue(RescueError::NoServer { .. } | RescueError::Unknown { .. }) => {
            Exit::Usage
        }
        ServeError::Rescue(
            RescueError::OtherCluster { .. }
            | RescueError::NeverServed { .. }
            | RescueError::Home(HomeError::InUse { .. } | HomeError::OtherServer { .. }),
        ) => Exit::Refused,
        ServeError::Data { source, .. } if source.kind() == io::ErrorKind::NotFound => Exit::Usage,
        error if error.is_damage() => Exit::Damaged,
        _ => Exit::Unexpected,
    };
    let failure = Failure::from_text(exit, &error.to_string());
    let failure = match &error {
        ServeError::Rescue(RescueError::NoServer { .. }) => {
            failure.detail("--data wants the directory that kvctl serve --data was given")
        }
        ServeError::Rescue(RescueError::Nothing { .. }) => failure.detail(format!(
            "look at what is left: kvctl wal dump --data {}",
            quoted(&data.display().to_string())
        )),
        _ => failure,
    };
    failure.detail("nothing was recovered; what is in the directory counts as before")
}
