//! Committing: what is staged becomes one batch, one write, one fdatasync.
//!
//! The work is split so that the owner chooses where the disk is waited for. `begin_commit`
//! encodes and hands out a [`Flush`], which can be run on any thread; `finish_commit` takes it
//! back. In between the owner stages and reads as always, and what it stages goes into the next
//! batch. `commit` does all three in place. One flush is out at a time, so everything before a
//! batch is durable when the batch is written, and its header may say so.

use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::active::Active;
use crate::batch::Before;
use crate::disk::{File, Lock, uninterrupted, write_all_at};
use crate::entry::{Entry, Position, Ticket};
use crate::error::{Failure, WalError};
use crate::index::Extents;
use crate::options::Fsync;
use crate::pool::OPEN_FILES_MAX;
use crate::record::Row;
use crate::segment::segment_name;
use crate::staged::Staged;
use crate::wal::{Wal, reading_view};

/// Bytes on their way to the disk: run it, and bring it back with
/// [`Wal::finish_commit`](crate::Wal::finish_commit).
#[derive(Debug)]
#[must_use = "what is staged becomes durable only by running the flush and finishing the commit"]
pub struct Flush {
    work: FlushPlan,
    /// Nobody may open the log, and read where it ends, while something may still be written.
    lock: Arc<Lock>,
}

/// A flush that was run.
#[derive(Debug)]
#[must_use = "the log goes on only when the flush is brought back"]
pub struct FlushDone {
    work: FlushPlan,
    result: Result<(), Failure>,
    /// Tells whose flush it was: every log that is created or opened has a lock of its own.
    lock: Weak<Lock>,
}

/// The steps of a flush and the buffer they write from, both reused by the next one.
#[derive(Debug, Default)]
pub(crate) struct FlushPlan {
    buffer: Vec<u8>,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Write { file: Arc<dyn File>, path: Arc<str>, bytes: Range<usize>, offset: u64 },
    Sync { file: Arc<dyn File>, path: Arc<str> },
}

/// A batch that is being written.
#[derive(Debug)]
pub(crate) struct InFlight {
    staged: Staged,
    offset: u64,
    count: u64,
    ticket: Ticket,
    /// What is durable once it is written, lowered by every cut that is staged meanwhile.
    pub(crate) durable: Position,
    /// The last index that is in segments once it is written.
    last: u64,
    /// The oldest segment that it writes to, if only a seal.
    pub(crate) first_sequence: u64,
}

impl Flush {
    /// Writes and syncs. It stops at the first failure: nothing is retried.
    pub fn run(self) -> FlushDone {
        let result = self.work.run();
        FlushDone { work: self.work, result, lock: Arc::downgrade(&self.lock) }
    }
}

impl FlushPlan {
    fn clear(&mut self) {
        self.buffer.clear();
        self.steps.clear();
    }

    /// Plans to write what was encoded into the buffer since `begin`, and to sync it.
    fn plan(&mut self, active: &mut Active, begin: usize, fsync: Fsync) {
        let bytes = begin..self.buffer.len();
        let (file, path) = (Arc::clone(&active.file), Arc::clone(&active.path));
        let offset = active.end;
        self.steps.push(Step::Write { file, path, bytes: bytes.clone(), offset });
        match fsync {
            Fsync::Always => {
                self.plan_sync(active);
                active.advance(bytes.len(), Before::Synced);
            }
            Fsync::UnsafeNever => active.advance(bytes.len(), Before::Unsynced),
        }
    }

    fn plan_sync(&mut self, active: &Active) {
        let (file, path) = (Arc::clone(&active.file), Arc::clone(&active.path));
        self.steps.push(Step::Sync { file, path });
    }

    fn run(&self) -> Result<(), Failure> {
        for step in &self.steps {
            match step {
                Step::Write { file, path, bytes, offset } => {
                    let bytes = self.buffer.get(bytes.clone()).unwrap_or_default();
                    write_all_at(&**file, bytes, *offset)
                        .map_err(|error| Failure::new("write", path, error))?;
                }
                Step::Sync { file, path } => {
                    uninterrupted(|| file.sync_data())
                        .map_err(|error| Failure::new("sync", path, error))?;
                }
            }
        }
        Ok(())
    }
}

impl Wal {
    /// Makes everything staged durable, as one batch, with one write and one fdatasync.
    ///
    /// With nothing staged it makes no system call. After a failure the log is poisoned: nothing
    /// is retried, and whether the batch is durable is not known before the log is opened again.
    /// Fails with [`WalError::InFlight`] while a flush is out.
    pub fn commit(&mut self) -> Result<Ticket, WalError> {
        self.check_poison()?;
        if self.in_flight.is_some() {
            return Err(WalError::InFlight);
        }
        self.flush().map_err(WalError::Poisoned)?;
        Ok(self.durable_ticket)
    }

    /// Commits in place.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        match self.begin() {
            Some(flush) => self.finish(flush.run()),
            None => Ok(()),
        }
    }

    /// Encodes everything staged for a flush that is run elsewhere. `None` if nothing is staged,
    /// or while another flush is out.
    pub fn begin_commit(&mut self) -> Result<Option<Flush>, WalError> {
        self.check_poison()?;
        if self.in_flight.is_some() { Ok(None) } else { Ok(self.begin()) }
    }

    /// Takes a flush back, and returns the ticket up to which everything is durable now. If it
    /// failed, the log is poisoned.
    ///
    /// Fails with [`WalError::ForeignFlush`], and changes nothing, if the flush is another log's:
    /// that its bytes are durable says nothing about those that are on their way here.
    pub fn finish_commit(&mut self, done: FlushDone) -> Result<Ticket, WalError> {
        self.check_poison()?;
        // A log hands out one flush at a time, so one of its own is the one that is out.
        if self.in_flight.is_none() || !Weak::ptr_eq(&done.lock, &Arc::downgrade(&self.lock)) {
            return Err(WalError::ForeignFlush);
        }
        self.finish(done).map_err(WalError::Poisoned)?;
        Ok(self.durable_ticket)
    }

    /// Whether a flush is out.
    pub fn is_committing(&self) -> bool {
        self.in_flight.is_some()
    }

    fn begin(&mut self) -> Option<Flush> {
        let last = self.last.index;
        if self.staged.is_empty(last) {
            self.durable_ticket = self.ticket;
            return None;
        }
        let mut work = std::mem::take(&mut self.work);
        work.clear();
        let fsync = self.options.fsync;
        let first_sequence = self.active.sequence;
        let needs_fresh = self.staged.reset.is_some() && self.active.unlinked.is_none();
        if needs_fresh || self.staged.bytes_max(last) > self.active.left() {
            self.rotate(&mut work);
        }
        let count = self.staged.count(last);
        let staged = std::mem::replace(&mut self.staged, Staged::nothing_after(last));
        let first_needed = staged.prefix.and_then(|start| self.segments.first_needed(start.index));
        let skipped = self.recent.len().saturating_sub(usize::try_from(count).unwrap_or(0));
        let begin = work.buffer.len();
        let offset = self.active.encode_staged(
            &staged,
            first_needed.unwrap_or(0),
            self.recent.range(skipped..),
            &mut work.buffer,
        );
        work.plan(&mut self.active, begin, fsync);
        self.active.is_closed = false;
        if staged.prefix.is_some() || staged.reset.is_some() {
            self.plan_sync_of_all(&mut work);
        }
        let (ticket, durable) = (self.ticket, self.last);
        self.in_flight =
            Some(InFlight { staged, offset, count, ticket, durable, last, first_sequence });
        Some(Flush { work, lock: Arc::clone(&self.lock) })
    }

    /// Before files may be removed, what makes them dispensable must be durable, whatever the
    /// options say.
    fn plan_sync_of_all(&mut self, work: &mut FlushPlan) {
        if self.options.fsync == Fsync::Always {
            return;
        }
        for (file, path) in self.unsynced.drain(..) {
            work.steps.push(Step::Sync { file, path });
        }
        work.plan_sync(&self.active);
        self.active.before = Before::Synced;
    }

    /// Seals the segment in use and goes on in its successor.
    ///
    /// The seal is durable before anything is written behind it: it promises that there is a
    /// successor, and the successor's link promises that the seal is there.
    fn rotate(&mut self, work: &mut FlushPlan) {
        assert!(self.spare.is_some(), "a batch was staged without a segment to put it into");
        let Some(spare) = self.spare.take() else { return };
        let begin = work.buffer.len();
        self.active.encode_link(&mut work.buffer);
        let seal_offset = self.active.offset_in(&work.buffer, begin);
        let seal = Row::Seal(self.active.tally.seal());
        self.active.encode_control(&seal, &mut work.buffer, begin);
        work.plan(&mut self.active, begin, self.options.fsync);
        let seal_end = self.active.end;
        if let Some(newest) = self.segments.newest_mut() {
            newest.end = seal_end;
            newest.file = Arc::new(self.disk.file(segment_name(newest.sequence)));
        }
        if self.options.fsync == Fsync::UnsafeNever {
            let (file, path) = (Arc::clone(&self.active.file), Arc::clone(&self.active.path));
            self.unsynced.push((file, path));
            // Each of them is an open file.
            if self.unsynced.len() > OPEN_FILES_MAX {
                let (file, path) = self.unsynced.remove(0);
                work.steps.push(Step::Sync { file, path });
            }
        }
        self.active = Active::unlinked(
            self.log_id,
            spare,
            self.active.tally.boundary,
            (seal_offset, seal_end),
            self.active.last_crc,
            self.active.before,
        );
        self.segments.push(reading_view(&self.active, Extents::default()));
    }

    fn finish(&mut self, done: FlushDone) -> Result<(), Failure> {
        let FlushDone { work, result, .. } = done;
        self.work = work;
        let in_flight = self.in_flight.take();
        if let Err(failure) = result {
            return Err(self.poison.get_or_insert(failure).clone());
        }
        let Some(in_flight) = in_flight else { return Ok(()) };
        self.durable = in_flight.durable;
        self.durable_ticket = in_flight.ticket;
        self.is_making_paused = false;
        self.note_written(&in_flight);
        self.evict(in_flight.last);
        Ok(())
    }

    /// Brings what readers see up to what was written.
    fn note_written(&mut self, in_flight: &InFlight) {
        let InFlight { staged, offset, count, .. } = in_flight;
        let tally = &self.active.tally;
        if staged.reset.is_some() {
            self.garbage.extend(self.segments.drop_below(self.active.sequence));
        }
        if let Some(keep) = staged.truncate {
            self.segments.truncate_after(keep.index);
        }
        if let Some(newest) = self.segments.newest_mut() {
            newest.first = tally.low;
            newest.last = tally.boundary.last.index;
            newest.end = self.active.end;
            if let Some(extents) = newest.extents.get_mut() {
                extents.push(staged.first, *count, *offset);
            }
        }
        if staged.prefix.is_some() {
            self.garbage.extend(self.segments.drop_below(tally.boundary.first_sequence));
        }
    }

    /// Lets go of the oldest recent entries beyond what the options grant; those above `written`
    /// are in no segment yet.
    fn evict(&mut self, written: u64) {
        let staged = self.staged.first;
        let is_written = |oldest: &&Entry| oldest.index <= written && oldest.index < staged;
        let mut left = self.recent_bytes;
        let mut count = 0;
        for oldest in self.recent.iter().take_while(is_written) {
            if left <= self.options.cache_bytes {
                break;
            }
            left = left.saturating_sub(oldest.memory_bytes());
            count += 1;
        }
        self.recent.drain(..count);
        self.recent_bytes = left;
    }

    /// Commits what is staged and ends the log with a record that says that nothing was in
    /// flight, so that the next opening can tell a damaged end from a torn one.
    ///
    /// Fails with [`WalError::InFlight`] while a flush is out.
    pub fn close(mut self) -> Result<(), WalError> {
        self.commit()?;
        // A log that was just opened and closed again shall not grow, and a full segment is not
        // worth a new one for this.
        if self.active.is_closed || self.active.left() < 64 {
            return Ok(());
        }
        let mut work = std::mem::take(&mut self.work);
        work.clear();
        self.plan_sync_of_all(&mut work);
        self.active.encode_link(&mut work.buffer);
        self.active.encode_control(&Row::Close, &mut work.buffer, 0);
        work.plan(&mut self.active, 0, Fsync::Always);
        work.run().map_err(|failure| self.poisoned(failure))
    }
}
