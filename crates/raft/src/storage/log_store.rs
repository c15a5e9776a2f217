//! The node's log on the disk: its appends become batches of the write-ahead log, with hard state,
//! truncation and entries in one write.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};

use wal::Disk;

use super::entry::{from_position, from_wal, to_position, to_wal};
use super::flusher::{Flusher, Flushes};
use super::hard_state::{decode_hard_state, encode_hard_state};
use super::room::Patience;
use super::snapshot_store::SnapshotOptions;
use super::suspect::{Suspects, note_suspect};
use crate::node::{
    Append, Configuration, DurableState, Entry, EntryKind, Fetch, HardState, Index, MachineState,
    Payload, Term, Ticket,
};

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The log's own settings.
    pub wal: wal::Options,
    /// Entries handed to the node at the start, in bytes.
    pub recent_bytes_max: u64,
    /// Where the next segment is made ready.
    pub successors: Successors,
    /// How snapshots are written and sent.
    pub snapshots: SnapshotOptions,
    /// Where the disk is waited for.
    pub flushes: Flushes,
}

impl Default for LogOptions {
    /// The settings of a server that has no reason to differ.
    fn default() -> Self {
        Self {
            wal: wal::Options::default(),
            recent_bytes_max: 16 << 20,
            successors: Successors::Thread,
            snapshots: SnapshotOptions::default(),
            flushes: Flushes::Inline,
        }
    }
}

impl LogOptions {
    /// The default settings, with segments of this size: a log takes at least two of them on the
    /// disk, and a command has at most a quarter of one.
    #[must_use]
    pub fn with_segment_bytes(segment_bytes: u64) -> Self {
        Self { wal: wal::Options::with_segment_bytes(segment_bytes), ..Self::default() }
    }
}

/// What is known of the log before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// Nothing: every entry is read and verified.
    Nothing,
    /// There is a snapshot up to this index that another server sent. Only what lies behind it is
    /// verified. It proves nothing about the log.
    Received(Index),
    /// There is a snapshot up to this index that was made out of this log, which therefore
    /// reached that far, durably.
    Own(Index),
}

/// Where the next segment of the log is made ready, ahead of its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successors {
    /// On the log's own thread, when it is noticed that one is wanted.
    Inline,
    /// On a helper thread, so that no append waits for it.
    Thread,
}

/// Why the log cannot be used. Every such error ends the server: what the disk holds is no longer
/// known.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It could not be made.
    #[error(transparent)]
    Create(#[from] wal::CreateError),
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] wal::OpenError),
    /// An append was not possible.
    #[error(transparent)]
    Append(#[from] wal::AppendError),
    /// A write or a sync failed.
    #[error(transparent)]
    Write(#[from] wal::WalError),
    /// Entries could not be read back.
    #[error(transparent)]
    Read(#[from] wal::ReadError),
    /// Damaged entries could not be put back.
    #[error(transparent)]
    Repair(#[from] wal::RepairError),
    /// Entries could not be read back, nor could it be noted where.
    #[error("{cause}; and that could not be noted for the next start: {source}")]
    NotNoted {
        /// What ended the server.
        cause: Box<LogError>,
        /// Why it could not be noted.
        source: io::Error,
    },
    /// The log is whole, but what it says makes no sense.
    #[error("the log is whole but cannot be understood: {0}")]
    Meaning(String),
}

impl LogError {
    /// Whether this is damage to the data, rather than a failure of the machine.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            LogError::Open(error) => error.is_damage(),
            LogError::Meaning(_) | LogError::Read(_) => true,
            LogError::NotNoted { cause, .. } => cause.is_damage(),
            LogError::Repair(error) => matches!(error, wal::RepairError::Read(_)),
            LogError::Create(_) | LogError::Append(_) | LogError::Write(_) => false,
        }
    }
}

impl LogError {
    /// The segment that could not be read, or written over where it was damaged.
    fn segment(&self) -> Option<u64> {
        match self {
            LogError::Read(error) | LogError::Repair(wal::RepairError::Read(error)) => {
                error.segment()
            }
            LogError::Repair(wal::RepairError::Poisoned(failure)) => failure.segment(),
            _ => None,
        }
    }
}

/// What a start found, for the people who watch.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Entries in the log.
    pub entries: u64,
    /// An unfinished last write that was discarded, if any.
    pub torn_tail: Option<TornTail>,
    /// A part that could not be read, and that a snapshot stands for: it was let go of.
    pub let_go: Option<String>,
}

/// An unfinished last write, of which nothing says that it was ever acknowledged.
#[derive(Clone, Debug)]
pub struct TornTail {
    /// The number of the segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// How many bytes from there on were written.
    pub bytes: u64,
}

/// The log.
#[derive(Debug)]
pub struct LogStore {
    pub(super) wal: wal::Wal,
    pub(super) options: wal::Options,
    pub(super) successors: Successors,
    /// A helper thread that makes the next segment.
    pub(super) helper: Option<mpsc::Receiver<wal::JobDone>>,
    /// How often to try again to make the next segment, after that has failed.
    pub(super) patience: Patience,
    /// What ends the server the next time that it is asked for something.
    pub(super) broken: Option<LogError>,
    /// Appends that were staged and not yet committed.
    staged: Vec<Ticket>,
    /// Takes writes to the disk elsewhere; `None` where they are waited for in place.
    flusher: Option<Flusher>,
    /// What the flusher is writing.
    flushing: Vec<Ticket>,
    /// What was submitted while it was writing, and what its entries count for.
    queue: VecDeque<Append>,
    pub(super) queued_bytes: u64,
    /// The segment that was read again last.
    pub(super) scrubbed: u64,
    /// A new start of the log was staged and not yet committed.
    pub(super) compacted: bool,
    /// Where it is noted which segments could not be read.
    notes: Option<Arc<dyn Disk>>,
}

impl LogStore {
    /// Makes the log of a new cluster: term 1, and the configuration as its first entry. Returns
    /// which log that is.
    ///
    /// # Errors
    /// The disk refuses, or there is a log already.
    pub fn found(
        disk: Arc<dyn Disk>,
        options: &LogOptions,
        configuration: &Configuration,
    ) -> Result<wal::LogId, LogError> {
        let term = Term(1);
        let entry = Entry {
            index: Index(1),
            term,
            kind: EntryKind::Configuration,
            payload: Payload::new(configuration.encode()),
        };
        Self::begin(disk, options, term, Some(entry))
    }

    /// Makes the log of a server that joins a cluster: it has promised nothing and knows nothing.
    ///
    /// # Errors
    /// The disk refuses, or there is a log already.
    pub fn create(disk: Arc<dyn Disk>, options: &LogOptions) -> Result<wal::LogId, LogError> {
        Self::begin(disk, options, Term(0), None)
    }

    /// Makes a log with a promise, and with an entry if there is one already.
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        options: &LogOptions,
        term: Term,
        entry: Option<Entry>,
    ) -> Result<wal::LogId, LogError> {
        let mut wal = wal::Wal::create(disk, options.wal.clone())?;
        wal.stage(wal::Append {
            metadata: Some(encode_hard_state(HardState { term, vote: None })?),
            reset: None,
            truncate_after: None,
            entries: entry.iter().map(to_wal),
        })?;
        wal.commit()?;
        let log_id = wal.log_id();
        wal.close()?;
        Ok(log_id)
    }

    /// Whether a log holds more than its making put there.
    pub(super) fn was_used(disk: &Arc<dyn Disk>, options: &LogOptions) -> Result<bool, LogError> {
        let check = wal::Check::default();
        let (wal, _) = wal::Wal::open(Arc::clone(disk), options.wal.clone(), check)?;
        let grown = wal.last().index > 1 || wal.last().term > 1;
        let promised = match wal.metadata() {
            None => false,
            Some(metadata) => {
                let promise = decode_hard_state(metadata.as_bytes())?;
                promise.term > Term(1) || promise.vote.is_some()
            }
        };
        Ok(promised || grown)
    }

    /// Opens the log of a founded server, verifying what no snapshot stands for.
    ///
    /// # Errors
    /// The log is damaged, or the disk fails.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        options: &LogOptions,
        basis: Basis,
        suspects: &Suspects,
    ) -> Result<(Self, Opened), LogError> {
        let is_synced = options.wal.fsync == wal::Fsync::Always;
        let mut check = match basis {
            Basis::Nothing => wal::Check::default(),
            Basis::Received(index) => {
                wal::Check { verify_from: index.next().0, ..wal::Check::default() }
            }
            Basis::Own(index) => {
                let floor = is_synced.then_some(index.0);
                wal::Check { verify_from: index.next().0, floor, ..wal::Check::default() }
            }
        };
        match suspects {
            Suspects::Segments(segments) => check.suspects = segments,
            Suspects::All => check.verify_from = 0,
        }
        let (wal, recovery) = wal::Wal::open(disk, options.wal.clone(), check)?;
        let mut store = Self {
            wal,
            options: options.wal.clone(),
            successors: options.successors,
            helper: None,
            patience: Patience::default(),
            broken: None,
            staged: Vec::new(),
            flusher: Flusher::start(&options.flushes),
            flushing: Vec::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            scrubbed: 0,
            compacted: false,
            notes: None,
        };
        let opened = Opened {
            entries: store.wal.last().index - store.wal.log_start().index,
            torn_tail: match recovery.ending {
                wal::Ending::Torn(torn) => {
                    Some(TornTail { segment: torn.segment, offset: torn.offset, bytes: torn.bytes })
                }
                wal::Ending::Closed | wal::Ending::Whole => None,
            },
            let_go: None,
        };
        store.make_successor()?;
        Ok((store, opened))
    }

    /// Where to note from now on which segments could not be read.
    pub(super) fn note_suspects_in(&mut self, disk: Arc<dyn Disk>) {
        self.notes = Some(disk);
    }

    /// An error is about to end the server. If it came from reading the log, or from putting
    /// something back, the next start must look there, or it would end at the same place.
    pub(super) fn suspect(&self, error: LogError) -> LogError {
        let (Some(notes), Some(segment)) = (&self.notes, error.segment()) else { return error };
        match note_suspect(notes.as_ref(), segment) {
            Ok(()) => error,
            Err(source) => LogError::NotNoted { cause: Box::new(error), source },
        }
    }

    /// Has the next [`complete`](Self::complete) end the server with this error, which came up
    /// where nobody could act on it.
    pub(crate) fn end_with(&mut self, error: LogError) {
        self.broken.get_or_insert(error);
    }

    pub(super) fn hard_state(&self) -> Result<HardState, LogError> {
        match self.wal.metadata() {
            Some(metadata) => decode_hard_state(metadata.as_bytes()),
            None => Err(LogError::Meaning("it holds no term and no vote".into())),
        }
    }

    /// What the node starts from: everything behind `after`, which a snapshot stands for.
    pub(super) fn durable_state(
        &mut self,
        recent_bytes_max: u64,
        after: Index,
    ) -> Result<DurableState, LogError> {
        let hard_state = self.hard_state()?;
        let mut recent: VecDeque<Entry> = VecDeque::new();
        let mut recent_bytes = 0;
        let mut configurations = Vec::new();
        let start = from_position(self.wal.log_start());
        let last = from_position(self.wal.last());
        let lost = self.lost_entries()?;
        let mut next = after.max(start.index).next();
        while next <= last.index {
            if lost.binary_search_by_key(&next, |lost| lost.position.index).is_ok() {
                // What is kept in memory has no gaps.
                recent.clear();
                recent_bytes = 0;
                next = next.next();
                continue;
            }
            let entries = self.wal.read(next.0, last.index.0, PORTION_BYTES);
            let entries = entries.map_err(|error| self.suspect(error.into()))?;
            for entry in entries {
                let entry = from_wal(entry)?;
                if entry.kind == EntryKind::Configuration {
                    let configuration = Configuration::decode(&entry.payload.bytes)
                        .map_err(|error| LogError::Meaning(error.to_string()))?;
                    configurations.push((entry.index, configuration));
                }
                next = entry.index.next();
                recent_bytes += entry.bytes();
                recent.push_back(entry);
                while recent_bytes > recent_bytes_max {
                    let Some(oldest) = recent.pop_front() else { break };
                    recent_bytes -= oldest.bytes();
                }
            }
        }
        Ok(DurableState {
            hard_state,
            start,
            runs: self.wal.terms().into_iter().map(from_position).collect(),
            last,
            recent: recent.into(),
            snapshot: None,
            machine: MachineState::Whole,
            configuration: Configuration::default(),
            configurations,
            lost,
        })
    }

    /// Takes an append. It is on the disk once [`complete`](Self::complete) returns its ticket.
    ///
    /// # Errors
    /// There is no room, or an earlier write failed; nothing of it was written.
    pub fn submit(&mut self, append: Append) -> Result<(), LogError> {
        if self.is_flushing() {
            self.queued_bytes += append.entries.iter().map(Entry::bytes).sum::<u64>();
            self.queue.push_back(append);
            return Ok(());
        }
        self.stage(append)
    }

    fn stage(&mut self, append: Append) -> Result<(), LogError> {
        let Append { ticket, hard_state, reset, truncate_after, entries, repairs } = append;
        self.staged.push(ticket);
        if !repairs.is_empty() {
            self.put_back(&repairs)?;
        }
        let mut metadata = hard_state.map(encode_hard_state).transpose()?;
        let mut truncate_after = truncate_after.map(|index| index.0);
        let mut reset = reset.map(to_position);
        let is_control = metadata.is_some() || reset.is_some() || truncate_after.is_some();
        if !is_control && entries.is_empty() {
            return Ok(());
        }
        // What does not fit into one batch becomes several, each whole: a prefix of an append is
        // no promise, for nothing is acknowledged before all of it is durable.
        let mut entries = entries.iter().map(to_wal).peekable();
        let mut is_first = is_control;
        while std::mem::take(&mut is_first) || entries.peek().is_some() {
            let mut bytes = 0;
            let portion: Vec<wal::Entry> = std::iter::from_fn(|| {
                let fits = |entry: &wal::Entry| {
                    let first = bytes == 0;
                    bytes += entry.payload().len() as u64 + Entry::OVERHEAD_BYTES;
                    first || bytes + BATCH_MARGIN_BYTES <= self.options.batch_bytes_max
                };
                entries.next_if(fits)
            })
            .collect();
            self.wal.stage(wal::Append {
                metadata: metadata.take(),
                reset: reset.take(),
                truncate_after: truncate_after.take(),
                entries: portion,
            })?;
        }
        Ok(())
    }

    /// Writes and syncs everything submitted, as one batch; returns its tickets in order. Where the
    /// disk is waited for elsewhere, begins to write what it can and returns what is done by now.
    ///
    /// # Errors
    /// The write or the sync failed. Nothing is retried: what the disk holds is unknown, and the
    /// server must stop.
    pub fn complete(&mut self) -> Result<Vec<Ticket>, LogError> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        if self.flusher.is_some() {
            return self.complete_elsewhere();
        }
        self.wal.commit()?;
        self.compacted = false;
        self.make_successor()?;
        Ok(std::mem::take(&mut self.staged))
    }

    fn complete_elsewhere(&mut self) -> Result<Vec<Ticket>, LogError> {
        let Some(flusher) = &mut self.flusher else { return Ok(Vec::new()) };
        let mut complete = Vec::new();
        if flusher.is_done() {
            // Its thread is gone, and nobody knows what it has written.
            let done = flusher.take_done().ok_or(wal::WalError::Stopped)?;
            complete = self.take_back(done)?;
        }
        if !self.is_flushing() && (!self.staged.is_empty() || self.compacted) {
            self.compacted = false;
            match (self.wal.begin_commit()?, &mut self.flusher) {
                (Some(flush), Some(flusher)) => {
                    self.flushing = std::mem::take(&mut self.staged);
                    flusher.run(flush);
                }
                // There is nothing to write: only places in the order.
                _ => complete.append(&mut self.staged),
            }
        }
        Ok(complete)
    }

    /// A write has come back; what was submitted meanwhile is the next. All of it fits into one
    /// batch, since the room that was given ends where a batch does.
    fn take_back(&mut self, done: wal::FlushDone) -> Result<Vec<Ticket>, LogError> {
        self.wal.finish_commit(done)?;
        self.make_successor()?;
        let complete = std::mem::take(&mut self.flushing);
        self.queued_bytes = 0;
        for append in std::mem::take(&mut self.queue) {
            self.stage(append)?;
        }
        Ok(complete)
    }

    /// Whether a write is on its way to the disk, elsewhere.
    #[must_use]
    pub fn is_flushing(&self) -> bool {
        self.flusher.as_ref().is_some_and(Flusher::is_out)
    }

    /// Runs the write that waits for its owner to do so; see [`Flushes::ByOwner`].
    pub fn run_flush(&mut self) {
        self.flusher.iter_mut().for_each(Flusher::run_waiting);
    }

    /// Whether [`complete`](Self::complete) has something to do: to write what was submitted, to
    /// take back what was written, or to say that the log is broken.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        match &self.flusher {
            Some(flusher) if flusher.is_out() => flusher.is_done() || self.broken.is_some(),
            _ => !self.staged.is_empty() || self.compacted || self.broken.is_some(),
        }
    }

    /// Entries of the log. An error is never taken for the end of the log.
    pub(super) fn entries(&self, fetch: &Fetch) -> Result<Vec<Entry>, LogError> {
        let entries = self.wal.read(fetch.from.0, fetch.to.0, fetch.bytes_max)?;
        let mut entries = entries.into_iter().map(from_wal).collect::<Result<Vec<_>, _>>()?;
        // The log counts payloads alone.
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.bytes();
            bytes <= fetch.bytes_max
        };
        let count = entries.iter().take_while(fits).count().max(1);
        entries.truncate(count);
        Ok(entries)
    }

    /// Closes the log, so that the next start can tell that nothing was lost.
    ///
    /// # Errors
    /// The disk failed; what was complete before is still durable.
    pub fn close(mut self) -> Result<(), LogError> {
        if self.is_flushing()
            && let Some(flusher) = &mut self.flusher
        {
            let done = flusher.wait().ok_or(wal::WalError::Stopped)?;
            self.take_back(done)?;
        }
        if let Some(helper) = self.helper.take()
            && let Ok(done) = helper.recv()
        {
            self.take_over(done)?;
        }
        self.wal.close()?;
        Ok(())
    }
}

/// What a batch takes beside its entries, at most.
pub(super) const BATCH_MARGIN_BYTES: u64 = 1024;

/// Entries read at once while the whole log is gone through.
const PORTION_BYTES: u64 = 4 << 20;
