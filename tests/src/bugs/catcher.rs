//! What may notice a bug: the cheap end of the ladder of tests. None of them knows any expected
//! output; a golden script that reads otherwise is no proof that anything is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Trouble;
use super::patch::{Bug, Room};
use super::process::{self, Ended};
use super::tree::Tree;

/// Something that may notice a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Catcher {
    /// The suite of the log: its model, all crash points, damage of every kind.
    Log,
    /// What must hold for any bytes that are decoded.
    Decoders,
    /// The simulator, with seeds that nobody has seen before.
    Simulator,
    /// Every schedule of a small cluster.
    Search,
}

/// What was noticed.
#[derive(Clone, Debug, PartialEq)]
pub struct Catch {
    /// Who noticed it.
    pub catcher: Catcher,
    /// The invariant, or the test, that does not hold.
    pub what: String,
    /// The seed, where there is one.
    pub seed: Option<u64>,
}

/// How a catcher ended, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// What it noticed.
    pub catch: Option<Catch>,
    /// The processor time that it took.
    pub cpu_seconds: f64,
    /// How many seeds went well, of the simulator.
    pub seeds: u64,
}

/// How the simulator is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Seeds<'a> {
    /// The first seed.
    pub first: u64,
    /// An invariant that does not count.
    pub without: Option<&'a str>,
}

impl Catcher {
    /// Those that can notice a bug, in the order in which they are tried. The suite of a crate that
    /// a bug does not change cannot notice it.
    #[must_use]
    pub fn of(bug: &Bug) -> &'static [Catcher] {
        match bug.room {
            Room::Wal => &[Catcher::Log, Catcher::Simulator],
            Room::Raft => &[Catcher::Simulator, Catcher::Search],
            Room::Kvstore => &[Catcher::Decoders, Catcher::Simulator],
        }
    }

    fn build(self, tree: &Tree) -> Result<BTreeMap<String, PathBuf>, Trouble> {
        let arguments: &[&str] = match self {
            Catcher::Log => {
                &["test", "--no-run", "-p", "wal", "--test", "suite", "--test", "replay"]
            }
            Catcher::Decoders => &["test", "--no-run", "-p", "kvstore", "--lib"],
            Catcher::Simulator | Catcher::Search => {
                &["build", "-p", "verify", "--bin", "sim", "--bin", "explore"]
            }
        };
        build(tree, arguments)
    }

    /// Builds it from the tree as it is, and runs it for so many seconds of processor time.
    ///
    /// # Errors
    /// It does not build, or cannot be run.
    pub fn run(self, tree: &Tree, seeds: Seeds<'_>, limit: f64) -> Result<Turn, Trouble> {
        let programs = self.build(tree)?;
        match self {
            Catcher::Log => {
                let suite = suite(self, tree, &programs, "suite", &["--skip", "golden"], limit)?;
                if suite.catch.is_some() || suite.cpu_seconds >= limit {
                    return Ok(suite);
                }
                let left = limit - suite.cpu_seconds;
                let replay = self::suite(self, tree, &programs, "replay", &[], left)?;
                Ok(Turn { cpu_seconds: suite.cpu_seconds + replay.cpu_seconds, ..replay })
            }
            Catcher::Decoders => {
                let arguments = ["wire::tests", "--skip", "wire::tests::document"];
                suite(self, tree, &programs, "kvstore", &arguments, limit)
            }
            Catcher::Simulator => simulate(tree, &programs, seeds, limit),
            Catcher::Search => search(tree, &programs, limit),
        }
    }
}

impl fmt::Display for Catcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Catcher::Log => "log suite",
            Catcher::Decoders => "decoders",
            Catcher::Simulator => "simulator",
            Catcher::Search => "search",
        })
    }
}

/// Has cargo build something; returns the programs by the names of their targets.
fn build(tree: &Tree, arguments: &[&str]) -> Result<BTreeMap<String, PathBuf>, Trouble> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(arguments)
        .args(["--profile", "sim", "--locked", "--message-format=json-render-diagnostics"])
        .current_dir(tree.root())
        .env("CARGO_TARGET_DIR", tree.target());
    let built = cargo.output().map_err(|why| Trouble::new("cargo", why))?;
    if !built.status.success() {
        let errors = String::from_utf8_lossy(&built.stderr).into_owned();
        let first = errors.lines().skip_while(|line| !line.starts_with("error"));
        let told: Vec<&str> = first.take(12).collect();
        return Err(Trouble::new("it does not build", told.join("\n")));
    }
    let mut programs = BTreeMap::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if let (Some(name), Some(path)) =
            (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            programs.insert(name.to_string(), PathBuf::from(path));
        }
    }
    Ok(programs)
}

fn start(
    programs: &BTreeMap<String, PathBuf>,
    name: &str,
    folder: &Path,
) -> Result<Command, Trouble> {
    let program = programs.get(name).ok_or_else(|| Trouble::new(name, "it was not built"))?;
    let mut command = Command::new(program);
    command.current_dir(folder);
    Ok(command)
}

/// Runs some of the tests of a suite.
fn suite(
    catcher: Catcher,
    tree: &Tree,
    programs: &BTreeMap<String, PathBuf>,
    name: &str,
    arguments: &[&str],
    limit: f64,
) -> Result<Turn, Trouble> {
    let mut command = start(programs, name, &tree.root())?;
    command.args(arguments).env_remove("RUST_BACKTRACE");
    let trouble = |why| Trouble::new(catcher, why);
    let ended = process::run(&mut command, tree.scratch(), limit).map_err(trouble)?;
    let failed = |line: &str| {
        let test = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(test.to_string())
    };
    let first = ended.output.lines().find_map(failed);
    let what = first.or_else(|| crashed(&ended).then(|| first_panic(&ended.errors)));
    let catch = what.map(|what| Catch { catcher, what, seed: None });
    Ok(Turn { catch, cpu_seconds: ended.cpu_seconds, seeds: 0 })
}

/// It ended by itself, and not well.
fn crashed(ended: &Ended) -> bool {
    ended.status.is_some_and(|status| !status.success())
}

fn simulate(
    tree: &Tree,
    programs: &BTreeMap<String, PathBuf>,
    seeds: Seeds<'_>,
    limit: f64,
) -> Result<Turn, Trouble> {
    let mut command = start(programs, "sim", &tree.root())?;
    command.args(["--until-failure", "--output", "json"]);
    command.args(["--seed", &seeds.first.to_string()]);
    command.args(["--cpu-seconds", &format!("{limit:.2}")]);
    command.args(seeds.without.iter().flat_map(|invariant| ["--without", invariant]));
    let catcher = Catcher::Simulator;
    let trouble = |why| Trouble::new(catcher, why);
    // It ends by itself, after the run in which its time is up.
    let ended = process::run(&mut command, tree.scratch(), 2.0 * limit + 5.0).map_err(trouble)?;
    let Ok(report) = serde_json::from_str::<Value>(&ended.output) else {
        return match crashed(&ended) {
            true => Err(Trouble::new(catcher, last_lines(&ended.errors))),
            // One run took longer than all of them may: that is no verdict.
            false => Ok(Turn { catch: None, cpu_seconds: ended.cpu_seconds, seeds: 0 }),
        };
    };
    let failure = &report["failures"][0];
    let catch = failure["invariant"].as_str().map(|invariant| Catch {
        catcher,
        what: told(invariant, failure["what"].as_str().unwrap_or_default()),
        seed: failure["seed"].as_u64(),
    });
    let failed = report["failed"].as_u64().unwrap_or(0);
    let seeds = report["seeds"].as_u64().unwrap_or(0) - failed;
    Ok(Turn { catch, cpu_seconds: ended.cpu_seconds, seeds })
}

/// An invariant, and what was seen where its name alone says little.
fn told(invariant: &str, what: &str) -> String {
    match invariant {
        "no panic" => {
            let words: String = what.chars().take(60).collect();
            format!("{invariant}: {}", words.replace('\n', " "))
        }
        _ => invariant.to_string(),
    }
}

fn search(tree: &Tree, programs: &BTreeMap<String, PathBuf>, limit: f64) -> Result<Turn, Trouble> {
    let mut command = start(programs, "explore", &tree.root())?;
    command.arg("--until-failure");
    let catcher = Catcher::Search;
    let trouble = |why| Trouble::new(catcher, why);
    let ended = process::run(&mut command, tree.scratch(), limit).map_err(trouble)?;
    let broken = |line: &str| {
        let property = line.strip_suffix(" is broken:");
        property.or_else(|| line.strip_prefix("no schedule reaches: ")).map(str::to_string)
    };
    let panicked = ended.errors.contains("panicked at");
    let what = match ended.output.lines().find_map(broken) {
        Some(property) => Some(property),
        None if panicked => Some(first_panic(&ended.errors)),
        None if crashed(&ended) => return Err(Trouble::new(catcher, last_lines(&ended.errors))),
        None => None,
    };
    let catch = what.map(|what| Catch { catcher, what, seed: None });
    Ok(Turn { catch, cpu_seconds: ended.cpu_seconds, seeds: 0 })
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// What the first panic said, in the line behind its place.
fn first_panic(errors: &str) -> String {
    let mut lines = errors.lines().skip_while(|line| !line.contains("panicked at"));
    let said: String = lines.nth(1).unwrap_or_default().chars().take(60).collect();
    format!("no panic: {said}")
}
