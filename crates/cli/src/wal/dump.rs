//! `wal dump`: every record of a log, one line each, as it is read.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use serde_json::{Map, Value, json};
use wal::{Item, Payload, Position, Record};

use super::place::Place;
use super::words;
use crate::args::{DumpArgs, Global};
use crate::failure::Failure;
use crate::output::Format;

/// `kvctl wal dump`.
pub(super) fn run(global: &Global, args: &DumpArgs) -> Result<(), Failure> {
    let place = Place::find(global, &args.place)?;
    let inspector = place.inspect()?;
    let range = Range { from: args.from, to: args.to };
    let style = match global.output {
        Format::Json => Style::Document,
        Format::Jsonl => Style::Lines,
        _ => Style::Text,
    };
    let mut printer = Printer {
        out: BufWriter::new(io::stdout().lock()),
        style,
        range,
        segment: 0,
        batch: 0,
        offset: 0,
        is_first: true,
    };
    printer.begin()?;
    let mut failed = None;
    let visited = inspector.dump(|item| match printer.show(&item) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    });
    visited.map_err(|error| place.failure(error))?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(printer.end()?),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Text,
    /// One array.
    Document,
    /// An object a line.
    Lines,
}

/// The entries that were asked for.
#[derive(Clone, Copy, Debug)]
struct Range {
    from: Option<u64>,
    to: Option<u64>,
}

impl Range {
    fn is_all(self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    fn wants(self, record: &Record) -> bool {
        let from = self.from.unwrap_or(0);
        let to = self.to.unwrap_or(u64::MAX);
        match record {
            Record::Entry { position, .. } => (from..=to).contains(&position.index),
            Record::Truncate(keep) => self.is_all() || keep.index < to,
            _ => self.is_all(),
        }
    }
}

/// Prints items, knowing where it is.
struct Printer<W> {
    out: W,
    style: Style,
    range: Range,
    /// The segment that is being shown.
    segment: u64,
    /// The number of the batch in it, from 1.
    batch: u64,
    /// Where that batch begins.
    offset: u64,
    /// Nothing was printed yet.
    is_first: bool,
}

/// A line of a dump.
struct Line {
    kind: &'static str,
    offset: u64,
    position: Option<Position>,
    bytes: Option<u64>,
    words: String,
    /// What programs are told beside that.
    more: Map<String, Value>,
}

impl Line {
    fn new(kind: &'static str, offset: u64, words: impl Into<String>) -> Line {
        Line { kind, offset, position: None, bytes: None, words: words.into(), more: Map::new() }
    }

    fn at(mut self, position: Position) -> Line {
        self.position = Some(position);
        self
    }

    fn with(mut self, name: &str, value: Value) -> Line {
        self.more.insert(name.to_owned(), value);
        self
    }
}

impl<W: Write> Printer<W> {
    fn show(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Segment { sequence, path, problem } => {
                self.segment = *sequence;
                self.batch = 0;
                self.offset = 0;
                match problem {
                    Some(damage) => {
                        let line = Line::new("broken", 0, format!("BROKEN: {path}: {damage}"));
                        self.print(line.with("damage", json!(damage.to_string())))
                    }
                    None => Ok(()),
                }
            }
            Item::Missing { first, last } => {
                (self.segment, self.batch, self.offset) = (*first, 0, 0);
                let words = match first == last {
                    true => format!("BROKEN: segment {first} is missing"),
                    false => format!("BROKEN: segments {first} to {last} are missing"),
                };
                let line = Line::new("broken", 0, words).with("damage", json!("missing"));
                self.print(line.with("through", json!(last)))
            }
            Item::Batch { offset, .. } => {
                self.batch = self.batch.saturating_add(1);
                self.offset = *offset;
                Ok(())
            }
            Item::Broken { offset, damage, bytes, .. } => {
                let words = format!("BROKEN: {damage}; {} skipped", words::size(*bytes));
                let mut line = Line::new("broken", *offset, words);
                line.bytes = Some(*bytes);
                self.print(line.with("damage", json!(damage.to_string())))
            }
            Item::Record(record) if self.range.wants(record) => {
                let line = line(record, self.offset);
                self.print(line)
            }
            Item::Record(_) => Ok(()),
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.style {
            Style::Text => self.print_heading(),
            Style::Document => self.out.write_all(b"["),
            Style::Lines => Ok(()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.style == Style::Document {
            self.out.write_all(b"\n]\n")?;
        }
        self.out.flush()
    }

    fn print_heading(&mut self) -> io::Result<()> {
        let (kind, offset) = ("kind", "offset");
        let (index, term, bytes) = ("index", "term", "bytes");
        writeln!(
            self.out,
            "segment batch {offset:>10}  {kind:<13} {index:>9} {term:>5} {bytes:>8}  what it says"
        )
    }

    fn print(&mut self, line: Line) -> io::Result<()> {
        let Line { kind, offset, position, bytes, words, more } = line;
        let (segment, batch) = (self.segment, self.batch);
        if self.style == Style::Text {
            let number = |number: Option<u64>| number.map_or("-".to_owned(), |it| it.to_string());
            let (index, term) = (position.map(|it| it.index), position.map(|it| it.term));
            let (index, term, bytes) = (number(index), number(term), number(bytes));
            return writeln!(
                self.out,
                "{segment:>7} {batch:>5} {offset:>10}  {kind:<13} {index:>9} {term:>5} {bytes:>8}  \
                 {words}"
            );
        }
        let mut object = json!({
            "segment": segment,
            "batch": batch,
            "offset": offset,
            "kind": kind,
            "index": position.map(|position| position.index),
            "term": position.map(|position| position.term),
            "bytes": bytes,
        });
        if let Some(object) = object.as_object_mut() {
            object.extend(more);
        }
        let is_first = std::mem::replace(&mut self.is_first, false);
        if self.style == Style::Document {
            self.out.write_all(if is_first { b"\n" } else { b",\n" })?;
        }
        serde_json::to_writer(&mut self.out, &object)?;
        match self.style {
            Style::Lines => self.out.write_all(b"\n"),
            Style::Document | Style::Text => Ok(()),
        }
    }
}

/// A record as a line. `offset` is where its batch begins.
fn line(record: &Record, offset: u64) -> Line {
    match record {
        Record::Entry { position, tag, offset, bytes, checksum, payload } => {
            let (words, command, condition) = payload_words(*tag, position.term, payload);
            let mut line = Line::new(words::kind(*tag), *offset, words)
                .at(*position)
                .with("checksum", json!(format!("{checksum:08x}")))
                .with("payload", json!(condition))
                .with("command", command);
            line.bytes = Some(*bytes);
            line
        }
        Record::Metadata(metadata) => Line::new("promise", offset, words::promise(Some(metadata)))
            .with("hard_state", words::promise_json(Some(metadata))),
        Record::Truncate(keep) => {
            let words = format!("entries above {} are cut", keep.index);
            Line::new("truncate", offset, words).at(*keep)
        }
        Record::Prefix { start, first_sequence } => {
            let words = format!(
                "entries up to {} are dropped; segment {first_sequence} is the oldest needed",
                start.index
            );
            Line::new("prefix", offset, words)
                .at(*start)
                .with("first_segment", json!(first_sequence))
        }
        Record::Link { start, last, first_sequence, metadata } => {
            let promise = words::promise(metadata.as_ref());
            let words = format!("goes on after {}; promised {promise}", last.index);
            Line::new("link", offset, words)
                .at(*last)
                .with("start", words::position_json(*start))
                .with("first_segment", json!(first_sequence))
                .with("hard_state", words::promise_json(metadata.as_ref()))
        }
        Record::Reset { position, metadata } => {
            let words = format!("the log is emptied and goes on after {}", position.index);
            Line::new("reset", offset, words)
                .at(*position)
                .with("hard_state", words::promise_json(metadata.as_ref()))
        }
        Record::Seal { last, .. } => Line::new("seal", offset, "the segment is full").at(*last),
        Record::Close => Line::new("close", offset, "the log was closed in good order"),
    }
}

/// What there is to say of a payload, the command in it if there is one, and its condition.
fn payload_words(tag: u8, term: u64, payload: &Payload) -> (String, Value, &'static str) {
    match payload {
        Payload::Whole(payload) => {
            let words = words::entry(tag, term, payload);
            let command = json!(words);
            (words, command, "whole")
        }
        Payload::Damaged => {
            ("LOST: the payload does not match its checksum".to_owned(), Value::Null, "damaged")
        }
        Payload::Unreadable => {
            ("LOST: the payload cannot be read".to_owned(), Value::Null, "unreadable")
        }
    }
}
