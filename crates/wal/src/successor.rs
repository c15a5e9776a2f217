//! Makes segments ahead of use and removes those that are needed no more: work that takes long and
//! that nobody has to wait for, handed out as jobs.
//!
//! The log never depends on a job being run. If it needs its successor before the job has made it,
//! it takes the claim away from the job and makes the segment itself; whichever of the two holds
//! the claim gives the segment its name, and the other gives up.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, uninterrupted};
use crate::error::Failure;
use crate::segment::{SegmentHeader, segment_name, temporary_name, write_segment};

/// Work that the owner of a log runs wherever it likes, and brings back with
/// [`Wal::finish_job`](crate::Wal::finish_job).
#[derive(Debug)]
pub struct Job {
    work: Work,
}

/// A job that was run.
#[derive(Debug)]
pub struct JobDone {
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
enum Work {
    Make(Make),
    Remove(Remove),
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// Holds on to the claim, so that the log knows the job to be out until it is brought back.
    Made {
        claim: Claim,
        result: Result<(), MakeError>,
    },
    Removed(Result<(), Failure>),
}

/// Why a segment was not made.
#[derive(Clone, Debug)]
pub(crate) enum MakeError {
    /// The log has made the segment itself in the meantime.
    Cancelled,
    /// The file could not be written. Trying again begins with a new file.
    File(Failure),
    /// The name could not be made durable. A directory whose fsync failed is not trusted again.
    Name(Failure),
}

impl Job {
    pub(crate) fn make(make: Make) -> Job {
        Job { work: Work::Make(make) }
    }

    pub(crate) fn remove(remove: Remove) -> Job {
        Job { work: Work::Remove(remove) }
    }

    /// Does the work. It may take as long as writing a whole segment.
    pub fn run(self) -> JobDone {
        let outcome = match self.work {
            Work::Make(make) => Outcome::Made { result: make.run(), claim: make.claim },
            Work::Remove(remove) => Outcome::Removed(remove.run()),
        };
        JobDone { outcome }
    }
}

/// Who may give a segment its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClaimState {
    Open,
    Cancelled,
    Named,
}

/// The right to give one segment its name, shared by the log and the job.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    state: Arc<Mutex<ClaimState>>,
}

impl Claim {
    pub(crate) fn new() -> Claim {
        Claim { state: Arc::new(Mutex::new(ClaimState::Open)) }
    }

    fn state(&self) -> MutexGuard<'_, ClaimState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the claim away from the job. Returns whether the job was faster and has made the
    /// segment, name included.
    pub(crate) fn cancel(&self) -> Cancelled {
        let mut state = self.state();
        if *state == ClaimState::Named {
            return Cancelled::TooLate;
        }
        *state = ClaimState::Cancelled;
        Cancelled::InTime
    }

    /// Whether a job, or its report, still holds the other half.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.state) > 1
    }

    pub(crate) fn is_same(&self, other: &Claim) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    InTime,
    TooLate,
}

/// Makes one segment: create, fill, fsync, name, fsync of the directory.
#[derive(Debug)]
pub(crate) struct Make {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) header: SegmentHeader,
    /// Batches that the segment holds from the start.
    pub(crate) first: Vec<u8>,
    /// Tells this attempt's temporary file from any other's.
    pub(crate) attempt: u64,
    pub(crate) claim: Claim,
}

impl Make {
    pub(crate) fn run(&self) -> Result<(), MakeError> {
        let temporary = temporary_name(self.header.sequence, self.attempt);
        let path = self.disk.path(&temporary);
        let result = self
            .write(&temporary)
            .map_err(|error| MakeError::File(Failure::new("make the segment", path, error)));
        let result = result.and_then(|()| self.give_name(&temporary));
        if result.is_err() {
            // Best effort: whatever stays under a temporary name goes when the log is next opened.
            let _ = self.disk.remove(&temporary);
        }
        result
    }

    fn write(&self, temporary: &str) -> io::Result<()> {
        // Filling the disk to its last byte would hurt everyone else on it before it failed.
        if self.disk.room()? < self.header.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        write_segment(&*self.disk, temporary, &self.header, &self.first)
    }

    fn give_name(&self, temporary: &str) -> Result<(), MakeError> {
        let name = segment_name(self.header.sequence);
        let failed = |operation, error| Failure::new(operation, self.disk.path(&name), error);
        let mut state = self.claim.state();
        if *state == ClaimState::Cancelled {
            return Err(MakeError::Cancelled);
        }
        // A rename replaces what is there, and a segment that is there may be in use. The claim
        // keeps that from happening; this keeps a mistake with claims from costing entries.
        let is_taken = match self.disk.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(error),
            Ok(_) => Some(io::ErrorKind::AlreadyExists.into()),
        };
        if let Some(error) = is_taken {
            return Err(MakeError::File(failed("name the segment", error)));
        }
        let name_failed = |operation, error| MakeError::Name(failed(operation, error));
        self.disk
            .rename(temporary, &name)
            .map_err(|error| name_failed("name the segment", error))?;
        uninterrupted(|| self.disk.sync())
            .map_err(|error| name_failed("sync the directory of", error))?;
        *state = ClaimState::Named;
        Ok(())
    }
}

/// Removes segments that the log needs no more. They may go in any order, or not at all.
#[derive(Debug)]
pub(crate) struct Remove {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) sequences: Vec<u64>,
}

impl Remove {
    pub(crate) fn run(self) -> Result<(), Failure> {
        for sequence in self.sequences {
            let name = segment_name(sequence);
            match self.disk.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Failure::new("remove", self.disk.path(&name), error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
