//! Runs simulated clusters, one for each seed, and prints what they met.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use verify::check::Switches;
use verify::sim::report::Report;
use verify::sim::{Allowed, FaultKind, Watch, run_with};

/// Simulates clusters of production servers with everything that goes wrong around them. A run
/// follows from its seed alone; one that fails tells how to repeat it.
#[derive(Parser)]
#[command(name = "sim", version)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds; one if only --seed is given, else as many as fit into --minutes
    /// or --cpu-seconds.
    #[arg(long)]
    seeds: Option<u64>,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Stop after so many seconds of processor time.
    #[arg(long)]
    cpu_seconds: Option<f64>,
    /// Stop at the first run that fails.
    #[arg(long)]
    until_failure: bool,
    /// Let only these faults happen, by their names in the report, separated by commas.
    #[arg(long, value_name = "FAULT,...", value_delimiter = ',', value_parser = fault)]
    only: Option<Vec<FaultKind>>,
    /// An invariant that is not to count, by its name: to see what escapes without it.
    #[arg(long, value_name = "INVARIANT", hide = true)]
    without: Vec<String>,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn fault(name: &str) -> Result<FaultKind, String> {
    let known = FaultKind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("the faults are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let Arguments { seed, seeds, minutes, cpu_seconds, until_failure, only, without, output } =
        Arguments::parse();
    let names = only.iter().flatten().map(|kind| kind.name());
    let only_too = names.fold(String::new(), |text, name| match text.is_empty() {
        true => format!(" --only {name}"),
        false => format!("{text},{name}"),
    });
    let allowed = only.map_or(Allowed::ALL, Allowed::only);
    let begun = Instant::now();
    let time_is_up = |report: &Report| {
        minutes.is_some_and(|minutes| begun.elapsed() >= Duration::from_secs(60 * minutes))
            || cpu_seconds.is_some_and(|limit| report.cpu_seconds() >= limit)
            || until_failure && report.has_failed()
    };
    let is_limited = minutes.is_some() || cpu_seconds.is_some();
    let count = seeds.unwrap_or(if is_limited { u64::MAX } else { 1 });
    let switches = Switches::without(without);
    let mut report = Report::begin();
    // What a run says when it breaks is told with its story, once.
    std::panic::set_hook(Box::new(|_| {}));
    for seed in seed..seed.saturating_add(count) {
        if time_is_up(&report) {
            break;
        }
        match run_with(seed, &allowed, switches.clone(), Watch::Nothing) {
            Ok(outcome) => report.add(&outcome),
            Err(failure) => {
                report.add_failure(failure);
                let again = run_with(seed, &allowed, switches.clone(), Watch::Story);
                if let Err(failure) = again {
                    eprintln!("{failure}");
                }
                eprintln!(
                    "repeat it: cargo run --release -p verify --bin sim -- --seed {seed}{only_too}"
                );
            }
        }
    }
    match output {
        Output::Text => println!("{report}"),
        Output::Json => println!("{}", report.to_json()),
    }
    if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
