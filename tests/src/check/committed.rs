//! What is committed stays: every server that takes an index for committed holds the same entry
//! there. With log matching, that makes all entries before it the same too.

use raft::node::{Index, Member, Node, Position, Term};

use super::Broken;

/// The term of every entry that was ever taken for committed.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// By index; `None` where nobody who knew it held the entry any more.
    terms: Vec<Option<Term>>,
    /// How often it was checked.
    pub checked: u64,
}

impl Committed {
    /// A server takes everything up to its commit index for committed; it did so up to `before`.
    ///
    /// # Errors
    /// Another entry was committed there.
    pub fn on_seen(&mut self, member: Member, node: &Node, before: Index) -> Result<(), Broken> {
        let commit = node.commit();
        let length = place(commit) + 1;
        if self.terms.len() < length {
            self.terms.resize(length, None);
        }
        for index in before.0 + 1..=commit.0 {
            let Some(term) = node.term_at(Index(index)) else { continue };
            self.checked += 1;
            let first = *self.terms[place(Index(index))].get_or_insert(term);
            if first != term {
                let what = format!("{index} was committed in {first}, and in {term} by {member}");
                return Err(Broken::new("committed is immutable", what));
            }
        }
        Ok(())
    }

    /// The last index that anybody takes for committed.
    pub fn last(&self) -> Index {
        Index(self.terms.len().saturating_sub(1) as u64)
    }

    /// The last committed entry whose term is known.
    pub fn last_position(&self) -> Option<Position> {
        let known = self.terms.iter().enumerate().rev();
        let mut known = known.filter_map(|(index, term)| Some((index, (*term)?)));
        known.next().map(|(index, term)| Position { index: Index(index as u64), term })
    }

    /// The term of what is committed at `index`, if that is known.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.terms.get(place(index)).copied().flatten()
    }
}

fn place(index: Index) -> usize {
    usize::try_from(index.0).expect("no run is so long")
}
