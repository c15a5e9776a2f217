//! The arguments of the commands that change a cluster: its members and its leader.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::values;
use crate::completion;

/// `member`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  kvctl member list
  kvctl member add s5 127.0.0.1:10004
  kvctl member replace s3               s3 lost its disk and was started with an empty one
  kvctl member replace s3 s6 127.0.0.1:10005
  kvctl member remove s4

A new server is started first: kvctl serve --id s5 --join HOST:PORT --addr HOST:PORT. It waits until
it is named here. More: kvctl help membership."
)]
pub(crate) struct MemberArgs {
    #[command(subcommand)]
    pub(crate) command: MemberCommand,
}

/// What is done to the members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Show who belongs to the cluster, and who waits to be taken in
    #[command(after_help = "Examples:\n  kvctl member list\n  kvctl member list -o json")]
    List,
    /// Take a server into the cluster
    Add(AddArgs),
    /// Let a learner vote, once it has caught up
    Promote(PromoteArgs),
    /// Take a server out of the cluster
    Remove(RemoveArgs),
    /// Let a new server take the place of an old one, in one change
    Replace(ReplaceArgs),
}

/// `member add`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl member add s5
  kvctl member add s5 127.0.0.1:10004 --learner

The server must be running and waiting: kvctl serve --id s5 --join HOST:PORT --addr HOST:PORT. This
waits for it until --timeout, then until it has caught up and votes, for as long as it gets on: only
when nothing has moved for --timeout does it end with 124. The cluster goes on promoting the server
in any case.")]
pub(crate) struct AddArgs {
    /// The server
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Where the other servers reach it; without, where it says that it listens
    #[arg(value_name = "HOST:PORT", value_parser = values::endpoint)]
    pub(crate) address: Option<String>,
    /// It receives the log and does not vote, until it is promoted
    #[arg(long)]
    pub(crate) learner: bool,
}

/// `member promote`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl member promote s5
  kvctl member promote s5 --timeout 1m  wait longer for a server that does not get on")]
pub(crate) struct PromoteArgs {
    /// The learner
    #[arg(value_name = "ID", add = ArgValueCompleter::new(completion::servers))]
    pub(crate) id: String,
}

/// `member remove`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl member remove s4
  kvctl member remove s4 --yes

The leader can be removed too: another server leads then. This asks first if the cluster could not
lose one more server afterwards; a script says --yes. Stop the server when it is removed; to bring
it back later, start it with an empty directory and add it.")]
pub(crate) struct RemoveArgs {
    /// The server
    #[arg(value_name = "ID", add = ArgValueCompleter::new(completion::servers))]
    pub(crate) id: String,
}

/// `member replace`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl member replace s3               s3 lost its disk and was started with an empty one
  kvctl member replace s3 s6            by s6, which waits to be taken in
  kvctl member replace s3 s6 127.0.0.1:10005

The new server catches up first. It begins to vote in the very change in which the old one goes, so
the cluster is never smaller than it was.")]
pub(crate) struct ReplaceArgs {
    /// The server that goes
    #[arg(value_name = "OLD", add = ArgValueCompleter::new(completion::servers))]
    pub(crate) old: String,
    /// The server that comes [default: the same, with a new disk]
    #[arg(value_name = "NEW")]
    pub(crate) new: Option<String>,
    /// Where the other servers reach it [default: where it says that it listens]
    #[arg(value_name = "HOST:PORT", value_parser = values::endpoint)]
    pub(crate) address: Option<String>,
}

/// `leader`.
#[derive(Args, Debug)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  kvctl leader show
  kvctl leader transfer                 to whichever server holds most of the log
  kvctl leader transfer s2"
)]
pub(crate) struct LeaderArgs {
    #[command(subcommand)]
    pub(crate) command: LeaderCommand,
}

/// What is done about the leader.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaderCommand {
    /// Show who leads
    #[command(after_help = "\
Examples:
  kvctl leader show
  kvctl leader show -o json

Without a leader this ends with 7.")]
    Show,
    /// Hand leadership to another server
    Transfer(TransferArgs),
}

/// `leader transfer`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl leader transfer
  kvctl leader transfer s2

Writes wait until the new leader is there, a few milliseconds. If it does not take over within an
election timeout, the old one leads on and this ends with 6.")]
pub(crate) struct TransferArgs {
    /// The server that is to lead [default: whichever holds most of the log]
    #[arg(value_name = "ID", add = ArgValueCompleter::new(completion::servers))]
    pub(crate) id: Option<String>,
}
