//! That a run repeats: two runs of one seed must be alike, event by event, on any machine and
//! however they were built.

use std::fmt;

use super::run::{Failure, Outcome};

/// The first of many seeds, for a text such as the hash of a commit. The same one for the same
/// text, short enough that people can read it out to each other.
#[must_use]
pub fn seed_of(text: &str) -> u64 {
    u64::from(crc32fast::hash(text.as_bytes()))
}

/// What comparing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    seeds: u64,
    /// In this number every event of all runs counts.
    hash: u64,
    /// Seeds whose two runs differ.
    differ: Vec<u64>,
}

impl Comparison {
    /// Compares two runs of a seed.
    pub fn compare(
        &mut self,
        seed: u64,
        first: &Result<Outcome, Failure>,
        second: &Result<Outcome, Failure>,
    ) {
        let hash = |result: &Result<Outcome, Failure>| match result {
            Ok(outcome) => outcome.trace_hash,
            Err(failure) => failure.trace_hash,
        };
        let is_alike = match (first, second) {
            (Ok(first), Ok(second)) => first == second,
            (Err(first), Err(second)) => {
                first.broken == second.broken && first.trace_hash == second.trace_hash
            }
            _ => false,
        };
        if !is_alike {
            self.differ.push(seed);
        }
        self.seeds += 1;
        self.hash = (self.hash.rotate_left(7) ^ hash(first)).wrapping_mul(0x0517_cc1b_7272_2095);
    }

    /// Whether all pairs were alike.
    #[must_use]
    pub fn is_alike(&self) -> bool {
        self.differ.is_empty()
    }

    /// What all runs together come to; the same wherever the same sources run the same seeds.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { seeds, hash, differ } = self;
        match differ.is_empty() {
            true => write!(formatter, "{seeds} seeds twice, all alike: {hash:016x}"),
            false => write!(formatter, "of {seeds} seeds these differ from themselves: {differ:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Switches;
    use crate::sim::script::Script;
    use crate::sim::{Allowed, Watch, run_script};

    /// More of them, in every kind of build, are compared by `sim --twice --seeds 200`.
    #[test]
    fn a_run_repeats_event_by_event_watched_or_not() {
        let mut comparison = Comparison::default();
        for seed in 1..=20 {
            let script = Script::draw(seed, &Allowed::ALL);
            let run = |watch| run_script(&script, Switches::default(), watch);
            comparison.compare(seed, &run(Watch::Nothing), &run(Watch::Course));
        }
        assert!(comparison.is_alike(), "{comparison}");
    }

    #[test]
    fn runs_that_differ_are_named() {
        let mut comparison = Comparison::default();
        let one = Outcome { trace_hash: 1, ..Outcome::default() };
        let other = Outcome { trace_hash: 2, ..Outcome::default() };
        comparison.compare(7, &Ok(one.clone()), &Ok(one.clone()));
        assert!(comparison.is_alike());
        comparison.compare(8, &Ok(one), &Ok(other));
        assert!(!comparison.is_alike() && comparison.to_string().contains("[8]"));
    }

    #[test]
    fn a_text_names_a_seed() {
        assert_eq!(seed_of("a commit"), seed_of("a commit"));
        assert_ne!(seed_of("a commit"), seed_of("another"));
    }
}
