//! The world: servers, what lies between them, clients, and what happens next.

use std::collections::BTreeMap;

use raft::founding::Seat;
use raft::node::{self, Term};

use crate::check::Broken;

use super::agenda::{Agenda, MILLISECOND, Moment, SECOND};
use super::budget::Budget;
use super::checks::Checks;
use super::client::{Answer, Client, Sent};
use super::clock::ServerClock;
use super::course::{Course, Strike};
use super::dice::{Chance, Dice, Single};
use super::history::History;
use super::network::{Network, Outbox, Path, Travelling, Way};
use super::onlooker::Onlooker;
use super::operator::LOOK_EVERY;
use super::plan::{DiskPlan, FaultKind, Plan};
use super::run::Watch;
use super::script::Script;
use super::server::{Asked, Came, Server, StartError, address, name_of};
use super::trace::Trace;

/// Something that happens at a moment.
pub(super) enum Happening {
    /// A server's loop is to look around.
    Turn { server: usize, life: u64 },
    /// A frame comes to the end of its way.
    Arrive(Travelling),
    /// A server wants a connection to another.
    Dial(Way),
    /// A server finds out whether the process that led it still lives.
    Suspect { server: usize, leader: usize, life: u64, term: Term },
    /// Long work is done.
    Job { server: usize, life: u64, job: u64 },
    /// A disk beside the loop has written.
    Flush { server: usize, life: u64 },
    /// A server that is down is started.
    Start(usize),
    /// Something goes wrong.
    Strike(Strike),
    /// Whoever looks after the cluster looks.
    Look,
    /// Somebody changes something again, without waiting for what they asked for before.
    Again(usize),
    /// The next leader is cut off as well.
    Coup,
    /// Whoever leads is given so many commands.
    Flood(u64),
    /// A server reads a part of its log again.
    Scrub { server: usize, life: u64 },
    /// There is room on a disk again.
    MakeRoom(usize),
    /// A path carries nothing any more.
    Cut(Path),
    /// A path carries again.
    Mend(Path),
    /// A client goes on.
    Client(usize),
    /// A client has waited enough for an answer.
    Silence { client: usize, attempt: u64 },
    /// A request reaches a server.
    Request { server: usize, asked: Asked, what: Sent },
    /// An answer reaches a client.
    Answered { asked: Asked, answer: Answer },
}

/// Everything.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) course: Course,
    pub(super) agenda: Agenda<Happening>,
    pub(super) servers: Vec<Server>,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) checks: Checks,
    pub(super) trace: Trace,
    pub(super) onlooker: Onlooker,
    pub(super) fired: BTreeMap<FaultKind, u64>,
    /// No more faults.
    pub(super) is_calm: bool,
    /// Requests of clients that have not reached their servers.
    pub(super) travelling: u64,
    /// All founders have begun their logs.
    pub(super) is_founded: bool,
    /// What may still be harmed.
    pub(super) budget: Budget,
    /// When each connection that is missing is tried next.
    pub(super) dials: BTreeMap<Way, Moment>,
    /// The servers that found the cluster.
    pub(super) seats: Vec<Seat>,
    pub(super) values: u64,
    /// Commands of which nobody asks what became of them.
    pub(super) flooded: u64,
    /// The value that each key was last told to have.
    pub(super) recent: BTreeMap<u64, u64>,
}

impl World {
    pub(super) fn new(script: &Script, watch: Watch) -> World {
        let mut dice = Dice::new(script.seed);
        let plan = script.plan.clone();
        let (wishes, mishaps) = (script.wishes.as_deref(), script.mishaps.as_deref());
        let course = Course::new(&plan, wishes, mishaps, watch != Watch::Nothing);
        let seat = |number: usize| Seat { id: name_of(number), address: address(number) };
        let drift_max = plan.faults.drift_ppm_max;
        let servers = (0..plan.servers).map(|number| {
            let drift = dice.clock.below(2 * drift_max + 1);
            let drift = i64::try_from(drift).unwrap_or_default()
                - i64::try_from(drift_max).unwrap_or_default();
            let clock = ServerClock::new(drift, dice.clock.below(1 << 40));
            Server::new(number, clock, number >= plan.founders)
        });
        let servers = servers.collect();
        let mut agenda = Agenda::new();
        for server in 0..plan.servers {
            agenda.plan(Moment(dice.clock.below(50 * MILLISECOND)), Happening::Start(server));
        }
        for client in 0..plan.clients {
            let first = course.next_wish_at(client, Moment(0), &mut dice.wishes, MILLISECOND);
            if let Some(at) = first {
                agenda.plan(at, Happening::Client(client));
            }
        }
        for strike in &script.strikes {
            agenda.plan(Moment(strike.at), Happening::Strike(*strike));
        }
        agenda.plan(Moment(LOOK_EVERY), Happening::Look);
        World {
            course,
            agenda,
            servers,
            network: Network::default(),
            clients: (0..plan.clients).map(|_| Client::new(plan.reads_anywhere_permille)).collect(),
            history: History::default(),
            checks: Checks::default(),
            trace: Trace::new(watch == Watch::Story),
            onlooker: Onlooker::default(),
            fired: BTreeMap::new(),
            is_calm: false,
            travelling: 0,
            is_founded: false,
            budget: Budget::default(),
            dials: BTreeMap::new(),
            seats: (0..plan.founders).map(seat).collect(),
            values: 0,
            flooded: 0,
            recent: BTreeMap::new(),
            plan,
            dice,
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.agenda.now()
    }

    /// Plans something for so many microseconds from now.
    pub(super) fn plan_in(&mut self, micros: u64, happening: Happening) {
        let at = self.now() + micros;
        self.agenda.plan(at, happening);
    }

    /// Lets the next thing happen.
    pub(super) fn step(&mut self) -> Result<(), Broken> {
        let result = self.take_step();
        self.look_on();
        self.checks.switches.judge(result)
    }

    /// Clients that begin nothing more are no event: a script does not know when they would have.
    fn next_happening(&mut self) -> Happening {
        loop {
            let next = self.agenda.take().expect("servers always want another turn");
            match next {
                Happening::Client(client) if self.clients[client].has_gone() => {}
                next => return next,
            }
        }
    }

    fn take_step(&mut self) -> Result<(), Broken> {
        let happening = self.next_happening();
        if let Some((server, until)) = self.waits(&happening) {
            self.trace.note(&[1, server as u64, until.0]);
            self.agenda.plan(until, happening);
            return Ok(());
        }
        match happening {
            Happening::Turn { server, life } => self.on_turn(server, life),
            Happening::Arrive(frame) => {
                self.see_arrival(&frame);
                self.on_arrival(frame)
            }
            Happening::Dial(way) => self.on_dial(way),
            Happening::Suspect { server, leader, life, term } => {
                self.on_suspicion(server, leader, life, term)
            }
            Happening::Job { server, life, job } => self.on_job(server, life, job),
            Happening::Flush { server, life } => self.on_flush(server, life),
            Happening::Start(server) => self.start(server),
            Happening::Strike(strike) => self.strike(strike),
            Happening::Look => self.look_after(),
            Happening::Again(server) => self.change_again(server),
            Happening::Coup => self.depose().map(drop),
            Happening::Flood(commands) => self.flood_the_leader(commands),
            Happening::Scrub { server, life } => self.scrub(server, life),
            Happening::MakeRoom(server) => {
                self.make_room(server);
                Ok(())
            }
            Happening::Cut(path) => {
                if !self.is_calm {
                    self.network.cut(path);
                }
                Ok(())
            }
            Happening::Mend(path) => {
                self.network.mend(path);
                Ok(())
            }
            Happening::Client(client) => {
                self.on_client(client);
                Ok(())
            }
            Happening::Silence { client, attempt } => {
                let now = self.now();
                let next = self.clients[client].on_silence(attempt, now, self.dice.client(client));
                self.follow(client, next);
                Ok(())
            }
            Happening::Request { server, asked, what } => self.on_request(server, asked, what),
            Happening::Answered { asked, answer } => {
                let now = self.now();
                let next = self.clients[asked.client].on_answer(asked.attempt, &answer, now);
                self.follow(asked.client, next);
                Ok(())
            }
        }
    }

    /// The server that this concerns stands still, and until when.
    fn waits(&self, happening: &Happening) -> Option<(usize, Moment)> {
        let server = match happening {
            Happening::Turn { server, .. }
            | Happening::Job { server, .. }
            | Happening::Flush { server, .. }
            | Happening::Scrub { server, .. }
            | Happening::Suspect { server, .. }
            | Happening::Request { server, .. } => *server,
            Happening::Arrive(frame) => frame.path().1,
            _ => return None,
        };
        let until = self.servers[server].busy_until;
        (until > self.now() && self.servers[server].is_up()).then_some((server, until))
    }

    // ------------------------------------------------------------------ servers

    pub(super) fn start(&mut self, server: usize) -> Result<(), Broken> {
        if self.servers[server].is_up() || self.servers[server].is_held_down {
            return Ok(());
        }
        let now = self.now();
        self.trace.tell(now, || format!("s{} starts", server + 1));
        let World { servers, seats, .. } = self;
        if let Err(error) = servers[server].open(seats, now) {
            return self.on_start_failed(server, &error);
        }
        self.advance(server)?;
        self.dial_all_of(server);
        Ok(())
    }

    /// A server that belongs to no cluster goes on as far as it can.
    pub(super) fn advance(&mut self, server: usize) -> Result<(), Broken> {
        let names = [server as u64, self.servers[server].life, 0];
        let seed = self.dice.single(Single::Node, names).draw();
        let World { servers, plan, .. } = self;
        match servers[server].advance(plan, seed) {
            Ok(Came::Waits { has_agreed }) => {
                if has_agreed {
                    self.tell_standing(server)?;
                }
                Ok(())
            }
            Ok(Came::Entered) => self.on_entered(server),
            Err(error) => self.on_start_failed(server, &error),
        }
    }

    fn on_entered(&mut self, server: usize) -> Result<(), Broken> {
        let now = self.now();
        self.trace.tell(now, || format!("s{} runs as a member", server + 1));
        let World { servers, budget, checks, .. } = self;
        let it = &servers[server];
        if let Some(process) = &it.process {
            let (member, node) = (it.member(), process.node());
            budget.note(node.configuration_index(), node.configuration());
            checks.on_started(member, node)?;
        }
        self.servers[server].has_entered = true;
        let mut founders = self.servers.iter().take(self.plan.founders);
        self.is_founded |= founders.all(|founder| founder.has_entered);
        // Connections made before have not said which cluster this server belongs to.
        self.renew_ways_of(server)?;
        self.wake(server);
        Ok(())
    }

    /// A start came to nothing: the power went, the disk failed, or what is on it is damaged and
    /// the server refuses. It may refuse only where something was damaged.
    fn on_start_failed(&mut self, server: usize, error: &StartError) -> Result<(), Broken> {
        let now = self.now();
        self.servers[server].entrance = None;
        if self.servers[server].disk.disk().list().is_err() {
            self.cut_power(server);
            return Ok(());
        }
        self.trace.tell(now, || format!("s{} does not start: {error}", server + 1));
        let member = self.servers[server].member();
        if error.is_damage() && self.budget.is_harmed(member) {
            self.budget.lose(member);
            self.close_all_of(server)?;
            return Ok(());
        }
        let is_excused = self.servers[server].is_short_of_room || self.has_disk_failed(server);
        if error.is_failure() && !error.is_damage() && is_excused {
            return self.kill(server);
        }
        Err(Broken::new("a sound disk starts", format!("{member}: {error}")))
    }

    /// Has the server's loop look around at once.
    pub(super) fn wake(&mut self, server: usize) {
        self.wake_at(server, self.now());
    }

    fn wake_at(&mut self, server: usize, at: Moment) {
        let life = self.servers[server].life;
        let Some(process) = &mut self.servers[server].process else { return };
        if process.wake_at.is_none_or(|planned| at < planned) {
            process.wake_at = Some(at);
            self.agenda.plan(at, Happening::Turn { server, life });
        }
    }

    /// Something went wrong, and that made a difference.
    pub(super) fn note_fired(&mut self, kind: FaultKind) {
        *self.fired.entry(kind).or_default() += 1;
    }

    pub(super) fn is_alive(&self, server: usize, life: u64) -> bool {
        self.servers[server].life == life && self.servers[server].process.is_some()
    }

    fn on_turn(&mut self, server: usize, life: u64) -> Result<(), Broken> {
        let now = self.now();
        if !self.is_alive(server, life) {
            return Ok(());
        }
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        if process.wake_at.is_none_or(|at| at > now) {
            // An earlier turn has done what this one was for.
            return Ok(());
        }
        process.wake_at = None;
        self.take_turn(server)
    }

    pub(super) fn take_turn(&mut self, server: usize) -> Result<(), Broken> {
        let now = self.now();
        self.trace.count_event();
        let DiskPlan { sync_min, sync_max, .. } = self.plan.disk;
        let micros = self.dice.disk(server).between(sync_min, sync_max);
        let it = &mut self.servers[server];
        it.set_base_write_micros(micros, now);
        it.clock.show(now);
        let is_congested = self.dice.network.permille(20) && !self.is_calm;
        let ways = self.snapshot_ways_of(server);
        let it = &mut self.servers[server];
        let mut outbox = Outbox::new(&it.clock, ways, is_congested);
        let result = it.turn(&mut outbox);
        let stood_still = outbox.stood_still();
        it.busy_until = now + stood_still;
        if stood_still > 0 && it.is_slow(now) {
            self.note_fired(FaultKind::SlowDisk);
        }
        self.trace.note(&[2, server as u64, now.0, outbox.said.len() as u64]);
        for (said, after) in &outbox.said {
            self.send(server, said, *after)?;
        }
        self.dial_for_snapshots(server, outbox.wanted);
        self.look_at(server)?;
        match result {
            Ok(deadline) => {
                self.wake_at(server, deadline.max(now + stood_still.max(1)));
                Ok(())
            }
            Err(fatal) => self.on_fatal(server, &fatal.to_string()),
        }
    }

    /// A process cannot go on: it ends, and says why; the disk is as it is. That may only be so
    /// where the disk failed, was full, or was damaged.
    pub(super) fn on_fatal(&mut self, server: usize, why: &str) -> Result<(), Broken> {
        if self.servers[server].disk.disk().list().is_err() {
            self.cut_power(server);
            return Ok(());
        }
        let now = self.now();
        self.trace.tell(now, || format!("s{} stops: {why}", server + 1));
        let it = &self.servers[server];
        let is_excused = it.is_short_of_room
            || self.has_disk_failed(server)
            || self.budget.is_harmed(it.member());
        if !is_excused {
            return Err(Broken::new("a sound disk serves", format!("{}: {why}", it.member())));
        }
        self.kill(server)
    }

    /// Takes what came of a turn, and checks what must hold.
    fn look_at(&mut self, server: usize) -> Result<(), Broken> {
        let (now, life) = (self.now(), self.servers[server].life);
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let completions = process.driver.take_completions();
        let events = process.driver.take_events();
        drop(process.driver.take_snapshot_events());
        let mut begun = Vec::new();
        while let Some(job) = process.driver.take_job() {
            process.jobs_begun += 1;
            process.jobs.insert(process.jobs_begun, job);
            begun.push(process.jobs_begun);
        }
        let writes = self.plan.disk.is_beside && process.node().is_writing();
        let flush = writes && !std::mem::replace(&mut process.flush_planned, writes);
        let World { servers, checks, .. } = self;
        let me = servers[server].member();
        let Some(process) = &servers[server].process else { return Ok(()) };
        checks.on_turn(me, process)?;
        self.check_committed(server)?;
        let World { servers, checks, budget, trace, .. } = self;
        let Some(process) = &servers[server].process else { return Ok(()) };
        let (mut have_changed, mut begun_changes, mut is_ending) = (false, 0, false);
        for event in &events {
            match event {
                node::Event::BecameLeader { term, .. } => {
                    checks.on_leader(*term, me, process.node())?;
                }
                node::Event::MembersChanged { index, configuration } => {
                    budget.note(*index, configuration);
                    have_changed = true;
                    let leads = process.leads();
                    is_ending |= leads && !configuration.is_joint();
                    // Each change begins with one joint configuration, at its leader.
                    begun_changes += u64::from(configuration.is_joint() && leads);
                }
                node::Event::TransferBegun { .. } => begun_changes += 1,
                _ => {}
            }
            trace.tell(now, || format!("s{} {event:?}", server + 1));
        }
        (0..begun_changes).for_each(|_| self.note_fired(FaultKind::Membership));
        if is_ending {
            self.be_hasty(server);
        }
        if have_changed {
            self.tell_joiners(server)?;
        }
        for job in begun {
            let mut micros = self.dice.disk(server).between(1, self.plan.disk.job_max);
            if self.dawdles(server)? {
                micros += self.dice.disk(server).below(SECOND);
            }
            self.plan_in(micros, Happening::Job { server, life, job });
        }
        if flush {
            let micros = self.servers[server].write_micros();
            self.plan_in(micros, Happening::Flush { server, life });
        }
        completions.into_iter().try_for_each(|completion| self.complete(server, completion))
    }

    fn on_job(&mut self, server: usize, life: u64, job: u64) -> Result<(), Broken> {
        if !self.is_alive(server, life) {
            return Ok(());
        }
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let Some(job) = process.jobs.remove(&job) else { return Ok(()) };
        self.trace.count_event();
        let done = job.run();
        if self.servers[server].disk.disk().list().is_err() {
            self.cut_power(server);
            return Ok(());
        }
        if let Some(process) = &mut self.servers[server].process {
            process.driver.finish_job(done, std::time::Duration::ZERO);
        }
        self.wake(server);
        Ok(())
    }

    fn on_flush(&mut self, server: usize, life: u64) -> Result<(), Broken> {
        if !self.is_alive(server, life) {
            return Ok(());
        }
        let now = self.now();
        if self.servers[server].is_slow(now) {
            self.note_fired(FaultKind::SlowDisk);
        }
        if let Some(process) = &mut self.servers[server].process {
            process.flush_planned = false;
            process.driver.replica_mut().run_flush();
        }
        self.wake(server);
        Ok(())
    }
}
