//! `wal`: the log of a server that does not run. Everything but `repair` only looks, through a disk
//! that cannot write.

mod dump;
mod place;
mod progress;
mod repair;
mod stat;
mod verify;
mod words;

use std::io;

use crate::args::{Global, WalArgs, WalCommand};
use crate::failure::Failure;
use crate::output::{self, Answer};

/// `kvctl wal`.
pub(crate) fn run(global: &Global, args: WalArgs) -> Result<(), Failure> {
    match args.command {
        WalCommand::Stat(args) => stat::run(global, &args),
        WalCommand::Dump(args) => dump::run(global, &args),
        WalCommand::Verify(args) => verify::run(global, &args),
        WalCommand::Repair(args) => repair::run(global, &args),
    }
}

/// Prints an answer on stdout.
fn print(global: &Global, answer: &dyn Answer) -> Result<(), Failure> {
    Ok(output::print(answer, global.output, &mut io::stdout().lock())?)
}

/// Prints an answer, and ends as it says. A reader that goes away early must not make a damaged log
/// look like a whole one.
fn conclude(
    global: &Global,
    answer: &dyn Answer,
    verdict: Result<(), Failure>,
) -> Result<(), Failure> {
    let printed = print(global, answer);
    verdict.and(printed)
}
