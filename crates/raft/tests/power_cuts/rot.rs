//! Damage within the budget: bits flip in payloads on the simulated disks, but every entry keeps a
//! whole copy on a server that comes back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use raft::node::Index;
use wal::sim_disk::SimDisk;
use wal::{Inspector, Item, Record};

use super::World;

/// Where damage was done and is perhaps not repaired.
#[derive(Default)]
pub(super) struct Rot {
    damaged: BTreeMap<Index, Damage>,
    /// How many payloads were damaged in all.
    pub(super) count: u64,
}

struct Damage {
    server: usize,
    /// Known to be committed when it was damaged: then others have it, or will.
    committed: bool,
    /// The server has read the whole of its log since.
    noticed: bool,
}

/// A payload on a disk.
struct Place {
    file: String,
    index: Index,
    offset: usize,
    bytes: usize,
}

impl Rot {
    /// Flips a bit of one payload of `server`, if the budget has room for that. `choose` picks one
    /// of so many; everything up to `committed` is known to be committed.
    pub(super) fn strike(
        &mut self,
        server: usize,
        disk: &SimDisk,
        committed: Index,
        mut choose: impl FnMut(usize) -> usize,
    ) {
        let mut places = proven(disk);
        places.retain(|place| self.allows(place.index, committed));
        if places.is_empty() {
            return;
        }
        let Place { file, index, offset, bytes } = places.swap_remove(choose(places.len()));
        let at = offset + choose(bytes);
        assert!(disk.corrupt(&file, |contents| contents[at] ^= 0x40), "{file} is there");
        self.count += 1;
        let committed = index <= committed;
        self.damaged.insert(index, Damage { server, committed, noticed: false });
    }

    /// One copy of a committed entry may be damaged at a time. What is not known to be committed
    /// may have no other copy: then the others must be able to go on without it, and without this
    /// server, until they have written something else in its place.
    fn allows(&self, index: Index, committed: Index) -> bool {
        let all_committed = self.damaged.values().all(|damage| damage.committed);
        let fits = if index <= committed { all_committed } else { self.damaged.is_empty() };
        fits && !self.damaged.contains_key(&index)
    }

    /// The server has read its whole log, and knows what is damaged.
    pub(super) fn on_opened(&mut self, server: usize) {
        for damage in self.damaged.values_mut().filter(|damage| damage.server == server) {
            damage.noticed = true;
        }
    }

    /// Whether the server's disk may hold damage that it has not come across.
    pub(super) fn is_unnoticed(&self, server: usize) -> bool {
        self.damaged.values().any(|damage| damage.server == server && !damage.noticed)
    }

    /// The server says that nothing is damaged any more that it knows of.
    pub(super) fn on_whole(&mut self, server: usize) {
        self.damaged.retain(|_, damage| damage.server != server || !damage.noticed);
    }
}

/// Payloads of which something later on the disk proves that they were durable.
fn proven(disk: &SimDisk) -> Vec<Place> {
    // A copy, since the log may be in use, and a look must not disturb it.
    let Ok(log) = disk.fork().disk().subdirectory("log") else { return Vec::new() };
    let Ok(inspector) = Inspector::open(log) else { return Vec::new() };
    let (mut proven, mut unproven, mut file) = (Vec::new(), Vec::new(), String::new());
    let mut note = |item| match item {
        Item::Segment { sequence, .. } => file = format!("log/{sequence:016x}.wal"),
        Item::Batch { claims_synced: true, .. } => proven.append(&mut unproven),
        Item::Record(Record::Entry { position, offset, bytes, .. }) if bytes > 0 => {
            let number = |value: u64| usize::try_from(value).expect("the disk is in memory");
            let (file, index) = (file.clone(), Index(position.index));
            unproven.push(Place { file, index, offset: number(offset), bytes: number(bytes) });
        }
        _ => {}
    };
    let shown = inspector.dump(|item| {
        note(item);
        ControlFlow::Continue(())
    });
    if shown.is_err() { Vec::new() } else { proven }
}

impl World {
    /// Something happens to a disk, or is found there.
    pub(super) fn rot_something(&mut self, n: usize) {
        match self.chance.below(4) {
            0..=1 => self.rot(n),
            2 => self.scrub(n),
            _ => self.transfer(n),
        }
    }

    /// A payload is damaged on a disk, whether its server runs or not. A server alone has nobody
    /// to ask, and of two neither can do without the other.
    fn rot(&mut self, n: usize) {
        let committed = self.applied.keys().next_back().copied().unwrap_or_default();
        if self.servers.len() > 2 {
            let disk = self.servers[n].disk.clone();
            self.rot.strike(n, &disk, committed, |count| self.chance.below(count));
        }
    }

    /// A server reads a part of its disk again.
    fn scrub(&mut self, n: usize) {
        let Some((_, replica)) = &mut self.servers[n].running else { return };
        let Some(scrub) = replica.scrub() else { return };
        if replica.on_scrubbed(scrub.run()).is_err() {
            self.crash(n);
        }
    }
}
