//! What is done in one way only to a directory, since a step that is forgotten in one of several
//! copies is a promise that is lost: a file is replaced whole, a note is read, a home is locked.

use std::io;

use wal::{Disk, File, Lock};

use super::home::{HomeError, LOCK};

/// Writes a file and gives it its name, in place of an earlier one if there is one, durably. A
/// power cut leaves the one or the other, whole: the new one is written under another name first,
/// and what an earlier attempt left there goes.
pub(super) fn replace_file(
    disk: &dyn Disk,
    name: &str,
    write: impl FnOnce(&dyn File) -> io::Result<()>,
) -> io::Result<Box<dyn File>> {
    let unfinished = format!("{name}.new");
    if disk.list()?.contains(&unfinished) {
        disk.remove(&unfinished)?;
    }
    let file = disk.create(&unfinished)?;
    write(file.as_ref())?;
    file.sync_all()?;
    disk.rename(&unfinished, name)?;
    disk.sync()?;
    Ok(file)
}

/// No note is read beyond this.
pub(super) const NOTE_BYTES_MAX: u64 = 64 << 10;

/// Reads a note for people; `None` if there is none. That it is there may be all that counts, so
/// what keeps it from being read is for the caller to judge.
pub(super) fn read_note(disk: &dyn Disk, name: &str) -> io::Result<Option<io::Result<String>>> {
    if !disk.list()?.iter().any(|listed| listed == name) {
        return Ok(None);
    }
    let read = || {
        let file = disk.open(name)?;
        let length = file.len()?.min(NOTE_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        wal::disk::read_exact_at(file.as_ref(), &mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Some(read()))
}

/// Takes the lock of a server's directory.
pub(super) fn lock_home(disk: &dyn Disk) -> Result<Lock, HomeError> {
    disk.lock(LOCK).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => HomeError::InUse { path: disk.path(LOCK) },
        _ => HomeError::Io { path: disk.path(LOCK), source },
    })
}
