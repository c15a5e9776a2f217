//! The seam between the log and whatever keeps its bytes.
//!
//! Everything that this crate does to storage goes through [`Disk`] and [`File`], so that a test
//! can put a disk there that loses, tears and refuses exactly what it wants. The production disk
//! is [`RealDisk`](crate::RealDisk); the simulated one stands behind the feature `sim`.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

/// One directory of files.
///
/// Names are plain file names without separators. Nothing that changes a name (`create`, `rename`,
/// `rename_new`, `remove`) is durable before [`Disk::sync`] has returned.
pub trait Disk: Send + Sync + fmt::Debug {
    /// The names of all files in the directory, sorted; subdirectories are left out.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The names of all subdirectories, sorted. A disk that holds a log alone has none.
    fn subdirectories(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Creates a file that must not exist yet.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Renames a file, replacing the target if there is one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Renames a file to a name that is free.
    ///
    /// Fails with [`io::ErrorKind::AlreadyExists`], and changes nothing, if it is taken.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Open handles stay usable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all changes of names durable: fsync of the directory.
    fn sync(&self) -> io::Result<()>;

    /// Takes an exclusive lock, creating its file when missing.
    ///
    /// Fails with [`io::ErrorKind::WouldBlock`] if another holder, in any process, has it. The
    /// lock is given back when the returned guard is dropped, and when the process dies.
    fn lock(&self, name: &str) -> io::Result<Lock>;

    /// The disk of a subdirectory, created, and its name made durable, when missing.
    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>>;

    /// Bytes that this process may still allocate here.
    fn room(&self) -> io::Result<u64>;

    /// The full path of a name, for messages to people.
    fn path(&self, name: &str) -> String;
}

/// An open file. Offsets are absolute; there is no cursor.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `buffer.len()` bytes; fewer is legal, zero means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes up to `buffer.len()` bytes; fewer is legal.
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the contents durable, and of the metadata what is needed to read them: fdatasync.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and metadata durable: fsync.
    fn sync_all(&self) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte at all.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends the file; new bytes read as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Forgets clean cached pages, so that the next read comes from the medium.
    fn drop_cache(&self) -> io::Result<()>;
}

/// A held lock; dropping it gives the lock back.
pub struct Lock {
    _guard: Box<dyn Any + Send + Sync>,
}

impl Lock {
    /// Wraps whatever must be dropped to give the lock back.
    pub fn new(guard: impl Any + Send + Sync) -> Lock {
        Lock { _guard: Box::new(guard) }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Lock")
    }
}

/// Fills the whole buffer from `offset`, across short and interrupted reads.
///
/// Fails with [`io::ErrorKind::UnexpectedEof`] if the file ends first.
pub fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut rest = buffer;
    let mut offset = offset;
    while !rest.is_empty() {
        match file.read_at(rest, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                rest = rest.get_mut(count..).ok_or(io::ErrorKind::InvalidData)?;
                offset = offset.saturating_add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes the whole buffer at `offset`, across short and interrupted writes.
pub fn write_all_at(file: &dyn File, buffer: &[u8], offset: u64) -> io::Result<()> {
    let mut rest = buffer;
    let mut offset = offset;
    while !rest.is_empty() {
        match file.write_at(rest, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                rest = rest.get(count..).ok_or(io::ErrorKind::InvalidData)?;
                offset = offset.saturating_add(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Repeats a call for as long as a signal interrupts it.
///
/// An interrupted fsync has reported nothing about the data, so repeating it hides no failure.
/// Any other error of an fsync must never be retried.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
