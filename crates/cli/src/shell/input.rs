//! Where the lines of a shell come from: a prompt with editing, history and completion on a
//! terminal, plain lines otherwise. Either blocks, so either has a thread of its own, and the shell
//! asks it for one line at a time.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc as blocking;
use std::thread;

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use tokio::sync::mpsc;

use super::completer::Completer;

/// The most lines that the history file keeps.
const HISTORY_LINES_MAX: usize = 1000;

/// What the shell reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A line, without its end.
    Line(String),
    /// Ctrl-C at the prompt: the line is given up.
    GivenUp,
    /// The end of the input.
    End,
    /// The input cannot be read.
    Failed(String),
}

/// Whether somebody sits in front of the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interaction {
    /// Standard input is a terminal: there is a prompt, and errors do not end the shell.
    Terminal,
    /// Standard input is a pipe or a file: no prompt, and the first error ends the shell.
    Script,
}

impl Interaction {
    /// What standard input is.
    pub(crate) fn of_stdin() -> Interaction {
        if std::io::stdin().is_terminal() { Interaction::Terminal } else { Interaction::Script }
    }
}

/// Prints above the prompt without tearing the line that is being typed.
pub(crate) type PrintAbove = Box<dyn FnMut(String) + Send>;

/// The lines of standard input, one at a time, when they are asked for.
pub(crate) struct Lines {
    ask: blocking::Sender<()>,
    answers: mpsc::Receiver<Input>,
}

impl Lines {
    /// Lines from standard input as it is. With a terminal, `prompt` stands before each of them.
    pub(crate) fn open(
        interaction: Interaction,
        prompt: &str,
        completer: Completer,
    ) -> (Lines, Option<PrintAbove>) {
        let (ask, asked) = blocking::channel();
        let (answer, answers) = mpsc::channel(1);
        let lines = Lines { ask, answers };
        let editor = match interaction {
            Interaction::Terminal => editor(completer).ok(),
            Interaction::Script => None,
        };
        let Some(mut editor) = editor else {
            thread::spawn(move || read_plain(&asked, &answer));
            return (lines, None);
        };
        let above = editor.create_external_printer().ok().map(|mut printer| -> PrintAbove {
            Box::new(move |text| {
                // The terminal may be gone; there is nobody to tell then.
                let _ = printer.print(text);
            })
        });
        let prompt = prompt.to_owned();
        thread::spawn(move || read_edited(editor, &prompt, &asked, &answer));
        (lines, above)
    }

    /// The next line.
    pub(crate) async fn next(&mut self) -> Input {
        if self.ask.send(()).is_err() {
            return Input::End;
        }
        self.answers.recv().await.unwrap_or(Input::End)
    }
}

type ShellEditor = Editor<Completer, FileHistory>;

fn editor(completer: Completer) -> rustyline::Result<ShellEditor> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES_MAX)?
        .auto_add_history(true)
        .completion_type(rustyline::CompletionType::List)
        .build();
    let history = FileHistory::with_config(&config);
    let mut editor = ShellEditor::with_history(config, history)?;
    editor.set_helper(Some(completer));
    if let Some(path) = history_path() {
        // The first shell of a user finds no history.
        let _ = editor.load_history(&path);
    }
    Ok(editor)
}

/// Where the history is kept, or `None` without a home directory.
fn history_path() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    Some(state.join("kvctl_history"))
}

fn read_edited(
    mut editor: ShellEditor,
    prompt: &str,
    asked: &blocking::Receiver<()>,
    answer: &mpsc::Sender<Input>,
) {
    while asked.recv().is_ok() {
        let input = match editor.readline(prompt) {
            Ok(line) => Input::Line(line),
            Err(ReadlineError::Interrupted) => Input::GivenUp,
            Err(ReadlineError::Eof) => Input::End,
            Err(error) => Input::Failed(error.to_string()),
        };
        if let Some(path) = history_path() {
            // A history that cannot be kept is no reason to stop working.
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = editor.save_history(&path);
        }
        if answer.blocking_send(input).is_err() {
            return;
        }
    }
}

fn read_plain(asked: &blocking::Receiver<()>, answer: &mpsc::Sender<Input>) {
    let mut line = String::new();
    while asked.recv().is_ok() {
        line.clear();
        let input = match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) => Input::End,
            Ok(_) => Input::Line(line.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Input::Failed(error.to_string()),
        };
        if answer.blocking_send(input).is_err() {
            return;
        }
    }
}
