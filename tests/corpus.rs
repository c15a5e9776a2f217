//! Runs of the simulator that once failed. Each stands in `tests/corpus` as a script, with a head
//! that says what it showed and which commit mended that; none may ever fail again.

use std::fs;
use std::path::PathBuf;

use verify::check::Switches;
use verify::sim::script::Script;
use verify::sim::{Watch, run_script};

/// The scripts, by their names.
fn corpus() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut scripts = Vec::new();
    for item in fs::read_dir(&folder).expect("there is a corpus") {
        let path = item.expect("its names can be read").path();
        if path.extension().is_some_and(|it| it == "txt") {
            let name = path.file_stem().map(|it| it.to_string_lossy().into_owned());
            let text = fs::read_to_string(&path).expect("it is a text");
            scripts.push((name.unwrap_or_default(), text));
        }
    }
    scripts.sort();
    scripts
}

fn parse(name: &str, text: &str) -> Script {
    Script::parse(text).unwrap_or_else(|why| panic!("{name}: {why}"))
}

#[test]
fn what_once_failed_does_not_fail_again() {
    let scripts = corpus();
    assert!(!scripts.is_empty());
    for (name, text) in scripts {
        let script = parse(&name, &text);
        if let Err(failure) = run_script(&script, Switches::default(), Watch::Nothing) {
            let seen = run_script(&script, Switches::default(), Watch::Story).err();
            panic!("{name}: {}", seen.unwrap_or(failure));
        }
    }
}

#[test]
fn every_script_says_what_it_showed_and_what_mended_that() {
    for (name, text) in corpus() {
        for head in ["# Showed: ", "# Fails: ", "# Mended: "] {
            assert!(text.lines().any(|line| line.starts_with(head)), "{name} lacks {head:?}");
        }
    }
}

/// Or a script would go on to be a run that shows nothing, unnoticed.
#[test]
fn every_script_lists_all_that_happens() {
    for (name, text) in corpus() {
        let listed = parse(&name, &text).to_string();
        for what in ["faults", "requests", "mishaps"] {
            let all = format!("{what} as below");
            assert!(text.contains(&all) && listed.contains(&all), "{name} draws its {what}");
        }
    }
}
