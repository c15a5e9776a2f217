//! `wal verify`: whether everything that a start needs is whole, and what is lost if not.

use std::io::{self, Write};

use raft::storage::{HomeError, Stage, decode_hard_state};
use serde_json::{Value, json};
use wal::{Finding, Health, Inspector, OpenError, Summary, TornTail};

use super::place::Place;
use super::progress;
use super::words;
use crate::args::{Global, PlaceArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Answer;

/// `kvctl wal verify`.
pub(super) fn run(global: &Global, args: &PlaceArgs) -> Result<(), Failure> {
    let place = Place::find(global, args)?;
    let verified = verify(global, &place)?;
    super::conclude(global, &verified, verified.verdict(&place))
}

/// What a verified directory is like, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Clean,
    Torn,
    Damaged,
}

impl Condition {
    fn name(self) -> &'static str {
        match self {
            Condition::Clean => "clean",
            Condition::Torn => "torn",
            Condition::Damaged => "damaged",
        }
    }

    fn exit(self) -> Exit {
        match self {
            Condition::Clean => Exit::Ok,
            Condition::Torn => Exit::Torn,
            Condition::Damaged => Exit::Damaged,
        }
    }
}

/// Something that is not as it should be.
struct Problem {
    words: String,
    json: Value,
}

/// What was found.
pub(super) struct Verified {
    directory: String,
    /// Who the server is, as far as it is known.
    server: Option<String>,
    cluster: Option<String>,
    /// The log at a glance, if it opens.
    log: Option<Summary>,
    condition: Condition,
    problems: Vec<Problem>,
}

impl Verified {
    /// Takes in why no server starts with the directory, log apart.
    fn note_lost(&mut self, all: &[HomeError]) {
        for lost in all {
            let words = lost.to_string();
            let path = match lost {
                HomeError::LostHistory { path, .. } => Some(path),
                _ => None,
            };
            let json = json!({ "kind": "lost_history", "path": path, "message": words });
            self.problems.push(Problem { words, json });
            self.condition = Condition::Damaged;
        }
    }

    /// Whether other servers can give back all that is lost.
    fn only_payloads_are_lost(&self) -> bool {
        let is_payload = |problem: &Problem| {
            problem.json.get("kind").and_then(Value::as_str) == Some("lost_payload")
        };
        self.problems.iter().all(is_payload)
    }

    /// How the command ends.
    fn verdict(&self, place: &Place) -> Result<(), Failure> {
        let typed = place.typed();
        match self.condition {
            Condition::Clean => Ok(()),
            Condition::Torn => Err(Failure::new(Exit::Torn, "the last write is not whole")
                .detail("cut short when it was written, or damaged since: nothing tells which")
                .detail(format!(
                    "the next start removes it; now: kvctl wal repair --data {typed}"
                ))),
            Condition::Damaged => {
                let place_count = match self.problems.len() {
                    1 => "in one place".to_owned(),
                    count => format!("in {count} places"),
                };
                let what = format!("{} is damaged {place_count}", self.directory);
                let failure = Failure::new(Exit::Damaged, what);
                let is_marked = !place.lost.is_empty();
                let failure =
                    match place.id() {
                        _ if is_marked && self.log.is_none() && place.log.is_some() => failure
                            .detail(format!(
                                "the repair is to be run again, and to give up what is lost: kvctl \
                             wal repair --data {typed} --accept-data-loss"
                            )),
                        Some(id) if is_marked => failure.way_back(id.as_str()),
                        _ if is_marked => failure.detail(format!(
                            "no repair gives that back; what is left: kvctl wal dump --data {typed}"
                        )),
                        Some(id) if self.only_payloads_are_lost() => failure
                            .detail(format!("start {id}, and it asks the other servers for them")),
                        _ => failure
                            .detail(format!("what can be done: kvctl wal repair --data {typed}")),
                    };
                Err(failure.detail("more: kvctl help recovery"))
            }
        }
    }
}

/// Reads everything.
fn verify(global: &Global, place: &Place) -> Result<Verified, Failure> {
    let mut verified = survey(place);
    let is_founded = place
        .server
        .as_ref()
        .and_then(|server| server.identity.as_ref())
        .is_none_or(|identity| matches!(identity.stage, Stage::Founded { .. }));
    if place.log.is_none() && (!is_founded || !verified.problems.is_empty()) {
        return Ok(verified);
    }
    let inspector = place.inspect_as_a_start_does()?;
    let health = read(global, place, &inspector)?;
    match &health {
        Health::Clean => {}
        Health::Torn(torn) => {
            let condition = verified.condition;
            verified.condition =
                if condition == Condition::Clean { Condition::Torn } else { condition };
            verified.problems.push(torn_problem(place, torn));
        }
        Health::Damaged(findings) => {
            verified.condition = Condition::Damaged;
            verified.problems.extend(findings.iter().map(|finding| problem(place, finding)));
        }
        Health::Lost(error) => {
            verified.condition = Condition::Damaged;
            verified.problems.push(lost_problem(error));
            return Ok(verified);
        }
    }
    let summary = inspector.summarize().map_err(|error| place.failure(error))?;
    if place.server.is_some() {
        let promise = summary.metadata.as_ref();
        let is_read = promise.is_some_and(|it| decode_hard_state(it.as_bytes()).is_ok());
        if !is_read {
            let words = format!("the log says no term and vote: {}", words::promise(promise));
            let json = json!({ "kind": "lost_history", "message": words });
            verified.condition = Condition::Damaged;
            verified.problems.push(Problem { words, json });
        }
    }
    verified.log = Some(summary);
    Ok(verified)
}

/// Reads the whole log from the medium, showing how far it has come.
pub(super) fn read(
    global: &Global,
    place: &Place,
    inspector: &Inspector,
) -> Result<Health, Failure> {
    let unreadable = |error: wal::Failure| Failure::from_text(Exit::Unexpected, &error.to_string());
    let bytes = inspector.segment_bytes().map_err(unreadable)?;
    inspector.forget_cached().map_err(|error| place.failure(error))?;
    let health = progress::shown(global, &place.disk, bytes, || inspector.verify());
    health.map_err(|error| place.failure(error))
}

/// What the directory says without its log.
fn survey(place: &Place) -> Verified {
    let mut verified = Verified {
        directory: place.path.display().to_string(),
        server: None,
        cluster: None,
        log: None,
        condition: Condition::Clean,
        problems: Vec::new(),
    };
    verified.note_lost(&place.lost);
    let Some(server) = &place.server else { return verified };
    verified.server = server.identity.as_ref().map(|identity| {
        let (member, boot) = (identity.member, identity.boot);
        format!("{member}, incarnation {}, boot {boot}", member.incarnation)
    });
    verified.cluster = server.charter.as_ref().map(|charter| charter.name.clone());
    if server.is_identity_damaged {
        let words = "one of the two copies of the identity is damaged; the next start writes it \
                     again"
            .to_owned();
        let json = json!({ "kind": "mendable", "path": "identity", "message": words });
        verified.problems.push(Problem { words, json });
        verified.condition = Condition::Damaged;
    }
    verified
}

/// The path of a segment.
fn segment_path(place: &Place, segment: u64) -> String {
    let log = place.log.as_ref();
    log.map_or_else(String::new, |log| log.path(&format!("{segment:016x}.wal")))
}

fn torn_problem(place: &Place, torn: &TornTail) -> Problem {
    let TornTail { segment, offset, bytes, after } = *torn;
    let first = after.index.saturating_add(1);
    let words = format!(
        "segment {segment}, offset {offset}: the last write is not whole ({}); it may have held \
         entries from {first} on",
        words::size(bytes)
    );
    let json = json!({
        "kind": "torn",
        "segment": segment,
        "path": segment_path(place, segment),
        "offset": offset,
        "bytes": bytes,
        "after": words::position_json(after),
        "message": words,
    });
    Problem { words, json }
}

fn problem(place: &Place, finding: &Finding) -> Problem {
    match *finding {
        Finding::LostPayload { segment, offset, position } => {
            let (index, term) = (position.index, position.term);
            let words = format!(
                "segment {segment}, offset {offset}: the payload of entry {index}, term {term}, is \
                 lost"
            );
            let json = json!({
                "kind": "lost_payload",
                "segment": segment,
                "path": segment_path(place, segment),
                "offset": offset,
                "index": index,
                "term": term,
                "message": words,
            });
            Problem { words, json }
        }
        Finding::Mendable { segment, offset } => {
            let words = format!(
                "segment {segment}, offset {offset}: rotten, but other bytes say what it was"
            );
            let json = json!({
                "kind": "mendable",
                "segment": segment,
                "path": segment_path(place, segment),
                "offset": offset,
                "message": words,
            });
            Problem { words, json }
        }
    }
}

fn lost_problem(error: &OpenError) -> Problem {
    let OpenError::Corrupt { segment, offset, damage, lost, .. } = error else {
        let words = error.to_string();
        return Problem { json: json!({ "kind": "lost_history", "message": words }), words };
    };
    let words =
        format!("{segment}, offset {offset}: {damage}; history is lost: {}", words::lost(lost));
    let json = json!({
        "kind": "lost_history",
        "path": segment,
        "offset": offset,
        "damage": damage.to_string(),
        "lost": words::lost_json(lost),
        "message": words,
    });
    Problem { words, json }
}

impl Answer for Verified {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "directory  {}", self.directory)?;
        if let Some(server) = &self.server {
            writeln!(out, "server     {server}")?;
        }
        if let Some(cluster) = &self.cluster {
            writeln!(out, "cluster    {cluster}")?;
        }
        if let Some(Summary { start, last, segments, .. }) = &self.log {
            let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
            let (count, bytes) = (segments.len(), words::size(bytes));
            writeln!(out, "entries    {}", words::entries(*start, *last))?;
            writeln!(out, "segments   {count}, {bytes}")?;
        }
        writeln!(out, "condition  {}", self.condition.name())?;
        for problem in &self.problems {
            writeln!(out, "  {}", problem.words)?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let log = self.log.as_ref();
        let findings: Vec<Value> = self.problems.iter().map(|it| it.json.clone()).collect();
        json!({
            "directory": self.directory,
            "server": self.server,
            "cluster": self.cluster,
            "condition": self.condition.name(),
            "exit": self.condition.exit().code(),
            "start": log.map(|log| words::position_json(log.start)),
            "last": log.map(|log| words::position_json(log.last)),
            "segments": log.map(|log| log.segments.len()),
            "findings": findings,
        })
    }
}
