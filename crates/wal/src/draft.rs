//! A disk that keeps every change to itself, over one that is only read: whatever is to be done to
//! a log can be tried on it first, to tell exactly what would come of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::backup::read_or_zeros;
use crate::disk::{Disk, File, Lock};
use crate::locked::locked;

/// The unit in which changes are kept. Zeros take no memory.
const PAGE_BYTES: u64 = 4096;

/// A directory with changes that nobody else sees.
#[derive(Debug)]
pub(crate) struct DraftDisk {
    base: Arc<dyn Disk>,
    names: Mutex<BTreeMap<String, Name>>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
enum Name {
    /// A file of the disk below, under the name that it has there, as long as nobody opened it.
    Untouched(String),
    Opened(Arc<DraftFileState>),
}

/// A file and what was written to it.
#[derive(Debug)]
struct DraftFileState {
    base: Option<Box<dyn File>>,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    length: u64,
    /// By page number; `None` is a page of zeros.
    pages: BTreeMap<u64, Option<Vec<u8>>>,
}

impl DraftDisk {
    /// A draft that begins with what is there.
    pub(crate) fn over(base: Arc<dyn Disk>) -> io::Result<Arc<DraftDisk>> {
        let names = base.list()?.into_iter().map(|name| (name.clone(), Name::Untouched(name)));
        let names = Mutex::new(names.collect());
        Ok(Arc::new(DraftDisk { base, names }))
    }

    /// The names of files that were made or written to here.
    pub(crate) fn changed(&self) -> Vec<String> {
        let names = locked(&self.names);
        let is_changed = |name: &Name| match name {
            Name::Untouched(_) => false,
            Name::Opened(draft) => draft.base.is_none() || !locked(&draft.changes).pages.is_empty(),
        };
        names.iter().filter(|(_, it)| is_changed(it)).map(|(name, _)| name.clone()).collect()
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for DraftDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(locked(&self.names).keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut names = locked(&self.names);
        let entry = names.get_mut(name).ok_or_else(not_found)?;
        let draft = match entry {
            Name::Opened(draft) => Arc::clone(draft),
            Name::Untouched(original) => {
                let base = self.base.open(original)?;
                let changes = Changes { length: base.len()?, pages: BTreeMap::new() };
                Arc::new(DraftFileState { base: Some(base), changes: Mutex::new(changes) })
            }
        };
        *entry = Name::Opened(Arc::clone(&draft));
        Ok(Box::new(DraftFile { draft }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut names = locked(&self.names);
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let changes = Changes { length: 0, pages: BTreeMap::new() };
        let draft = Arc::new(DraftFileState { base: None, changes: Mutex::new(changes) });
        names.insert(name.to_owned(), Name::Opened(Arc::clone(&draft)));
        Ok(Box::new(DraftFile { draft }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut names = locked(&self.names);
        let moved = names.remove(from).ok_or_else(not_found)?;
        names.insert(to.to_owned(), moved);
        Ok(())
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        if locked(&self.names).contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        locked(&self.names).remove(name).map(drop).ok_or_else(not_found)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// A draft has one owner, who holds the lock of the disk below.
    fn lock(&self, _: &str) -> io::Result<Lock> {
        Ok(Lock::new(()))
    }

    fn subdirectory(&self, _: &str) -> io::Result<Arc<dyn Disk>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn room(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn path(&self, name: &str) -> String {
        self.base.path(name)
    }
}

#[derive(Debug)]
struct DraftFile {
    draft: Arc<DraftFileState>,
}

/// The page that an offset is in, and where in it.
fn place(offset: u64) -> (u64, usize) {
    let within = usize::try_from(offset % PAGE_BYTES).unwrap_or_default();
    (offset / PAGE_BYTES, within)
}

/// As much of a buffer as lies within one page from `within` on.
fn in_page(length: usize, within: usize) -> usize {
    let page = usize::try_from(PAGE_BYTES).unwrap_or(usize::MAX);
    length.min(page.saturating_sub(within))
}

impl DraftFile {
    /// A whole page as it was before a write to a part of it. What cannot be read of it is zeros,
    /// as it is in a copy: it may be the very part that is written.
    fn page(&self, changes: &Changes, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; usize::try_from(PAGE_BYTES).unwrap_or_default()];
        match (changes.pages.get(&number), &self.draft.base) {
            (Some(None), _) | (None, None) => {}
            (Some(Some(changed)), _) => page.clone_from(changed),
            (None, Some(base)) => {
                let offset = number.saturating_mul(PAGE_BYTES);
                let held = base.len()?.saturating_sub(offset).min(PAGE_BYTES);
                let held = usize::try_from(held).unwrap_or_default();
                if let Some(held) = page.get_mut(..held) {
                    read_or_zeros(&**base, held, offset);
                }
            }
        }
        Ok(page)
    }
}

impl File for DraftFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let changes = locked(&self.draft.changes);
        let left = changes.length.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let (number, within) = place(offset);
        if let (Some(base), false) = (&self.draft.base, changes.pages.contains_key(&number)) {
            // From the disk below in one piece, up to the next page that was changed.
            let next = changes.pages.range(number..).next().map(|(next, _)| *next);
            let until = next.map_or(u64::MAX, |next| next.saturating_mul(PAGE_BYTES));
            let reach = until.saturating_sub(offset).min(length as u64);
            let reach = usize::try_from(reach).unwrap_or_default();
            let target = buffer.get_mut(..reach).unwrap_or_default();
            return base.read_at(target, offset);
        }
        let length = in_page(length, within);
        let target = buffer.get_mut(..length).unwrap_or_default();
        match changes.pages.get(&number) {
            Some(Some(page)) => {
                let held = page.get(within..within.saturating_add(length)).unwrap_or_default();
                target.copy_from_slice(held);
            }
            Some(None) | None => target.fill(0),
        }
        Ok(length)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        let mut changes = locked(&self.draft.changes);
        let (number, within) = place(offset);
        let length = in_page(buffer.len(), within);
        let bytes = buffer.get(..length).unwrap_or_default();
        let is_whole = length as u64 == PAGE_BYTES;
        if is_whole && bytes.iter().all(|byte| *byte == 0) {
            changes.pages.insert(number, None);
        } else {
            let mut page = if is_whole { bytes.to_vec() } else { self.page(&changes, number)? };
            if let Some(target) = page.get_mut(within..within.saturating_add(length)) {
                target.copy_from_slice(bytes);
            }
            changes.pages.insert(number, Some(page));
        }
        changes.length = changes.length.max(offset.saturating_add(length as u64));
        Ok(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.draft.changes).length)
    }

    /// No file of a log is ever cut or extended.
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}
