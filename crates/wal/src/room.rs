//! Space: how much the log can take, and how it comes by its next segment.

use std::sync::Arc;

use crate::active::{LINK_BYTES_MAX, SEAL_RESERVE_BYTES};
use crate::append::Weight;
use crate::disk::Disk;
use crate::error::{AppendError, Failure, WalError};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::successor::{Cancelled, Claim, Job, JobDone, Make, MakeError, Outcome, Remove};
use crate::wal::Wal;

/// Kept free of entries while there is no successor, so that votes can be recorded and prefixes
/// dropped on a full disk. In small segments it is a sixteenth.
const CONTROL_RESERVE_BYTES: u64 = 64 * 1024;

/// What a segment of a given size can hold of batches with entries.
fn usable(capacity: u64) -> u64 {
    capacity.saturating_sub(SEGMENT_HEADER_BYTES + LINK_BYTES_MAX + SEAL_RESERVE_BYTES)
}

impl Wal {
    /// The bytes that one more append may take, headers included, and be sure not to be refused.
    ///
    /// An entry takes 18 bytes beside its payload, an append as a whole at most 512 more. On a
    /// full disk this falls towards zero while appends without entries are still taken: what they
    /// need is held in reserve.
    pub fn room(&self) -> u64 {
        self.room_with(|| self.room_to_make())
    }

    /// The bytes that one more append may take and find their place in segments that are made
    /// already: nothing that can fail before a byte is written has to happen first.
    pub fn ready_room(&self) -> u64 {
        self.room_with(|| 0)
    }

    /// The room there is, if `to_make` says what can be had in a segment that is not made yet.
    fn room_with(&self, to_make: impl FnOnce() -> u64) -> u64 {
        if self.poison.is_some() {
            return 0;
        }
        let beyond = self.spare.as_ref().map_or_else(to_make, |spare| usable(spare.capacity));
        let staged = if self.staged.is_empty(self.last.index) {
            0
        } else {
            self.staged.bytes_max(self.last.index)
        };
        let reserve = if self.spare.is_none() { self.control_reserve() } else { 0 };
        let here = self.active.left().saturating_sub(reserve);
        let room = if staged <= here {
            here.saturating_sub(staged).max(beyond)
        } else {
            beyond.saturating_sub(staged)
        };
        // While a batch is being written the next one cannot be, so it must not be overfilled.
        let waiting = if self.in_flight.is_some() { staged } else { 0 };
        room.min(self.options.batch_bytes_max.saturating_sub(waiting))
    }

    /// Whether there is a fresh segment, or room to make one: a reset begins in one.
    pub fn has_fresh_segment(&self) -> bool {
        self.spare.is_some() || self.room_to_make() > 0
    }

    fn room_to_make(&self) -> u64 {
        match self.disk.room() {
            Ok(room) if room >= self.options.segment_bytes => usable(self.options.segment_bytes),
            _ => 0,
        }
    }

    fn control_reserve(&self) -> u64 {
        CONTROL_RESERVE_BYTES.min(self.active.capacity / 16)
    }

    /// Makes sure that a batch of `bytes` has a place, making the successor here if it must be.
    pub(crate) fn ensure_room(
        &mut self,
        bytes: u64,
        weight: Weight,
        is_reset: bool,
    ) -> Result<(), AppendError> {
        let needs_fresh = is_reset && self.active.unlinked.is_none();
        let reserve = match (weight, &self.spare) {
            (Weight::Entries, None) => self.control_reserve(),
            _ => 0,
        };
        if !needs_fresh && bytes.saturating_add(reserve) <= self.active.left() {
            return Ok(());
        }
        if self.spare.is_none() {
            self.make_spare(bytes)?;
        }
        let beyond = self.spare.as_ref().map_or(0, |spare| usable(spare.capacity));
        if bytes <= beyond || (!needs_fresh && bytes <= self.active.left()) {
            Ok(())
        } else {
            Err(AppendError::NoSpace { bytes, room: beyond })
        }
    }

    /// Sees to it that [`ready_room`](Wal::ready_room) is at least `bytes`, as far as one segment
    /// can provide that: makes the next one here and now if there is none.
    ///
    /// After [`AppendError::Successor`] or [`AppendError::NoSpace`] the log is as before, and the
    /// call may be repeated.
    pub fn prepare(&mut self, bytes: u64) -> Result<(), AppendError> {
        if let Some(failure) = &self.poison {
            return Err(AppendError::Poisoned(failure.clone()));
        }
        if self.ready_room() >= bytes || self.spare.is_some() {
            return Ok(());
        }
        self.make_spare(bytes)
    }

    fn make_spare(&mut self, bytes: u64) -> Result<(), AppendError> {
        self.take_claim_back().map_err(AppendError::Poisoned)?;
        if self.spare.is_some() {
            return Ok(());
        }
        // What nothing needs any more may be just what is missing.
        self.new_remove(self.garbage.clone()).run().map_err(AppendError::Successor)?;
        self.garbage.clear();
        let room = self.room();
        let (make, _) = self.new_make();
        match make.run() {
            Ok(spare) => {
                self.spare = Some(spare);
                Ok(())
            }
            Err(MakeError::File(failure)) if failure.is_no_space() => {
                Err(AppendError::NoSpace { bytes, room })
            }
            Err(MakeError::Name(failure)) => {
                let failure = self.poison.get_or_insert(failure).clone();
                Err(AppendError::Poisoned(failure))
            }
            Err(MakeError::File(failure)) => Err(AppendError::Successor(failure)),
            Err(MakeError::Cancelled) => unreachable!("a claim that nobody shares was cancelled"),
        }
    }

    /// Ends what a job is making, or takes what it has made. Afterwards nobody is making anything.
    fn take_claim_back(&mut self) -> Result<(), Failure> {
        let Some(claim) = self.making.take() else { return Ok(()) };
        match claim.cancel() {
            Cancelled::InTime => Ok(()),
            Cancelled::TooLate(spare) => {
                self.spare = Some(spare);
                Ok(())
            }
            Cancelled::Failed(failure) => Err(self.poison.get_or_insert(failure).clone()),
        }
    }

    fn new_remove(&self, sequences: Vec<u64>) -> Remove {
        Remove { disk: self.disk.clone(), lock: Arc::clone(&self.lock), sequences }
    }

    fn new_make(&mut self) -> (Make, Claim) {
        self.attempts = self.attempts.saturating_add(1);
        let claim = Claim::new();
        let header = SegmentHeader {
            log_id: self.log_id,
            sequence: self.active.sequence.saturating_add(1),
            capacity: self.options.segment_bytes,
        };
        let make = Make {
            disk: self.disk.clone(),
            lock: Arc::clone(&self.lock),
            header,
            first: Vec::new(),
            attempt: self.attempts,
            claim: claim.clone(),
        };
        (make, claim)
    }

    /// Work to be run by the owner, on any thread, at any time, and brought back with
    /// [`finish_job`](Wal::finish_job): making the next segment, removing those that are needed
    /// no more. If it is never run, the log makes its segments itself when it needs them.
    ///
    /// The directory stays locked until the job is run or dropped, also beyond the log's own end.
    pub fn take_job(&mut self) -> Option<Job> {
        if self.poison.is_some() {
            return None;
        }
        if !self.garbage.is_empty() {
            let sequences = std::mem::take(&mut self.garbage);
            return Some(Job::remove(self.new_remove(sequences)));
        }
        if self.making.as_ref().is_some_and(Claim::is_shared) {
            return None;
        }
        // The report of a job may have been dropped; what it has made is there all the same.
        self.take_claim_back().ok()?;
        if self.spare.is_some() || self.is_making_paused {
            return None;
        }
        let (make, claim) = self.new_make();
        self.making = Some(claim);
        Some(Job::make(make))
    }

    /// Takes back a job that was run.
    ///
    /// A disk without space is no error here: [`room`](Wal::room) tells, and the job is offered
    /// again after the next commit. After [`WalError::Job`] the log itself is unharmed.
    pub fn finish_job(&mut self, done: JobDone) -> Result<(), WalError> {
        let (claim, result) = match done.outcome {
            Outcome::Removed(result) => {
                self.is_making_paused = false;
                return result.map_err(WalError::Job);
            }
            Outcome::Made { claim, result } => (claim, result),
        };
        // Of a claim that was taken back, the log knows already what became of it.
        if !self.making.as_ref().is_some_and(|making| making.is_same(&claim)) {
            return Ok(());
        }
        self.making = None;
        match result {
            Ok(spare) => {
                let next = self.active.sequence.saturating_add(1);
                assert!(spare.sequence == next, "the log went on while its successor was made");
                self.spare = Some(spare);
                Ok(())
            }
            Err(MakeError::Cancelled) => Ok(()),
            Err(MakeError::File(failure)) => {
                self.is_making_paused = true;
                if failure.is_no_space() { Ok(()) } else { Err(WalError::Job(failure)) }
            }
            Err(MakeError::Name(failure)) => Err(self.poisoned(failure)),
        }
    }
}
