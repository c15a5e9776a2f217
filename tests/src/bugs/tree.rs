//! A copy of the repository that patches may be put into. It stays from run to run, and so does
//! what was built from it: only what a patch changes is built anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Trouble;
use super::patch::Bug;

/// The copy, and where it is built.
#[derive(Clone, Debug)]
pub struct Tree {
    source: PathBuf,
    /// Holds everything of the runs.
    scratch: PathBuf,
}

impl Tree {
    /// A copy of the repository at `source`, kept in `scratch`. Nothing is copied yet.
    #[must_use]
    pub fn new(source: PathBuf, scratch: PathBuf) -> Tree {
        Tree { source, scratch }
    }

    /// Where the copy is.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.scratch.join("tree")
    }

    /// Where the programs are built.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    /// Where short-lived files go.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Makes the copy what the repository is at the moment, committed or not.
    ///
    /// # Errors
    /// Files cannot be listed or copied.
    pub fn restore(&self) -> Result<(), Trouble> {
        let listed = list(&self.source)?;
        for name in &listed {
            let (from, to) = (self.source.join(name), self.root().join(name));
            let trouble = |why| Trouble::new(to.display(), why);
            let Ok(wanted) = fs::read(&from) else {
                // It was removed and is still in the index.
                continue;
            };
            // What is unchanged keeps its time, so that it is not built again.
            if fs::read(&to).is_ok_and(|present| present == wanted) {
                continue;
            }
            fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(trouble)?;
            fs::copy(&from, &to).map_err(trouble)?;
        }
        self.remove_strays(&self.root(), &listed)
    }

    /// Removes what a patch, or an earlier state of the repository, has left behind.
    fn remove_strays(&self, folder: &Path, listed: &BTreeSet<PathBuf>) -> Result<(), Trouble> {
        let trouble = |why| Trouble::new(folder.display(), why);
        for item in fs::read_dir(folder).map_err(trouble)? {
            let path = item.map_err(trouble)?.path();
            let name = path.strip_prefix(self.root()).unwrap_or(&path);
            if path.is_dir() {
                self.remove_strays(&path, listed)?;
            } else if !listed.contains(name) {
                fs::remove_file(&path).map_err(trouble)?;
            }
        }
        Ok(())
    }

    /// Puts a bug into the copy, and nothing else.
    ///
    /// # Errors
    /// The patch does not apply.
    pub fn plant(&self, bug: &Bug) -> Result<(), Trouble> {
        self.restore()?;
        let mut git = Command::new("git");
        git.args(["apply", "--whitespace=nowarn"]).arg(&bug.path).current_dir(self.root());
        // A repository around the copy would have git leave out what lies outside of its folder.
        git.env("GIT_CEILING_DIRECTORIES", self.scratch.as_os_str());
        let applied = git.output().map_err(|why| Trouble::new("git apply", why))?;
        if !applied.status.success() {
            let why = String::from_utf8_lossy(&applied.stderr).trim().to_string();
            return Err(Trouble::new("it does not apply", why));
        }
        let is_untouched = |file: &&String| {
            fs::read(self.root().join(file)).ok() == fs::read(self.source.join(file)).ok()
        };
        match bug.files.iter().find(is_untouched) {
            Some(file) => Err(Trouble::new("it does not apply", format!("{file} is unchanged"))),
            None => Ok(()),
        }
    }
}

/// The files of a repository, from its root, without what it ignores.
fn list(root: &Path) -> Result<BTreeSet<PathBuf>, Trouble> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = git.output().map_err(|why| Trouble::new("git ls-files", why))?;
    if !listed.status.success() {
        return Err(Trouble::new("git ls-files", String::from_utf8_lossy(&listed.stderr)));
    }
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}
