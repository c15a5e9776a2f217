//! `log`: the entries of one server's log, in words.

use std::io::{self, Write};

use kvstore::wire::response::{EntryKind, LogEntry};
use serde_json::{Value, json};

use crate::args::LogArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Answer, Format, Table};
use crate::session::{ServerAddress, Session};

/// How many entries are asked for at a time.
const PAGE_ENTRIES_MAX: u32 = 1000;

/// A part of a log.
struct LogAnswer {
    server: String,
    first: u64,
    last: u64,
    commit: u64,
    /// An index that is at least as wide as any that is shown.
    widest: u64,
    entries: Vec<LogEntry>,
}

impl Answer for LogAnswer {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |number: u64| number.to_string().len();
        let index_width = width(self.widest);
        let term_width = width(self.entries.last().map_or(0, |entry| entry.term));
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

/// `kvctl log`: page by page where the format allows it, so that memory holds one page.
pub(crate) async fn run(session: &Session, args: LogArgs) -> Result<(), Failure> {
    let server = find(session, args.id.as_deref()).await?;
    let mut from = args.from.max(1);
    let mut wanted = args.limit.unwrap_or(u64::MAX);
    let mut part: Option<LogAnswer> = None;
    loop {
        let limit = u32::try_from(wanted).unwrap_or(PAGE_ENTRIES_MAX).min(PAGE_ENTRIES_MAX);
        let mut page = session.log_of(&server, from, limit).await?;
        let part = part.get_or_insert_with(|| LogAnswer {
            server: server.to_string(),
            first: page.first,
            // A log that grows while it is read is shown up to where it ended at first.
            last: page.last,
            commit: page.commit,
            widest: page.last.min(from.saturating_add(wanted - 1)),
            entries: Vec::new(),
        });
        page.entries.retain(|entry| entry.index <= part.last);
        let reached = page.entries.last().map_or(part.last, |entry| entry.index);
        wanted = wanted.saturating_sub(page.entries.len() as u64);
        part.entries.append(&mut page.entries);
        let ended = reached >= part.last || wanted == 0;
        let in_pages = match session.format() {
            Format::Text | Format::Value | Format::Jsonl => true,
            Format::Table | Format::Json => false,
        };
        if in_pages || ended {
            session.answer(part)?;
            part.entries.clear();
        }
        if ended {
            return Ok(());
        }
        from = reached.saturating_add(1);
    }
}

/// The server of this id, or the first that can be reached.
async fn find(session: &Session, id: Option<&str>) -> Result<ServerAddress, Failure> {
    let Some(id) = id else {
        return first_reachable(session).await;
    };
    if let Some(server) = session.servers().iter().find(|server| server.id.as_deref() == Some(id)) {
        return Ok(server.clone());
    }
    let status = session.client().cluster_status().await;
    let servers = || status.servers.iter().map(|server| &server.endpoint);
    let found = servers().find(|server| server.id.as_deref() == Some(id));
    found.cloned().ok_or_else(|| {
        let ids: Vec<&str> = servers().filter_map(|server| server.id.as_deref()).collect();
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
