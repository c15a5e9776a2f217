//! Bugs on purpose: patches under `tests/bugs/` that break the product, each of which the tests
//! must notice. They are what tells a simulator that finds nothing from a product in which there is
//! nothing to be found.
//!
//! `patch` reads a patch and what its head says of it, `tree` puts it into a copy of the
//! repository, `catcher` runs what may notice it, `process` counts what that costs, and `report`
//! tells how it ended. `hunt` ties them together. Whether each invariant is needed is shown by
//! `proof`.

pub mod catcher;
pub mod hunt;
pub mod patch;
mod process;
pub mod proof;
pub mod report;
pub mod tree;

use std::fmt;

/// Something without which nothing can be said about a bug: it does not apply, or does not build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble(pub String);

impl Trouble {
    /// Of an operation on something, for a reason.
    fn new(what: impl fmt::Display, why: impl fmt::Display) -> Trouble {
        Trouble(format!("{what}: {why}"))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}
