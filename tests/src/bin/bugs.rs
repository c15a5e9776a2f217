//! Plants bugs that the tests must notice, one after another, and tells who noticed each.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use verify::bugs::hunt::{self, Hunt};
use verify::bugs::patch::Bug;
use verify::bugs::proof::prove;
use verify::bugs::tree::Tree;
use verify::bugs::{Trouble, report};

/// Puts each bug of `tests/bugs/` into a copy of the repository, builds it, and demands that the
/// tests notice it within 60 seconds of processor time. Before that the product as it is must
/// pass the same tests.
#[derive(Parser)]
#[command(name = "bugs", version)]
struct Arguments {
    /// Bugs by name; all of them if none is named.
    names: Vec<String>,
    /// Beside those that are named, so many others.
    #[arg(long, requires = "by")]
    some: Option<usize>,
    /// What decides which those are, such as the hash of a commit.
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,
    /// Show instead what each invariant is good for: what escapes without it.
    #[arg(long)]
    checks: bool,
    /// List the bugs, and what each of them breaks.
    #[arg(long)]
    list: bool,
    /// The first seed; a fresh one if none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the copy lives and is built; a folder beside this program's if none is given.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

/// True if everything was noticed.
fn run(arguments: &Arguments) -> Result<bool, Trouble> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let all = Bug::all(&repository.join("tests/bugs"))?;
    if arguments.list {
        list(&all);
        return Ok(true);
    }
    let bugs = select(all, arguments)?;
    let scratch = match &arguments.scratch {
        Some(scratch) => scratch.clone(),
        None => beside_this_program()?,
    };
    let trouble = |why: io::Error| Trouble(format!("{}: {why}", scratch.display()));
    std::fs::create_dir_all(scratch.join("tree")).map_err(trouble)?;
    let scratch = scratch.canonicalize().map_err(trouble)?;
    let tree = Tree::new(repository.canonicalize().map_err(trouble)?, scratch);
    let first = arguments.seed.unwrap_or_else(hunt::fresh_seed);
    match arguments.checks {
        true => show_checks(&tree, &bugs, first),
        false => hunt_all(&tree, &bugs, first, arguments.output),
    }
}

fn beside_this_program() -> Result<PathBuf, Trouble> {
    let program = std::env::current_exe().map_err(|why| Trouble(why.to_string()))?;
    let target = program.ancestors().nth(2).map(|target| target.join("bugs"));
    target.ok_or_else(|| Trouble("this program stands in no folder; say --scratch".into()))
}

fn list(bugs: &[Bug]) {
    for bug in bugs {
        println!("{}\n    {}\n    shipped: {}", bug.name, bug.breaks, bug.shipped);
        println!("    past: {}", bug.past);
    }
    println!("{} bugs", bugs.len());
}

/// The bugs that were asked for.
fn select(all: Vec<Bug>, arguments: &Arguments) -> Result<Vec<Bug>, Trouble> {
    let is_named = |bug: &Bug| arguments.names.contains(&bug.name);
    let is_there = |name: &&String| all.iter().any(|bug| bug.name == **name);
    if let Some(name) = arguments.names.iter().find(|name| !is_there(name)) {
        return Err(Trouble(format!("there is no bug of the name {name}")));
    }
    let (mut bugs, others): (Vec<Bug>, Vec<Bug>) = all.into_iter().partition(is_named);
    match (arguments.some, &arguments.by) {
        (Some(count), Some(by)) => bugs.extend(hunt::choose(others, count, by)),
        _ if bugs.is_empty() => bugs = others,
        _ => {}
    }
    Ok(bugs)
}

fn hunt_all(tree: &Tree, bugs: &[Bug], first: u64, output: Output) -> Result<bool, Trouble> {
    eprintln!("first seed {first}; {} bugs, after the product as it is", bugs.len());
    let control = hunt::control(tree, bugs, first)?;
    let passed = control.iter().map(|(by, seconds)| format!("{by} ({seconds:.1} cpu s)"));
    eprintln!("the product as it is passes: {}", passed.collect::<Vec<_>>().join(", "));
    let mut hunts: Vec<Hunt> = Vec::new();
    for bug in bugs {
        let hunt = hunt::hunt(tree, bug, first);
        eprintln!("{}", report::row(&hunt).join("  "));
        hunts.push(hunt);
    }
    tree.restore()?;
    let caught = hunts.iter().filter(|hunt| hunt.is_caught()).count();
    match output {
        Output::Json => println!("{}", report::to_json(first, &control, &hunts)),
        Output::Text => {
            print!("{}", report::hunts(&hunts));
            println!("{caught} of {} caught, first seed {first}", hunts.len());
        }
    }
    Ok(caught == hunts.len())
}

fn show_checks(tree: &Tree, bugs: &[Bug], first: u64) -> Result<bool, Trouble> {
    let mut proofs = Vec::new();
    let mut is_proven = true;
    for bug in bugs {
        match prove(tree, bug, first) {
            Ok(proof) => {
                proof.iter().for_each(|it| eprintln!("{}: {}", it.invariant, it.bug));
                proofs.extend(proof);
            }
            Err(trouble) => {
                eprintln!("{trouble}");
                is_proven = false;
            }
        }
    }
    tree.restore()?;
    print!("{}", report::proofs(&proofs));
    Ok(is_proven)
}
