//! The terminal as it was. The prompt changes its mode while it waits for a key; a process that is
//! ended meanwhile must not leave it like that.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Puts the terminal back when it is dropped.
pub(super) struct TerminalState {
    before: Option<Termios>,
}

impl TerminalState {
    /// Remembers how the terminal is now. Without a terminal there is nothing to remember.
    pub(super) fn keep() -> TerminalState {
        TerminalState { before: tcgetattr(std::io::stdin()).ok() }
    }
}

impl Drop for TerminalState {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs no care.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
