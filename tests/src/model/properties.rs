//! What must hold in every state of every schedule (dissertation, figure 3.2), each by its name
//! there, and what some schedule must reach, lest the search prove something about nothing.

use raft::node::{Entry, EntryKind};
use stateright::Property;

use super::local::Local;
use super::{Schedules, World};

pub(super) fn all() -> Vec<Property<Schedules>> {
    vec![
        Property::always("election safety", |_, world: &World| {
            world.leaders.iter().all(|leaders| leaders.count_ones() <= 1)
        }),
        Property::always("log matching", |_, world: &World| pairs(world, logs_match)),
        Property::always("leader completeness", leaders_are_complete),
        Property::always("state machine safety", |_, world: &World| !world.is_forked),
        Property::always("committed is durable on a majority", committed_is_durable),
        Property::always("what is past changes nothing", |_, world: &World| !world.is_haunted),
        Property::always("no stale read", |_, world: &World| !world.is_stale),
        Property::sometimes("a leader is elected", |_, world: &World| !world.leaders.is_empty()),
        Property::sometimes("a command is committed", |model: &Schedules, world: &World| {
            let is_command = |entry: &Entry| entry.kind == EntryKind::Command;
            model.scope.proposals == 0 || world.committed.entries.iter().any(is_command)
        }),
        Property::sometimes("two terms have leaders", |model: &Schedules, world: &World| {
            model.scope.terms.min(model.scope.timeouts) < 2 || world.terms_led() >= 2
        }),
        Property::sometimes(
            "all know that something is committed",
            |model: &Schedules, world: &World| {
                // The next append tells what is committed, if there is one.
                let is_told = model.scope.proposals + model.scope.heartbeats > 0;
                !is_told || world.servers.iter().all(|local| !local.server.committed().is_empty())
            },
        ),
        Property::sometimes("a read is confirmed", |model: &Schedules, world: &World| {
            model.scope.reads == 0 || world.is_read
        }),
        Property::sometimes("a removal is committed", |model: &Schedules, world: &World| {
            let is_change = |entry: &&Entry| entry.kind == EntryKind::Configuration;
            // The founding one, the joint one, and the one without it.
            let changes = world.committed.entries.iter().filter(is_change).count();
            model.scope.changes == 0 || changes >= 3
        }),
    ]
}

impl World {
    fn terms_led(&self) -> usize {
        self.leaders.iter().filter(|leaders| **leaders != 0).count()
    }
}

fn pairs(world: &World, holds: fn(&Local, &Local) -> bool) -> bool {
    let others = |place| world.servers.iter().skip(place + 1);
    let mut each = world.servers.iter().enumerate();
    each.all(|(place, one)| others(place).all(|other| holds(one, other)))
}

/// If two logs hold an entry with the same index and term, they are the same up to it.
fn logs_match(one: &Local, other: &Local) -> bool {
    let same_position = |(left, right): (&Entry, &Entry)| left.position() == right.position();
    let common = one.log().iter().zip(other.log()).rposition(same_position);
    common.is_none_or(|last| {
        one.log().iter().zip(other.log()).take(last + 1).all(|(left, right)| left == right)
    })
}

/// A leader's log holds everything that was committed when it was elected; and, since it leads in
/// the latest term that anybody has led in, everything that is committed now.
fn leaders_are_complete(_: &Schedules, world: &World) -> bool {
    let latest = world.leaders.len() as u64;
    let leads = |local: &&&Local| local.leads() && local.term.0 + 1 == latest;
    let committed = world.committed.entries.as_slice();
    world.servers.iter().filter(leads).all(|leader| leader.log().starts_with(committed))
}

/// Whoever looks at the disks alone finds every committed entry on more than half of them.
fn committed_is_durable(_: &Schedules, world: &World) -> bool {
    let committed = world.committed.entries.as_slice();
    let holds = |local: &&&Local| local.server.durable().starts_with(committed);
    2 * world.servers.iter().filter(holds).count() > world.servers.len()
}
