//! Acknowledged is durable: when a client is told that a command was applied, the disks of a quorum
//! hold its entry, or a snapshot that stands for it, even if all of them lost power at that very
//! moment and everything that was not synced with it. And so it is already when a leader commits
//! it: a majority of each half, while the voters change.

use std::ops::ControlFlow;

use raft::node::{Index, Position, Term};
use wal::sim_disk::{Fate, SimDisk};
use wal::{Inspector, Item, Payload, Record};

use super::Broken;

/// The disks of all who vote, of each half where there are two; `None` for a disk that was damaged,
/// which says nothing about what it held.
pub type Halves<'a> = [Vec<Option<&'a SimDisk>>; 2];

/// How often it was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Durability {
    /// How often it was checked.
    pub checked: u64,
}

/// What is known of an entry that a disk must hold.
#[derive(Clone, Copy, Debug)]
enum Known {
    Checksum(u32),
    Term(Term),
}

/// Whether a power cut would leave the entry at `index`, of which this is known, on `disk`, or a
/// snapshot that stands for it.
fn holds(disk: &SimDisk, index: Index, known: Known) -> bool {
    let copy = disk.fork();
    copy.crash_with(|_| Fate::Lose);
    if copy.files().iter().any(|file| stands_for(file, index)) {
        return true;
    }
    let Ok(log) = copy.disk().subdirectory("log") else { return false };
    let Ok(inspector) = Inspector::open(log) else { return false };
    let mut found = false;
    let dumped = inspector.dump(|item| {
        match item {
            Item::Record(Record::Entry { position, checksum: its, payload, .. })
                if position.index == index.0 =>
            {
                let is_it = match known {
                    Known::Checksum(checksum) => its == checksum,
                    Known::Term(term) => position.term == term.0,
                };
                found = is_it && matches!(payload, Payload::Whole(_));
            }
            Item::Record(Record::Truncate(keep)) if keep.index < index.0 => found = false,
            _ => {}
        }
        ControlFlow::Continue(())
    });
    dumped.is_ok() && found
}

/// Whether a file is a finished snapshot at this index or above; its name begins with the index.
fn stands_for(file: &str, index: Index) -> bool {
    let Some(name) = file.strip_prefix("snapshots/") else { return false };
    let is_whole = !name.ends_with(".part") && !name.ends_with(".writing");
    let at = name.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    is_whole && at.is_some_and(|at| at >= index.0)
}

impl Durability {
    /// A client is being told that `index` was applied.
    ///
    /// # Errors
    /// Too few disks hold it.
    pub fn on_acknowledged(
        &mut self,
        index: Index,
        checksum: u32,
        halves: &Halves<'_>,
    ) -> Result<(), Broken> {
        self.check("acknowledged is durable", index, Known::Checksum(checksum), halves)
    }

    /// A leader takes an entry of its term for committed, which it did not before.
    ///
    /// # Errors
    /// Too few disks hold it.
    pub fn on_committed(&mut self, position: Position, halves: &Halves<'_>) -> Result<(), Broken> {
        let Position { index, term } = position;
        self.check("committed is durable", index, Known::Term(term), halves)
    }

    fn check(
        &mut self,
        invariant: &'static str,
        index: Index,
        known: Known,
        halves: &Halves<'_>,
    ) -> Result<(), Broken> {
        self.checked += 1;
        for voters in halves.iter().filter(|voters| !voters.is_empty()) {
            let it_holds = |disk: &&Option<&SimDisk>| disk.is_none_or(|it| holds(it, index, known));
            let holders = voters.iter().filter(it_holds).count();
            if 2 * holders <= voters.len() {
                let voters = voters.len();
                let what = format!("{index} counts, and {holders} of {voters} hold it");
                return Err(Broken::new(invariant, what));
            }
        }
        Ok(())
    }
}
