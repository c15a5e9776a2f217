//! Hunting bugs: first the product as it is must pass everything, then each bug must be noticed.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use super::Trouble;
use super::catcher::{Catch, Catcher, Seeds};
use super::patch::Bug;
use super::tree::Tree;

/// Within so many seconds of processor time a bug must be noticed. Building does not count.
pub const LIMIT: f64 = 60.0;

/// So many of them are the simulator's, where another catcher comes after it.
const SIMULATOR_SHARE: f64 = 35.0;

/// For so long each catcher looks at the product as it is.
pub const CONTROL_LIMIT: f64 = 90.0;

/// Seeds of the simulator that the product passes before anything is planted, in seconds.
const CONTROL_SIMULATOR: f64 = 20.0;

/// How the hunt for one bug ended.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The bug.
    pub bug: Bug,
    /// Who noticed it, or why nothing can be said.
    pub result: Result<Option<Catch>, Trouble>,
    /// The processor time that the catchers took.
    pub cpu_seconds: f64,
    /// How many seeds went well before.
    pub seeds: u64,
}

impl Hunt {
    /// Whether it ended as it must.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        matches!(self.result, Ok(Some(_)))
    }
}

/// A seed from which nobody has begun before. Seeds are counted up from it.
#[must_use]
pub fn fresh_seed() -> u64 {
    // A number that people can still read out to each other.
    RandomState::new().hash_one("seed") >> 24
}

/// Has the product as it is looked at by every catcher that will look for one of the bugs.
///
/// # Errors
/// It does not pass: then nothing that is noticed afterwards says anything about the bugs.
pub fn control(tree: &Tree, bugs: &[Bug], first: u64) -> Result<Vec<(Catcher, f64)>, Trouble> {
    tree.restore()?;
    let catchers: BTreeSet<Catcher> = bugs.iter().flat_map(Catcher::of).copied().collect();
    let mut passed = Vec::new();
    for catcher in catchers {
        let limit = if catcher == Catcher::Simulator { CONTROL_SIMULATOR } else { CONTROL_LIMIT };
        let turn = catcher.run(tree, Seeds { first, without: None }, limit)?;
        if let Some(Catch { what, seed, .. }) = turn.catch {
            let seed = seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
            let why = format!("{catcher}: {what}{seed}; nothing it says of bugs would count");
            return Err(Trouble::new("the product as it is does not pass", why));
        }
        passed.push((catcher, turn.cpu_seconds));
    }
    Ok(passed)
}

/// Plants a bug and has it looked for.
#[must_use]
pub fn hunt(tree: &Tree, bug: &Bug, first: u64) -> Hunt {
    let mut hunt = Hunt { bug: bug.clone(), result: Ok(None), cpu_seconds: 0.0, seeds: 0 };
    hunt.result = look(tree, &mut hunt, first);
    hunt
}

fn look(tree: &Tree, hunt: &mut Hunt, first: u64) -> Result<Option<Catch>, Trouble> {
    tree.plant(&hunt.bug)?;
    let catchers = Catcher::of(&hunt.bug);
    for (number, catcher) in catchers.iter().enumerate() {
        let left = LIMIT - hunt.cpu_seconds;
        let is_last = number + 1 == catchers.len();
        let limit = if is_last { left } else { left.min(SIMULATOR_SHARE) };
        let turn = catcher.run(tree, Seeds { first, without: None }, limit)?;
        hunt.cpu_seconds += turn.cpu_seconds;
        hunt.seeds += turn.seeds;
        if turn.catch.is_some() {
            return Ok(turn.catch);
        }
    }
    Ok(None)
}

/// Chooses a few bugs by a text, such as the hash of a commit: the same ones for the same text.
#[must_use]
pub fn choose(bugs: Vec<Bug>, count: usize, by: &str) -> Vec<Bug> {
    let rank = |bug: &Bug| crc32fast::hash(format!("{by} {}", bug.name).as_bytes());
    // One that nothing can notice yet would say nothing about this commit.
    let mut chosen: Vec<Bug> = bugs.into_iter().filter(|bug| bug.needs.is_none()).collect();
    chosen.sort_by_key(rank);
    chosen.truncate(count);
    chosen.sort_by(|one, other| one.name.cmp(&other.name));
    chosen
}
