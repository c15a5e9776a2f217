//! `log`: the entries of one server's log, in words.

use std::io::{self, Write};

use kvstore::wire::response::{EntryKind, LogEntry};
use serde_json::{Value, json};

use crate::args::LogArgs;
use crate::commands::status;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Answer, Table};
use crate::session::{ServerAddress, Session};

/// How many entries are asked for at a time.
const PAGE_ENTRIES_MAX: u32 = 1000;

/// A part of a log.
struct LogAnswer {
    server: String,
    first: u64,
    last: u64,
    commit: u64,
    entries: Vec<LogEntry>,
}

impl Answer for LogAnswer {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |number: Option<u64>| number.unwrap_or(0).to_string().len();
        let index_width = width(self.entries.last().map(|entry| entry.index));
        let term_width = width(self.entries.last().map(|entry| entry.term));
        for entry in &self.entries {
            let LogEntry { index, term, .. } = entry;
            writeln!(out, "{index:>index_width$}  {term:>term_width$}  {}", in_words(entry))?;
        }
        Ok(())
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&["index", "term", "command"]);
        for entry in &self.entries {
            table.row(vec![entry.index.to_string(), entry.term.to_string(), in_words(entry)]);
        }
        writeln!(out, "{table}")
    }

    fn json(&self) -> Value {
        json!({
            "server": self.server,
            "first": self.first,
            "last": self.last,
            "commit": self.commit,
            "entries": self.json_lines(),
        })
    }

    fn json_lines(&self) -> Vec<Value> {
        let entries = self.entries.iter();
        entries
            .map(|entry| {
                json!({
                    "index": entry.index,
                    "term": entry.term,
                    "kind": kind_name(entry.kind),
                    "command": entry.text,
                })
            })
            .collect()
    }
}

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Empty => "empty",
        EntryKind::Command => "command",
        EntryKind::Configuration => "configuration",
    }
}

/// The command of an entry. An empty entry has none, so it is told by what it is for.
fn in_words(entry: &LogEntry) -> String {
    match (entry.kind, entry.text.as_str()) {
        (EntryKind::Empty, "") => format!("(a leader begins term {})", entry.term),
        (_, text) => text.to_owned(),
    }
}

/// `kvctl log`.
pub(crate) async fn run(session: &Session, args: LogArgs) -> Result<(), Failure> {
    let server = find(session, args.id.as_deref()).await?;
    let name = server.id.clone().unwrap_or_else(|| server.address.clone());
    let mut answer = LogAnswer { server: name, first: 0, last: 0, commit: 0, entries: Vec::new() };
    let mut from = args.from.max(1);
    let mut wanted = args.limit.unwrap_or(u64::MAX);
    while wanted > 0 {
        let limit = u32::try_from(wanted).unwrap_or(PAGE_ENTRIES_MAX).min(PAGE_ENTRIES_MAX);
        let page = session.log_of(&server, from, limit).await?;
        (answer.first, answer.last, answer.commit) = (page.first, page.last, page.commit);
        let Some(last) = page.entries.last().map(|entry| entry.index) else {
            break;
        };
        from = last.saturating_add(1);
        wanted = wanted.saturating_sub(page.entries.len() as u64);
        answer.entries.extend(page.entries);
        if last >= page.last {
            break;
        }
    }
    session.answer(&answer)
}

/// The server of this id, or the first that can be reached.
async fn find(session: &Session, id: Option<&str>) -> Result<ServerAddress, Failure> {
    let Some(id) = id else {
        return first_reachable(session).await;
    };
    if let Some(server) = session.servers().iter().find(|server| server.id.as_deref() == Some(id)) {
        return Ok(server.clone());
    }
    let status = status::gather(session).await;
    let mut members = status.servers();
    let found = members.iter().position(|server| server.id.as_deref() == Some(id));
    found.map(|at| members.swap_remove(at)).ok_or_else(|| {
        let ids: Vec<String> = members.into_iter().filter_map(|server| server.id).collect();
        Failure::usage(format!("there is no server `{id}`"))
            .detail(format!("servers: {}", ids.join(" ")))
    })
}

async fn first_reachable(session: &Session) -> Result<ServerAddress, Failure> {
    for server in session.servers() {
        if session.status_of(server).await.is_ok() {
            return Ok(server.clone());
        }
    }
    Err(Failure::new(Exit::Unreachable, "no server could be reached"))
}
