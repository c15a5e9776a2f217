//! The least that a machine must do for the work of a replicated store, without any of its
//! promises: no log, no terms, no votes, no state. Three processes of one thread each; the one that
//! clients talk to passes the bytes of their writes on to two others, all three write and sync
//! them, and clients are answered when two of the three have. What is asked while a sync runs
//! shares the next one. Reads are answered at once with a constant.
//!
//! It speaks as much of our protocol as it must for our client library to be content, so that the
//! same load can be put on it; and it has a client that is as bare as itself, which can be put on
//! our servers in turn. What lies between is what a store costs, and what a client library costs.

mod client;
mod connection;
mod file;
mod follower;
mod frames;
mod leader;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use load::{Load, Result};

/// Writes without a store: what a machine can do at most.
#[derive(Debug, Parser)]
#[command(name = "floor")]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Answer clients, once one follower and this process have written and synced.
    Lead {
        /// Where clients connect to.
        #[arg(long)]
        listen: SocketAddrV4,
        /// Where the others listen, if there are any.
        #[arg(long, value_delimiter = ',')]
        followers: Vec<SocketAddrV4>,
        /// What to write to; it is filled with zeros first.
        #[arg(long)]
        file: PathBuf,
    },
    /// Write and sync what the leader sends.
    Follow {
        /// Where the leader connects to.
        #[arg(long)]
        listen: SocketAddrV4,
        /// What to write to; it is filled with zeros first.
        #[arg(long)]
        file: PathBuf,
    },
    /// Ask for something in a closed loop, on one thread, and print what came of it as JSON.
    Ask {
        /// Who is asked.
        #[arg(long)]
        endpoint: SocketAddrV4,
        #[command(flatten)]
        load: Load,
    },
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.part {
        Part::Lead { listen, followers, file } => leader::run(listen, &followers, &file),
        Part::Follow { listen, file } => follower::run(listen, &file),
        Part::Ask { endpoint, load } => {
            let report = client::run(endpoint, &load)?;
            println!("{}", serde_json::to_string(&report)?);
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}
