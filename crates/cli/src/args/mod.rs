//! The arguments: one parser for the command line and for every line of the shell, so that what
//! works in one works in the other.

mod cluster;
mod commands;
mod rescue;
mod values;
mod wal;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use cluster::{
    AddArgs, LeaderArgs, LeaderCommand, MemberArgs, MemberCommand, RemoveArgs, ReplaceArgs,
    TransferArgs,
};
pub(crate) use commands::{
    BenchArgs, BenchOperation, BenchTarget, CasArgs, CompletionsArgs, DelArgs, DemoArgs, GetArgs,
    HelpArgs, LogArgs, ServeArgs, SetArgs, ShowArgs,
};
pub(crate) use rescue::{RecoverArgs, SaveArgs, SnapshotArgs, SnapshotCommand};
pub(crate) use values::ValueSource;
pub(crate) use wal::{DumpArgs, PlaceArgs, RepairArgs, WalArgs, WalCommand};

use crate::output::Format;

/// What `kvctl` was asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "kvctl",
    version,
    about = "A linearizable key-value store replicated with Raft: server, client and test bench",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One line of the shell. It is a command without the program's name in front.
#[derive(Debug, Parser)]
#[command(
    name = "kvctl",
    no_binary_name = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    max_term_width = 100
)]
pub(crate) struct Line {
    /// How to print this one answer
    #[arg(short = 'o', long = "output", global = true, value_name = "FORMAT", value_enum)]
    pub(crate) output: Option<Format>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The options that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Servers to talk to, comma-separated or repeated [default: those of the configuration file]
    #[arg(
        short = 'e',
        long,
        global = true,
        env = "KVCTL_ENDPOINTS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "HOST:PORT",
        value_parser = values::endpoint
    )]
    pub(crate) endpoints: Vec<String>,

    /// The cluster's configuration file [default: ./kv.toml where there is one]
    #[arg(long, global = true, env = "KVCTL_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How to print
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        env = "KVCTL_OUTPUT",
        hide_env_values = true,
        value_name = "FORMAT",
        value_enum,
        default_value = "text"
    )]
    pub(crate) output: Format,

    /// How long a command may take, all attempts together
    #[arg(
        long,
        global = true,
        env = "KVCTL_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        value_parser = values::duration,
        default_value = "5s"
    )]
    pub(crate) timeout: Duration,

    /// Let only the one server given with -e answer, and only if it leads
    #[arg(long, global = true)]
    pub(crate) no_redirect: bool,

    /// Print nothing but data and errors
    #[arg(short = 'q', long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say on stderr at which revision the answer holds and how long it took
    #[arg(short = 'v', long, global = true)]
    pub(crate) verbose: bool,

    /// Do not ask before something that cannot be undone
    #[arg(short = 'y', long, global = true)]
    pub(crate) yes: bool,
}

/// The commands. Their order and their groups in the help come from [`GROUPS`].
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the value of a key, or a range of keys
    Get(GetArgs),
    /// Set a key to a value
    Set(SetArgs),
    /// Delete a key, or every key with a prefix
    #[command(visible_alias = "delete")]
    Del(DelArgs),
    /// Replace a value, but only if it is the one expected
    Cas(CasArgs),
    /// Show all keys, or those with a prefix, as a table
    Show(ShowArgs),
    /// Show the members of the cluster and how far each one is
    #[command(after_help = "\
Examples:
  kvctl status
  kvctl status -o json
  kvctl -e 127.0.0.1:10001 status")]
    Status,
    /// Show the log of a server: index, term and command of each entry
    Log(LogArgs),
    /// Run a server
    Serve(ServeArgs),
    /// Show and change who belongs to the cluster
    Member(MemberArgs),
    /// Show who leads, and hand leadership over
    Leader(LeaderArgs),
    /// Save the state of the cluster to a file, and look at such files
    Snapshot(SnapshotArgs),
    /// Make a cluster of one out of the last server of a cluster that is lost
    Recover(RecoverArgs),
    /// Look at the log of a server that does not run, check it, or repair it
    Wal(WalArgs),
    /// Start a throw-away cluster and a shell to play with it
    Demo(DemoArgs),
    /// Type commands at a prompt, or pipe them in
    #[command(after_help = "\
Examples:
  kvctl shell
  printf 'set ana 4\\nget ana\\n' | kvctl shell

On a terminal the shell has a history and completes commands and keys with the tab key. Piped input
works too: it stops at the first error and names the line. An empty line, `quit` or Ctrl-D ends.")]
    Shell,
    /// Measure what the cluster can do
    Bench(BenchArgs),
    /// Explain a command or a topic, without needing a server
    Help(HelpArgs),
    /// Print the script that teaches a shell to complete kvctl's arguments
    Completions(CompletionsArgs),
    /// Print the version
    #[command(after_help = "Example:\n  kvctl version")]
    Version,
}

/// The groups of the overview, in the order in which a newcomer meets them.
pub(crate) const GROUPS: [(&str, &[&str]); 5] = [
    ("Data", &["get", "set", "del", "cas", "show"]),
    ("Cluster", &["status", "log", "serve", "member", "leader"]),
    ("Repair kit", &["snapshot", "wal", "recover"]),
    ("Try it", &["demo", "shell", "bench"]),
    ("Help", &["help", "completions", "version"]),
];

/// The parser of the command line, with the commands grouped in its help.
pub(crate) fn command() -> clap::Command {
    let command = <Cli as clap::CommandFactory>::command();
    let overview = overview(&command);
    command.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n\
         {overview}Options of every command:\n{{options}}\n\n\
         Every command explains itself: kvctl help COMMAND. Topics: kvctl help topics."
    ))
}

/// The commands by group, one line each.
pub(crate) fn overview(command: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text.push_str(heading);
        text.push_str(":\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("  {name:<12} {about}\n"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
