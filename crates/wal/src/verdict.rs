//! Decides which broken places are damage and which are the torn end of the log.
//!
//! The one rule: a broken place is damage if anything valid says that the bytes there were synced,
//! and the torn end of the log otherwise. What can say so is a batch header behind the place that
//! was written after a sync (in the same segment or a later one, links and seals included), and
//! the caller's floor. A valid piece behind the place that makes no such claim proves nothing: the
//! sectors of one write reach the medium in any order.
//!
//! Nothing here writes. What is to be put in order stands in the result.

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader, Before, padding};
use crate::disk::Disk;
use crate::entry::Position;
use crate::error::{Damage, Failure, LostRange, OpenError};
use crate::options::LogId;
use crate::scan::{Broken, Scan, Source, Stop};
use crate::search::search;
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::survey::{
    Check, Content, Location, Mend, Part, Surveyor, Trouble, corrupt, loss_up_to, unknown_loss,
};
use crate::window::Window;

/// The end of the log, where something stands that is not whole and that nothing proves durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The sequence of the segment.
    pub segment: u64,
    /// Where the torn bytes begin.
    pub offset: u64,
    /// How many bytes from there to the last one that is not zero.
    pub bytes: u64,
    /// The last entry before it.
    pub after: Position,
}

/// A stretch of a segment that is to read as zeros.
#[derive(Debug)]
pub(crate) struct Wipe {
    pub(crate) source: Source,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What a segment without a whole link holds, if nothing in it says that bytes were durable.
enum Unlinked {
    /// Nothing but zeros from here on.
    DirtyUpTo(u64),
    /// The medium refused to read some of it; the rest is zeros from `dirty_end` on. A segment in
    /// use has something else than zeros where its link stands, if that can be read.
    Unreadable { failure: Failure, dirty_end: u64, is_link_readable: bool },
}

/// What a directory amounts to, and what is to be done about it.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) log_id: LogId,
    /// The segments of the log, oldest first.
    pub(crate) parts: Vec<Part>,
    /// Where the log goes on, if the last part is sealed.
    pub(crate) successor: Option<Source>,
    /// An empty segment behind that.
    pub(crate) spare: Option<Source>,
    pub(crate) torn: Option<TornTail>,
    pub(crate) wipes: Vec<Wipe>,
    pub(crate) mends: Vec<Mend>,
    /// Segments that the log does not need, by sequence.
    pub(crate) remove: Vec<u64>,
    /// Entries whose payloads are gone although they were durable, each with its segment.
    pub(crate) lost: Vec<(u64, Position)>,
}

impl Verdict {
    /// Has a spare of another size than `segment_bytes` removed, to be made again: in one that is
    /// too small, the largest records that the options allow would never find a place.
    ///
    /// It stays if the disk, with `room` bytes left, could not hold the one to be made instead.
    pub(crate) fn replace_spare(&mut self, segment_bytes: u64, room: u64) {
        let is_odd = |spare: &mut Source| {
            let room = room.saturating_add(spare.capacity);
            spare.capacity != segment_bytes && room >= segment_bytes
        };
        if let Some(spare) = self.spare.take_if(is_odd) {
            self.wipes.retain(|wipe| wipe.source.sequence != spare.sequence);
            self.remove.push(spare.sequence);
        }
    }
}

/// Reads a directory and judges it. `None` if there is no segment at all.
pub(crate) fn reach_verdict(
    disk: &dyn Disk,
    check: Check<'_>,
    window: &mut Window,
) -> Result<Option<Verdict>, OpenError> {
    let Some(mut surveyor) = Surveyor::begin(disk, check, window)? else { return Ok(None) };
    // A torn batch may have said anything, also which segments are needed no more. So when one is
    // found, everything is read again as if the log ended before it.
    loop {
        let mut verdict = match surveyor.survey() {
            Ok(verdict) => verdict,
            Err(Trouble::Fatal(error)) => return Err(error),
            Err(Trouble::BrokenLink { sequence, error }) => {
                let is_all_told = surveyor.search_behind(sequence)?;
                if !is_all_told || surveyor.proof > (sequence, SEGMENT_HEADER_BYTES) {
                    return Err(error);
                }
                surveyor.cut_at((sequence, SEGMENT_HEADER_BYTES));
                continue;
            }
        };
        if let Some(cut) = surveyor.judge_parts(&mut verdict)? {
            surveyor.cut_at(cut);
            continue;
        }
        surveyor.report_cut(&mut verdict)?;
        surveyor.check_floor(&verdict)?;
        verdict.mends.append(&mut surveyor.mends);
        let oldest = verdict.parts.first().map_or(0, |part| part.source.sequence);
        let sequences = surveyor.heads.iter().map(|head| head.source.sequence);
        verdict.remove.extend(sequences.filter(|sequence| *sequence < oldest));
        return Ok(Some(verdict));
    }
}

fn last_scan(parts: &[Part]) -> Option<(&Source, &Scan)> {
    match parts.last() {
        Some(Part { source, content: Content::Scanned(scan), .. }) => Some((source, scan)),
        _ => None,
    }
}

impl Surveyor<'_> {
    fn survey(&mut self) -> Result<Verdict, Trouble> {
        let tail = self.read_tail()?;
        self.judge_tail(&tail)?;
        let mut verdict = Verdict {
            log_id: self.log_id,
            parts: self.read(tail)?,
            successor: None,
            spare: None,
            torn: None,
            wipes: Vec::new(),
            mends: Vec::new(),
            remove: Vec::new(),
            lost: Vec::new(),
        };
        self.look_behind(&mut verdict)?;
        Ok(verdict)
    }

    /// Damage in the newest segment may have taken along what it says about older ones, and these
    /// would then be missed without reason.
    fn judge_tail(&self, tail: &[Part]) -> Result<(), OpenError> {
        for part in tail {
            let Content::Scanned(scanned) = &part.content else { continue };
            if let Stop::Broken(broken) = &scanned.stop
                && (part.source.sequence, scanned.end) < self.proof
            {
                return Err(loss_at(part, scanned, broken, None));
            }
        }
        Ok(())
    }

    /// Looks at what stands behind the last segment that holds batches: its successor, if it is
    /// sealed, and an empty spare. Without syncs there may be more, of which nothing is whole.
    fn look_behind(&mut self, verdict: &mut Verdict) -> Result<(), OpenError> {
        let Some((last, scanned)) = last_scan(&verdict.parts) else { return Ok(()) };
        let after = scanned.tally.boundary.last;
        let is_sealed = scanned.seal_offset.is_some();
        // What is broken there may have been the seal, and then what follows was in use.
        let is_broken = matches!(scanned.stop, Stop::Broken(_));
        let last = last.sequence;
        let mut next = last.saturating_add(1);
        let behind: Vec<(Source, Option<Damage>)> = self
            .heads
            .iter()
            .filter(|head| head.source.sequence > last)
            .map(|head| (head.source.clone(), head.problem))
            .collect();
        let is_missing = match behind.first() {
            Some((source, _)) => source.sequence > next,
            None => is_sealed,
        };
        if is_missing {
            return Err(self.missing(next, unknown_loss(after)));
        }
        for (source, problem) in behind {
            let sequence = source.sequence;
            let is_successor = is_sealed && sequence == next && verdict.successor.is_none();
            if let Some(problem) = problem {
                if is_successor || !self.holds_nothing(&source, problem, is_broken)? {
                    return Err(corrupt(&source, 0, problem, unknown_loss(after)));
                }
                verdict.remove.push(sequence);
                continue;
            }
            let from = SEGMENT_HEADER_BYTES;
            let to = match self.search_unlinked(&source) {
                Unlinked::DirtyUpTo(to) => to,
                // A spare was never written to. One that cannot be read is made again.
                Unlinked::Unreadable { dirty_end, is_link_readable, .. }
                    if !is_successor && dirty_end <= from && (is_link_readable || !is_broken) =>
                {
                    verdict.remove.push(sequence);
                    continue;
                }
                Unlinked::Unreadable { failure, .. } => {
                    return Err(OpenError::unreadable_end(from, &failure));
                }
            };
            if is_successor {
                next = next.saturating_add(1);
                if to > from {
                    let bytes = to.saturating_sub(from);
                    verdict.torn = Some(TornTail { segment: sequence, offset: from, bytes, after });
                }
                verdict.successor = Some(source.clone());
            } else if sequence == next {
                verdict.spare = Some(source.clone());
            } else {
                verdict.remove.push(sequence);
                continue;
            }
            if to > from {
                verdict.wipes.push(Wipe { source, from, to });
            }
        }
        match &verdict.successor {
            Some(successor) if self.proof > (successor.sequence, SEGMENT_HEADER_BYTES) => {
                let lost = unknown_loss(after);
                Err(corrupt(successor, SEGMENT_HEADER_BYTES, Damage::Link, lost))
            }
            _ => Ok(()),
        }
    }

    /// Searches a segment without a whole link for anything that says that bytes were durable.
    fn search_unlinked(&mut self, source: &Source) -> Unlinked {
        let found = search(source, self.window, SEGMENT_HEADER_BYTES);
        if let Some(proof) = found.proof {
            self.note_proof(source.sequence, proof);
        }
        // A header in the link's own place says nothing about this segment, but all about the
        // ones before it.
        let room = source.capacity.saturating_sub(SEGMENT_HEADER_BYTES);
        let bytes = source.view(self.window, SEGMENT_HEADER_BYTES, BATCH_HEADER_BYTES);
        let is_link_readable = bytes.is_ok();
        let header = bytes
            .ok()
            .and_then(|bytes| BatchHeader::decode(bytes, &source.seed, SEGMENT_HEADER_BYTES, room));
        if header.is_some_and(|header| header.before == Before::Synced) {
            self.note_proof(source.sequence, SEGMENT_HEADER_BYTES);
        }
        let dirty_end = found.dirty_end;
        match (found.proof, found.unreadable) {
            (None, Some(failure)) => Unlinked::Unreadable { failure, dirty_end, is_link_readable },
            _ => Unlinked::DirtyUpTo(dirty_end),
        }
    }

    /// Whether a segment that is unusable as a whole is an empty one, which is all that may be
    /// given up. No crash makes a segment unusable: it was whole before the log relied on it.
    ///
    /// If the link is not there or cannot be read, it is taken for zeros only if the segment before
    /// ends as one that is still being written does, and not at a broken place.
    fn holds_nothing(
        &mut self,
        source: &Source,
        problem: Damage,
        is_broken_before: bool,
    ) -> Result<bool, OpenError> {
        let link_end = SEGMENT_HEADER_BYTES.saturating_add(BATCH_HEADER_BYTES);
        let is_cut = problem == Damage::Length && source.capacity < link_end;
        match self.search_unlinked(source) {
            Unlinked::DirtyUpTo(to) => {
                Ok(to <= SEGMENT_HEADER_BYTES && !(is_cut && is_broken_before))
            }
            Unlinked::Unreadable { dirty_end, .. } if dirty_end > SEGMENT_HEADER_BYTES => Ok(false),
            Unlinked::Unreadable { is_link_readable: false, failure, .. } if is_broken_before => {
                Err(OpenError::unreadable_end(SEGMENT_HEADER_BYTES, &failure))
            }
            Unlinked::Unreadable { .. } => Ok(true),
        }
    }

    /// Notes everything that segments behind one say about what was durable. False if one of them
    /// is unusable and was in use, so that what it said is not known.
    fn search_behind(&mut self, sequence: u64) -> Result<bool, OpenError> {
        let behind = self.heads.iter().filter(|head| head.source.sequence > sequence);
        let behind: Vec<(Source, Option<Damage>)> =
            behind.map(|head| (head.source.clone(), head.problem)).collect();
        for (source, problem) in behind {
            if let Some(problem) = problem {
                if !self.holds_nothing(&source, problem, true)? {
                    return Ok(false);
                }
            } else if let Unlinked::Unreadable { failure, .. } = self.search_unlinked(&source) {
                return Err(OpenError::unreadable_end(SEGMENT_HEADER_BYTES, &failure));
            }
        }
        Ok(true)
    }

    /// Goes through all broken places in order, up to the first that is not damage: the place
    /// where the log ends before its bytes do.
    fn judge_parts(&self, verdict: &mut Verdict) -> Result<Option<Location>, OpenError> {
        let start = verdict.parts.last().map_or(0, |part| part.boundary().start.index);
        let count = verdict.parts.len();
        for (number, part) in verdict.parts.iter().enumerate() {
            let Content::Scanned(scanned) = &part.content else { continue };
            let sequence = part.source.sequence;
            for damaged in &scanned.damaged {
                if !self.is_proven(sequence, damaged.offset, damaged.last_before, start) {
                    return match &damaged.unreadable {
                        Some(failure) => Err(OpenError::unreadable_end(damaged.offset, failure)),
                        None => Ok(Some((sequence, damaged.offset))),
                    };
                }
                verdict.lost.extend(damaged.lost.iter().map(|lost| (sequence, *lost)));
                if let Some((offset, end)) = damaged.padding {
                    let length = usize::try_from(end.saturating_sub(offset)).unwrap_or(0);
                    let bytes = padding(length);
                    verdict.mends.push(Mend { source: part.source.clone(), offset, bytes });
                }
            }
            let is_last = number.saturating_add(1) == count;
            let next = verdict.parts.get(number.saturating_add(1));
            let last = scanned.tally.boundary.last.index;
            let (broken, proven) = match &scanned.stop {
                Stop::Sealed => continue,
                // Zeros at the very end are how every log ends; the floor is compared later.
                Stop::End | Stop::Limit => {
                    let proven = (sequence, scanned.end) < self.proof;
                    if is_last && !proven {
                        continue;
                    }
                    (Broken::at(Damage::BatchHeader), proven)
                }
                Stop::Broken(broken) => {
                    let proven = self.is_proven(sequence, scanned.end, last, start);
                    (broken.clone(), proven || broken.damage == Damage::Malformed)
                }
            };
            if proven {
                return Err(loss_at(part, scanned, &broken, next));
            }
            return match broken.unreadable {
                Some(failure) => Err(OpenError::unreadable_end(scanned.end, &failure)),
                None => Ok(Some((sequence, scanned.end))),
            };
        }
        Ok(None)
    }

    /// Says what a cut has left behind, and has it wiped.
    fn report_cut(&mut self, verdict: &mut Verdict) -> Result<(), OpenError> {
        let Some((sequence, offset)) = self.end else { return Ok(()) };
        if let Some(part) = verdict.parts.last().filter(|part| part.source.sequence == sequence) {
            let source = part.source.clone();
            let after = part.boundary().last;
            let to = self.dirty_end(&source, offset)?;
            let bytes = to.saturating_sub(offset);
            verdict.torn = Some(TornTail { segment: sequence, offset, bytes, after });
            verdict.wipes.push(Wipe { source, from: offset, to });
        }
        // One of the segments behind the cut may stay as the spare; it must be empty.
        let in_use = verdict.parts.last().map_or(0, |part| part.source.sequence);
        let in_use = verdict.successor.as_ref().map_or(in_use, |successor| successor.sequence);
        for head in std::mem::take(&mut self.behind) {
            let source = head.source;
            let is_next = source.sequence == in_use.saturating_add(1);
            let from = SEGMENT_HEADER_BYTES;
            // One that cannot be read is made again instead.
            if is_next
                && head.problem.is_none()
                && let Ok(to) = self.dirty_end(&source, from)
            {
                verdict.wipes.push(Wipe { source: source.clone(), from, to });
                verdict.spare = Some(source);
            } else {
                verdict.remove.push(source.sequence);
            }
        }
        Ok(())
    }

    /// One past the last byte of a segment that is not zero.
    fn dirty_end(&mut self, source: &Source, from: u64) -> Result<u64, OpenError> {
        let mut end = from;
        let mut offset = from;
        while offset < source.capacity {
            let piece = (64 * 1024).min(source.capacity.saturating_sub(offset));
            let bytes = source
                .view(self.window, offset, piece)
                .map_err(|failure| OpenError::unreadable_end(offset, &failure))?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = offset.saturating_add(last as u64).saturating_add(1);
            }
            offset = offset.saturating_add(piece);
        }
        Ok(end)
    }

    fn check_floor(&self, verdict: &Verdict) -> Result<(), OpenError> {
        let (Some(floor), Some(part)) = (self.check.floor, verdict.parts.last()) else {
            return Ok(());
        };
        let boundary = part.boundary();
        if boundary.last.index >= floor || boundary.start.index >= floor {
            return Ok(());
        }
        let offset = last_scan(&verdict.parts).map_or(0, |(_, scanned)| scanned.end);
        let lost = LostRange { after: boundary.last, through: Some(floor), term_max: None };
        Err(corrupt(&part.source, offset, Damage::BelowFloor, lost))
    }
}

/// The error for a broken place that was durable: what is lost is bounded by the next thing that
/// names an index.
fn loss_at(part: &Part, scanned: &Scan, broken: &Broken, next: Option<&Part>) -> OpenError {
    let after = scanned.tally.boundary.last;
    let lost = match (&broken.beyond, next) {
        (Some(beyond), _) => LostRange {
            after,
            through: Some(beyond.first_index.saturating_sub(1)),
            term_max: beyond.term,
        },
        (None, Some(next)) => loss_up_to(after, next.link_boundary().last),
        (None, None) => unknown_loss(after),
    };
    corrupt(&part.source, scanned.end, broken.damage, lost)
}
