//! `shell`: the commands of the command line without `kvctl` in front, one a line.

mod completer;
mod input;
mod terminal;
mod words;

use std::future::Future;

use clap::Parser;
use tokio::runtime::Handle;

use crate::args::Line;
use crate::commands;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::signals::{Signals, Wish};
use completer::Completer;
use input::{Input, Lines};
use terminal::TerminalState;

pub(crate) use input::{Interaction, PrintAbove};

/// Whether a shell reads another line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    GoOn,
    End,
}

/// The commands that begin with a dot; a demo has some.
pub(crate) trait DotCommands {
    /// Does what the words say. The first begins with a dot.
    async fn run(&mut self, session: &Session, words: &[String]) -> Result<Flow, Failure>;
}

/// No such commands.
struct NoDotCommands;

impl DotCommands for NoDotCommands {
    async fn run(&mut self, _: &Session, _: &[String]) -> Result<Flow, Failure> {
        Err(Failure::usage("commands that begin with a dot exist in kvctl demo only"))
    }
}

/// An open input, and on a terminal a way to print above its prompt.
pub(crate) struct Opened {
    pub(crate) lines: Lines,
    pub(crate) above: Option<PrintAbove>,
}

/// Opens standard input for a shell.
pub(crate) fn open(
    session: &Session,
    interaction: Interaction,
    prompt: &str,
    dot_commands: &'static [&'static str],
) -> Opened {
    let completer = Completer::new(Handle::current(), session.clone(), dot_commands);
    let (lines, above) = Lines::open(interaction, prompt, completer);
    Opened { lines, above }
}

/// `kvctl shell`.
pub(crate) async fn shell(session: Session) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let session = session.for_shell();
    let interaction = Interaction::of_stdin();
    let opened = open(&session, interaction, "kvctl> ", &[]);
    run(&session, interaction, opened.lines, &mut NoDotCommands, &mut signals).await
}

/// Carries out lines until they end. At a prompt an error is told and the next line is read; in a
/// script the first error ends it.
pub(crate) async fn run(
    session: &Session,
    interaction: Interaction,
    mut lines: Lines,
    dot_commands: &mut impl DotCommands,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let _terminal = TerminalState::keep();
    let mut number = 0;
    loop {
        number += 1;
        let input = tokio::select! {
            input = lines.next() => input,
            _ = signals.next() => return Err(Failure::interrupted()),
        };
        let line = match input {
            Input::Line(line) => line,
            Input::GivenUp => continue,
            Input::End => return Ok(()),
            Input::Failed(reason) => {
                let what = format!("cannot read standard input: {reason}");
                return Err(Failure::new(Exit::Unexpected, what));
            }
        };
        let mut wish = None;
        let given_up = async { wish = Some(signals.next().await) };
        let outcome = carry_out(session, interaction, &line, dot_commands, given_up).await;
        // At a prompt Ctrl-C leaves the command and not the shell.
        let leaves = wish == Some(Wish::End);
        match (outcome, interaction) {
            (Ok(Flow::GoOn), _) => {}
            (Ok(Flow::End), _) => return Ok(()),
            (Err(failure), _) if leaves => return Err(failure),
            (Err(failure), Interaction::Terminal) => crate::report(&failure, session.format()),
            (Err(failure), Interaction::Script) => return Err(failure.in_line(number, &line)),
        }
    }
}

async fn carry_out(
    session: &Session,
    interaction: Interaction,
    line: &str,
    dot_commands: &mut impl DotCommands,
    given_up: impl Future<Output = ()>,
) -> Result<Flow, Failure> {
    let words = words::words(line).map_err(|error| Failure::usage(error.to_string()))?;
    let Some(first) = words.first() else {
        // At a prompt an empty line is the shortest way out; in a script it is only white space.
        return Ok(match interaction {
            Interaction::Terminal => Flow::End,
            Interaction::Script => Flow::GoOn,
        });
    };
    if first == "quit" || first == "exit" {
        return Ok(Flow::End);
    }
    if first.starts_with('#') {
        return Ok(Flow::GoOn);
    }
    if first.starts_with('.') {
        return tokio::select! {
            flow = dot_commands.run(session, &words) => flow,
            () = given_up => Err(Failure::interrupted()),
        };
    }
    let line = match Line::try_parse_from(&words) {
        Ok(line) => line,
        Err(error) if error.use_stderr() => return Err(crate::usage_failure(&error)),
        Err(help) => {
            session.print(&help.render().to_string())?;
            return Ok(Flow::GoOn);
        }
    };
    let session = match line.output {
        Some(format) => session.clone().printing(format),
        None => session.clone(),
    };
    commands::run_until(given_up, &session, line.command, &words).await?;
    Ok(Flow::GoOn)
}
