//! Measures ours beside other systems, in turns, and prints the ratios. A section is a module.

mod cluster;
mod print;
mod raft;
mod wal;

use std::path::PathBuf;
use std::process::ExitCode;

use benches::Result;
use benches::figure::Format;
use benches::place::Place;
use clap::{Parser, ValueEnum};

use crate::print::Printer;

/// Measures ours beside other systems, on the same work in the same run, and prints the ratios.
#[derive(Debug, Parser)]
#[command(name = "run")]
struct Arguments {
    /// What to measure.
    #[arg(required = true)]
    sections: Vec<Section>,

    /// How to print: a table, or one JSON object a line.
    #[arg(short, long, default_value = "table")]
    output: Output,

    /// Take fewer turns: figures to look at, not to quote.
    #[arg(long)]
    quick: bool,

    /// Only the comparisons whose names contain this; of whole clusters, only these systems.
    #[arg(long, default_value = "")]
    only: String,

    /// The directory in which to measure, on a real file system [default: beside this program]
    #[arg(long)]
    dir: Option<PathBuf>,

    #[command(flatten)]
    cluster: cluster::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Whole clusters under load, beside etcd, ZooKeeper, NATS, redis and a bare floor.
    Cluster,
    /// The protocol beside raft-rs, and running replicas beside openraft.
    Raft,
    /// The write-ahead log beside raft-engine and okaywal.
    Wal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    #[value(alias = "json")]
    Jsonl,
}

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
    for section in arguments.sections {
        match section {
            Section::Cluster => cluster::measure(&session, &arguments.cluster)?,
            Section::Raft => raft::measure(&mut session)?,
            Section::Wal => wal::measure(&mut session)?,
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("run: {error}");
            ExitCode::FAILURE
        }
    }
}
