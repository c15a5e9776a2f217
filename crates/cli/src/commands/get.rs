//! `get` and `show`: one key, or many of them.

use std::io::{self, Write};

use bytes::Bytes;
use kvstore::client::Scan;
use kvstore::store::{KeyState, Revision};
use kvstore::wire::Consistency;
use kvstore::wire::request::{Content, Order, Selection};
use serde_json::{Value, json};

use crate::args::{GetArgs, ShowArgs};
use crate::commands::keys;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Answer, Format};
use crate::session::Session;

/// One key.
struct FoundKey {
    revision: Revision,
    key: Bytes,
    value: Bytes,
    state: KeyState,
}

impl Answer for FoundKey {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.value)?;
        out.write_all(b"\n")
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = keys::table(Content::KeysAndValues);
        table.row(keys::row(&self.key, Some(&self.value), &self.state));
        writeln!(out, "{table}")
    }

    fn json(&self) -> Value {
        let mut object = keys::json(&self.key, Some(&self.value), &self.state);
        object.insert("revision".to_owned(), json!(self.revision.0));
        Value::Object(object)
    }

    fn value(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.value)
    }
}

/// How many keys there are.
struct Count {
    revision: Revision,
    count: u64,
}

impl Answer for Count {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.count)
    }

    fn json(&self) -> Value {
        json!({ "revision": self.revision.0, "count": self.count })
    }
}

/// `kvctl get`.
pub(crate) async fn get(session: &Session, args: GetArgs) -> Result<(), Failure> {
    let consistency = if args.stale { Consistency::Stale } else { Consistency::Linearizable };
    if let Some(key) = args.key {
        return get_one(session, key, consistency).await;
    }
    let selection = match (args.prefix, args.range.as_deref()) {
        (Some(prefix), _) => Selection::Prefix(prefix),
        (None, Some([from, to])) => Selection::Range { from: from.clone(), to: Some(to.clone()) },
        (None, _) => return Err(Failure::usage("get needs a key, --prefix or --range")),
    };
    let content = match (args.count, args.keys_only) {
        (true, _) => Content::CountOnly,
        (false, true) => Content::KeysOnly,
        (false, false) => Content::KeysAndValues,
    };
    let order = if args.reverse { Order::Descending } else { Order::Ascending };
    let limit = args.limit;
    let scan = Scan { content, order, limit, consistency, ..Scan::of(selection) };
    if content == Content::CountOnly {
        let counted = session.scan(scan).await?;
        return session.answer(&Count { revision: counted.revision, count: counted.count });
    }
    keys::print(session, scan, session.format()).await
}

async fn get_one(session: &Session, key: Bytes, consistency: Consistency) -> Result<(), Failure> {
    let read = session.get(&key, consistency).await?;
    let Some(found) = read.found else {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no key `{}`", output::visible_short(&key)),
        ));
    };
    session.answer(&FoundKey {
        revision: read.revision,
        key,
        value: found.value,
        state: found.state,
    })
}

/// `kvctl show`: a table unless another format is asked for.
pub(crate) async fn show(session: &Session, args: ShowArgs) -> Result<(), Failure> {
    let format = match session.format() {
        Format::Text => Format::Table,
        other => other,
    };
    keys::print(session, Scan::prefix(args.prefix.unwrap_or_default()), format).await
}
