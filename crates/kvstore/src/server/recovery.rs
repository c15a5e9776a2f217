//! Recovering the directory of a server that does not run: with the settings that a start would
//! use, and the store as the state machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use raft::node::Incarnation;
use raft::storage::{
    Account, Flushes, HomeError, LogOptions, Rescue, RescueError, SnapshotOptions, Successors,
    Wanted,
};

use super::{ServeError, log_options};
use crate::config::Config;
use crate::store::{Store, StoreLimits};

/// A new cluster that was made out of a directory and does not count yet.
#[derive(Debug)]
pub struct Recovery {
    rescue: Rescue,
    directory: PathBuf,
}

/// Makes a cluster of one server out of the directory of one whose cluster has lost its majority
/// for good. Nothing of what is there is changed before it is carried out.
///
/// # Errors
/// There is no such directory, it is no server's or in use, what was said contradicts it, or
/// nothing in it can be served.
pub fn prepare_recovery(
    directory: &Path,
    config: &Config,
    wanted: &Wanted,
) -> Result<Recovery, ServeError> {
    let failed = |source| ServeError::Data { path: directory.to_path_buf(), source };
    // To open a disk makes its directory, and here that would hide a mistake.
    if !fs::metadata(directory).map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let disk = wal::RealDisk::open(directory).map_err(failed)?;
    // Whatever a server of this configuration may risk, this is done once and for good.
    let wal = wal::Options { fsync: wal::Fsync::Always, ..log_options(config)? };
    let options = LogOptions {
        wal,
        recent_bytes_max: 16 << 20,
        successors: Successors::Inline,
        snapshots: SnapshotOptions::default(),
        flushes: Flushes::Inline,
    };
    let drawn = getrandom::u64().map_err(|error| ServeError::Random(error.to_string()))?;
    let empty = || Store::new(StoreLimits::default());
    let rescue = Rescue::prepare(disk, wanted, &options, empty, || Incarnation(drawn));
    match rescue {
        Ok(rescue) => Ok(Recovery { rescue, directory: directory.to_path_buf() }),
        Err(error) => {
            // Whoever runs on the directory is left alone.
            if !matches!(error, RescueError::Home(HomeError::InUse { .. })) {
                tidy(directory);
            }
            Err(error.into())
        }
    }
}

impl Recovery {
    /// What becomes of the directory if this is carried out.
    #[must_use]
    pub fn account(&self) -> &Account {
        self.rescue.account()
    }

    /// Makes the new cluster count, for good.
    ///
    /// # Errors
    /// The disk failed. Either the old or the new cluster counts; asking again tells.
    pub fn carry_out(self) -> Result<Account, RescueError> {
        let account = self.rescue.carry_out();
        tidy(&self.directory);
        account
    }

    /// Removes what was made.
    ///
    /// # Errors
    /// The disk failed. What is left is of no harm.
    pub fn abandon(self) -> Result<(), RescueError> {
        let abandoned = self.rescue.abandon();
        tidy(&self.directory);
        abandoned
    }
}

/// Removes the directories of recoveries that are empty. One that is not, stays.
fn tidy(directory: &Path) {
    let Ok(items) = fs::read_dir(directory) else { return };
    for path in items.flatten().map(|item| item.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("recovered-") {
            continue;
        }
        for part in ["scratch", "snapshots", "log"] {
            // Whoever refuses has something in it.
            let _ = fs::remove_dir(path.join(part));
        }
        let _ = fs::remove_dir(&path);
    }
}
