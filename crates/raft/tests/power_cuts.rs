//! Whole replicas, with their logs and snapshots on simulated disks, on a network that loses,
//! repeats and reorders, while the power of one or all is cut at any disk operation, servers join,
//! leave and lose their disks, and leaders hand over. After every run nothing acknowledged is
//! missing, all state machines agree, and no read was stale.
//!
//! `POWER_CUTS_SEEDS=1000 cargo test -p raft --test power_cuts` runs more; `POWER_CUTS_SEED=7` runs
//! one.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]
#![allow(clippy::indexing_slicing, reason = "servers are counted from zero")]
#![allow(clippy::panic, reason = "a broken invariant ends the run with its seed")]

#[path = "power_cuts/churn.rs"]
mod churn;
#[path = "power_cuts/list.rs"]
mod list;
#[path = "power_cuts/mix.rs"]
mod mix;
#[path = "power_cuts/network.rs"]
mod network;
#[path = "power_cuts/rot.rs"]
mod rot;
#[path = "power_cuts/snapshots.rs"]
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use raft::founding::Charter;
use raft::node::{
    Config, Configuration, Event, Incarnation, Index, Member, NodeId, Payload, ReadId, RoleName,
    Term, Voter,
};
use raft::replica::{Completion, Job, Replica, Token, Work};
use raft::storage::{Flushes, Home, LogOptions, Successors};
use wal::sim_disk::{Fault, OperationKind, SimDisk};

use churn::Churn;
use list::List;
use mix::{Chance, Mix};
use network::{Outbox, Said};
use rot::Rot;
use snapshots::SnapshotCounts;

/// Long work that a server may have in hand. Each receiver of a snapshot has one part read for it,
/// and what is written goes piece by piece, so there is never much.
const JOBS_MAX: usize = 200;

#[derive(Default)]
struct Server {
    /// How many directories it has lost.
    lives: u64,
    disk: SimDisk,
    /// For how many ticks each write keeps everything else waiting.
    write_ticks: Arc<AtomicU64>,
    running: Option<(Home, Replica<List>)>,
    /// Long work that was not done yet.
    jobs: Vec<Job<List>>,
    /// The members, as its events tell them.
    told: Configuration,
}

struct World {
    chance: Chance,
    mix: Mix,
    charter: Charter,
    options: LogOptions,
    servers: Vec<Server>,
    flight: Vec<Said>,
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
    snapshots: SnapshotCounts,
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
        let mix = Mix::draw(&mut chance);
        let flushes = if mix.late > 0 { Flushes::ByOwner } else { Flushes::Inline };
        let (successors, snapshots) = (Successors::Inline, mix.snapshots.options);
        let options = LogOptions { wal, recent_bytes_max: 500, successors, snapshots, flushes };
        let mut world = Self {
            mix,
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
            snapshots: SnapshotCounts::default(),
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
        let recovered = home.recover(&self.options, List::default);
        let recovered = recovered.expect("nothing but payloads was ever damaged");
        self.note_recovery(&recovered.found);
        self.rot.on_opened(n);
        let mut config = Config::new(home.identity().member, home.identity().boot);
        config.window_bytes_max = 300;
        config.message_bytes_max = 200;
        config.in_flight_bytes_max = 400;
        config.apply_bytes_max = 300;
        self.mix.snapshots.apply(&mut config);
        let seed = self.chance.next();
        let replica = Replica::new(config, recovered, seed);
        let mut replica = replica.expect("what was written can be read");
        let (disk, write_ticks) = (self.servers[n].disk.clone(), &self.servers[n].write_ticks);
        let (passed, write_ticks) = (AtomicU64::new(0), Arc::clone(write_ticks));
        let (seen, is_at_work) = (AtomicU64::new(0), AtomicBool::new(false));
        // It is looked at before anything that may write, and after it.
        replica.measure_with(Box::new(move || {
            let written = disk.count(Some(OperationKind::Write));
            let has_written = seen.swap(written, Ordering::Relaxed) < written;
            let is_after = is_at_work.fetch_xor(true, Ordering::Relaxed);
            let took = match is_after && has_written {
                true => write_ticks.load(Ordering::Relaxed),
                false => 0,
            };
            passed.fetch_add(took, Ordering::Relaxed) + took
        }));
        self.servers[n].told = replica.node().configuration().clone();
        self.servers[n].running = Some((home, replica));
    }

    fn crash(&mut self, n: usize) {
        self.crashes += 1;
        self.servers[n].running = None;
        self.servers[n].jobs.clear();
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
            2 if self.chance.percent(self.mix.blackouts) => {
                (0..self.servers.len()).for_each(|n| self.crash(n));
            }
            3 if self.chance.percent(self.mix.cuts) => self.cut_or_heal(),
            4 if self.chance.percent(self.mix.rumours) => self.report_leader_gone(n),
            5 if self.chance.percent(self.mix.stalls) => self.change_pace_of_disk(n),
            6..=9 if self.chance.percent(self.mix.churn) => self.change_something(n),
            6..=8 if self.chance.percent(self.mix.rot) => self.rot_something(n),
            10..=24 => self.propose(n),
            25..=34 => self.read(n),
            35..=46 => self.tick(n),
            47..=56 => self.work(n),
            _ => {
                for _ in 0..=self.chance.below(self.mix.deliveries) {
                    self.deliver();
                }
            }
        }
        if !self.chance.percent(self.mix.late) {
            self.run_flush(n);
        }
        self.advance(n);
    }

    /// The disk completes the write that is under way, if it has a thread of its own.
    fn run_flush(&mut self, n: usize) {
        if let Some((_, replica)) = &mut self.servers[n].running {
            replica.run_flush();
        }
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
        let said = if self.chance.percent(self.mix.repeats) {
            self.flight[at].clone()
        } else {
            self.flight.remove(at)
        };
        if !self.chance.percent(self.mix.losses) && !self.cut.contains(&said.path()) {
            self.arrive(said);
        }
    }

    fn arrive(&mut self, said: Said) {
        let to = number(said.path().1);
        match (&mut self.servers[to].running, said) {
            (Some((_, replica)), Said::Raft(envelope)) => replica.step(envelope),
            (Some((_, replica)), Said::Snapshot(envelope)) => replica.step_snapshot(envelope),
            (None, _) => {}
        }
        self.advance(to);
    }

    /// Lets a server do what follows, and checks what came of it.
    fn advance(&mut self, n: usize) {
        let is_congested = self.chance.percent(5);
        let Server { running: Some((_, replica)), jobs, .. } = &mut self.servers[n] else {
            return;
        };
        let mut outbox = Outbox { said: Vec::new(), is_congested };
        let result = loop {
            match replica.advance(&mut outbox) {
                Ok(Work::More) => {}
                other => break other,
            }
        };
        jobs.extend(std::iter::from_fn(|| replica.take_job()));
        assert!(jobs.len() < JOBS_MAX, "server {n} hands out work faster than it is done");
        let completions = replica.take_completions();
        let (events, snapshot_events) = (replica.take_events(), replica.take_snapshot_events());
        if replica.status().damaged == 0 {
            self.rot.on_whole(n);
        }
        // What left before the power went is on its way all the same.
        self.flight.extend(outbox.said);
        self.check_machine(n);
        events.iter().for_each(|event| self.on_event(n, event));
        if result.is_ok() {
            self.check_told(n, &events);
        }
        snapshot_events.iter().for_each(|event| self.on_snapshot_event(event));
        self.note_configuration(n);
        for completion in completions {
            if self.on_churn_completion(&completion) {
                continue;
            }
            self.on_completion(n, completion);
        }
        if result.is_err() {
            self.crash(n);
        }
        if self.flight.len() > 2000 {
            self.flight.drain(..1000);
        }
    }

    fn check_machine(&mut self, n: usize) {
        let Some((_, replica)) = &self.servers[n].running else { return };
        let machine = replica.machine().expect("no power cut damages a snapshot");
        assert_eq!(machine.applied, replica.node().applied(), "state and count part");
        for (index, command) in &machine.commands {
            let first = self.applied.entry(*index).or_insert_with(|| command.clone());
            assert_eq!(first, command, "two servers applied different commands at {index}");
        }
    }

    fn on_event(&mut self, n: usize, event: &Event) {
        match event {
            Event::BecameLeader { term, .. } => {
                let leader = *self.leaders.entry(*term).or_insert(founder(n).id);
                assert_eq!(leader, founder(n).id, "term {term} has two leaders");
            }
            Event::SnapshotInstalled { .. } => self.snapshots.installed += 1,
            _ => {}
        }
    }

    fn on_completion(&mut self, n: usize, completion: Completion<Index>) {
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
                let Some((_, replica)) = &self.servers[n].running else { return };
                let seen = replica.machine().map_or(Index(0), |machine| machine.applied);
                assert!(seen >= begun, "a stale read: {seen}, {begun} was acknowledged before");
            }
            Completion::Changed(..)
            | Completion::Transferred(..)
            | Completion::TransferRefused(..) => unreachable!("{completion:?}"),
            Completion::ReadLost(id, _) | Completion::ReadRefused(id, _) => {
                self.reads.remove(&(n, id)).expect("a read ends once");
            }
        }
    }

    /// Faults stop. Within a bound there is a leader, everything is applied everywhere, and
    /// nothing acknowledged is missing.
    fn settle(&mut self) {
        self.cut.clear();
        self.mix = self.mix.calm();
        for n in 0..self.servers.len() {
            if self.rot.is_unnoticed(n) {
                // A start reads the whole log.
                self.crash(n);
            }
            self.calm_down(n);
        }
        for _ in 0..4000 {
            for n in 0..self.servers.len() {
                if let Some((_, replica)) = &mut self.servers[n].running {
                    replica.tick();
                }
                self.advance(n);
                self.run_flush(n);
                self.advance(n);
            }
            for said in std::mem::take(&mut self.flight) {
                self.arrive(said);
            }
            for n in 0..self.servers.len() {
                self.work(n);
                self.run_flush(n);
                self.advance(n);
            }
            if self.is_settled() {
                break;
            }
        }
        assert!(self.is_settled(), "no agreement within the bound: {:#?}", self.statuses());
        for n in self.present() {
            self.check_members_of(n);
            let (_, replica) = self.servers[n].running.as_ref().expect("all run");
            let machine = replica.machine().expect("nothing was damaged");
            let commands: BTreeMap<_, _> = machine.commands.iter().cloned().collect();
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
    let mut snapshots = SnapshotCounts::default();
    for seed in seeds {
        // Shown when the run fails.
        println!("POWER_CUTS_SEED={seed}");
        let mut world = World::new(seed);
        // What takes several steps to go right needs time to go wrong in between.
        let rounds = if world.mix.churn > 0 { 6 } else { 3 };
        for round in 1..=rounds {
            (0..1000).for_each(|_| world.step());
            if round < rounds {
                world.leave_one_behind();
            }
        }
        world.settle();
        acknowledged += world.acknowledged.len() as u64;
        crashes += world.crashes;
        reads += world.reads_answered;
        rotten += world.rot.count;
        changes += world.churn.changes;
        transfers += world.churn.transfers;
        wipes += world.churn.wipes;
        snapshots.add(&world.snapshots);
    }
    println!("{acknowledged} acknowledged, {reads} reads answered, {crashes} power cuts");
    println!(
        "{changes} changes, {transfers} transfers, {wipes} disks lost, {rotten} payloads rotted"
    );
    println!("{snapshots:?}");
    assert!(one.is_some() || snapshots.are_enough(count), "{snapshots:?}");
    assert!(
        one.is_some() || acknowledged > 20 * count && crashes > 3 * count && reads > 10 * count
    );
    assert!(one.is_some() || rotten > count / 2);
    assert!(one.is_some() || changes > count && transfers > count / 4 && wipes > count / 10);
}
