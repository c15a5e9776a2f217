//! `snapshot save`: the state of a running cluster, part by part into a file.

use std::io;
use std::path::Path;

use kvstore::wire::Consistency;
use raft::storage::{Saving, SnapshotError, SnapshotFile};
use wal::RealDisk;

use super::Described;
use super::file::split;
use crate::args::SaveArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// `kvctl snapshot save`.
pub(super) async fn save(session: &Session, args: SaveArgs) -> Result<(), Failure> {
    let path = args.file;
    let (parent, name) = split(&path)?;
    // To open a disk makes its directory, which is more than was asked for.
    let is_directory = std::fs::metadata(parent).map(|it| it.is_dir());
    if !is_directory.map_err(|error| Failure::file("write to", parent, &error))? {
        let what = format!("{} is not a directory", parent.display());
        return Err(Failure::usage(what));
    }
    // A directory, or a link to nowhere, has the name as well as a file.
    if std::fs::symlink_metadata(&path).is_ok() {
        return Err(taken(&path));
    }
    let disk = RealDisk::open(parent).map_err(|error| Failure::file("write to", parent, &error))?;
    let consistency = match args.stale {
        true => Consistency::Stale,
        false => Consistency::Linearizable,
    };
    let mut stream = session.client().snapshot(consistency).await?;
    let point = stream.point().clone();
    let saving = Saving::begin(disk.clone(), name, std::process::id(), point);
    let mut saving = saving.map_err(|error| failure(&path, error))?;
    let mut told = 0;
    let mut bytes: u64 = 0;
    while let Some(state) = stream.next().await? {
        saving.write(&state).map_err(|error| failure(&path, error))?;
        bytes += state.len() as u64;
        if bytes >> 28 > told {
            told = bytes >> 28;
            session.note(&format!("{} MiB from {}", bytes >> 20, stream.server()));
        }
    }
    saving.finish(stream.hash().unwrap_or_default()).map_err(|error| failure(&path, error))?;
    let file = SnapshotFile::open(&*disk, name).map_err(|error| failure(&path, error))?;
    let contents = file.read_state(|input| kvstore::read_contents(input));
    let contents = Some(contents.map_err(|error| failure(&path, error))?);
    let path = path.display().to_string();
    session.confirm(&Described { path, facts: file.facts(), contents })
}

fn taken(path: &Path) -> Failure {
    Failure::new(Exit::Refused, format!("{} exists already", path.display()))
        .detail("nothing was saved; choose another name, or move it away")
}

fn failure(path: &Path, error: SnapshotError) -> Failure {
    match error {
        SnapshotError::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
            taken(path)
        }
        SnapshotError::Write { source, .. } => {
            Failure::file("save the snapshot to", path, &source).detail("nothing is left of it")
        }
        error => Failure::from_text(Exit::Damaged, &error.to_string())
            .detail("what was saved is not what the server sent; save it again"),
    }
}
