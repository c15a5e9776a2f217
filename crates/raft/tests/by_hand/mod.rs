//! One node that is told everything by hand, and whose disk completes at once unless it stalls.

use std::collections::VecDeque;

use raft::node::{
    Actions, Append, Boot, Config, Configuration, DurableState, Ended, Entry, EntryKind, Envelope,
    HardState, Incarnation, Index, LostEntry, MachineState, Member, Message, Node, NodeId, Payload,
    Position, ReadEnded, RestoreError, RoleName, SnapshotId, SnapshotPoint, Term, Voter,
};

/// Server s1.
pub struct One {
    pub node: Node,
    /// For each write that completes.
    pub disk_takes_ticks: u32,
    pub reads: Vec<ReadEnded>,
    pub ended: Vec<Ended>,
    pub snapshots: Vec<SnapshotPoint>,
    sent: Vec<Envelope>,
    writing: VecDeque<Append>,
    is_stalled: bool,
}

pub fn member(n: u64) -> Member {
    let id = NodeId::new(&format!("s{n}")).expect("a letter and a number");
    Member { id, incarnation: Incarnation(n) }
}

pub fn at(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

/// Entries behind `previous`, with these terms.
pub fn entries(previous: u64, terms: &[u64]) -> Vec<Entry> {
    let indexes = (previous + 1..).zip(terms);
    let entry = |(index, term): (u64, &u64)| {
        let (index, term) = (Index(index), Term(*term));
        Entry { index, term, kind: EntryKind::Empty, payload: Payload::default() }
    };
    indexes.map(entry).collect()
}

fn founders(count: u64) -> Configuration {
    let voter = |n| Voter { member: member(n), address: format!("127.0.0.1:{n}") };
    Configuration::new((1..=count).map(voter).collect()).expect("names differ")
}

impl One {
    /// One of three, whose log has entries of these terms.
    pub fn with_log(terms: &[u64]) -> Self {
        Self::of(3, terms)
    }

    /// One of `count`.
    pub fn of(count: u64, terms: &[u64]) -> Self {
        let term = Term(terms.last().copied().unwrap_or_default());
        let hard_state = HardState { term, vote: None };
        let one = Self::restored(count, entries(0, terms), hard_state, Vec::new());
        one.expect("a sound state")
    }

    pub fn restored(
        count: u64,
        log: Vec<Entry>,
        hard_state: HardState,
        lost: Vec<LostEntry>,
    ) -> Result<Self, RestoreError> {
        Self::start(None, count, log, hard_state, lost)
    }

    /// One of three, whose log begins behind a snapshot.
    pub fn behind_snapshot(position: Position, terms: &[u64]) -> Self {
        let hard_state = HardState { term: position.term, vote: None };
        let log = entries(position.index.0, terms);
        Self::start(Some(position), 3, log, hard_state, Vec::new()).expect("a sound state")
    }

    fn start(
        snapshot: Option<Position>,
        count: u64,
        log: Vec<Entry>,
        hard_state: HardState,
        lost: Vec<LostEntry>,
    ) -> Result<Self, RestoreError> {
        let mut runs: Vec<Position> = Vec::new();
        for entry in &log {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(entry.position());
            }
        }
        let start = snapshot.unwrap_or_default();
        let state = DurableState {
            hard_state,
            start,
            runs,
            last: log.last().map_or(start, Entry::position),
            recent: if lost.is_empty() { log } else { Vec::new() },
            snapshot: snapshot.map(|position| SnapshotId { position, bytes: 1, hash: [0; 16] }),
            machine: MachineState::Whole,
            configuration: founders(count),
            configurations: Vec::new(),
            lost,
        };
        let mut one = Self {
            node: Node::restore(Config::new(member(1), Boot(7)), state, 1)?,
            disk_takes_ticks: 0,
            reads: Vec::new(),
            ended: Vec::new(),
            snapshots: Vec::new(),
            sent: Vec::new(),
            writing: VecDeque::new(),
            is_stalled: false,
        };
        one.carry_out();
        Ok(one)
    }

    pub fn boot(&self) -> Boot {
        Boot(7)
    }

    /// A message from server `from`, in this term of its.
    pub fn hear(&mut self, from: u64, term: u64, message: Message) {
        self.hear_from(member(from), term, message);
    }

    pub fn hear_from(&mut self, from: Member, term: u64, message: Message) {
        self.deliver(Envelope { from, to: member(1), term: Term(term), message });
    }

    pub fn hear_as(&mut self, to: Member, from: u64, term: u64, message: Message) {
        self.deliver(Envelope { from: member(from), to, term: Term(term), message });
    }

    fn deliver(&mut self, envelope: Envelope) {
        self.node.step(envelope);
        self.carry_out();
    }

    pub fn ticks(&mut self, count: u32) {
        (0..count).for_each(|_| self.node.tick());
        self.carry_out();
    }

    /// Time passes until it asks for votes.
    pub fn campaign(&mut self) {
        self.ticks(self.node.ticks_until_due());
        assert_eq!(self.node.role(), RoleName::PreCandidate);
    }

    /// Campaigns with s2's pre-vote.
    pub fn become_candidate(&mut self) {
        self.campaign();
        let term = self.node.term();
        self.hear(2, term.0, Message::PreVoteGranted { campaign: term.next() });
        assert_eq!(self.node.role(), RoleName::Candidate);
    }

    /// Leads with s2's vote; only its own disk holds its first entry.
    pub fn lead(&mut self) {
        self.become_candidate();
        self.hear(2, self.node.term().0, Message::VoteGranted);
        assert_eq!(self.node.role(), RoleName::Leader);
        self.sent.clear();
    }

    /// What it said to server `to` since this was last asked.
    pub fn said(&mut self, to: u64) -> Vec<Message> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter().filter(|it| it.to == member(to)).map(|it| it.message).collect()
    }

    pub fn stall(&mut self) {
        self.is_stalled = true;
    }

    pub fn go(&mut self) {
        self.is_stalled = false;
        self.carry_out();
    }

    /// Writes that were given to the disk and have not completed.
    pub fn handed_out(&self) -> usize {
        self.writing.len()
    }

    pub fn complete_one(&mut self) {
        let append = self.writing.pop_front().expect("something is being written");
        self.node.on_durable(append.ticket, self.disk_takes_ticks);
    }

    pub fn carry_out(&mut self) {
        loop {
            let actions = self.node.drain();
            let is_done = actions.is_empty() && (self.is_stalled || self.writing.is_empty());
            let Actions { append, send, apply, reads, ended, snapshot, .. } = actions;
            self.sent.extend(send);
            self.reads.extend(reads);
            self.ended.extend(ended);
            self.snapshots.extend(snapshot);
            if let Some(last) = apply.last() {
                self.node.on_applied(last.index);
            }
            self.writing.extend(append);
            while !self.is_stalled && !self.writing.is_empty() {
                self.complete_one();
            }
            if is_done {
                return;
            }
        }
    }
}
