//! `wal stat`: a log at a glance.

use std::io::{self, Write};

use raft::storage::Stage;
use serde_json::{Value, json};
use wal::{Role, SegmentSummary, Summary};

use super::place::Place;
use super::words;
use crate::args::{Global, PlaceArgs};
use crate::failure::Failure;
use crate::output::{Answer, Table};

/// `kvctl wal stat`.
pub(super) fn run(global: &Global, args: &PlaceArgs) -> Result<(), Failure> {
    let place = Place::find(global, args)?;
    let summary = place.inspect()?.summarize().map_err(|error| {
        place.failure(error).detail(format!(
            "what is whole and what is not: kvctl wal verify --data {}",
            place.typed()
        ))
    })?;
    super::print(global, &Stat { place, summary })
}

struct Stat {
    place: Place,
    summary: Summary,
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Obsolete => "obsolete",
        Role::Sealed => "sealed",
        Role::Active => "active",
        Role::Spare => "spare",
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Drawn => "drawn",
        Stage::Agreed(_) => "agreed",
        Stage::Founded { .. } => "founded",
        Stage::Admitted(_) => "admitted",
    }
}

impl Stat {
    fn segment_table(&self) -> Table {
        let mut table = Table::new(&["segment", "role", "bytes", "used", "path"]);
        for SegmentSummary { sequence, path, bytes, used_bytes, role: its } in
            &self.summary.segments
        {
            table.row(vec![
                sequence.to_string(),
                role(*its).to_owned(),
                bytes.to_string(),
                used_bytes.to_string(),
                path.clone(),
            ]);
        }
        table
    }

    fn server_json(&self) -> Value {
        let server = self.place.server.as_ref();
        let identity = server.and_then(|server| server.identity.as_ref());
        let charter = server.and_then(|server| server.charter.as_ref());
        json!({
            "id": identity.map(|identity| identity.member.id.to_string()),
            "incarnation": identity.map(|identity| identity.member.incarnation.to_string()),
            "boot": identity.map(|identity| identity.boot.0),
            "stage": identity.map(|identity| stage(identity.stage)),
            "cluster": charter.map(|charter| &charter.name),
            "cluster_id": charter.map(|charter| charter.cluster_id().to_string()),
            "lost": self.place.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

impl Answer for Stat {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Summary { log_id, start, last, metadata, terms, segments } = &self.summary;
        writeln!(out, "directory  {}", self.place.path.display())?;
        if let Some(server) = &self.place.server {
            if let Some(identity) = &server.identity {
                let (member, boot) = (identity.member, identity.boot);
                let incarnation = member.incarnation;
                writeln!(out, "server     {member}, incarnation {incarnation}, boot {boot}")?;
            }
            if let Some(charter) = &server.charter {
                writeln!(out, "cluster    {}, {}", charter.name, charter.cluster_id())?;
            }
        }
        for lost in &self.place.lost {
            writeln!(out, "lost       {lost}")?;
        }
        writeln!(out, "log        {log_id}")?;
        writeln!(out, "entries    {}", words::entries(*start, *last))?;
        writeln!(out, "promised   {}", words::promise(metadata.as_ref()))?;
        // A cluster that lived through many elections has many terms.
        let (shown, more) = match terms.len().checked_sub(TERMS_SHOWN_MAX) {
            Some(more) => (terms.get(more..).unwrap_or_default(), more),
            None => (terms.as_slice(), 0),
        };
        let shown: Vec<String> =
            shown.iter().map(|first| format!("{} from {}", first.term, first.index)).collect();
        let more = if more > 0 { format!("{more} earlier ones, ") } else { String::new() };
        writeln!(out, "terms      {more}{}", shown.join(", "))?;
        let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        writeln!(out, "segments   {}, {}", segments.len(), words::size(bytes))?;
        let typed = self.place.typed();
        writeln!(
            out,
            "checked    only both ends of each; all of it: kvctl wal verify --data {typed}"
        )?;
        self.table(out)
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.segment_table())
    }

    fn json(&self) -> Value {
        let Summary { log_id, start, last, metadata, terms, segments } = &self.summary;
        let segments = segments.iter().map(|segment| {
            json!({
                "segment": segment.sequence,
                "path": segment.path,
                "role": role(segment.role),
                "bytes": segment.bytes,
                "used": segment.used_bytes,
            })
        });
        json!({
            "directory": self.place.path.display().to_string(),
            "server": self.place.server.as_ref().map(|_| self.server_json()),
            "log_id": log_id.to_string(),
            "start": words::position_json(*start),
            "last": words::position_json(*last),
            "hard_state": words::promise_json(metadata.as_ref()),
            "terms": terms.iter().map(|term| words::position_json(*term)).collect::<Vec<_>>(),
            "segments": segments.collect::<Vec<_>>(),
        })
    }
}

/// How many terms the text shows.
const TERMS_SHOWN_MAX: usize = 8;
