//! Giving up what cannot be accounted for, on a draft: damage by damage, until what is left opens.

use std::sync::Arc;

use crate::active::{Active, Spare};
use crate::batch::Before;
use crate::disk::{Disk, read_exact_at, write_all_at};
use crate::draft::DraftDisk;
use crate::entry::Position;
use crate::error::{Damage, Failure, OpenError};
use crate::inventory::{Head, Inventory, sequences, take_inventory};
use crate::open::{Examined, examine};
use crate::options::SEGMENT_BYTES_MAX;
use crate::scan::{Begin, Depth, Scan, Source, Stop, scan};
use crate::segment::{
    HeaderReading, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name, write_segment, write_zeros,
};
use crate::staged::Staged;
use crate::survey::Check;
use crate::window::Window;

/// Gives up parts of a drafted log, round by round. The files below the draft stay as they are.
#[derive(Debug)]
pub(crate) struct Salvager {
    disk: Arc<DraftDisk>,
}

/// Whether a round of giving up has changed anything.
enum Progress {
    Made,
    Nothing,
}

impl Salvager {
    pub(crate) fn on(disk: Arc<DraftDisk>) -> Salvager {
        Salvager { disk }
    }

    /// Goes on until the log opens, and returns what is left.
    pub(crate) fn run(&self) -> Result<Examined, OpenError> {
        let mut window = Window::default();
        // Each round gives up at least one file or the rest of one.
        let mut rounds = sequences(&*self.disk)?.len().saturating_mul(3).saturating_add(3);
        loop {
            let error = match examine(&*self.disk, Check::default(), &mut window) {
                Ok(Some(examined)) => return Ok(examined),
                Ok(None) => return Err(OpenError::NoLog { path: self.disk.path("") }),
                Err(error) => error,
            };
            let OpenError::Corrupt { sequence, offset, damage, .. } = error else {
                return Err(error);
            };
            rounds = rounds.saturating_sub(1);
            let progress = self.give_up(sequence, offset, damage, &mut window)?;
            if rounds == 0 || matches!(progress, Progress::Nothing) {
                return Err(error);
            }
        }
    }

    fn inventory(&self, window: &mut Window) -> Result<Inventory, OpenError> {
        let inventory = take_inventory(&*self.disk, window)?;
        inventory.ok_or_else(|| OpenError::NoLog { path: self.disk.path("") })
    }

    fn give_up(
        &self,
        sequence: u64,
        offset: u64,
        damage: Damage,
        window: &mut Window,
    ) -> Result<Progress, OpenError> {
        let existing = sequences(&*self.disk)?;
        let is_beginning = !existing.iter().any(|older| *older < sequence);
        // Of two ends the newer one is worth more, if there is one.
        let heads = self.inventory(window)?.heads;
        let mut behind = heads.iter().filter(|head| head.source.sequence > sequence);
        let is_worth_keeping = !is_beginning || behind.all(|head| head.link.is_none());
        if damage == Damage::Length && is_worth_keeping && self.lengthen(sequence)? {
            return Ok(Progress::Made);
        }
        let is_useless = offset <= SEGMENT_HEADER_BYTES;
        if is_beginning && is_useless {
            if damage != Damage::Missing {
                self.take_away(sequence)?;
            }
            return self.raise_start(window);
        }
        for later in existing.iter().rev().filter(|later| **later > sequence) {
            self.take_away(*later)?;
        }
        if is_useless {
            if existing.contains(&sequence) {
                self.take_away(sequence)?;
            }
            self.make_empty(sequence, window)?;
        } else {
            self.zero_from(sequence, offset)?;
        }
        Ok(Progress::Made)
    }

    /// Lets the log begin with the oldest of the newest segments that follow each other.
    fn raise_start(&self, window: &mut Window) -> Result<Progress, OpenError> {
        if sequences(&*self.disk)?.is_empty() {
            return Ok(Progress::Nothing);
        }
        let inventory = self.inventory(window)?;
        let Some(newest) = inventory.heads.iter().rposition(|head| head.link.is_some()) else {
            return Ok(Progress::Nothing);
        };
        let (used, unused) = inventory.heads.split_at(newest.saturating_add(1));
        let Some(tail) = used.last() else { return Ok(Progress::Nothing) };
        let source = &tail.source;
        let Ok(scanned) = scan(source, window, Begin::Link, None, Depth::Payloads) else {
            return Ok(Progress::Nothing);
        };
        if matches!(scanned.stop, Stop::Broken(_)) {
            self.zero_from(source.sequence, scanned.end)?;
            return Ok(Progress::Made);
        }
        let next = source.sequence.saturating_add(1);
        let successor = unused.first().filter(|head| head.source.sequence == next);
        if scanned.seal_offset.is_some() && successor.is_none_or(|head| head.problem.is_some()) {
            if successor.is_some() {
                self.take_away(next)?;
            }
            self.make_empty(next, window)?;
            return Ok(Progress::Made);
        }
        let Some((first, before)) = oldest_in_a_row(used) else { return Ok(Progress::Nothing) };
        let boundary = scanned.tally.boundary;
        let start = if before.index < boundary.last.index { before } else { boundary.last };
        if boundary.first_sequence >= first || start.index < boundary.start.index {
            return Ok(Progress::Nothing);
        }
        let log_id = inventory.log_id;
        let Some(mut active) = go_on(log_id, source, scanned, unused) else {
            return Ok(Progress::Nothing);
        };
        let staged = Staged { prefix: Some(start), ..Staged::nothing_after(boundary.last.index) };
        let mut buffer = Vec::new();
        active.encode_staged(&staged, first, std::iter::empty(), &mut buffer);
        let failed = |operation, error| Failure::new(operation, &active.path, error);
        write_all_at(&*active.file, &buffer, active.end).map_err(|error| failed("write", error))?;
        Ok(Progress::Made)
    }

    fn take_away(&self, sequence: u64) -> Result<(), Failure> {
        let name = segment_name(sequence);
        let removed = self.disk.remove(&name);
        removed.map_err(|error| Failure::new("put aside", self.disk.path(&name), error))
    }

    /// Fills a segment that was cut short up with zeros, so that what stands before the cut counts.
    /// False if that is not all that is wrong with its length.
    fn lengthen(&self, sequence: u64) -> Result<bool, Failure> {
        let name = segment_name(sequence);
        let lengthened = || {
            let file = self.disk.open(&name)?;
            let length = file.len()?;
            let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
            if length < SEGMENT_HEADER_BYTES {
                return Ok(false);
            }
            read_exact_at(&*file, &mut bytes, 0)?;
            match SegmentHeader::decode(&bytes) {
                HeaderReading::Whole(SegmentHeader { capacity, .. })
                    if (length..=SEGMENT_BYTES_MAX).contains(&capacity) && capacity > length =>
                {
                    write_zeros(&*file, length, capacity)?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        };
        lengthened().map_err(|error| Failure::new("lengthen", self.disk.path(&name), error))
    }

    fn zero_from(&self, sequence: u64, offset: u64) -> Result<(), Failure> {
        let name = segment_name(sequence);
        let zeroed = || {
            let file = self.disk.open(&name)?;
            write_zeros(&*file, offset, file.len()?)
        };
        zeroed().map_err(|error| Failure::new("wipe", self.disk.path(&name), error))
    }

    /// The empty successor that a sealed segment must have.
    fn make_empty(&self, sequence: u64, window: &mut Window) -> Result<(), OpenError> {
        let inventory = self.inventory(window)?;
        let Some(head) = inventory.heads.iter().rfind(|head| head.problem.is_none()) else {
            return Ok(());
        };
        let (log_id, capacity) = (inventory.log_id, head.source.capacity);
        let name = segment_name(sequence);
        let header = SegmentHeader { log_id, sequence, capacity };
        write_segment(&*self.disk, &name, &header, &[])
            .map_err(|error| Failure::new("make", self.disk.path(&name), error))?;
        Ok(())
    }
}

/// The oldest segment of those that follow each other up to the newest, and the position before
/// it.
fn oldest_in_a_row(heads: &[Head]) -> Option<(u64, Position)> {
    let mut oldest = None;
    let mut expected = heads.last()?.source.sequence;
    for head in heads.iter().rev() {
        let Some(link) = head.link.filter(|_| head.source.sequence == expected) else { break };
        oldest = Some((expected, link.link.boundary.last));
        expected = expected.saturating_sub(1);
    }
    oldest
}

/// Where a log that was scanned to its end goes on.
fn go_on(log_id: crate::LogId, source: &Source, scanned: Scan, unused: &[Head]) -> Option<Active> {
    let boundary = scanned.tally.boundary;
    if let Some(seal_offset) = scanned.seal_offset {
        let successor = &unused.first()?.source;
        let spare = Spare {
            sequence: successor.sequence,
            file: successor.file.clone(),
            path: successor.path.clone(),
            capacity: successor.capacity,
        };
        let seal = (seal_offset, scanned.end);
        let crc = scanned.last_crc;
        return Some(Active::unlinked(log_id, spare, boundary, seal, crc, Before::Unsynced));
    }
    Some(Active {
        sequence: source.sequence,
        file: source.file.clone(),
        path: source.path.clone(),
        capacity: source.capacity,
        seed: source.seed.clone(),
        end: scanned.end,
        last_crc: scanned.last_crc,
        tally: scanned.tally,
        unlinked: None,
        before: Before::Unsynced,
        is_closed: false,
    })
}
