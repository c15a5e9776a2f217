//! The rule about crates: dependencies point down only.

use super::Violation;
use super::source::Source;

/// For each package of the workspace, the packages of the workspace that it may use.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("crates/wal/", &["wal"]),
    ("crates/raft/", &["wal"]),
    ("crates/kvstore/", &["raft", "wal"]),
    ("crates/cli/", &["kvstore", "raft", "wal"]),
    // Some benches put whole clusters to work, with the harness that the suites have.
    ("benches/", &["kvctl", "kvstore", "raft", "verify", "wal"]),
    ("tests/", &["kvctl", "kvstore", "raft", "wal"]),
];

const PACKAGES: [&str; 6] = ["wal", "raft", "kvstore", "kvctl", "benches", "verify"];

/// A package uses only those below it. A package may name itself, which is how its own tests turn
/// on one of its features.
pub fn dependencies_point_down(manifest: &Source) -> Vec<Violation> {
    let allowed = MAY_USE.iter().find(|(folder, _)| {
        manifest.path().strip_prefix(folder).is_some_and(|rest| rest == "Cargo.toml")
    });
    let Some((_, allowed)) = allowed else {
        return Vec::new();
    };
    let mut in_dependencies = false;
    let mut violations = Vec::new();
    for (at, line) in manifest.lines().iter().enumerate() {
        if let Some(section) = line.strip_prefix('[') {
            in_dependencies = section.trim_end_matches(']').ends_with("dependencies");
            continue;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if in_dependencies && PACKAGES.contains(&name) && !allowed.contains(&name) {
            violations
                .push(manifest.violation(at + 1, format!("`{name}` is not below this crate")));
        }
    }
    violations
}
