//! One run, from its seed to its verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::check::{Broken, Switches};

use super::agenda::Moment;
use super::plan::{Allowed, FaultKind};
use super::world::World;

/// Whether a run tells its story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// It does, at some cost.
    Story,
    /// It only counts.
    Nothing,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Inputs handed to replicas, and completions of their disks.
    pub events: u64,
    /// How long the world lasted, in microseconds of its own time.
    pub simulated_micros: u64,
    /// How often each fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each invariant was checked.
    pub checks: BTreeMap<&'static str, u64>,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests of which nobody knows what became of them.
    pub unknown: u64,
    /// Requests of which it is known that nothing happened.
    pub refused: u64,
    /// In this number every event of the run counts.
    pub trace_hash: u64,
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that it follows from.
    pub seed: u64,
    /// What did not hold.
    pub broken: Broken,
    /// What happened last, if the run was watched.
    pub story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, broken, story } = self;
        write!(formatter, "{story}seed {seed}: {broken}")
    }
}

/// Runs the world of one seed.
///
/// # Errors
/// An invariant did not hold, or the cluster did not come to rest.
pub fn run(seed: u64, watch: Watch) -> Result<Outcome, Failure> {
    run_with(seed, &Allowed::ALL, Switches::default(), watch)
}

/// Runs the world of one seed, in which only some things go wrong, and some invariants are
/// switched off.
///
/// # Errors
/// An invariant that counts did not hold, or the cluster did not come to rest.
pub fn run_with(
    seed: u64,
    allowed: &Allowed,
    switches: Switches,
    watch: Watch,
) -> Result<Outcome, Failure> {
    let mut world = World::new(seed, allowed, watch == Watch::Story);
    world.checks.switches = switches;
    let result = catch_unwind(AssertUnwindSafe(|| world.live()));
    let broken = match result {
        Ok(Ok(())) => return Ok(world.outcome()),
        Ok(Err(broken)) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_string()));
            Broken::new("no panic", text.unwrap_or_default())
        }
    };
    Err(Failure { seed, broken, story: world.trace.to_string() })
}

impl World {
    fn live(&mut self) -> Result<(), Broken> {
        let end = Moment(self.plan.length);
        while self.now() < end {
            self.step()?;
        }
        self.end()?;
        let refused = self.checks.refusals.check(self.checks.agreement.commands());
        self.checks.switches.judge(refused)?;
        let commands = self.checks.agreement.commands();
        let judged = self.history.judge(commands);
        let judged = judged.map_err(|what| Broken::new("linearizability", what));
        self.checks.switches.judge(judged)
    }

    fn outcome(&self) -> Outcome {
        let tally = self.history.tally();
        let fault = |kind: &FaultKind| (kind.name(), self.fired.get(kind).copied().unwrap_or(0));
        let faults: BTreeMap<_, _> = FaultKind::ALL.iter().map(fault).collect();
        Outcome {
            events: self.trace.events(),
            simulated_micros: self.now().0,
            faults,
            checks: self.checks.counts().into_iter().collect(),
            answered: tally.answered,
            unknown: tally.unknown,
            refused: tally.refused,
            trace_hash: self.trace.hash(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_story_that_repeats() {
        for seed in 1..=3 {
            let first = run(seed, Watch::Nothing).unwrap_or_else(|failure| panic!("{failure}"));
            let second = run(seed, Watch::Story).unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(first, second, "seed {seed}");
        }
    }

    #[test]
    fn what_may_not_happen_does_not_and_the_rest_does() {
        let only = Allowed::only(vec![FaultKind::Kill, FaultKind::Membership]);
        let mut sum: BTreeMap<&str, u64> = BTreeMap::new();
        for seed in 1..=4 {
            let outcome = run_with(seed, &only, Switches::default(), Watch::Nothing);
            let outcome = outcome.unwrap_or_else(|failure| panic!("{failure}"));
            for (name, count) in outcome.faults {
                *sum.entry(name).or_default() += count;
            }
        }
        let struck: Vec<&str> =
            sum.iter().filter(|(_, count)| **count > 0).map(|(name, _)| *name).collect();
        // The cold start at the end cuts the power.
        let others = struck.iter().filter(|name| **name != "torn_write");
        assert_eq!(others.copied().collect::<Vec<_>>(), ["kill", "membership"]);
        assert_eq!(sum.len(), FaultKind::ALL.len());
    }
}
