//! Directories and files of the simulated medium, and what each operation does to them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::crash::{Crash, Fate, Pending};
use super::fault::{Fault, Faults, Operation, OperationKind, error_of};
use super::inode::Inode;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DirectoryId(u64);

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
enum NameChange {
    Put { name: String, inode: InodeId },
    Move { from: String, to: String, inode: InodeId },
    Drop { name: String },
}

impl NameChange {
    fn name(&self) -> &str {
        match self {
            NameChange::Put { name, .. } | NameChange::Drop { name } => name,
            NameChange::Move { to, .. } => to,
        }
    }

    fn apply(self, names: &mut BTreeMap<String, InodeId>) {
        match self {
            NameChange::Put { name, inode } => {
                names.insert(name, inode);
            }
            NameChange::Move { from, to, inode } => {
                if names.get(&from) == Some(&inode) {
                    names.remove(&from);
                }
                names.insert(to, inode);
            }
            NameChange::Drop { name } => {
                names.remove(&name);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Directory {
    path: String,
    names: BTreeMap<String, InodeId>,
    durable: BTreeMap<String, InodeId>,
    changes: Vec<NameChange>,
    subdirectories: BTreeMap<String, DirectoryId>,
    locks: BTreeSet<String>,
}

/// Everything that a simulated disk holds.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    inodes: BTreeMap<InodeId, Inode>,
    directories: BTreeMap<DirectoryId, Directory>,
    next_id: u64,
    generation: u64,
    room: Option<u64>,
    pub(super) faults: Faults,
}

impl Default for Medium {
    fn default() -> Medium {
        Medium {
            inodes: BTreeMap::new(),
            directories: BTreeMap::from([(Medium::ROOT, Directory::default())]),
            next_id: 1,
            generation: 0,
            room: None,
            faults: Faults::default(),
        }
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Medium {
    pub(super) const ROOT: DirectoryId = DirectoryId(0);

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Handles from before a crash are dead.
    pub(super) fn check(&self, generation: u64) -> io::Result<()> {
        if generation == self.generation {
            Ok(())
        } else {
            Err(io::Error::other("this handle is from before a crash"))
        }
    }

    fn next_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = id.saturating_add(1);
        id
    }

    fn directory(&mut self, id: DirectoryId) -> io::Result<&mut Directory> {
        self.directories.get_mut(&id).ok_or_else(not_found)
    }

    fn inode(&mut self, id: InodeId) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(not_found)
    }

    pub(super) fn path(&self, directory: DirectoryId, name: &str) -> String {
        let path = self.directories.get(&directory).map_or("", |directory| &directory.path);
        format!("{path}{name}")
    }

    /// Counts an operation on a directory; fails if a fault strikes.
    fn begin(&mut self, kind: OperationKind, id: DirectoryId, name: &str) -> io::Result<()> {
        let path = if self.faults.is_recording() { self.path(id, name) } else { String::new() };
        let operation = || Operation { kind, path, offset: 0, bytes: 0 };
        match self.faults.strike(kind, operation)? {
            Some(fault) => Err(error_of(fault)),
            None => Ok(()),
        }
    }

    /// Counts an operation on a file and says what strikes.
    fn begin_file(
        &mut self,
        kind: OperationKind,
        id: InodeId,
        offset: u64,
        bytes: usize,
    ) -> io::Result<Option<Fault>> {
        let path = if self.faults.is_recording() { self.path_of(id) } else { String::new() };
        let operation = || Operation { kind, path, offset, bytes: bytes as u64 };
        self.faults.strike(kind, operation)
    }

    fn path_of(&self, id: InodeId) -> String {
        let mut found = self.directories.values().flat_map(|directory| {
            let names = directory.names.iter().filter(move |(_, inode)| **inode == id);
            names.map(|(name, _)| format!("{}{name}", directory.path))
        });
        found.next().unwrap_or_default()
    }

    pub(super) fn list(&mut self, id: DirectoryId) -> io::Result<Vec<String>> {
        self.begin(OperationKind::List, id, "")?;
        Ok(self.directory(id)?.names.keys().cloned().collect())
    }

    pub(super) fn subdirectories(&mut self, id: DirectoryId) -> io::Result<Vec<String>> {
        self.begin(OperationKind::List, id, "")?;
        Ok(self.directory(id)?.subdirectories.keys().cloned().collect())
    }

    pub(super) fn open(&mut self, id: DirectoryId, name: &str) -> io::Result<InodeId> {
        self.begin(OperationKind::Open, id, name)?;
        self.directory(id)?.names.get(name).copied().ok_or_else(not_found)
    }

    pub(super) fn create(&mut self, id: DirectoryId, name: &str) -> io::Result<InodeId> {
        self.begin(OperationKind::Create, id, name)?;
        if self.directory(id)?.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = InodeId(self.next_id());
        self.inodes.insert(inode, Inode::default());
        self.change(id, NameChange::Put { name: name.to_owned(), inode })?;
        Ok(inode)
    }

    pub(super) fn rename(&mut self, id: DirectoryId, from: &str, to: &str) -> io::Result<()> {
        self.begin(OperationKind::Rename, id, from)?;
        self.rename_file(id, from, to)
    }

    pub(super) fn rename_new(&mut self, id: DirectoryId, from: &str, to: &str) -> io::Result<()> {
        self.begin(OperationKind::Rename, id, from)?;
        if self.directory(id)?.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename_file(id, from, to)
    }

    fn rename_file(&mut self, id: DirectoryId, from: &str, to: &str) -> io::Result<()> {
        let inode = self.directory(id)?.names.get(from).copied().ok_or_else(not_found)?;
        self.change(id, NameChange::Move { from: from.to_owned(), to: to.to_owned(), inode })
    }

    pub(super) fn remove(&mut self, id: DirectoryId, name: &str) -> io::Result<()> {
        self.begin(OperationKind::Remove, id, name)?;
        if !self.directory(id)?.names.contains_key(name) {
            return Err(not_found());
        }
        self.change(id, NameChange::Drop { name: name.to_owned() })
    }

    fn change(&mut self, id: DirectoryId, change: NameChange) -> io::Result<()> {
        let directory = self.directory(id)?;
        change.clone().apply(&mut directory.names);
        directory.changes.push(change);
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, id: DirectoryId) -> io::Result<()> {
        self.begin(OperationKind::SyncDirectory, id, "")?;
        let directory = self.directory(id)?;
        directory.durable = directory.names.clone();
        directory.changes.clear();
        Ok(())
    }

    pub(super) fn subdirectory(&mut self, id: DirectoryId, name: &str) -> io::Result<DirectoryId> {
        self.begin(OperationKind::Subdirectory, id, name)?;
        if let Some(known) = self.directory(id)?.subdirectories.get(name) {
            return Ok(*known);
        }
        let path = format!("{}/", self.path(id, name));
        let child = DirectoryId(self.next_id());
        self.directories.insert(child, Directory { path, ..Directory::default() });
        self.directory(id)?.subdirectories.insert(name.to_owned(), child);
        Ok(child)
    }

    pub(super) fn take_lock(&mut self, id: DirectoryId, name: &str) -> io::Result<()> {
        self.begin(OperationKind::Lock, id, name)?;
        if self.directory(id)?.locks.insert(name.to_owned()) {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    pub(super) fn release_lock(&mut self, id: DirectoryId, name: &str, generation: u64) {
        if generation == self.generation
            && let Some(directory) = self.directories.get_mut(&id)
        {
            directory.locks.remove(name);
        }
    }

    pub(super) fn release_locks(&mut self) {
        self.directories.values_mut().for_each(|directory| directory.locks.clear());
    }

    pub(super) fn room(&mut self) -> io::Result<u64> {
        self.begin(OperationKind::Room, Medium::ROOT, "")?;
        Ok(self.room.map_or(u64::MAX, |room| room.saturating_sub(self.used())))
    }

    pub(super) fn set_room(&mut self, room: Option<u64>) {
        self.room = room;
    }

    pub(super) fn used(&self) -> u64 {
        let named = |id: &InodeId| {
            self.directories
                .values()
                .any(|directory| directory.names.values().any(|inode| inode == id))
        };
        self.inodes.iter().filter(|(id, _)| named(id)).map(|(_, inode)| inode.len()).sum()
    }

    pub(super) fn read(
        &mut self,
        id: InodeId,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        let count = match self.begin_file(OperationKind::Read, id, offset, buffer.len())? {
            None => buffer.len(),
            Some(Fault::Short(count)) => count.clamp(1, buffer.len().max(1)),
            Some(fault) => return Err(error_of(fault)),
        };
        let buffer = buffer.get_mut(..count).unwrap_or_default();
        self.inode(id)?.read(buffer, offset)
    }

    pub(super) fn write(&mut self, id: InodeId, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let fault = self.begin_file(OperationKind::Write, id, offset, buffer.len())?;
        let (count, offset) = match fault {
            None | Some(Fault::PowerOff) => (buffer.len(), offset),
            Some(Fault::Short(count)) => (count.clamp(1, buffer.len().max(1)), offset),
            Some(Fault::LoseWrite) => return Ok(buffer.len()),
            Some(Fault::Misdirect(distance)) => (buffer.len(), offset.saturating_add(distance)),
            Some(fault) => return Err(error_of(fault)),
        };
        let bytes = buffer.get(..count).unwrap_or(buffer);
        let count = self.fitting(id, offset, bytes.len())?;
        let bytes = bytes.get(..count).unwrap_or(bytes);
        self.inode(id)?.write(bytes, offset)?;
        match fault {
            Some(Fault::PowerOff) => Err(error_of(Fault::PowerOff)),
            _ => Ok(bytes.len()),
        }
    }

    /// How much of a write fits: all of it, or as much as there is room for, if any.
    fn fitting(&mut self, id: InodeId, offset: u64, count: usize) -> io::Result<usize> {
        let Some(room) = self.room else { return Ok(count) };
        let end = offset.saturating_add(count as u64);
        let growth = end.saturating_sub(self.inode(id)?.len());
        let missing = self.used().saturating_add(growth).saturating_sub(room);
        if growth == 0 || missing == 0 {
            return Ok(count);
        }
        self.faults.note_refused();
        let excess = usize::try_from(missing.min(growth)).unwrap_or(usize::MAX);
        match count.saturating_sub(excess) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            fits => Ok(fits),
        }
    }

    pub(super) fn sync(&mut self, id: InodeId, kind: OperationKind) -> io::Result<()> {
        let fault = self.begin_file(kind, id, 0, 0)?;
        let inode = self.inode(id)?;
        match fault {
            None => inode.sync(),
            Some(fault) => {
                if matches!(fault, Fault::Error(code) if Fault::Error(code) != Fault::EINTR) {
                    inode.abandon();
                }
                return Err(error_of(fault));
            }
        }
        Ok(())
    }

    pub(super) fn len(&mut self, id: InodeId) -> io::Result<u64> {
        match self.begin_file(OperationKind::Len, id, 0, 0)? {
            Some(fault) => Err(error_of(fault)),
            None => Ok(self.inode(id)?.len()),
        }
    }

    pub(super) fn set_len(&mut self, id: InodeId, len: u64) -> io::Result<()> {
        if let Some(fault) = self.begin_file(OperationKind::SetLen, id, len, 0)? {
            return Err(error_of(fault));
        }
        let growth = len.saturating_sub(self.inode(id)?.len());
        if growth > 0 && self.room.is_some_and(|room| self.used().saturating_add(growth) > room) {
            self.faults.note_refused();
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inode(id)?.set_len(len);
        Ok(())
    }

    pub(super) fn drop_cache(&mut self, id: InodeId) -> io::Result<()> {
        if let Some(fault) = self.begin_file(OperationKind::DropCache, id, 0, 0)? {
            return Err(error_of(fault));
        }
        self.inode(id)?.drop_cache();
        Ok(())
    }

    /// Cuts the power. Names are asked about first, then the files that are left.
    pub(super) fn crash(&mut self, choose: &mut dyn FnMut(&Pending) -> Fate) -> Crash {
        let mut crash = Crash::default();
        let mut choose = |pending: &Pending| {
            let fate = choose(pending);
            let counter = match fate {
                Fate::Keep => &mut crash.kept,
                Fate::Lose => &mut crash.lost,
                Fate::Tear { .. } | Fate::Garble { .. } => &mut crash.mangled,
            };
            *counter = counter.saturating_add(1);
            fate
        };
        let mut named = BTreeMap::new();
        for directory in self.directories.values_mut() {
            let mut names = std::mem::take(&mut directory.durable);
            for change in std::mem::take(&mut directory.changes) {
                let path = format!("{}{}", directory.path, change.name());
                if choose(&Pending::Name { path }) == Fate::Keep {
                    change.apply(&mut names);
                }
            }
            directory.names = names.clone();
            directory.durable = names;
            directory.locks.clear();
            for (name, inode) in &directory.names {
                named.insert(*inode, format!("{}{name}", directory.path));
            }
        }
        self.inodes.retain(|id, _| named.contains_key(id));
        for (id, inode) in &mut self.inodes {
            let path = named.get(id).map_or("", String::as_str);
            inode.crash(path, &mut choose);
        }
        self.generation = self.generation.saturating_add(1);
        self.faults.power_on();
        crash
    }

    fn find(&self, path: &str) -> Option<(DirectoryId, String, InodeId)> {
        self.directories.iter().find_map(|(id, directory)| {
            let name = path.strip_prefix(&directory.path)?;
            let inode = directory.names.get(name)?;
            Some((*id, name.to_owned(), *inode))
        })
    }

    pub(super) fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self
            .directories
            .values()
            .flat_map(|directory| {
                directory.names.keys().map(|name| format!("{}{name}", directory.path))
            })
            .collect();
        files.sort_unstable();
        files
    }

    pub(super) fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let (_, _, inode) = self.find(path)?;
        self.inodes.get(&inode).map(|inode| inode.data().to_vec())
    }

    pub(super) fn corrupt(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let found = self.find(path).and_then(|(_, _, id)| self.inodes.get_mut(&id));
        found.map(|inode| inode.corrupt(change)).is_some()
    }

    pub(super) fn damage(&mut self, path: &str, offset: u64, bytes: &[u8]) -> bool {
        let found = self.find(path).and_then(|(_, _, id)| self.inodes.get_mut(&id));
        found.is_some_and(|inode| inode.damage(offset, bytes))
    }

    pub(super) fn destroy(&mut self, path: &str) -> bool {
        let Some((id, name, _)) = self.find(path) else { return false };
        let Some(directory) = self.directories.get_mut(&id) else { return false };
        directory.durable.remove(&name);
        directory.names.remove(&name).is_some()
    }

    pub(super) fn spoil_sector(&mut self, path: &str, number: u64) -> bool {
        let found = self.find(path).and_then(|(_, _, id)| self.inodes.get_mut(&id));
        found.map(|inode| inode.spoil_sector(number)).is_some()
    }
}
