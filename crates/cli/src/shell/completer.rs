//! What the tab key offers at the prompt: commands first, then keys of the store or ids of servers.

use rustyline::completion::{Completer as Complete, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::runtime::Handle;

use crate::args;
use crate::completion;
use crate::session::Session;

/// Completes commands, keys and ids. It runs on the prompt's thread and asks the cluster over the
/// client that the shell uses.
pub(crate) struct Completer {
    runtime: Handle,
    session: Session,
    /// The commands of this shell that begin with a dot.
    dot_commands: &'static [&'static str],
}

impl Completer {
    /// A completer for a shell that runs on this runtime.
    pub(crate) fn new(
        runtime: Handle,
        session: Session,
        dot_commands: &'static [&'static str],
    ) -> Completer {
        Completer { runtime, session, dot_commands }
    }

    fn candidates(&self, before: &[&str], begun: &str) -> Vec<String> {
        match before {
            [] => self.commands(begun),
            ["help"] => matching(crate::help::names(), begun),
            [command] if *command == "log" || command.starts_with('.') => {
                let mut servers = self.session.server_ids();
                if command.starts_with('.') {
                    servers.push("leader".to_owned());
                }
                matching(servers.iter().map(String::as_str), begun)
            }
            _ => self.runtime.block_on(completion::keys_with_prefix(&self.session, begun)),
        }
    }

    fn commands(&self, begun: &str) -> Vec<String> {
        let commands = args::GROUPS.into_iter().flat_map(|(_, names)| names.iter().copied());
        matching(commands.chain(["quit"]).chain(self.dot_commands.iter().copied()), begun)
    }
}

fn matching<'a>(names: impl IntoIterator<Item = &'a str>, begun: &str) -> Vec<String> {
    names.into_iter().filter(|name| name.starts_with(begun)).map(str::to_owned).collect()
}

impl Complete for Completer {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..position).unwrap_or(line);
        let start = typed.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let (before, begun) = typed.split_at(start);
        let before: Vec<&str> = before.split_whitespace().collect();
        let candidates = self.candidates(&before, begun);
        let pairs = candidates
            .into_iter()
            .map(|word| Pair { display: word.clone(), replacement: format!("{word} ") })
            .collect();
        Ok((start, pairs))
    }
}

impl Hinter for Completer {
    type Hint = String;
}

impl Highlighter for Completer {}

impl Validator for Completer {}

impl Helper for Completer {}
