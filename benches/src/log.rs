//! The log, put to work as one side of a comparison.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wal::{Append, Committer, Entry, Fsync, Job, JobDone, Options, RealDisk, Wal};

use crate::measure::{Side, Slice, alone, closed_loop, counted};
use crate::{Error, Result};

/// The size of a segment, and so of the floor's file.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Full segments are dropped beyond this many.
const SEGMENTS_MAX: usize = 3;

/// How long the log may take to come to rest.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Synced appends by many writers, through a [`Committer`].
#[derive(Debug)]
pub struct SyncedLog {
    committer: Committer,
    directory: PathBuf,
    writers: usize,
    payload: Bytes,
}

impl SyncedLog {
    /// A new log in `directory`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn start(directory: &Path, writers: usize, payload: Bytes) -> Result<SyncedLog> {
        let options = Options::with_segment_bytes(SEGMENT_BYTES);
        let wal = Wal::create(RealDisk::open(directory)?, options)?;
        let committer = Committer::start(wal, |_| {})?;
        let directory = directory.to_path_buf();
        Ok(SyncedLog { committer, directory, writers, payload })
    }
}

impl Side for SyncedLog {
    /// The checksum of each payload is computed by its writer, and counts.
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let SyncedLog { committer, writers, payload, .. } = self;
        closed_loop(*writers, length, |_| {
            let entry = Entry::new(0, 1, 0, payload.clone());
            let ticket = committer.append(|last| {
                let mut entry = entry.clone();
                entry.index = last.index + 1;
                let entries = vec![entry];
                Append { entries, ..Append::default() }
            })?;
            committer.wait(ticket).map_err(Error::from)
        })
    }

    /// Waits until the next segment is made and those that were dropped are gone.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            let segments = self.committer.with(|wal| {
                if wal.segment_count() > SEGMENTS_MAX {
                    wal.drop_prefix(wal.last().index)?;
                }
                Ok::<_, Error>(wal.segment_count())
            });
            let segments = segments.ok_or("the committer has stopped")??;
            if segments <= SEGMENTS_MAX && segment_files(&self.directory)?.len() == segments + 1 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err("the log does not come to rest".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether appends wait for the medium, and how long a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// Each batch is synced. A slice takes as long as it is told.
    Always,
    /// Nothing is synced. A slice is so many batches, a small part of a segment: what is measured
    /// is the work of the processor, and not how fast the medium swallows what is written back.
    Never {
        /// How many.
        batches: u64,
    },
}

/// Who computes the checksum of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is computed with each append.
    Computed,
    /// It comes with the payload, from whoever encoded it.
    Given,
}

/// Appends in batches by one thread that owns the [`Wal`]. A helper makes its segments.
#[derive(Debug)]
pub struct OwnedLog {
    wal: Wal,
    directory: PathBuf,
    helper: Helper,
    entries: u64,
    payload: Entry,
    checksum: Checksum,
    syncs: Syncs,
}

impl OwnedLog {
    /// A new log in `directory`, to append to it `entries` payloads at a time.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn start(
        directory: &Path,
        entries: u64,
        payload: Bytes,
        checksum: Checksum,
        syncs: Syncs,
    ) -> Result<OwnedLog> {
        let fsync = match syncs {
            Syncs::Always => Fsync::Always,
            Syncs::Never { .. } => Fsync::UnsafeNever,
        };
        let options = Options { fsync, ..Options::with_segment_bytes(SEGMENT_BYTES) };
        Ok(OwnedLog {
            wal: Wal::create(RealDisk::open(directory)?, options)?,
            directory: directory.to_path_buf(),
            helper: Helper::start(),
            entries,
            payload: Entry::new(0, 1, 0, payload),
            checksum,
            syncs,
        })
    }

    /// Appends one batch and, if it is synced, looks after the helper.
    ///
    /// # Errors
    /// The log refuses it, or the disk does.
    pub fn append(&mut self) -> Result<()> {
        let first = self.wal.last().index + 1;
        let entries = (first..first + self.entries).map(|index| match self.checksum {
            Checksum::Computed => Entry::new(index, 1, 0, self.payload.payload().clone()),
            Checksum::Given => {
                let payload = self.payload.payload().clone();
                Entry::with_checksum(index, 1, 0, payload, self.payload.checksum())
            }
        });
        self.wal.stage(Append { metadata: None, reset: None, truncate_after: None, entries })?;
        self.wal.commit()?;
        if self.syncs == Syncs::Always { self.helper.turn(&mut self.wal) } else { Ok(()) }
    }
}

impl Side for OwnedLog {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let slice = match self.syncs {
            Syncs::Always => alone(length, || self.append()),
            Syncs::Never { batches } => counted(batches, || self.append()),
        };
        Ok(slice?.times(self.entries))
    }

    /// Waits until the next segment is made and those that were dropped are gone, and leaves clean
    /// pages behind.
    fn settle(&mut self) -> Result<()> {
        if self.wal.segment_count() > SEGMENTS_MAX {
            self.wal.drop_prefix(self.wal.last().index)?;
            self.wal.commit()?;
        }
        let deadline = Instant::now() + SETTLE_MAX;
        self.helper.turn(&mut self.wal)?;
        while self.helper.is_busy() {
            if Instant::now() > deadline {
                return Err("the log does not come to rest".into());
            }
            thread::sleep(Duration::from_millis(1));
            self.helper.turn(&mut self.wal)?;
        }
        if self.syncs == Syncs::Always { Ok(()) } else { sync_files(&self.directory) }
    }
}

/// A thread that runs the jobs of a log.
#[derive(Debug)]
struct Helper {
    orders: Sender<Job>,
    done: Receiver<JobDone>,
    /// How many jobs were handed out and have not come back.
    out: u32,
}

impl Helper {
    fn start() -> Helper {
        let (orders, jobs) = channel::<Job>();
        let (report, done) = channel();
        // It ends when the orders do.
        thread::spawn(move || jobs.into_iter().try_for_each(|job| report.send(job.run())));
        Helper { orders, done, out: 0 }
    }

    fn is_busy(&self) -> bool {
        self.out > 0
    }

    /// Takes back what is done and hands out what is to be done.
    fn turn(&mut self, wal: &mut Wal) -> Result<()> {
        for done in self.done.try_iter() {
            self.out -= 1;
            wal.finish_job(done)?;
        }
        while let Some(job) = wal.take_job() {
            self.out += 1;
            self.orders.send(job).map_err(|_| "the helper has ended")?;
        }
        Ok(())
    }
}

/// The segments in a directory, in order.
///
/// # Errors
/// The directory cannot be read.
pub fn segment_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Makes everything durable that was written to the files of a directory.
fn sync_files(directory: &Path) -> Result<()> {
    for file in segment_files(directory)? {
        File::open(file)?.sync_all()?;
    }
    Ok(())
}
