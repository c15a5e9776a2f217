//! Looking at the directory of a server that does not run: whose it is, what it agreed to, and
//! whether a start would find what it needs.

use std::io;
use std::sync::Arc;

use wal::{Disk, Lock};

use super::directory::lock_home;
use super::home::{
    HomeError, LOG, SNAPSHOTS, find_base, find_charter, find_identity, other_log, refuse_if_noted,
};
use super::identity::{Identity, Stage};
use super::log_store::LogError;
use super::snapshot_file::SnapshotError;
use super::snapshot_store::{Origin, SnapshotOptions, SnapshotStore};
use crate::founding::Charter;
use crate::node::Index;

/// What a directory says without its log's contents. Nobody can start a server on it meanwhile.
///
/// Nothing is written: on a [`wal::ReadOnlyDisk`] not even a missing lock file is made.
#[derive(Debug)]
pub struct Survey {
    /// Who the server is, as far as that can be read.
    pub identity: Option<Identity>,
    /// One of the two copies of the identity is damaged. The next start writes it again.
    pub is_identity_damaged: bool,
    /// What the server agreed to found its cluster with, as far as that can be read.
    pub charter: Option<Charter>,
    /// Why a start would refuse, log apart: each of them is [`HomeError::LostHistory`].
    pub lost: Vec<HomeError>,
    /// The directory of the log, if there is one with a log in it.
    pub log: Option<Arc<dyn Disk>>,
    /// Where everything but lock and identity lies, if that is not the directory itself: it was
    /// recovered.
    pub base: Option<Arc<dyn Disk>>,
    /// The directory of the snapshots, if there is one.
    snapshots: Option<Arc<dyn Disk>>,
    lock: Arc<Lock>,
}

impl Survey {
    /// Looks at a directory; `None` if it is not a server's.
    ///
    /// # Errors
    /// A server runs on it, a newer program wrote it, or the disk failed.
    pub fn take(disk: &dyn Disk) -> Result<Option<Self>, HomeError> {
        let lock = lock_home(disk)?;
        let mut survey = Self {
            identity: None,
            is_identity_damaged: false,
            charter: None,
            lost: Vec::new(),
            log: None,
            base: None,
            snapshots: None,
            lock: Arc::new(lock),
        };
        survey.base = survey.note(find_base(disk))?.flatten();
        let recovered = survey.base.clone();
        let base = recovered.as_deref().unwrap_or(disk);
        let subdirectory = |name: &str| match base.subdirectory(name) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Io { path: base.path(name), source }),
        };
        let log = subdirectory(LOG)?;
        survey.snapshots = subdirectory(SNAPSHOTS)?;
        survey.note(refuse_if_noted(base, log.as_deref()))?;
        if let Some(Some(file)) = survey.note(find_identity(disk, log.as_deref()))? {
            survey.is_identity_damaged = file.was_mended();
            let stage = file.identity().stage;
            survey.identity = Some(file.identity().clone());
            survey.charter = survey.note(find_charter(base, stage))?.flatten();
        }
        let io = |source| HomeError::Io { path: base.path(LOG), source };
        let has_log = log.as_deref().map_or(Ok(false), wal::Wal::exists).map_err(io)?;
        survey.log = log.filter(|_| has_log);
        let stage = survey.identity.as_ref().map(|identity| identity.stage);
        if let Some(Stage::Founded { log: expected, .. }) = stage {
            let path = base.path(LOG);
            let found = match &survey.log {
                Some(log) => wal::Wal::identify(Arc::clone(log)).map_err(LogError::Open)?,
                None => None,
            };
            let what = match found {
                _ if survey.log.is_none() => {
                    "there is an identity, but the log is gone".to_string()
                }
                Some(found) if found != expected => other_log(found, expected),
                _ => return Ok(Some(survey)),
            };
            survey.lost.push(HomeError::LostHistory { path, what });
        }
        let is_nobodys = survey.identity.is_none() && survey.lost.is_empty();
        Ok((!is_nobodys).then_some(survey))
    }

    /// An index that the log must have held once: the server wrote the newest whole snapshot
    /// itself, out of its log. A start holds the log to it. Reads every snapshot up to that one.
    ///
    /// # Errors
    /// The disk failed, or a newer program wrote a snapshot.
    pub fn floor(&self) -> Result<Option<Index>, HomeError> {
        let Some(disk) = &self.snapshots else { return Ok(None) };
        let io = |source| HomeError::Io { path: disk.path(""), source };
        let lock = Arc::clone(&self.lock);
        let snapshots = SnapshotStore::new(Arc::clone(disk), lock, SnapshotOptions::default());
        for stored in snapshots.list().map_err(io)?.iter().rev() {
            match snapshots.verify(*stored) {
                Ok(_) => {
                    let index = stored.position.index;
                    return Ok((stored.origin == Origin::Own).then_some(index));
                }
                Err(SnapshotError::Damaged { .. }) => {}
                Err(error) => return Err(HomeError::Snapshot(error)),
            }
        }
        Ok(None)
    }

    /// Notes that history is lost, and goes on; any other error ends the survey.
    fn note<T>(&mut self, found: Result<T, HomeError>) -> Result<Option<T>, HomeError> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(lost @ HomeError::LostHistory { .. }) => {
                self.lost.push(lost);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
