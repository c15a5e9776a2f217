//! The log, put to work as one side of a comparison.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wal::{Append, Committer, Entry, Options, RealDisk, Wal};

use crate::measure::{Side, Slice, closed_loop};
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
        closed_loop(*writers, length, || {
            let entry = Entry::new(0, 1, 0, payload.clone());
            let ticket = committer.append(|last| {
                let entries = vec![Entry { index: last.index + 1, ..entry.clone() }];
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

/// The segments in a directory, in order, and whatever is becoming one.
///
/// # Errors
/// The directory cannot be read.
pub fn segment_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        if path.file_name().is_some_and(|name| name != "LOCK") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Makes everything durable that was written to the files of a directory.
///
/// # Errors
/// A file cannot be synced.
pub fn sync_files(directory: &Path) -> Result<()> {
    for file in segment_files(directory)? {
        File::open(file)?.sync_all()?;
    }
    Ok(())
}
