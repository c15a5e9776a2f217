//! Loads a system with requests of so many clients and prints what it did. Every system is driven
//! by the same program in the same way: one thread, a connection for each client, a task for each
//! request that is under way. What differs is the protocol.

mod etcd;
mod kvctl;
mod nats;
mod pipe;
mod redis;
mod system;
mod work;
mod zookeeper;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use load::{Load, Result};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::system::{System, Target};

/// Loads a system and prints what it did, as JSON.
#[derive(Debug, Parser)]
#[command(name = "drive")]
struct Arguments {
    /// Which protocol to speak.
    #[arg(long)]
    system: Name,

    /// Where its servers listen.
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,

    /// Which of them to ask.
    #[arg(long, default_value = "leader")]
    to: Target,

    #[command(subcommand)]
    task: Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    Etcd,
    /// Ours, and the floor, which speaks as much of our protocol as it must.
    Kvctl,
    Nats,
    Redis,
    Zookeeper,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Say which servers would be asked.
    Find,
    /// Wait until the system works, and give every key a value.
    Prepare,
    /// Measure.
    Run(Load),
    /// Write some keys and read them back, and look at a tenth of all.
    Check,
}

async fn carry_out<S: System>(arguments: &Arguments) -> Result<String> {
    let Arguments { endpoints, to, task, .. } = arguments;
    Ok(match task {
        Task::Find => serde_json::to_string(&to.find::<S>(endpoints).await?)?,
        Task::Prepare => serde_json::to_string(&work::prepare::<S>(endpoints, *to).await?)?,
        Task::Run(load) => serde_json::to_string(&work::run::<S>(endpoints, *to, load).await?)?,
        Task::Check => serde_json::to_string(&work::check::<S>(endpoints, *to).await?)?,
    })
}

fn run(arguments: &Arguments) -> Result<String> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        match arguments.system {
            Name::Etcd => carry_out::<etcd::Etcd>(arguments).await,
            Name::Kvctl => carry_out::<kvctl::Kvctl>(arguments).await,
            Name::Nats => carry_out::<nats::Nats>(arguments).await,
            Name::Redis => carry_out::<redis::Redis>(arguments).await,
            Name::Zookeeper => carry_out::<zookeeper::Zookeeper>(arguments).await,
        }
    })
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("drive: {error}");
            ExitCode::FAILURE
        }
    }
}
