//! Looking at a snapshot's file: what it is, and whether it is whole.

use std::io::{self, Write};
use std::path::Path;

use kvstore::read_contents;
use kvstore::store::Contents;
use raft::storage::{FLAWS_MAX, Flaw, SnapshotError, SnapshotFile};
use serde_json::{Value, json};
use wal::ReadOnlyDisk;

use super::{Described, print};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Answer;

/// The directory that a file is in, and its name there.
pub(super) fn split(path: &Path) -> Result<(&Path, &str), Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Failure::usage(format!("{} names no file", path.display())))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")), name))
}

fn open(path: &Path) -> Result<SnapshotFile, Failure> {
    let (parent, name) = split(path)?;
    // What is no file, or cannot be read, is not damaged.
    let readable = std::fs::File::open(path).and_then(|file| file.metadata());
    let metadata = readable.map_err(|error| Failure::file("read", path, &error))?;
    if !metadata.is_file() {
        return Err(Failure::new(Exit::Unexpected, format!("{} is no file", path.display())));
    }
    let disk = ReadOnlyDisk::open(parent).map_err(|error| Failure::file("read", path, &error))?;
    SnapshotFile::open(&*disk, name).map_err(|error| failure(&error))
}

fn failure(error: &SnapshotError) -> Failure {
    let exit = match error {
        SnapshotError::Damaged { .. } => Exit::Damaged,
        SnapshotError::Version { .. } | SnapshotError::Write { .. } | SnapshotError::Stopped => {
            Exit::Unexpected
        }
    };
    Failure::from_text(exit, &error.to_string())
}

/// Reads what is in the state, which must be of the entry that the header names.
fn contents(file: &SnapshotFile, path: &Path) -> Result<Contents, Failure> {
    let contents =
        file.read_state(|input| read_contents(input)).map_err(|error| failure(&error))?;
    let index = file.facts().position.index;
    match contents.applied == index.0 {
        true => Ok(contents),
        false => {
            let what = format!(
                "{}: the state is that at entry {}, the header says {index}",
                path.display(),
                contents.applied
            );
            Err(Failure::new(Exit::Damaged, what))
        }
    }
}

/// `kvctl snapshot inspect`.
pub(super) fn inspect(global: &Global, path: &Path) -> Result<(), Failure> {
    let file = open(path)?;
    let read = contents(&file, path);
    let contents = read.as_ref().ok().copied();
    let described = Described { path: path.display().to_string(), facts: file.facts(), contents };
    print(global, &described)?;
    read.map(|_| ()).map_err(|failure| failure.detail("all of it: kvctl snapshot verify"))
}

/// What was found.
struct Verdict {
    path: String,
    bytes: u64,
    flaws: Vec<Flaw>,
}

impl Answer for Verdict {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for Flaw { offset, bytes, what } in &self.flaws {
            writeln!(out, "offset {offset}, {bytes} bytes: {what}")?;
        }
        match self.flaws.is_empty() {
            true => writeln!(out, "{} is whole, {} bytes", self.path, self.bytes),
            false => Ok(()),
        }
    }

    fn json(&self) -> Value {
        let flaws = self.flaws.iter().map(|Flaw { offset, bytes, what }| {
            json!({ "offset": offset, "bytes": bytes, "what": what })
        });
        json!({
            "file": self.path,
            "bytes": self.bytes,
            "whole": self.flaws.is_empty(),
            "damaged": flaws.collect::<Vec<_>>(),
        })
    }
}

/// `kvctl snapshot verify`.
pub(super) fn verify(global: &Global, path: &Path) -> Result<(), Failure> {
    let file = open(path)?;
    let flaws = file.flaws();
    let count = flaws.len();
    let shown = path.display().to_string();
    if flaws.is_empty() {
        // Every byte is as it was written; what was written must be a state as well.
        contents(&file, path)?;
    }
    print(global, &Verdict { path: shown.clone(), bytes: file.facts().bytes, flaws })?;
    match count {
        0 => Ok(()),
        FLAWS_MAX => {
            let what = format!("{shown} is damaged in {count} places and more");
            Err(Failure::new(Exit::Damaged, what))
        }
        count => Err(Failure::new(Exit::Damaged, format!("{shown} is damaged in {count} places"))),
    }
}
