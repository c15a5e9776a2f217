//! The checkers are tested too: for each invariant there is a bug that is not noticed without it,
//! or only later and by another one.

use super::Trouble;
use super::catcher::{Catcher, Seeds};
use super::hunt::LIMIT;
use super::patch::Bug;
use super::tree::Tree;

/// Seeds are run without the invariant for so many seconds.
const WITHOUT_LIMIT: f64 = 20.0;

/// What one invariant is good for.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The invariant.
    pub invariant: String,
    /// The bug that shows it.
    pub bug: String,
    /// The seed at which it is noticed by this invariant.
    pub seed: u64,
    /// What notices it without the invariant, from that seed on; `None` if nothing does.
    pub instead: Option<(String, Option<u64>)>,
    /// How many seeds went well without the invariant.
    pub escaped: u64,
}

/// Shows what the invariant is good for that `bug` is about; `None` if it is about none.
///
/// # Errors
/// With the invariant the bug is noticed by another one, or not at all.
pub fn prove(tree: &Tree, bug: &Bug, first: u64) -> Result<Option<Proof>, Trouble> {
    let Some(invariant) = &bug.proves else { return Ok(None) };
    tree.plant(bug)?;
    let with = Catcher::Simulator.run(tree, Seeds { first, without: None }, LIMIT)?;
    let catch = with.catch.ok_or_else(|| Trouble::new(&bug.name, "it is not noticed"))?;
    if catch.what != *invariant {
        let why = format!("{} notices it, not {invariant} (seed {:?})", catch.what, catch.seed);
        return Err(Trouble::new(&bug.name, why));
    }
    let seed = catch.seed.unwrap_or(first);
    let seeds = Seeds { first: seed, without: Some(invariant) };
    let without = Catcher::Simulator.run(tree, seeds, WITHOUT_LIMIT)?;
    Ok(Some(Proof {
        invariant: invariant.clone(),
        bug: bug.name.clone(),
        seed,
        instead: without.catch.map(|catch| (catch.what, catch.seed)),
        escaped: without.seeds,
    }))
}
