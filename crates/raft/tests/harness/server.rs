//! One server of a scripted cluster: a node, and a disk that keeps what was completed.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;

use raft::node::{
    Actions, Append, Boot, Config, Configuration, DurableState, Entry, EntryKind, Envelope,
    HardState, Index, LostEntry, MachineState, Member, Node, Payload, Position, Term,
};

use super::render;
use super::snapshots::Shelf;

pub struct Server {
    config: Config,
    seed: u64,
    /// `None` while it is crashed.
    node: Option<Node>,
    /// Appends do not complete.
    pub stalled: bool,
    /// For the next write everything stands still for so long: the disk is on the node's thread.
    pub stood_still_ticks: u32,
    waiting: VecDeque<Append>,
    // The disk.
    founders: Configuration,
    pub hard_state: HardState,
    /// The position before the log.
    pub start: Position,
    pub entries: Vec<Entry>,
    /// Whose payloads are damaged.
    pub rotten: BTreeSet<Index>,
    pub shelf: Shelf,
}

impl Server {
    /// A server whose log holds the founding configuration and nothing else.
    pub fn new(config: Config, founders: &Configuration, seed: u64) -> Self {
        let founding = Entry {
            index: Index(1),
            term: Term(1),
            kind: EntryKind::Configuration,
            payload: Payload::new(founders.encode()),
        };
        let hard_state = HardState { term: Term(1), vote: None };
        Self::with(config, founders.clone(), seed, hard_state, vec![founding])
    }

    /// A server whose directory is empty.
    pub fn empty(config: Config, seed: u64) -> Self {
        Self::with(config, Configuration::default(), seed, HardState::default(), Vec::new())
    }

    fn with(
        config: Config,
        founders: Configuration,
        seed: u64,
        hard_state: HardState,
        entries: Vec<Entry>,
    ) -> Self {
        let mut server = Self {
            config,
            seed,
            node: None,
            stalled: false,
            stood_still_ticks: 0,
            waiting: VecDeque::new(),
            founders,
            hard_state,
            start: Position::default(),
            entries,
            rotten: BTreeSet::new(),
            shelf: Shelf::default(),
        };
        server.start();
        server
    }

    pub fn node(&mut self) -> Result<&mut Node, String> {
        self.node.as_mut().ok_or_else(|| format!("{} is down", self.config.me.id))
    }

    pub fn member(&self) -> Member {
        self.config.me
    }

    /// Loses everything that was not completed.
    pub fn crash(&mut self) {
        self.node = None;
        self.waiting.clear();
        self.stalled = false;
        self.shelf.crash();
    }

    pub fn restart(&mut self) {
        self.config.boot = Boot(self.config.boot.0 + 1);
        self.seed += 100;
        self.start();
    }

    fn start(&mut self) {
        let (snapshot, machine) = self.find_snapshot();
        let behind = snapshot.as_ref().map_or(Index(0), |(snapshot, _)| snapshot.position.index);
        let mut runs: Vec<Position> = Vec::new();
        let mut configurations = Vec::new();
        for entry in &self.entries {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(entry.position());
            }
            let is_whole = !self.rotten.contains(&entry.index);
            if entry.kind == EntryKind::Configuration && is_whole && entry.index > behind {
                let decoded = Configuration::decode(&entry.payload.bytes);
                configurations.push((entry.index, decoded.expect("a node wrote it")));
            }
        }
        let whole_from = self.rotten.last().copied().unwrap_or_default();
        let state = DurableState {
            hard_state: self.hard_state,
            start: self.start,
            runs,
            last: self.entries.last().map_or(self.start, Entry::position),
            recent: self.entries.iter().filter(|entry| entry.index > whole_from).cloned().collect(),
            snapshot: snapshot.as_ref().map(|(snapshot, _)| *snapshot),
            machine,
            configuration: snapshot.map_or_else(|| self.founders.clone(), |(_, it)| it),
            configurations,
            lost: self.lost(),
        };
        let node = Node::restore(self.config.clone(), state, self.seed);
        self.node = Some(node.expect("what a node wrote can be read back"));
    }

    /// Carries out one drain; returns what was sent.
    pub fn carry_out(&mut self, output: &mut String, busy: &mut bool) -> Vec<Envelope> {
        let Some(node) = self.node.as_mut() else { return Vec::new() };
        let id = self.config.me.id;
        let actions = node.drain();
        let Actions { append, send, apply, fetch, ended, reads, changes, .. } = actions;
        let Actions { transfers, events, snapshot, compact, offered, install, .. } = actions;
        *busy |= append.is_some() || !apply.is_empty() || !fetch.is_empty();
        *busy |= snapshot.is_some() || install.is_some();
        self.shelf.offer = offered.or(self.shelf.offer);
        for event in &events {
            let _ = writeln!(output, "{id} {}", render::event(event));
        }
        for ended in &ended {
            let _ = writeln!(output, "{id} {}", render::ended(ended));
        }
        for read in &reads {
            let _ = writeln!(output, "{id} {}", render::read(read));
        }
        for ended in &changes {
            let _ = writeln!(output, "{id} {}", render::change(*ended));
        }
        for ended in &transfers {
            let _ = writeln!(output, "{id} {}", render::transfer(*ended));
        }
        if install.is_some() {
            node.on_snapshot_installed();
        }
        if let Some(last) = apply.last() {
            let commands: Vec<String> = apply.iter().filter_map(render::command).collect();
            if !commands.is_empty() {
                let _ = writeln!(output, "{id} applies {}", commands.join(" "));
            }
            node.on_applied(last.index);
        }
        for fetch in fetch {
            let _ = writeln!(output, "{id} fetches {}..{}", fetch.from, fetch.to);
            if self.rotten.contains(&fetch.from) {
                let lost = self.entries.iter().find(|entry| entry.index == fetch.from).map(lost);
                node.on_fetch_lost(fetch.id, lost.expect("what was rotten is in the log"));
                continue;
            }
            let mut bytes = 0;
            let whole = |entry: &&Entry| !self.rotten.contains(&entry.index);
            let wanted = self.entries.iter().skip_while(|entry| entry.index < fetch.from);
            let entries = wanted.take_while(whole).take_while(|entry| {
                let first = bytes == 0;
                bytes += entry.bytes();
                entry.index <= fetch.to && (first || bytes <= fetch.bytes_max)
            });
            node.on_fetched(fetch.id, entries.cloned().collect());
        }
        self.shelf.writing = snapshot.or(self.shelf.writing.take());
        *busy |= self.shelf.is_writing();
        self.shelf.write(id, node, output);
        if let Some(index) = compact {
            self.compact(index, output);
        }
        self.waiting.extend(append);
        if !self.stalled {
            *busy |= !self.waiting.is_empty();
            self.complete_appends();
        }
        send
    }

    /// The snapshot that is being written is finished, and nothing else is looked at yet.
    pub fn land(&mut self, output: &mut String) -> Result<(), String> {
        let node = self.node.as_mut().ok_or("down")?;
        self.shelf.held = false;
        self.shelf.write(self.config.me.id, node, output);
        Ok(())
    }

    fn complete_appends(&mut self) {
        while let Some(append) = self.waiting.pop_front() {
            // Only a write keeps the disk busy.
            let took_ticks = match append.is_empty() {
                true => 0,
                false => std::mem::take(&mut self.stood_still_ticks),
            };
            let Append { ticket, hard_state, reset, truncate_after, entries, repairs } = append;
            self.hard_state = hard_state.unwrap_or(self.hard_state);
            for repaired in &repairs {
                let written = self.entries.iter().any(|entry| entry == repaired);
                assert!(written, "repairs change nothing but what is damaged");
                assert!(self.rotten.remove(&repaired.index), "only what is damaged is repaired");
            }
            if let Some(position) = reset {
                self.reset(position);
            }
            if let Some(after) = truncate_after {
                self.rotten.retain(|index| *index <= after);
                self.entries.retain(|entry| entry.index <= after);
            }
            self.entries.extend_from_slice(&entries);
            if let Some(node) = self.node.as_mut() {
                node.on_durable(ticket, took_ticks);
            }
        }
    }

    /// The last write was not whole when it was read again, so it was cut off.
    pub fn lose(&mut self, first: u64) {
        self.entries.retain(|entry| entry.index < Index(first));
    }

    /// The payload of an entry is damaged on the disk; nobody notices yet.
    pub fn rot(&mut self, index: u64) -> Result<(), String> {
        let index = Index(index);
        if self.entries.iter().all(|entry| entry.index != index) {
            return Err("its log has no such entry".into());
        }
        self.rotten.insert(index);
        Ok(())
    }

    /// The whole disk is read again.
    pub fn scrub(&mut self) -> Result<(), String> {
        let lost = self.lost();
        self.node()?.on_lost(&lost);
        Ok(())
    }

    fn lost(&self) -> Vec<LostEntry> {
        self.entries.iter().filter(|entry| self.rotten.contains(&entry.index)).map(lost).collect()
    }

    pub fn log_text(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            let damaged = if self.rotten.contains(&entry.index) { " (damaged)" } else { "" };
            let _ = writeln!(text, "{} {}{damaged}", self.config.me.id, render::entry(entry));
        }
        text
    }

    pub fn status_text(&self) -> String {
        let Some(node) = &self.node else {
            return format!("{} down\n", self.config.me.id);
        };
        let status = node.status();
        let leader = status.leader.map_or("-".into(), |id| id.to_string());
        let mut more = match status.damaged {
            0 => String::new(),
            count => format!(" damaged={count}"),
        };
        if status.snapshot > Index(0) {
            let _ = write!(more, " snapshot={} log={}..", status.snapshot, status.compacted.next());
        }
        if status.machine == MachineState::Lost {
            more.push_str(" without-state");
        }
        format!(
            "{} {} term={} leader={leader} last={} durable={} commit={} applied={}{more}\n",
            status.id,
            status.role,
            status.term,
            status.last,
            status.durable,
            status.commit,
            status.applied
        )
    }
}

/// What a disk still knows of an entry whose payload is damaged.
fn lost(entry: &Entry) -> LostEntry {
    let Entry { kind, payload: Payload { bytes, checksum }, .. } = entry;
    let (bytes, checksum) = (bytes.len() as u64, *checksum);
    LostEntry { position: entry.position(), kind: *kind, bytes, checksum }
}
