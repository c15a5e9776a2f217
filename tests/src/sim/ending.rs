//! How a run ends. First, faults stop for a quorum, chosen at random, while all others are dead or
//! cut off: it must come to rest alone. Then everybody is healed, and must come to the same state;
//! and a cold start of all must lead to that state again.

use raft::StateMachine;
use raft::node::{Index, Member, Term};

use crate::check::Broken;

use super::agenda::SECOND;
use super::dice::Chance;
use super::server::Server;
use super::world::World;

/// Without faults, a cluster comes to rest within so long.
const REST_MAX: u64 = 120 * SECOND;

/// Without its leader and without faults, it has another one within so long.
const ELECTION_MAX: u64 = 5 * SECOND;

impl World {
    pub(super) fn end(&mut self) -> Result<(), Broken> {
        self.budget.settle(self.checks.committed());
        self.calm_down();
        self.clients.iter_mut().for_each(|client| client.is_done = true);
        let quorum = self.choose_quorum();
        let now = self.now();
        self.trace.tell(now, || format!("calm for {quorum:?} alone"));
        self.set_apart(&quorum)?;
        self.come_to_rest("a quorum alone", &quorum)?;
        self.checks.quorums += 1;
        self.heal_all()?;
        let all: Vec<usize> = (0..self.servers.len()).collect();
        self.come_to_rest("everybody", &all)?;
        // Requests that a client has given up may still be on their way.
        while self.travelling > 0 {
            self.step()?;
        }
        self.come_to_rest("everybody", &all)?;
        self.lose_the_leader()?;
        self.come_to_rest("everybody", &all)?;
        self.check_equal_states()?;
        self.start_cold(&all)
    }

    /// Unharmed voters that are a quorum of every configuration that may be in force, and some
    /// more. Harmed voters are a minority everywhere, so there is one.
    fn choose_quorum(&mut self) -> Vec<usize> {
        let mut left: Vec<usize> = (0..self.servers.len()).collect();
        let mut chosen: Vec<usize> = Vec::new();
        while !self.is_quorum(&chosen) && !left.is_empty() {
            let next = left.swap_remove(self.dice.end.place(left.len()));
            chosen.push(next);
        }
        chosen.extend(left.into_iter().filter(|_| self.dice.end.permille(200)));
        chosen.sort_unstable();
        chosen
    }

    fn is_quorum(&self, chosen: &[usize]) -> bool {
        let chosen: Vec<Member> = chosen.iter().map(|it| self.servers[*it].member()).collect();
        let counts = |member: Member| chosen.contains(&member) && !self.budget.is_harmed(member);
        let mut in_force = self.budget.in_force();
        // Founding a cluster takes all of its founders.
        self.is_founded
            && in_force
                .all(|configuration| configuration.quorum().has(|voter| counts(voter.member)))
    }

    /// All others die, or are cut off.
    fn set_apart(&mut self, quorum: &[usize]) -> Result<(), Broken> {
        for server in (0..self.servers.len()).filter(|server| !quorum.contains(server)) {
            if self.dice.end.permille(500) {
                self.servers[server].is_held_down = true;
                self.stop_for_good(server);
            } else {
                self.network.isolated.insert(server);
            }
        }
        Ok(())
    }

    /// Everybody comes back. Those that were damaged start again, and so find out.
    fn heal_all(&mut self) -> Result<(), Broken> {
        self.network.mend_all();
        let damaged: Vec<Member> = self.budget.damaged().collect();
        for server in 0..self.servers.len() {
            self.servers[server].is_held_down = false;
            if damaged.contains(&self.servers[server].member()) {
                self.kill(server)?;
            }
            self.start(server)?;
        }
        Ok(())
    }

    /// Every request ends, there is a leader, and each of these that it counts on has applied all
    /// that there is and lacks nothing.
    fn come_to_rest(&mut self, who: &'static str, servers: &[usize]) -> Result<(), Broken> {
        let limit = self.now() + REST_MAX;
        while !self.is_at_rest(servers) {
            if self.now() > limit {
                let broken = Broken::new("liveness", format!("{who}: {}", self.describe()));
                return self.checks.switches.judge(Err(broken));
            }
            for _ in 0..100 {
                self.step()?;
            }
        }
        Ok(())
    }

    /// The leader is cut off, and nothing else is wrong: the others soon have another one.
    fn lose_the_leader(&mut self) -> Result<(), Broken> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let others: Vec<usize> = (0..self.servers.len()).filter(|it| *it != leader).collect();
        if !self.is_quorum(&others) {
            return Ok(());
        }
        let begin = self.now();
        self.trace.tell(begin, || format!("s{} is cut off", leader + 1));
        self.network.isolated.insert(leader);
        let old = self.latest_term_led_by(&[leader]);
        while self.latest_term_led_by(&others) <= old {
            if self.now() > begin + ELECTION_MAX {
                let what = format!("after {} s: {}", ELECTION_MAX / SECOND, self.describe());
                return self.checks.switches.judge(Err(Broken::new("elections end", what)));
            }
            self.step()?;
        }
        self.checks.elections_timed += 1;
        self.network.isolated.remove(&leader);
        Ok(())
    }

    /// The latest term that one of these leads.
    fn latest_term_led_by(&self, servers: &[usize]) -> Option<Term> {
        let processes = servers.iter().filter_map(|server| self.servers[*server].process.as_ref());
        processes.filter(|it| it.leads()).map(|it| it.node().term()).max()
    }

    fn is_at_rest(&self, servers: &[usize]) -> bool {
        let leads = |server: &&usize| {
            self.servers[**server].process.as_ref().is_some_and(|process| process.leads())
        };
        let term = |server: &&usize| {
            self.servers[**server].process.as_ref().map(|process| process.node().term())
        };
        let leader = servers.iter().filter(leads).max_by_key(term);
        let Some(leader) = leader.and_then(|it| self.servers[*it].process.as_ref()) else {
            return false;
        };
        let node = leader.node();
        let all = node.commit();
        let has_all = |server: &Server| {
            let member = server.member();
            let counts = node.configuration().lists(member) && !self.budget.is_lost(member);
            !counts
                || server.process.as_ref().is_some_and(|process| {
                    let node = process.node();
                    node.applied() == all && node.damaged() == 0 && !process.owes_answers()
                })
        };
        self.clients.iter().all(super::client::Client::is_idle)
            && all == node.last().index
            && !node.configuration().is_joint()
            && servers.iter().all(|server| has_all(&self.servers[*server]))
    }

    fn describe(&self) -> String {
        let states = self.servers.iter().map(|server| match (&server.process, &server.entrance) {
            (Some(process), _) => format!("\n  {:?}", process.driver.replica().status()),
            (_, Some(entrance)) => format!("\n  {} {:?}", server.member(), entrance.step()),
            _ => format!("\n  {} is down", server.member()),
        });
        let waiting = self.clients.iter().filter(|client| !client.is_idle()).count();
        let owed = |server: &Server| {
            let (process, number) = (server.process.as_ref()?, server.number + 1);
            let owed = (process.writes.len(), process.reads.len(), process.orders.len());
            (owed != (0, 0, 0)).then(|| format!("s{number} {owed:?}"))
        };
        let owed: Vec<String> = self.servers.iter().filter_map(owed).collect();
        let states: String = states.collect();
        let in_force: Vec<_> = self.budget.in_force().collect();
        format!(
            "no rest within {} s; {waiting} clients wait; (writes, reads, orders) owed: {owed:?}\
             {states}\n  in force: {in_force:?}",
            REST_MAX / SECOND
        )
    }

    fn check_equal_states(&mut self) -> Result<(), Broken> {
        for server in &self.servers {
            let process = server.process.as_ref();
            if let Some(machine) = process.and_then(|it| it.driver.replica().machine()) {
                let at = Index(machine.store.applied());
                self.checks.on_state(at, machine.store.hash())?;
            }
        }
        Ok(())
    }

    /// All machines lose power at once and start again: but for entries without commands, that
    /// new leaders append, the state is the same.
    fn start_cold(&mut self, all: &[usize]) -> Result<(), Broken> {
        let leader = self.leader().and_then(|leader| self.servers[leader].process.as_ref());
        let machine = leader.and_then(|process| process.driver.replica().machine());
        let Some(before) = machine.map(|machine| machine.store.image()) else { return Ok(()) };
        for server in all {
            self.cut_power(*server);
        }
        self.come_to_rest("everybody after a cold start", all)?;
        self.check_equal_states()?;
        let leader = self.leader().and_then(|leader| self.servers[leader].process.as_ref());
        let machine = leader.and_then(|process| process.driver.replica().machine());
        let Some(after) = machine.map(|machine| &machine.store) else { return Ok(()) };
        let mut before = before;
        let was_at = before.applied();
        if after.applied() > was_at {
            before.advance(after.applied());
        }
        self.checks.cold_restarts += 1;
        if before.hash() == after.hash() {
            return Ok(());
        }
        let what = format!(
            "at {} {:?} {:?}, then at {} {:?} {:?}",
            was_at,
            before.revision(),
            before.size(),
            after.applied(),
            after.revision(),
            after.size()
        );
        self.checks.switches.judge(Err(Broken::new("cold restart", what)))
    }
}
