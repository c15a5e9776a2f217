//! The least that the machine must do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Writes bytes one after another into a file of zeros and makes each write durable: what any log
/// must do at the very least. It knows no format, no checksum and no recovery.
#[derive(Debug)]
pub struct RawLog {
    file: File,
    offset: u64,
    capacity: u64,
}

impl RawLog {
    /// A file of `capacity` bytes, all zeros and durable, so that no write changes its size.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, capacity: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        let mut filled = 0;
        while filled < capacity {
            let portion = zeros.get(..usize::try_from(capacity - filled).unwrap_or(zeros.len()));
            let portion = portion.unwrap_or(&zeros);
            file.write_all_at(portion, filled)?;
            filled += portion.len() as u64;
        }
        file.sync_all()?;
        Ok(Self { file, offset: 0, capacity })
    }

    /// Writes `bytes` and waits until they are durable. At the end of the file it begins anew.
    ///
    /// # Errors
    /// The write or the sync failed.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        if self.offset + length > self.capacity {
            self.offset = 0;
        }
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += length;
        rustix::fs::fdatasync(&self.file)?;
        Ok(())
    }
}
