//! The world: servers, what lies between them, clients, and what happens next.

use std::collections::BTreeMap;

use kvstore::wire::peer::PeerMessage;
use raft::driver::Input;
use raft::founding::Charter;
use raft::node::{self, Configuration, Envelope, Message, NodeId, Term, Voter};
use raft::replica::SnapshotEnvelope;

use crate::check::Broken;

use super::agenda::{Agenda, MILLISECOND, Moment};
use super::checks::Checks;
use super::client::{Answer, Client, Sent};
use super::clock::ServerClock;
use super::dice::{Chance, Dice};
use super::history::History;
use super::network::{self, Network, Outbox, Path, Said, Travelling};
use super::plan::{FaultKind, Plan};
use super::server::{Asked, Server, StartError, member};
use super::trace::Trace;

/// Between two attempts to connect.
const DIAL_AGAIN: u64 = 100 * MILLISECOND;

/// Between a close and the dial that tells what it meant.
const SUSPECT_AFTER: u64 = 2 * MILLISECOND;

/// Something that happens at a moment.
pub(super) enum Happening {
    /// A server's loop is to look around.
    Turn { server: usize, life: u64 },
    /// A frame comes to the end of its way.
    Arrive(Travelling),
    /// A server wants a connection to another.
    Dial(Path),
    /// A server finds out whether the process that led it still lives.
    Suspect { server: usize, leader: usize, life: u64, term: Term },
    /// Long work is done.
    Job { server: usize, life: u64, job: u64 },
    /// A disk beside the loop has written.
    Flush { server: usize, life: u64 },
    /// A server that is down is started.
    Start(usize),
    /// Something goes wrong.
    Strike,
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
    pub(super) agenda: Agenda<Happening>,
    pub(super) servers: Vec<Server>,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) checks: Checks,
    pub(super) trace: Trace,
    pub(super) fired: BTreeMap<FaultKind, u64>,
    /// Frames that were lost, repeated, changed or came late.
    pub(super) frames_hit: u64,
    /// No more faults.
    pub(super) is_calm: bool,
    charter: Charter,
    pub(super) values: u64,
    /// The value that each key was last told to have.
    pub(super) recent: BTreeMap<u64, u64>,
}

impl World {
    pub(super) fn new(seed: u64, is_watched: bool) -> World {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice.plan);
        let voter = |number: usize| Voter {
            member: member(number),
            address: format!("127.0.0.1:{}", number + 1),
        };
        let configuration = Configuration::new((0..plan.servers).map(voter).collect());
        let configuration = configuration.expect("names differ");
        let charter = Charter { name: "simulated".into(), configuration };
        let drift_max = plan.faults.drift_ppm_max;
        let servers = (0..plan.servers).map(|number| {
            let drift = dice.clock.below(2 * drift_max + 1);
            let drift = i64::try_from(drift).unwrap_or_default()
                - i64::try_from(drift_max).unwrap_or_default();
            Server::new(number, ServerClock::new(drift, dice.clock.below(1 << 40)))
        });
        let servers = servers.collect();
        let mut agenda = Agenda::new();
        for server in 0..plan.servers {
            agenda.plan(Moment(dice.clock.below(50 * MILLISECOND)), Happening::Start(server));
        }
        for client in 0..plan.clients {
            agenda.plan(Moment(dice.clients.below(MILLISECOND)), Happening::Client(client));
        }
        agenda.plan(Moment(0) + plan.faults.every, Happening::Strike);
        World {
            agenda,
            servers,
            network: Network::default(),
            clients: (0..plan.clients).map(|_| Client::new()).collect(),
            history: History::default(),
            checks: Checks::default(),
            trace: Trace::new(is_watched),
            fired: BTreeMap::new(),
            frames_hit: 0,
            is_calm: false,
            charter,
            values: 0,
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
        let happening = self.agenda.take().expect("servers always want another turn");
        if let Some((server, until)) = self.waits(&happening) {
            self.trace.note(&[1, server as u64, until.0]);
            self.agenda.plan(until, happening);
            return Ok(());
        }
        match happening {
            Happening::Turn { server, life } => self.on_turn(server, life),
            Happening::Arrive(frame) => self.on_arrival(frame),
            Happening::Dial(path) => {
                self.on_dial(path);
                Ok(())
            }
            Happening::Suspect { server, leader, life, term } => {
                self.on_suspicion(server, leader, life, term)
            }
            Happening::Job { server, life, job } => self.on_job(server, life, job),
            Happening::Flush { server, life } => self.on_flush(server, life),
            Happening::Start(server) => self.start(server),
            Happening::Strike => self.strike(),
            Happening::Mend(path) => {
                self.network.cut.remove(&path);
                Ok(())
            }
            Happening::Client(client) => {
                self.on_client(client);
                Ok(())
            }
            Happening::Silence { client, attempt } => {
                let now = self.now();
                let next = self.clients[client].on_silence(attempt, now, &mut self.dice.clients);
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
            | Happening::Suspect { server, .. }
            | Happening::Request { server, .. } => *server,
            Happening::Arrive(frame) => frame.path.1,
            _ => return None,
        };
        let until = self.servers[server].busy_until;
        (until > self.now() && self.servers[server].process.is_some()).then_some((server, until))
    }

    // ------------------------------------------------------------------ servers

    pub(super) fn start(&mut self, server: usize) -> Result<(), Broken> {
        if self.servers[server].process.is_some() {
            return Ok(());
        }
        let (now, seed) = (self.now(), self.dice.nodes.draw());
        let started = self.servers[server].start(&self.plan, &self.charter, now, seed);
        match started {
            Ok(()) => {}
            Err(StartError::PowerOff) => {
                self.cut_power(server);
                return Ok(());
            }
            Err(StartError::Home(error)) => {
                return Err(Broken::new("a sound disk starts", error.to_string()));
            }
            Err(StartError::Restore(reason)) => {
                return Err(Broken::new("a sound disk starts", reason));
            }
        }
        self.trace.tell(now, || format!("s{} starts", server + 1));
        if let Some(process) = &self.servers[server].process {
            self.checks.on_started(member(server), process.node())?;
        }
        for other in (0..self.servers.len()).filter(|other| *other != server) {
            self.plan_in(1, Happening::Dial((server, other)));
            self.plan_in(1, Happening::Dial((other, server)));
        }
        self.wake(server);
        Ok(())
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

    fn is_alive(&self, server: usize, life: u64) -> bool {
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

    fn take_turn(&mut self, server: usize) -> Result<(), Broken> {
        let now = self.now();
        self.trace.count_event();
        let micros = self.dice.disk.between(self.plan.disk.sync_min, self.plan.disk.sync_max);
        let it = &mut self.servers[server];
        it.set_base_write_micros(micros, now);
        it.clock.show(now);
        let mut outbox = Outbox::new(&it.clock, self.dice.network.permille(20));
        let result = it.turn(&mut outbox);
        let stood_still = outbox.stood_still();
        it.busy_until = now + stood_still;
        self.trace.note(&[2, server as u64, now.0, outbox.said.len() as u64]);
        for (said, after) in outbox.said {
            self.send(server, &said, after)?;
        }
        self.look_at(server)?;
        match result {
            Ok(deadline) => self.wake_at(server, deadline.max(now + stood_still.max(1))),
            Err(_) if self.servers[server].disk.disk().list().is_err() => self.cut_power(server),
            // The process ends, and says why; the disk is as it is.
            Err(fatal) => {
                self.trace.tell(now, || format!("s{} stops: {fatal}", server + 1));
                self.kill(server);
            }
        }
        Ok(())
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
        self.checks.on_turn(member(server), process)?;
        for event in &events {
            if let node::Event::BecameLeader { term, .. } = event {
                self.checks.on_leader(*term, member(server))?;
            }
            self.trace.tell(now, || format!("s{} {event:?}", server + 1));
        }
        for job in begun {
            let micros = self.dice.disk.between(1, self.plan.disk.job_max);
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
        if let Some(process) = &mut self.servers[server].process {
            process.flush_planned = false;
            process.driver.replica_mut().run_flush();
        }
        self.wake(server);
        Ok(())
    }

    // ------------------------------------------------------------------ between servers

    fn send(&mut self, from: usize, said: &Said, after: u64) -> Result<(), Broken> {
        let path = network::path(from, said.to().id);
        if let Said::Raft(envelope) = said {
            self.checks.on_spoken(envelope)?;
        }
        let Some(up) = self.network.up(path) else { return Ok(()) };
        let (connection, to) = (up.number, up.to);
        if to.incarnation != said.to().incarnation {
            return Ok(());
        }
        let bytes = said.encode(to);
        self.trace.note(&[3, path.0 as u64, path.1 as u64, u64::from(crc32(&bytes))]);
        let now = self.now();
        let fates = network::fates(&self.plan.network, &mut self.dice.network);
        self.frames_hit += u64::from(fates.len() != 1);
        for delay in fates {
            let mut bytes = bytes.clone();
            if self.dice.network.permille(self.plan.network.flipped_permille) {
                let bit = self.dice.network.place(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                self.frames_hit += 1;
            }
            let name = said.name();
            self.trace
                .tell(now, || format!("s{} -> s{} {name}, {delay} us", path.0 + 1, path.1 + 1));
            self.plan_in(after + delay, Happening::Arrive(Travelling { path, connection, bytes }));
        }
        Ok(())
    }

    fn on_arrival(&mut self, frame: Travelling) -> Result<(), Broken> {
        let Travelling { path, connection, bytes } = frame;
        let is_up = self.network.up(path).is_some_and(|up| up.number == connection);
        let (from, to) = path;
        if !is_up || self.network.is_cut(path) || self.servers[to].process.is_none() {
            return Ok(());
        }
        let Some(message) = network::read(bytes) else {
            self.reset(path);
            return Ok(());
        };
        if let Some(term) = network::term_of_append(&message) {
            self.network.note_append(path, term);
        }
        let (sender, receiver) = (member(from), member(to));
        let Some(process) = &mut self.servers[to].process else { return Ok(()) };
        let me = process.addressee();
        let input = match message {
            PeerMessage::Raft { to, term, message } if to == me => {
                Input::Message(Envelope { from: sender, to: receiver, term, message })
            }
            PeerMessage::Snapshot { to, snapshot, message } if to == me => {
                Input::Snapshot(SnapshotEnvelope { from: sender, to: receiver, snapshot, message })
            }
            _ => return Ok(()),
        };
        process.inbox.push(input);
        self.trace.count_event();
        self.wake(to);
        Ok(())
    }

    fn on_dial(&mut self, path: Path) {
        let (from, to) = path;
        if self.servers[from].process.is_none() || self.network.up(path).is_some() {
            return;
        }
        let is_open = !self.network.is_cut(path) && !self.network.is_cut((to, from));
        let now = self.now();
        let answers = self.servers[to].busy_until <= now;
        match &self.servers[to].process {
            Some(process) if is_open && answers => {
                let addressee = process.addressee();
                self.network.connect(path, addressee);
            }
            _ => self.plan_in(DIAL_AGAIN, Happening::Dial(path)),
        }
    }

    /// A connection ends while both sides live.
    pub(super) fn reset(&mut self, path: Path) {
        if self.network.disconnect(path).is_some() {
            let micros = self.dice.network.between(MILLISECOND, DIAL_AGAIN);
            self.plan_in(micros, Happening::Dial(path));
        }
    }

    /// The machine of a process that died closes its connections; whoever followed it notices.
    pub(super) fn close_all_of(&mut self, server: usize) {
        for other in (0..self.servers.len()).filter(|other| *other != server) {
            if let Some(up) = self.network.disconnect((server, other))
                && let Some(term) = up.led
            {
                let (leader, life) = (server, self.servers[server].life);
                let suspect = Happening::Suspect { server: other, leader, life, term };
                self.plan_in(SUSPECT_AFTER, suspect);
            }
            self.reset((other, server));
        }
    }

    fn on_suspicion(
        &mut self,
        server: usize,
        leader: usize,
        life: u64,
        term: Term,
    ) -> Result<(), Broken> {
        let is_open =
            !self.network.is_cut((server, leader)) && !self.network.is_cut((leader, server));
        if !is_open || self.is_alive(leader, life) {
            return Ok(());
        }
        let gone = member(leader);
        if let Some(process) = &mut self.servers[server].process {
            process.inbox.push(Input::LeaderGone(gone, term));
            self.trace.count_event();
            self.wake(server);
        }
        Ok(())
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// A vote that leaves a server.
pub(super) fn vote_in(envelope: &Envelope) -> Option<(Term, NodeId)> {
    matches!(envelope.message, Message::VoteGranted).then_some((envelope.term, envelope.to.id))
}
