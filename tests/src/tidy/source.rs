//! A source file as the rules see it: its lines, and which of them are only there for tests.

use std::fs;
use std::path::{Path, PathBuf};

use super::Violation;

/// A file of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    path: String,
    lines: Vec<String>,
    /// For each line, whether it belongs to tests.
    in_tests: Vec<bool>,
}

impl Source {
    /// A file with this path, relative to the root of the repository, and this content.
    pub fn new(path: impl Into<String>, content: &str) -> Source {
        let path = path.into();
        let lines: Vec<String> = content.lines().map(str::to_owned).collect();
        let in_tests =
            if is_test_file(&path) { vec![true; lines.len()] } else { test_modules(&lines) };
        Source { path, lines, in_tests }
    }

    /// Where the file lies, relative to the root of the repository.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// All lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The lines that become part of the product, with their numbers.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().zip(&self.in_tests).enumerate();
        lines
            .filter(|(_, (_, in_tests))| !**in_tests)
            .map(|(at, (line, _))| (at + 1, line.as_str()))
    }

    /// A violation in this file.
    pub fn violation(&self, line: usize, what: impl Into<String>) -> Violation {
        Violation { file: self.path.clone(), line, what: what.into() }
    }

    /// A violation for every line of the product for which `broken` has something to say.
    pub fn check_product(&self, broken: impl Fn(&str) -> Option<String>) -> Vec<Violation> {
        let found = self.product_lines().filter_map(|(at, line)| Some((at, broken(line)?)));
        found.map(|(at, what)| self.violation(at, what)).collect()
    }
}

/// The code of a line, without the comment at its end. A `//` within a string is taken for a
/// comment too, which can only hide a violation and never invent one.
pub(super) fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// The blanks that a line begins with.
pub(super) fn indentation(line: &str) -> &str {
    line.split_at(line.len() - line.trim_start().len()).0
}

fn is_test_file(path: &str) -> bool {
    !path.starts_with("crates/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Marks the modules under `#[cfg(test)]`. The end of a module is the first `}` that is indented
/// like its beginning, which holds for every file that is formatted.
fn test_modules(lines: &[String]) -> Vec<bool> {
    let mut marks = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() != "#[cfg(test)]" {
            at += 1;
            continue;
        }
        let end = format!("{}}}", indentation(&lines[at]));
        let opens = lines[at..].iter().position(|line| line.ends_with(['{', ';']));
        let opens = at + opens.unwrap_or(0);
        let length = if lines[opens].ends_with('{') {
            lines[opens..].iter().position(|line| *line == end).unwrap_or(lines.len() - opens - 1)
        } else {
            0
        };
        marks[at..=opens + length].fill(true);
        at = opens + length + 1;
    }
    marks
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the package `verify` lies in a folder of the repository").to_owned()
}

/// Every file of the repository whose name ends with one of `endings`, in the order of their
/// paths. Folders that hold what was built, and hidden ones, are left out.
pub fn text_files(endings: &[&str]) -> Vec<Source> {
    let root = repository();
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository can be listed") {
            let path = entry.expect("a folder of the repository can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "data"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let relative = path.strip_prefix(&root).unwrap_or(&path);
                let content = fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
                files.push(Source::new(relative.to_string_lossy(), &content));
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}
