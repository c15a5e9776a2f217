//! What judges a run: invariants that hold after every event, one file for each, and the history
//! of what clients were told. None of them knows how a run comes about; they see what an omniscient
//! observer sees.

pub mod agreement;
pub mod committed;
pub mod configurations;
pub mod damage;
pub mod durability;
pub mod durable_prefix;
pub mod elections;
pub mod leaders;
pub mod linearizability;
pub mod log_matching;
pub mod progress;
pub mod refusals;
pub mod retirement;
pub mod transfers;

use std::collections::BTreeSet;
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

/// Which invariants count. All do, unless somebody wants to see what escapes without one of them.
#[derive(Clone, Debug, Default)]
pub struct Switches {
    off: BTreeSet<String>,
}

impl Switches {
    /// All invariants count but those of these names.
    pub fn without(names: impl IntoIterator<Item = String>) -> Switches {
        Switches { off: names.into_iter().collect() }
    }

    /// Lets go of an invariant that is switched off.
    ///
    /// # Errors
    /// One that counts is broken.
    pub fn judge(&self, result: Result<(), Broken>) -> Result<(), Broken> {
        result.or_else(|broken| match self.off.contains(broken.invariant) {
            true => Ok(()),
            false => Err(broken),
        })
    }
}
