//! What is written down to be run is run. The runner of golden scripts takes every `.txt` file of
//! one folder, so anything else in there would be taken for a specification that nobody checks. The
//! suites of this package are targets by name, so one without a name would pass by never running.

use std::fs;
use std::path::Path;

use super::Violation;

/// What lies in a folder of golden scripts and is not run.
///
/// # Panics
/// If the folder cannot be listed.
pub fn scripts_that_are_not_run(folder: &Path) -> Vec<Violation> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    let mut violations = Vec::new();
    for entry in entries {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() || path.extension().is_none_or(|extension| extension != "txt") {
            violations.push(Violation {
                file: path.display().to_string(),
                line: 1,
                what: "among the golden scripts, and not run".to_owned(),
            });
        }
    }
    violations
}

/// The suites of a package, as files beside its manifest, that are no targets of it.
///
/// # Panics
/// If the folder cannot be listed, or has no manifest.
pub fn suites_that_are_not_run(package: &Path) -> Vec<Violation> {
    let manifest =
        fs::read_to_string(package.join("Cargo.toml")).expect("a package has a manifest");
    let entries = fs::read_dir(package).expect("a package can be listed");
    let names = entries.map(|entry| entry.expect("a folder can be listed").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let suites = names.filter(|name| name.ends_with(".rs"));
    let unnamed = suites.filter(|name| !manifest.contains(&format!("path = \"{name}\"")));
    let violation =
        |file| Violation { file, line: 1, what: "a suite that is no target".to_owned() };
    unnamed.map(violation).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{scripts_that_are_not_run, suites_that_are_not_run};

    #[test]
    fn what_the_runner_passes_over_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("story.txt"), "").unwrap();
        assert_eq!(scripts_that_are_not_run(folder.path()), []);
        fs::write(folder.path().join("story.text"), "").unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        assert_eq!(scripts_that_are_not_run(folder.path()).len(), 2);
    }

    #[test]
    fn a_suite_without_a_target_is_found() {
        let package = tempfile::tempdir().unwrap();
        fs::write(package.path().join("Cargo.toml"), "[[test]]\npath = \"one.rs\"\n").unwrap();
        fs::write(package.path().join("one.rs"), "").unwrap();
        assert_eq!(suites_that_are_not_run(package.path()), []);
        fs::write(package.path().join("other.rs"), "").unwrap();
        assert_eq!(suites_that_are_not_run(package.path()).len(), 1);
    }
}
