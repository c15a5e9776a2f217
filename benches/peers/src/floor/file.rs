//! A file of zeros that is written over and over: a sync need not change anything but its blocks.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use load::Result;

const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The file, and where the next bytes go.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    at: u64,
}

impl Journal {
    /// Makes the file and fills it.
    pub(crate) fn make(path: &Path) -> Result<Journal> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..FILE_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Journal { file, at: 0 })
    }

    /// Writes and syncs.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.at + bytes.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(rustix::fs::fdatasync(&self.file)?)
    }
}
