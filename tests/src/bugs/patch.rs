//! A bug: a patch against the product, with a head that says what it is about.
//!
//! ```text
//! Breaks: what is wrong afterwards, in a sentence or two; lines that go on are
//!   indented.
//! Shipped: who had this bug, by issue; or `ours`.
//! Past: which defence it gets past, or `none`.
//! Proves: the invariant of `tests/src/check` that it shows to be needed, if it does.
//! Needs: what the tests lack to notice it; only while they do lack it.
//!
//! diff --git a/crates/... b/crates/...
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use super::Trouble;

/// A crate of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// `crates/wal`
    Wal,
    /// `crates/raft`
    Raft,
    /// `crates/kvstore`
    Kvstore,
}

/// A bug on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bug {
    /// The name of its file, without `.patch`.
    pub name: String,
    /// Where the patch is.
    pub path: PathBuf,
    /// What it breaks.
    pub breaks: String,
    /// Who had it.
    pub shipped: String,
    /// Which defence it gets past.
    pub past: String,
    /// The invariant that it shows to be needed.
    pub proves: Option<String>,
    /// What the tests still lack to notice it.
    pub needs: Option<String>,
    /// The lowest crate that it changes; those above it are built anew.
    pub room: Room,
    /// The files that it changes, from the root of the repository.
    pub files: Vec<String>,
}

impl Bug {
    /// Reads a patch.
    ///
    /// # Errors
    /// Its head is incomplete, or it changes something that is not the product.
    pub fn read(path: &Path) -> Result<Bug, Trouble> {
        let text = fs::read_to_string(path).map_err(|why| Trouble::new(path.display(), why))?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Bug::parse(name.unwrap_or_default(), path, &text)
            .map_err(|why| Trouble::new(path.display(), why))
    }

    fn parse(name: String, path: &Path, text: &str) -> Result<Bug, String> {
        let (head, diff) = text.split_once("\ndiff --git ").ok_or("it holds no diff")?;
        let field = |name: &str| field(head, name).ok_or(format!("its head has no `{name}:`"));
        let changed = |line: &str| line.strip_prefix("+++ b/").map(str::to_string);
        let files: Vec<String> = diff.lines().filter_map(changed).collect();
        let rooms: Result<Vec<Room>, String> = files.iter().map(|file| room(file)).collect();
        let room = rooms?.into_iter().min().ok_or("it changes nothing")?;
        Ok(Bug {
            name,
            path: path.to_path_buf(),
            breaks: field("Breaks")?,
            shipped: field("Shipped")?,
            past: field("Past")?,
            proves: field("Proves").ok(),
            needs: field("Needs").ok(),
            room,
            files,
        })
    }

    /// All bugs of a directory, by name.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn all(directory: &Path) -> Result<Vec<Bug>, Trouble> {
        let trouble = |why| Trouble::new(directory.display(), why);
        let mut paths = Vec::new();
        for item in fs::read_dir(directory).map_err(trouble)? {
            let path = item.map_err(trouble)?.path();
            if path.extension().is_some_and(|extension| extension == "patch") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| Bug::read(path)).collect()
    }
}

/// What a head says under a name, on one line.
fn field(head: &str, name: &str) -> Option<String> {
    let begins = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    let mut lines = head.lines().skip_while(|line| !begins(line));
    let first = lines.next()?.strip_prefix(name)?.strip_prefix(':')?;
    let more = lines.take_while(|line| line.starts_with(' '));
    let words: Vec<&str> =
        first.split_whitespace().chain(more.flat_map(str::split_whitespace)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// A simulator that is changed together with the product proves nothing.
fn room(file: &str) -> Result<Room, String> {
    let rooms = [
        ("crates/wal/src/", Room::Wal),
        ("crates/raft/src/", Room::Raft),
        ("crates/kvstore/src/", Room::Kvstore),
    ];
    let found = rooms.iter().find(|(folder, _)| file.starts_with(folder));
    match found {
        // The simulated disk is a part of the tests, wherever it lies.
        Some((_, room)) if !file.contains("/sim_disk/") && !file.contains("/tests/") => Ok(*room),
        _ => Err(format!("{file} is not part of the product")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const HEAD: &str = "Breaks: a vote\n  is forgotten.\nShipped: ours\nPast: none\n";

    fn parse(head: &str, file: &str) -> Result<Bug, String> {
        let text = format!("{head}\ndiff --git a/{file} b/{file}\n--- a/{file}\n+++ b/{file}\n");
        Bug::parse("it".into(), Path::new("it.patch"), &text)
    }

    #[test]
    fn a_head_says_what_is_broken_and_the_diff_where() {
        let bug = parse(HEAD, "crates/raft/src/node/mod.rs").unwrap();
        assert_eq!((bug.breaks.as_str(), bug.room), ("a vote is forgotten.", Room::Raft));
        assert_eq!((bug.proves, bug.files.len()), (None, 1));
        let proof = format!("{HEAD}Proves: one vote per term\n");
        let bug = parse(&proof, "crates/wal/src/commit.rs").unwrap();
        assert_eq!(bug.proves.as_deref(), Some("one vote per term"));
    }

    #[test]
    fn what_judges_is_never_changed_and_no_head_is_incomplete() {
        for file in ["tests/src/sim/run.rs", "crates/wal/src/sim_disk/crash.rs", "Cargo.toml"] {
            assert!(parse(HEAD, file).is_err(), "{file}");
        }
        assert!(parse("Breaks: all\nPast: none\n", "crates/wal/src/commit.rs").is_err());
        assert!(Bug::parse("it".into(), Path::new("it.patch"), HEAD).is_err());
    }

    #[test]
    fn every_bug_of_the_repository_can_be_read() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("bugs");
        let bugs = Bug::all(&directory).unwrap_or_else(|trouble| panic!("{trouble}"));
        assert!(!bugs.is_empty());
    }

    #[test]
    fn every_bug_of_the_repository_can_be_planted() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let bugs = Bug::all(&repository.join("tests/bugs"));
        for bug in bugs.unwrap_or_else(|trouble| panic!("{trouble}")) {
            let mut git = Command::new("git");
            git.args(["apply", "--check"]).arg(&bug.path).current_dir(&repository);
            let applied = git.output().unwrap_or_else(|why| panic!("git: {why}"));
            let why = String::from_utf8_lossy(&applied.stderr);
            assert!(applied.status.success(), "{}: {why}", bug.name);
        }
    }
}
