//! A directory that is looked at and not touched: nothing is created, written, renamed or removed,
//! and it works where nothing could be, such as on a read-only mount.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{Disk, File, Lock};
use crate::real_disk::{RealFile, directory_names, file_names};

/// An existing directory of a real file system, for reading.
///
/// Whatever would change it fails with [`io::ErrorKind::ReadOnlyFilesystem`]. Locks are shared:
/// several readers get along with each other, and none with an owner.
#[derive(Debug)]
pub struct ReadOnlyDisk {
    path: PathBuf,
    bytes_read: Arc<AtomicU64>,
}

impl ReadOnlyDisk {
    /// Opens a directory; one that does not exist is not made.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Arc<ReadOnlyDisk>> {
        ReadOnlyDisk::counting(path.as_ref(), Arc::default())
    }

    fn counting(path: &Path, bytes_read: Arc<AtomicU64>) -> io::Result<Arc<ReadOnlyDisk>> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Arc::new(ReadOnlyDisk { path: path.to_path_buf(), bytes_read }))
    }

    /// How many bytes were read through it and its subdirectories so far, to show how far
    /// something has come.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        file_names(&self.path)
    }

    fn subdirectories(&self) -> io::Result<Vec<String>> {
        directory_names(&self.path)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = RealFile::new(fs::File::open(self.path.join(name))?);
        Ok(Box::new(ReadOnlyFile { file, bytes_read: Arc::clone(&self.bytes_read) }))
    }

    fn create(&self, _: &str) -> io::Result<Box<dyn File>> {
        refused()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn rename_new(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    /// Nothing was changed, so there is nothing to make durable.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Takes a shared lock. Where there is no lock file there is no owner either.
    fn lock(&self, name: &str) -> io::Result<Lock> {
        let file = match fs::File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::new(())),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Lock::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// The disk of a subdirectory, which must exist.
    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        Ok(ReadOnlyDisk::counting(&self.path.join(name), Arc::clone(&self.bytes_read))?)
    }

    fn room(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

#[derive(Debug)]
struct ReadOnlyFile {
    file: RealFile,
    bytes_read: Arc<AtomicU64>,
}

impl File for ReadOnlyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.file.read_at(buffer, offset)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        refused()
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}
