//! `get` and `show`: one key, or many of them.

use std::io::{self, Write};

use bytes::Bytes;
use kvstore::client::{Rest, Scan, ScanResult};
use kvstore::store::{KeyState, Revision};
use kvstore::wire::Consistency;
use kvstore::wire::request::{Content, Order, Selection};
use kvstore::wire::response::Entry;
use serde_json::{Map, Value, json};

use crate::args::{GetArgs, ShowArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Answer, Table};
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
        let mut table = entries_table(Content::KeysAndValues);
        table.row(entry_row(&self.key, Some(&self.value), &self.state));
        writeln!(out, "{table}")
    }

    fn json(&self) -> Value {
        let mut object = entry_json(&self.key, Some(&self.value), &self.state);
        object.insert("revision".to_owned(), json!(self.revision.0));
        Value::Object(object)
    }

    fn value(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.value)
    }
}

/// Many keys.
struct Keys {
    scanned: ScanResult,
    content: Content,
}

impl Keys {
    fn value_of<'a>(&self, entry: &'a Entry) -> Option<&'a [u8]> {
        (self.content == Content::KeysAndValues).then_some(&*entry.value)
    }
}

impl Answer for Keys {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for entry in &self.scanned.entries {
            let key = output::visible(&entry.key);
            match self.value_of(entry) {
                Some(value) => writeln!(out, "{key}\t{}", output::visible(value))?,
                None => writeln!(out, "{key}")?,
            }
        }
        Ok(())
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = entries_table(self.content);
        for entry in &self.scanned.entries {
            table.row(entry_row(&entry.key, self.value_of(entry), &entry.state));
        }
        writeln!(out, "{table}")
    }

    fn json(&self) -> Value {
        json!({
            "revision": self.scanned.revision.0,
            "more": self.scanned.rest == Rest::Some,
            "entries": self.json_lines(),
        })
    }

    fn json_lines(&self) -> Vec<Value> {
        let entries = self.scanned.entries.iter();
        let lines = entries.map(|entry| entry_json(&entry.key, self.value_of(entry), &entry.state));
        lines.map(Value::Object).collect()
    }

    fn value(&self, out: &mut dyn Write) -> io::Result<()> {
        for entry in &self.scanned.entries {
            out.write_all(self.value_of(entry).unwrap_or(&entry.key))?;
            out.write_all(b"\n")?;
        }
        Ok(())
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
    let scanned = session.scan(scan).await?;
    if content == Content::CountOnly {
        return session.answer(&Count { revision: scanned.revision, count: scanned.count });
    }
    if scanned.rest == Rest::Some {
        session.note("there are more keys than --limit allowed");
    }
    session.answer(&Keys { scanned, content })
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
    let scanned = session.scan(Scan::prefix(args.prefix.unwrap_or_default())).await?;
    session.answer_as_table(&Keys { scanned, content: Content::KeysAndValues })
}

fn entries_table(content: Content) -> Table {
    match content {
        Content::KeysAndValues => Table::new(&["key", "value", "version", "created", "changed"]),
        Content::KeysOnly | Content::CountOnly => {
            Table::new(&["key", "version", "created", "changed"])
        }
    }
}

fn entry_row(key: &[u8], value: Option<&[u8]>, state: &KeyState) -> Vec<String> {
    let mut row = vec![output::visible_short(key)];
    row.extend(value.map(output::visible_short));
    row.extend([
        state.version.to_string(),
        state.create_revision.to_string(),
        state.mod_revision.to_string(),
    ]);
    row
}

fn entry_json(key: &[u8], value: Option<&[u8]>, state: &KeyState) -> Map<String, Value> {
    let mut object = Map::new();
    output::json_key(&mut object, key);
    if let Some(value) = value {
        output::json_value(&mut object, value);
    }
    object.insert("create_revision".to_owned(), json!(state.create_revision.0));
    object.insert("mod_revision".to_owned(), json!(state.mod_revision.0));
    object.insert("version".to_owned(), json!(state.version));
    object
}
