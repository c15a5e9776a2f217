//! Reads a file front to back through one reused buffer, and finds out exactly which bytes cannot
//! be read when the medium refuses a large piece.

use std::io;

use crate::disk::{File, read_exact_at};

/// How much is read at once: large enough for the device, small enough to stay in the cache of
/// the processor until its checksum is computed.
const READ_AHEAD_BYTES: u64 = 512 * 1024;

/// A reused read buffer over one file at a time.
#[derive(Debug, Default)]
pub(crate) struct Window {
    buffer: Vec<u8>,
    begin: u64,
    filled: usize,
}

impl Window {
    /// Forgets what was read, before another file is read or this one was changed.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// The bytes `offset..offset + length` of a file that is `end` bytes long.
    ///
    /// The buffer grows to `length` at most; callers check lengths against the file first.
    pub(crate) fn view(
        &mut self,
        file: &dyn File,
        end: u64,
        offset: u64,
        length: u64,
    ) -> io::Result<&[u8]> {
        let past_end = offset.checked_add(length).is_none_or(|after| after > end);
        if past_end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !self.holds(offset, length) {
            self.fill(file, end, offset, length)?;
        }
        let from = usize::try_from(offset.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        let to = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        self.buffer.get(from..to).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn holds(&self, offset: u64, length: u64) -> bool {
        let held_end = self.begin.saturating_add(self.filled as u64);
        self.begin <= offset && offset.saturating_add(length) <= held_end
    }

    fn fill(&mut self, file: &dyn File, end: u64, offset: u64, length: u64) -> io::Result<()> {
        let ahead = length.max(READ_AHEAD_BYTES).min(end.saturating_sub(offset));
        match self.read(file, offset, ahead) {
            Err(_) if ahead > length => self.read(file, offset, length),
            result => result,
        }
    }

    fn read(&mut self, file: &dyn File, offset: u64, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.filled = 0;
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let target = self.buffer.get_mut(..length).ok_or(io::ErrorKind::InvalidInput)?;
        read_exact_at(file, target, offset)?;
        self.begin = offset;
        self.filled = length;
        Ok(())
    }
}
