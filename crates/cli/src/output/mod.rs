//! How answers are printed. Data goes to stdout and nothing else does, so that a pipe gets exactly
//! what was asked for; notes and errors go to stderr.

mod bytes;
mod table;

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

pub(crate) use self::bytes::{json_key, json_value, visible, visible_short};
pub(crate) use self::table::Table;

/// What `-o` chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: whatever fits the answer best
    Text,
    /// A table
    Table,
    /// One JSON document
    Json,
    /// One JSON object a line
    Jsonl,
    /// The bytes of the value and nothing else
    Value,
}

impl Format {
    /// Whether errors are to be JSON too.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Jsonl)
    }
}

/// Something that a command found out, and how it looks in each format.
pub(crate) trait Answer {
    /// For people.
    fn text(&self, out: &mut dyn Write) -> io::Result<()>;

    /// As a table; the text where a table would say less.
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        self.text(out)
    }

    /// As one JSON document.
    fn json(&self) -> Value;

    /// As one JSON document for each part; for most answers there is one part.
    fn json_lines(&self) -> Vec<Value> {
        vec![self.json()]
    }

    /// As bare bytes; the text where there is nothing barer.
    fn value(&self, out: &mut dyn Write) -> io::Result<()> {
        self.text(out)
    }
}

/// Prints an answer.
pub(crate) fn print(answer: &dyn Answer, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => answer.text(out)?,
        Format::Table => answer.table(out)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &answer.json())?;
            out.write_all(b"\n")?;
        }
        Format::Jsonl => {
            for line in answer.json_lines() {
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
        }
        Format::Value => answer.value(out)?,
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use serde_json::{Value, json};

    use super::{Answer, Format, print};

    struct Two;

    impl Answer for Two {
        fn text(&self, out: &mut dyn Write) -> io::Result<()> {
            out.write_all(b"two\n")
        }
        fn json(&self) -> Value {
            json!({ "b": 1, "a": 2 })
        }
        fn json_lines(&self) -> Vec<Value> {
            vec![json!(1), json!(2)]
        }
        fn value(&self, out: &mut dyn Write) -> io::Result<()> {
            out.write_all(b"2")
        }
    }

    fn printed(format: Format) -> String {
        let mut out = Vec::new();
        print(&Two, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_format_prints_what_it_promises() {
        assert_eq!(printed(Format::Text), "two\n");
        assert_eq!(printed(Format::Table), "two\n", "the text stands in for a missing table");
        assert_eq!(printed(Format::Jsonl), "1\n2\n");
        assert_eq!(printed(Format::Value), "2", "bare bytes have no newline added");
        assert_eq!(printed(Format::Json), "{\n  \"b\": 1,\n  \"a\": 2\n}\n", "order is kept");
    }
}
