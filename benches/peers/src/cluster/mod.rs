//! Whole clusters under load: three servers of ours beside three of etcd, of ZooKeeper and of NATS,
//! one of redis, and a floor. Every round starts each system in turn, fresh, puts all of them to
//! the same work with the same load program, and ends it; what is printed are medians.

mod count;
mod process;
mod servers;
mod summary;
mod system;
mod table;
mod tools;
mod visit;
mod work;

use std::time::{Duration, Instant};

use benches::Result;
use benches::figure::Format;
use clap::Args;

use self::summary::Summary;
use self::system::{SYSTEMS, System};
use self::tools::Tool;
use self::visit::{Counts, Plan};
use self::work::{WORKS, Work};
use crate::{Care, Session};

/// What is particular to this section.
#[derive(Args, Debug)]
#[command(next_help_heading = "Whole clusters")]
pub(crate) struct Options {
    /// How often each system is started and measured [default: 5, or 1 if quick]
    #[arg(long)]
    rounds: Option<u32>,

    /// How long each measurement takes, in seconds [default: 5, or 2 if quick]
    #[arg(long)]
    seconds: Option<f64>,

    /// Only work whose name begins with one of these, such as put or get.64.
    #[arg(long, value_delimiter = ',')]
    works: Vec<String>,

    /// Install the systems that are missing first, from Debian and the Python package index.
    #[arg(long)]
    install: bool,

    /// Start no further measurement after so many minutes.
    #[arg(long, default_value_t = 120)]
    minutes: u64,
}

/// Measures everything that is installed.
pub(crate) fn measure(session: &Session, options: &Options) -> Result<()> {
    let is_quick = session.care == Care::Quick;
    let rounds = options.rounds.unwrap_or(if is_quick { 1 } else { 5 });
    let seconds = options.seconds.unwrap_or(if is_quick { 2.0 } else { 5.0 });
    let works = chosen_works(options)?;
    if options.install {
        tools::install()?;
    }
    let systems = find_systems(&session.only)?;
    let can_count = count::is_possible();
    if !can_count {
        eprintln!("system calls are not counted: strace is not installed");
    }
    let mut summary = Summary::new(rounds, seconds, &systems);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let mut failures = Vec::new();
    for round in 1..=rounds {
        let counts = if round == 1 && can_count { Counts::Yes } else { Counts::No };
        let plan = Plan { works: &works, seconds, counts };
        for (system, tool) in &systems {
            if Instant::now() > end {
                failures.push(format!("the time was over in round {round}"));
                break;
            }
            eprintln!("round {round} of {rounds}: {}", system.name());
            let corner = session.place.corner()?;
            match visit::visit(*system, tool, corner.path(), &plan) {
                Ok(visit) => summary.add(*system, visit),
                Err(error) => failures.push(error.to_string()),
            }
        }
    }
    match session.printer.format() {
        Format::Table => table::print(&summary, &works)?,
        Format::JsonLines => summary.print_json(&works)?,
    }
    let (unsteady, all) = summary.unsteady(&works);
    if unsteady > 0 {
        eprintln!(
            "{unsteady} of {all} throughputs differ between rounds by more than a factor of 1.5: \
             the machine was busy, and the figures are worth little"
        );
    }
    failures.extend(summary.doubts());
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("\n").into()),
    }
}

fn chosen_works(options: &Options) -> Result<Vec<Work>> {
    let is_chosen = |work: &&Work| {
        let mut names = options.works.iter();
        options.works.is_empty() || names.any(|name| is_named(work.name, name))
    };
    let works: Vec<Work> = WORKS.iter().filter(is_chosen).copied().collect();
    if works.is_empty() {
        let names: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
        return Err(format!("no such work; there are {}", names.join(", ")).into());
    }
    Ok(works)
}

/// Whether a name is meant by its first words.
fn is_named(name: &str, words: &str) -> bool {
    name.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What is wanted and installed; what is missing is said.
fn find_systems(only: &str) -> Result<Vec<(System, Tool)>> {
    let wanted: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    if let Some(name) = wanted.iter().find(|it| !SYSTEMS.iter().any(|at| at.name() == **it)) {
        let names: Vec<&str> = SYSTEMS.iter().map(|system| system.name()).collect();
        return Err(format!("there is no {name}; there are {}", names.join(", ")).into());
    }
    let mut found = Vec::new();
    for system in SYSTEMS {
        if !wanted.is_empty() && !wanted.contains(&system.name()) {
            continue;
        }
        match tools::find(system) {
            Ok(tool) => found.push((system, tool)),
            Err(why) => eprintln!("{} is left out: {why}", system.name()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn work_is_chosen_by_its_first_words() {
        assert!(is_named("put.64", "put"));
        assert!(is_named("put.64", "put.64"));
        assert!(!is_named("put.64x16", "put.64"));
        assert!(is_named("get.64.followers", "get.64"));
    }
}
