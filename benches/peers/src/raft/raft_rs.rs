//! raft-rs: three of its nodes on one thread, put to the work of our
//! [`Trio`](benches::nodes::Trio).
//!
//! It is driven the fastest way that its contract allows. A whole batch is one proposal of many
//! entries, where its own `propose` would send one message for each. Entries go to the storage by
//! value, payloads are shared, messages are handed over without being encoded. The commit index is
//! not sent for its own sake but with the next entries, as ours is, and nobody ticks. The storage
//! is a queue without a lock that keeps as many entries as ours keeps in memory; its own
//! `MemStorage` has a lock and moves all entries when it is compacted.

use std::cmp::min;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use benches::measure::{Side, Slice};
use benches::{Error, Result};
use bytes::Bytes;
use raft_proto::eraftpb::{ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot};
use raft_rs::storage::{GetEntriesContext, RaftState};
use raft_rs::{Config, RawNode, StateRole, Storage, StorageError};
use slog::{Discard, Logger, o};

/// As many entries of 100 bytes as ours keeps in memory.
const ENTRIES_KEPT: usize = 8192;

const NODES: u64 = 3;

/// The log of one node, in memory and without gaps.
#[derive(Default)]
struct Memory {
    hard_state: HardState,
    entries: VecDeque<Entry>,
    /// Index and term before the first entry.
    start: (u64, u64),
}

impl Memory {
    fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        while self.entries.back().is_some_and(|entry| entry.index >= first) {
            self.entries.pop_back();
        }
        self.entries.extend(entries);
        while self.entries.len() > ENTRIES_KEPT {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.start = (oldest.index, oldest.term);
        }
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.start.0 + 1)?).ok()
    }
}

impl Storage for Memory {
    fn initial_state(&self) -> raft_rs::Result<RaftState> {
        let voters = ConfState { voters: (1..=NODES).collect(), ..ConfState::default() };
        Ok(RaftState::new(self.hard_state.clone(), voters))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft_rs::Result<Vec<Entry>> {
        let place = |index| self.place(index).ok_or(StorageError::Compacted);
        let (low, high) = (place(low)?, min(place(high)?, self.entries.len()));
        let mut left = max_size.into().unwrap_or(u64::MAX);
        let fits = |entry: &&Entry| {
            let bytes = entry.data.len() as u64 + 32;
            let fits = bytes <= left;
            left = left.saturating_sub(bytes);
            fits
        };
        Ok(self.entries.range(low..high).take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft_rs::Result<u64> {
        if index == self.start.0 {
            return Ok(self.start.1);
        }
        let place = self.place(index).ok_or(StorageError::Compacted)?;
        let entry = self.entries.get(place).ok_or(StorageError::Unavailable)?;
        Ok(entry.term)
    }

    fn first_index(&self) -> raft_rs::Result<u64> {
        Ok(self.start.0 + 1)
    }

    fn last_index(&self) -> raft_rs::Result<u64> {
        Ok(self.start.0 + self.entries.len() as u64)
    }

    fn snapshot(&self, _: u64, _: u64) -> raft_rs::Result<Snapshot> {
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

/// Three nodes that have elected the first of them.
pub(super) struct RaftRs {
    nodes: Vec<RawNode<Memory>>,
    flight: VecDeque<Message>,
    batch: Vec<Entry>,
    /// What the leader has applied.
    applied: u64,
}

impl RaftRs {
    pub(super) fn elect(batch: usize, bytes: usize) -> Result<RaftRs> {
        let node = |id| {
            let config = Config {
                id,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                skip_bcast_commit: true,
                ..Config::default()
            };
            RawNode::new(&config, Memory::default(), &Logger::root(Discard, o!()))
        };
        let nodes = (1..=NODES).map(node).collect::<raft_rs::Result<Vec<_>>>()?;
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryNormal);
        entry.data = Bytes::from(vec![b'x'; bytes]);
        let batch = vec![entry; batch];
        let mut trio = RaftRs { nodes, flight: VecDeque::new(), batch, applied: 0 };
        trio.leader()?.campaign()?;
        trio.settle()?;
        if trio.leader()?.raft.state != StateRole::Leader {
            return Err("the nodes elected nobody".into());
        }
        Ok(trio)
    }

    fn leader(&mut self) -> Result<&mut RawNode<Memory>> {
        self.nodes.first_mut().ok_or_else(|| Error::from("there is no leader"))
    }

    /// Replicates one batch: proposed, sent, acknowledged, committed and applied by the leader.
    fn replicate(&mut self) -> Result<()> {
        let before = self.applied;
        let batch = self.batch.clone();
        let entries = batch.len() as u64;
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = 1;
        message.set_entries(batch.into());
        self.leader()?.step(message)?;
        self.settle()?;
        match self.applied - before == entries {
            true => Ok(()),
            false => Err("a batch was not committed".into()),
        }
    }

    /// Carries out what the nodes ask for until they ask for nothing more.
    fn settle(&mut self) -> Result<()> {
        loop {
            let mut is_quiet = true;
            for node in &mut self.nodes {
                if node.has_ready() {
                    is_quiet = false;
                    let applied = carry_out(node, &mut self.flight);
                    if node.raft.id == 1 {
                        self.applied += applied;
                    }
                }
            }
            while let Some(message) = self.flight.pop_front() {
                is_quiet = false;
                let place = usize::try_from(message.to)?.checked_sub(1);
                if let Some(node) = place.and_then(|place| self.nodes.get_mut(place)) {
                    node.step(message)?;
                }
            }
            if is_quiet {
                return Ok(());
            }
        }
    }
}

/// What is asked for is done at once. Says how many commands were applied.
fn carry_out(node: &mut RawNode<Memory>, flight: &mut VecDeque<Message>) -> u64 {
    let mut ready = node.ready();
    flight.extend(ready.take_messages());
    let mut applied = commands(&ready.take_committed_entries());
    let entries = ready.take_entries();
    if let Some(hard_state) = ready.hs() {
        node.mut_store().hard_state = hard_state.clone();
    }
    node.mut_store().append(entries);
    flight.extend(ready.take_persisted_messages());
    let mut light = node.advance(ready);
    flight.extend(light.take_messages());
    applied += commands(&light.take_committed_entries());
    if let Some(commit) = light.commit_index() {
        node.mut_store().hard_state.commit = commit;
    }
    node.advance_apply();
    applied
}

/// A new leader's own entry is none.
fn commands(entries: &[Entry]) -> u64 {
    entries.iter().filter(|entry| !entry.data.is_empty()).count() as u64
}

impl Side for RaftRs {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let begin = Instant::now();
        let mut batches = 0;
        while begin.elapsed() < length {
            for _ in 0..16 {
                self.replicate()?;
            }
            batches += 16;
        }
        Ok(Slice::whole(batches * self.batch.len() as u64, begin.elapsed()))
    }
}
