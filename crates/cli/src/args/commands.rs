//! The arguments of each command, with the example that its help ends with.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use kvstore::client::RequestId;

use super::values::{self, ValueSource};
use crate::completion;

/// `get`: one key, or all of a prefix or a range.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl get ana
  kvctl get ana --stale                 answered by any server, perhaps from the past
  kvctl get --prefix app/ --keys-only
  kvctl get --range a b --limit 10      from a, up to but without b
  kvctl get --prefix app/ --count

A read is linearizable unless --stale is given: it sees every write that was acknowledged before
the read began. A key that does not exist ends with 4.")]
pub(crate) struct GetArgs {
    /// The key
    #[arg(
        value_parser = values::raw(),
        add = ArgValueCompleter::new(completion::keys),
        required_unless_present_any = ["prefix", "range"],
        conflicts_with_all = ["prefix", "range", "limit", "keys_only", "count", "reverse"]
    )]
    pub(crate) key: Option<Bytes>,
    /// All keys that begin with this
    #[arg(long, value_parser = values::raw(), conflicts_with = "range")]
    pub(crate) prefix: Option<Bytes>,
    /// All keys from FROM up to TO, without TO
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], value_parser = values::raw())]
    pub(crate) range: Option<Vec<Bytes>>,
    /// At most so many keys
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Keys without their values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Only how many there are
    #[arg(long, conflicts_with_all = ["keys_only", "limit", "reverse"])]
    pub(crate) count: bool,
    /// From the last key to the first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Take the answer of any server as it is, even if it is behind
    #[arg(long)]
    pub(crate) stale: bool,
}

/// `set`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl set d 8
  kvctl set motto 'easy to understand'
  kvctl set logo @logo.png              the content of a file
  date | kvctl set now -                standard input
  kvctl set leader me --if-absent
  kvctl set d 9 --if-rev 17             only if d was last changed at revision 17

A condition that does not hold ends with 5 and nothing is written. A write whose outcome is unknown
ends with 8 and names its request: repeat it with --request, it cannot be applied twice.")]
pub(crate) struct SetArgs {
    /// The key
    #[arg(value_parser = values::raw(), add = ArgValueCompleter::new(completion::keys))]
    pub(crate) key: Bytes,
    /// The value; - reads it from standard input, @FILE from a file
    #[arg(
        value_parser = values::value_source(),
        allow_negative_numbers = true,
        value_name = "VALUE|-|@FILE"
    )]
    pub(crate) value: ValueSource,
    /// Only if the key does not exist
    #[arg(long, group = "condition")]
    pub(crate) if_absent: bool,
    /// Only if the key was last changed at this revision
    #[arg(long, group = "condition", value_name = "N")]
    pub(crate) if_rev: Option<u64>,
    /// Only if this is the value now
    #[arg(long, group = "condition", value_name = "VALUE", value_parser = values::raw())]
    pub(crate) if_value: Option<Bytes>,
    /// Repeat the request of this id, as an error named it
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<RequestId>,
}

/// `del`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl del d
  kvctl del d --if-rev 17
  kvctl del --prefix app/ --yes

Deleting a key that does not exist ends with 4. Deleting a prefix asks first on a terminal, and ends
with 0 even if there was nothing to delete.")]
pub(crate) struct DelArgs {
    /// The key
    #[arg(
        value_parser = values::raw(),
        add = ArgValueCompleter::new(completion::keys),
        required_unless_present = "prefix",
        conflicts_with = "prefix"
    )]
    pub(crate) key: Option<Bytes>,
    /// All keys that begin with this
    #[arg(long, value_parser = values::raw(), conflicts_with = "if_rev")]
    pub(crate) prefix: Option<Bytes>,
    /// Only if the key was last changed at this revision
    #[arg(long, value_name = "N")]
    pub(crate) if_rev: Option<u64>,
    /// Repeat the request of this id, as an error named it
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<RequestId>,
}

/// `cas`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  kvctl cas d 8 9                       d becomes 9 if it is 8, else this ends with 5")]
pub(crate) struct CasArgs {
    /// The key
    #[arg(value_parser = values::raw(), add = ArgValueCompleter::new(completion::keys))]
    pub(crate) key: Bytes,
    /// The value that it must have
    #[arg(value_parser = values::raw(), allow_negative_numbers = true)]
    pub(crate) old: Bytes,
    /// The value that it gets; - reads it from standard input, @FILE from a file
    #[arg(
        value_parser = values::value_source(),
        allow_negative_numbers = true,
        value_name = "NEW|-|@FILE"
    )]
    pub(crate) new: ValueSource,
    /// Repeat the request of this id, as an error named it
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<RequestId>,
}

/// `show`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl show
  kvctl show app/
  kvctl show -o jsonl > keys.jsonl")]
pub(crate) struct ShowArgs {
    /// Only keys that begin with this
    #[arg(value_parser = values::raw(), add = ArgValueCompleter::new(completion::keys))]
    pub(crate) prefix: Option<Bytes>,
}

/// `log`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl log s1
  kvctl log s1 --from 100 --limit 10
  kvctl -e 127.0.0.1:10001 log          the server at that address

Without an id it is the first server that can be reached.")]
pub(crate) struct LogArgs {
    /// The server
    #[arg(value_name = "ID", add = ArgValueCompleter::new(completion::servers))]
    pub(crate) id: Option<String>,
    /// The first index to show
    #[arg(long, value_name = "INDEX", default_value_t = 1)]
    pub(crate) from: u64,
    /// At most so many entries [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// `serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl serve --id s1 --config examples/cluster.toml
  kvctl serve --id s1                   a cluster of one on 127.0.0.1:10000, without any file
  kvctl serve --id s5 --join 127.0.0.1:10000 --addr 127.0.0.1:10004

With --join, a server with an empty directory waits to be taken into a cluster that exists, by kvctl
member add or replace; one that belongs to it already just starts, so the line can stay as it is.

The server tells its story on stderr: as text on a terminal, else as one JSON object a line.
Ctrl-C or SIGTERM ends it in good order; a second one ends it at once.")]
pub(crate) struct ServeArgs {
    /// Which server of the configuration this is
    #[arg(long, value_name = "ID", add = ArgValueCompleter::new(completion::servers))]
    pub(crate) id: String,
    /// Where its data lives [default: node.data of the configuration]
    #[arg(long, value_name = "DIR", env = "KVCTL_DATA", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
    /// Servers of the cluster to join, comma-separated or repeated
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "HOST:PORT",
        value_parser = values::endpoint
    )]
    pub(crate) join: Vec<String>,
    /// Where to listen [default: what the configuration says of this server]
    #[arg(long, value_name = "HOST:PORT", value_parser = values::endpoint, requires = "join")]
    pub(crate) addr: Option<String>,
    /// Listen beyond this machine although nothing is encrypted and nobody is authenticated
    #[arg(long)]
    pub(crate) insecure: bool,
    /// End as soon as the process of this id, which must be the parent, ends
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) exit_with: Option<u32>,
}

/// `demo`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl demo
  kvctl demo --nodes 5
  printf 'set ana 4\\nget ana\\n' | kvctl demo

The servers are real processes; their data lives in a temporary directory. At the prompt every
command of the shell works, and .help lists what can be done to the servers.")]
pub(crate) struct DemoArgs {
    /// How many servers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: u8,
}

/// What a bench does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchOperation {
    /// Writes only
    Put,
    /// Linearizable reads only
    Get,
    /// Half reads, half writes
    Mixed,
}

/// Which server a bench sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTarget {
    /// The leader
    Leader,
    /// A server that does not lead
    Follower,
    /// Whichever the client chooses
    Any,
}

/// `bench`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl bench put --clients 64 --duration 10s
  kvctl bench get --clients 256 --connections 4 --to follower
  kvctl bench put --rate 5000 -o json

Without --rate each client sends its next request when the last one is answered (closed loop). With
--rate requests start at that pace whatever the answers do (open loop), and a latency counts from
the moment at which the request was due. The keys lie under bench/ and stay.")]
pub(crate) struct BenchArgs {
    /// What to do
    #[arg(value_name = "OPERATION", value_enum)]
    pub(crate) operation: BenchOperation,
    /// How many clients
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,
    /// How many connections they share [default: one for each client, 64 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: Option<u32>,
    /// How many requests each client keeps in flight
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) pipeline: u32,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub(crate) value_size: u32,
    /// How many different keys
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keys: u64,
    /// For how long requests are started
    #[arg(long, default_value = "10s", value_parser = values::duration)]
    pub(crate) duration: Duration,
    /// Start so many requests a second, whatever the answers do
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,
    /// Where to send
    #[arg(long, value_name = "WHERE", value_enum, default_value = "any")]
    pub(crate) to: BenchTarget,
}

/// `help`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kvctl help
  kvctl help set
  kvctl help wal verify
  kvctl help exit-codes")]
pub(crate) struct HelpArgs {
    /// A command or a topic; `topics` lists the topics
    #[arg(value_name = "COMMAND|TOPIC", add = ArgValueCompleter::new(completion::topics))]
    pub(crate) topic: Vec<String>,
}

/// `completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  source <(kvctl completions bash)
  kvctl completions fish > ~/.config/fish/completions/kvctl.fish

The script asks kvctl itself, so it completes keys and server ids as well.")]
pub(crate) struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    pub(crate) shell: String,
}
