//! What must hold in every state of every schedule (dissertation, figure 3.2), each by its name
//! there, and what some schedule must reach, lest the search prove something about nothing.

use std::sync::Arc;

use raft::node::{Entry, EntryKind, RoleName};
use stateright::Property;

use super::server::Server;
use super::{Schedules, World};

pub(super) fn all() -> Vec<Property<Schedules>> {
    vec![
        Property::always("election safety", |_, world: &World| {
            world.leaders.values().all(|leaders| leaders.len() == 1)
        }),
        Property::always("log matching", |_, world: &World| pairs(world, logs_match)),
        Property::always("leader completeness", leaders_are_complete),
        Property::always("state machine safety", |_, world: &World| !world.is_forked),
        Property::always("committed is durable on a majority", committed_is_durable),
        Property::sometimes("a leader is elected", |_, world: &World| !world.leaders.is_empty()),
        Property::sometimes("a command is committed", |model: &Schedules, world: &World| {
            let is_command = |entry: &Entry| entry.kind == EntryKind::Command;
            model.scope.proposals == 0 || world.committed.iter().any(is_command)
        }),
        Property::sometimes("two terms have leaders", |model: &Schedules, world: &World| {
            model.scope.terms.min(model.scope.timeouts) < 2 || world.leaders.len() >= 2
        }),
        Property::sometimes("all know that something is committed", |_, world: &World| {
            world.servers.values().all(|server| !server.committed().is_empty())
        }),
    ]
}

fn pairs(world: &World, holds: fn(&Server, &Server) -> bool) -> bool {
    let servers: Vec<&Server> = world.servers.values().map(AsRef::as_ref).collect();
    servers.iter().all(|one| servers.iter().all(|other| holds(one, other)))
}

/// If two logs hold an entry with the same index and term, they are the same up to it.
fn logs_match(one: &Server, other: &Server) -> bool {
    let same_position = |(left, right): (&Entry, &Entry)| left.position() == right.position();
    let common = one.log().iter().zip(other.log()).rposition(same_position);
    common.is_none_or(|last| {
        one.log().iter().zip(other.log()).take(last + 1).all(|(left, right)| left == right)
    })
}

/// A leader's log holds everything that was committed when it was elected; and, since it leads in
/// the latest term that anybody has led in, everything that is committed now.
fn leaders_are_complete(_: &Schedules, world: &World) -> bool {
    let Some((latest, _)) = world.leaders.last_key_value() else { return true };
    let leads = |server: &&Arc<Server>| {
        let role = server.node().map(raft::node::Node::role);
        role == Some(RoleName::Leader) && server.term() == *latest
    };
    world.servers.values().filter(leads).all(|leader| leader.log().starts_with(&world.committed))
}

/// Whoever looks at the disks alone finds every committed entry on more than half of them.
fn committed_is_durable(_: &Schedules, world: &World) -> bool {
    let holders =
        world.servers.values().filter(|server| server.durable().starts_with(&world.committed));
    2 * holders.count() > world.servers.len()
}
