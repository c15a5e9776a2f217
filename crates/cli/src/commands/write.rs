//! `set`, `cas` and `del`: what changes something.

use std::io::{self, Read, Write};

use bytes::Bytes;
use kvstore::client::{RequestId, Scan};
use kvstore::store::{Condition, Operation, Outcome, Reply};
use kvstore::wire::request::Content;
use serde_json::{Map, Value, json};

use crate::args::{CasArgs, DelArgs, SetArgs, ValueSource};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Answer};
use crate::session::{Session, Stdin};

/// What a write did, in one line.
struct Done {
    sentence: String,
    key: Option<Bytes>,
    reply: Reply,
}

impl Answer for Done {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.sentence)
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        if let Some(key) = &self.key {
            output::json_key(&mut object, key);
        }
        object.insert("revision".to_owned(), json!(self.reply.revision.0));
        match self.reply.outcome {
            Outcome::Set(state) => {
                object.insert("create_revision".to_owned(), json!(state.create_revision.0));
                object.insert("mod_revision".to_owned(), json!(state.mod_revision.0));
                object.insert("version".to_owned(), json!(state.version));
            }
            Outcome::Deleted { keys } => {
                object.insert("deleted".to_owned(), json!(keys));
            }
            Outcome::ConditionFailed { .. } | Outcome::Refused(_) => {}
        }
        Value::Object(object)
    }

    fn value(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.reply.revision)
    }
}

/// `kvctl set`.
pub(crate) async fn set(session: &Session, args: SetArgs) -> Result<(), Failure> {
    let value = read_value(session, args.value)?;
    let condition = match (args.if_absent, args.if_rev, &args.if_value) {
        (true, _, _) => Condition::Absent,
        (_, Some(revision), _) => Condition::ModRevision(revision),
        (_, _, Some(value)) => Condition::Value(value),
        _ => Condition::None,
    };
    put(session, args.key, &value, condition, args.request).await
}

/// `kvctl cas`.
pub(crate) async fn cas(session: &Session, args: CasArgs) -> Result<(), Failure> {
    let value = read_value(session, args.new)?;
    put(session, args.key, &value, Condition::Value(&args.old), args.request).await
}

async fn put(
    session: &Session,
    key: Bytes,
    value: &[u8],
    condition: Condition<'_>,
    request: Option<RequestId>,
) -> Result<(), Failure> {
    let operation = Operation::Set { key: &key, value, condition };
    let reply = session.write(operation, request).await?;
    let sentence = format!("{} set to {}", output::visible(&key), output::visible_short(value));
    session.confirm(&Done { sentence, key: Some(key), reply })
}

/// `kvctl del`.
pub(crate) async fn del(session: &Session, args: DelArgs) -> Result<(), Failure> {
    match (args.key, args.prefix) {
        (Some(key), _) => del_key(session, key, args.if_rev, args.request).await,
        (None, Some(prefix)) => del_prefix(session, prefix, args.request).await,
        (None, None) => Err(Failure::usage("del needs a key or --prefix")),
    }
}

async fn del_key(
    session: &Session,
    key: Bytes,
    if_revision: Option<u64>,
    request: Option<RequestId>,
) -> Result<(), Failure> {
    let condition = if_revision.map_or(Condition::None, Condition::ModRevision);
    let operation = Operation::Delete { key: &key, condition };
    let reply = session.write(operation, request).await?;
    if reply.outcome == (Outcome::Deleted { keys: 0 }) {
        let sentence = format!("there is no key `{}`", output::visible_short(&key));
        return Err(Failure::new(Exit::NotFound, sentence).detail("nothing was deleted"));
    }
    let sentence = format!("{} deleted", output::visible(&key));
    session.confirm(&Done { sentence, key: Some(key), reply })
}

async fn del_prefix(
    session: &Session,
    prefix: Bytes,
    request: Option<RequestId>,
) -> Result<(), Failure> {
    if prefix.is_empty() && session.may_not_delete_all() {
        let sentence = "an empty prefix stands for every key; say --yes if that is meant";
        return Err(Failure::usage(sentence));
    }
    if session.asks_before_deleting() {
        let scan = Scan { content: Content::CountOnly, ..Scan::prefix(prefix.clone()) };
        let scanned = session.scan(scan).await?;
        let question = format!(
            "delete {} beginning with `{}`?",
            keys_in_words(scanned.count),
            output::visible_short(&prefix)
        );
        session.ask(&question)?;
    }
    let operation = Operation::DeletePrefix { prefix: &prefix };
    let reply = session.write(operation, request).await?;
    let keys = if let Outcome::Deleted { keys } = reply.outcome { keys } else { 0 };
    let sentence = format!("{} deleted", keys_in_words(keys));
    session.confirm(&Done { sentence, key: None, reply })
}

fn keys_in_words(keys: u64) -> String {
    match keys {
        1 => "1 key".to_owned(),
        _ => format!("{keys} keys"),
    }
}

fn read_value(session: &Session, source: ValueSource) -> Result<Bytes, Failure> {
    match source {
        ValueSource::Inline(value) => Ok(value),
        ValueSource::File(path) => {
            let read = std::fs::read(&path);
            read.map(Bytes::from).map_err(|error| Failure::file("read", &path, &error))
        }
        ValueSource::Stdin if session.stdin() == Stdin::Taken => {
            Err(Failure::usage("`-` reads standard input, which the shell itself is reading")
                .detail("use @FILE, or kvctl set KEY - outside the shell"))
        }
        ValueSource::Stdin => {
            let mut value = Vec::new();
            io::stdin().lock().read_to_end(&mut value).map_err(|error| {
                Failure::new(Exit::Unexpected, format!("cannot read standard input: {error}"))
            })?;
            Ok(Bytes::from(value))
        }
    }
}
