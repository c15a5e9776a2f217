//! A disk on which something happens before a file is read or synced. All else is handed on.

use std::fmt;
use std::io;
use std::sync::Arc;

use wal::{Disk, File, Lock};

/// What happens then.
pub(crate) trait Twist: Send + Sync + fmt::Debug {
    /// Before a read of the file that was opened under this name. An error is the read's.
    fn before_read(&self, _name: &str, _offset: u64) -> io::Result<()> {
        Ok(())
    }

    /// Before an fdatasync.
    fn before_sync_data(&self) {}
}

#[derive(Debug)]
struct TwistedDisk {
    disk: Arc<dyn Disk>,
    twist: Arc<dyn Twist>,
}

#[derive(Debug)]
struct TwistedFile {
    file: Box<dyn File>,
    name: String,
    twist: Arc<dyn Twist>,
}

/// `disk`, with that twist.
pub(crate) fn twisted(disk: Arc<dyn Disk>, twist: Arc<dyn Twist>) -> Arc<dyn Disk> {
    Arc::new(TwistedDisk { disk, twist })
}

impl TwistedDisk {
    fn file(&self, file: Box<dyn File>, name: &str) -> Box<dyn File> {
        Box::new(TwistedFile { file, name: name.into(), twist: Arc::clone(&self.twist) })
    }
}

impl Disk for TwistedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.file(self.disk.open(name)?, name))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.file(self.disk.create(name)?, name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn lock(&self, name: &str) -> io::Result<Lock> {
        self.disk.lock(name)
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        self.disk.subdirectory(name)
    }

    fn room(&self) -> io::Result<u64> {
        self.disk.room()
    }

    fn path(&self, name: &str) -> String {
        self.disk.path(name)
    }
}

impl File for TwistedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.twist.before_read(&self.name, offset)?;
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.twist.before_sync_data();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}
