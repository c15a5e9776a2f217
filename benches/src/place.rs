//! The directory in which a run happens. It is on a real file system, and it is gone afterwards,
//! also if the run is interrupted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use tempfile::TempDir;

use crate::Result;

/// The file system in memory, as `statfs` calls it.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A directory of its own for one run.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
}

impl Place {
    /// Makes the directory inside of `parent`, or beside the running program, which is where its
    /// build keeps what it makes.
    ///
    /// # Errors
    /// The directory cannot be made, or is in memory, where a sync costs nothing.
    pub fn make(parent: Option<&Path>) -> Result<Place> {
        let parent = match parent {
            Some(parent) => parent.to_path_buf(),
            None => beside_program()?,
        };
        fs::create_dir_all(&parent)?;
        if u64::try_from(rustix::fs::statfs(&parent)?.f_type) == Ok(TMPFS_MAGIC) {
            let parent = parent.display();
            return Err(format!("{parent} is in memory; choose another place with --dir").into());
        }
        let directory = tempfile::Builder::new().prefix("kvctl-bench-").tempdir_in(&parent)?;
        let path = directory.path().to_path_buf();
        ctrlc::set_handler(move || {
            // The run goes on writing until the process ends, so one attempt may not be enough.
            while path.exists() {
                let _ = fs::remove_dir_all(&path);
            }
            process::exit(130);
        })?;
        Ok(Place { directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A new directory inside, removed when the guard is dropped.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn corner(&self) -> Result<TempDir> {
        Ok(TempDir::new_in(self.path())?)
    }
}

fn beside_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().ok_or("the program is in no directory")?.to_path_buf())
}
