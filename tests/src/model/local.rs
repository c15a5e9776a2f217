//! What one server can do, kept apart from what the others did meanwhile.
//!
//! A node is a function of its inputs: the same message in the same state always leads to the same
//! state and says the same. And while the states of a cluster are many millions, those of one
//! server are a few thousand, since they are combined anew with every state of the others. So each
//! state of a server, and each message, is kept once, and what an input does to it is computed
//! once. The search then goes through the clusters by looking up, not by running nodes.
//!
//! What is kept is kept for as long as the process runs: a search needs all of it until its end.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use raft::node::{
    Change, Entry, Envelope, LeadershipChanged, Member, Node, NodeId, Payload, ReadId, RoleName,
    Term,
};

use super::server::Server;
use super::{Disk, WAITING_MAX};

/// A message, kept once.
#[derive(Debug)]
pub(super) struct Letter {
    /// The same in every run.
    pub(super) print: u64,
    /// How many were known before it.
    number: usize,
    pub(super) envelope: Envelope,
}

/// A server at one moment, kept once.
#[derive(Debug)]
pub(super) struct Local {
    /// The same in every run.
    pub(super) print: u64,
    pub(super) server: Server,
    pub(super) role: Option<RoleName>,
    pub(super) term: Term,
    /// It can never be in an earlier term than this one again, whatever happens to it.
    pub(super) floor: Term,
    /// Whom its disk says it voted for, in that term.
    pub(super) vote: Option<Member>,
    next: Mutex<HashMap<Input, Option<&'static Moved>>>,
}

/// What can happen to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Input {
    Deliver(&'static Letter),
    Pass,
    Propose(u64),
    Read(u64),
    Remove(NodeId),
    Complete,
    Crash,
    Restart,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) local: &'static Local,
    pub(super) said: Vec<&'static Letter>,
    /// Reads that ended, with the index that they may be answered from.
    pub(super) reads: Vec<(u64, Result<u64, LeadershipChanged>)>,
}

/// Everything that is kept.
#[derive(Debug, Default)]
pub(super) struct Known {
    locals: Mutex<HashSet<&'static Local>>,
    letters: Mutex<HashMap<Envelope, &'static Letter>>,
}

impl Known {
    pub(super) fn local(&self, server: Server) -> &'static Local {
        let local = Local::new(server);
        let mut locals = self.locals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = locals.get(&local) {
            return known;
        }
        let local: &'static Local = Box::leak(Box::new(local));
        locals.insert(local);
        local
    }

    fn letter(&self, envelope: Envelope) -> &'static Letter {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let number = letters.len();
        let new = |envelope: &Envelope| -> &'static Letter {
            let letter = Letter { print: print(envelope), number, envelope: envelope.clone() };
            Box::leak(Box::new(letter))
        };
        letters.entry(envelope).or_insert_with_key(new)
    }

    /// How many states of single servers there are.
    pub(super) fn locals(&self) -> usize {
        self.locals.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What `input` does to a server. `None` if it can not happen to it.
    pub(super) fn follow(
        &self,
        local: &'static Local,
        input: &Input,
        disk: Disk,
    ) -> Option<&'static Moved> {
        let next = || local.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moved) = next().get(input) {
            return *moved;
        }
        let mut server = local.server.clone();
        let happened = happen(&mut server, input);
        let moved = happened.map(|()| {
            let (said, reads) = server.carry_out(disk);
            let said = said.into_iter().map(|envelope| self.letter(envelope)).collect();
            let reads = reads.into_iter().map(|read| (read.id.0, read.outcome.map(|it| it.0)));
            let moved = Moved { local: self.local(server), said, reads: reads.collect() };
            let moved: &'static Moved = Box::leak(Box::new(moved));
            moved
        });
        next().insert(input.clone(), moved);
        moved
    }
}

fn happen(server: &mut Server, input: &Input) -> Option<()> {
    match input {
        Input::Deliver(letter) => server.step(letter.envelope.clone()),
        Input::Pass => server.pass(),
        Input::Propose(number) => server.propose(Payload::new(format!("c{number}").into_bytes())),
        Input::Read(number) => server.read(ReadId(*number)),
        Input::Remove(id) => server.change(&Change::Remove(*id)),
        Input::Complete => server.complete_one(),
        Input::Crash => {
            server.crash();
            Some(())
        }
        Input::Restart => {
            server.restart();
            Some(())
        }
    }
}

fn print(it: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    it.hash(&mut hasher);
    hasher.finish()
}

impl Letter {
    /// The receiver's place among the servers.
    pub(super) fn to(&self) -> usize {
        place(self.envelope.to)
    }

    /// The sender's place among the servers.
    pub(super) fn from(&self) -> usize {
        place(self.envelope.from)
    }

    pub(super) fn order(&self) -> usize {
        self.number
    }
}

/// Servers are numbered from 1.
fn place(member: Member) -> usize {
    usize::try_from(member.incarnation.0).expect("a small cluster") - 1
}

impl Local {
    fn new(server: Server) -> Self {
        let hard_state = server.hard_state();
        Self {
            print: print(&server),
            role: server.node().map(Node::role),
            term: server.term(),
            floor: hard_state.term,
            vote: hard_state.vote,
            server,
            next: Mutex::default(),
        }
    }

    /// Whether it takes nothing before its disk is done with something.
    pub(super) fn is_busy(&self) -> bool {
        self.server.waiting() >= WAITING_MAX
    }

    pub(super) fn leads(&self) -> bool {
        self.role == Some(RoleName::Leader)
    }

    /// Whether both are in the same role and term, with the same vote, log and commit index.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let promises = |local: &Self| (local.role, local.term, local.floor, local.vote);
        promises(self) == promises(other)
            && self.server.committed().len() == other.server.committed().len()
            && self.log() == other.log()
            && self.server.durable() == other.server.durable()
    }

    pub(super) fn log(&self) -> &[Entry] {
        self.server.log()
    }
}

impl PartialEq for Letter {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Letter {}

impl Hash for Letter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl PartialEq for Local {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.print == other.print && self.server == other.server
    }
}

impl Eq for Local {}

impl Hash for Local {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}
