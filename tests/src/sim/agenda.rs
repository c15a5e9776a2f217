//! What is going to happen, in the order of its time. What happens at the same time happens in the
//! order in which it was planned, so that a run repeats.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Add;

/// Microseconds since the world began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Moment(pub(super) u64);

impl Add<u64> for Moment {
    type Output = Moment;

    fn add(self, micros: u64) -> Moment {
        Moment(self.0.saturating_add(micros))
    }
}

pub(super) const MILLISECOND: u64 = 1000;
pub(super) const SECOND: u64 = 1000 * MILLISECOND;

pub(super) struct Agenda<E> {
    entries: BinaryHeap<Reverse<Planned<E>>>,
    planned: u64,
    now: Moment,
}

struct Planned<E> {
    at: Moment,
    number: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Planned<E> {}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> Agenda<E> {
    pub(super) fn new() -> Agenda<E> {
        Agenda { entries: BinaryHeap::new(), planned: 0, now: Moment(0) }
    }

    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// Plans something, not before now.
    pub(super) fn plan(&mut self, at: Moment, event: E) {
        self.planned += 1;
        let planned = Planned { at: at.max(self.now), number: self.planned, event };
        self.entries.push(Reverse(planned));
    }

    /// What happens next; it is now then.
    pub(super) fn take(&mut self) -> Option<E> {
        let Reverse(Planned { at, event, .. }) = self.entries.pop()?;
        self.now = at;
        Some(event)
    }
}
