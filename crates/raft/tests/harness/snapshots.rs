//! Snapshots in scripts: those on the disk of a server, the one that is being written, and the one
//! that a leader offers. How bytes get from one server to another is no part of these stories.

use std::collections::BTreeMap;
use std::fmt::Write;

use raft::node::{
    Configuration, Entry, Index, MachineState, Node, NodeId, Position, Reception, SnapshotId,
    SnapshotOffer, SnapshotPoint,
};

use super::server::Server;
use super::{Cluster, Outcome, server_id};

/// What a server has to do with snapshots.
#[derive(Default)]
pub struct Shelf {
    /// What is being written stays unfinished.
    pub held: bool,
    pub writing: Option<SnapshotPoint>,
    pub offer: Option<SnapshotOffer>,
    /// Every snapshot on the disk, with its configuration.
    on_disk: BTreeMap<SnapshotId, Configuration>,
}

impl Shelf {
    /// Only what is on the disk stays.
    pub fn crash(&mut self) {
        let on_disk = std::mem::take(&mut self.on_disk);
        *self = Self { on_disk, ..Self::default() };
    }

    pub fn newest(&self) -> Option<(SnapshotId, Configuration)> {
        self.on_disk.last_key_value().map(|(snapshot, it)| (*snapshot, it.clone()))
    }

    pub fn is_writing(&self) -> bool {
        self.writing.is_some() && !self.held
    }

    /// Finishes what is being written.
    pub fn write(&mut self, id: NodeId, node: &mut Node, output: &mut String) {
        if self.held {
            return;
        }
        let Some(SnapshotPoint { position, configuration }) = self.writing.take() else { return };
        let snapshot = SnapshotId { position, bytes: 1, hash: [0; 16] };
        let _ = writeln!(output, "{id} has written a snapshot at {position}");
        self.on_disk.insert(snapshot, configuration);
        node.on_snapshot_written(snapshot);
        let needed = node.needed_snapshots();
        self.on_disk.retain(|snapshot, _| needed.contains(snapshot));
    }
}

impl Server {
    /// What a start finds: the snapshot to start from, and whether it reaches the log. An install
    /// that a crash interrupted is finished.
    pub fn find_snapshot(&mut self) -> (Option<(SnapshotId, Configuration)>, MachineState) {
        let newest = self.shelf.newest();
        let Some((snapshot, _)) = &newest else {
            let is_whole = self.start == Position::default();
            let machine = if is_whole { MachineState::Whole } else { MachineState::Lost };
            return (None, machine);
        };
        let position = snapshot.position;
        let holds = |entry: &Entry| entry.position() == position;
        if position != self.start && !self.entries.iter().any(holds) {
            self.reset(position);
            self.hard_state.term = self.hard_state.term.max(position.term);
        }
        (newest, MachineState::Whole)
    }

    /// What was offered is here, and durable.
    fn receive(
        &mut self,
        snapshot: SnapshotId,
        configuration: Configuration,
    ) -> Result<Reception, String> {
        self.shelf.on_disk.insert(snapshot, configuration.clone());
        self.shelf.offer = None;
        let reception = self.node()?.on_snapshot_received(snapshot, configuration);
        if reception == Reception::NotNeeded {
            self.shelf.on_disk.remove(&snapshot);
        }
        Ok(reception)
    }

    /// The log is let go up to `index`.
    pub fn compact(&mut self, index: Index, output: &mut String) {
        let kept = self.entries.iter().position(|entry| entry.index > index);
        let gone = self.entries.drain(..kept.unwrap_or(self.entries.len())).next_back();
        self.start = gone.map_or(self.start, |last| last.position());
        self.rotten.retain(|rotten| *rotten > index);
        let _ = writeln!(output, "{} lets go of its log up to {index}", self.member());
    }

    /// The log is empty and goes on after `position`.
    pub fn reset(&mut self, position: Position) {
        self.entries.clear();
        self.rotten.clear();
        self.start = position;
    }
}

impl Cluster {
    /// The snapshot that a server is writing is finished, and messages come, before it looks at
    /// what follows from either.
    pub(super) fn land(&mut self, arguments: &[&str], output: &mut String) -> Outcome {
        self.server(server_id(arguments.first())?)?.land(output)?;
        self.deliver(arguments.get(1..).unwrap_or_default(), output)
    }

    pub fn hold_snapshots(&mut self, arguments: &[&str]) -> Outcome {
        let held = match arguments.get(1) {
            Some(&"hold") => true,
            Some(&"go") => false,
            _ => return Err("snapshots hold or go".into()),
        };
        self.server(server_id(arguments.first())?)?.shelf.held = held;
        Ok(())
    }

    /// The server has fetched what its leader offers.
    pub fn fetch_snapshot(&mut self, id: NodeId, output: &mut String) -> Outcome {
        let offer = self.server(id)?.shelf.offer.ok_or("nothing is offered")?;
        let sender = self.server(offer.from.id)?;
        let found = sender.shelf.on_disk.get(&offer.snapshot).cloned();
        let configuration = found.ok_or("its sender has it no more")?;
        let index = offer.snapshot.position.index;
        let outcome = match self.server(id)?.receive(offer.snapshot, configuration)? {
            Reception::Installing => "takes in",
            Reception::NotNeeded => "does not need",
        };
        let _ = writeln!(output, "{id} {outcome} the snapshot at {index} from {}", offer.from.id);
        Ok(())
    }

    /// Nothing can be read of any snapshot on its disk.
    pub fn damage_snapshots(&mut self, id: NodeId) -> Outcome {
        self.server(id)?.shelf.on_disk.clear();
        Ok(())
    }
}
