//! Golden scripts: the specification of the protocol, told as stories. Each file under `scripts/`
//! is a list of commands to a cluster of nodes, each followed by what came out of it. A run
//! repeats the commands and compares. `UPDATE_SCRIPTS=1 cargo test -p raft --test scripts` writes
//! what comes out now; read the difference before you keep it.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]
#![allow(unreachable_pub, reason = "the harness is a module of this one test")]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("the scripts are beside this test")
        .map(|entry| entry.expect("a directory can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are scripts to run");
    let trial = |path: PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(name, move || run(&path))
    };
    libtest_mimic::run(&arguments, files.into_iter().map(trial).collect()).exit();
}

/// Runs one script: blocks of commands, `---`, their output, an empty line.
fn run(path: &Path) -> Result<(), Failed> {
    let script = fs::read_to_string(path)?;
    let mut cluster = harness::Cluster::default();
    let mut produced = String::new();
    for block in script.split("\n\n") {
        let block = block.trim_matches('\n');
        let commands: Vec<&str> = block.lines().take_while(|line| *line != "---").collect();
        let is_prose = commands.iter().all(|line| line.is_empty() || line.starts_with('#'));
        if !produced.is_empty() {
            produced.push('\n');
        }
        for command in &commands {
            produced.push_str(command);
            produced.push('\n');
        }
        if is_prose {
            continue;
        }
        let mut output = String::new();
        for command in commands.iter().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            cluster
                .run(command, &mut output)
                .map_err(|error| Failed::from(format!("{}: {command}: {error}", path.display())))?;
        }
        produced.push_str("---\n");
        produced.push_str(if output.is_empty() { "ok\n" } else { &output });
    }
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        fs::write(path, produced)?;
        return Ok(());
    }
    match script.lines().zip(produced.lines()).position(|(old, new)| old != new) {
        Some(line) => Err(difference(path, &script, &produced, line)),
        None if script.lines().count() != produced.lines().count() => {
            let line = script.lines().count().min(produced.lines().count());
            Err(difference(path, &script, &produced, line))
        }
        None => Ok(()),
    }
}

fn difference(path: &Path, expected: &str, produced: &str, line: usize) -> Failed {
    let from = line.saturating_sub(3);
    let excerpt = |text: &str| text.lines().skip(from).take(8).collect::<Vec<_>>().join("\n    ");
    Failed::from(format!(
        "{}:{}: the script says\n    {}\nand the nodes\n    {}",
        path.display(),
        line + 1,
        excerpt(expected),
        excerpt(produced)
    ))
}
