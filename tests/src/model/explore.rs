//! Runs a search and says what it covered, in numbers, and whether it was complete.

use std::fmt;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use super::{Schedules, Scope};

/// How long a search may take.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// Until everything was seen.
    Endless,
    /// Until then, or until everything was seen.
    AtMost(Duration),
}

/// When a search that finds a broken property ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As any other: each property shall be told apart.
    SearchesOn,
    /// At once.
    Ends,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How far it was to go.
    pub scope: Scope,
    /// Different states that were seen.
    pub states: usize,
    /// Different states of single servers among them.
    pub servers: usize,
    /// Steps that were taken, also those that led to a state seen before.
    pub steps: usize,
    /// The longest schedule.
    pub depth: usize,
    /// Whether nothing within the scope was left out.
    pub is_complete: bool,
    /// Properties that do not hold, each with a schedule that shows it; and properties that no
    /// schedule reached.
    pub failures: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, states, servers, steps, depth, is_complete, took, .. } = self;
        let complete = if *is_complete { "complete" } else { "CUT SHORT, not exhaustive" };
        write!(
            f,
            "{scope}: {states} states (of single servers {servers}), {steps} steps, depth {depth}, \
             {complete}, in {:.1} s",
            took.as_secs_f64()
        )
    }
}

/// Goes through every schedule within `scope`, as far as `patience` allows.
#[must_use]
pub fn explore(scope: Scope, patience: Patience) -> Answer {
    explore_until(scope, patience, Finding::SearchesOn)
}

/// As [`explore`], ending with the first broken property if `finding` says so.
#[must_use]
pub fn explore_until(scope: Scope, patience: Patience, finding: Finding) -> Answer {
    let begun = Instant::now();
    let threads = available_parallelism().map_or(1, usize::from);
    let mut builder = Schedules::within(scope).checker().threads(threads);
    if let Patience::AtMost(limit) = patience {
        builder = builder.timeout(limit);
    }
    if finding == Finding::Ends {
        builder = builder.finish_when(HasDiscoveries::AnyFailures);
    }
    let checker = builder.spawn_bfs().join();
    let properties = checker.model().properties();
    let discoveries = checker.discoveries();
    let is_complete = checker.is_done()
        && !matches!(patience, Patience::AtMost(limit) if begun.elapsed() >= limit);
    let mut failures = Vec::new();
    for property in properties {
        let discovery = discoveries.get(property.name);
        let is_sought = property.expectation == stateright::Expectation::Sometimes;
        match discovery {
            Some(schedule) if !is_sought => {
                let model = checker.model();
                let steps = schedule.clone().into_actions();
                let told: Vec<String> = steps.iter().map(|it| model.format_action(it)).collect();
                failures.push(format!("{} is broken:\n  {}", property.name, told.join("\n  ")));
            }
            None if is_sought && is_complete => {
                failures.push(format!("no schedule reaches: {}", property.name));
            }
            _ => {}
        }
    }
    Answer {
        scope,
        states: checker.unique_state_count(),
        servers: checker.model().known.locals(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        is_complete,
        failures,
        took: begun.elapsed(),
    }
}
