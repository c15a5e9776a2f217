//! Whole replicas, with their logs on simulated disks, on a network that loses, repeats and
//! reorders, while the power of one or all is cut at any disk operation, servers join, leave and
//! lose their disks, and leaders hand over. After every run nothing acknowledged is missing, all
//! state machines agree, and no read was stale.
//!
//! `POWER_CUTS_SEEDS=1000 cargo test -p raft --test power_cuts` runs more; `POWER_CUTS_SEED=7` runs
//! one.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]
#![allow(clippy::indexing_slicing, reason = "servers are counted from zero")]
#![allow(clippy::panic, reason = "a broken invariant ends the run with its seed")]

#[path = "power_cuts/churn.rs"]
mod churn;
#[path = "power_cuts/rot.rs"]
mod rot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use raft::founding::Charter;
use raft::node::{
    Config, Configuration, Envelope, Event, Incarnation, Index, Member, NodeId, Payload, ReadId,
    RoleName, Term, Voter,
};
use raft::replica::{Completion, Replica, Token, Transport, Work};
use raft::storage::{Home, LogOptions, Successors};
use raft::{StateMachine, Undecodable};
use wal::sim_disk::{Fault, SimDisk};

use churn::Churn;
use rot::Rot;

/// Remembers every command with its index.
#[derive(Default)]
struct List {
    commands: Vec<(Index, Bytes)>,
    applied: Index,
}

impl StateMachine for List {
    type Reply = Index;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Index, Undecodable> {
        self.commands.push((index, command.clone()));
        self.applied = index;
        Ok(index)
    }

    fn advance(&mut self, index: Index) {
        self.applied = index;
    }
}

#[derive(Default)]
struct Server {
    /// How many directories it has lost.
    lives: u64,
    disk: SimDisk,
    /// For how many ticks each write keeps everything else waiting.
    write_ticks: Arc<AtomicU64>,
    running: Option<(Home, Replica<List>)>,
}

#[derive(Default)]
struct Outbox(Vec<Envelope>);

impl Transport for Outbox {
    fn send(&mut self, envelope: Envelope) {
        self.0.push(envelope);
    }

    fn flush(&mut self) {}
}

/// Where chance comes from; everything in a run follows from the seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("it is below a usize")
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How often things go wrong in one run, in percent; every seed draws its own mix.
struct Mix {
    crashes: usize,
    cuts: usize,
    /// Reports that a leader is gone, most of them untrue.
    rumours: usize,
    /// Disks that take an election timeout or longer for a write.
    stalls: usize,
    /// Changes of the membership, transfers, and disks that are lost for good.
    churn: usize,
    losses: usize,
    repeats: usize,
    order: usize,
    /// How many messages arrive at once, at most.
    deliveries: usize,
    /// How many ticks pass at once, at most.
    pace: usize,
    /// How much of the time that passes each server notices.
    clocks: [usize; 7],
    /// Payloads that rot on the disks.
    rot: usize,
}

impl Mix {
    fn draw(chance: &mut Chance) -> Self {
        // Where members come and go, the last whole copy of an entry could go with one.
        let (churn, rot) = match chance.below(6) {
            0 => (0, 0),
            1..=3 => ([30, 100][chance.below(2)], 0),
            _ => (0, [10, 30, 100][chance.below(3)]),
        };
        Self {
            crashes: [0, 20, 50, 100][chance.below(4)],
            cuts: [0, 10, 30, 100][chance.below(4)],
            rumours: [0, 10, 50][chance.below(3)],
            stalls: [0, 0, 10, 50][chance.below(4)],
            churn,
            losses: [0, 2, 10, 30][chance.below(4)],
            repeats: [0, 5, 20][chance.below(3)],
            order: [100, 80, 40][chance.below(3)],
            deliveries: [5, 20, 60][chance.below(3)],
            pace: [4, 12, 40][chance.below(3)],
            clocks: std::array::from_fn(|_| [100, 100, 50, 2][chance.below(4)]),
            rot,
        }
    }
}

struct World {
    chance: Chance,
    mix: Mix,
    charter: Charter,
    options: LogOptions,
    servers: Vec<Server>,
    flight: Vec<Envelope>,
    cut: BTreeSet<(NodeId, NodeId)>,
    next: u64,
    /// What each token proposed.
    proposed: BTreeMap<Token, Bytes>,
    /// What was acknowledged, by index.
    acknowledged: BTreeMap<Index, Bytes>,
    /// The highest acknowledged index when each read began.
    reads: BTreeMap<(usize, ReadId), Index>,
    /// What was applied anywhere, by index.
    applied: BTreeMap<Index, Bytes>,
    leaders: BTreeMap<Term, NodeId>,
    churn: Churn,
    rot: Rot,
    crashes: u64,
    reads_answered: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let count = [1, 2, 3, 3, 3, 4, 5][chance.below(7)];
        let voter = |n: usize| Voter { member: founder(n), address: format!("127.0.0.1:{n}") };
        let configuration = Configuration::new((0..count).map(voter).collect());
        let name = "simulated".to_string();
        let charter = Charter { name, configuration: configuration.expect("names differ") };
        let mut wal = wal::Options::with_segment_bytes(16 << 10);
        wal.log_id = Some(wal::LogId(7));
        wal.cache_bytes = 500;
        let options = LogOptions { wal, recent_bytes_max: 500, successors: Successors::Inline };
        let mut world = Self {
            mix: Mix::draw(&mut chance),
            chance,
            charter,
            options,
            servers: Vec::new(),
            flight: Vec::new(),
            cut: BTreeSet::new(),
            next: 0,
            proposed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            reads: BTreeMap::new(),
            applied: BTreeMap::new(),
            leaders: BTreeMap::new(),
            churn: Churn::default(),
            rot: Rot::default(),
            crashes: 0,
            reads_answered: 0,
        };
        for n in 0..count {
            world.servers.push(Server::default());
            world.start(n);
        }
        world
    }

    fn start(&mut self, n: usize) {
        let disk = self.servers[n].disk.disk();
        let Member { id, incarnation } = self.member(n);
        let mut home = Home::open(disk, id, self.charter.name.as_str(), || incarnation)
            .expect("a disk that works");
        if home.charter().is_none() && self.charter.configuration.lists(self.member(n)) {
            home.agree(self.charter.clone()).expect("a disk that works");
            home.found(self.charter.clone(), &self.options).expect("a disk that works");
        } else if home.charter().is_none() {
            home.join(self.charter.clone(), &self.options).expect("a disk that works");
        }
        let opened = home.open_log(&self.options);
        let (log, state, _) = opened.expect("nothing but payloads was ever damaged");
        self.rot.on_opened(n);
        let mut config = Config::new(home.identity().member, home.identity().boot);
        config.window_bytes_max = 300;
        config.message_bytes_max = 200;
        config.in_flight_bytes_max = 400;
        config.apply_bytes_max = 300;
        let seed = self.chance.next();
        let replica = Replica::new(config, log, state, List::default(), seed);
        let mut replica = replica.expect("what was written can be read");
        let (passed, write_ticks) = (AtomicU64::new(0), Arc::clone(&self.servers[n].write_ticks));
        replica.measure_with(Box::new(move || {
            passed.fetch_add(write_ticks.load(Ordering::Relaxed), Ordering::Relaxed)
        }));
        self.servers[n].running = Some((home, replica));
    }

    fn crash(&mut self, n: usize) {
        self.crashes += 1;
        self.servers[n].running = None;
        self.servers[n].disk.clear_faults();
        let seed = self.chance.next();
        self.servers[n].disk.crash(seed);
        self.reads.retain(|(server, _), _| *server != n);
        self.forget_asked(n);
    }

    /// One thing happens, then the server concerned does what follows from it.
    fn step(&mut self) {
        let n = self.chance.below(self.servers.len());
        match self.chance.below(100) {
            0 if self.chance.percent(self.mix.crashes) => self.crash(n),
            0..=1 if self.chance.percent(self.mix.crashes) => self.power_will_fail(n),
            2..=9 if self.servers[n].running.is_none() => self.start(n),
            2 if self.chance.percent(20) => {
                (0..self.servers.len()).for_each(|n| self.crash(n));
            }
            3 if self.chance.percent(self.mix.cuts) => self.cut_or_heal(),
            4 if self.chance.percent(self.mix.rumours) => self.report_leader_gone(n),
            5 if self.chance.percent(self.mix.stalls) => self.change_pace_of_disk(n),
            6..=9 if self.chance.percent(self.mix.churn) => self.change_something(n),
            6..=8 if self.chance.percent(self.mix.rot) => self.rot_something(n),
            10..=24 => self.propose(n),
            25..=34 => self.read(n),
            35..=54 => self.tick(n),
            _ => {
                for _ in 0..=self.chance.below(self.mix.deliveries) {
                    self.deliver();
                }
            }
        }
        self.advance(n);
    }

    fn tick(&mut self, n: usize) {
        let count = 1 + self.chance.below(self.mix.pace);
        if !self.chance.percent(self.mix.clocks[n]) {
            return;
        }
        if let Some((_, replica)) = &mut self.servers[n].running {
            (0..count).for_each(|_| replica.tick());
        }
    }

    fn change_pace_of_disk(&mut self, n: usize) {
        let ticks = [0, 0, 50, 300][self.chance.below(4)];
        self.servers[n].write_ticks.store(ticks, Ordering::Relaxed);
    }

    /// Whether it is true or not, nothing may be lost by believing it.
    fn report_leader_gone(&mut self, n: usize) {
        let Some((_, replica)) = &self.servers[n].running else { return };
        if let Some((leader, term)) = replica.status().last_leader {
            let leader = self.member(number(leader));
            let Some((_, replica)) = &mut self.servers[n].running else { return };
            replica.on_disconnected(leader, term);
        }
    }

    /// The power goes at one of the next disk operations.
    fn power_will_fail(&mut self, n: usize) {
        let after = self.chance.below(8) as u64;
        if self.servers[n].running.is_some() {
            self.servers[n].disk.inject(after, None, Fault::PowerOff);
        }
    }

    /// The network heals, loses one path in one direction, or cuts a server off; and some clock
    /// goes at another pace from now on.
    fn cut_or_heal(&mut self) {
        let count = self.servers.len();
        let slow = self.chance.below(count);
        self.mix.clocks[slow] = [100, 100, 50, 2][self.chance.below(4)];
        let (from, to) = (self.chance.below(count), self.chance.below(count));
        match self.chance.below(3) {
            0 => self.cut.clear(),
            1 => drop(self.cut.insert((founder(from).id, founder(to).id))),
            _ => {
                for other in 0..count {
                    self.cut.insert((founder(from).id, founder(other).id));
                    self.cut.insert((founder(other).id, founder(from).id));
                }
            }
        }
    }

    fn propose(&mut self, n: usize) {
        self.next += 1;
        let token = Token(self.next);
        let command = Bytes::from(format!("command {}", self.next));
        if let Some((_, replica)) = &mut self.servers[n].running {
            self.proposed.insert(token, command.clone());
            replica.propose(token, Payload::new(command));
        }
    }

    fn read(&mut self, n: usize) {
        self.next += 1;
        let id = ReadId(self.next);
        if let Some((_, replica)) = &mut self.servers[n].running {
            let last = self.acknowledged.keys().next_back().copied().unwrap_or_default();
            self.reads.insert((n, id), last);
            replica.read(id);
        }
    }

    fn deliver(&mut self) {
        if self.flight.is_empty() {
            return;
        }
        // Mostly in order, sometimes not.
        let limit = if self.chance.percent(self.mix.order) { 1 } else { self.flight.len() };
        let at = self.chance.below(limit);
        let envelope = if self.chance.percent(self.mix.repeats) {
            self.flight[at].clone()
        } else {
            self.flight.remove(at)
        };
        if self.chance.percent(self.mix.losses)
            || self.cut.contains(&(envelope.from.id, envelope.to.id))
        {
            return;
        }
        let to = number(envelope.to.id);
        if let Some((_, replica)) = &mut self.servers[to].running {
            replica.step(envelope);
        }
        self.advance(to);
    }

    /// Lets a server do what follows, and checks what came of it.
    fn advance(&mut self, n: usize) {
        let Some((_, replica)) = &mut self.servers[n].running else { return };
        let mut outbox = Outbox::default();
        let result = loop {
            match replica.advance(&mut outbox) {
                Ok(Work::More) => {}
                other => break other,
            }
        };
        let completions = replica.take_completions();
        let events = replica.take_events();
        if replica.status().damaged == 0 {
            self.rot.on_whole(n);
        }
        let machine_applied = replica.machine().applied;
        for (index, command) in &replica.machine().commands {
            let first = self.applied.entry(*index).or_insert_with(|| command.clone());
            assert_eq!(first, command, "two servers applied different commands at {index}");
        }
        // What left before the power went is on its way all the same.
        self.flight.extend(outbox.0);
        for event in events {
            if let Event::BecameLeader { term, .. } = event {
                let leader = *self.leaders.entry(term).or_insert(founder(n).id);
                assert_eq!(leader, founder(n).id, "term {term} has two leaders");
            }
        }
        self.note_configuration(n);
        for completion in completions {
            if self.on_churn_completion(&completion) {
                continue;
            }
            match completion {
                Completion::Applied(token, index, reply) => {
                    assert_eq!(index, reply);
                    let command = self.proposed.remove(&token).expect("a token ends once");
                    assert_eq!(self.applied[&index], command, "the answer to another command");
                    self.acknowledged.insert(index, command);
                }
                Completion::Refused(token, _) => {
                    let command = self.proposed.remove(&token).expect("a token ends once");
                    assert!(
                        self.applied.values().all(|applied| *applied != command),
                        "a refused command was applied"
                    );
                }
                Completion::Unknown(token) => {
                    self.proposed.remove(&token).expect("a token ends once");
                }
                Completion::ReadReady(id) => {
                    self.reads_answered += 1;
                    let begun = self.reads.remove(&(n, id)).expect("a read ends once");
                    assert!(
                        machine_applied >= begun,
                        "a stale read: it saw {machine_applied}, {begun} was acknowledged before"
                    );
                }
                Completion::Changed(..)
                | Completion::Transferred(..)
                | Completion::TransferRefused(..) => unreachable!("{completion:?}"),
                Completion::ReadLost(id, _) | Completion::ReadRefused(id, _) => {
                    self.reads.remove(&(n, id)).expect("a read ends once");
                }
            }
        }
        if result.is_err() {
            self.crash(n);
        }
        if self.flight.len() > 2000 {
            self.flight.drain(..1000);
        }
    }

    /// Faults stop. Within a bound there is a leader, everything is applied everywhere, and
    /// nothing acknowledged is missing.
    fn settle(&mut self) {
        self.cut.clear();
        for n in 0..self.servers.len() {
            self.servers[n].disk.clear_faults();
            self.servers[n].write_ticks.store(0, Ordering::Relaxed);
            if self.rot.is_unnoticed(n) {
                // A start reads the whole log.
                self.crash(n);
            }
            if self.servers[n].running.is_none() {
                self.start(n);
            }
        }
        for _ in 0..4000 {
            for n in 0..self.servers.len() {
                if let Some((_, replica)) = &mut self.servers[n].running {
                    replica.tick();
                }
                self.advance(n);
            }
            for envelope in std::mem::take(&mut self.flight) {
                let to = number(envelope.to.id);
                if let Some((_, replica)) = &mut self.servers[to].running {
                    replica.step(envelope);
                }
                self.advance(to);
            }
            if self.is_settled() {
                break;
            }
        }
        assert!(self.is_settled(), "no agreement within the bound: {:#?}", self.statuses());
        for n in self.present() {
            self.check_members_of(n);
            let (_, replica) = self.servers[n].running.as_ref().expect("all run");
            let commands: BTreeMap<_, _> = replica.machine().commands.iter().cloned().collect();
            for (index, command) in &self.acknowledged {
                assert_eq!(commands.get(index), Some(command), "server {n} lost {index}");
            }
        }
    }

    fn statuses(&self) -> Vec<raft::node::Status> {
        self.servers.iter().filter_map(|it| Some(it.running.as_ref()?.1.status())).collect()
    }

    fn is_settled(&self) -> bool {
        let present = self.present();
        let present = present.iter().filter_map(|n| self.servers[*n].running.as_ref());
        let statuses: Vec<_> = present.map(|(_, replica)| replica.status()).collect();
        let last = statuses.iter().map(|status| status.last).max();
        self.is_membership_settled()
            && statuses.iter().any(|status| status.role == RoleName::Leader)
            && statuses.iter().all(|status| Some(status.applied) == last && status.damaged == 0)
    }
}

/// A server in its first life.
fn founder(n: usize) -> Member {
    let id = NodeId::new(&format!("s{n}")).expect("a letter and a number");
    Member { id, incarnation: Incarnation(n as u64 + 1) }
}

fn number(id: NodeId) -> usize {
    id.as_str()[1..].parse().expect("a name that founder() made")
}

#[test]
fn nothing_acknowledged_is_lost_and_no_read_is_stale() {
    let number_from = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = number_from("POWER_CUTS_SEED");
    let count = number_from("POWER_CUTS_SEEDS").unwrap_or(60);
    let seeds = one.map_or(1..count + 1, |seed| seed..seed + 1);
    let (mut acknowledged, mut crashes, mut reads, mut rotten) = (0, 0, 0, 0);
    let (mut changes, mut transfers, mut wipes) = (0, 0, 0);
    for seed in seeds {
        // Shown when the run fails.
        println!("POWER_CUTS_SEED={seed}");
        let mut world = World::new(seed);
        // What takes several steps to go right needs time to go wrong in between.
        for _ in 0..if world.mix.churn > 0 { 6000 } else { 3000 } {
            world.step();
        }
        world.settle();
        acknowledged += world.acknowledged.len() as u64;
        crashes += world.crashes;
        reads += world.reads_answered;
        rotten += world.rot.count;
        changes += world.churn.changes;
        transfers += world.churn.transfers;
        wipes += world.churn.wipes;
    }
    println!("{acknowledged} acknowledged, {reads} reads answered, {crashes} power cuts");
    println!(
        "{changes} changes, {transfers} transfers, {wipes} disks lost, {rotten} payloads rotted"
    );
    assert!(
        one.is_some() || acknowledged > 20 * count && crashes > 3 * count && reads > 10 * count
    );
    assert!(one.is_some() || changes > count && transfers > count / 4 && wipes > count / 10);
    assert!(one.is_some() || rotten > count / 2);
}
