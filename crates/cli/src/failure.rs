//! How a command fails: what is known, where, and what to do next, as text or as JSON.

use std::fmt;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::exit::Exit;
use crate::quote::quoted;

/// An error that is ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    /// The first line, without a full stop.
    headline: String,
    /// Further lines: what is known of each server, and what to do next.
    details: Vec<String>,
    /// The id under which a write can be repeated.
    request: Option<String>,
}

impl Failure {
    /// A failure with one line.
    pub(crate) fn new(exit: Exit, headline: impl Into<String>) -> Failure {
        Failure { exit, headline: headline.into(), details: Vec::new(), request: None }
    }

    /// The arguments make no sense.
    pub(crate) fn usage(headline: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, headline)
    }

    /// The user or the system wanted it to end.
    pub(crate) fn interrupted() -> Failure {
        Failure::new(Exit::Interrupted, "interrupted")
    }

    /// A file or a stream could not be read or written.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::new(Exit::Unexpected, format!("cannot {doing} {}: {error}", path.display()))
    }

    /// A failure out of an error's whole text: its first line and the lines below.
    pub(crate) fn from_text(exit: Exit, text: &str) -> Failure {
        let mut lines = text.lines();
        let mut failure = Failure::new(exit, lines.next().unwrap_or_default());
        failure.details = lines.map(|line| line.trim().to_owned()).collect();
        failure
    }

    /// The same, with another line below.
    pub(crate) fn detail(mut self, line: impl Into<String>) -> Failure {
        self.details.push(line.into());
        self
    }

    /// The same, with the way back for a server that has lost history.
    pub(crate) fn way_back(self, id: &str) -> Failure {
        self.detail(format!(
            "{id} comes back as a new member: move the directory away, start {id} with an empty \
             one, then: kvctl member replace {id}"
        ))
    }

    /// The same, with the id under which the write can be repeated.
    pub(crate) fn request(mut self, id: impl Into<String>) -> Failure {
        self.request = Some(id.into());
        self
    }

    /// The same, with the line that repeats a write of unknown outcome safely. `words` are those of
    /// the line that asked for it.
    pub(crate) fn repeated_by(self, words: &[String]) -> Failure {
        let Some(request) = &self.request else {
            return self;
        };
        let mut line = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--request" => drop(words.next()),
                given if given.starts_with("--request=") => {}
                _ => line.push(quoted(word)),
            }
        }
        let line = line.join(" ");
        let repeat =
            format!("repeat it safely, it cannot be applied twice:  {line} --request {request}");
        self.detail(repeat)
    }

    /// The code that the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The same failure, told to have happened in a line of a script.
    pub(crate) fn in_line(mut self, number: u64, line: &str) -> Failure {
        self.details.push(format!("in line {number}: {line}"));
        self
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let mut error = json!({
            "kind": self.exit.name(),
            "exit": self.exit.code(),
            "message": self.headline,
            "details": self.details,
        });
        if let (Some(object), Some(request)) = (error.as_object_mut(), &self.request) {
            object.insert("request".to_owned(), Value::String(request.clone()));
        }
        json!({ "error": error })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.headline)?;
        for line in &self.details {
            write!(formatter, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Writing an answer failed. A reader that has seen enough is not an error worth a word, but the
/// command ends all the same.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(Exit::Ok, "");
        }
        Failure::new(Exit::Unexpected, format!("cannot write the answer: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Failure;
    use crate::exit::Exit;

    #[test]
    fn a_failure_is_a_headline_with_indented_lines_below() {
        let failure = Failure::new(Exit::NoLeader, "no leader: 1 of 3 servers reachable, 2 needed")
            .detail("s1 127.0.0.1:10000  connection refused")
            .detail("nothing was written");
        assert_eq!(
            failure.to_string(),
            "no leader: 1 of 3 servers reachable, 2 needed\n  \
             s1 127.0.0.1:10000  connection refused\n  \
             nothing was written"
        );
    }

    #[test]
    fn json_tells_the_kind_the_exit_code_and_the_request() {
        let failure = Failure::new(Exit::Unknown, "outcome unknown")
            .detail("repeat it safely")
            .request("5f2c:17");
        assert_eq!(
            failure.json(),
            json!({ "error": {
                "kind": "unknown",
                "exit": 8,
                "message": "outcome unknown",
                "details": ["repeat it safely"],
                "request": "5f2c:17",
            }})
        );
    }

    #[test]
    fn a_write_of_unknown_outcome_tells_the_line_that_repeats_it() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let failure = || Failure::new(Exit::Unknown, "outcome unknown").request("5f2c:17");
        let repeat = "outcome unknown\n  repeat it safely, it cannot be applied twice:  \
                      kvctl set a 1 --request 5f2c:17";
        assert_eq!(failure().repeated_by(&words("kvctl set a 1")).to_string(), repeat);
        let again = words("kvctl set --request old a 1 --request=old");
        assert_eq!(failure().repeated_by(&again).to_string(), repeat, "it is named once");
        let definite = Failure::usage("no").repeated_by(&words("kvctl set a 1"));
        assert_eq!(definite.to_string(), "no");
    }

    #[test]
    fn a_text_of_several_lines_becomes_headline_and_details() {
        let failure = Failure::from_text(Exit::Usage, "one\n  two\n  three");
        assert_eq!(failure, Failure::usage("one").detail("two").detail("three"));
    }
}
