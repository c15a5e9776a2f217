//! Damage to what a disk holds durably: flipped bits, and writes that were synced and yet are
//! lost or stand somewhere else.
//!
//! No log can tell the loss of its very last write from a write that a power cut tore. So harm
//! comes only to what a later, intact batch says was synced before it.

use std::ops::{ControlFlow, Range};

use wal::sim_disk::{Fate, SimDisk};
use wal::{Inspector, Item, Record};

use crate::check::Broken;

use super::agenda::SECOND;
use super::budget::Scar;
use super::dice::Chance;
use super::plan::FaultKind;
use super::world::{Happening, World};

/// Between two parts of a log that are read again.
const SCRUB_EVERY: u64 = SECOND;

/// A stretch of a file.
type Stretch = (String, Range<u64>);

/// What of a log may be harmed.
#[derive(Default)]
struct Harmable {
    /// Batches, in the order in which they were written.
    batches: Vec<Stretch>,
    /// Beginnings of segments, up to their first batch.
    heads: Vec<Stretch>,
    /// Payloads of entries that the log still needs.
    payloads: Vec<Stretch>,
}

/// What of the log on a disk a later batch proves to have been synced.
fn harmable(disk: &SimDisk) -> Option<Harmable> {
    let durable = disk.fork();
    durable.crash_with(|_| Fate::Lose);
    let inspector = Inspector::open(durable.disk().subdirectory("log").ok()?).ok()?;
    let mut segment = String::new();
    let mut has_batch = false;
    let mut found = Harmable::default();
    let mut proven = (0, 0);
    let (mut payloads, mut start) = (Vec::new(), 0);
    let dumped = inspector.dump(|item| {
        match item {
            Item::Segment { path, .. } => {
                segment = path;
                has_batch = false;
            }
            Item::Batch { offset, bytes, claims_synced, .. } => {
                if !has_batch {
                    found.heads.push((segment.clone(), 0..offset));
                }
                has_batch = true;
                if claims_synced {
                    proven = (found.batches.len(), found.heads.len());
                }
                found.batches.push((segment.clone(), offset..offset + bytes));
            }
            Item::Record(Record::Entry { position, offset, bytes, .. }) => {
                let stretch = (segment.clone(), offset..offset + bytes);
                payloads.push((found.batches.len(), position.index, stretch));
            }
            Item::Record(Record::Truncate(keep)) => {
                payloads.retain(|(_, index, _)| *index <= keep.index);
            }
            Item::Record(Record::Prefix { start: through, .. }) => start = through.index,
            Item::Record(Record::Reset { position, .. }) => {
                payloads.clear();
                start = position.index;
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    dumped.ok()?;
    found.batches.truncate(proven.0);
    found.heads.truncate(proven.1);
    let is_needed =
        |(batch, index, _): &(usize, u64, Stretch)| *batch <= proven.0 && *index > start;
    found.payloads = payloads.into_iter().filter(is_needed).map(|(.., it)| it).collect();
    Some(found)
}

impl World {
    /// Some bits of one file flip. False if the cluster could not bear it, or nothing changed.
    pub(super) fn flip_bits(&mut self, server: usize) -> bool {
        if !self.may_harm(server) {
            return false;
        }
        let disk = self.servers[server].disk.clone();
        let files = disk.files();
        let dice = self.dice.fault(FaultKind::BitFlip);
        let (class, flips) = (dice.below(20), dice.between(1, 3));
        let is_in = |place: &str, file: &str| file.starts_with(place);
        let whole = |file: &String| {
            let bytes = disk.contents(file).map_or(0, |contents| contents.len() as u64);
            (file.clone(), 0..bytes)
        };
        let named = |place: &str| -> Vec<Stretch> {
            files.iter().filter(|file| is_in(place, file)).map(whole).collect()
        };
        let stretches = match class {
            0 => named("identity"),
            1 => named("boots"),
            2 => named("founding"),
            3..=8 => named("snapshots/"),
            9 | 10 => harmable(&disk).unwrap_or_default().heads,
            11..=13 => harmable(&disk).unwrap_or_default().batches,
            _ => harmable(&disk).unwrap_or_default().payloads,
        };
        let mut has_changed = false;
        for _ in 0..flips {
            let dice = self.dice.fault(FaultKind::BitFlip);
            let Some(stretch) = pick(dice, &stretches) else { return false };
            let (file, Range { start, end }) = stretch;
            let (at, bit) = (dice.between(*start, end - 1), dice.below(8));
            let Some(old) = byte_at(&disk, file, at) else { continue };
            has_changed |= self.harm(server, file, at, &[old ^ (1 << bit)]);
        }
        has_changed
    }

    /// A write of the log that was synced is lost, or stands somewhere else too.
    pub(super) fn misdirect(&mut self, server: usize) -> bool {
        if !self.may_harm(server) {
            return false;
        }
        let disk = self.servers[server].disk.clone();
        let stretches = harmable(&disk).unwrap_or_default().batches;
        let dice = self.dice.fault(FaultKind::MisdirectedWrite);
        let (is_lost, shift) = (dice.permille(500), 512 * dice.between(1, 8));
        let Some((file, Range { start, end })) = pick(dice, &stretches) else { return false };
        let other = pick(dice, &stretches);
        let contents = disk.contents(file).unwrap_or_default();
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let Some(bytes) = contents.get(place(*start)..place(*end)) else { return false };
        let has_changed = self.harm(server, file, *start, &vec![0; bytes.len()]);
        if has_changed
            && !is_lost
            && let Some((other, range)) = other
        {
            // Over another write that is proven to have been synced, or a part of it.
            let at = range.start + (shift % (range.end - range.start));
            let room = place(range.end - at).min(bytes.len());
            self.harm(server, other, at, &bytes[..room]);
        }
        has_changed
    }

    /// Only members are worth it, and the cluster must bear it. Before all founders have begun
    /// their logs it bears nothing.
    pub(super) fn may_harm(&self, server: usize) -> bool {
        let member = self.servers[server].member();
        self.is_founded
            && self.budget.lists(member)
            && !self.budget.is_lost(member)
            && self.budget.allows(member)
    }

    /// Changes durable bytes. False if they are as before.
    fn harm(&mut self, server: usize, file: &str, offset: u64, bytes: &[u8]) -> bool {
        let it = &self.servers[server];
        let has_changed = it.disk.damage(file, offset, bytes);
        if has_changed {
            let (member, life) = (it.member(), it.life);
            let scar = Scar { file: file.to_string(), offset, bytes: bytes.to_vec() };
            self.budget.damage(member, vec![scar]);
            self.plan_in(SCRUB_EVERY, Happening::Scrub { server, life });
            let now = self.now();
            let count = bytes.len();
            self.trace.tell(now, || format!("s{} {file} at {offset}: {count}", server + 1));
        }
        has_changed
    }

    /// A server that may be damaged reads a part of its log again.
    pub(super) fn scrub(&mut self, server: usize, life: u64) -> Result<(), Broken> {
        let is_harmed = self.budget.is_harmed(self.servers[server].member());
        if !self.is_alive(server, life) || !is_harmed {
            return Ok(());
        }
        self.plan_in(SCRUB_EVERY, Happening::Scrub { server, life });
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let replica = process.driver.replica_mut();
        let Some(scrub) = replica.scrub() else { return Ok(()) };
        match replica.on_scrubbed(scrub.run()) {
            Ok(()) => {
                self.wake(server);
                Ok(())
            }
            Err(fatal) => self.on_fatal(server, &fatal.to_string()),
        }
    }
}

fn pick<'a>(dice: &mut wal::sim_disk::Random, from: &'a [Stretch]) -> Option<&'a Stretch> {
    let from: Vec<&Stretch> = from.iter().filter(|(_, range)| !range.is_empty()).collect();
    (!from.is_empty()).then(|| from[dice.place(from.len())])
}

fn byte_at(disk: &SimDisk, file: &str, at: u64) -> Option<u8> {
    let contents = disk.contents(file)?;
    contents.get(usize::try_from(at).ok()?).copied()
}
