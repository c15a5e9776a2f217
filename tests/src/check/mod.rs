//! What judges a run: invariants that hold after every event, one file for each, and the history
//! of what clients were told. None of them knows how a run comes about; they see what an omniscient
//! observer sees.

pub mod agreement;
pub mod committed;
pub mod configurations;
pub mod durability;
pub mod durable_prefix;
pub mod elections;
pub mod leaders;
pub mod linearizability;
pub mod log_matching;
pub mod progress;

use std::fmt;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The invariant's name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Broken {
    /// It was seen that `what`.
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Broken {
        Broken { invariant, what: what.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.invariant, self.what)
    }
}
