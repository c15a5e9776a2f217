//! Decides which broken places are damage and which are the torn end of the log.
//!
//! The one rule: a broken place is damage if anything valid says that the bytes there were synced,
//! and the torn end of the log otherwise. What can say so is a batch header behind the place that
//! was written after a sync (in the same segment or a later one, links and seals included), and
//! the caller's floor. A valid piece behind the place that makes no such claim proves nothing: the
//! sectors of one write reach the medium in any order.
//!
//! Nothing here writes. What is to be put in order stands in the result.

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader, Before};
use crate::disk::Disk;
use crate::entry::Position;
use crate::error::{Damage, LostRange, OpenError};
use crate::options::LogId;
use crate::scan::{Broken, Depth, Found, Scan, Source, Stop, scan, search};
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::survey::{Check, Content, Mend, Part, Surveyor, corrupt, loss_up_to, unknown_loss};
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

/// What a directory amounts to, and what is to be done about it.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) log_id: LogId,
    /// The segments of the log, oldest first.
    pub(crate) parts: Vec<Part>,
    /// The empty successor, if there is one. A sealed last part always has one.
    pub(crate) spare: Option<Source>,
    pub(crate) torn: Option<TornTail>,
    pub(crate) wipes: Vec<Wipe>,
    pub(crate) mends: Vec<Mend>,
    /// Segments that the log does not need, by sequence.
    pub(crate) remove: Vec<u64>,
    /// Entries whose payloads are gone although they were durable, each with its segment.
    pub(crate) lost: Vec<(u64, Position)>,
}

/// Where the log ends before its bytes do: the part and the offset in it.
type Cut = Option<(usize, u64)>;

/// Reads a directory and judges it. `None` if there is no segment at all.
pub(crate) fn reach_verdict(
    disk: &dyn Disk,
    check: Check,
    window: &mut Window,
) -> Result<Option<Verdict>, OpenError> {
    let Some(mut surveyor) = Surveyor::begin(disk, check, window)? else { return Ok(None) };
    let parts = surveyor.read()?;
    let mut verdict = Verdict {
        log_id: surveyor.log_id,
        parts,
        spare: None,
        torn: None,
        wipes: Vec::new(),
        mends: Vec::new(),
        remove: Vec::new(),
        lost: Vec::new(),
    };
    surveyor.look_behind(&mut verdict)?;
    let cut = surveyor.judge_parts(&mut verdict)?;
    if let Some((part, offset)) = cut {
        surveyor.cut(&mut verdict, part, offset)?;
    }
    surveyor.check_floor(&verdict)?;
    verdict.mends.append(&mut surveyor.mends);
    let oldest = verdict.parts.first().map_or(0, |part| part.source.sequence);
    let sequences = surveyor.heads.iter().map(|head| head.source.sequence);
    verdict.remove.extend(sequences.filter(|sequence| *sequence < oldest));
    Ok(Some(verdict))
}

fn last_scan(parts: &[Part]) -> Option<(&Source, &Scan)> {
    match parts.last() {
        Some(Part { source, content: Content::Scanned(scan), .. }) => Some((source, scan)),
        _ => None,
    }
}

impl Surveyor<'_> {
    /// Looks at what stands behind the last segment that holds batches: nothing, an empty
    /// successor, or one that holds something which is not whole.
    fn look_behind(&mut self, verdict: &mut Verdict) -> Result<(), OpenError> {
        let Some((last, scanned)) = last_scan(&verdict.parts) else { return Ok(()) };
        let loss = unknown_loss(scanned.tally.boundary.last);
        let is_sealed = scanned.seal_offset.is_some();
        let sequence = last.sequence.saturating_add(1);
        let newest = self.heads.last().map_or(0, |head| head.source.sequence);
        let Some(next) = self.head(sequence) else {
            let is_gap = is_sealed || newest > sequence;
            return if is_gap { Err(self.missing(sequence, loss)) } else { Ok(()) };
        };
        let source = next.source.clone();
        let problem = next.problem;
        // Successors are made one at a time: with another one behind it, this one was in use.
        if newest > sequence {
            let damage = problem.unwrap_or(Damage::Link);
            return Err(corrupt(&source, SEGMENT_HEADER_BYTES, damage, loss));
        }
        match problem {
            Some(problem) if is_sealed => return Err(corrupt(&source, 0, problem, loss)),
            Some(_) => {
                verdict.remove.push(sequence);
                return Ok(());
            }
            None => {}
        }
        let after = scanned.tally.boundary.last;
        let found = self.search_successor(&source);
        if let (true, Some(_)) = (is_sealed, found.proof) {
            return Err(corrupt(&source, SEGMENT_HEADER_BYTES, Damage::Link, loss));
        }
        if let Some(failure) = found.unreadable {
            return Err(OpenError::Io(failure));
        }
        if found.dirty_end > SEGMENT_HEADER_BYTES {
            let (from, to) = (SEGMENT_HEADER_BYTES, found.dirty_end);
            verdict.wipes.push(Wipe { source: source.clone(), from, to });
            if is_sealed {
                let bytes = to.saturating_sub(from);
                verdict.torn =
                    Some(TornTail { segment: source.sequence, offset: from, bytes, after });
            }
        }
        verdict.spare = Some(source);
        Ok(())
    }

    /// Searches a successor without a whole link for anything that says that bytes were durable.
    fn search_successor(&mut self, source: &Source) -> Found {
        self.window.clear();
        let found = search(source, self.window, SEGMENT_HEADER_BYTES);
        if let Some(proof) = found.proof {
            self.note_proof(source.sequence, proof);
        }
        // A header in the link's own place says nothing about this segment, but all about the
        // ones before it.
        let room = source.capacity.saturating_sub(SEGMENT_HEADER_BYTES);
        let bytes = source.view(self.window, SEGMENT_HEADER_BYTES, BATCH_HEADER_BYTES);
        let header = bytes
            .ok()
            .and_then(|bytes| BatchHeader::decode(bytes, &source.seed, SEGMENT_HEADER_BYTES, room));
        if header.is_some_and(|header| header.before == Before::Synced) {
            self.note_proof(source.sequence, SEGMENT_HEADER_BYTES);
        }
        found
    }

    /// Goes through all broken places in order, up to the first that is not damage.
    fn judge_parts(&mut self, verdict: &mut Verdict) -> Result<Cut, OpenError> {
        let start = verdict.parts.last().map_or(0, |part| part.boundary().start.index);
        let count = verdict.parts.len();
        for (number, part) in verdict.parts.iter().enumerate() {
            let Content::Scanned(scanned) = &part.content else { continue };
            let sequence = part.source.sequence;
            for damaged in &scanned.damaged {
                if !self.is_proven(sequence, damaged.offset, damaged.last_before, start) {
                    return match &damaged.unreadable {
                        Some(failure) => Err(OpenError::Io(failure.clone())),
                        None => Ok(Some((number, damaged.offset))),
                    };
                }
                verdict.lost.extend(damaged.lost.iter().map(|lost| (sequence, *lost)));
                if let Some((from, to)) = damaged.padding {
                    let source = part.source.clone();
                    verdict.wipes.push(Wipe { source, from, to });
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
                Some(failure) => Err(OpenError::Io(failure)),
                None => Ok(Some((number, scanned.end))),
            };
        }
        Ok(None)
    }

    /// Ends the log at a torn place: nothing from there on counts, in later segments neither.
    fn cut(&mut self, verdict: &mut Verdict, number: usize, offset: u64) -> Result<(), OpenError> {
        verdict.parts.truncate(number.saturating_add(1));
        let Some(part) = verdict.parts.last_mut() else { return Ok(()) };
        let source = part.source.clone();
        let until = Some(offset);
        let scanned = scan(&source, self.window, part.begin.clone(), until, Depth::Payloads);
        let scanned = scanned.map_err(|broken| {
            let loss = unknown_loss(Position::default());
            corrupt(&source, SEGMENT_HEADER_BYTES, broken.damage, loss)
        })?;
        let after = scanned.tally.boundary.last;
        part.content = Content::Scanned(Box::new(scanned));
        let dirty_end = self.dirty_end(&source, offset)?;
        let bytes = dirty_end.saturating_sub(offset);
        verdict.torn = Some(TornTail { segment: source.sequence, offset, bytes, after });
        verdict.wipes.retain(|wipe| wipe.source.sequence <= source.sequence);
        verdict.wipes.push(Wipe { source: source.clone(), from: offset, to: dirty_end });

        let successor = source.sequence.saturating_add(1);
        verdict.spare = None;
        let behind: Vec<(Source, bool)> = self
            .heads
            .iter()
            .filter(|head| head.source.sequence >= successor)
            .map(|head| (head.source.clone(), head.problem.is_none()))
            .collect();
        for (source, is_sound) in behind {
            if source.sequence == successor && is_sound {
                let to = self.dirty_end(&source, SEGMENT_HEADER_BYTES)?;
                let from = SEGMENT_HEADER_BYTES;
                verdict.wipes.push(Wipe { source: source.clone(), from, to });
                verdict.spare = Some(source);
            } else if !verdict.remove.contains(&source.sequence) {
                verdict.remove.push(source.sequence);
            }
        }
        self.mends.retain(|mend| (mend.source.sequence, mend.offset) < (successor, 0));
        Ok(())
    }

    /// One past the last byte of a segment that is not zero.
    fn dirty_end(&mut self, source: &Source, from: u64) -> Result<u64, OpenError> {
        self.window.clear();
        let mut end = from;
        let mut offset = from;
        while offset < source.capacity {
            let piece = (64 * 1024).min(source.capacity.saturating_sub(offset));
            let bytes = source.view(self.window, offset, piece).map_err(OpenError::Io)?;
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
