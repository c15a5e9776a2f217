//! What servers do for clients in the simulated world: they take requests, hand them to their
//! replica, and answer what completes.

use kvstore::store::Reply;
use raft::driver::Input;
use raft::node::{Configuration, Index, Payload, Position, ReadId, Voter};
use raft::replica::{Completion, Token};
use wal::sim_disk::SimDisk;

use crate::check::Broken;

use super::agenda::MILLISECOND;
use super::budget::Budget;
use super::client::{Answer, Door, Next, Sent, key_bytes, value_of};
use super::diagram::What;
use super::dice::Chance;
use super::history::Ask;
use super::network;
use super::server::{Asked, Server, number_of};
use super::world::{Happening, World};

impl World {
    fn doors(&self) -> Vec<Door> {
        let door = |server: &Server| {
            let process = server.process.as_ref()?;
            Some(Door { server: server.number, commit: process.node().commit().0 })
        };
        self.servers.iter().filter_map(door).collect()
    }

    pub(super) fn on_client(&mut self, client: usize) {
        let now = self.now();
        if self.clients[client].is_idle() {
            if self.clients[client].is_done {
                return;
            }
            let Some((key, ask)) = self.next_wish(client) else { return };
            let place = self.history.begin(client, key, ask, now);
            self.clients[client].begin(place, key, ask, now);
        }
        let doors = self.doors();
        let next = self.clients[client].attempt(&doors, now, self.dice.client(client));
        self.follow(client, next);
    }

    /// Draws what a client wants.
    pub(super) fn choose(&mut self) -> (u64, Ask) {
        let dice = &mut self.dice.wishes;
        let key = dice.below(self.plan.keys);
        self.values += 1;
        let value = self.values;
        let recent = self.recent.get(&key).copied().unwrap_or(0);
        let ask = match dice.below(10) {
            0..=3 => Ask::Get,
            4..=6 => Ask::Set(value),
            7 => Ask::SetIf(recent, value),
            8 => Ask::SetIfAbsent(value),
            _ => Ask::Delete,
        };
        if matches!(ask, Ask::Set(_) | Ask::SetIf(..)) {
            self.recent.insert(key, value);
        }
        (key, ask)
    }

    pub(super) fn follow(&mut self, client: usize, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Later(at) => self.agenda.plan(at, Happening::Client(client)),
            Next::Send { place, to, attempt, what, patience } => {
                if let Sent::Write(command) = &what {
                    self.history.note_command(place, command);
                }
                let asked = Asked { client, attempt };
                let micros = network::delay(&self.plan.network.calm(), self.dice.client(client));
                self.travelling += 1;
                self.plan_in(micros, Happening::Request { server: to, asked, what });
                self.agenda.plan(patience, Happening::Silence { client, attempt });
            }
            Next::Ended { place, told, again } => {
                let now = self.now();
                self.history.end(place, told, now);
                self.trace.tell(now, || format!("client {client}: {place} ended, {told:?}"));
                let note = || match told {
                    Some(told) => format!("client {client} is told {told:?}"),
                    None => format!("client {client} gives up: unknown"),
                };
                self.trace.mark(now, || What::World { is_grave: false, note: note() });
                let World { course, dice, agenda, .. } = self;
                let dice = &mut dice.wishes;
                if let Some(at) = course.next_wish_at(client, again, dice, 20 * MILLISECOND) {
                    agenda.plan(at, Happening::Client(client));
                }
            }
        }
    }

    pub(super) fn answer(&mut self, asked: Asked, answer: Answer) {
        let dice = self.dice.client(asked.client);
        let micros = network::delay(&self.plan.network.calm(), dice);
        self.plan_in(micros, Happening::Answered { asked, answer });
    }

    pub(super) fn on_request(
        &mut self,
        server: usize,
        asked: Asked,
        what: Sent,
    ) -> Result<(), Broken> {
        self.travelling -= 1;
        let Some(process) = &mut self.servers[server].process else {
            self.answer(asked, Answer::NothingHappened { leader: None });
            return Ok(());
        };
        let leader = process.node().leader().map(number_of);
        match what {
            Sent::Write(_) if !process.leads() => {
                let leader = leader.filter(|leader| *leader != server);
                self.answer(asked, Answer::NothingHappened { leader });
                return Ok(());
            }
            Sent::Write(command) => {
                let token = Token(process.next_name());
                process.writes.insert(token, asked);
                process.inbox.push(Input::Propose(token, Payload::new(command)));
            }
            Sent::Read(key) => {
                let id = ReadId(process.next_name());
                process.reads.insert(id, (asked, key));
                process.inbox.push(Input::Read(id));
            }
        }
        self.trace.count_event();
        self.wake(server);
        Ok(())
    }

    /// Whether to look at something that takes long, so often in a thousand times.
    fn looks_now(&mut self, permille: u64) -> bool {
        self.dice.nodes.permille(permille) || self.plan.looks_closely
    }

    pub(super) fn complete(
        &mut self,
        server: usize,
        completion: Completion<Reply>,
    ) -> Result<(), Broken> {
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let nothing = Answer::NothingHappened { leader: None };
        match completion {
            Completion::Applied(token, ..) | Completion::Unknown(token)
                if process.orders.remove(&token).is_some() => {}
            Completion::Refused(token, _) if process.orders.contains_key(&token) => {
                let command = process.orders.remove(&token).flatten();
                self.checks.refusals.on_refused(command);
            }
            Completion::Applied(token, index, reply) => {
                let asked = process.writes.remove(&token).ok_or_else(|| answered_twice(&token))?;
                self.check_acknowledged(server, index, reply)?;
                self.answer(asked, Answer::Applied(reply));
            }
            Completion::Refused(token, _) => {
                let asked = process.writes.remove(&token).ok_or_else(|| answered_twice(&token))?;
                self.answer(asked, nothing);
            }
            Completion::Unknown(token) => {
                let asked = process.writes.remove(&token).ok_or_else(|| answered_twice(&token))?;
                self.answer(asked, Answer::Unknown);
            }
            Completion::ReadReady(id) => {
                let asked = process.reads.remove(&id).ok_or_else(|| answered_twice(&id))?;
                let (asked, key) = asked;
                let machine = process.driver.replica().machine();
                let store = &machine.expect("a read is confirmed where there is a state").store;
                let value = store.get(&key_bytes(key)).map(|found| value_of(found.value));
                let applied = process.node().applied();
                if let Some(place) = self.clients[asked.client].place(asked.attempt) {
                    self.history.note_read(place, applied);
                }
                self.answer(asked, Answer::Read(value));
            }
            Completion::ReadLost(id, _) | Completion::ReadRefused(id, _) => {
                let asked = process.reads.remove(&id).ok_or_else(|| answered_twice(&id))?;
                self.answer(asked.0, nothing);
            }
            Completion::Changed(token, _)
            | Completion::Transferred(token, _)
            | Completion::TransferRefused(token, _) => {
                if process.orders.remove(&token).is_none() {
                    return Err(answered_twice(&token));
                }
            }
        }
        Ok(())
    }

    fn check_acknowledged(
        &mut self,
        server: usize,
        index: Index,
        reply: Reply,
    ) -> Result<(), Broken> {
        let looks_at_disks = self.looks_now(20);
        let Some(process) = &self.servers[server].process else { return Ok(()) };
        let node = process.node();
        let mut halves = disks_of(&self.servers, &self.budget, node.configuration());
        if node.configuration().is_joint() && node.configuration_index() > node.commit() {
            // It may have been committed before this change began.
            halves[0].clear();
        }
        self.checks.on_acknowledged(index, reply, looks_at_disks.then_some(&halves))
    }

    /// Looks at the disks when a leader has committed something: often only while voters change.
    pub(super) fn check_committed(&mut self, server: usize) -> Result<(), Broken> {
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let node = process.driver.replica().node();
        let (commit, in_force) = (node.commit(), node.configuration_index());
        let before = std::mem::replace(&mut process.seen, (commit, in_force));
        let Some(term) = node.term_at(commit).filter(|term| *term == node.term()) else {
            return Ok(());
        };
        if !process.leads() || commit == before.0 || in_force != before.1 {
            return Ok(());
        }
        let is_joint = process.node().configuration().is_joint();
        if !is_joint && !self.looks_now(5) {
            return Ok(());
        }
        let Some(process) = &self.servers[server].process else { return Ok(()) };
        let configuration = process.node().configuration();
        let halves = disks_of(&self.servers, &self.budget, configuration);
        self.checks.on_committed(Position { index: commit, term }, &halves)
    }
}

/// Every request ends exactly once.
fn answered_twice(request: &dyn std::fmt::Debug) -> Broken {
    Broken::new("a request ends once", format!("nobody waits for {request:?}"))
}

/// The disks of those who vote. One that is damaged says nothing about what it held.
fn disks_of<'a>(
    servers: &'a [Server],
    budget: &Budget,
    configuration: &Configuration,
) -> [Vec<Option<&'a SimDisk>>; 2] {
    let disk = |voter: &Voter| {
        let machine = &servers[number_of(voter.member.id)];
        let is_whole = !budget.is_harmed(voter.member) && machine.member() == voter.member;
        is_whole.then_some(&machine.disk)
    };
    let disks = |voters: &[Voter]| voters.iter().map(disk).collect();
    [disks(configuration.voters()), disks(configuration.outgoing())]
}
