//! Whoever looks after the cluster: takes servers in, promotes, removes and replaces them, and
//! brings back what was wiped, what refuses to start, and what was removed, as an operator would:
//! with an empty directory, to be taken in again.

use raft::driver::Input;
use raft::node::{Change, Configuration, Member, NodeId};
use raft::replica::Token;

use crate::check::Broken;

use super::agenda::{MILLISECOND, SECOND};
use super::dice::Chance;
use super::plan::FaultKind;
use super::server::{address, number_of};
use super::world::{Happening, World};

/// Between two looks at the cluster.
pub(super) const LOOK_EVERY: u64 = 700 * MILLISECOND;

/// A disk is exchanged in so long.
const EXCHANGE_MICROS: u64 = SECOND;

impl World {
    /// Brings back what cannot come back by itself, and has what was lost replaced.
    pub(super) fn look_after(&mut self) -> Result<(), Broken> {
        self.plan_in(LOOK_EVERY, Happening::Look);
        let commit = self.checks.committed();
        self.budget.settle(commit);
        if self.is_calm {
            return Ok(());
        }
        for server in 0..self.servers.len() {
            let it = &self.servers[server];
            let member = it.member();
            let lacks_nothing = it.process.as_ref().is_some_and(|process| {
                process.node().damaged() == 0 && process.driver.replica().machine().is_some()
            });
            self.budget.look_at(member, &it.disk, lacks_nothing);
            let is_refused = self.budget.is_lost(member) && !it.is_up();
            let has_left = it.process.is_some()
                && !self.budget.lists(member)
                && self.dice.operator.permille(200);
            if is_refused || has_left {
                self.exchange_disk(server);
            }
        }
        self.replace_a_lost_one()
    }

    /// The server gets an empty disk, and waits to be taken in.
    fn exchange_disk(&mut self, server: usize) {
        let now = self.now();
        self.trace.tell(now, || format!("s{} gets an empty disk", server + 1));
        let member = self.servers[server].member();
        self.stop_for_good(server);
        self.budget.lose(member);
        self.servers[server].wipe();
        self.plan_in(EXCHANGE_MICROS, Happening::Start(server));
    }

    /// A member whose promises are forgotten is replaced by its next life, once that waits.
    fn replace_a_lost_one(&mut self) -> Result<(), Broken> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(process) = &self.servers[leader].process else { return Ok(()) };
        let configuration = process.node().configuration();
        let lost = configuration.members().find(|member| {
            self.budget.is_lost(*member) && process.joiners.contains_key(&member.id)
        });
        match lost {
            Some(lost) => {
                let member = process.joiners[&lost.id];
                let change = Change::Replace { old: lost.id, member, address: of(member) };
                self.ask(leader, change)
            }
            None => Ok(()),
        }
    }

    /// Changes who belongs to the cluster, or who leads it. True if a disk is gone; what a leader
    /// is asked for counts when it begins that.
    pub(super) fn change_something(&mut self, server: usize) -> Result<bool, Broken> {
        let what = self.dice.fault(FaultKind::Membership).below(12);
        let wipes = what == 0;
        if wipes {
            return Ok(self.wipe(server));
        }
        let Some(leader) = self.leader() else { return Ok(false) };
        if what <= 2 {
            if what == 2 {
                return self.hand_over(leader, server).map(|()| false);
            }
            let Some(process) = &mut self.servers[leader].process else { return Ok(false) };
            let token = Token(process.next_name());
            process.orders.insert(token, None);
            return self.hand_in(leader, Input::HandOver(token)).map(|()| false);
        }
        if let Some(change) = self.choose_change(leader, what) {
            self.ask(leader, change)?;
        }
        self.be_hasty(server);
        Ok(false)
    }

    /// Somebody wants another server to lead. Perhaps the one that leads is given commands while it
    /// hands over.
    pub(super) fn hand_over(&mut self, leader: usize, heir: usize) -> Result<(), Broken> {
        let to = self.servers[heir].member().id;
        let commands = self.dice.fault(FaultKind::Membership).pick(&[0, 0, 3]);
        let Some(process) = &mut self.servers[leader].process else { return Ok(()) };
        let token = Token(process.next_name());
        process.orders.insert(token, None);
        self.hand_in(leader, Input::Transfer(token, to))?;
        self.flood(leader, commands)
    }

    /// Somebody will not wait for what they asked for before they ask for more.
    pub(super) fn be_hasty(&mut self, server: usize) {
        let round_trip = 2 * self.plan.network.delay_max + self.plan.disk.sync_max;
        let permille = self.plan.faults.hasty_permille;
        let dice = self.dice.fault(FaultKind::Membership);
        if dice.permille(permille) {
            let micros = if dice.permille(500) { 0 } else { dice.below(2 * round_trip) };
            self.plan_in(micros, Happening::Again(server));
        }
    }

    /// Another change, while the one before may be under way.
    pub(super) fn change_again(&mut self, server: usize) -> Result<(), Broken> {
        let Some(leader) = self.leader().filter(|_| !self.is_calm) else { return Ok(()) };
        let what = self.dice.fault(FaultKind::Membership).between(3, 11);
        let change = self.choose_change(leader, what).or_else(|| self.choose_change(leader, 9));
        if let Some(change) = change {
            self.ask(leader, change)?;
        }
        self.be_hasty(server);
        Ok(())
    }

    /// A machine's disk is gone, if the cluster can bear that.
    fn wipe(&mut self, server: usize) -> bool {
        let may = self.may_harm(server);
        if may {
            self.exchange_disk(server);
        }
        may
    }

    pub(super) fn choose_change(&mut self, leader: usize, what: u64) -> Option<Change> {
        let World { servers, dice, .. } = self;
        let dice = dice.fault(FaultKind::Membership);
        let process = servers[leader].process.as_ref()?;
        let configuration = process.node().configuration();
        let mut any = |from: Vec<Member>| (!from.is_empty()).then(|| from[dice.place(from.len())]);
        let waits = any(process.joiners.values().copied().collect());
        let voter = any(configuration.voters().iter().map(|it| it.member).collect());
        let learner = any(configuration.learners().iter().map(|it| it.member).collect());
        match what {
            3..=5 => waits.map(|member| Change::AddVoter { member, address: of(member) }),
            6 => waits.map(|member| Change::AddLearner { member, address: of(member) }),
            7 => learner.map(|learner| Change::Promote(learner.id)),
            8 => Some(Change::Remove(process.node().me().id)),
            9 => voter.or(learner).map(|gone| Change::Remove(gone.id)),
            _ => {
                let member = waits?;
                Some(Change::Replace { old: voter?.id, member, address: of(member) })
            }
        }
    }

    /// Asks a leader for a change, at once, unless the cluster could not bear it.
    pub(super) fn ask(&mut self, leader: usize, change: Change) -> Result<(), Broken> {
        let now = self.now();
        if self.servers[leader].busy_until > now {
            return Ok(());
        }
        let Some(process) = &mut self.servers[leader].process else { return Ok(()) };
        let configuration = process.node().configuration();
        if !self.budget.bears(configuration, &change) {
            return Ok(());
        }
        self.trace.tell(now, || format!("s{} is asked for {change:?}", leader + 1));
        let token = Token(process.next_name());
        process.orders.insert(token, None);
        process.inbox.push(Input::Change(token, change));
        self.trace.count_event();
        // Before anything else can be harmed.
        self.take_turn(leader)
    }
}

impl super::budget::Budget {
    /// Whether most voters are unharmed after a change.
    fn bears(&self, configuration: &Configuration, change: &Change) -> bool {
        let gone: Option<NodeId> = match change {
            Change::Remove(id) => Some(*id),
            Change::Promote(id) => {
                let learners = configuration.learners().iter().map(|it| it.member);
                return !learners.filter(|it| it.id == *id).any(|it| self.is_harmed(it));
            }
            _ => None,
        };
        let voters = configuration.voters().iter().map(|voter| voter.member);
        self.leaves_most_of(voters.filter(|voter| Some(voter.id) != gone), None)
    }
}

fn of(member: Member) -> String {
    address(number_of(member.id))
}
