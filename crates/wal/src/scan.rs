//! Reads one segment batch by batch and says how far it is whole, what it amounts to, and what it
//! proves. It judges nothing: whether a broken place is damage or a torn tail depends on what
//! other segments prove, and is decided in `verdict`.

use std::sync::Arc;

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader, Before, batch_bytes, is_padding};
use crate::disk::File;
use crate::entry::Position;
use crate::error::{Damage, Failure};
use crate::index::Extents;
use crate::record::{Link, Row, Rows};
use crate::search::search;
use crate::segment::{SEGMENT_HEADER_BYTES, Seed};
use crate::tally::Tally;
use crate::window::Window;

/// A segment that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) sequence: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: Arc<str>,
    pub(crate) capacity: u64,
    pub(crate) seed: Seed,
}

impl Source {
    pub(crate) fn view<'w>(
        &self,
        window: &'w mut Window,
        offset: u64,
        length: u64,
    ) -> Result<&'w [u8], Failure> {
        window
            .view(&self.file, self.capacity, offset, length)
            .map_err(|error| Failure::new("read", &self.path, error).of_segment(self.sequence))
    }
}

/// How much of a segment is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Headers and directories.
    Directories,
    /// Payloads and padding too.
    Payloads,
}

/// Where a scan begins.
#[derive(Clone, Debug)]
pub(crate) enum Begin {
    /// At the link on the medium.
    Link,
    /// Behind a link that is rotten on the medium and was made again from the segment before.
    Given { link: Link, end: u64, crc: u32, previous_crc: u32 },
}

/// A batch whose directory is whole and something else is not.
#[derive(Clone, Debug)]
pub(crate) struct DamagedBatch {
    pub(crate) offset: u64,
    /// The last index before the batch.
    pub(crate) last_before: u64,
    /// Its entries whose payloads do not match, as far as later batches did not cut them.
    pub(crate) lost: Vec<Position>,
    /// Where its padding begins and ends, if that is not as it was written.
    pub(crate) padding: Option<(u64, u64)>,
    /// Set if the medium refused to read, which a torn write never causes.
    pub(crate) unreadable: Option<Failure>,
}

/// Why a scan went no further.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// The last batch is a seal.
    Sealed,
    /// Nothing but zeros follows.
    End,
    /// The caller asked to stop here.
    Limit,
    /// What stands here is not a batch.
    Broken(Broken),
}

/// A place where a batch should begin and does not.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) damage: Damage,
    pub(crate) unreadable: Option<Failure>,
    pub(crate) beyond: Option<Beyond>,
}

/// The first whole batch header behind a broken place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beyond {
    pub(crate) first_index: u64,
    pub(crate) term: Option<u64>,
}

/// What a segment amounts to.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) link: Link,
    pub(crate) link_end: u64,
    /// The crc that the link expects of the predecessor's last batch.
    pub(crate) link_previous_crc: u32,
    /// The state of the log behind the last whole batch.
    pub(crate) tally: Tally,
    pub(crate) extents: Extents,
    /// Where the last whole batch ends.
    pub(crate) end: u64,
    /// The crc of the last batch, and whether everything before it was synced.
    pub(crate) last_crc: u32,
    pub(crate) last_before: Before,
    /// Where the seal begins, if there is one.
    pub(crate) seal_offset: Option<u64>,
    pub(crate) closed: bool,
    pub(crate) batches: u64,
    pub(crate) entries: u64,
    pub(crate) damaged: Vec<DamagedBatch>,
    /// Something in this segment proves that all bytes below this offset were durable.
    pub(crate) proof: u64,
    pub(crate) stop: Stop,
}

/// A directory's row of an entry, reduced to what verification needs.
#[derive(Clone, Copy, Debug)]
struct Expected {
    length: u64,
    checksum: u32,
    position: Position,
}

/// Scans a segment until it ends, breaks, or reaches `until`.
///
/// Fails with what is wrong at the beginning if there is no whole link to begin from.
pub(crate) fn scan(
    source: &Source,
    window: &mut Window,
    begin: Begin,
    until: Option<u64>,
    depth: Depth,
) -> Result<Scan, Broken> {
    let state = match begin {
        Begin::Given { link, end, crc, previous_crc } => {
            Scan::begin(link, end, crc, previous_crc, Before::Synced)
        }
        Begin::Link => {
            let (header, row) = read_control(source, window, SEGMENT_HEADER_BYTES)?;
            let (Row::Link(link) | Row::Reset(link)) = row else {
                return Err(Broken::at(Damage::Link));
            };
            let before = header.before;
            let mut state =
                Scan::begin(link, SEGMENT_HEADER_BYTES, header.crc, header.previous_crc, before);
            state.link_end = SEGMENT_HEADER_BYTES.saturating_add(u64::from(header.total_bytes));
            state
        }
    };
    let mut scanner = Scanner {
        source,
        window,
        until,
        depth,
        directory: Vec::new(),
        expected: Vec::new(),
        state,
    };
    while scanner.step() {}
    Ok(scanner.state)
}

/// Reads the batch at `offset` as far as its first row, which says what kind of batch it is.
pub(crate) fn read_control(
    source: &Source,
    window: &mut Window,
    offset: u64,
) -> Result<(BatchHeader, Row), Broken> {
    let room = source.capacity.saturating_sub(offset);
    let bytes = source.view(window, offset, BATCH_HEADER_BYTES).map_err(Broken::unreadable)?;
    let header = BatchHeader::decode(bytes, &source.seed, offset, room)
        .ok_or_else(|| Broken::at(Damage::BatchHeader))?;
    let directory = read_directory(source, window, offset, &header)?;
    match Rows::new(directory).next() {
        Some(Ok(row)) => Ok((header, row)),
        _ => Err(Broken::at(Damage::Malformed)),
    }
}

pub(crate) fn read_directory<'w>(
    source: &Source,
    window: &'w mut Window,
    offset: u64,
    header: &BatchHeader,
) -> Result<&'w [u8], Broken> {
    let at = offset.saturating_add(BATCH_HEADER_BYTES);
    let bytes =
        source.view(window, at, u64::from(header.directory_bytes)).map_err(Broken::unreadable)?;
    if crc32fast::hash(bytes) != header.directory_crc {
        return Err(Broken::at(Damage::Directory));
    }
    Ok(bytes)
}

impl Broken {
    pub(crate) fn at(damage: Damage) -> Broken {
        Broken { damage, unreadable: None, beyond: None }
    }

    fn unreadable(failure: Failure) -> Broken {
        Broken { damage: Damage::Unreadable, unreadable: Some(failure), beyond: None }
    }
}

impl Scan {
    fn begin(link: Link, end: u64, crc: u32, previous_crc: u32, before: Before) -> Scan {
        Scan {
            link,
            link_end: end,
            link_previous_crc: previous_crc,
            tally: Tally::begin(link.boundary),
            extents: Extents::default(),
            end,
            last_crc: crc,
            last_before: before,
            seal_offset: None,
            closed: false,
            batches: 0,
            entries: 0,
            damaged: Vec::new(),
            proof: 0,
            stop: Stop::Limit,
        }
    }

    fn forget_lost(&mut self, keep: impl Fn(&Position) -> bool) {
        for damaged in &mut self.damaged {
            damaged.lost.retain(&keep);
        }
    }
}

struct Scanner<'a> {
    source: &'a Source,
    window: &'a mut Window,
    until: Option<u64>,
    depth: Depth,
    directory: Vec<u8>,
    expected: Vec<Expected>,
    state: Scan,
}

impl Scanner<'_> {
    /// Takes in one batch; false when there is none to take.
    fn step(&mut self) -> bool {
        let offset = self.state.end;
        let room = self.source.capacity.saturating_sub(offset);
        if self.state.seal_offset.is_some() {
            self.state.stop = Stop::Sealed;
            return false;
        }
        if self.until.is_some_and(|until| offset >= until) {
            self.state.stop = Stop::Limit;
            return false;
        }
        if room < BATCH_HEADER_BYTES {
            self.state.stop = Stop::End;
            return false;
        }
        match self.read_batch(offset, room) {
            Ok(()) => true,
            Err(broken) => {
                self.stop_at(offset, broken);
                false
            }
        }
    }

    fn read_batch(&mut self, offset: u64, room: u64) -> Result<(), Broken> {
        let bytes = self
            .source
            .view(self.window, offset, BATCH_HEADER_BYTES)
            .map_err(Broken::unreadable)?;
        let header = BatchHeader::decode(bytes, &self.source.seed, offset, room)
            .ok_or_else(|| Broken::at(Damage::BatchHeader))?;
        let is_link = offset == SEGMENT_HEADER_BYTES;
        if !is_link && header.previous_crc != self.state.last_crc {
            if header.before == Before::Synced {
                // It says that what stands before it was durable, but it continues something
                // else: the batch that it continues was there and is gone.
                self.state.proof = self.state.proof.max(offset.saturating_add(1));
            }
            return Err(Broken::at(Damage::Splice));
        }
        // The header says this alone: its directory may stand in a sector that never arrived.
        if header.before == Before::Synced {
            self.state.proof = self.state.proof.max(offset);
        }
        let directory = read_directory(self.source, self.window, offset, &header)?;
        self.directory.clear();
        self.directory.extend_from_slice(directory);
        let before = self.state.tally.boundary;
        if self.apply(&header, offset).is_none() {
            self.state.tally.boundary = before;
            return Err(Broken::at(Damage::Malformed));
        }
        if self.depth == Depth::Payloads {
            self.verify(&header, offset, before.last.index);
        }
        self.state.end = offset.saturating_add(u64::from(header.total_bytes));
        self.state.last_crc = header.crc;
        self.state.last_before = header.before;
        self.state.batches = self.state.batches.saturating_add(1);
        Ok(())
    }

    /// Carries out the rows of a batch; `None` if they are not what a writer writes.
    fn apply(&mut self, header: &BatchHeader, offset: u64) -> Option<()> {
        self.expected.clear();
        let state = &mut self.state;
        let is_first = offset == SEGMENT_HEADER_BYTES;
        let mut first_index = None;
        let mut payload_bytes = 0_u64;
        state.closed = false;
        for (number, row) in Rows::new(&self.directory).enumerate() {
            match row.ok()? {
                Row::Entry(entry) => {
                    let position = state.tally.entry(entry.term)?;
                    first_index.get_or_insert(position.index);
                    let length = u64::from(entry.length);
                    payload_bytes = payload_bytes.checked_add(length)?;
                    self.expected.push(Expected { length, checksum: entry.checksum, position });
                }
                Row::Link(_) | Row::Reset(_) => (is_first && number == 0).then_some(())?,
                Row::Metadata(metadata) => state.tally.metadata(metadata),
                Row::Truncate(keep) => {
                    state.tally.truncate(keep)?;
                    state.extents.truncate_after(keep.index);
                    state.forget_lost(|lost| lost.index <= keep.index);
                }
                Row::Prefix { start, first_sequence } => {
                    state.tally.prefix(start, first_sequence, self.source.sequence)?;
                    state.forget_lost(|lost| lost.index > start.index);
                }
                Row::Seal(seal) => {
                    (seal == state.tally.seal()).then_some(())?;
                    state.seal_offset = Some(offset);
                }
                Row::Close => state.closed = true,
            }
        }
        let next_index = state.tally.boundary.last.index.checked_add(1)?;
        let first = first_index.unwrap_or(next_index);
        let total = batch_bytes(u64::from(header.directory_bytes), payload_bytes);
        if header.first_index != first || u64::from(header.total_bytes) != total {
            return None;
        }
        let count = self.expected.len() as u64;
        state.extents.push(first, count, offset);
        state.entries = state.entries.saturating_add(count);
        Some(())
    }

    /// Compares payloads and padding with what the directory says.
    fn verify(&mut self, header: &BatchHeader, offset: u64, last_before: u64) {
        let mut at = offset
            .saturating_add(BATCH_HEADER_BYTES)
            .saturating_add(u64::from(header.directory_bytes));
        let mut damaged =
            DamagedBatch { offset, last_before, lost: Vec::new(), padding: None, unreadable: None };
        for expected in &self.expected {
            match self.source.view(self.window, at, expected.length) {
                Ok(payload) if crc32fast::hash(payload) == expected.checksum => {}
                Ok(_) => damaged.lost.push(expected.position),
                Err(failure) => {
                    damaged.lost.push(expected.position);
                    damaged.unreadable = Some(failure);
                }
            }
            at = at.saturating_add(expected.length);
        }
        let end = offset.saturating_add(u64::from(header.total_bytes));
        match self.source.view(self.window, at, end.saturating_sub(at)) {
            Ok(padding) if is_padding(padding) => {}
            Ok(_) => damaged.padding = Some((at, end)),
            // No part of a sector that cannot be read can be written. The payload that ends in it
            // is lost as well, and whoever puts that back writes the padding along.
            Err(failure) => damaged.unreadable = Some(failure),
        }
        if !damaged.lost.is_empty() || damaged.padding.is_some() || damaged.unreadable.is_some() {
            self.state.damaged.push(damaged);
        }
    }

    /// Looks at everything behind the last whole batch: zeros, or something broken and what may
    /// stand behind it.
    fn stop_at(&mut self, offset: u64, mut broken: Broken) {
        let found = search(self.source, self.window, offset);
        if let Some(proof) = found.proof {
            self.state.proof = self.state.proof.max(proof);
        }
        let nothing = broken.damage == Damage::BatchHeader
            && found.dirty_end <= offset
            && found.unreadable.is_none();
        if nothing {
            self.state.stop = Stop::End;
            return;
        }
        broken.beyond = found.beyond.map(|(at, header)| Beyond {
            first_index: header.first_index,
            term: first_term(self.source, self.window, at, &header),
        });
        broken.unreadable = broken.unreadable.or(found.unreadable);
        self.state.stop = Stop::Broken(broken);
    }
}

/// The term of the first entry of a batch, if it has one and its directory is whole.
fn first_term(
    source: &Source,
    window: &mut Window,
    offset: u64,
    header: &BatchHeader,
) -> Option<u64> {
    let directory = read_directory(source, window, offset, header).ok()?;
    Rows::new(directory).find_map(|row| match row {
        Ok(Row::Entry(entry)) => Some(entry.term),
        _ => None,
    })
}
