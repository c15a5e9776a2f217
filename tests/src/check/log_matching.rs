//! Log matching (dissertation 3.5): two logs that hold an entry of the same index and term hold
//! the same entries up to it. Seen in what leaders send: the same position always says the same
//! and always follows the same position.

use raft::node::{Entry, EntryKind, Index, Position, Term};

use super::Broken;

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    term: Term,
    before: Term,
    kind: EntryKind,
    checksum: u32,
}

/// Every entry that a leader ever sent.
#[derive(Clone, Debug, Default)]
pub struct LogMatching {
    /// By index; one for each term.
    known: Vec<Vec<Known>>,
    /// How often it was checked.
    pub checked: u64,
}

impl LogMatching {
    /// A leader sends entries that follow a position.
    ///
    /// # Errors
    /// The same position said something else, or followed another.
    pub fn on_sent<'a>(
        &mut self,
        previous: Position,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<(), Broken> {
        let mut before = previous;
        for entry in entries {
            self.checked += 1;
            let at = place(entry.index);
            if self.known.len() <= at {
                self.known.resize(at + 1, Vec::new());
            }
            let now = Known {
                term: entry.term,
                before: before.term,
                kind: entry.kind,
                checksum: entry.payload.checksum,
            };
            before = entry.position();
            match self.known[at].iter().find(|known| known.term == entry.term) {
                None => self.known[at].push(now),
                Some(first) if *first == now => {}
                Some(first) => {
                    let what = format!("{before} was {first:?} and is {now:?}");
                    return Err(Broken::new("log matching", what));
                }
            }
        }
        Ok(())
    }
}

fn place(index: Index) -> usize {
    usize::try_from(index.0).expect("no run is so long")
}
