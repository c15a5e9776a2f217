//! The arguments of the commands that save a cluster's state, and of the one that saves what is
//! left of a cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values;
use super::wal::PlaceArgs;

/// `recover`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl recover --data data/s1
  kvctl recover --data data/s1 --cluster demo --yes
  kvctl recover --data data/s1 --cluster demo --yes -o json

For a cluster that has lost its majority for good. The server must not run. What is left of it
becomes a cluster of this one server, under a new id: the lost servers can never come back into it.
Everything in the directory that can be served is kept, committed or not; what only the lost servers
had is gone. This says what that means here and goes on when the cluster's name is typed; a script
gives it with --cluster and says --yes. The other servers are asked first: while one answers that
it belongs to the old cluster, its majority may not be lost, and --force is needed as well.

What is replaced stays as it was. Interrupted, the directory is the old cluster's or the new one's,
and the command can be run again. Choose the server whose log goes furthest: kvctl wal stat.")]
pub(crate) struct RecoverArgs {
    /// Which directory
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The name of the cluster, which must be that of the directory
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Go on although a server of the old cluster answers
    #[arg(long)]
    pub(crate) force: bool,
    /// Where the server listens [default: where its cluster knew it]
    #[arg(long, value_name = "HOST:PORT", value_parser = values::endpoint)]
    pub(crate) addr: Option<String>,
}

/// `snapshot`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  kvctl snapshot save monday.snapshot
  kvctl snapshot inspect monday.snapshot
  kvctl snapshot verify monday.snapshot

A snapshot is the whole state at one moment. The file has the format of a server's own, so those in
its directory can be looked at too. It is for keeping and for reading: no command makes a cluster of
one."
)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

/// What is done with snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save the state of the cluster to a file
    Save(SaveArgs),
    /// Show what a snapshot stands for and what is in it
    #[command(after_help = "\
Examples:
  kvctl snapshot inspect monday.snapshot
  kvctl snapshot inspect monday.snapshot -o json
  kvctl snapshot inspect data/s1/snapshots/*.own

It reads the whole file. Of a damaged one it shows what can be read, and ends with 10.")]
    Inspect(SnapshotFileArgs),
    /// Read every byte of a snapshot and say whether it is whole
    #[command(after_help = "\
Examples:
  kvctl snapshot verify monday.snapshot
  kvctl snapshot verify monday.snapshot -o json || echo something is wrong

It ends with 0 if the file is whole, and with 10 if it is damaged; then it says where and what.")]
    Verify(SnapshotFileArgs),
}

impl SnapshotCommand {
    /// Whether it asks a cluster, rather than looking at a file.
    pub(crate) fn needs_server(&self) -> bool {
        matches!(self, SnapshotCommand::Save(_))
    }
}

/// `snapshot save`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl snapshot save monday.snapshot
  kvctl snapshot save monday.snapshot -o json
  kvctl -e 127.0.0.1:10001 snapshot save old.snapshot --stale

Everything that was acknowledged before this began is in it, unless --stale is given: then it is
what some server has, with or without a leader. The file gets its name when it is whole and on the
disk, and never takes the place of another. --timeout is about each part of it, not about all.")]
pub(crate) struct SaveArgs {
    /// The file, which must not exist
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Take the state of any server as it is, even if it is behind
    #[arg(long)]
    pub(crate) stale: bool,
}

/// A file to look at.
#[derive(Args, Debug)]
pub(crate) struct SnapshotFileArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
