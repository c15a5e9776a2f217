//! Making a log with lost history open again, without the part that cannot be accounted for.
//!
//! What comes out is a log that has forgotten things: whoever keeps promises by it has broken
//! them. A replica must not go on as itself afterwards. Nothing is thrown away: every file that is
//! given up or changed is first put aside under a name that no log looks at.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::active::{Active, Spare};
use crate::backup::copy;
use crate::batch::Before;
use crate::disk::{Disk, uninterrupted, write_all_at};
use crate::draft::DraftDisk;
use crate::dump::{Item, Payload, Record};
use crate::entry::Position;
use crate::error::{Damage, Failure, OpenError};
use crate::inspect::Inspector;
use crate::inventory::{Head, Inventory, sequences, take_inventory};
use crate::open::examine;
use crate::record::Boundary;
use crate::scan::{Begin, Depth, Scan, Source, Stop, scan};
use crate::segment::{
    SEGMENT_HEADER_BYTES, SegmentHeader, parse_segment_name, segment_name, temporary_name,
    write_segment, write_zeros,
};
use crate::staged::Staged;
use crate::survey::Check;
use crate::window::Window;

/// What was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// The position before the first entry that is left.
    pub start: Position,
    /// The last entry that is left.
    pub last: Position,
    /// The files that were put aside.
    pub aside: Vec<String>,
}

/// What salvaging a log would come to.
#[derive(Debug)]
pub struct Plan {
    /// Why the log does not open: where history was lost, and which entries with it.
    pub damage: OpenError,
    /// The position before the first entry that would be left.
    pub start: Position,
    /// The last entry that would be left.
    pub last: Position,
    /// Entries that can still be read and would be given up all the same, since they stand behind
    /// something that is lost: the first and the last of each row of them.
    pub given_up: Vec<(Position, Position)>,
}

/// Whether what is given up is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    Made,
    /// On a draft nothing is in danger.
    NotNeeded,
}

/// Gives up parts of a log, round by round.
#[derive(Debug)]
struct Salvager {
    disk: Arc<dyn Disk>,
    copies: Copies,
    aside: Vec<String>,
}

/// Whether a round of giving up has changed anything.
enum Progress {
    Made,
    Nothing,
}

impl Inspector {
    /// Gives up what has to be given up so that the log opens: from the first damaged place on, or,
    /// where the beginning is missing, up to the first segment that is whole.
    ///
    /// A log that opens anyway is left alone. Fails with the error of opening if nothing can be
    /// saved; everything that was put aside by then is still there.
    pub fn salvage(&self) -> Result<Salvage, OpenError> {
        let disk = Arc::clone(&self.disk);
        let mut salvager = Salvager { disk, copies: Copies::Made, aside: Vec::new() };
        let (start, last) = salvager.run()?;
        Ok(Salvage { start, last, aside: salvager.aside })
    }

    /// What [`salvage`](Inspector::salvage) would leave and give up, without doing it; `None` if
    /// the log opens anyway. Fails as salvaging would.
    pub fn plan_salvage(&self) -> Result<Option<Plan>, OpenError> {
        let damage = match self.examine(Check::default(), &mut Window::default()) {
            Ok(_) => return Ok(None),
            Err(damage @ OpenError::Corrupt { .. }) => damage,
            Err(error) => return Err(error),
        };
        let draft = DraftDisk::over(Arc::clone(&self.disk))
            .map_err(|error| Failure::new("list", self.disk.path(""), error))?;
        let mut salvager = Salvager { disk: draft, copies: Copies::NotNeeded, aside: Vec::new() };
        let (start, last) = salvager.run()?;
        let given_up = self.entries_outside(start, last)?;
        Ok(Some(Plan { damage, start, last, given_up }))
    }

    /// The rows of whole entries that stand in the log above `last`, or at or below `start`
    /// although the log says nowhere that they were dropped.
    fn entries_outside(
        &self,
        start: Position,
        last: Position,
    ) -> Result<Vec<(Position, Position)>, OpenError> {
        let mut rows: Vec<(Position, Position)> = Vec::new();
        let mut dropped = 0;
        self.dump(|item| {
            match item {
                Item::Record(Record::Link { start, .. } | Record::Prefix { start, .. }) => {
                    dropped = dropped.max(start.index);
                }
                Item::Record(Record::Entry { position, payload: Payload::Whole(_), .. })
                    if position.index <= start.index || position.index > last.index =>
                {
                    add_to_rows(&mut rows, position);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        rows.retain(|(_, last)| last.index > dropped);
        if let Some((first, _)) = rows.first_mut().filter(|(first, _)| first.index <= dropped) {
            first.index = dropped.saturating_add(1);
        }
        Ok(rows)
    }
}

/// Counts an entry in; one that was written again is counted once.
fn add_to_rows(rows: &mut Vec<(Position, Position)>, position: Position) {
    let index = position.index;
    if let Some((_, last)) = rows
        .iter_mut()
        .find(|(first, last)| (first.index..=last.index.saturating_add(1)).contains(&index))
    {
        *last = (*last).max(position);
    } else {
        rows.push((position, position));
    }
}

impl Salvager {
    /// Goes on until the log opens, and returns what is left.
    fn run(&mut self) -> Result<(Position, Position), OpenError> {
        let mut window = Window::default();
        // Each round gives up at least one file or the rest of one.
        let mut rounds = sequences(&*self.disk)?.len().saturating_mul(3).saturating_add(3);
        loop {
            let error = match examine(&*self.disk, Check::default(), &mut window) {
                Ok(Some(examined)) => {
                    let newest = examined.verdict.parts.last();
                    let Boundary { start, last, .. } =
                        newest.map(|part| part.boundary()).unwrap_or_default();
                    return Ok((start, last));
                }
                Ok(None) => return Err(OpenError::NoLog { path: self.disk.path("") }),
                Err(error) => error,
            };
            let OpenError::Corrupt { segment, offset, damage, .. } = &error else {
                return Err(error);
            };
            let name = segment.rsplit('/').next().unwrap_or_default();
            let Some(sequence) = parse_segment_name(name) else { return Err(error) };
            rounds = rounds.saturating_sub(1);
            let progress = self.give_up(sequence, *offset, *damage, &mut window)?;
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
        &mut self,
        sequence: u64,
        offset: u64,
        damage: Damage,
        window: &mut Window,
    ) -> Result<Progress, OpenError> {
        let existing = sequences(&*self.disk)?;
        let is_beginning = !existing.iter().any(|older| *older < sequence);
        let is_useless = offset <= SEGMENT_HEADER_BYTES;
        if is_beginning && is_useless {
            if damage != Damage::Missing {
                self.put_aside(sequence)?;
            }
            return self.raise_start(window);
        }
        for later in existing.iter().rev().filter(|later| **later > sequence) {
            self.put_aside(*later)?;
        }
        if is_useless {
            if existing.contains(&sequence) {
                self.put_aside(sequence)?;
            }
            self.make_empty(sequence, window)?;
        } else {
            self.copy_aside(sequence)?;
            self.zero_from(sequence, offset)?;
        }
        self.sync_directory()?;
        Ok(Progress::Made)
    }

    /// Lets the log begin with the oldest of the newest segments that follow each other.
    fn raise_start(&mut self, window: &mut Window) -> Result<Progress, OpenError> {
        self.sync_directory()?;
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
            self.copy_aside(source.sequence)?;
            self.zero_from(source.sequence, scanned.end)?;
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
        uninterrupted(|| active.file.sync_all()).map_err(|error| failed("sync", error))?;
        Ok(Progress::Made)
    }

    fn sync_directory(&self) -> Result<(), Failure> {
        let disk = &self.disk;
        uninterrupted(|| disk.sync())
            .map_err(|error| Failure::new("sync directory", disk.path(""), error))
    }

    /// A name that is free and that no log looks at.
    fn free_name(&self, sequence: u64) -> Result<String, Failure> {
        let disk = &self.disk;
        let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), error))?;
        let name = |number: u64| format!("{}.lost.{number}", segment_name(sequence));
        let number = (0..).find(|number| !names.contains(&name(*number))).unwrap_or_default();
        Ok(name(number))
    }

    fn put_aside(&mut self, sequence: u64) -> Result<(), Failure> {
        let name = segment_name(sequence);
        let target = self.free_name(sequence)?;
        self.disk
            .rename(&name, &target)
            .map_err(|error| Failure::new("put aside", self.disk.path(&name), error))?;
        self.aside.push(self.disk.path(&target));
        Ok(())
    }

    /// Keeps a copy of a file that is about to be changed.
    fn copy_aside(&mut self, sequence: u64) -> Result<(), Failure> {
        if self.copies == Copies::NotNeeded {
            return Ok(());
        }
        let name = segment_name(sequence);
        let target = self.free_name(sequence)?;
        let copied = copy(&*self.disk, &name, &*self.disk, &target);
        copied.map_err(|error| Failure::new("copy", self.disk.path(&name), error))?;
        self.sync_directory()?;
        self.aside.push(self.disk.path(&target));
        Ok(())
    }

    fn zero_from(&self, sequence: u64, offset: u64) -> Result<(), Failure> {
        let name = segment_name(sequence);
        let zeroed = || {
            let file = self.disk.open(&name)?;
            write_zeros(&*file, offset, file.len()?)?;
            uninterrupted(|| file.sync_all())
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
        let (temporary, name) = (temporary_name(sequence, 0), segment_name(sequence));
        let header = SegmentHeader { log_id, sequence, capacity };
        let made = write_segment(&*self.disk, &temporary, &header, &[])
            .and_then(|_| self.disk.rename(&temporary, &name));
        made.map_err(|error| Failure::new("make", self.disk.path(&name), error))?;
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
