//! Where the log is that a command was given: in the directory of a server, or by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvstore::config::Config;
use raft::node::NodeId;
use raft::storage::{HomeError, Survey, refuse_if_noted};
use wal::{Disk, Inspector, OpenError, ReadOnlyDisk, Wal};

use crate::args::{Global, PlaceArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::quote::quoted;

/// The name of the log's directory in that of its server.
const LOG: &str = "log";
/// The name of the file that says whose a directory is.
const IDENTITY: &str = "identity";

/// A directory that nobody uses, seen through a disk that cannot write.
pub(super) struct Place {
    /// The server's directory, or that of a log by itself.
    pub(super) path: PathBuf,
    pub(super) disk: Arc<ReadOnlyDisk>,
    /// What the directory says of its server; `None` for a log by itself.
    pub(super) server: Option<Survey>,
    /// The directory of the log, if there is one already.
    pub(super) log: Option<Arc<dyn Disk>>,
    /// Why no server starts with it, whatever becomes of its log.
    pub(super) lost: Vec<HomeError>,
}

impl Place {
    /// Finds the directory and makes sure that no server runs on it.
    pub(super) fn find(global: &Global, args: &PlaceArgs) -> Result<Place, Failure> {
        let given = path(global, args)?;
        let path = server_around(&given).unwrap_or(given);
        let disk = ReadOnlyDisk::open(&path).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::NotFound => "there is no such directory".to_owned(),
                io::ErrorKind::NotADirectory => "it is not a directory".to_owned(),
                _ => error.to_string(),
            };
            Failure::new(Exit::Unexpected, format!("{}: {what}", path.display()))
        })?;
        let is_bare = Wal::exists(&*disk).map_err(|error| Failure::file("read", &path, &error))?;
        if is_bare {
            let log: Arc<dyn Disk> = Arc::clone(&disk) as _;
            let lost = match refuse_if_noted(&*disk, None) {
                Ok(()) => Vec::new(),
                Err(lost @ HomeError::LostHistory { .. }) => vec![lost],
                Err(error) => return Err(home_failure(error, &path)),
            };
            return Ok(Place { path, disk, server: None, log: Some(log), lost });
        }
        let survey = Survey::take(&*disk).map_err(|error| home_failure(error, &path))?;
        let Some(mut survey) = survey else {
            let what = format!("{} holds neither a server's data nor a log", path.display());
            return Err(Failure::new(Exit::Unexpected, what)
                .detail("--data wants the directory that kvctl serve --data was given"));
        };
        let log = survey.log.clone();
        let lost = std::mem::take(&mut survey.lost);
        Ok(Place { path, disk, server: Some(survey), log, lost })
    }

    /// Looks into the log.
    pub(super) fn inspect(&self) -> Result<Inspector, Failure> {
        let Some(log) = &self.log else {
            let what = format!("{} holds no log yet", self.path.display());
            return Err(match self.lost.first() {
                Some(lost) => {
                    let failure = Failure::from_text(Exit::Damaged, &lost.to_string());
                    match self.id() {
                        Some(id) => failure.way_back(id.as_str()),
                        None => failure.detail("more: kvctl help recovery"),
                    }
                }
                None => Failure::new(Exit::Unexpected, what)
                    .detail("the server was never part of a cluster"),
            });
        };
        Inspector::open(Arc::clone(log)).map_err(|error| self.failure(error))
    }

    /// Looks into the log, and holds it to what a start would hold it to: a snapshot that its
    /// server wrote itself says what was in it.
    pub(super) fn inspect_as_a_start_does(&self) -> Result<Inspector, Failure> {
        Ok(self.inspect()?.with_floor(floor(self.server.as_ref(), &self.path)?))
    }

    /// An error of the log, as this command fails with it.
    pub(super) fn failure(&self, error: OpenError) -> Failure {
        log_failure(error, &self.path)
    }

    /// The name of the server whose directory this is, as far as it can be read.
    pub(super) fn id(&self) -> Option<NodeId> {
        let identity = self.server.as_ref()?.identity.as_ref()?;
        Some(identity.member.id)
    }

    /// The directory as it can be typed.
    pub(super) fn typed(&self) -> String {
        quoted(&self.path.display().to_string())
    }
}

/// The index that the log of a server must have held.
pub(super) fn floor(server: Option<&Survey>, path: &Path) -> Result<Option<u64>, Failure> {
    let floor = server.map(Survey::floor).transpose().map_err(|error| home_failure(error, path))?;
    Ok(floor.flatten().map(|index| index.0))
}

/// The directory that the arguments name.
fn path(global: &Global, args: &PlaceArgs) -> Result<PathBuf, Failure> {
    if let Some(data) = &args.data {
        return Ok(data.clone());
    }
    let Some(id) = &args.id else {
        return Err(Failure::usage("which log? name its directory: --data DIR"));
    };
    let usage =
        |error: kvstore::config::ConfigError| Failure::from_text(Exit::Usage, &error.to_string());
    let config = Config::discover(global.config.as_deref()).map_err(usage)?;
    config.server(id).map_err(usage)?;
    Ok(config.data.directory(id))
}

/// The directory of the server whose log's directory this is: the one around it or, since a
/// recovery, the one around that.
fn server_around(path: &Path) -> Option<PathBuf> {
    let whole = fs::canonicalize(path).ok()?;
    let around = |path: &Path| {
        let typed = path.parent().filter(|typed| !typed.as_os_str().is_empty());
        typed.map(Path::to_path_buf)
    };
    let parent = whole.parent().filter(|_| whole.ends_with(LOG))?;
    let has = |directory: &Path, name: &str| directory.join(name).is_file();
    // As it was typed, if it can be.
    let typed = around(path).filter(|_| path.ends_with(LOG));
    let recovered = parent.parent().filter(|_| !has(parent, IDENTITY));
    if let Some(server) = recovered.filter(|server| has(server, IDENTITY)) {
        return Some(typed.as_deref().and_then(around).unwrap_or(server.to_path_buf()));
    }
    let is_server = [IDENTITY, "founding"].iter().any(|name| has(parent, name));
    is_server.then(|| typed.unwrap_or(parent.to_path_buf()))
}

/// The failure of a directory that is in use.
fn in_use(path: &Path) -> Failure {
    let what = format!("{} is in use by a running server, or by another kvctl wal", path.display());
    Failure::new(Exit::Unexpected, what)
        .detail("nothing was done; stop the server first, or wait until the other one has ended")
}

/// An error of a server's directory, as a command fails with it.
pub(super) fn home_failure(error: HomeError, path: &Path) -> Failure {
    match error {
        HomeError::InUse { .. } => in_use(path),
        error => {
            let exit = if error.is_damage() { Exit::Damaged } else { Exit::Unexpected };
            Failure::from_text(exit, &error.to_string())
        }
    }
}

/// An error of a log, as a command fails with it.
pub(super) fn log_failure(error: OpenError, path: &Path) -> Failure {
    match error {
        OpenError::Locked { .. } => in_use(path),
        error => {
            let is_damage = error.is_damage() && !matches!(error, OpenError::NoLog { .. });
            let exit = if is_damage { Exit::Damaged } else { Exit::Unexpected };
            Failure::from_text(exit, &error.to_string())
        }
    }
}
