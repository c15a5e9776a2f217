//! Runs simulated clusters, one for each seed, and prints what they met.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use verify::check::Switches;
use verify::sim::minimise::minimise;
use verify::sim::repeat::{Comparison, seed_of};
use verify::sim::report::{Report, cpu_seconds};
use verify::sim::script::Script;
use verify::sim::{Allowed, FaultKind, Watch, draw, run_script};

/// Simulates clusters of production servers with everything that goes wrong around them. A run
/// follows from its seed alone; one that fails tells how to repeat it, and shows its end.
#[derive(Parser)]
#[command(name = "sim", version)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1, conflicts_with_all = ["by", "script"])]
    seed: u64,
    /// What decides the first seed instead, such as the hash of a commit.
    #[arg(long, value_name = "TEXT", conflicts_with = "script")]
    by: Option<String>,
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
    /// Run each seed twice, and fail if the two runs are not alike, event by event. The number
    /// printed in the end is the same wherever the same sources run.
    #[arg(long)]
    twice: bool,
    /// Print the seeds that took most processor time, so many of them.
    #[arg(long, value_name = "COUNT")]
    slowest: Option<usize>,
    /// Run what this file says, and draw it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "only", "twice"])]
    script: Option<PathBuf>,
    /// Leave out of a failing run what it does not need to fail, and print the rest as a script.
    #[arg(long, conflicts_with_all = ["seeds", "twice", "slowest"])]
    minimise: bool,
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

/// How this program is called.
const PROGRAM: &str = "cargo run --release -p verify --bin sim --";

fn fault(name: &str) -> Result<FaultKind, String> {
    let known = FaultKind::ALL.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("the faults are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if let Some(text) = &arguments.by {
        arguments.seed = seed_of(text);
        eprintln!("the first seed is {}", arguments.seed);
    }
    // What a run says when it breaks is told with its story, once.
    std::panic::set_hook(Box::new(|_| {}));
    let script = match &arguments.script {
        Some(path) => match read(path) {
            Ok(script) => Some(script),
            Err(why) => {
                eprintln!("{}: {why}", path.display());
                return ExitCode::from(2);
            }
        },
        None => None,
    };
    let is_good = match (script, arguments.minimise) {
        (script, true) => shrink(&arguments, script),
        (Some(script), false) => replay(&arguments, &script),
        (None, false) => run_seeds(&arguments),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(path: &PathBuf) -> Result<Script, String> {
    let text = std::fs::read_to_string(path).map_err(|why| why.to_string())?;
    Script::parse(&text)
}

impl Arguments {
    fn allowed(&self) -> Allowed {
        self.only.clone().map_or(Allowed::ALL, Allowed::only)
    }

    fn switches(&self) -> Switches {
        Switches::without(self.without.iter().cloned())
    }

    /// What repeats the run of one seed.
    fn command(&self, seed: u64) -> String {
        let names: Vec<&str> = self.only.iter().flatten().map(|kind| kind.name()).collect();
        let only = if names.is_empty() { String::new() } else { " --only ".to_string() };
        let without = self.without.iter().map(|name| format!(" --without '{name}'"));
        let without: String = without.collect();
        format!("{PROGRAM} --seed {seed}{only}{}{without}", names.join(","))
    }
}

/// Runs one seed after another. True if none fails.
fn run_seeds(arguments: &Arguments) -> bool {
    let Arguments { minutes, cpu_seconds: cpu_limit, seeds, .. } = arguments;
    let begun = Instant::now();
    let time_is_up = |report: &Report| {
        minutes.is_some_and(|minutes| begun.elapsed() >= Duration::from_secs(60 * minutes))
            || cpu_limit.is_some_and(|limit| report.cpu_seconds() >= limit)
            || arguments.until_failure && report.has_failed()
    };
    let is_limited = minutes.is_some() || cpu_limit.is_some();
    let count = seeds.unwrap_or(if is_limited { u64::MAX } else { 1 });
    let (allowed, switches) = (arguments.allowed(), arguments.switches());
    let mut report = Report::begin();
    let mut comparison = Comparison::default();
    let mut costs: Vec<(f64, u64, u64)> = Vec::new();
    for seed in arguments.seed..arguments.seed.saturating_add(count) {
        if time_is_up(&report) {
            break;
        }
        let script = Script::draw(seed, &allowed);
        let before = cpu_seconds();
        let result = run_script(&script, switches.clone(), Watch::Nothing);
        let events = result.as_ref().map_or_else(|it| it.events, |it| it.events);
        costs.push((cpu_seconds() - before, events, seed));
        if arguments.twice {
            let again = run_script(&script, switches.clone(), Watch::Nothing);
            comparison.compare(seed, &result, &again);
        }
        match result {
            Ok(outcome) => report.add(&outcome),
            Err(failure) => {
                report.add_failure(failure);
                // Only a run that failed is worth what it costs to watch it.
                let again = run_script(&script, switches.clone(), Watch::Story);
                match again {
                    Err(failure) => eprintln!("{failure}"),
                    Ok(_) => eprintln!("seed {seed} fails, but not when it is watched"),
                }
                let command = arguments.command(seed);
                eprintln!("repeat it: {command}\nshrink it: {command} --minimise");
            }
        }
    }
    tell_slowest(costs, arguments.slowest);
    if arguments.twice {
        eprintln!("{comparison}");
    }
    print(&report, arguments.output);
    !report.has_failed() && comparison.is_alike()
}

fn print(report: &Report, output: Output) {
    match output {
        Output::Text => println!("{report}"),
        Output::Json => println!("{}", report.to_json()),
    }
}

fn tell_slowest(mut costs: Vec<(f64, u64, u64)>, count: Option<usize>) {
    let Some(count) = count else { return };
    costs.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (seconds, events, seed) in costs.into_iter().take(count) {
        let rate = events as f64 / seconds;
        eprintln!("seed {seed:<12} {seconds:>8.2} cpu s {events:>9} events {rate:>9.0} a second");
    }
}

/// Runs a script and draws its end. True if nothing fails.
fn replay(arguments: &Arguments, script: &Script) -> bool {
    let mut report = Report::begin();
    match run_script(script, arguments.switches(), Watch::Story) {
        Ok(outcome) => {
            report.add(&outcome);
            eprintln!("{}\nnothing fails", draw(script, arguments.switches()));
        }
        Err(failure) => {
            eprintln!("{failure}");
            if let Some(path) = &arguments.script {
                eprintln!("repeat it: {PROGRAM} --script {}", path.display());
            }
            report.add_failure(failure);
        }
    }
    print(&report, arguments.output);
    !report.has_failed()
}

/// Shrinks a failing run and prints what is left. True if it does not fail.
fn shrink(arguments: &Arguments, script: Option<Script>) -> bool {
    let script = script.unwrap_or_else(|| Script::draw(arguments.seed, &arguments.allowed()));
    let switches = arguments.switches();
    let begun = cpu_seconds();
    let Some(shrunk) = minimise(&script, &switches, &mut |told| eprintln!("{told}")) else {
        eprintln!("it does not fail: there is nothing to shrink");
        return true;
    };
    if let Err(failure) = run_script(&shrunk.script, switches, Watch::Story) {
        eprintln!("\n{failure}");
    }
    eprintln!("\n{} runs in {:.1} cpu s; the script:\n", shrunk.runs, cpu_seconds() - begun);
    let what = shrunk.failure.broken.to_string();
    println!("# Fails: {}", what.lines().next().unwrap_or_default());
    match &arguments.script {
        Some(path) => println!("# Shrunk from: {}", path.display()),
        None => println!("# Shrunk from: {}", arguments.command(script.seed())),
    }
    print!("{}", shrunk.script);
    false
}
