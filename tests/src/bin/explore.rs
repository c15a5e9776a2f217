//! Goes through every schedule of a small cluster. Without arguments, within each of the scopes
//! that are searched to the end whenever the code changes; with arguments, within any other.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use verify::model::{Disk, Finding, Patience, Scope, explore_until};

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
    /// Stop at the first thing that does not hold. Alone it leaves the scopes as they are.
    #[arg(long)]
    until_failure: bool,
    /// Stop after so many seconds, complete or not.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let given = std::env::args_os().len() - 1;
    let is_routine = given == usize::from(arguments.until_failure);
    let scopes = if is_routine { Scope::ROUTINE.to_vec() } else { vec![scope(&arguments)] };
    let finding = if arguments.until_failure { Finding::Ends } else { Finding::SearchesOn };
    let patience = match arguments.seconds {
        Some(seconds) => Patience::AtMost(Duration::from_secs(seconds)),
        None => Patience::Endless,
    };
    let mut is_sound = true;
    for scope in scopes {
        let answer = explore_until(scope, patience, finding);
        println!("{answer}");
        answer.failures.iter().for_each(|failure| println!("{failure}"));
        is_sound &= answer.failures.is_empty();
        if !is_sound && finding == Finding::Ends {
            break;
        }
    }
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scope(arguments: &Arguments) -> Scope {
    Scope {
        servers: arguments.servers,
        terms: arguments.terms,
        proposals: arguments.proposals,
        timeouts: arguments.timeouts,
        heartbeats: arguments.heartbeats,
        crashes: arguments.crashes,
        reads: arguments.reads,
        changes: arguments.changes,
        disk: if arguments.slow_disk { Disk::Later } else { Disk::AtOnce },
    }
}
