//! A disk in memory, on which a sync costs nothing: what is left of a log is its own work.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wal::{Disk, File, Lock};

type Content = Arc<Mutex<Vec<u8>>>;

/// A directory. It forgets everything when the last of its users lets go of it.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    path: String,
    files: Mutex<BTreeMap<String, Content>>,
    directories: Mutex<BTreeMap<String, Arc<MemoryDisk>>>,
}

impl MemoryDisk {
    /// An empty one.
    pub fn empty() -> Arc<dyn Disk> {
        Arc::new(MemoryDisk::default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = lock(&self.files).get(name).cloned();
        Ok(Box::new(MemoryFile(file.ok_or(io::ErrorKind::NotFound)?)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut files = lock(&self.files);
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Content::default();
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(Box::new(MemoryFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        if lock(&self.files).contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.files).remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &str) -> io::Result<Lock> {
        Ok(Lock::new(()))
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let mut directories = lock(&self.directories);
        let path = self.path(name);
        let directory = directories
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(MemoryDisk { path, ..MemoryDisk::default() }));
        Ok(Arc::clone(directory) as Arc<dyn Disk>)
    }

    fn room(&self) -> io::Result<u64> {
        Ok(u64::MAX / 2)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

#[derive(Debug)]
struct MemoryFile(Content);

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.0);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let found = content.get(from..).unwrap_or_default();
        let count = found.len().min(buffer.len());
        let (to, from) = (buffer.get_mut(..count), found.get(..count));
        if let (Some(to), Some(from)) = (to, from) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let mut content = lock(&self.0);
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let to = from.checked_add(buffer.len()).ok_or(io::ErrorKind::InvalidInput)?;
        if content.len() < to {
            content.resize(to, 0);
        }
        if let Some(place) = content.get_mut(from..to) {
            place.copy_from_slice(buffer);
        }
        Ok(buffer.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.0).resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}
