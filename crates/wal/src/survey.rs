//! Reads the segments that make up a log, each only as far as it must be, and ties them together.
//!
//! The newest segment comes first: only it knows which of the older ones are still needed. A
//! rotten seal or link is made again here when what surrounds it repeats what it said. Nothing is
//! written, and no broken place is judged: that is left to `verdict`.

use crate::batch::{Before, Place, encode_control};
use crate::disk::Disk;
use crate::entry::Position;
use crate::error::{Damage, LostRange, OpenError};
use crate::inventory::{Head, Inventory, WholeLink, encode_link, take_inventory};
use crate::options::LogId;
use crate::record::{Boundary, Link, Row, Seal};
use crate::scan::{Begin, Depth, Scan, Source, Stop, read_control, scan};
use crate::search::search;
use crate::segment::{SEGMENT_HEADER_BYTES, segment_name};
use crate::window::Window;

/// What the caller of `open` wants checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check<'a> {
    /// Every payload from this index on is verified before `open` returns. Sealed segments that
    /// end below it are opened by header, link and seal alone.
    pub verify_from: u64,
    /// An index that is known to have been durable in this log: a log that ends below it without
    /// having been reset beyond it has lost history.
    pub floor: Option<u64>,
    /// Sequences of segments that are read in full whatever they hold: reading them has failed
    /// before.
    pub suspects: &'a [u64],
}

impl Check<'_> {
    /// Whether a segment needs not be read, given the link behind it.
    pub(crate) fn believes(&self, sequence: u64, next: &WholeLink) -> bool {
        !self.suspects.contains(&sequence) && next.is_enough_for(self.verify_from)
    }
}

/// What is known of a segment that is part of the log.
#[derive(Debug)]
pub(crate) enum Content {
    /// Read batch by batch.
    Scanned(Box<Scan>),
    /// Believed by its seal, which the next segment's link confirms.
    Sealed(Box<Sealed>),
}

/// A segment of which only the borders were read.
#[derive(Debug)]
pub(crate) struct Sealed {
    link: WholeLink,
    pub(crate) seal: Seal,
    seal_offset: u64,
    pub(crate) end: u64,
    crc: u32,
}

/// A segment that is part of the log.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) source: Source,
    pub(crate) content: Content,
}

/// Bytes to be put over rotten ones that were made again from what surrounds them.
#[derive(Debug)]
pub(crate) struct Mend {
    pub(crate) source: Source,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Part {
    /// The state of the log behind this segment.
    pub(crate) fn boundary(&self) -> Boundary {
        match &self.content {
            Content::Scanned(scan) => scan.tally.boundary,
            Content::Sealed(sealed) => sealed.seal.boundary,
        }
    }

    /// The link and the crc that the next segment begins with, if this one is sealed.
    fn next_link(&self) -> Option<(Link, u32)> {
        let boundary = self.boundary();
        let (seal_offset, seal_end, crc) = match &self.content {
            Content::Scanned(scan) => (scan.seal_offset?, scan.end, scan.last_crc),
            Content::Sealed(sealed) => (sealed.seal_offset, sealed.end, sealed.crc),
        };
        Some((Link { boundary, seal_offset, seal_end }, crc))
    }

    /// The state of the log at the beginning of this segment.
    pub(crate) fn link_boundary(&self) -> Boundary {
        self.link().0.boundary
    }

    /// The link and the crc of the predecessor that this segment begins with.
    fn link(&self) -> (Link, u32) {
        match &self.content {
            Content::Scanned(scan) => (scan.link, scan.link_previous_crc),
            Content::Sealed(sealed) => (sealed.link.link, sealed.link.previous_crc),
        }
    }
}

/// A place in the log (sequence, offset), for comparing what proves with what is broken.
pub(crate) type Location = (u64, u64);

/// Why the segments of a log could not all be read.
#[derive(Debug)]
pub(crate) enum Trouble {
    Fatal(OpenError),
    /// The link of a segment in the middle is rotten. That is damage if anything proves that it
    /// was durable, and then `error` says so.
    BrokenLink {
        sequence: u64,
        error: OpenError,
    },
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Trouble {
        Trouble::Fatal(error)
    }
}

/// Reads the segments of a log and collects what they prove.
pub(crate) struct Surveyor<'a> {
    disk: &'a dyn Disk,
    pub(crate) window: &'a mut Window,
    pub(crate) check: Check<'a>,
    pub(crate) log_id: LogId,
    pub(crate) heads: Vec<Head>,
    pub(crate) mends: Vec<Mend>,
    /// Everything below this place is known to have been durable.
    pub(crate) proof: Location,
    /// Where the log ends before its bytes do, once that is known.
    pub(crate) end: Option<Location>,
    /// The segments behind that end.
    pub(crate) behind: Vec<Head>,
}

pub(crate) fn corrupt(source: &Source, offset: u64, damage: Damage, lost: LostRange) -> OpenError {
    let (segment, sequence) = (source.path.to_string(), source.sequence);
    OpenError::Corrupt { segment, sequence, offset, damage, lost }
}

pub(crate) fn unknown_loss(after: Position) -> LostRange {
    LostRange { after, through: None, term_max: None }
}

pub(crate) fn loss_up_to(after: Position, last: Position) -> LostRange {
    LostRange { after, through: Some(last.index), term_max: Some(last.term) }
}

impl<'a> Surveyor<'a> {
    /// Reads the heads of all segments; `None` if there is no segment at all.
    pub(crate) fn begin(
        disk: &'a dyn Disk,
        check: Check<'a>,
        window: &'a mut Window,
    ) -> Result<Option<Surveyor<'a>>, OpenError> {
        let Some(Inventory { log_id, heads }) = take_inventory(disk, window)? else {
            return Ok(None);
        };
        Ok(Some(Surveyor {
            disk,
            window,
            check,
            log_id,
            heads,
            mends: Vec::new(),
            proof: (0, 0),
            end: None,
            behind: Vec::new(),
        }))
    }

    /// Ends the log at a torn place: nothing from there on counts, in later segments neither.
    pub(crate) fn cut_at(&mut self, end: Location) {
        let (sequence, offset) = end;
        self.end = Some(end);
        self.mends.clear();
        let behind = self.heads.extract_if(.., |head| head.source.sequence > sequence);
        self.behind.extend(behind);
        self.behind.sort_by_key(|head| head.source.sequence);
        if offset <= SEGMENT_HEADER_BYTES {
            self.forget_link(sequence);
        }
    }

    fn forget_link(&mut self, sequence: u64) {
        let heads = self.heads.iter_mut();
        heads.filter(|head| head.source.sequence == sequence).for_each(|head| head.link = None);
    }

    pub(crate) fn head(&self, sequence: u64) -> Option<&Head> {
        let at = self.heads.binary_search_by_key(&sequence, |head| head.source.sequence);
        self.heads.get(at.ok()?)
    }

    pub(crate) fn note_proof(&mut self, sequence: u64, offset: u64) {
        if offset > 0 {
            self.proof = self.proof.max((sequence, offset));
        }
    }

    /// All segments that the log still needs, oldest first; `tail` are the newest of them.
    pub(crate) fn read(&mut self, tail: Vec<Part>) -> Result<Vec<Part>, Trouble> {
        let (Some(oldest), Some(newest)) = (tail.first(), tail.last()) else {
            return Err(self.no_link().into());
        };
        let Boundary { start, first_sequence: first, .. } = newest.boundary();
        let mut parts: Vec<Part> = Vec::new();
        for sequence in first..oldest.source.sequence {
            let part = self.read_part(sequence, start, parts.last())?;
            check_chain(parts.last(), &part)?;
            parts.push(part);
        }
        for part in tail {
            if part.source.sequence >= first {
                check_chain(parts.last(), &part)?;
                parts.push(part);
            }
        }
        Ok(parts)
    }

    /// The newest segments that hold batches. Usually that is one; it is more if the newest link
    /// is rotten and could be made again from the seal before it.
    pub(crate) fn read_tail(&mut self) -> Result<Vec<Part>, OpenError> {
        let oldest = loop {
            let newest = self.heads.iter_mut().rev().find(|head| head.link.is_some());
            let Some(newest) = newest else { return Err(self.no_link()) };
            let source = newest.source.clone();
            let part = self.scan_part(source, Begin::Link)?;
            if !self.is_torn_at_link(&part)? {
                break part;
            }
            self.forget_link(part.source.sequence);
        };
        let mut next = self.hidden_successor(&oldest);
        let mut tail = vec![oldest];
        while let Some((source, begin)) = next {
            let part = self.scan_part(source, begin)?;
            next = self.hidden_successor(&part);
            tail.push(part);
        }
        Ok(tail)
    }

    /// Whether the very batch that holds the link was torn, so that the segment is still unused.
    ///
    /// The floor has no say here: what it promises is in the segment before, which is read again
    /// as the last one, or nowhere.
    fn is_torn_at_link(&self, part: &Part) -> Result<bool, OpenError> {
        let Content::Scanned(scanned) = &part.content else { return Ok(false) };
        let first = scanned.damaged.first();
        let Some(damaged) = first.filter(|first| first.offset == SEGMENT_HEADER_BYTES) else {
            return Ok(false);
        };
        if (part.source.sequence, damaged.offset) < self.proof {
            return Ok(false);
        }
        match &damaged.unreadable {
            Some(failure) => Err(OpenError::unreadable_end(damaged.offset, failure)),
            None => Ok(true),
        }
    }

    /// Whether anything says that the bytes at a place were durable.
    pub(crate) fn is_proven(
        &self,
        sequence: u64,
        offset: u64,
        last_before: u64,
        start: u64,
    ) -> bool {
        let by_floor = self.check.floor.is_some_and(|floor| last_before < floor && start < floor);
        (sequence, offset) < self.proof || by_floor
    }

    fn scan_part(&mut self, source: Source, begin: Begin) -> Result<Part, OpenError> {
        let end = self.end.filter(|(sequence, _)| *sequence == source.sequence);
        let until = end.map(|(_, offset)| offset);
        let scanned = scan(&source, self.window, begin, until, Depth::Payloads);
        let scanned = scanned.map_err(|broken| {
            let loss = unknown_loss(Position::default());
            corrupt(&source, SEGMENT_HEADER_BYTES, broken.damage, loss)
        })?;
        self.note_proof(source.sequence, scanned.proof);
        Ok(Part { source, content: Content::Scanned(Box::new(scanned)) })
    }

    /// No segment has a whole link: not one entry can be placed.
    fn no_link(&mut self) -> OpenError {
        let Some(oldest) = self.heads.first() else {
            return OpenError::NoLog { path: self.disk.path("") };
        };
        let loss = unknown_loss(Position::default());
        let (source, problem) = (oldest.source.clone(), oldest.problem);
        // The first segment of a log is made with its link. A later one without is the spare of
        // another that is not there, unless batches say that it was written to.
        let may_be_a_spare = problem.is_none() && source.sequence > 1;
        if may_be_a_spare && search(&source, self.window, SEGMENT_HEADER_BYTES).beyond.is_none() {
            return self.missing(source.sequence.saturating_sub(1), loss);
        }
        corrupt(&source, SEGMENT_HEADER_BYTES, problem.unwrap_or(Damage::Link), loss)
    }

    /// The segment behind a sealed one whose link is rotten under a batch that continues it.
    fn hidden_successor(&mut self, part: &Part) -> Option<(Source, Begin)> {
        let (link, crc) = part.next_link()?;
        let next = self.head(part.source.sequence.saturating_add(1))?;
        if next.problem.is_some() || next.link.is_some() {
            return None;
        }
        let source = next.source.clone();
        let begin = self.mend_link(&source, link, crc)?;
        Some((source, begin))
    }

    /// Makes a rotten link again, if the batch behind it says that this is the one.
    fn mend_link(&mut self, source: &Source, link: Link, previous_crc: u32) -> Option<Begin> {
        let mut bytes = Vec::new();
        let crc = encode_link(&source.seed, link, previous_crc, Before::Synced, &mut bytes);
        let end = SEGMENT_HEADER_BYTES.saturating_add(bytes.len() as u64);
        let (header, _) = read_control(source, self.window, end).ok()?;
        if header.previous_crc != crc {
            return None;
        }
        self.note_proof(source.sequence, SEGMENT_HEADER_BYTES);
        self.mends.push(Mend { source: source.clone(), offset: SEGMENT_HEADER_BYTES, bytes });
        Some(Begin::Given { link, end, crc, previous_crc })
    }

    /// One segment before the tail of a log that begins after `start`.
    fn read_part(
        &mut self,
        sequence: u64,
        start: Position,
        previous: Option<&Part>,
    ) -> Result<Part, Trouble> {
        // What was dropped is not missed.
        let after = previous.map_or(start, |part| part.boundary().last.max(start));
        let next = self.head(sequence.saturating_add(1)).and_then(|head| head.link);
        let loss =
            next.map_or(unknown_loss(after), |next| loss_up_to(after, next.link.boundary.last));
        let Some(head) = self.head(sequence) else {
            return Err(self.missing(sequence, loss).into());
        };
        let source = head.source.clone();
        let link = head.link;
        if let Some(problem) = head.problem {
            return Err(corrupt(&source, 0, problem, loss).into());
        }
        let begin = match link {
            Some(_) => Some(Begin::Link),
            None => previous
                .and_then(Part::next_link)
                .and_then(|(link, crc)| self.mend_link(&source, link, crc)),
        };
        let Some(begin) = begin else {
            let error = corrupt(&source, SEGMENT_HEADER_BYTES, Damage::Link, loss);
            return Err(Trouble::BrokenLink { sequence, error });
        };
        if let (Some(link), Some(next)) = (link, next)
            && let Some(sealed) = self.believe_seal(&source, link, &next)
        {
            self.note_proof(next_sequence(sequence), SEGMENT_HEADER_BYTES);
            return Ok(Part { source, content: Content::Sealed(Box::new(sealed)) });
        }
        let mut part = self.scan_part(source, begin)?;
        if let (Some(next), Content::Scanned(scanned)) = (next, &mut part.content) {
            self.mends.extend(mend_seal(&part.source, scanned, &next));
        }
        Ok(part)
    }

    pub(crate) fn missing(&self, sequence: u64, lost: LostRange) -> OpenError {
        let segment = self.disk.path(&segment_name(sequence));
        OpenError::Corrupt { segment, sequence, offset: 0, damage: Damage::Missing, lost }
    }

    /// The seal of a segment, if it is whole, the next link confirms it, and nothing in the
    /// segment has to be verified.
    fn believe_seal(
        &mut self,
        source: &Source,
        link: WholeLink,
        next: &WholeLink,
    ) -> Option<Sealed> {
        if !self.check.believes(source.sequence, next) {
            return None;
        }
        let seal_offset = next.link.seal_offset;
        let (header, row) = read_control(source, self.window, seal_offset).ok()?;
        let Row::Seal(seal) = row else { return None };
        let end = seal_offset.saturating_add(u64::from(header.total_bytes));
        let confirmed = header.crc == next.previous_crc
            && seal.boundary == next.link.boundary
            && end == next.link.seal_end;
        let crc = header.crc;
        (confirmed && seal.runs.is_some()).then_some(Sealed { link, seal, seal_offset, end, crc })
    }
}

fn next_sequence(sequence: u64) -> u64 {
    sequence.saturating_add(1)
}

/// Makes a rotten seal again if the next segment's link names exactly that one.
fn mend_seal(source: &Source, scanned: &mut Scan, next: &WholeLink) -> Option<Mend> {
    let offset = scanned.end;
    if scanned.seal_offset.is_some() || offset != next.link.seal_offset || next.is_reset {
        return None;
    }
    let next_index = scanned.tally.boundary.last.index.saturating_add(1);
    let seal = Row::Seal(scanned.tally.seal());
    let previous_crc = scanned.last_crc;
    // A seal that went out in one write with the link of its segment does not claim that the link
    // was synced. The next link repeats the crc, and so tells which of the two it was.
    let (bytes, crc) = [Before::Synced, Before::Unsynced].into_iter().find_map(|before| {
        let mut bytes = Vec::new();
        let place = Place { seed: &source.seed, offset, previous_crc, before };
        let crc = encode_control(&mut bytes, place, &seal, next_index);
        (crc == next.previous_crc).then_some((bytes, crc))
    })?;
    scanned.seal_offset = Some(offset);
    scanned.end = offset.saturating_add(bytes.len() as u64);
    scanned.last_crc = crc;
    scanned.stop = Stop::Sealed;
    Some(Mend { source: source.clone(), offset, bytes })
}

/// A link must continue exactly what the segment before ends with. A segment before that is not
/// sealed is a broken place in its own right, and is judged as such.
fn check_chain(previous: Option<&Part>, part: &Part) -> Result<(), OpenError> {
    match previous.and_then(Part::next_link) {
        Some(expected) if part.link() != expected => {
            let lost = unknown_loss(expected.0.boundary.last);
            Err(corrupt(&part.source, SEGMENT_HEADER_BYTES, Damage::Chain, lost))
        }
        _ => Ok(()),
    }
}
