//! The rule about golden scripts: each of them is run. The runner takes every `.txt` file of one
//! folder, so anything else in there would be taken for a specification that nobody checks.

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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::scripts_that_are_not_run;

    #[test]
    fn what_the_runner_passes_over_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("story.txt"), "").unwrap();
        assert_eq!(scripts_that_are_not_run(folder.path()), []);
        fs::write(folder.path().join("story.text"), "").unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        assert_eq!(scripts_that_are_not_run(folder.path()).len(), 2);
    }
}
