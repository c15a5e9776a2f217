//! What was refused does not happen: a command of which its sender was told so is never applied,
//! neither before nor after.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::node::Index;

use super::Broken;

/// Commands that were refused, each sent only once.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    refused: BTreeSet<Bytes>,
}

impl Refusals {
    /// A command, if it was one, was refused.
    pub fn on_refused(&mut self, command: Option<Bytes>) {
        self.refused.extend(command);
    }

    /// How many were refused.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.refused.len() as u64
    }

    /// These were applied, each at its index.
    ///
    /// # Errors
    /// One of them was refused.
    pub fn check<'a>(
        &self,
        mut applied: impl Iterator<Item = (Index, &'a Bytes)>,
    ) -> Result<(), Broken> {
        match applied.find(|(_, command)| self.refused.contains(*command)) {
            None => Ok(()),
            Some((index, _)) => {
                let what = format!("a command was refused, and applied at {index}");
                Err(Broken::new("what is refused does not happen", what))
            }
        }
    }
}
