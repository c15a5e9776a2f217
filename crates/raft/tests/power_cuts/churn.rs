//! Members that come, go, lose their disks and are replaced, and leaders that hand over, while
//! everything else goes wrong too. Nobody is asked whether it is a good moment: most requests are
//! refused. Only what no cluster can survive is left out: that so many voters lose their disks, or
//! are removed while others have lost theirs, that no majority with its history is left.

use std::collections::BTreeMap;

use raft::node::{
    Change, ChangeOutcome, Configuration, EntryKind, Event, Incarnation, Index, Intent, Member,
    Message, RoleName, TransferOutcome, Voter,
};
use raft::replica::{Completion, Token};

use super::{Said, Server, World, founder, number};

/// Servers that one run has, at most.
const SERVERS_MAX: usize = 7;

/// Between two lives of a server.
const LIFE: u64 = 100;

/// What was asked of a replica and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Change,
    Transfer,
}

/// What a run knows of changes and transfers.
#[derive(Default)]
pub(super) struct Churn {
    asked: BTreeMap<Token, (usize, Asked)>,
    /// Configurations that a leader said to be final, by index.
    finished: BTreeMap<Index, Configuration>,
    pub(super) changes: u64,
    pub(super) transfers: u64,
    pub(super) wipes: u64,
}

impl World {
    /// The present life of a server.
    pub(super) fn member(&self, n: usize) -> Member {
        let first = founder(n);
        let incarnation = Incarnation(first.incarnation.0 + LIFE * self.servers[n].lives);
        Member { incarnation, ..first }
    }

    pub(super) fn change_something(&mut self, n: usize) {
        if self.chance.percent(10) && self.servers.len() < SERVERS_MAX {
            self.servers.push(Server::default());
            self.start(self.servers.len() - 1);
        }
        if self.chance.percent(3) {
            self.wipe(n);
        }
        // Mostly somebody who leads, or believes so, is asked.
        let leads = |n: &usize| {
            let running = self.servers[*n].running.as_ref();
            running.is_some_and(|(_, replica)| replica.node().role() == RoleName::Leader)
        };
        let leaders: Vec<usize> = (0..self.servers.len()).filter(leads).collect();
        let asked = match leaders.get(self.chance.below(leaders.len())) {
            Some(leader) => *leader,
            None if self.chance.percent(10) => n,
            None => return,
        };
        if self.chance.percent(25) {
            self.transfer(asked);
        } else {
            self.change(asked);
        }
    }

    /// A server loses its directory and is started again, as another member.
    fn wipe(&mut self, n: usize) {
        let configurations: Vec<Configuration> = self
            .servers
            .iter()
            .filter_map(|server| Some(server.running.as_ref()?.1.node().configuration().clone()))
            .collect();
        let everybody_is_here = configurations.len() == self.servers.len();
        let lost = self.member(n);
        let survives = |it: &Configuration| {
            [it.voters(), it.outgoing(), &voters_to_be(it)]
                .iter()
                .all(|voters| self.has_history(voters, Some(lost)))
        };
        if !everybody_is_here || !configurations.iter().all(survives) {
            return;
        }
        // A configuration that is still on its way could have other voters.
        let brings_one = |said: &Said| match said {
            Said::Raft(envelope) => matches!(envelope.message, Message::Append { .. }),
            Said::Snapshot(_) => true,
        };
        self.flight.retain(|said| !brings_one(said));
        self.churn.wipes += 1;
        self.crash(n);
        let lives = self.servers[n].lives + 1;
        self.servers[n] = Server { lives, ..Server::default() };
        self.start(n);
    }

    /// Whether a majority of these would still have their disks if one more lost its own.
    fn has_history(&self, voters: &[Voter], lost: Option<Member>) -> bool {
        let whole = |voter: &&Voter| {
            Some(voter.member) != lost && self.member(number(voter.member.id)) == voter.member
        };
        voters.is_empty() || 2 * voters.iter().filter(whole).count() > voters.len()
    }

    fn change(&mut self, n: usize) {
        let other = self.chance.below(self.servers.len());
        let new = self.a_newcomer(n);
        let (old, member) = (founder(other).id, self.member(new));
        let address = format!("127.0.0.1:{new}");
        let change = match self.chance.below(8) {
            0..=1 => Change::AddVoter { member, address },
            2 => Change::AddLearner { member, address },
            3 => Change::Promote(old),
            4..=5 => Change::Remove(old),
            6 => Change::Replace { old: member.id, member, address },
            _ => Change::Replace { old, member, address },
        };
        let Some((_, replica)) = &self.servers[n].running else { return };
        if let Change::Remove(gone) = &change {
            let voters = replica.node().configuration().voters().iter();
            let left: Vec<Voter> = voters.filter(|it| it.member.id != *gone).cloned().collect();
            if !self.has_history(&left, None) {
                return;
            }
        }
        let token = self.ask(n, Asked::Change);
        if let Some((_, replica)) = &mut self.servers[n].running {
            replica.change_membership(token, &change);
        }
    }

    /// A server, and mostly one that `n` takes for no member.
    fn a_newcomer(&mut self, n: usize) -> usize {
        let any = self.chance.below(self.servers.len());
        let Some((_, replica)) = &self.servers[n].running else { return any };
        let is_listed = |n: &usize| replica.node().configuration().lists(self.member(*n));
        let strangers: Vec<usize> = (0..self.servers.len()).filter(|n| !is_listed(n)).collect();
        match strangers.get(self.chance.below(strangers.len())) {
            Some(stranger) if self.chance.percent(80) => *stranger,
            _ => any,
        }
    }

    pub(super) fn transfer(&mut self, n: usize) {
        let to = founder(self.chance.below(self.servers.len())).id;
        let to_best = self.chance.percent(30);
        if self.servers[n].running.is_none() {
            return;
        }
        let token = self.ask(n, Asked::Transfer);
        if let Some((_, replica)) = &mut self.servers[n].running {
            if to_best {
                replica.hand_over(token);
            } else {
                replica.transfer_leadership(token, to);
            }
        }
    }

    fn ask(&mut self, n: usize, asked: Asked) -> Token {
        self.next += 1;
        self.churn.asked.insert(Token(self.next), (n, asked));
        Token(self.next)
    }

    /// Whoever asked a server that crashed hears nothing.
    pub(super) fn forget_asked(&mut self, n: usize) {
        self.churn.asked.retain(|_, (server, _)| *server != n);
    }

    /// Takes a completion of a change or a transfer. False when it is another's.
    pub(super) fn on_churn_completion(&mut self, completion: &Completion<Index>) -> bool {
        let (token, asked) = match completion {
            Completion::Changed(token, outcome) => {
                self.churn.changes += u64::from(*outcome == ChangeOutcome::Finished);
                (token, Asked::Change)
            }
            Completion::Transferred(token, ended) => {
                let handed_over = ended.outcome == TransferOutcome::HandedOver;
                self.churn.transfers += u64::from(handed_over);
                (token, Asked::Transfer)
            }
            Completion::TransferRefused(token, _) => (token, Asked::Transfer),
            Completion::Refused(token, _) if !self.proposed.contains_key(token) => {
                (token, Asked::Change)
            }
            _ => return false,
        };
        let ended = self.churn.asked.remove(token).map(|(_, asked)| asked);
        assert_eq!(ended, Some(asked), "a change and a transfer end once");
        true
    }

    /// Whoever follows the events knows the members: links between servers rest on that.
    pub(super) fn check_told(&mut self, n: usize, events: &[Event]) {
        let Server { running: Some((_, replica)), told, .. } = &mut self.servers[n] else { return };
        for event in events {
            if let Event::MembersChanged { configuration, .. } = event {
                *told = configuration.clone();
            }
        }
        assert_eq!(told, replica.node().configuration(), "server {n} changed members in silence");
    }

    /// What a leader has committed is final, its configuration too.
    pub(super) fn note_configuration(&mut self, n: usize) {
        let Some((_, replica)) = &self.servers[n].running else { return };
        let node = replica.node();
        let index = node.configuration_index();
        // A server that was never told of any has the empty one, at 0.
        if index > Index(0) && index <= node.commit() {
            let configuration = node.configuration().clone();
            let first = self.churn.finished.entry(index).or_insert_with(|| configuration.clone());
            assert_eq!(*first, configuration, "two servers committed different members at {index}");
        }
    }

    /// Members of the cluster in its last configuration that still have their disks.
    pub(super) fn present(&self) -> Vec<usize> {
        let Some(configuration) = self.leaders_configuration() else { return Vec::new() };
        let present = |member: &Member| self.member(number(member.id)) == *member;
        configuration.members().filter(present).map(|member| number(member.id)).collect()
    }

    fn leaders_configuration(&self) -> Option<&Configuration> {
        let replicas = self.servers.iter().filter_map(|server| Some(&server.running.as_ref()?.1));
        let leaders = replicas.filter(|replica| replica.node().role() == RoleName::Leader);
        let newest = leaders.max_by_key(|replica| replica.status().term)?;
        Some(newest.node().configuration())
    }

    /// Whether no change is under way, and every learner that can be promoted is.
    pub(super) fn is_membership_settled(&self) -> bool {
        let Some(configuration) = self.leaders_configuration() else { return false };
        let waits = |member: Member| {
            let learner = configuration.learner(member);
            learner.is_some_and(|it| it.intent != Intent::Stay)
                && self.member(number(member.id)) == member
        };
        !configuration.is_joint() && !configuration.members().any(waits)
    }

    /// As far as a log goes back, changes follow each other, each through its own joint phase, and
    /// what was final stands where it stood.
    pub(super) fn check_members_of(&mut self, n: usize) {
        let (_, replica) = self.servers[n].running.as_mut().expect("all run");
        let entries = replica.log_entries(Index(1), u32::MAX, u64::MAX).expect("a whole log");
        let entries = entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
        let log: BTreeMap<Index, Configuration> = entries
            .map(|entry| (entry.index, Configuration::decode(&entry.payload.bytes)))
            .map(|(index, decoded)| (index, decoded.expect("a leader wrote it")))
            .collect();
        for (before, after) in log.values().zip(log.values().skip(1)) {
            if before.is_joint() {
                assert_eq!(after.voters(), before.voters(), "the new half decides alone");
                assert_eq!(after.learners(), before.learners());
                assert!(!after.is_joint(), "a change ends before another begins");
            } else {
                assert_eq!(after.outgoing(), before.voters(), "the old half must agree");
            }
        }
        for (index, finished) in &self.churn.finished {
            // What a snapshot stands for is not in the log any more.
            let in_force = log.range(..=*index).next_back().map(|(_, configuration)| configuration);
            let known = in_force.unwrap_or(finished);
            assert_eq!(known, finished, "server {n} lost the members at {index}");
        }
    }
}

/// Who votes once every learner that is meant to has been promoted: its leader may do that at any
/// moment, having heard that it has caught up.
fn voters_to_be(configuration: &Configuration) -> Vec<Voter> {
    let promoted = configuration.learners().iter().filter(|it| it.intent != Intent::Stay);
    let promoted = promoted.map(|it| Voter { member: it.member, address: it.address.clone() });
    configuration.voters().iter().cloned().chain(promoted).collect()
}
