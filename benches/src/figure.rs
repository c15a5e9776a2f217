//! A measured figure, and how it is printed: for people as a table, for programs as one JSON
//! object a line.

use std::io::{self, Write};

/// A figure of ours beside the floor's.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured, in words joined by dots.
    pub name: String,
    /// Ours.
    pub value: f64,
    /// What both are counted in.
    pub unit: &'static str,
    /// The floor's.
    pub floor: f64,
    /// What is wanted.
    pub goal: Goal,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The ratio should be at most this.
    RatioAtMost(f64),
    /// The ratio should be at least this.
    RatioAtLeast(f64),
    /// The value should be at most this.
    ValueAtMost(f64),
    /// The value should be at least this.
    ValueAtLeast(f64),
    /// For information only.
    None,
}

/// How figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns with the goals.
    Table,
    /// One JSON object a line, as soon as it is known.
    JsonLines,
}

impl Figure {
    /// Ours divided by the floor's, whichever of them should be larger.
    pub fn ratio(&self) -> f64 {
        self.value / self.floor
    }

    /// Whether the goal is met; `None` if there is none.
    pub fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::RatioAtMost(most) => Some(self.ratio() <= most),
            Goal::RatioAtLeast(least) => Some(self.ratio() >= least),
            Goal::ValueAtMost(most) => Some(self.value <= most),
            Goal::ValueAtLeast(least) => Some(self.value >= least),
            Goal::None => None,
        }
    }

    fn goal_in_words(&self) -> String {
        let (text, is_met) = match (self.goal, self.is_met()) {
            (Goal::RatioAtMost(most), Some(met)) => (format!("ratio <= {most:.2}"), met),
            (Goal::RatioAtLeast(least), Some(met)) => (format!("ratio >= {least:.2}"), met),
            (Goal::ValueAtMost(most), Some(met)) => (format!("<= {most} {}", self.unit), met),
            (Goal::ValueAtLeast(least), Some(met)) => (format!(">= {least} {}", self.unit), met),
            _ => return String::new(),
        };
        let verdict = if is_met { "met" } else { "MISSED" };
        format!("{text}  {verdict}")
    }

    fn json(&self) -> String {
        let Figure { name, value, unit, floor, .. } = self;
        let ratio = self.ratio();
        serde_json::json!({
            "name": name, "value": value, "unit": unit, "floor": floor, "ratio": ratio,
        })
        .to_string()
    }
}

/// Prints figures to the standard output as they come.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    has_head: bool,
}

impl Printer {
    /// A printer that has printed nothing yet.
    pub fn new(format: Format) -> Printer {
        Printer { format, has_head: false }
    }

    /// Prints one figure.
    ///
    /// # Errors
    /// The standard output does not take it.
    pub fn print(&mut self, figure: &Figure) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.format == Format::JsonLines {
            writeln!(out, "{}", figure.json())?;
            return out.flush();
        }
        if !self.has_head {
            self.has_head = true;
            let columns = ("name", "ours", "floor", "unit", "ratio", "goal");
            writeln!(out, "{}", row(columns))?;
        }
        let (value, floor) = (number(figure.value), number(figure.floor));
        let (ratio, goal) = (format!("{:.3}", figure.ratio()), figure.goal_in_words());
        writeln!(out, "{}", row((&figure.name, &value, &floor, figure.unit, &ratio, &goal)))?;
        out.flush()
    }
}

fn row(columns: (&str, &str, &str, &str, &str, &str)) -> String {
    let (name, ours, floor, unit, ratio, goal) = columns;
    let row = format!("{name:<44} {ours:>12} {floor:>12} {unit:<10} {ratio:>7}  {goal}");
    row.trim_end().to_owned()
}

/// Three digits that count, or all in front of the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(goal: Goal) -> Figure {
        Figure { name: "a.b".into(), value: 3.0, unit: "us", floor: 2.0, goal }
    }

    #[test]
    fn a_ratio_is_always_ours_by_the_floor() {
        let printed: serde_json::Value =
            serde_json::from_str(&figure(Goal::RatioAtMost(1.15)).json()).unwrap();
        assert_eq!(printed["ratio"], 1.5);
        assert_eq!(printed.as_object().unwrap().len(), 5);
    }

    #[test]
    fn goals_are_judged_by_ratio_or_by_value() {
        assert_eq!(figure(Goal::RatioAtMost(1.15)).is_met(), Some(false));
        assert_eq!(figure(Goal::RatioAtLeast(1.5)).is_met(), Some(true));
        assert_eq!(figure(Goal::ValueAtMost(3.0)).is_met(), Some(true));
        assert_eq!(figure(Goal::ValueAtLeast(3.5)).is_met(), Some(false));
        assert_eq!(figure(Goal::None).is_met(), None);
    }
}
