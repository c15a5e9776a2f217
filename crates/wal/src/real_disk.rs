//! The disk of the operating system: plain files, `pwrite`, `fdatasync`, `flock`.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::disk::{Disk, File, Lock};

/// One directory of a real file system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    /// Kept open, because only an fsync of the directory makes names durable.
    directory: fs::File,
}

impl RealDisk {
    /// Opens a directory, creating it and its missing parents durably.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Arc<dyn Disk>> {
        let path = path.as_ref().to_path_buf();
        create_directories(&path)?;
        let directory = fs::File::open(&path)?;
        Ok(Arc::new(RealDisk { path, directory }))
    }
}

/// Creates `path` and its missing parents, each made durable in its own parent: a directory whose
/// name is lost takes everything in it along.
fn create_directories(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_directories(parent)?;
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    fs::File::open(parent)?.sync_all()
}

/// The names of all files in a directory, sorted.
pub(crate) fn file_names(path: &Path) -> io::Result<Vec<String>> {
    names_of(path, fs::FileType::is_file)
}

/// The names of all directories in a directory, sorted.
pub(crate) fn directory_names(path: &Path) -> io::Result<Vec<String>> {
    names_of(path, fs::FileType::is_dir)
}

fn names_of(path: &Path, wanted: fn(&fs::FileType) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for item in fs::read_dir(path)? {
        let item = item?;
        if wanted(&item.file_type()?)
            && let Ok(name) = item.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        file_names(&self.path)
    }

    fn subdirectories(&self) -> io::Result<Vec<String>> {
        directory_names(&self.path)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Box::new(RealFile::new(file)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(self.path.join(name))?;
        Ok(Box::new(RealFile::new(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let directory = &self.directory;
        let flags = RenameFlags::NOREPLACE;
        match renameat_with(directory, from, directory, to, flags) {
            // Some file systems know only the older way to take a name that must be free.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::hard_link(self.path.join(from), self.path.join(to))?;
                fs::remove_file(self.path.join(from))
            }
            result => Ok(result?),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        let mut options = fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        RealDisk::open(self.path.join(name))
    }

    fn room(&self) -> io::Result<u64> {
        let statistics = rustix::fs::fstatvfs(&self.directory)?;
        Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

#[derive(Debug)]
pub(crate) struct RealFile {
    file: fs::File,
}

impl RealFile {
    pub(crate) fn new(file: fs::File) -> RealFile {
        RealFile { file }
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?)
    }
}
