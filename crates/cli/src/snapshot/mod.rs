//! `snapshot`: the state of a cluster as a file, and looking at such files. Only saving needs a
//! server.

mod file;
mod save;

use std::io::{self, Write};

use kvstore::store::Contents;
use raft::storage::SnapshotFacts;
use serde_json::{Map, Value, json};

use crate::args::{Global, SnapshotCommand};
use crate::failure::Failure;
use crate::output::{self, Answer};
use crate::session::Session;

/// The parts of `kvctl snapshot` that need no server.
pub(crate) fn offline(global: &Global, command: SnapshotCommand) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Inspect(args) => file::inspect(global, &args.file),
        SnapshotCommand::Verify(args) => file::verify(global, &args.file),
        SnapshotCommand::Save(_) => Err(Failure::usage("to save a snapshot takes a server")),
    }
}

/// `kvctl snapshot`, in a shell too.
pub(crate) async fn run(session: &Session, command: SnapshotCommand) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Save(args) => save::save(session, args).await,
        SnapshotCommand::Inspect(_) | SnapshotCommand::Verify(_) => {
            Err(Failure::usage("this works on the command line only, not in a shell of kvctl"))
        }
    }
}

/// Prints an answer on stdout.
fn print(global: &Global, answer: &dyn Answer) -> Result<(), Failure> {
    Ok(output::print(answer, global.output, &mut io::stdout().lock())?)
}

/// A snapshot's file, as far as it is known.
struct Described {
    path: String,
    facts: SnapshotFacts,
    /// `None` if they cannot be read, or were not.
    contents: Option<Contents>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Described {
    fn members(&self) -> Vec<(String, &str, &'static str)> {
        let configuration = &self.facts.configuration;
        let member = |(member, address): (raft::node::Member, _)| {
            let part = match configuration.learner(member) {
                Some(_) => "learner",
                None if configuration.will_vote(member) => "voter",
                None => "outgoing",
            };
            (member.id.to_string(), address, part)
        };
        configuration.addresses().map(member).collect()
    }

    fn fields(&self) -> Map<String, Value> {
        let SnapshotFacts { position, bytes, hash, state_bytes, .. } = &self.facts;
        let members = self.members().into_iter();
        let members = members
            .map(|(id, address, part)| json!({ "id": id, "address": address, "part": part }));
        let mut fields = Map::new();
        for (name, value) in [
            ("file", json!(self.path)),
            ("index", json!(position.index.0)),
            ("term", json!(position.term.0)),
            ("revision", json!(self.contents.map(|contents| contents.revision.0))),
            ("keys", json!(self.contents.map(|contents| contents.keys))),
            ("sessions", json!(self.contents.map(|contents| contents.sessions))),
            ("members", members.collect()),
            ("bytes", json!(bytes)),
            ("state_bytes", json!(state_bytes)),
            ("hash", json!(hex(hash))),
        ] {
            fields.insert(name.to_owned(), value);
        }
        fields
    }
}

impl Answer for Described {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let SnapshotFacts { position, bytes, hash, state_bytes, .. } = &self.facts;
        writeln!(out, "file      {}", self.path)?;
        writeln!(out, "entry     {}, term {}", position.index, position.term)?;
        match &self.contents {
            Some(Contents { revision, keys, sessions, .. }) => {
                writeln!(out, "revision  {revision}")?;
                writeln!(out, "keys      {keys}")?;
                writeln!(out, "sessions  {sessions}")?;
            }
            None => writeln!(out, "contents  cannot be read")?,
        }
        for (id, address, part) in self.members() {
            writeln!(out, "member    {id} {address}, {part}")?;
        }
        writeln!(out, "bytes     {bytes}, of which {state_bytes} are the state")?;
        writeln!(out, "hash      {}", hex(hash))
    }

    fn json(&self) -> Value {
        Value::Object(self.fields())
    }
}
