//! Every schedule of a small cluster, one after another: the production node under all orders of
//! messages, losses, repetitions, timeouts, slow disks and crashes, within a stated [`Scope`].
//!
//! A simulation with a seed finds deep bugs by luck; this finds shallow ones by certainty. Within
//! its scope it leaves nothing out, and when it was cut short it says so: see [`explore`].
//!
//! What the servers do is the production node's doing alone; `local` says how it is looked up
//! instead of done again, `effect` which messages need not be kept, `properties` what must hold.
//!
//! The network is a set of everything that was ever said. Any of it may arrive at any time, any
//! number of times, or never, which is loss, delay, reordering and repetition in one. Time is the
//! action `Pass`: as many ticks as it takes until the passing of time alone makes a server
//! do something.

mod effect;
mod explore;
mod local;
mod properties;
mod server;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use raft::node::{
    Boot, Config, Configuration, Entry, Envelope, Incarnation, Member, NodeId, Term, Voter,
};
use stateright::{Model, Property};

use effect::{Bounds, may_matter};
pub use explore::{Answer, Finding, Patience, explore, explore_until};
use local::{Input, Known, Letter, Local, Moved};
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
    /// Reads, each asked of any leader.
    pub reads: u64,
    /// Removals of a server, itself included, each asked of any leader.
    pub changes: u64,
    /// When an append is on the disk.
    pub disk: Disk,
}

impl Scope {
    /// Three servers, one command, two terms and two timeouts: enough for a leader to be deposed
    /// by another that must keep what it committed.
    pub const SMALLEST: Self = Self {
        servers: 3,
        terms: 2,
        proposals: 1,
        timeouts: 2,
        heartbeats: 0,
        crashes: 0,
        reads: 0,
        changes: 0,
        disk: Disk::AtOnce,
    };

    /// What is searched to the end whenever the code changes: the smallest scope, and what each of
    /// the other dangers adds to it, as far as that ends within seconds; the quickest first.
    pub const ROUTINE: [Self; 7] = [
        Self::SMALLEST,
        Self { proposals: 0, reads: 1, ..Self::SMALLEST },
        Self { proposals: 0, changes: 1, ..Self::SMALLEST },
        Self { crashes: 1, ..Self::SMALLEST },
        Self { proposals: 0, crashes: 1, disk: Disk::Later, ..Self::SMALLEST },
        Self { heartbeats: 1, ..Self::SMALLEST },
        Self { terms: 3, timeouts: 3, ..Self::SMALLEST },
    ];
}

/// When an append is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Before anything else happens at that server.
    AtOnce,
    /// At any time later, in order. A server that is `WAITING_MAX` appends ahead of its disk
    /// takes nothing until one of them is complete.
    Later,
}

/// Without a limit one message, repeated for ever, would have a server wait for ever more appends.
const WAITING_MAX: usize = 2;

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, terms, proposals, timeouts, heartbeats, crashes, .. } = self;
        let Self { reads, changes, disk, .. } = self;
        let disk = match disk {
            Disk::AtOnce => "the disk at once",
            Disk::Later => "the disk later, at most two appends behind",
        };
        write!(
            f,
            "{servers} servers, {terms} terms, {proposals} proposals, {timeouts} timeouts, \
             {heartbeats} heartbeats, {crashes} crashes, {reads} reads, {changes} removals, {disk}"
        )
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The place of the server that it happens to.
    place: usize,
    input: Input,
}

/// What was committed, as the first server to commit it had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Committed {
    entries: Arc<Vec<Entry>>,
    print: u64,
}

/// A read that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Read {
    /// Whatever answers it must have seen so many entries: they were committed before it began.
    Open(u64),
    Ended,
}

/// A cluster at one moment, with the history that the properties speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    servers: Vec<&'static Local>,
    /// Everything that was ever said and may still matter, in the order of its numbers.
    said: Vec<&'static Letter>,
    /// Who led in each term, a bit for each server.
    leaders: Vec<u8>,
    committed: Committed,
    /// Whether some server committed anything else.
    is_forked: bool,
    /// Whether a message that can do nothing any more would have done something.
    is_haunted: bool,
    reads: Vec<Read>,
    /// Whether a read was confirmed, and whether with an index that misses something.
    is_read: bool,
    is_stale: bool,
    proposals: u64,
    timeouts: u64,
    heartbeats: u64,
    crashes: u64,
    changes: u64,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.servers.iter().for_each(|local| state.write_u64(local.print));
        // In whatever order they were first said.
        let (mut sum, mut mixed) = (0_u64, 0_u64);
        for letter in &self.said {
            sum = sum.wrapping_add(letter.print);
            mixed ^= letter.print.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (sum, mixed, self.said.len()).hash(state);
        let Self { leaders, committed, is_forked, is_haunted, .. } = self;
        (leaders, committed.print, is_forked, is_haunted).hash(state);
        let Self { reads, is_read, is_stale, .. } = self;
        (reads, is_read, is_stale).hash(state);
        let Self { proposals, timeouts, heartbeats, crashes, changes, .. } = self;
        (proposals, timeouts, heartbeats, crashes, changes).hash(state);
    }
}

/// All schedules of a cluster within a scope.
#[derive(Clone, Debug)]
pub struct Schedules {
    /// Where the search ends.
    pub scope: Scope,
    memory: Memory,
    known: Arc<Known>,
}

/// Which of the things that were said are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    WhatMatters,
    /// To compare with.
    #[cfg(test)]
    Everything,
}

impl Model for Schedules {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let voter = |n: u64| Voter { member: member(n), address: format!("127.0.0.1:{n}") };
        let voters = (1..=self.scope.servers).map(voter).collect();
        let founders = Configuration::new(voters).expect("their names differ");
        let found = |n| self.known.local(Server::found(config(member(n)), &founders));
        vec![World {
            servers: (1..=self.scope.servers).map(found).collect(),
            said: Vec::new(),
            leaders: Vec::new(),
            committed: Committed::default(),
            is_forked: false,
            is_haunted: false,
            reads: Vec::new(),
            is_read: false,
            is_stale: false,
            proposals: 0,
            timeouts: 0,
            heartbeats: 0,
            crashes: 0,
            changes: 0,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for (place, local) in world.servers.iter().enumerate() {
            self.add_inputs(world, place, local, steps);
        }
        let deliver =
            |letter: &&'static Letter| Step { place: letter.to(), input: Input::Deliver(letter) };
        let is_taken = |letter: &&&'static Letter| {
            world.servers.get(letter.to()).is_some_and(|local| !local.is_busy())
        };
        steps.extend(world.said.iter().filter(is_taken).map(deliver));
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let Step { place, input } = step;
        let before = *world.servers.get(place)?;
        let moved = self.known.follow(before, &input, self.scope.disk)?;
        let is_known = |letter: &&'static Letter| world.find(letter).is_ok();
        let is_quiet = std::ptr::eq(before, moved.local) && moved.reads.is_empty();
        // What a message does not change at all is no new state.
        if is_quiet && matches!(input, Input::Deliver(_)) && moved.said.iter().all(is_known) {
            return None;
        }
        let mut next = world.clone();
        next.count(&input, before);
        *next.servers.get_mut(place)? = moved.local;
        next.remember(place, moved);
        if self.memory == Memory::WhatMatters {
            self.forget(&mut next);
        }
        (!is_quiet || next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.servers.iter().all(|local| local.term <= self.last_term())
    }

    fn format_action(&self, step: &Step) -> String {
        match &step.input {
            Input::Deliver(letter) => {
                let Envelope { from, to, term, message } = &letter.envelope;
                format!("{from} -> {to} in term {term}: {message:?}")
            }
            other => format!("{} {other:?}", member(step.place as u64 + 1)),
        }
    }
}

/// The term in which a cluster is founded; nobody leads in it.
const FOUNDING_TERM: Term = Term(1);

impl Schedules {
    /// All schedules within `scope`.
    #[must_use]
    pub fn within(scope: Scope) -> Self {
        Self { scope, memory: Memory::WhatMatters, known: Arc::default() }
    }

    fn last_term(&self) -> Term {
        Term(FOUNDING_TERM.0 + self.scope.terms)
    }

    fn bounds(&self, world: &World) -> Bounds {
        let may_pass = world.timeouts < self.scope.timeouts;
        Bounds { last_term: self.last_term(), may_pass }
    }

    /// Lets go of what can change nothing any more. Why it cannot is a belief about the very rules
    /// that are searched here, so each time it is tried out as well.
    fn forget(&self, world: &mut World) {
        let bounds = self.bounds(world);
        let World { servers, said, is_haunted, .. } = world;
        said.retain(|letter| {
            let (sender, receiver) = (servers.get(letter.from()), servers.get(letter.to()));
            let (Some(sender), Some(receiver)) = (sender, receiver) else { return true };
            let matters = may_matter(letter, sender, receiver, bounds);
            *is_haunted |= !matters && !self.does_nothing(letter, receiver);
            matters
        });
    }

    /// Whether a message leaves a server as it is, but for what no property speaks of; or takes it
    /// out of scope.
    fn does_nothing(&self, letter: &'static Letter, receiver: &'static Local) -> bool {
        let moved = self.known.follow(receiver, &Input::Deliver(letter), self.scope.disk);
        moved.is_none_or(|moved| {
            moved.local.term > self.last_term() || moved.local.is_like(receiver)
        })
    }

    /// What can happen to a server by itself.
    fn add_inputs(&self, world: &World, place: usize, local: &Local, steps: &mut Vec<Step>) {
        let scope = &self.scope;
        let mut add = |input| steps.push(Step { place, input });
        if local.role.is_none() {
            return add(Input::Restart);
        }
        if local.server.is_writing() {
            add(Input::Complete);
        }
        if world.crashes < scope.crashes {
            add(Input::Crash);
        }
        if local.is_busy() {
            return;
        }
        let may_pass = if local.leads() {
            world.heartbeats < scope.heartbeats
        } else {
            // The servers are alike until one of them is the first to run out of patience.
            world.timeouts < scope.timeouts && (world.timeouts > 0 || place == 0)
        };
        if may_pass {
            add(Input::Pass);
        }
        if local.leads() && world.proposals < scope.proposals {
            add(Input::Propose(world.proposals + 1));
        }
        if local.leads() && (world.reads.len() as u64) < scope.reads {
            add(Input::Read(world.reads.len() as u64));
        }
        if local.leads() && world.changes < scope.changes {
            (1..=scope.servers).for_each(|n| add(Input::Remove(member(n).id)));
        }
    }
}

impl World {
    fn find(&self, letter: &Letter) -> Result<usize, usize> {
        self.said.binary_search_by_key(&letter.order(), |known| known.order())
    }

    /// Notes that a schedule has used up one of its limits.
    fn count(&mut self, input: &Input, before: &Local) {
        match input {
            Input::Pass if before.leads() => self.heartbeats += 1,
            Input::Pass => self.timeouts += 1,
            Input::Propose(_) => self.proposals += 1,
            Input::Read(_) => self.reads.push(Read::Open(self.committed.entries.len() as u64)),
            Input::Remove(_) => self.changes += 1,
            Input::Crash => self.crashes += 1,
            Input::Deliver(_) | Input::Complete | Input::Restart => {}
        }
    }

    /// Notes what a server has just done and become, as an observer who sees everything.
    fn remember(&mut self, place: usize, moved: &Moved) {
        for letter in &moved.said {
            if let Err(at) = self.find(letter) {
                self.said.insert(at, letter);
            }
        }
        let local = moved.local;
        if local.leads() {
            let term = usize::try_from(local.term.0).expect("a small term");
            self.leaders.resize(self.leaders.len().max(term + 1), 0);
            self.leaders.iter_mut().skip(term).take(1).for_each(|bits| *bits |= 1 << place);
        }
        for entry in local.server.committed() {
            let at = usize::try_from(entry.index.0 - 1).expect("a small log");
            match self.committed.entries.get(at) {
                Some(known) => self.is_forked |= known != entry,
                None => self.committed.add(entry),
            }
        }
        for (number, outcome) in &moved.reads {
            let read = self.reads.get_mut(usize::try_from(*number).expect("few reads"));
            let read = read.map(|read| std::mem::replace(read, Read::Ended));
            if let (Some(Read::Open(needed)), Ok(index)) = (read, outcome) {
                self.is_read = true;
                self.is_stale |= *index < needed;
            }
        }
    }
}

impl Committed {
    fn add(&mut self, entry: &Entry) {
        let mut hasher = DefaultHasher::new();
        (self.print, entry).hash(&mut hasher);
        self.print = hasher.finish();
        Arc::make_mut(&mut self.entries).push(entry.clone());
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
