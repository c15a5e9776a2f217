//! Reads a file front to back through one reused buffer, and finds out exactly which bytes cannot
//! be read when the medium refuses a large piece.
//!
//! It also notices a medium that wavers. What is judged by one reading and wiped by another must
//! not have changed in between: a link that could not be read, and a moment later can, is no torn
//! end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::disk::{File, read_exact_at};
use crate::pool::is_not_opened;

/// How much is read at once: large enough for the device, small enough to stay in the cache of
/// the processor until its checksum is computed.
const READ_AHEAD_BYTES: u64 = 512 * 1024;

/// How many pieces that cannot be read are remembered: every sector of eight dead segments of the
/// usual size. A medium that refuses more is not judged at all.
const REFUSED_MAX: usize = 1 << 20;

/// A reused read buffer over one file at a time.
///
/// What was read of a file is not read again while that very file is looked at. A file that is
/// written to in between is therefore opened anew before it is looked at again.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The file that the buffer was filled from, kept so that no other is taken for it.
    file: Option<Arc<dyn File>>,
    buffer: Vec<u8>,
    begin: u64,
    filled: usize,
    /// Pieces that could not be read, by file and beginning; of those that begin alike the
    /// shortest, which is the first that can be found readable.
    refused: BTreeMap<(usize, u64), Refused>,
    /// Why nothing that was read may be judged.
    doubt: Option<io::Error>,
}

/// Where a piece of a file ends that could not be read, and what the system said.
#[derive(Debug)]
struct Refused {
    end: u64,
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl Refused {
    fn error(&self) -> io::Error {
        self.code.map_or_else(|| self.kind.into(), io::Error::from_raw_os_error)
    }
}

/// Files are told apart by where they are in memory, which holds as long as those that were looked
/// at are kept.
fn address(file: &dyn File) -> usize {
    std::ptr::from_ref(file).cast::<()>().addr()
}

impl Window {
    /// Forgets which pieces could not be read, before files are looked at anew.
    pub(crate) fn trust(&mut self) {
        self.refused.clear();
        self.doubt = None;
    }

    /// Why nothing that was read since then may be judged: a piece that could not be read could be
    /// read later, or a file could not be opened again.
    pub(crate) fn take_doubt(&mut self) -> Option<io::Error> {
        self.doubt.take()
    }

    fn note_refused(&mut self, file: &dyn File, offset: u64, length: u64, error: &io::Error) {
        if is_not_opened(error) {
            self.doubt = Some(io::Error::new(error.kind(), error.to_string()));
        }
        if self.refused.len() >= REFUSED_MAX {
            let text = format!("more than {REFUSED_MAX} pieces of the log could not be read");
            self.doubt = Some(io::Error::other(text));
            return;
        }
        let end = offset.saturating_add(length);
        let refused = Refused { end, kind: error.kind(), code: error.raw_os_error() };
        let shortest = self.refused.entry((address(file), offset)).or_insert(refused);
        shortest.end = shortest.end.min(end);
    }

    /// A piece was read: all of it can be.
    fn note_read(&mut self, file: &dyn File) {
        let (file, begin) = (address(file), self.begin);
        let end = begin.saturating_add(self.filled as u64);
        let mut inside = self.refused.range((file, begin)..(file, end));
        if let Some(((_, begin), refused)) = inside.find(|(_, it)| it.end <= end) {
            let why = refused.error();
            let what =
                format!("what stands at {begin} could not be read ({why}), and then it could");
            self.doubt = Some(io::Error::other(what));
        }
    }

    /// The bytes `offset..offset + length` of a file that is `end` bytes long.
    ///
    /// The buffer grows to `length` at most; callers check lengths against the file first.
    pub(crate) fn view(
        &mut self,
        file: &Arc<dyn File>,
        end: u64,
        offset: u64,
        length: u64,
    ) -> io::Result<&[u8]> {
        let past_end = offset.checked_add(length).is_none_or(|after| after > end);
        if past_end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !self.holds(file, offset, length) {
            self.file = Some(Arc::clone(file));
            if let Err(error) = self.fill(&**file, end, offset, length) {
                self.note_refused(&**file, offset, length, &error);
                return Err(error);
            }
            self.note_read(&**file);
        }
        let from = usize::try_from(offset.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        let to = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        self.buffer.get(from..to).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn holds(&self, file: &Arc<dyn File>, offset: u64, length: u64) -> bool {
        let is_same = self.file.as_ref().is_some_and(|held| Arc::ptr_eq(held, file));
        let held_end = self.begin.saturating_add(self.filled as u64);
        is_same && self.begin <= offset && offset.saturating_add(length) <= held_end
    }

    fn fill(&mut self, file: &dyn File, end: u64, offset: u64, length: u64) -> io::Result<()> {
        let ahead = length.max(READ_AHEAD_BYTES).min(end.saturating_sub(offset));
        match self.read(file, offset, ahead) {
            Err(_) if ahead > length => self.read(file, offset, length),
            result => result,
        }
    }

    fn read(&mut self, file: &dyn File, offset: u64, length: u64) -> io::Result<()> {
        self.filled = 0;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
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

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests {
    use super::*;
    use crate::disk::write_all_at;
    use crate::sim_disk::SimDisk;

    #[test]
    fn what_was_read_of_one_file_is_never_taken_for_another() {
        let disk = SimDisk::new().disk();
        for name in ["1", "2"] {
            let file = disk.create(name).unwrap();
            write_all_at(&*file, name.as_bytes(), 0).unwrap();
        }
        let open = |name| -> Arc<dyn File> { disk.open(name).unwrap().into() };
        let mut window = Window::default();
        let (one, two) = (open("1"), open("2"));
        for _ in 0..2 {
            assert_eq!(window.view(&one, 1, 0, 1).unwrap(), b"1");
            assert_eq!(window.view(&two, 1, 0, 1).unwrap(), b"2");
        }
        drop((one, two));
        // One that is opened when another was let go of may stand where that one stood.
        for _ in 0..20 {
            for name in ["1", "2"] {
                let file = open(name);
                assert_eq!(window.view(&file, 1, 0, 1).unwrap(), name.as_bytes());
            }
        }
    }
}
