//! A comparison of ours with several others, and how it is printed.

use std::io::{self, Write};

use benches::figure::Format;
use serde_json::{Map, Value, json};

/// The same work by several systems.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// What was measured, in words joined by dots.
    pub(crate) name: String,
    /// Ours.
    pub(crate) value: f64,
    /// What all are counted in.
    pub(crate) unit: &'static str,
    /// The others, by name.
    pub(crate) others: Vec<(&'static str, f64)>,
}

impl Comparison {
    /// Every ratio is ours divided by the other's.
    fn json(&self) -> String {
        let object = |of: fn(f64, f64) -> f64| {
            let pairs = self.others.iter();
            let pairs =
                pairs.map(|(name, other)| ((*name).to_owned(), json!(of(self.value, *other))));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        json!({
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "others": object(|_, other| other),
            "ratios": object(|ours, other| ours / other),
        })
        .to_string()
    }

    fn row(&self) -> String {
        let mut row = format!("{:<32} {:<10} {:>12.0}", self.name, self.unit, self.value);
        for (name, other) in &self.others {
            let ratio = self.value / other;
            row.push_str(&format!("   {name} {other:>10.0} ({ratio:.2})"));
        }
        row
    }
}

/// Prints comparisons to the standard output as they come.
#[derive(Debug)]
pub(crate) struct Printer {
    format: Format,
    has_head: bool,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Printer {
        Printer { format, has_head: false }
    }

    /// How it prints.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn print(&mut self, comparison: &Comparison) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.format == Format::JsonLines {
            writeln!(out, "{}", comparison.json())?;
            return out.flush();
        }
        if !self.has_head {
            self.has_head = true;
            let columns = format!("{:<32} {:<10} {:>12}", "name", "unit", "ours");
            writeln!(out, "{columns}   others, and ours divided by each")?;
        }
        writeln!(out, "{}", comparison.row())?;
        out.flush()
    }
}
