//! Snapshots outside of any server's directory: saving one that comes as a stream, and looking at a
//! file that somebody has kept. The format is that of a server's own, so either can be looked at.

use std::io::{self, Read, Write};
use std::sync::Arc;

use wal::disk::{read_exact_at, uninterrupted};
use wal::{Disk, File};

use super::snapshot_file::{
    Head, PieceSizes, Reading, SECTOR, SnapshotError, StateHasher, StateReader, StateWriter,
    StopFlag, check_block, to_size,
};
use super::snapshot_store::SnapshotOptions;
use crate::node::{Configuration, Position, SnapshotId, SnapshotPoint};

/// A snapshot that is being saved to a file. The file has its name once it is whole and durable;
/// dropped before that, nothing is left of it.
///
/// Memory holds one piece of it, whatever its size.
#[derive(Debug)]
pub struct Saving {
    disk: Arc<dyn Disk>,
    name: String,
    temporary: String,
    /// `None` once it is finished.
    writer: Option<StateWriter>,
}

impl Saving {
    /// Begins to save a snapshot to the file `name`, which must not exist. `tag` tells this attempt
    /// from any other that may run at the same time.
    ///
    /// # Errors
    /// There is such a file, or the disk failed.
    pub fn begin(
        disk: Arc<dyn Disk>,
        name: &str,
        tag: u32,
        point: SnapshotPoint,
    ) -> Result<Self, SnapshotError> {
        let temporary = format!("{name}.part-{tag}");
        let failed = |name: &str, source| SnapshotError::Write { path: disk.path(name), source };
        let names = disk.list().map_err(|source| failed(name, source))?;
        if names.iter().any(|there| there == name) {
            return Err(failed(name, io::ErrorKind::AlreadyExists.into()));
        }
        if names.contains(&temporary) {
            disk.remove(&temporary).map_err(|source| failed(&temporary, source))?;
        }
        let file = disk.create(&temporary).map_err(|source| failed(&temporary, source))?;
        let SnapshotOptions { block_bytes, piece_bytes_max, .. } = SnapshotOptions::default();
        let sizes = PieceSizes { block_bytes, piece_bytes_max };
        let SnapshotPoint { position, configuration } = point;
        let stop = StopFlag::default();
        let writer = StateWriter::new(file, position, configuration, sizes, stop);
        Ok(Self { disk, name: name.to_string(), temporary, writer: Some(writer) })
    }

    /// Takes the next part of the state.
    ///
    /// # Errors
    /// The disk failed, or is full.
    pub fn write(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        let written = self.writer.as_mut().map_or(Ok(()), |writer| writer.write_all(state));
        written.map_err(|source| self.failed(source))
    }

    /// Ends the file, whose state must have this hash, makes it durable and gives it its name.
    ///
    /// # Errors
    /// The state is another one, somebody else took the name, or the disk failed.
    pub fn finish(mut self, hash: [u8; 16]) -> Result<SnapshotId, SnapshotError> {
        let Some(writer) = self.writer.take() else { return Err(SnapshotError::Stopped) };
        let result = self.end(writer, hash);
        if result.is_err() {
            self.discard();
        }
        result
    }

    fn end(&self, writer: StateWriter, hash: [u8; 16]) -> Result<SnapshotId, SnapshotError> {
        let id = writer.finish().map_err(|source| self.failed(source))?;
        if id.hash != hash {
            let what = "it did not arrive as it was sent: its hash is another one".to_string();
            return Err(SnapshotError::Damaged { path: self.disk.path(&self.name), what });
        }
        let named = self.disk.rename_new(&self.temporary, &self.name);
        let named = named.and_then(|()| uninterrupted(|| self.disk.sync()));
        named.map_err(|source| self.failed(source))?;
        Ok(id)
    }

    fn failed(&self, source: io::Error) -> SnapshotError {
        SnapshotError::Write { path: self.disk.path(&self.name), source }
    }

    fn discard(&self) {
        // There is nothing that could be done about one that stays.
        let _ = self.disk.remove(&self.temporary);
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.discard();
        }
    }
}

/// What a snapshot says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// The last entry that it stands for.
    pub position: Position,
    /// The size of the file.
    pub bytes: u64,
    /// The hash of all of it.
    pub hash: [u8; 16],
    /// The members of the cluster at that entry.
    pub configuration: Configuration,
    /// The size of the state in it.
    pub state_bytes: u64,
}

impl From<Head> for SnapshotFacts {
    fn from(head: Head) -> Self {
        let SnapshotId { position, bytes, hash } = head.id;
        let (configuration, state_bytes) = (head.configuration, head.state_bytes);
        Self { position, bytes, hash, configuration, state_bytes }
    }
}

/// A damaged place in a snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// What it is.
    pub what: String,
}

/// A snapshot's file that somebody has kept.
#[derive(Debug)]
pub struct SnapshotFile {
    file: Box<dyn File>,
    path: String,
    head: Head,
}

impl SnapshotFile {
    /// Opens a file and reads what it says that it is.
    ///
    /// # Errors
    /// It cannot be read, is none, is cut short, or a newer program wrote it.
    pub fn open(disk: &dyn Disk, name: &str) -> Result<Self, SnapshotError> {
        let path = disk.path(name);
        let unreadable = |error: io::Error| SnapshotError::Damaged {
            path: path.clone(),
            what: error.to_string(),
        };
        let file = disk.open(name).map_err(unreadable)?;
        // Nothing is lost if the cache stays.
        let _ = file.drop_cache();
        let head = Head::read(file.as_ref(), &path)?;
        Ok(Self { file, path, head })
    }

    /// What it says that it is.
    #[must_use]
    pub fn facts(&self) -> SnapshotFacts {
        self.head.clone().into()
    }

    /// Has the state read, every byte of it checked.
    ///
    /// # Errors
    /// It is damaged, or what is read is no state.
    pub fn read_state<T>(
        &self,
        read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
    ) -> Result<T, SnapshotError> {
        let stop = StopFlag::default();
        let damaged = |error: io::Error| SnapshotError::Damaged {
            path: self.path.clone(),
            what: error.to_string(),
        };
        let mut reader = StateReader::open(self.file.as_ref(), &self.path, &stop)?;
        let state = read(&mut reader).map_err(damaged)?;
        reader.finish().map_err(damaged)?;
        Ok(state)
    }

    /// Reads every byte and says which places are damaged, at most [`FLAWS_MAX`] of them.
    #[must_use]
    pub fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let SnapshotId { bytes, .. } = self.head.id;
        let state_offset = self.head.state_offset();
        for (place, which) in [(0, "first"), (bytes.saturating_sub(SECTOR), "second")] {
            let told = match Head::read_at(self.file.as_ref(), place, bytes) {
                Ok(Reading::Whole(head)) if head == self.head => continue,
                Ok(Reading::Whole(_)) => "it differs from the other one".to_string(),
                Ok(Reading::Version(version)) => format!("its version is {version}"),
                Err(what) => what,
            };
            let offset = if place == 0 { 0 } else { bytes.saturating_sub(state_offset) };
            let what = format!("the {which} of the two headers is damaged: {told}");
            flaws.push(Flaw { offset, bytes: state_offset, what });
        }
        self.check_blocks(&mut flaws);
        flaws
    }

    fn check_blocks(&self, flaws: &mut Vec<Flaw>) {
        let SnapshotId { position, hash, .. } = self.head.id;
        let mut hasher = StateHasher::new(position, &self.head.configuration);
        let (mut offset, mut left) = (self.head.state_offset(), self.head.state_bytes);
        let (mut number, mut block) = (0, Vec::new());
        let before = flaws.len();
        while left > 0 && flaws.len() < FLAWS_MAX {
            let content = left.min(self.head.content_bytes());
            let bytes = content + 4;
            block.resize(to_size(bytes), 0);
            let told = match read_exact_at(self.file.as_ref(), &mut block, offset) {
                Err(error) => Some(error.to_string()),
                Ok(()) if !check_block(number, &block) => Some("its checksum is wrong".into()),
                Ok(()) => None,
            };
            let flaw = |told| Flaw { offset, bytes, what: format!("block {number}: {told}") };
            flaws.extend(told.map(flaw));
            hasher.update(block.get(4..).unwrap_or_default());
            (offset, number, left) = (offset + bytes, number + 1, left - content);
        }
        if flaws.len() == before && hasher.finish() != hash {
            let what = "the hash of the state is not the one in the header".to_string();
            let bytes = offset - self.head.state_offset();
            flaws.push(Flaw { offset: self.head.state_offset(), bytes, what });
        }
    }
}

/// As many damaged places of a file are told; who has more of them needs no list.
pub const FLAWS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use wal::sim_disk::{Fault, SimDisk};

    use super::*;
    use crate::node::{Incarnation, Index, Member, NodeId, Term, Voter};

    fn point() -> SnapshotPoint {
        let member = Member { id: NodeId::new("s1").unwrap(), incarnation: Incarnation(3) };
        let voters = vec![Voter { member, address: "127.0.0.1:1".into() }];
        let configuration = Configuration::new(voters).unwrap();
        SnapshotPoint { position: Position { index: Index(7), term: Term(2) }, configuration }
    }

    fn state() -> Vec<u8> {
        (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect()
    }

    fn hash() -> [u8; 16] {
        let SnapshotPoint { position, configuration } = point();
        let mut hasher = StateHasher::new(position, &configuration);
        hasher.update(&state());
        hasher.finish()
    }

    fn save(disk: &SimDisk, hash: [u8; 16]) -> Result<SnapshotId, SnapshotError> {
        let mut saving = Saving::begin(disk.disk(), "file", 1, point())?;
        state().chunks(1000).try_for_each(|part| saving.write(part))?;
        saving.finish(hash)
    }

    fn flaws(disk: &SimDisk) -> Vec<Flaw> {
        SnapshotFile::open(disk.disk().as_ref(), "file").unwrap().flaws()
    }

    #[test]
    fn a_saved_snapshot_survives_a_power_cut_and_is_whole() {
        let disk = SimDisk::new();
        let id = save(&disk, hash()).unwrap();
        disk.crash(1);
        assert_eq!(disk.files(), ["file"]);
        let file = SnapshotFile::open(disk.disk().as_ref(), "file").unwrap();
        let facts = file.facts();
        assert_eq!((facts.position, facts.hash), (point().position, id.hash));
        assert_eq!((facts.state_bytes, facts.configuration), (200_000, point().configuration));
        assert_eq!(file.flaws(), []);
        let read = |input: &mut dyn Read| {
            let mut read = Vec::new();
            input.read_to_end(&mut read)?;
            Ok(read)
        };
        assert!(file.read_state(read).unwrap() == state());
    }

    #[test]
    fn a_file_that_is_there_stays_and_what_does_not_become_one_goes() {
        let disk = SimDisk::new();
        let error = save(&disk, [0; 16]).unwrap_err();
        assert!(error.to_string().contains("did not arrive as it was sent"), "{error}");
        assert_eq!(disk.files(), Vec::<String>::new());
        disk.disk().create("file").unwrap();
        let error = save(&disk, hash()).unwrap_err();
        assert!(
            matches!(&error, SnapshotError::Write { source, .. }
            if source.kind() == io::ErrorKind::AlreadyExists),
            "{error}"
        );
        assert_eq!(disk.files(), ["file"]);
    }

    #[test]
    fn wherever_the_disk_fails_or_is_full_no_file_is_left() {
        let whole = SimDisk::new();
        save(&whole, hash()).unwrap();
        for fault in [Fault::EIO, Fault::ENOSPC] {
            // The last operation makes the name durable, which it has by then.
            for after in 0..whole.count(None) - 1 {
                let disk = SimDisk::new();
                disk.inject(after, None, fault);
                assert!(save(&disk, hash()).is_err(), "operation {after}");
                assert_eq!(disk.files(), Vec::<String>::new(), "operation {after}");
            }
        }
        let full = SimDisk::new();
        full.set_room(Some(100_000));
        assert!(save(&full, hash()).is_err());
        assert_eq!(full.files(), Vec::<String>::new());
    }

    #[test]
    fn any_flipped_byte_is_told_with_its_place() {
        let disk = SimDisk::new();
        let id = save(&disk, hash()).unwrap();
        let step = usize::try_from(id.bytes / 700).unwrap();
        for at in (0..id.bytes).step_by(step).chain(id.bytes - 600..id.bytes) {
            let rotten = disk.fork();
            assert!(rotten.corrupt("file", |bytes| bytes[usize::try_from(at).unwrap()] ^= 4));
            let flaws = flaws(&rotten);
            let covers = |flaw: &Flaw| (flaw.offset..flaw.offset + flaw.bytes).contains(&at);
            assert!(flaws.len() == 1 && flaws.iter().all(covers), "byte {at}: {flaws:?}");
        }
    }

    #[test]
    fn a_file_that_is_cut_short_or_none_is_refused_with_its_length() {
        let disk = SimDisk::new();
        let id = save(&disk, hash()).unwrap();
        assert!(disk.corrupt("file", |bytes| bytes.truncate(100_000)));
        let error = SnapshotFile::open(disk.disk().as_ref(), "file").unwrap_err();
        let words = format!("it has 100000 bytes and should have {}", id.bytes);
        assert!(error.to_string().contains(&words), "{error}");
        for content in [&b""[..], b"something else"] {
            assert!(disk.corrupt("file", |bytes| *bytes = content.to_vec()));
            assert!(SnapshotFile::open(disk.disk().as_ref(), "file").is_err());
        }
    }
}
