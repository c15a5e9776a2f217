//! What became of bugs, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

use super::catcher::Catcher;
use super::hunt::Hunt;
use super::proof::Proof;

/// Lines of columns, as wide as their widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these words above its columns.
    #[must_use]
    pub fn new(head: &[&str]) -> Table {
        Table { rows: vec![head.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a line.
    pub fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

/// One line for each bug.
#[must_use]
pub fn hunts(hunts: &[Hunt]) -> Table {
    let mut table = Table::new(&["bug", "caught by", "what", "seed", "after seeds", "cpu s"]);
    hunts.iter().for_each(|hunt| table.add(row(hunt)));
    table
}

/// What became of one bug, in the columns of [`hunts`].
#[must_use]
pub fn row(hunt: &Hunt) -> Vec<String> {
    let (by, what, seed) = match (&hunt.result, &hunt.bug.needs) {
        (Ok(Some(catch)), _) => (catch.catcher.to_string(), catch.what.clone(), catch.seed),
        (Ok(None), Some(needs)) => ("NOT CAUGHT".into(), format!("needs {needs}"), None),
        (Ok(None), None) => ("NOT CAUGHT".into(), String::new(), None),
        (Err(trouble), _) => ("ERROR".into(), trouble.to_string().replace('\n', " "), None),
    };
    let seconds = format!("{:.2}", hunt.cpu_seconds);
    vec![hunt.bug.name.clone(), by, what, or_dash(seed), hunt.seeds.to_string(), seconds]
}

/// What each invariant is good for.
#[must_use]
pub fn proofs(proofs: &[Proof]) -> Table {
    let mut table = Table::new(&["invariant", "bug", "seed", "escapes", "without it"]);
    for Proof { invariant, bug, seed, instead, escaped } in proofs {
        let instead = match instead {
            None => "nothing notices it".to_string(),
            Some((what, at)) if *at == Some(*seed) => format!("{what}, at the same seed, later"),
            Some((what, at)) => format!("{what}, at seed {}", or_dash(*at)),
        };
        let escapes = format!("{escaped} seeds");
        table.add(vec![invariant.clone(), bug.clone(), seed.to_string(), escapes, instead]);
    }
    table
}

/// Everything of a hunt.
#[must_use]
pub fn to_json(first: u64, control: &[(Catcher, f64)], hunts: &[Hunt]) -> Value {
    let control = control.iter().map(|(catcher, cpu_seconds)| {
        json!({ "catcher": catcher.to_string(), "cpu_seconds": cpu_seconds })
    });
    let bugs = hunts.iter().map(|hunt| {
        let catch = hunt.result.as_ref().ok().and_then(Option::as_ref);
        json!({
            "bug": hunt.bug.name,
            "breaks": hunt.bug.breaks,
            "shipped": hunt.bug.shipped,
            "past": hunt.bug.past,
            "needs": hunt.bug.needs,
            "is_caught": hunt.is_caught(),
            "caught_by": catch.map(|catch| catch.catcher.to_string()),
            "what": catch.map(|catch| &catch.what),
            "seed": catch.and_then(|catch| catch.seed),
            "seeds_before": hunt.seeds,
            "cpu_seconds": hunt.cpu_seconds,
            "error": hunt.result.as_ref().err().map(ToString::to_string),
        })
    });
    json!({
        "first_seed": first,
        "control": control.collect::<Vec<_>>(),
        "caught": hunts.iter().filter(|hunt| hunt.is_caught()).count(),
        "bugs": bugs.collect::<Vec<_>>(),
    })
}
