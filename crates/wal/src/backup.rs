//! Copying a log as it lies there, damage included, before something is done to it that cannot be
//! undone.

use std::io;

use thiserror::Error;

use crate::disk::{Disk, File, read_exact_at, uninterrupted, write_all_at};
use crate::error::{Failure, OpenError};
use crate::exchange::Exchange;
use crate::inspect::Inspector;
use crate::inventory::sequences;
use crate::segment::segment_name;
use crate::wal::LOCK_NAME;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How many of them the medium refused to read; they are zeros in the copy.
    pub unreadable_bytes: u64,
}

/// Why a log was not backed up.
#[derive(Debug, Error)]
pub enum BackupError {
    /// It would not fit; nothing was copied.
    #[error("a copy and what salvaging may need take {bytes} bytes, there is room for {room}")]
    NoSpace {
        /// What is needed.
        bytes: u64,
        /// What there is.
        room: u64,
    },
    /// The operating system failed. What was copied so far is not a backup.
    #[error(transparent)]
    Io(#[from] Failure),
    /// A salvage was interrupted, and what it has done so far cannot be told.
    #[error(transparent)]
    Log(#[from] OpenError),
}

impl Inspector {
    /// Copies every file of the log into another directory, where none of them may exist, durably.
    /// Where a salvage was interrupted, it is the log as it was before.
    ///
    /// Fails before it copies anything if the room there is not enough for the copy and for
    /// [salvaging](Inspector::salvage) afterwards, as if both were on one file system.
    pub fn back_up(&self, target: &dyn Disk) -> Result<Backup, BackupError> {
        let disk = &*self.original()?;
        let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), error))?;
        let is_of_the_log = |name: &&String| *name != LOCK_NAME && !Exchange::has_prepared(name);
        let names: Vec<&String> = names.iter().filter(is_of_the_log).collect();
        let mut bytes: u64 = 0;
        let mut largest: u64 = 0;
        for name in &names {
            let length = disk.open(name).and_then(|file| file.len());
            let length = length.map_err(|error| Failure::new("stat", disk.path(name), error))?;
            bytes = bytes.saturating_add(length);
            largest = largest.max(length);
        }
        // Salvaging makes few segments anew, and most often one.
        let needed = bytes.saturating_add(largest.saturating_mul(2));
        let room = target.room();
        let room = room.map_err(|error| Failure::new("measure", target.path(""), error))?;
        if room < needed {
            return Err(BackupError::NoSpace { bytes: needed, room });
        }
        let mut backup = Backup { bytes, ..Backup::default() };
        for name in names {
            let unreadable = copy(disk, name, target, name);
            let unreadable =
                unreadable.map_err(|error| Failure::new("copy", disk.path(name), error))?;
            backup.files = backup.files.saturating_add(1);
            backup.unreadable_bytes = backup.unreadable_bytes.saturating_add(unreadable);
        }
        uninterrupted(|| target.sync())
            .map_err(|error| Failure::new("sync directory", target.path(""), error))?;
        Ok(backup)
    }

    /// Whether a directory holds the segments of this log as they are, and no others: a
    /// [backup](Inspector::back_up) that need not be made again.
    pub fn is_backed_up(&self, target: &dyn Disk) -> Result<bool, BackupError> {
        let disk = &*self.original()?;
        let held = sequences(disk)?;
        if held != sequences(target)? {
            return Ok(false);
        }
        for sequence in held {
            let name = segment_name(sequence);
            let is_same = is_same(disk, target, &name);
            if !is_same.map_err(|error| Failure::new("compare", disk.path(&name), error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many bytes the segments take, of which [`verify`](Inspector::verify) reads most.
    pub fn segment_bytes(&self) -> Result<u64, Failure> {
        let mut bytes: u64 = 0;
        for sequence in sequences(&*self.disk)? {
            let name = segment_name(sequence);
            let length = self.disk.open(&name).and_then(|file| file.len());
            let failed = |error| Failure::new("stat", self.disk.path(&name), error);
            bytes = bytes.saturating_add(length.map_err(failed)?);
        }
        Ok(bytes)
    }
}

const PIECE_BYTES: u64 = 1024 * 1024;

/// What is given up around a byte that cannot be read.
const BLOCK_BYTES: usize = 512;

/// Copies a file and syncs the copy. What cannot be read is zeros there; returns how many bytes
/// that is.
pub(crate) fn copy(source: &dyn Disk, from: &str, target: &dyn Disk, to: &str) -> io::Result<u64> {
    let source = source.open(from)?;
    let target = target.create(to)?;
    let (length, mut offset) = (source.len()?, 0_u64);
    let mut unreadable: u64 = 0;
    let mut piece = Vec::new();
    while offset < length {
        unreadable = unreadable.saturating_add(read_piece(&*source, &mut piece, offset, length)?);
        write_all_at(&*target, &piece, offset)?;
        offset = offset.saturating_add(piece.len() as u64);
    }
    uninterrupted(|| target.sync_all())?;
    Ok(unreadable)
}

/// Whether two directories hold the same bytes under a name, as far as they can be read.
fn is_same(one: &dyn Disk, other: &dyn Disk, name: &str) -> io::Result<bool> {
    let (one, other) = (one.open(name)?, other.open(name)?);
    let (length, mut offset) = (one.len()?, 0_u64);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut is_same = other.len()? == length;
    while is_same && offset < length {
        read_piece(&*one, &mut ours, offset, length)?;
        read_piece(&*other, &mut theirs, offset, length)?;
        is_same = ours == theirs;
        offset = offset.saturating_add(ours.len() as u64);
    }
    Ok(is_same)
}

/// Reads the next piece of a file of this length. Returns how many bytes of it cannot be read.
fn read_piece(file: &dyn File, piece: &mut Vec<u8>, offset: u64, length: u64) -> io::Result<u64> {
    let bytes = PIECE_BYTES.min(length.saturating_sub(offset));
    piece.resize(usize::try_from(bytes).map_err(io::Error::other)?, 0);
    Ok(read_or_zeros(file, piece, offset))
}

/// Fills the whole buffer from `offset`. What cannot be read is zeros; returns how many bytes that
/// is.
pub(crate) fn read_or_zeros(file: &dyn File, buffer: &mut [u8], offset: u64) -> u64 {
    let mut unreadable: u64 = 0;
    if read_exact_at(file, buffer, offset).is_err() {
        let mut at = offset;
        for block in buffer.chunks_mut(BLOCK_BYTES) {
            if read_exact_at(file, block, at).is_err() {
                block.fill(0);
                unreadable = unreadable.saturating_add(block.len() as u64);
            }
            at = at.saturating_add(block.len() as u64);
        }
    }
    unreadable
}
