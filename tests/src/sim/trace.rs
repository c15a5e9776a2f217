//! What happened, for two readers: a number in which every event counts, so that two runs can be
//! compared, and, when a run is watched, lines for people.

use std::fmt;

use super::agenda::Moment;

/// Lines kept of a run that is watched.
const LINES_MAX: usize = 400;

pub(super) struct Trace {
    hash: u64,
    events: u64,
    lines: Option<std::collections::VecDeque<String>>,
}

impl Trace {
    pub(super) fn new(is_watched: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: is_watched.then(Default::default) }
    }

    /// Counts something in.
    pub(super) fn note(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x0517_cc1b_7272_2095);
        }
    }

    /// An input was handed to a replica, or its disk completed something.
    pub(super) fn count_event(&mut self) {
        self.events += 1;
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Tells something, if anybody watches.
    pub(super) fn tell(&mut self, now: Moment, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(format!("{:>12} us  {}", now.0, line()));
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().flatten().try_for_each(|line| writeln!(formatter, "{line}"))
    }
}
