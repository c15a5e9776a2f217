//! The arguments of `wal`, which works on the directory of a server that does not run.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use crate::completion;

/// `wal`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  kvctl wal stat --data data/s1
  kvctl wal verify --data data/s1
  kvctl wal dump --data data/s1 --from 100
  kvctl wal repair --data data/s1

The server must not run. Everything but repair only reads: it makes no file, and works on a
read-only mount. What damage means and what to do about it: kvctl help recovery."
)]
pub(crate) struct WalArgs {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: WalCommand,
}

/// What can be done to a log.
#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Show the log at a glance: entries, terms, promises, segments, and whose it is
    #[command(after_help = "\
Examples:
  kvctl wal stat --data data/s1
  kvctl wal stat --id s1 --config examples/cluster.toml -o json

It reads full segments by their ends only, so it is quick, and no proof that all is well: see
kvctl wal verify.")]
    Stat(PlaceArgs),
    /// Print every record of the log, oldest first, with the commands in words
    Dump(DumpArgs),
    /// Read everything and say whether it is whole
    #[command(after_help = "\
Examples:
  kvctl wal verify --data data/s1
  kvctl wal verify --data data/s1 -o json || echo something is wrong

It ends with 0 if the log and what says whose it is are whole, with 11 if only the last write is not
whole, which the next start puts right by itself, and with 10 if anything is damaged; then it names
segment, offset, index and term of what is lost. It ends so too if nobody reads what it prints.")]
    Verify(PlaceArgs),
    /// Put a damaged log in order
    Repair(RepairArgs),
}

/// Which log.
#[derive(Args, Debug)]
pub(crate) struct PlaceArgs {
    /// The data directory of a server, or the directory of a log by itself
    #[arg(
        long,
        value_name = "DIR",
        env = "KVCTL_DATA",
        hide_env_values = true,
        required_unless_present = "id"
    )]
    pub(crate) data: Option<PathBuf>,
    /// The server whose directory it is, as the configuration has it, unless --data names one
    #[arg(long, value_name = "ID", add = ArgValueCompleter::new(completion::servers))]
    pub(crate) id: Option<String>,
}

/// `wal dump`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl wal dump --data data/s1
  kvctl wal dump --data data/s1 --from 100 --to 120
  kvctl wal dump --data data/s1 -o jsonl | jq -r 'select(.index == 7).command'

A line for each record: segment, batch in it, offset, kind, index, term, bytes, and what it says.
Entries that a later leader replaced are shown too, for they stand there still. A broken place or a
missing segment is told, and the dump goes on behind it and ends with 0: whether it matters is for
kvctl wal verify to say. With --from
or --to only entries of that range are shown, truncations that reach into it, and broken places.")]
pub(crate) struct DumpArgs {
    /// Which log
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The first index to show
    #[arg(long, value_name = "INDEX")]
    pub(crate) from: Option<u64>,
    /// The last index to show
    #[arg(long, value_name = "INDEX")]
    pub(crate) to: Option<u64>,
}

/// `wal repair`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl wal repair --data data/s1
  kvctl wal repair --data data/s1 --accept-data-loss

A repair without loss does what the next start would do: it removes a last write that is not whole
and makes again what other bytes repeat. Where entries or promises are lost, it says exactly what it
would give up and changes nothing, unless --accept-data-loss is given. Then it copies the log to a
directory beside it first, and marks the server as one that has lost history: what is left can be
read with kvctl wal dump, and the server comes back only as a new member. The segments that it
replaces stay beside the new ones, as *.lost.*. If it is interrupted, run it again: it goes on to
the same end.

Entries of which only the payload is lost are never given up: other servers still have them.")]
pub(crate) struct RepairArgs {
    /// Which log
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Give up what cannot be accounted for
    #[arg(long)]
    pub(crate) accept_data_loss: bool,
}
