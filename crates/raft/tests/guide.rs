//! The guide to the rules, `docs/RAFT.md`, names for each rule the code that follows it and the
//! tests that hold it. Names rot; this test finds those that have.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

/// The rows of every table whose last column says what a rule is held by.
fn rules(guide: &str) -> Vec<Vec<&str>> {
    let is_row = |line: &&str| line.starts_with("| ") && line.matches('|').count() == 4;
    let rows = guide.lines().filter(is_row).map(|line| line.trim_matches('|').split('|').collect());
    rows.filter(|row: &Vec<&str>| !row.iter().any(|cell| cell.trim() == "held by")).collect()
}

/// What stands between backticks.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Every file of Rust below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn scripts() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("crates/raft/tests/scripts")).expect("it is there");
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    entries.filter_map(|entry| stem(entry.expect("it can be listed").path())).collect()
}

/// Functions marked as tests, in these files.
fn tests(files: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in files.iter().map(|path| read(path)) {
        for after in text.split("#[test]\n").skip(1) {
            let name = after.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
            found.extend(name.map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_rule_names_code_that_exists() {
    let guide = read(&root().join("docs/RAFT.md"));
    let mut pairs: Vec<(String, String)> = Vec::new();
    for row in rules(&guide) {
        let code: Vec<&str> = names(row.get(1).copied().unwrap_or_default()).collect();
        assert_eq!(code.len(), 2, "a file and a function of it: {row:?}");
        pairs.extend(code.chunks(2).map(|it| (it[0].to_owned(), it[1].to_owned())));
    }
    let invariants = guide.lines().filter(|line| line.matches('|').count() == 3);
    for line in invariants.filter(|line| line.contains(".rs`")) {
        let code: Vec<&str> = names(line).collect();
        pairs.extend(code.chunks(2).map(|it| (it[0].to_owned(), it[1].to_owned())));
    }
    assert!(pairs.len() > 80, "the tables were found");
    for (file, function) in pairs {
        let room = if file.starts_with("server/") { "kvstore" } else { "raft" };
        let text = read(&root().join("crates").join(room).join("src").join(&file));
        let exists = ["(", "<"].iter().any(|end| text.contains(&format!("fn {function}{end}")));
        assert!(exists, "{file} has no function {function}");
    }
}

#[test]
fn every_rule_is_held_by_tests_that_exist() {
    let guide = read(&root().join("docs/RAFT.md"));
    let mut files = Vec::new();
    sources(&root().join("crates/raft"), &mut files);
    sources(&root().join("crates/kvstore/src/server"), &mut files);
    let known: BTreeSet<String> = tests(&files).into_iter().chain(scripts()).collect();
    for row in rules(&guide) {
        let held_by: Vec<&str> = names(row.get(2).copied().unwrap_or_default()).collect();
        assert!(!held_by.is_empty(), "nothing holds: {row:?}");
        for name in held_by {
            let exists = match name.strip_suffix('*') {
                Some(family) => known.iter().any(|known| known.starts_with(family)),
                None => known.contains(name),
            };
            assert!(exists, "there is neither a script nor a test called {name}");
        }
    }
}

#[test]
fn every_golden_script_and_every_test_of_a_rule_is_in_the_guide() {
    let guide = read(&root().join("docs/RAFT.md"));
    let rows = rules(&guide);
    let named: Vec<&str> =
        rows.iter().filter_map(|row| row.get(2)).flat_map(|it| names(it)).collect();
    let is_named = |name: &String| {
        named.iter().any(|it| match it.strip_suffix('*') {
            Some(family) => name.starts_with(family),
            None => name == it,
        })
    };
    let files = ["rules", "regressions", "suspects", "joining", "lost_history", "rescue"];
    let of_rules = files.map(|file| root().join(format!("crates/raft/tests/{file}.rs")));
    let missing: Vec<String> =
        scripts().into_iter().chain(tests(&of_rules)).filter(|name| !is_named(name)).collect();
    assert!(missing.is_empty(), "docs/RAFT.md does not say which rule these hold: {missing:?}");
}
