//! What happened, for three readers: a number in which every event counts, so that two runs can be
//! compared, and, when a run is watched, lines for people and marks for a diagram.

use std::collections::VecDeque;
use std::fmt;

use super::agenda::Moment;
use super::course::Strike;
use super::diagram::{Diagram, Lifeline, Mark, What};
use super::network::Path;
use super::plan::SERVERS_MAX;

/// Lines kept of a run that is watched.
const LINES_MAX: usize = 60;

/// Marks kept of a run that is watched.
const MARKS_MAX: usize = 20_000;

pub(super) struct Trace {
    hash: u64,
    events: u64,
    watched: Option<Watched>,
}

/// What is kept of a run that is watched.
#[derive(Default)]
struct Watched {
    lines: VecDeque<String>,
    marks: VecDeque<Mark>,
    lifelines: [Lifeline; SERVERS_MAX],
}

impl Trace {
    pub(super) fn new(is_watched: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, watched: is_watched.then(Default::default) }
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

    pub(super) fn is_watched(&self) -> bool {
        self.watched.is_some()
    }

    /// Tells something, if anybody watches.
    pub(super) fn tell(&mut self, now: Moment, line: impl FnOnce() -> String) {
        if let Some(Watched { lines, .. }) = &mut self.watched {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(format!("{:>12} us  {}", now.0, line()));
        }
    }

    /// From now on servers are drawn like this.
    pub(super) fn set_lifelines(&mut self, lifelines: [Lifeline; SERVERS_MAX]) {
        if let Some(watched) = &mut self.watched {
            watched.lifelines = lifelines;
        }
    }

    /// Marks something in the diagram, if anybody watches.
    pub(super) fn mark(&mut self, now: Moment, what: impl FnOnce() -> What) {
        if let Some(Watched { marks, lifelines, .. }) = &mut self.watched {
            if marks.len() == MARKS_MAX {
                marks.pop_front();
            }
            marks.push_back(Mark { at: now.0, what: what(), lifelines: *lifelines });
        }
    }

    /// A fault has struck, or made no difference at once.
    pub(super) fn note_strike(&mut self, now: Moment, strike: &Strike, has_fired: bool) {
        self.mark(now, || What::fault(strike, has_fired));
    }

    /// A frame is lost, late, or sent twice.
    pub(super) fn note_fates(
        &mut self,
        now: Moment,
        (from, to): Path,
        name: &'static str,
        fates: [Option<u64>; 2],
    ) {
        let fate = match fates {
            [None, None] => "lost",
            [Some(_), Some(_)] => "sent twice",
            _ => "late",
        };
        self.mark(now, || What::Frame {
            from,
            to,
            arrives: false,
            is_dull: false,
            note: format!("{name} is {fate}"),
        });
    }

    /// What was marked last, for so many servers.
    pub(super) fn diagram(&self, servers: usize) -> String {
        match &self.watched {
            Some(Watched { marks, .. }) => Diagram { servers, marks }.to_string(),
            None => String::new(),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.watched.iter().flat_map(|watched| &watched.lines);
        lines.into_iter().try_for_each(|line| writeln!(formatter, "{line}"))
    }
}
