//! Many keys, printed. Where a line can be printed without knowing those that follow, it is printed
//! as it arrives: what a store holds may be larger than this machine's memory.

use std::io::{self, BufWriter, Write};
use std::time::Instant;

use kvstore::client::{Rest, Scan, ScanResult};
use kvstore::store::KeyState;
use kvstore::wire::request::Content;
use kvstore::wire::response::Entry;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output::{self, Format, Table};
use crate::session::Session;

/// Reads keys and prints them.
pub(super) async fn print(session: &Session, scan: Scan, format: Format) -> Result<(), Failure> {
    let content = scan.content;
    let rest = match format {
        Format::Text | Format::Jsonl | Format::Value => {
            print_as_they_arrive(session, scan, format).await?
        }
        Format::Table => {
            let found = session.scan(scan).await?;
            let mut table = table(content);
            for entry in &found.entries {
                table.row(row(&entry.key, value_of(entry, content), &entry.state));
            }
            session.print(&format!("{table}\n"))?;
            found.rest
        }
        Format::Json => {
            let found = session.scan(scan).await?;
            let document = document(&found, content);
            session.print(&format!("{document:#}\n"))?;
            found.rest
        }
    };
    if rest == Rest::Some {
        session.note("there are more keys than --limit allowed");
    }
    Ok(())
}

/// One line for each key. If the answer breaks off, the lines that were printed are right, and the
/// failure says that they are not all.
async fn print_as_they_arrive(
    session: &Session,
    scan: Scan,
    format: Format,
) -> Result<Rest, Failure> {
    let (content, start) = (scan.content, Instant::now());
    let mut stream = session.stream(scan).await?;
    let mut out = BufWriter::new(io::stdout());
    while let Some(entry) = stream.next().await.map_err(Failure::from)? {
        print_line(&mut out, format, &entry, content)?;
    }
    out.flush()?;
    session.trace(stream.revision(), start);
    // Nothing is left to collect but the word whether the limit ended it.
    Ok(stream.collect().await.map_err(Failure::from)?.rest)
}

fn print_line(
    out: &mut impl Write,
    format: Format,
    entry: &Entry,
    content: Content,
) -> io::Result<()> {
    let value = value_of(entry, content);
    match format {
        Format::Jsonl => {
            serde_json::to_writer(&mut *out, &json(&entry.key, value, &entry.state))?;
            out.write_all(b"\n")
        }
        Format::Value => {
            out.write_all(value.unwrap_or(&entry.key))?;
            out.write_all(b"\n")
        }
        Format::Text | Format::Table | Format::Json => {
            let key = output::visible(&entry.key);
            match value {
                Some(value) => writeln!(out, "{key}\t{}", output::visible(value)),
                None => writeln!(out, "{key}"),
            }
        }
    }
}

fn document(found: &ScanResult, content: Content) -> Value {
    let entries = found.entries.iter();
    let entries = entries.map(|it| json(&it.key, value_of(it, content), &it.state));
    serde_json::json!({
        "revision": found.revision.0,
        "more": found.rest == Rest::Some,
        "entries": entries.collect::<Vec<_>>(),
    })
}

fn value_of(entry: &Entry, content: Content) -> Option<&[u8]> {
    (content == Content::KeysAndValues).then_some(&*entry.value)
}

/// An empty table for such keys.
pub(super) fn table(content: Content) -> Table {
    match content {
        Content::KeysAndValues => Table::new(&["key", "value", "version", "created", "changed"]),
        Content::KeysOnly | Content::CountOnly => {
            Table::new(&["key", "version", "created", "changed"])
        }
    }
}

/// A key as a row of that table.
pub(super) fn row(key: &[u8], value: Option<&[u8]>, state: &KeyState) -> Vec<String> {
    let mut row = vec![output::visible_short(key)];
    row.extend(value.map(output::visible_short));
    row.extend([
        state.version.to_string(),
        state.create_revision.to_string(),
        state.mod_revision.to_string(),
    ]);
    row
}

/// A key as a JSON object.
pub(super) fn json(key: &[u8], value: Option<&[u8]>, state: &KeyState) -> Map<String, Value> {
    let mut object = Map::new();
    output::json_key(&mut object, key);
    if let Some(value) = value {
        output::json_value(&mut object, value);
    }
    object.insert("create_revision".to_owned(), serde_json::json!(state.create_revision.0));
    object.insert("mod_revision".to_owned(), serde_json::json!(state.mod_revision.0));
    object.insert("version".to_owned(), serde_json::json!(state.version));
    object
}
