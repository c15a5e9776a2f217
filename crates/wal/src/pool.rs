//! Few open files for many segments. A log that nobody compacts may have thousands of full
//! segments, and each open file counts against a limit that sockets share.
//!
//! [`Pool`] stands between the log and its disk. Files that are opened through it are opened again
//! whenever they are needed, and only the ones used last stay open. Files that are made through it
//! are the disk's own: the segment in use and its successor never wait for the pool.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, File, Lock};
use crate::locked::locked;

/// How many files that were opened stay open at a time, beside those that were written to and not
/// synced yet.
pub(crate) const OPEN_FILES_MAX: usize = 32;

/// A file could not be opened again, for want of descriptors or memory perhaps. That says nothing
/// about what is in it.
#[derive(Debug, thiserror::Error)]
#[error("the file cannot be opened again: {0}")]
struct NotOpened(io::Error);

/// Whether an error of reading is one of opening.
pub(crate) fn is_not_opened(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NotOpened>())
}

/// A disk whose files are kept open only while they are used.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    /// The files used last, the latest at the end.
    open: Mutex<VecDeque<(String, Arc<dyn File>)>>,
}

impl Shared {
    /// The file of a name, opened if it is not open already.
    ///
    /// It is opened under the lock: a name that is removed meanwhile is either not found, or it
    /// is noted here before [`Shared::forget`] looks for it.
    fn get(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut open = locked(&self.open);
        let known = open.iter().rposition(|(other, _)| other == name);
        let (name, file) = match known.and_then(|at| open.remove(at)) {
            Some(known) => known,
            None => {
                // Room is made first, so that the limit holds at every moment.
                while open.len() >= OPEN_FILES_MAX {
                    open.pop_front();
                }
                (name.to_owned(), self.disk.open(name)?.into())
            }
        };
        open.push_back((name, Arc::clone(&file)));
        Ok(file)
    }

    fn forget(&self, name: &str) {
        locked(&self.open).retain(|(other, _)| other != name);
    }
}

impl Pool {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Pool {
        Pool { shared: Arc::new(Shared { disk, open: Mutex::new(VecDeque::new()) }) }
    }

    /// The file of a name, open for as long as it is held.
    pub(crate) fn hold(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.shared.get(name)
    }

    /// The file that has a name now, whatever is open already. It counts as none of the pool's.
    pub(crate) fn open_anew(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.shared.disk.open(name)?.into())
    }

    /// The file of a name, to be opened when it is used. Nothing is looked up before.
    pub(crate) fn file(&self, name: String) -> PooledFile {
        PooledFile { shared: Arc::clone(&self.shared), name, unsynced: Mutex::new(None) }
    }
}

impl Disk for Pool {
    fn list(&self) -> io::Result<Vec<String>> {
        self.shared.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.shared.get(name)?;
        Ok(Box::new(self.file(name.to_owned())))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.shared.disk.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let result = self.shared.disk.rename(from, to);
        [from, to].iter().for_each(|name| self.shared.forget(name));
        result
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let result = self.shared.disk.rename_new(from, to);
        [from, to].iter().for_each(|name| self.shared.forget(name));
        result
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let result = self.shared.disk.remove(name);
        // A removed file takes its space for as long as it is open.
        self.shared.forget(name);
        result
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.disk.sync()
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.shared.disk.lock(name)
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        self.shared.disk.subdirectory(name)
    }

    fn room(&self) -> io::Result<u64> {
        self.shared.disk.room()
    }

    fn path(&self, name: &str) -> String {
        self.shared.disk.path(name)
    }
}

/// A file that is opened when it is used.
///
/// Invariant: what was written and not synced since stays open. An operating system reports a
/// write that failed behind one's back to those who had the file open then; whoever opens it later
/// may be told that all is well.
#[derive(Debug)]
pub(crate) struct PooledFile {
    shared: Arc<Shared>,
    name: String,
    unsynced: Mutex<Option<Arc<dyn File>>>,
}

impl PooledFile {
    fn get(&self) -> io::Result<Arc<dyn File>> {
        match &*locked(&self.unsynced) {
            Some(file) => Ok(Arc::clone(file)),
            None => self
                .shared
                .get(&self.name)
                .map_err(|error| io::Error::new(error.kind(), NotOpened(error))),
        }
    }

    /// The file, which stays open until it is synced.
    fn get_to_change(&self) -> io::Result<Arc<dyn File>> {
        let file = self.get()?;
        *locked(&self.unsynced) = Some(Arc::clone(&file));
        Ok(file)
    }

    fn synced(&self, result: io::Result<()>) -> io::Result<()> {
        if result.is_ok() {
            *locked(&self.unsynced) = None;
        }
        result
    }
}

impl File for PooledFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.get()?.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.get_to_change()?.write_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.get()?.sync_data();
        self.synced(result)
    }

    fn sync_all(&self) -> io::Result<()> {
        let result = self.get()?.sync_all();
        self.synced(result)
    }

    fn len(&self) -> io::Result<u64> {
        self.get()?.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.get_to_change()?.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.get()?.drop_cache()
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests {
    use super::*;
    use crate::disk::write_all_at;
    use crate::sim_disk::{OperationKind, SimDisk};

    fn many(medium: &SimDisk, count: usize) -> (Pool, Vec<Box<dyn File>>) {
        let pool = Pool::new(medium.disk());
        let names = (0..count).map(|number| format!("{number}"));
        let files = names.map(|name| {
            let made = pool.create(&name).unwrap();
            write_all_at(&*made, name.as_bytes(), 0).unwrap();
            pool.open(&name).unwrap()
        });
        let files = files.collect();
        (pool, files)
    }

    #[test]
    fn few_files_are_open_and_all_of_them_can_be_read() {
        let medium = SimDisk::new();
        let (pool, files) = many(&medium, 3 * OPEN_FILES_MAX);
        for _ in 0..2 {
            for (number, file) in files.iter().enumerate() {
                let mut byte = [0];
                file.read_at(&mut byte, 0).unwrap();
                assert_eq!(byte[0], number.to_string().as_bytes()[0]);
                assert!(locked(&pool.shared.open).len() <= OPEN_FILES_MAX);
            }
        }
        let opened = medium.count(Some(OperationKind::Open));
        for _ in 0..10 {
            for file in &files[..OPEN_FILES_MAX] {
                file.len().unwrap();
            }
        }
        let again = medium.count(Some(OperationKind::Open)) - opened;
        assert!(again <= OPEN_FILES_MAX as u64, "what is used stays open: {again}");
    }

    #[test]
    fn what_was_written_stays_open_until_it_is_synced() {
        let medium = SimDisk::new();
        let (pool, files) = many(&medium, 2 * OPEN_FILES_MAX);
        files[0].write_at(b"x", 0).unwrap();
        let held = Arc::downgrade(locked(&pool.shared.open).back().map(|(_, it)| it).unwrap());
        files[1..].iter().for_each(|file| assert!(file.len().unwrap() > 0));
        assert!(held.upgrade().is_some(), "a sync has to be told what became of the write");
        files[0].sync_data().unwrap();
        files[1..].iter().for_each(|file| assert!(file.len().unwrap() > 0));
        assert!(held.upgrade().is_none());
    }

    #[test]
    fn a_removed_file_is_let_go_of_and_whoever_holds_it_reads_on() {
        let medium = SimDisk::new();
        let (pool, files) = many(&medium, 2);
        let held = pool.hold("0").unwrap();
        pool.remove("0").unwrap();
        assert_eq!(held.len().unwrap(), 1);
        assert_eq!(files[0].len().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
