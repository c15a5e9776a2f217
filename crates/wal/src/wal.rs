//! The log itself: what it knows, what may be asked of it, and how it begins and ends.
//!
//! Appending is in `append`, reading in `reader`, opening in `open`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use crate::active::{Active, Spare};
use crate::batch::{Before, Place, encode_control};
use crate::commit::{FlushPlan, InFlight};
use crate::disk::{Disk, File, Lock};
use crate::entry::{Entry, Metadata, Position, Ticket};
use crate::error::{CreateError, Failure, WalError};
use crate::exchange::is_under_way;
use crate::index::{Extents, Segment, Segments};
use crate::inventory::sequences;
use crate::options::{LogId, Options};
use crate::pool::Pool;
use crate::record::{Boundary, Link, Row};
use crate::segment::{
    SEGMENT_HEADER_BYTES, Seed, SegmentHeader, is_temporary_name, parse_segment_name, segment_name,
};
use crate::staged::Staged;
use crate::successor::{Claim, Make, MakeError};
use crate::tally::Tally;
use crate::terms::TermRuns;

pub(crate) const LOCK_NAME: &str = "LOCK";

/// A log with one owner, which writes and syncs on the caller's thread.
///
/// Invariants:
/// - `start <= last`, and `runs` has the term of every index in between.
/// - `recent` ends at `last`; it always holds the staged entries.
/// - `segments` covers every committed entry that still counts; its newest one is `active`.
/// - There is a `spare`, or somebody is `making` it, or neither; never both.
/// - Once `poison` is set nothing is written any more.
#[derive(Debug)]
pub struct Wal {
    pub(crate) disk: Arc<Pool>,
    pub(crate) options: Options,
    pub(crate) log_id: LogId,
    pub(crate) segments: Segments,
    pub(crate) active: Active,
    pub(crate) spare: Option<Spare>,
    /// The claim on the successor that a job is making.
    pub(crate) making: Option<Claim>,
    pub(crate) attempts: u64,
    /// Set when making the successor failed; cleared when trying again may help.
    pub(crate) is_making_paused: bool,
    /// Segments that nothing needs, to be removed by a job.
    pub(crate) garbage: Vec<u64>,
    /// Segments that were left without a sync; empty unless syncing is off.
    pub(crate) unsynced: Vec<(Arc<dyn File>, Arc<str>)>,

    /// The log as its owner sees it, staged appends included.
    pub(crate) start: Position,
    pub(crate) last: Position,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) runs: TermRuns,
    pub(crate) recent: VecDeque<Entry>,
    /// The memory that `recent` takes.
    pub(crate) recent_bytes: u64,
    pub(crate) staged: Staged,
    pub(crate) ticket: Ticket,
    pub(crate) durable: Position,
    pub(crate) durable_ticket: Ticket,
    /// Entries whose payloads are damaged on the medium.
    pub(crate) lost: BTreeMap<u64, Position>,

    pub(crate) poison: Option<Failure>,
    /// The batch that is being written.
    pub(crate) in_flight: Option<InFlight>,
    /// Reused by every commit.
    pub(crate) work: FlushPlan,
    /// Reused by every append.
    pub(crate) scratch: Vec<Entry>,
    /// Shared with everything that is handed out and may still touch the directory.
    pub(crate) lock: Arc<Lock>,
}

impl Wal {
    /// Makes a new, empty log, durable before this returns.
    ///
    /// Fails with [`CreateError::Exists`] if the directory holds any segment. What a crash leaves
    /// of an unfinished creation is not a log yet, and is removed by the next attempt.
    pub fn create(disk: Arc<dyn Disk>, options: Options) -> Result<Wal, CreateError> {
        options.validate()?;
        let disk = Arc::new(Pool::new(disk));
        let lock =
            take_lock(&*disk)?.ok_or_else(|| CreateError::Locked { path: disk.path(LOCK_NAME) })?;
        let lock = Arc::new(lock);
        if let Some(sequence) = sequences(&*disk)?.first() {
            return Err(CreateError::Exists { path: disk.path(&segment_name(*sequence)) });
        }
        let exists = Wal::exists(&*disk);
        if exists.map_err(|error| Failure::new("list", disk.path(""), error))? {
            return Err(CreateError::Exists { path: disk.path("") });
        }
        remove_temporaries(&*disk)?;
        let log_id = match options.log_id {
            Some(log_id) => log_id,
            None => draw_log_id(&*disk)?,
        };
        let sequence = 1;
        let seed = Seed::new(log_id, sequence);
        let boundary = Boundary { first_sequence: sequence, ..Boundary::default() };
        let link = Link { boundary, seal_offset: 0, seal_end: 0 };
        let mut first = Vec::new();
        let offset = SEGMENT_HEADER_BYTES;
        let place = Place { seed: &seed, offset, previous_crc: 0, before: Before::Synced };
        let last_crc = encode_control(&mut first, place, &Row::Link(link), 1);
        let end = SEGMENT_HEADER_BYTES.saturating_add(first.len() as u64);

        let header = SegmentHeader { log_id, sequence, capacity: options.segment_bytes };
        let make = Make {
            disk: disk.clone(),
            lock: Arc::clone(&lock),
            header,
            first,
            attempt: 0,
            claim: Claim::new(),
        };
        let spare = make.run().map_err(|error| match error {
            MakeError::File(failure) | MakeError::Name(failure) => CreateError::Io(failure),
            MakeError::Cancelled => unreachable!("a claim that nobody shares was cancelled"),
        })?;
        let active = Active {
            sequence,
            file: spare.file,
            path: spare.path,
            capacity: spare.capacity,
            seed,
            end,
            last_crc,
            tally: Tally::begin(boundary),
            unlinked: None,
            before: Before::Synced,
            is_closed: false,
        };
        let mut segments = Segments::default();
        segments.push(reading_view(&active, Extents::default()));
        Ok(Wal::assemble(disk, options, log_id, lock, segments, active))
    }

    /// Whether a directory holds a log, whole or not.
    pub fn exists(disk: &dyn Disk) -> io::Result<bool> {
        let names = disk.list()?;
        // A salvage may have been interrupted when no segment had its name.
        Ok(is_under_way(&names) || names.iter().any(|name| parse_segment_name(name).is_some()))
    }

    /// A log whose every byte is durable, before terms, spare and damage are filled in.
    pub(crate) fn assemble(
        disk: Arc<Pool>,
        options: Options,
        log_id: LogId,
        lock: Arc<Lock>,
        segments: Segments,
        active: Active,
    ) -> Wal {
        let boundary = active.tally.boundary;
        Wal {
            disk,
            options,
            log_id,
            segments,
            active,
            spare: None,
            making: None,
            attempts: 0,
            is_making_paused: false,
            garbage: Vec::new(),
            unsynced: Vec::new(),
            start: boundary.start,
            last: boundary.last,
            metadata: boundary.metadata,
            runs: TermRuns::default(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            staged: Staged::nothing_after(boundary.last.index),
            ticket: Ticket::default(),
            durable: boundary.last,
            durable_ticket: Ticket::default(),
            lost: BTreeMap::new(),
            poison: None,
            in_flight: None,
            work: FlushPlan::default(),
            scratch: Vec::new(),
            lock,
        }
    }

    /// The position before the first entry, staged changes included.
    pub fn log_start(&self) -> Position {
        self.start
    }

    /// The last entry, staged ones included; equal to [`log_start`](Wal::log_start) if the log is
    /// empty.
    pub fn last(&self) -> Position {
        self.last
    }

    /// The last entry that is durable. A staged truncation or reset lowers it at once.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// The newest ticket of which everything is durable.
    pub fn durable_ticket(&self) -> Ticket {
        self.durable_ticket
    }

    /// The newest ticket that was given out.
    pub fn newest_ticket(&self) -> Ticket {
        self.ticket
    }

    /// The newest metadata, staged included.
    pub fn metadata(&self) -> Option<Metadata> {
        self.metadata
    }

    /// The term of an entry, or of the position before the first one.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.start.index || index > self.last.index {
            return None;
        }
        self.runs.term(index)
    }

    /// The first index of each term that the log holds, ascending.
    pub fn terms(&self) -> Vec<Position> {
        self.runs.iter().collect()
    }

    /// The entries whose payloads are damaged on the medium, ascending.
    pub fn lost(&self) -> Vec<Position> {
        self.lost.values().copied().collect()
    }

    /// The identity of this log.
    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    /// How many segment files hold entries or metadata that are still needed.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Where the directory of this log is, for messages.
    pub fn path(&self) -> String {
        self.disk.path("")
    }

    /// Fails with the cause if an earlier write failed.
    pub(crate) fn check_poison(&self) -> Result<(), WalError> {
        match &self.poison {
            Some(failure) => Err(WalError::Poisoned(failure.clone())),
            None => Ok(()),
        }
    }

    /// Remembers a failed write for good.
    pub(crate) fn poisoned(&mut self, failure: Failure) -> WalError {
        let failure = self.poison.get_or_insert(failure).clone();
        WalError::Poisoned(failure)
    }
}

impl Drop for Wal {
    /// A job that outlives its log has nothing to make any more.
    fn drop(&mut self) {
        if let Some(claim) = self.making.take() {
            claim.cancel();
        }
    }
}

/// What readers need to know of the segment in use.
pub(crate) fn reading_view(active: &Active, extents: Extents) -> Segment {
    Segment {
        sequence: active.sequence,
        file: Arc::clone(&active.file),
        path: Arc::clone(&active.path),
        capacity: active.capacity,
        seed: active.seed.clone(),
        first: active.tally.low,
        last: active.tally.boundary.last.index,
        end: active.end,
        extents: extents.into(),
        walked: Default::default(),
    }
}

/// Takes the lock of a directory; `None` if another owner has it.
pub(crate) fn take_lock(disk: &dyn Disk) -> Result<Option<Lock>, Failure> {
    match disk.lock(LOCK_NAME) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(Failure::new("lock", disk.path(LOCK_NAME), error)),
    }
}

/// Removes what an interrupted making of segments has left behind.
pub(crate) fn remove_temporaries(disk: &dyn Disk) -> Result<(), Failure> {
    let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), error))?;
    for name in names.iter().filter(|name| is_temporary_name(name)) {
        disk.remove(name).map_err(|error| Failure::new("remove", disk.path(name), error))?;
    }
    Ok(())
}

fn draw_log_id(disk: &dyn Disk) -> Result<LogId, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new("draw an identity for", disk.path(""), io::Error::other(error.to_string()))
    })?;
    Ok(LogId(u128::from_le_bytes(bytes)))
}
