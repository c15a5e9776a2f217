//! What the programs that load a cluster have in common: the work and its keys, when requests
//! start, and what is reported. The comparison starts a program for each measurement and reads its
//! report, one JSON object, from its standard output.

mod cpu;
mod keys;
mod pace;
mod report;

pub use cpu::{cpu_time, resident_bytes};
pub use keys::{KEYS, SplitMix, VALUE_BYTES, is_value_of, value};
pub use pace::Pace;
pub use report::{Checked, Report, Tally};

use std::time::Duration;

use clap::{Args, ValueEnum};

/// What can go wrong in a load program: anything, and it ends the program.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a step of a load program.
pub type Result<T> = std::result::Result<T, Error>;

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// Give a key a value.
    Put,
    /// Read a key, linearizably or as close to it as the system can.
    Get,
    /// Nine reads for each write.
    Mixed,
}

impl Operation {
    /// Whether the next request writes.
    pub fn writes(self, random: &mut SplitMix) -> bool {
        match self {
            Operation::Put => true,
            Operation::Get => false,
            Operation::Mixed => random.next().is_multiple_of(10),
        }
    }
}

/// The arguments of a measurement, the same for every load program.
#[derive(Args, Clone, Copy, Debug)]
pub struct Load {
    /// What to ask for.
    #[arg(long, default_value = "put")]
    pub operation: Operation,
    /// How many clients, each with a connection of its own.
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// How many requests each client has under way.
    #[arg(long, default_value_t = 1)]
    pub pipeline: usize,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// How long to run before anything is measured, in seconds.
    #[arg(long, default_value_t = 0.4)]
    pub warm_up: f64,
    /// How many requests are due in a second, whatever the answers do; without it each request
    /// starts when the one before is answered.
    #[arg(long)]
    pub rate: Option<u64>,
}

impl Load {
    /// How long to measure.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How long to run before.
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }
}
