//! Where a recovery puts the new cluster: a directory of its own, in which nothing counts before
//! the identity names it.

use std::io;
use std::sync::Arc;

use wal::{Disk, LogId};

use super::super::flusher::Flushes;
use super::super::home::{HomeError, LOG, SNAPSHOTS, recovery_directory, write_charter};
use super::super::log_store::{Basis, LogError, LogStore, Successors};
use super::super::snapshot_store::SnapshotStore;
use super::super::suspect::Suspects;
use super::RescueError;
use super::harvest::Ground;
use crate::founding::Charter;
use crate::node::{Position, SnapshotPoint, Term};
use crate::state_machine::StateMachine;

/// Where the log is copied to, to be worked on.
const SCRATCH: &str = "scratch";

/// The directory of a recovery.
#[derive(Debug)]
pub(super) struct Target {
    base: Arc<dyn Disk>,
    log: Arc<dyn Disk>,
    snapshots: Arc<dyn Disk>,
    pub(super) scratch: Arc<dyn Disk>,
}

impl Target {
    pub(super) fn open(disk: &Arc<dyn Disk>, recovery: u32) -> Result<Self, HomeError> {
        let name = recovery_directory(recovery);
        let open = || -> io::Result<Self> {
            let base = disk.subdirectory(&name)?;
            let log = base.subdirectory(LOG)?;
            let snapshots = base.subdirectory(SNAPSHOTS)?;
            let scratch = base.subdirectory(SCRATCH)?;
            Ok(Self { base, log, snapshots, scratch })
        };
        open().map_err(|source| HomeError::Io { path: disk.path(&name), source })
    }

    pub(super) fn path(&self) -> String {
        self.base.path("")
    }

    /// Removes whatever is in it.
    pub(super) fn clear(&self) -> Result<(), HomeError> {
        [&self.base, &self.log, &self.snapshots, &self.scratch].into_iter().try_for_each(empty)
    }

    /// Writes all that the new cluster starts with, and reads it back: a snapshot of the state, and
    /// a log that begins behind it.
    pub(super) fn write<M: StateMachine>(
        &self,
        charter: &Charter,
        machine: M,
        position: Position,
        term: Term,
        ground: &Ground<'_>,
    ) -> Result<LogId, RescueError> {
        empty(&self.scratch)?;
        let disk = Arc::clone(&self.snapshots);
        let store = SnapshotStore::new(disk, Arc::clone(ground.lock), ground.options.snapshots);
        let configuration = charter.configuration.clone();
        let image = machine.image();
        drop(machine);
        store.write::<M>(&SnapshotPoint { position, configuration }, image)?;

        let mut options = ground.options.clone();
        (options.successors, options.flushes) = (Successors::Inline, Flushes::Inline);
        let log_id = LogStore::begin(Arc::clone(&self.log), &options, term, None)?;
        let none = Suspects::Segments(Vec::new());
        let (mut log, _) = LogStore::open(Arc::clone(&self.log), &options, Basis::Nothing, &none)?;
        log.reset(position)?;
        log.close()?;
        let basis = Basis::Own(position.index);
        let (log, _) = LogStore::open(Arc::clone(&self.log), &options, basis, &none)?;
        if log.start() != position || log.hard_state()?.term < term {
            let what = "the new log does not read as it was written".to_string();
            return Err(LogError::Meaning(what).into());
        }
        log.close()?;
        write_charter(self.base.as_ref(), charter)?;
        Ok(log_id)
    }
}

fn empty(disk: &Arc<dyn Disk>) -> Result<(), HomeError> {
    let clear = || -> io::Result<()> {
        let names = disk.list()?;
        names.iter().try_for_each(|name| disk.remove(name))?;
        if names.is_empty() { Ok(()) } else { disk.sync() }
    };
    clear().map_err(|source| HomeError::Io { path: disk.path(""), source })
}
