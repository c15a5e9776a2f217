//! What many runs came to together.

use std::collections::BTreeMap;
use std::fmt;

use super::run::{Failure, Outcome};

/// Sums over many runs.
#[derive(Clone, Debug)]
pub struct Report {
    seeds: u64,
    failures: Vec<Failure>,
    sum: Outcome,
    cpu_at_begin: f64,
}

/// Processor time of this process so far, in seconds.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

fn add_all(sum: &mut BTreeMap<&'static str, u64>, more: &BTreeMap<&'static str, u64>) {
    for (name, count) in more {
        *sum.entry(name).or_default() += count;
    }
}

impl Report {
    /// Of runs that begin now.
    pub fn begin() -> Report {
        Report {
            seeds: 0,
            failures: Vec::new(),
            sum: Outcome::default(),
            cpu_at_begin: cpu_seconds(),
        }
    }

    /// Processor time since these runs began, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds() - self.cpu_at_begin
    }

    /// A run went well.
    pub fn add(&mut self, outcome: &Outcome) {
        let Report { seeds, sum, .. } = self;
        *seeds += 1;
        sum.events += outcome.events;
        sum.simulated_micros += outcome.simulated_micros;
        sum.answered += outcome.answered;
        sum.unknown += outcome.unknown;
        sum.refused += outcome.refused;
        add_all(&mut sum.faults, &outcome.faults);
        add_all(&mut sum.checks, &outcome.checks);
    }

    /// A run failed.
    pub fn add_failure(&mut self, failure: Failure) {
        self.seeds += 1;
        self.failures.push(failure);
    }

    /// Whether any run failed.
    pub fn has_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// One object.
    pub fn to_json(&self) -> serde_json::Value {
        let Report { seeds, failures, sum, .. } = self;
        let cpu_seconds = self.cpu_seconds();
        let failed: Vec<_> = failures.iter().map(|failure| {
            let Failure { seed, broken, .. } = failure;
            serde_json::json!({ "seed": seed, "invariant": broken.invariant, "what": broken.what })
        }).collect();
        serde_json::json!({
            "seeds": seeds,
            "failed": failures.len(),
            "failures": failed,
            "events": sum.events,
            "events_per_sec": sum.events as f64 / cpu_seconds,
            "simulated_hours": sum.simulated_micros as f64 / 3.6e9,
            "cpu_seconds": cpu_seconds,
            "faults": sum.faults,
            "checks": sum.checks,
            "operations": sum.answered + sum.unknown + sum.refused,
            "unknown": sum.unknown,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = self.to_json();
        // What failed was told with its story.
        let fields = json.as_object().into_iter().flatten().filter(|(name, _)| *name != "failures");
        for (name, value) in fields {
            writeln!(formatter, "{name:<16} {value}")?;
        }
        Ok(())
    }
}
