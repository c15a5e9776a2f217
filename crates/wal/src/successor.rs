//! Makes segments ahead of use and removes those that are needed no more: work that takes long and
//! that nobody has to wait for, handed out as jobs.
//!
//! The log never depends on a job being run. If it needs its successor before the job has made it,
//! it takes the claim away from the job and makes the segment itself. A claim names one file at
//! most; the log has one claim at a time, and gives it up only when it has cancelled it or knows
//! what became of it. So no two files are ever meant for one name, and a name that is taken all
//! the same is left alone: the file behind it may be in use.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::active::Spare;
use crate::disk::{Disk, Lock, uninterrupted};
use crate::error::Failure;
use crate::locked::locked;
use crate::segment::{SegmentHeader, segment_name, temporary_name, write_segment};

/// Work that the owner of a log runs wherever it likes, and brings back with
/// [`Wal::finish_job`](crate::Wal::finish_job).
///
/// It may be dropped instead. Until it is run or dropped, the log's directory stays locked.
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
        result: Result<Spare, MakeError>,
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
            Work::Make(make) => {
                let claim = make.claim.clone();
                Outcome::Made { claim, result: make.run() }
            }
            Work::Remove(remove) => Outcome::Removed(remove.run()),
        };
        JobDone { outcome }
    }
}

/// What has become of the right to name a segment.
#[derive(Debug)]
enum ClaimState {
    Open,
    Cancelled,
    Named(Spare),
    /// The name could not be given, or is perhaps not durable.
    Failed(Failure),
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
        locked(&self.state)
    }

    /// Takes the claim away from the job, unless the job was faster.
    pub(crate) fn cancel(&self) -> Cancelled {
        let mut state = self.state();
        match &*state {
            ClaimState::Named(spare) => Cancelled::TooLate(spare.clone()),
            ClaimState::Failed(failure) => Cancelled::Failed(failure.clone()),
            ClaimState::Open | ClaimState::Cancelled => {
                *state = ClaimState::Cancelled;
                Cancelled::InTime
            }
        }
    }

    /// Whether a job, or its report, still holds the other half.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.state) > 1
    }

    /// Whether both are one claim, and not just claims on the same sequence.
    pub(crate) fn is_same(&self, other: &Claim) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

/// What cancelling a claim found.
#[derive(Debug)]
pub(crate) enum Cancelled {
    /// The job will not name anything.
    InTime,
    /// The job has made the segment, name included.
    TooLate(Spare),
    /// The job failed where nothing may be tried again.
    Failed(Failure),
}

/// Makes one segment: create, fill, fsync, name, fsync of the directory.
#[derive(Debug)]
pub(crate) struct Make {
    pub(crate) disk: Arc<dyn Disk>,
    /// Nobody may open the log while a segment may still appear.
    pub(crate) lock: Arc<Lock>,
    pub(crate) header: SegmentHeader,
    /// Batches that the segment holds from the start.
    pub(crate) first: Vec<u8>,
    /// Tells this attempt's temporary file from any other's.
    pub(crate) attempt: u64,
    pub(crate) claim: Claim,
}

impl Make {
    /// Returns the very file that was filled, so that nothing has to be looked up by name.
    pub(crate) fn run(self) -> Result<Spare, MakeError> {
        let temporary = temporary_name(self.header.sequence, self.attempt);
        let path = self.disk.path(&temporary);
        let result = self
            .write(&temporary)
            .map_err(|error| MakeError::File(Failure::new("make the segment", path, error)));
        let result = result.and_then(|spare| self.give_name(&temporary, spare));
        if result.is_err() {
            // Best effort: whatever stays under a temporary name goes when the log is next opened.
            let _ = self.disk.remove(&temporary);
        }
        drop(self.lock);
        result
    }

    fn write(&self, temporary: &str) -> io::Result<Spare> {
        // Filling the disk to its last byte would hurt everyone else on it before it failed.
        if self.disk.room()? < self.header.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = write_segment(&*self.disk, temporary, &self.header, &self.first)?;
        let SegmentHeader { sequence, capacity, .. } = self.header;
        let path = self.disk.path(&segment_name(sequence));
        Ok(Spare { sequence, file: file.into(), path: path.into(), capacity })
    }

    fn give_name(&self, temporary: &str, spare: Spare) -> Result<Spare, MakeError> {
        let mut state = self.claim.state();
        if matches!(*state, ClaimState::Cancelled) {
            return Err(MakeError::Cancelled);
        }
        let failed = |operation, error| Failure::new(operation, &spare.path, error);
        let named = self
            .disk
            .rename_new(temporary, &segment_name(spare.sequence))
            .map_err(|error| failed("name the segment", error))
            .and_then(|()| {
                uninterrupted(|| self.disk.sync())
                    .map_err(|error| failed("sync the directory of", error))
            });
        match named {
            Ok(()) => {
                *state = ClaimState::Named(spare.clone());
                Ok(spare)
            }
            Err(failure) => {
                *state = ClaimState::Failed(failure.clone());
                Err(MakeError::Name(failure))
            }
        }
    }
}

/// Removes segments that the log needs no more. They may go in any order, or not at all.
#[derive(Debug)]
pub(crate) struct Remove {
    pub(crate) disk: Arc<dyn Disk>,
    /// The next owner may use a sequence again.
    pub(crate) lock: Arc<Lock>,
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
        drop(self.lock);
        Ok(())
    }
}
