//! A disk in memory that loses power on demand.
//!
//! It keeps apart what has been written and what is durable, for every sector of 512 bytes and for
//! every name in a directory. A crash decides for each of them whether it reached the medium:
//! everything that a real disk may do to unsynced writes, and nothing that it may not. It has no
//! clock, no thread and no randomness but the seeds that it is given, so the same calls give the
//! same bytes; a whole cluster of them can run side by side.
//!
//! [`SimDisk`] is the medium and outlives crashes. [`SimDisk::disk`] is what a program sees of it,
//! until the next crash makes that handle useless.
//!
//! The model of a power cut: a sector that holds durable bytes is afterwards as before or as
//! written, whole. One that holds nothing but zeros may also be torn, or hold garbage. Each change
//! of a name happened or did not; a rename is never half done.

mod crash;
mod fault;
mod inode;
mod medium;
mod random;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, File, Lock};
use crate::locked::locked;

pub use crash::{Crash, Fate, Pending};
pub use fault::{Fault, Operation, OperationKind};
pub use inode::SECTOR_BYTES;
use medium::{DirectoryId, InodeId, Medium};
pub use random::Random;

/// A simulated medium. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<Mutex<Medium>>,
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl SimDisk {
    /// An empty medium without a limit of space.
    pub fn new() -> SimDisk {
        SimDisk { shared: Arc::new(Mutex::new(Medium::default())) }
    }

    fn medium(&self) -> MutexGuard<'_, Medium> {
        locked(&self.shared)
    }

    /// The root directory, as a program sees it until the next crash.
    pub fn disk(&self) -> Arc<dyn Disk> {
        let generation = self.medium().generation();
        let shared = Arc::clone(&self.shared);
        Arc::new(SimDirectory { shared, directory: Medium::ROOT, generation })
    }

    /// An independent copy, with everything that is pending still pending.
    pub fn fork(&self) -> SimDisk {
        let mut medium = self.medium().clone();
        medium.release_locks();
        SimDisk { shared: Arc::new(Mutex::new(medium)) }
    }

    /// Cuts the power; the seed decides what reached the medium.
    pub fn crash(&self, seed: u64) -> Crash {
        let mut dice = crash::Dice::new(seed);
        self.medium().crash(&mut |pending| dice.fate(pending))
    }

    /// Cuts the power; `choose` decides what reached the medium.
    pub fn crash_with(&self, mut choose: impl FnMut(&Pending) -> Fate) -> Crash {
        self.medium().crash(&mut choose)
    }

    /// Everything whose fate a crash would decide now, in the order in which it would be asked.
    pub fn pending(&self) -> Vec<Pending> {
        let mut asked = Vec::new();
        let mut copy = self.medium().clone();
        copy.crash(&mut |pending| {
            asked.push(pending.clone());
            Fate::Keep
        });
        asked
    }

    /// Lets the operation that is `after` further ones away fail in a given way. With a kind only
    /// operations of that kind are counted.
    pub fn inject(&self, after: u64, kind: Option<OperationKind>, fault: Fault) {
        self.medium().faults.inject(after, kind, fault);
    }

    /// Forgets the faults that have not come up yet.
    pub fn clear_faults(&self) {
        self.medium().faults.clear();
    }

    /// How often a fault has struck and was not [taken](Self::take_struck).
    pub fn struck(&self, fault: Fault) -> u64 {
        self.medium().faults.struck(fault)
    }

    /// How often a fault has struck since this was asked last.
    pub fn take_struck(&self, fault: Fault) -> u64 {
        self.medium().faults.take_struck(fault)
    }

    /// How many writes did not fit, or not as a whole, since this was asked last.
    pub fn take_refused(&self) -> u64 {
        self.medium().faults.take_refused()
    }

    /// How many operations have been asked for, of one kind or in all.
    pub fn count(&self, kind: Option<OperationKind>) -> u64 {
        self.medium().faults.count(kind)
    }

    /// Begins to remember operations, forgetting earlier ones.
    pub fn record_operations(&self) {
        self.medium().faults.record();
    }

    /// The operations since recording began.
    pub fn operations(&self) -> Vec<Operation> {
        self.medium().faults.recorded()
    }

    /// Limits the bytes that all files together may take; `None` lifts the limit.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.medium().set_room(bytes);
    }

    /// The bytes that all files together take.
    pub fn used(&self) -> u64 {
        self.medium().used()
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        self.medium().files()
    }

    /// The contents of a file, as a program would read them.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        self.medium().contents(path)
    }

    /// Changes a file behind everybody's back: rot, a lost write, a wrong write. What was pending
    /// in it counts as durable now. False if there is no such file.
    pub fn corrupt(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.medium().corrupt(path, change)
    }

    /// Changes durable bytes behind everybody's back, and leaves alone what is pending elsewhere.
    /// False, and nothing happens, if there is no such file, it holds no such bytes, some of these
    /// sectors are pending, or nothing would change.
    pub fn damage(&self, path: &str, offset: u64, bytes: &[u8]) -> bool {
        self.medium().damage(path, offset, bytes)
    }

    /// Removes a file behind everybody's back. False if there is no such file.
    pub fn destroy(&self, path: &str) -> bool {
        self.medium().destroy(path)
    }

    /// Makes a sector of a file unreadable until it is written again as a whole: before a part of
    /// it is written, the rest would have to be read.
    pub fn spoil_sector(&self, path: &str, sector: u64) -> bool {
        self.medium().spoil_sector(path, sector)
    }
}

/// A directory of the medium, as a program sees it.
#[derive(Debug)]
struct SimDirectory {
    shared: Arc<Mutex<Medium>>,
    directory: DirectoryId,
    generation: u64,
}

impl SimDirectory {
    fn medium(&self) -> io::Result<MutexGuard<'_, Medium>> {
        let medium = locked(&self.shared);
        medium.check(self.generation)?;
        Ok(medium)
    }

    fn file(&self, inode: InodeId) -> Box<dyn File> {
        let shared = Arc::clone(&self.shared);
        Box::new(SimFile { shared, inode, generation: self.generation })
    }
}

impl Disk for SimDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        self.medium()?.list(self.directory)
    }

    fn subdirectories(&self) -> io::Result<Vec<String>> {
        self.medium()?.subdirectories(self.directory)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let inode = self.medium()?.open(self.directory, name)?;
        Ok(self.file(inode))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let inode = self.medium()?.create(self.directory, name)?;
        Ok(self.file(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.medium()?.rename(self.directory, from, to)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.medium()?.rename_new(self.directory, from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.medium()?.remove(self.directory, name)
    }

    fn sync(&self) -> io::Result<()> {
        self.medium()?.sync_directory(self.directory)
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.medium()?.take_lock(self.directory, name)?;
        Ok(Lock::new(SimLock {
            shared: Arc::clone(&self.shared),
            directory: self.directory,
            name: name.to_owned(),
            generation: self.generation,
        }))
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let directory = self.medium()?.subdirectory(self.directory, name)?;
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(SimDirectory { shared, directory, generation: self.generation }))
    }

    fn room(&self) -> io::Result<u64> {
        self.medium()?.room()
    }

    fn path(&self, name: &str) -> String {
        locked(&self.shared).path(self.directory, name)
    }
}

/// Gives its lock back when it is dropped, unless a crash has taken it already.
#[derive(Debug)]
struct SimLock {
    shared: Arc<Mutex<Medium>>,
    directory: DirectoryId,
    name: String,
    generation: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        locked(&self.shared).release_lock(self.directory, &self.name, self.generation);
    }
}

#[derive(Debug)]
struct SimFile {
    shared: Arc<Mutex<Medium>>,
    inode: InodeId,
    generation: u64,
}

impl SimFile {
    fn medium(&self) -> io::Result<MutexGuard<'_, Medium>> {
        let medium = locked(&self.shared);
        medium.check(self.generation)?;
        Ok(medium)
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.medium()?.read(self.inode, buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.medium()?.write(self.inode, buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.medium()?.sync(self.inode, OperationKind::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.medium()?.sync(self.inode, OperationKind::SyncAll)
    }

    fn len(&self) -> io::Result<u64> {
        self.medium()?.len(self.inode)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.medium()?.set_len(self.inode, len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.medium()?.drop_cache(self.inode)
    }
}
