//! The snapshots of a server: files in a directory, each of which either has its final name and is
//! whole, or does not count. Everything here takes long, so it is made of functions that run
//! wherever their caller likes and share nothing but the directory.
//!
//! ```text
//! {index:016x}-{term:016x}.own         written by this server, out of its own log
//! {index:016x}-{term:016x}.received    sent by another one
//! {index}-{term}-{bytes}-{hash}.part   being received; says in its name what it will be
//! *.writing                            being written
//! ```

use std::io;
use std::sync::Arc;

use wal::Disk;
use wal::disk::{uninterrupted, write_all_at};

use super::snapshot_file::{
    Head, PieceSizes, SnapshotError, StateReader, StateWriter, StopFlag, whole_prefix,
};
use crate::node::{Configuration, Index, Position, SnapshotId, SnapshotPoint, Term};
use crate::state_machine::StateMachine;

/// Where a snapshot comes from. Only an own one proves that the log once reached its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Another server sent it.
    Received,
    /// This server wrote it.
    Own,
}

impl Origin {
    fn extension(self) -> &'static str {
        match self {
            Origin::Own => "own",
            Origin::Received => "received",
        }
    }
}

/// A file whose name says that it is a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stored {
    pub(super) position: Position,
    pub(super) origin: Origin,
}

impl Stored {
    pub(super) fn name(self) -> String {
        let Position { index, term } = self.position;
        format!("{:016x}-{:016x}.{}", index.0, term.0, self.origin.extension())
    }

    fn parse(name: &str) -> Option<Self> {
        let (position, extension) = name.split_once('.')?;
        let (index, term) = position.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let position = Position { index: Index(number(index)?), term: Term(number(term)?) };
        let origin = match extension {
            "own" => Origin::Own,
            "received" => Origin::Received,
            _ => return None,
        };
        let stored = Self { position, origin };
        (stored.name() == name).then_some(stored)
    }
}

fn part_name(id: SnapshotId) -> String {
    let hash: String = id.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let Position { index, term } = id.position;
    format!("{:016x}-{:016x}-{:016x}-{hash}.part", index.0, term.0, id.bytes)
}

/// How snapshots are written and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// What one checksum covers, and the most that is sent again of what was received already.
    pub block_bytes: u32,
    /// How much is written between two syncs: a sync of the log may wait for one such piece.
    pub piece_bytes_max: u64,
    /// How much is sent in one message.
    pub chunk_bytes_max: u64,
    /// How much is sent in the time of one heartbeat, to all followers together.
    pub bytes_per_heartbeat: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            block_bytes: 64 << 10,
            piece_bytes_max: 4 << 20,
            chunk_bytes_max: 256 << 10,
            bytes_per_heartbeat: 1 << 20,
        }
    }
}

/// A directory of snapshots. Clones share it, and keep it locked.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    /// Nobody else may open the directory while long work may still touch it.
    _lock: Arc<wal::Lock>,
    options: SnapshotOptions,
    stop: StopFlag,
}

impl SnapshotStore {
    pub(crate) fn new(disk: Arc<dyn Disk>, lock: Arc<wal::Lock>, options: SnapshotOptions) -> Self {
        Self { disk, _lock: lock, options, stop: StopFlag::default() }
    }

    /// Ends all long work soon: its server stops.
    pub fn stop(&self) {
        self.stop.raise();
    }

    /// Bytes that may still be allocated here.
    pub(crate) fn room(&self) -> u64 {
        self.disk.room().unwrap_or(0)
    }

    pub(crate) fn options(&self) -> SnapshotOptions {
        self.options
    }

    /// The snapshots there are, the best to start from last.
    pub(super) fn list(&self) -> io::Result<Vec<Stored>> {
        let mut stored: Vec<Stored> =
            self.disk.list()?.iter().filter_map(|name| Stored::parse(name)).collect();
        stored.sort_unstable();
        Ok(stored)
    }

    /// Removes what a crash left half written.
    pub(super) fn tidy(&self) -> io::Result<()> {
        for name in self.disk.list()?.iter().filter(|name| name.ends_with(".writing")) {
            self.disk.remove(name)?;
        }
        Ok(())
    }

    /// Writes a state as a snapshot: durable under its name, and read back from the medium, when
    /// this returns.
    pub(crate) fn write<M: StateMachine>(
        &self,
        point: &SnapshotPoint,
        image: M::Image,
    ) -> Result<SnapshotId, SnapshotError> {
        let stored = Stored { position: point.position, origin: Origin::Own };
        let temporary = format!("{}.writing", stored.name());
        let failed = |source| self.write_error(&temporary, source);
        let id = self.write_file::<M>(&temporary, point, image).map_err(failed)?;
        self.give_name(&temporary, stored).map_err(failed)?;
        let found = self.verify(stored)?;
        match found == id {
            true => Ok(id),
            false => Err(self.damaged(stored, "it does not read as it was written".into())),
        }
    }

    fn write_file<M: StateMachine>(
        &self,
        temporary: &str,
        point: &SnapshotPoint,
        image: M::Image,
    ) -> io::Result<SnapshotId> {
        self.remove_if_there(temporary)?;
        let file = self.disk.create(temporary)?;
        let SnapshotPoint { position, configuration } = point.clone();
        let SnapshotOptions { block_bytes, piece_bytes_max, .. } = self.options;
        let sizes = PieceSizes { block_bytes, piece_bytes_max };
        let stop = self.stop.clone();
        let mut out = StateWriter::new(file, position, configuration, sizes, stop);
        M::write(image, &mut out)?;
        out.finish()
    }

    fn give_name(&self, temporary: &str, stored: Stored) -> io::Result<()> {
        self.stop.check()?;
        self.disk.rename(temporary, &stored.name())?;
        uninterrupted(|| self.disk.sync())
    }

    /// Reads a snapshot from the medium, all of it, and says which it is.
    pub(super) fn verify(&self, stored: Stored) -> Result<SnapshotId, SnapshotError> {
        let head = self.read(stored, |mut reader| {
            io::copy(&mut reader, &mut io::sink())?;
            reader.finish()
        })?;
        Ok(head.id)
    }

    /// Whether the snapshot of this name is still what it was.
    pub(crate) fn check(&self, id: SnapshotId) -> Result<(), SnapshotError> {
        let stored = self.find(id)?;
        match self.verify(stored)? == id {
            true => Ok(()),
            false => Err(self.damaged(stored, "another snapshot has its name".into())),
        }
    }

    /// Makes a state machine out of a snapshot, checking every byte of it.
    pub(super) fn restore<M: StateMachine>(
        &self,
        stored: Stored,
    ) -> Result<(Head, M), SnapshotError> {
        let (head, machine) = self.read(stored, |mut reader| {
            let machine = M::restore(&mut reader)?;
            Ok((reader.finish()?, machine))
        })?;
        if head.id.position != stored.position || machine.applied() != stored.position.index {
            let what = format!("it is of {}, not of {}", head.id.position, stored.position);
            return Err(self.damaged(stored, what));
        }
        Ok((head, machine))
    }

    fn read<T>(
        &self,
        stored: Stored,
        read: impl FnOnce(StateReader<'_>) -> io::Result<T>,
    ) -> Result<T, SnapshotError> {
        let name = stored.name();
        let unreadable = |error: io::Error| self.damaged(stored, error.to_string());
        let file = self.disk.open(&name).map_err(unreadable)?;
        let reader = StateReader::open(file.as_ref(), &self.disk.path(&name), &self.stop)?;
        read(reader).map_err(|error| match self.stop.is_raised() {
            true => SnapshotError::Stopped,
            false => unreadable(error),
        })
    }

    /// What a snapshot stands for, as far as that can be read of a damaged one.
    pub(super) fn head(&self, stored: Stored) -> Result<Head, SnapshotError> {
        let name = stored.name();
        let file =
            self.disk.open(&name).map_err(|error| self.damaged(stored, error.to_string()))?;
        Head::read(file.as_ref(), &self.disk.path(&name))
    }

    /// Removes all snapshots that are older than the newest of `needed` and not among them.
    pub(crate) fn prune(&self, needed: &[SnapshotId]) -> io::Result<u64> {
        let newest = needed.iter().map(|id| id.position.index).max().unwrap_or_default();
        let is_needed = |stored: &Stored| needed.iter().any(|id| id.position == stored.position);
        let mut removed = 0;
        for stored in self.list()? {
            if stored.position.index < newest && !is_needed(&stored) {
                self.disk.remove(&stored.name())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes a received snapshot that is not wanted after all.
    pub(crate) fn discard_received(&self, id: SnapshotId) -> io::Result<()> {
        let stored = Stored { position: id.position, origin: Origin::Received };
        self.remove_if_there(&stored.name())
    }

    // ------------------------------------------------------------------ sending and receiving

    /// Bytes of a snapshot's file, to be sent.
    pub(crate) fn read_chunk(
        &self,
        id: SnapshotId,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<u8>, SnapshotError> {
        let stored = self.find(id)?;
        let read = || -> io::Result<Vec<u8>> {
            let file = self.disk.open(&stored.name())?;
            let mut chunk = vec![0; usize::try_from(bytes).unwrap_or(0)];
            wal::disk::read_exact_at(file.as_ref(), &mut chunk, offset)?;
            Ok(chunk)
        };
        read().map_err(|error| self.damaged(stored, error.to_string()))
    }

    fn find(&self, id: SnapshotId) -> Result<Stored, SnapshotError> {
        let of = |origin| Stored { position: id.position, origin };
        let is_it = |stored: &Stored| self.head(*stored).is_ok_and(|head| head.id == id);
        let found = [Origin::Own, Origin::Received].map(of).into_iter().find(is_it);
        found.ok_or_else(|| self.damaged(of(Origin::Own), "it is gone, or damaged".into()))
    }

    /// Begins to receive a snapshot, or goes on where an earlier attempt ended. Returns how much
    /// of it is here. What was being received of others is removed.
    pub(crate) fn begin_receiving(&self, id: SnapshotId) -> Result<u64, SnapshotError> {
        let name = part_name(id);
        let begin = || -> io::Result<u64> {
            let mut is_here = false;
            if self.disk.room()? < id.bytes {
                return Err(io::ErrorKind::StorageFull.into());
            }
            for other in self.disk.list()?.iter().filter(|name| name.ends_with(".part")) {
                match *other == name {
                    true => is_here = true,
                    false => self.disk.remove(other)?,
                }
            }
            if is_here {
                let file = self.disk.open(&name)?;
                return Ok(whole_prefix(file.as_ref(), id, &self.stop));
            }
            drop(self.disk.create(&name)?);
            uninterrupted(|| self.disk.sync())?;
            Ok(0)
        };
        begin().map_err(|source| self.write_error(&name, source))
    }

    /// Writes a piece of a snapshot that is being received, durably.
    pub(crate) fn write_piece(
        &self,
        id: SnapshotId,
        offset: u64,
        pieces: &[bytes::Bytes],
    ) -> Result<(), SnapshotError> {
        let name = part_name(id);
        let write = || -> io::Result<()> {
            let file = self.disk.open(&name)?;
            let mut offset = offset;
            for piece in pieces {
                write_all_at(file.as_ref(), piece, offset)?;
                offset += piece.len() as u64;
            }
            uninterrupted(|| file.sync_data())
        };
        write().map_err(|source| self.write_error(&name, source))
    }

    /// Ends receiving: checks every byte, makes the state machine, and gives the file its name.
    /// One that is not what it should be is removed, to be fetched anew.
    pub(crate) fn finish_receiving<M: StateMachine>(
        &self,
        id: SnapshotId,
    ) -> Result<(Configuration, M), SnapshotError> {
        let stored = Stored { position: id.position, origin: Origin::Received };
        let name = part_name(id);
        let failed = |source| self.write_error(&name, source);
        let result = self.restore_part(id, &name);
        if matches!(result, Err(SnapshotError::Damaged { .. })) {
            self.remove_if_there(&name).map_err(failed)?;
        }
        let restored = result?;
        self.give_name(&name, stored).map_err(failed)?;
        Ok(restored)
    }

    fn restore_part<M: StateMachine>(
        &self,
        id: SnapshotId,
        name: &str,
    ) -> Result<(Configuration, M), SnapshotError> {
        let path = self.disk.path(name);
        let damaged = |what: String| SnapshotError::Damaged { path: path.clone(), what };
        let unreadable = |error: io::Error| match self.stop.is_raised() {
            true => SnapshotError::Stopped,
            false => damaged(error.to_string()),
        };
        let file = self.disk.open(name).map_err(unreadable)?;
        uninterrupted(|| file.sync_all()).map_err(|source| self.write_error(name, source))?;
        let mut reader = StateReader::open(file.as_ref(), &path, &self.stop)?;
        let machine = M::restore(&mut reader).map_err(unreadable)?;
        let head = reader.finish().map_err(unreadable)?;
        if head.id != id || machine.applied() != id.position.index {
            return Err(damaged("it is not the snapshot that was offered".into()));
        }
        Ok((head.configuration, machine))
    }

    fn remove_if_there(&self, name: &str) -> io::Result<()> {
        match self.disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn damaged(&self, stored: Stored, what: String) -> SnapshotError {
        SnapshotError::Damaged { path: self.disk.path(&stored.name()), what }
    }

    fn write_error(&self, name: &str, source: io::Error) -> SnapshotError {
        match self.stop.is_raised() {
            true => SnapshotError::Stopped,
            false => SnapshotError::Write { path: self.disk.path(name), source },
        }
    }
}
