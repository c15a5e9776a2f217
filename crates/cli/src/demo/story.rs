//! The stories of a demo's servers, told side by side while they happen: above the prompt on a
//! terminal, on stderr otherwise.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use crate::shell::PrintAbove;

/// Prints what the servers tell. Clones print to the same place.
#[derive(Clone, Default)]
pub(crate) struct Stories {
    above: Arc<Mutex<Option<PrintAbove>>>,
}

impl Stories {
    /// From here on stories appear above the prompt.
    pub(crate) fn print_above(&self, above: Option<PrintAbove>) {
        *self.above.lock().unwrap_or_else(PoisonError::into_inner) = above;
    }

    /// Tells the story of a server until it ends.
    pub(crate) fn follow(&self, id: &str, stream: impl Read + Send + 'static) {
        let (stories, id) = (self.clone(), id.to_owned());
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                stories.tell(&for_people(&id, &line));
            }
        });
    }

    fn tell(&self, line: &str) {
        let mut above = self.above.lock().unwrap_or_else(PoisonError::into_inner);
        match above.as_mut() {
            Some(print) => print(format!("{line}\n")),
            // There is nobody to tell if stderr is gone.
            None => drop(writeln!(anstream::stderr(), "{line}")),
        }
    }
}

/// A line of a server's story as people read it. Anything else that a server prints, such as the
/// error that ends it, is passed on as it is.
fn for_people(id: &str, line: &str) -> String {
    let event: Option<Value> = serde_json::from_str(line).ok();
    match event.as_ref().and_then(|event| event.get("story")).and_then(Value::as_str) {
        Some(story) => format!("{id} {story}"),
        None => format!("{id} {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::for_people;

    #[test]
    fn a_story_is_told_in_words_and_an_error_as_it_is() {
        let event = r#"{"time_ms":1,"server":"s1","event":"leader","story":"LEADER   term 7"}"#;
        assert_eq!(for_people("s1", event), "s1 LEADER   term 7");
        assert_eq!(for_people("s2", "kvctl: address in use"), "s2 kvctl: address in use");
    }
}
