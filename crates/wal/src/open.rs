//! Opening: puts in order what the verdict asks for, and builds the log from what is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::active::{Active, Spare};
use crate::batch::Before;
use crate::disk::{Disk, File, Lock, uninterrupted, write_all_at};
use crate::entry::Position;
use crate::error::{Damage, Failure, LostRange, OpenError};
use crate::exchange::is_under_way;
use crate::index::{Extents, Segment, Segments};
use crate::inventory::{Inventory, settle_medium, take_inventory};
use crate::options::{LogId, Options};
use crate::pool::Pool;
use crate::record::Boundary;
use crate::scan::Source;
use crate::segment::{segment_name, write_zeros};
use crate::survey::{Check, Content, Part, corrupt};
use crate::terms::TermRuns;
use crate::verdict::{TornTail, Verdict, reach_verdict};
use crate::wal::{Wal, reading_view, remove_temporaries, take_lock};
use crate::window::Window;

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How the log ended.
    pub ending: Ending,
    /// Entries of which only the payload is gone; reading them fails until they are repaired.
    pub lost: Vec<Position>,
    /// Links, seals and padding that were rotten and could be made again, by segment and offset.
    pub mended: Vec<(u64, u64)>,
    /// The segments that the log did not need any more, by sequence: they were removed.
    pub removed: Vec<u64>,
    /// How many batches were read; segments believed by their seals are not counted.
    pub batches: u64,
    /// How many entries stood in those batches.
    pub entries: u64,
}

/// How a log ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was closed: nothing was in flight, and everything up to here was durable.
    Closed,
    /// It was not closed, but it ends with a whole batch.
    Whole,
    /// Its last bytes are not whole, and nothing says that they ever were durable. They were
    /// removed.
    Torn(TornTail),
}

impl Wal {
    /// Which log a directory holds, by the heads of its segments alone; `None` if none of them is
    /// whole. Nobody may be using it.
    pub fn identify(disk: Arc<dyn Disk>) -> Result<Option<LogId>, OpenError> {
        identify(&Pool::new(disk), &mut Window::default())
    }

    /// Opens an existing log; it never makes a new one.
    ///
    /// What a crash can leave behind is put in order: a torn end is removed, and everything that
    /// is returned is durable. Damaged payloads are listed in [`Recovery::lost`], and the log
    /// opens. Lost history is [`OpenError::Corrupt`], and nothing is touched.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        check: Check<'_>,
    ) -> Result<(Wal, Recovery), OpenError> {
        options.validate()?;
        let path = disk.path("");
        let no_log = || OpenError::NoLog { path: path.clone() };
        if !Wal::exists(&*disk)
            .map_err(|error| OpenError::Io(Failure::new("list", disk.path(""), error)))?
        {
            return Err(no_log());
        }
        let disk = Arc::new(Pool::new(disk));
        let lock =
            take_lock(&*disk)?.ok_or_else(|| OpenError::Locked { path: disk.path("LOCK") })?;
        let lock = Arc::new(lock);
        let mut window = Window::default();
        if let Some(expected) = options.log_id {
            refuse_other(&*disk, expected, &mut window)?;
        }
        settle_medium(&*disk)?;
        let examined = examine(&*disk, check, &mut window)?.ok_or_else(no_log)?;
        let Examined { mut verdict, segments, runs } = examined;
        verdict.replace_spare(options.segment_bytes, disk.room().unwrap_or(0));
        put_in_order(&*disk, &verdict)?;
        remove_temporaries(&*disk)?;
        let (mut wal, recovery) = build(disk, options, lock, verdict, segments)?;
        wal.runs = runs;
        Ok((wal, recovery))
    }
}

/// A log that is not the one which its owner knows is whole in itself, and says nothing of what
/// that one promised.
fn refuse_other(disk: &dyn Disk, expected: LogId, window: &mut Window) -> Result<(), OpenError> {
    match identify(disk, window)? {
        Some(found) if found != expected => {
            Err(OpenError::OtherLog { path: disk.path(""), found, expected })
        }
        _ => Ok(()),
    }
}

/// What the newest whole segment header says.
fn identify(disk: &dyn Disk, window: &mut Window) -> Result<Option<LogId>, OpenError> {
    let inventory = take_inventory(disk, window)?;
    Ok(inventory.map(|Inventory { log_id, .. }| log_id).filter(|log_id| *log_id != LogId::NONE))
}

/// A log that can be opened, before anything is put in order.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) verdict: Verdict,
    segments: Segments,
    pub(crate) runs: TermRuns,
}

impl Examined {
    /// The position before the first entry, and the last entry.
    pub(crate) fn ends(&self) -> (Position, Position) {
        let newest = self.verdict.parts.last();
        let Boundary { start, last, .. } = newest.map(Part::boundary).unwrap_or_default();
        (start, last)
    }
}

/// Reads a directory and judges whether it can be opened, without touching it. `None` if there is
/// no segment at all.
///
/// What could not be read at one moment and could at another is not judged at all: neither is it
/// damage, nor may anything be wiped for it.
pub(crate) fn examine(
    disk: &dyn Disk,
    check: Check<'_>,
    window: &mut Window,
) -> Result<Option<Examined>, OpenError> {
    window.trust();
    let examined = examine_once(disk, check, window);
    match window.take_doubt() {
        Some(doubt) => Err(OpenError::Io(Failure::new("read", disk.path(""), doubt))),
        None => examined,
    }
}

fn examine_once(
    disk: &dyn Disk,
    check: Check<'_>,
    window: &mut Window,
) -> Result<Option<Examined>, OpenError> {
    let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), error))?;
    if is_under_way(&names) {
        return Err(OpenError::HalfSalvaged { path: disk.path("") });
    }
    let Some(mut verdict) = reach_verdict(disk, check, window)? else { return Ok(None) };
    let segments = build_segments(&verdict.parts);
    check_coverage(&segments, &verdict)?;
    forget_dead(&mut verdict, &segments);
    let runs = all_runs(&verdict.parts).ok_or_else(|| contradiction(disk, &verdict.parts))?;
    Ok(Some(Examined { verdict, segments, runs }))
}

/// The reader's view of all parts.
fn build_segments(parts: &[Part]) -> Segments {
    let mut segments = Segments::default();
    for part in parts {
        let (first, last, end, extents) = match &part.content {
            Content::Scanned(scan) => {
                let last = scan.tally.boundary.last.index;
                (scan.tally.low, last, scan.end, Some(scan.extents.clone()))
            }
            Content::Sealed(sealed) => {
                (sealed.seal.low, sealed.seal.boundary.last.index, sealed.end, None)
            }
        };
        let segment = Segment {
            sequence: part.source.sequence,
            file: Arc::clone(&part.source.file),
            path: part.source.path.clone(),
            capacity: part.source.capacity,
            seed: part.source.seed.clone(),
            first,
            last,
            end,
            extents: Default::default(),
            walked: Default::default(),
        };
        if let Some(extents) = extents {
            let _ = segment.extents.set(extents);
        }
        segments.push(segment);
    }
    segments
}

/// Leaves of the lost entries those that still count in the segment where they stand: one that a
/// later segment has cut, or that was dropped, is missed by nobody.
fn forget_dead(verdict: &mut Verdict, segments: &Segments) {
    let start = verdict.parts.last().map_or(0, |part| part.boundary().start.index);
    verdict.lost.retain(|(sequence, lost)| {
        let holder = segments.find(lost.index).map(|segment| segment.sequence);
        holder == Some(*sequence) && lost.index > start
    });
}

/// Every entry that the log claims to hold must have a segment that holds it.
fn check_coverage(segments: &Segments, verdict: &Verdict) -> Result<(), OpenError> {
    let (Some(oldest), Some(newest)) = (verdict.parts.first(), verdict.parts.last()) else {
        return Ok(());
    };
    let boundary = newest.boundary();
    match segments.first_gap(boundary.start.index.saturating_add(1), boundary.last.index) {
        None => Ok(()),
        Some(gap) => {
            let after = Position { index: gap.saturating_sub(1), term: boundary.start.term };
            let lost = LostRange { after, through: None, term_max: Some(boundary.last.term) };
            Err(corrupt(&oldest.source, 0, Damage::Chain, lost))
        }
    }
}

/// Parts that are whole, each in itself, and say different things about the same entries.
fn contradiction(disk: &dyn Disk, parts: &[Part]) -> OpenError {
    let lost = crate::survey::unknown_loss(Position::default());
    match parts.first() {
        Some(part) => corrupt(&part.source, 0, Damage::Chain, lost),
        None => OpenError::NoLog { path: disk.path("") },
    }
}

/// Writes what the verdict asks for, and nothing else. Doing it twice, or half and then again,
/// changes nothing.
pub(crate) fn put_in_order(disk: &dyn Disk, verdict: &Verdict) -> Result<(), OpenError> {
    for wipe in &verdict.wipes {
        let source = &wipe.source;
        let failed = |operation, error| Failure::new(operation, &source.path, error);
        write_zeros(&*source.file, wipe.from, wipe.to).map_err(|error| failed("wipe", error))?;
        uninterrupted(|| source.file.sync_data()).map_err(|error| failed("sync", error))?;
    }
    for mend in &verdict.mends {
        let source = &mend.source;
        let failed = |operation, error| Failure::new(operation, &source.path, error);
        write_all_at(&*source.file, &mend.bytes, mend.offset)
            .map_err(|error| failed("mend", error))?;
        uninterrupted(|| source.file.sync_data()).map_err(|error| failed("sync", error))?;
    }
    remove_all(disk, verdict)
}

/// Removes the segments that the log does not need. Those before it may go in any order, for the
/// log says itself where it begins. Those behind its end go from the last one down, each durably
/// before the next: a hole before one that is still there would be a missing segment.
fn remove_all(disk: &dyn Disk, verdict: &Verdict) -> Result<(), OpenError> {
    let oldest = verdict.parts.first().map_or(0, |part| part.source.sequence);
    let mut sequences = verdict.remove.clone();
    sequences.sort_unstable_by(|left, right| right.cmp(left));
    let (before, behind): (Vec<u64>, Vec<u64>) =
        sequences.into_iter().partition(|sequence| *sequence < oldest);
    let together = behind.chunks(1).chain(std::iter::once(&before[..]));
    for sequences in together.filter(|sequences| !sequences.is_empty()) {
        for sequence in sequences {
            let name = segment_name(*sequence);
            disk.remove(&name).map_err(|error| Failure::new("remove", disk.path(&name), error))?;
        }
        uninterrupted(|| disk.sync())
            .map_err(|error| Failure::new("sync directory", disk.path(""), error))?;
    }
    Ok(())
}

fn build(
    disk: Arc<Pool>,
    options: Options,
    lock: Arc<Lock>,
    mut verdict: Verdict,
    mut segments: Segments,
) -> Result<(Wal, Recovery), OpenError> {
    let no_log = || OpenError::NoLog { path: disk.path("") };
    let mut batches = 0_u64;
    let mut entries = 0_u64;
    for part in &verdict.parts {
        if let Content::Scanned(scan) = &part.content {
            batches = batches.saturating_add(scan.batches);
            entries = entries.saturating_add(scan.entries);
        }
    }
    let newest = verdict.parts.pop().ok_or_else(no_log)?;
    let source = newest.source;
    let Content::Scanned(scan) = newest.content else { return Err(no_log()) };
    let spare = verdict.spare.take().map(|source| unused(&disk, source)).transpose()?;
    let successor = verdict.successor.take().map(|source| unused(&disk, source)).transpose()?;
    let is_closed = scan.closed;
    let active = match (scan.seal_offset, successor) {
        (Some(seal_offset), Some(successor)) => {
            let boundary = scan.tally.boundary;
            let seal = (seal_offset, scan.end);
            let log_id = verdict.log_id;
            let crc = scan.last_crc;
            let active = Active::unlinked(log_id, successor, boundary, seal, crc, Before::Synced);
            segments.push(reading_view(&active, Extents::default()));
            active
        }
        _ => Active {
            sequence: source.sequence,
            file: hold(&disk, &source)?,
            path: source.path,
            capacity: source.capacity,
            seed: source.seed,
            end: scan.end,
            last_crc: scan.last_crc,
            tally: scan.tally,
            unlinked: None,
            before: Before::Synced,
            is_closed,
        },
    };
    let lost: BTreeMap<u64, Position> =
        verdict.lost.iter().map(|(_, lost)| (lost.index, *lost)).collect();
    let mended = verdict.mends.iter().map(|mend| (mend.source.sequence, mend.offset)).collect();
    let recovery = Recovery {
        ending: match verdict.torn {
            Some(torn) => Ending::Torn(torn),
            None if is_closed => Ending::Closed,
            None => Ending::Whole,
        },
        lost: lost.values().copied().collect(),
        mended,
        removed: std::mem::take(&mut verdict.remove),
        batches,
        entries,
    };
    let log_id = verdict.log_id;
    let mut wal = Wal::assemble(disk, options, log_id, lock, segments, active);
    wal.lost = lost;
    wal.spare = spare;
    Ok((wal, recovery))
}

fn unused(disk: &Pool, source: Source) -> Result<Spare, Failure> {
    let file = hold(disk, &source)?;
    let Source { sequence, path, capacity, .. } = source;
    Ok(Spare { sequence, file, path, capacity })
}

/// A segment that is going to be written: it stays open, so that no write waits for that.
fn hold(disk: &Pool, source: &Source) -> Result<Arc<dyn File>, Failure> {
    let held = disk.hold(&segment_name(source.sequence));
    held.map_err(|error| Failure::new("open", &source.path, error))
}

/// The terms of all entries, put together from what each part holds. `None` if they contradict
/// each other.
fn all_runs(parts: &[Part]) -> Option<TermRuns> {
    let mut runs = TermRuns::default();
    for part in parts {
        match &part.content {
            Content::Scanned(scan) => {
                runs.truncate_after(scan.tally.low.saturating_sub(1));
                scan.tally.runs.iter().try_for_each(|run| runs.push(run))?;
            }
            Content::Sealed(sealed) => {
                runs.truncate_after(sealed.seal.low.saturating_sub(1));
                sealed.seal.runs.iter().flatten().try_for_each(|run| runs.push(*run))?;
            }
        }
    }
    if let Some(newest) = parts.last() {
        let boundary = newest.boundary();
        runs.truncate_after(boundary.last.index);
        runs.drop_through(boundary.start.index, boundary.last.index);
    }
    Some(runs)
}
