//! One simulated file: what a program reads, and for every sector that is not durable yet what
//! the medium held before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::crash::{Fate, Pending, garbage};

/// The unit that reaches the medium as a whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

type Sector = [u8; SECTOR_BYTES as usize];

/// Whether the next successful sync will make a sector durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dirty,
    /// A sync of it failed: it counts as clean, is still read from memory, and is not durable.
    Abandoned,
}

#[derive(Clone, Debug)]
struct PendingSector {
    before: Sector,
    state: State,
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    data: Vec<u8>,
    durable_len: u64,
    pending: BTreeMap<u64, PendingSector>,
    spoiled: BTreeSet<u64>,
}

/// Copies as much as both hold.
fn copy(target: &mut [u8], source: &[u8]) -> usize {
    let count = target.len().min(source.len());
    if let (Some(target), Some(source)) = (target.get_mut(..count), source.get(..count)) {
        target.copy_from_slice(source);
    }
    count
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn unreadable() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.data.len() as u64
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let source = self.data.get(position(offset)..).unwrap_or_default();
        let count = source.len().min(buffer.len());
        let end = offset.saturating_add(count as u64);
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        if count > 0 && self.spoiled.range(sectors).next().is_some() {
            return Err(unreadable());
        }
        Ok(copy(buffer, source))
    }

    fn sector(&self, number: u64) -> Sector {
        let mut sector = [0; SECTOR_BYTES as usize];
        let begin = position(number.saturating_mul(SECTOR_BYTES));
        copy(&mut sector, self.data.get(begin..).unwrap_or_default());
        sector
    }

    /// Remembers what the medium holds of the sectors of a stretch that is about to change.
    fn touch(&mut self, begin: u64, end: u64) {
        for number in begin / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let before = self.sector(number);
            let pending = PendingSector { before, state: State::Dirty };
            self.pending.entry(number).or_insert(pending).state = State::Dirty;
            self.spoiled.remove(&number);
        }
    }

    /// Fails if a part of a sector is to be written whose rest cannot be read.
    pub(super) fn write(&mut self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(buffer.len() as u64);
        for edge in [offset, end] {
            let sector = edge / SECTOR_BYTES;
            if edge % SECTOR_BYTES != 0 && self.spoiled.contains(&sector) {
                return Err(unreadable());
            }
        }
        self.touch(offset, end);
        if self.len() < end {
            self.data.resize(position(end), 0);
        }
        if let Some(target) = self.data.get_mut(position(offset)..position(end)) {
            target.copy_from_slice(buffer);
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len() {
            self.touch(len, self.len());
        }
        self.data.resize(position(len), 0);
    }

    pub(super) fn sync(&mut self) {
        self.pending.retain(|_, pending| pending.state == State::Abandoned);
        self.durable_len = self.len();
    }

    /// A failed sync: the pages are clean now, and the medium does not have them.
    pub(super) fn abandon(&mut self) {
        self.pending.values_mut().for_each(|pending| pending.state = State::Abandoned);
    }

    /// Forgets clean pages: what was abandoned reads as the medium has it.
    pub(super) fn drop_cache(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for (number, sector) in pending {
            if sector.state == State::Abandoned {
                self.put_sector(number, &sector.before);
            } else {
                self.pending.insert(number, sector);
            }
        }
    }

    fn put_sector(&mut self, number: u64, content: &Sector) {
        let begin = position(number.saturating_mul(SECTOR_BYTES));
        copy(self.data.get_mut(begin..).unwrap_or_default(), content);
    }

    /// Decides for the length and for every pending sector what the medium has of them.
    pub(super) fn crash(&mut self, path: &str, choose: &mut dyn FnMut(&Pending) -> Fate) {
        let mut len = self.len();
        if self.durable_len != self.len() {
            let pending = Pending::Length {
                path: path.to_owned(),
                before: self.durable_len,
                after: self.len(),
            };
            if choose(&pending) == Fate::Lose {
                len = self.durable_len;
            }
        }
        let longest = self.len().max(len);
        self.data.resize(position(longest), 0);
        for (number, sector) in std::mem::take(&mut self.pending) {
            let is_blank = sector.before.iter().all(|byte| *byte == 0);
            let pending = Pending::Sector { path: path.to_owned(), number, is_blank };
            let fate = choose(&pending);
            let mut content = self.sector(number);
            match fate {
                Fate::Keep => {}
                Fate::Tear { bytes } if is_blank => {
                    content.iter_mut().skip(usize::from(bytes)).for_each(|byte| *byte = 0);
                }
                Fate::Garble { seed } if is_blank => content = garbage(seed),
                _ => content = sector.before,
            }
            self.put_sector(number, &content);
        }
        self.data.resize(position(len), 0);
        self.durable_len = len;
    }

    pub(super) fn corrupt(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.sync();
        self.pending.clear();
        change(&mut self.data);
        self.durable_len = self.len();
    }

    /// Changes bytes on the medium, unless they are pending or the same.
    pub(super) fn damage(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let end = offset.saturating_add(bytes.len() as u64);
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        if end > self.durable_len || self.pending.range(sectors).next().is_some() {
            return false;
        }
        match self.data.get_mut(position(offset)..position(end)) {
            Some(target) if target != bytes => {
                target.copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }

    pub(super) fn spoil_sector(&mut self, number: u64) {
        self.spoiled.insert(number);
    }
}
