//! What is told of damaged entries, and of how they come back.

use std::fmt;
use std::time::Duration;

use raft::node::DamageEvent;

use super::{Field, Names, milliseconds};

pub(super) fn name(event: &DamageEvent) -> &'static str {
    match event {
        DamageEvent::Found { .. } => "damaged",
        DamageEvent::Repaired { .. } => "repaired",
        DamageEvent::NobodyHasIt { .. } => "irreparable",
    }
}

pub(super) fn fields(event: &DamageEvent, tick: Duration) -> Vec<(&'static str, Field)> {
    match event {
        DamageEvent::Found { entries, first, last, asked } => vec![
            ("entries", (*entries).into()),
            ("first", first.0.into()),
            ("last", last.0.into()),
            ("asked", asked.as_slice().into()),
        ],
        DamageEvent::Repaired { entries, from, left, ticks } => vec![
            ("entries", (*entries).into()),
            ("from", (*from).into()),
            ("left", (*left).into()),
            ("took_ms", milliseconds(tick * *ticks).into()),
        ],
        DamageEvent::NobodyHasIt { entries, first } => {
            vec![("entries", (*entries).into()), ("first", first.0.into())]
        }
    }
}

pub(super) fn tell(f: &mut fmt::Formatter<'_>, event: &DamageEvent, tick: Duration) -> fmt::Result {
    match event {
        DamageEvent::Found { entries, first, last, asked } => write!(
            f,
            "damaged     {entries} of entries {first}..{last}; asking {} for them",
            Names(asked)
        ),
        DamageEvent::Repaired { entries, from, left: 0, ticks } => {
            let took = milliseconds(tick * *ticks);
            write!(f, "repaired    {entries} entries from {from} in {took} ms")
        }
        DamageEvent::Repaired { entries, from, left, .. } => {
            write!(f, "repaired    {entries} entries from {from}, {left} are still damaged")
        }
        DamageEvent::NobodyHasIt { entries, first } => write!(
            f,
            "irreparable {entries} entries from {first} on are damaged, and nobody who answered \
             has them; asking again (if none ever will: kvctl help recovery)"
        ),
    }
}
