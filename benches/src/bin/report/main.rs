//! Prints how far each part is from its floor: the report. A section is a module of this program.

mod failover;
mod raft;
mod wal;

use std::path::PathBuf;
use std::process::ExitCode;

use benches::Result;
use benches::figure::{Figure, Format, Printer};
use benches::measure::{self, Samples, Side, Turns};
use benches::place::Place;
use clap::{Parser, ValueEnum};

/// Measures each part beside its floor, in turns, and prints the ratios.
#[derive(Debug, Parser)]
#[command(name = "report")]
struct Arguments {
    /// What to measure; everything if nothing is named.
    sections: Vec<Section>,

    /// How to print: figures with their goals, or one JSON object a line.
    #[arg(short, long, default_value = "table")]
    output: Output,

    /// Take fewer and shorter turns: figures to look at, not to quote.
    #[arg(long)]
    quick: bool,

    /// Only the figures whose names contain this.
    #[arg(long, default_value = "")]
    only: String,

    /// The directory in which to measure, on a real file system [default: beside this program]
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// A cluster of real processes whose leader dies: how long writes stand still.
    Failover,
    /// The protocol: nodes alone.
    Raft,
    /// The write-ahead log: synced and unsynced appends, scan, reopening.
    Wal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Jsonl,
}

/// Turns that differ by more are worth a warning.
const SPREAD_QUIET_MAX: f64 = 1.5;

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    Quick,
    Full,
}

/// What every section works with.
struct Session {
    place: Place,
    printer: Printer,
    care: Care,
    only: String,
}

impl Session {
    /// Whether any of these figures is asked for. Says on the standard error what comes now.
    fn wants(&self, what: &str, names: &[&str]) -> bool {
        let wanted = names.iter().any(|name| name.contains(&self.only));
        if wanted {
            eprintln!("measuring {what}");
        }
        wanted
    }

    /// Lets the sides take turns; says on the standard error if the machine was too busy.
    fn take_turns(&self, sides: &mut [&mut dyn Side], turns: Turns) -> Result<Vec<Samples>> {
        let samples = measure::take_turns(sides, turns)?;
        let spread = samples.iter().map(Samples::spread).fold(1.0, f64::max);
        if spread > SPREAD_QUIET_MAX {
            eprintln!("  noisy: the middle half of the turns differs by a factor of {spread:.1}");
        }
        Ok(samples)
    }

    fn print(&mut self, figure: &Figure) -> Result<()> {
        if figure.name.contains(&self.only) {
            self.printer.print(figure)?;
        }
        Ok(())
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let format = match arguments.output {
        Output::Table => Format::Table,
        Output::Jsonl => Format::JsonLines,
    };
    let mut session = Session {
        place: Place::make(arguments.dir.as_deref())?,
        printer: Printer::new(format),
        care: if arguments.quick { Care::Quick } else { Care::Full },
        only: arguments.only,
    };
    let all = Section::value_variants();
    let sections = if arguments.sections.is_empty() { all } else { &arguments.sections };
    for section in sections {
        match section {
            Section::Failover => failover::measure(&mut session)?,
            Section::Raft => raft::measure(&mut session)?,
            Section::Wal => wal::measure(&mut session)?,
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    // A cluster needs a program to run, and this one carries it.
    if std::env::args().nth(1).is_some_and(|word| failover::is_command(&word)) {
        return kvctl::main();
    }
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}
