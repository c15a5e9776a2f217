//! One run, from its seed to its verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::check::{Broken, Switches};

use super::agenda::Moment;
use super::course::Record;
use super::diagram::What;
use super::plan::{Allowed, FaultKind};
use super::script::Script;
use super::world::World;

/// What is kept of a run, beside what it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Its story, and its course: at some cost.
    Story,
    /// Its course: what clients wanted, and which frames met with a mishap.
    Course,
    /// Nothing.
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
    pub story: Box<str>,
    /// The same, drawn.
    pub diagram: Box<str>,
    /// When it failed, in microseconds of its own time.
    pub at_micros: u64,
    /// Inputs handed to replicas until then, and completions of their disks.
    pub events: u64,
    /// In this number every event until then counts.
    pub trace_hash: u64,
    pub(super) course: Box<Record>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, broken, story, diagram, at_micros, .. } = self;
        if !story.is_empty() {
            writeln!(formatter, "the last events:\n{story}\nthe end as a diagram:\n{diagram}")?;
        }
        write!(formatter, "seed {seed} fails at {at_micros} us: {broken}")
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
    run_script(&Script::draw(seed, allowed), switches, watch)
}

/// Runs a script.
///
/// # Errors
/// An invariant that counts did not hold, or the cluster did not come to rest.
pub fn run_script(script: &Script, switches: Switches, watch: Watch) -> Result<Outcome, Failure> {
    let (result, world) = run_world(script, switches, watch);
    let broken = match result {
        Ok(()) => return Ok(world.outcome()),
        Err(broken) => broken,
    };
    Err(Failure {
        seed: script.seed,
        broken,
        story: world.trace.to_string().into(),
        diagram: world.trace.diagram(world.servers.len()).into(),
        at_micros: world.now().0,
        events: world.trace.events(),
        trace_hash: world.trace.hash(),
        course: Box::new(world.course.record.unwrap_or_default()),
    })
}

/// The end of a run as a diagram, whether it fails or not.
#[must_use]
pub fn draw(script: &Script, switches: Switches) -> String {
    let (_, world) = run_world(script, switches, Watch::Story);
    world.trace.diagram(world.servers.len())
}

fn run_world(script: &Script, switches: Switches, watch: Watch) -> (Result<(), Broken>, World) {
    let mut world = World::new(script, watch);
    world.checks.switches = switches;
    world.checks.looks_closely = script.plan.looks_closely;
    let result = catch_unwind(AssertUnwindSafe(|| world.live()));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_string()));
        Err(Broken::new("no panic", text.unwrap_or_default()))
    });
    if let Err(broken) = &result {
        let (now, note) = (world.now(), format!("BROKEN {broken}"));
        world.trace.mark(now, || What::World { is_grave: true, note });
    }
    (result, world)
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

    /// Whatever was drawn while a run went on can be written down, read, and run again.
    #[test]
    fn a_script_repeats_what_was_drawn() {
        for seed in 1..=6 {
            let drawn = Script::draw(seed, &Allowed::ALL);
            let (result, world) = run_world(&drawn, Switches::default(), Watch::Course);
            result.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            let record = world.course.record.clone().expect("it was recorded");
            assert!(!record.wishes.is_empty(), "seed {seed}");
            let (wishes, mishaps) = (Some(record.wishes), Some(record.mishaps));
            let text = Script { wishes, mishaps, ..drawn }.to_string();
            let script = Script::parse(&text).unwrap_or_else(|why| panic!("{why}"));
            let (result, again) = run_world(&script, Switches::default(), Watch::Nothing);
            result.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            assert_eq!(again.trace.hash(), world.trace.hash(), "seed {seed}");
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
