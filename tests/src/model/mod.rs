//! Every schedule of a small cluster, one after another: the production node under all orders of
//! messages, losses, repetitions, timeouts, slow disks and crashes, within a stated [`Scope`].
//!
//! A simulation with a seed finds deep bugs by luck; this finds shallow ones by certainty. Within
//! its scope it leaves nothing out, and when it was cut short it says so: see [`explore`].
//!
//! The network is a set of everything that was ever said. Any of it may arrive at any time, any
//! number of times, or never, which is loss, delay, reordering and repetition in one. Time is the
//! action [`Step::Pass`]: as many ticks as it takes until the passing of time alone makes a server
//! do something.

mod explore;
mod properties;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use raft::node::{
    Boot, Config, Configuration, Entry, Envelope, Incarnation, Member, NodeId, Payload, RoleName,
    Term, Voter,
};
use stateright::{Model, Property};

pub use explore::{Answer, Patience, explore};
use server::Server;

/// How far a search goes. Every number is a limit on a whole schedule.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Servers, all of them voters.
    pub servers: u64,
    /// Terms after the founding one; schedules that would begin another are cut there.
    pub terms: u64,
    /// Commands that are proposed.
    pub proposals: u64,
    /// Times that a follower or a candidate runs out of patience.
    pub timeouts: u64,
    /// Heartbeats of leaders.
    pub heartbeats: u64,
    /// Servers that crash, losing what their disk had not completed. Each may come back.
    pub crashes: u64,
    /// When an append is on the disk.
    pub disk: Disk,
}

/// When an append is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Before anything else happens at that server.
    AtOnce,
    /// At any time later, in order.
    Later,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, terms, proposals, timeouts, heartbeats, crashes, disk } = self;
        let disk = match disk {
            Disk::AtOnce => "the disk at once",
            Disk::Later => "the disk later",
        };
        write!(
            f,
            "{servers} servers, {terms} terms, {proposals} proposals, {timeouts} timeouts, \
             {heartbeats} heartbeats, {crashes} crashes, {disk}"
        )
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A message arrives.
    Deliver(Arc<Envelope>),
    /// Time passes at a server until it does something by itself.
    Pass(NodeId),
    /// A client proposes a command to a server that leads.
    Propose(NodeId),
    /// The oldest append that a disk was given is on it.
    Complete(NodeId),
    /// A server loses all that is not on its disk.
    Crash(NodeId),
    /// It comes back.
    Restart(NodeId),
}

/// Everything that was ever said, in an order that is the same in every run.
#[derive(Clone, Debug, Default)]
struct Said {
    /// By a hash that does not change from run to run.
    envelopes: BTreeMap<u64, Arc<Envelope>>,
}

impl Said {
    fn add(&mut self, envelope: Envelope) {
        let mut hasher = DefaultHasher::new();
        envelope.hash(&mut hasher);
        self.envelopes.entry(hasher.finish()).or_insert_with(|| Arc::new(envelope));
    }
}

impl PartialEq for Said {
    fn eq(&self, other: &Self) -> bool {
        self.envelopes.keys().eq(other.envelopes.keys())
    }
}

impl Eq for Said {}

impl Hash for Said {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.envelopes.keys().for_each(|key| key.hash(state));
    }
}

/// A cluster at one moment, with the history that the properties speak of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Shared between the states that a step leaves alike.
    servers: BTreeMap<NodeId, Arc<Server>>,
    said: Said,
    /// Who led in each term.
    leaders: BTreeMap<Term, BTreeSet<NodeId>>,
    /// What was committed, as the first server to commit it had it.
    committed: Vec<Entry>,
    /// Whether some server committed, or applied, anything else.
    is_forked: bool,
    proposals: u64,
    timeouts: u64,
    heartbeats: u64,
    crashes: u64,
}

/// All schedules of a cluster within a scope.
#[derive(Clone, Debug)]
pub struct Schedules {
    /// Where the search ends.
    pub scope: Scope,
}

impl Model for Schedules {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let voter = |n: u64| Voter { member: member(n), address: format!("127.0.0.1:{n}") };
        let voters = (1..=self.scope.servers).map(voter).collect();
        let founders = Configuration::new(voters).expect("their names differ");
        let servers = (1..=self.scope.servers)
            .map(|n| (member(n).id, Arc::new(Server::found(config(member(n)), &founders))))
            .collect();
        vec![World {
            servers,
            said: Said::default(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            is_forked: false,
            proposals: 0,
            timeouts: 0,
            heartbeats: 0,
            crashes: 0,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let scope = &self.scope;
        let is_first = world.timeouts == 0;
        for (&id, server) in &world.servers {
            let Some(node) = server.node() else {
                steps.push(Step::Restart(id));
                continue;
            };
            let leads = node.role() == RoleName::Leader;
            let may_pass = if leads {
                world.heartbeats < scope.heartbeats
            } else {
                // The servers are alike until one of them is the first to run out of patience.
                world.timeouts < scope.timeouts && (!is_first || id == member(1).id)
            };
            if may_pass {
                steps.push(Step::Pass(id));
            }
            if leads && world.proposals < scope.proposals {
                steps.push(Step::Propose(id));
            }
            if server.is_writing() {
                steps.push(Step::Complete(id));
            }
            if world.crashes < scope.crashes {
                steps.push(Step::Crash(id));
            }
        }
        steps.extend(world.said.envelopes.values().cloned().map(Step::Deliver));
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        let id = match &step {
            Step::Deliver(envelope) => envelope.to.id,
            Step::Pass(id)
            | Step::Propose(id)
            | Step::Complete(id)
            | Step::Crash(id)
            | Step::Restart(id) => *id,
        };
        let server = Arc::make_mut(next.servers.get_mut(&id)?);
        match step {
            Step::Deliver(envelope) => server.step(envelope.as_ref().clone())?,
            Step::Pass(_) => {
                let leads = server.node()?.role() == RoleName::Leader;
                *if leads { &mut next.heartbeats } else { &mut next.timeouts } += 1;
                server.pass()?;
            }
            Step::Propose(_) => {
                next.proposals += 1;
                let command = format!("c{}", next.proposals).into_bytes();
                server.propose(Payload::new(command))?;
            }
            Step::Complete(_) => server.complete_one()?,
            Step::Crash(_) => {
                next.crashes += 1;
                server.crash();
            }
            Step::Restart(_) => server.restart(),
        }
        let sent = server.carry_out(self.scope.disk);
        sent.into_iter().for_each(|envelope| next.said.add(envelope));
        next.remember(id);
        // What a message does not change at all is no new state.
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }

    fn within_boundary(&self, world: &World) -> bool {
        let terms = world.servers.values().map(|server| server.term());
        terms.max().is_none_or(|term| term.0 <= FOUNDING_TERM.0 + self.scope.terms)
    }

    fn format_action(&self, step: &Step) -> String {
        match step {
            Step::Deliver(envelope) => {
                let Envelope { from, to, term, message } = envelope.as_ref();
                format!("{from} -> {to} in term {term}: {message:?}")
            }
            other => format!("{other:?}"),
        }
    }
}

/// The term in which a cluster is founded; nobody leads in it.
const FOUNDING_TERM: Term = Term(1);

impl World {
    /// Notes what the server has just become, as an observer who sees everything.
    fn remember(&mut self, id: NodeId) {
        let Some(server) = self.servers.get(&id) else { return };
        let Some(node) = server.node() else { return };
        if node.role() == RoleName::Leader {
            self.leaders.entry(server.term()).or_default().insert(id);
        }
        for entry in server.committed() {
            let place = usize::try_from(entry.index.0 - 1).expect("a small log");
            match self.committed.get(place) {
                Some(known) => self.is_forked |= known != entry,
                None => self.committed.push(entry.clone()),
            }
        }
    }
}

/// The shortest times that make sense. Nothing is left to chance: all servers are as patient as
/// each other, and which one runs out of patience first is a choice of the schedule.
fn config(me: Member) -> Config {
    let mut config = Config::new(me, Boot(1));
    config.heartbeat_ticks = 1;
    config.election_ticks_min = 2;
    config.election_ticks_max = 2;
    config
}

fn member(n: u64) -> Member {
    let id = NodeId::new(&format!("s{n}")).expect("a letter and a number make a name");
    Member { id, incarnation: Incarnation(n) }
}
