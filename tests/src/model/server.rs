//! One server of the model: the production node over a disk that is as simple as can be.

use std::collections::VecDeque;

use raft::node::{
    Actions, Append, Change, Config, Configuration, DurableState, Entry, EntryKind, Envelope,
    HardState, Index, MachineState, Node, Payload, Position, ReadEnded, ReadId, Term,
};

use super::{Disk, FOUNDING_TERM};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    config: Config,
    /// `None` while it is crashed.
    node: Option<Node>,
    /// Appends that the disk was given and has not completed.
    writing: VecDeque<Append>,
    /// The log in memory: what is on the disk once all appends are complete.
    log: Vec<Entry>,
    // The disk.
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Server {
    /// A server whose log holds the founding configuration and nothing else.
    pub(super) fn found(config: Config, founders: &Configuration) -> Self {
        let founding = Entry {
            index: Index(1),
            term: FOUNDING_TERM,
            kind: EntryKind::Configuration,
            payload: Payload::new(founders.encode()),
        };
        let mut server = Self {
            config,
            node: None,
            writing: VecDeque::new(),
            log: Vec::new(),
            hard_state: HardState { term: FOUNDING_TERM, vote: None },
            entries: vec![founding],
        };
        server.start();
        server
    }

    pub(super) fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    pub(super) fn term(&self) -> Term {
        self.node.as_ref().map_or(self.hard_state.term, |node| node.status().term)
    }

    /// Its promises, on the disk.
    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(super) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// How many appends the disk has not completed.
    pub(super) fn waiting(&self) -> usize {
        self.writing.len()
    }

    /// What is on the disk.
    pub(super) fn durable(&self) -> &[Entry] {
        &self.entries
    }

    /// What the node holds, on the disk or not.
    pub(super) fn log(&self) -> &[Entry] {
        &self.log
    }

    pub(super) fn committed(&self) -> &[Entry] {
        let commit = self.node.as_ref().map_or(Index(0), Node::commit);
        let count = usize::try_from(commit.0).expect("a small log");
        self.log.get(..count).expect("only entries that exist are committed")
    }

    pub(super) fn step(&mut self, envelope: Envelope) -> Option<()> {
        self.node.as_mut()?.step(envelope);
        Some(())
    }

    pub(super) fn pass(&mut self) -> Option<()> {
        let node = self.node.as_mut()?;
        for _ in 0..node.ticks_until_due() {
            node.tick();
        }
        Some(())
    }

    pub(super) fn propose(&mut self, command: Payload) -> Option<()> {
        self.node.as_mut()?.propose(vec![command]).ok().map(drop)
    }

    pub(super) fn read(&mut self, id: ReadId) -> Option<()> {
        self.node.as_mut()?.request_read(id).ok()
    }

    pub(super) fn change(&mut self, change: &Change) -> Option<()> {
        self.node.as_mut()?.change_membership(change).ok().map(drop)
    }

    pub(super) fn crash(&mut self) {
        self.node = None;
        self.writing.clear();
        self.log.clear();
    }

    pub(super) fn restart(&mut self) {
        self.config.boot = self.config.boot.next();
        self.start();
    }

    fn start(&mut self) {
        let mut runs: Vec<Position> = Vec::new();
        let mut configurations = Vec::new();
        for entry in &self.entries {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(entry.position());
            }
            if entry.kind == EntryKind::Configuration {
                let decoded = Configuration::decode(&entry.payload.bytes);
                configurations.push((entry.index, decoded.expect("a node wrote it")));
            }
        }
        let state = DurableState {
            hard_state: self.hard_state,
            start: Position::default(),
            runs,
            last: self.entries.last().map(Entry::position).unwrap_or_default(),
            recent: self.entries.clone(),
            snapshot: None,
            machine: MachineState::Whole,
            configuration: Configuration::default(),
            configurations,
            lost: Vec::new(),
        };
        let node = Node::restore(self.config.clone(), state, 0);
        self.node = Some(node.expect("what a node wrote can be read back"));
        self.log.clone_from(&self.entries);
    }

    /// Does what the node asks for until it asks for nothing more; returns what it said, and which
    /// reads it ended.
    pub(super) fn carry_out(&mut self, disk: Disk) -> (Vec<Envelope>, Vec<ReadEnded>) {
        let (mut said, mut ended) = (Vec::new(), Vec::new());
        while let Some(node) = self.node.as_mut() {
            let actions = node.drain();
            if actions.is_empty() {
                break;
            }
            let Actions { append, send, apply, fetch, reads, .. } = actions;
            assert!(fetch.is_empty(), "every entry of so short a log is in memory");
            said.extend(send);
            ended.extend(reads);
            if let Some(last) = apply.last() {
                node.on_applied(last.index);
            }
            if let Some(append) = append {
                write(&mut self.log, &append);
                self.writing.push_back(append);
            }
            while self.is_done(disk) && self.complete_one().is_some() {}
        }
        (said, ended)
    }

    /// Whether the oldest append completes before anything else happens. One that has nothing to
    /// write need not be seen to wait: it only holds back messages, which a network may do as well.
    fn is_done(&self, disk: Disk) -> bool {
        disk == Disk::AtOnce || self.writing.front().is_some_and(Append::is_empty)
    }

    /// The disk completes the oldest append it was given.
    pub(super) fn complete_one(&mut self) -> Option<()> {
        let append = self.writing.pop_front()?;
        self.hard_state = append.hard_state.unwrap_or(self.hard_state);
        write(&mut self.entries, &append);
        self.node.as_mut()?.on_durable(append.ticket, 0);
        Some(())
    }
}

fn write(log: &mut Vec<Entry>, append: &Append) {
    if let Some(after) = append.truncate_after {
        log.retain(|entry| entry.index <= after);
    }
    log.extend(append.entries.iter().cloned());
}
