//! Goes through every schedule of a small cluster. Without arguments, the scope that is known to
//! end within minutes; with arguments, any other.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use verify::model::{Disk, Patience, Scope, explore};

/// Every schedule of a small cluster: all orders, losses and repetitions of messages, all timeouts,
/// crashes and moments at which the disk is done, within the limits given.
#[derive(Parser)]
#[command(name = "explore", version)]
struct Arguments {
    /// Servers.
    #[arg(long, default_value_t = 3)]
    servers: u64,
    /// Terms after the founding one.
    #[arg(long, default_value_t = 2)]
    terms: u64,
    /// Commands that are proposed.
    #[arg(long, default_value_t = 1)]
    proposals: u64,
    /// Times that a follower or candidate runs out of patience.
    #[arg(long, default_value_t = 2)]
    timeouts: u64,
    /// Heartbeats of leaders.
    #[arg(long, default_value_t = 0)]
    heartbeats: u64,
    /// Crashes.
    #[arg(long, default_value_t = 0)]
    crashes: u64,
    /// Reads.
    #[arg(long, default_value_t = 0)]
    reads: u64,
    /// Removals of a server.
    #[arg(long, default_value_t = 0)]
    changes: u64,
    /// Appends may be on the disk later than at once.
    #[arg(long)]
    slow_disk: bool,
    /// Stop after so many seconds, complete or not.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scope = Scope {
        servers: arguments.servers,
        terms: arguments.terms,
        proposals: arguments.proposals,
        timeouts: arguments.timeouts,
        heartbeats: arguments.heartbeats,
        crashes: arguments.crashes,
        reads: arguments.reads,
        changes: arguments.changes,
        disk: if arguments.slow_disk { Disk::Later } else { Disk::AtOnce },
    };
    let limit = arguments.seconds.map(Duration::from_secs);
    let answer = explore(scope, limit.map_or(Patience::Endless, Patience::AtMost));
    println!("{answer}");
    for failure in &answer.failures {
        println!("{failure}");
    }
    if answer.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
