//! The checkers are tested too: for each invariant there is a bug that is not noticed without it,
//! or only later and by another one.

use std::collections::BTreeSet;

use super::Trouble;
use super::catcher::{Catch, Catcher, Seeds};
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

/// A seed at which this very invariant is what notices the bug.
fn find(tree: &Tree, bug: &Bug, invariant: &str, first: u64) -> Result<u64, Trouble> {
    let (mut first, mut left, mut others) = (first, LIMIT, BTreeSet::new());
    while left > 0.0 {
        let turn = Catcher::Simulator.run(tree, Seeds { first, without: None }, left)?;
        left -= turn.cpu_seconds;
        let Some(Catch { what, seed: Some(seed), .. }) = turn.catch else { break };
        if what == invariant {
            return Ok(seed);
        }
        others.insert(what);
        first = seed + 1;
    }
    Err(Trouble::new(&bug.name, format!("{invariant} never notices it, but {others:?}")))
}

/// Shows what the invariant is good for that `bug` is about; `None` if it is about none.
///
/// # Errors
/// The invariant never is what notices the bug.
pub fn prove(tree: &Tree, bug: &Bug, first: u64) -> Result<Option<Proof>, Trouble> {
    let Some(invariant) = &bug.proves else { return Ok(None) };
    tree.plant(bug)?;
    let seed = find(tree, bug, invariant, first)?;
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
