//! `kvctl`: one program that is the server, the client, the shell and the test bench of a
//! linearizable key-value store.
//!
//! It is a library so that the suites can carry the program they test; its only public function is
//! [`main`]. What it promises is what a script relies on: data goes to stdout and nothing else
//! does, exit codes keep their meaning, and an error says what is known, where, and what to do
//! next. It holds no logic that a user of the client library would miss.
//!
//! Read in this order:
//! 1. `args`: every command with its options and an example.
//! 2. `exit`, `failure`, `output`: how commands end, fail and print.
//! 3. `session`, `requests`: what a command works with, and how it asks the cluster.
//! 4. `commands`: the commands themselves, among them `serve`, which runs a server, and `recover`;
//!    `wal`: those for the log of a server that does not run; `snapshot`: those for snapshots.
//! 5. `shell`, then `demo`, which is a shell with servers of its own.
//! 6. `bench`, `completion`, `help`.
//!
//! Not done here, on purpose: following the leader, retrying and telling *refused* from *unknown*
//! are the client library's; limits and the reading of the configuration are the store's.

mod args;
mod bench;
mod commands;
mod completion;
mod demo;
mod exit;
mod failure;
mod help;
mod output;
mod quote;
mod requests;
mod runtime;
mod session;
mod shell;
mod signals;
mod snapshot;
mod wal;

use std::io::Write;
use std::process::ExitCode;

use clap::{FromArgMatches, ValueEnum};
use clap_complete::CompleteEnv;

use args::{Cli, Command, Global};
use exit::Exit;
use failure::Failure;
use output::Format;
use session::Session;
use signals::Signals;

/// Runs `kvctl` with the arguments of the process, and returns what it is to end with.
pub fn main() -> ExitCode {
    CompleteEnv::with_factory(args::command).complete();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return ended_by_arguments(&error),
    };
    let format = cli.global.output;
    match run(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            if failure.exit() != Exit::Ok {
                report(&failure, format);
            }
            failure.exit().into()
        }
    }
}

fn parse() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&args::command().try_get_matches()?)
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Serve(args) => commands::serve::run(&global, args),
        Command::Help(args) => print(&help::explain(&args.topic)?),
        Command::Version => print(&commands::version()),
        Command::Completions(args) => print(&completion::script(&args.shell)?),
        Command::Wal(args) => wal::run(&global, args),
        Command::Recover(args) => commands::recover::run(&global, args),
        Command::Snapshot(args) if !args.command.needs_server() => {
            snapshot::offline(&global, args.command)
        }
        Command::Demo(args) => runtime::block_on(demo::run(&global, args)),
        Command::Shell => runtime::block_on(async { shell::shell(Session::new(&global)?).await }),
        command => runtime::block_on(until_interrupted(&global, command)),
    }
}

/// Carries out one command unless Ctrl-C comes first.
async fn until_interrupted(global: &Global, command: Command) -> Result<(), Failure> {
    let session = Session::new(global)?;
    let mut signals = Signals::listen()?;
    let words = ["kvctl".to_owned()].into_iter().chain(std::env::args().skip(1));
    let words: Vec<String> = words.collect();
    let signal = async {
        signals.next().await;
    };
    commands::run_until(signal, &session, command, &words).await
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Tells a failure on stderr.
fn report(failure: &Failure, format: Format) {
    let mut stderr = anstream::stderr().lock();
    // There is nobody to tell if stderr is gone.
    let _ = if format.is_json() {
        writeln!(stderr, "{}", failure.json())
    } else {
        writeln!(stderr, "\x1b[1;31mkvctl:\x1b[0m {failure}")
    };
}

/// Help and version are answers; everything else that the parser ends with is a wrong use.
fn ended_by_arguments(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && format_asked_for().is_json() {
        report(&usage_failure(error), Format::Json);
        return Exit::Usage.into();
    }
    // There is nobody to tell if the stream is gone.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
}

/// A complaint of the parser, without the colours and the word that it begins with.
fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let text = lines.collect::<Vec<_>>().join("\n");
    Failure::from_text(Exit::Usage, text.strip_prefix("error: ").unwrap_or(&text))
}

/// The format that was asked for, as far as it can be told from arguments that make no sense.
fn format_asked_for() -> Format {
    let arguments: Vec<String> = std::env::args().collect();
    let named = arguments.iter().enumerate().find_map(|(at, argument)| {
        let next = || arguments.get(at + 1).map(String::as_str);
        match argument.as_str() {
            "-o" | "--output" => next(),
            other => other.strip_prefix("--output=").or_else(|| {
                let value = other.strip_prefix("-o")?;
                Some(value.strip_prefix('=').unwrap_or(value))
            }),
        }
    });
    let variable = std::env::var("KVCTL_OUTPUT").ok();
    let name = named.map(str::to_owned).or(variable).unwrap_or_default();
    Format::from_str(&name, false).unwrap_or(Format::Text)
}
