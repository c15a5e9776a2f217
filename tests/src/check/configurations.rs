//! The configuration in force is the last one in the log, or the snapshot's if the log holds none
//! (dissertation 4.1): from the moment it is appended until another is, or it is truncated.

use std::collections::BTreeMap;

use raft::node::{Configuration, Entry, EntryKind, Index, Member, Node, Position, Term};

use super::Broken;

/// Every configuration that a leader ever sent.
#[derive(Clone, Debug, Default)]
pub struct Configurations {
    /// In the order of their indexes.
    sent: Vec<(Position, Configuration)>,
    /// What each server was last found to have in force, the end of its log then, and the term of
    /// the entry that brought it.
    seen: BTreeMap<Member, (Index, Position, Option<Term>)>,
    /// How often it was checked.
    pub checked: u64,
}

impl Configurations {
    /// A leader sends entries.
    pub fn on_sent<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) {
        for entry in entries.into_iter().filter(|it| it.kind == EntryKind::Configuration) {
            let position = entry.position();
            let at = self.sent.partition_point(|(known, _)| {
                (known.index, known.term) < (position.index, position.term)
            });
            if self.sent.get(at).is_none_or(|(known, _)| *known != position)
                && let Ok(configuration) = Configuration::decode(&entry.payload.bytes)
            {
                self.sent.insert(at, (position, configuration));
            }
        }
    }

    /// A server is seen.
    ///
    /// # Errors
    /// Its log holds a later configuration than the one that it goes by, or another one.
    pub fn on_seen(&mut self, member: Member, node: &Node) -> Result<(), Broken> {
        let (in_force, last) = (node.configuration_index(), node.last());
        let term = node.term_at(in_force);
        let seen = self.seen.insert(member, (in_force, last, term));
        if seen == Some((in_force, last, term)) || !node.knows_configuration() {
            return Ok(());
        }
        self.checked += 1;
        self.check_is_held(member, node, seen)?;
        let later = self.sent.iter().rev().take_while(|(position, _)| position.index >= in_force);
        for (position, configuration) in later {
            if node.term_at(position.index) != Some(position.term) {
                continue;
            }
            if position.index > in_force {
                let what = format!("{member} goes by {in_force} and its log holds {position}");
                return Err(Broken::new("the last configuration counts", what));
            }
            if node.log_start().index < in_force && configuration != node.configuration() {
                let what = format!("{member} has something else in force than {position} says");
                return Err(Broken::new("the last configuration counts", what));
            }
        }
        Ok(())
    }

    /// What is in force goes with the entry that brought it: at the same place of the log another
    /// one may have come, if that is a configuration too.
    fn check_is_held(
        &self,
        member: Member,
        node: &Node,
        seen: Option<(Index, Position, Option<Term>)>,
    ) -> Result<(), Broken> {
        let in_force = node.configuration_index();
        let is_cut = in_force > node.last().index;
        let term = node.term_at(in_force).filter(|_| in_force > node.log_start().index);
        let was = seen.filter(|(index, ..)| *index == in_force).and_then(|(.., term)| term);
        let is_replaced = match (was, term) {
            (Some(was), Some(term)) if was != term => {
                let here = Position { index: in_force, term };
                self.sent.iter().all(|(position, _)| *position != here)
            }
            _ => false,
        };
        if !is_cut && !is_replaced {
            return Ok(());
        }
        let what = format!("{member} goes by {in_force}, which its log does not hold any more");
        Err(Broken::new("the last configuration counts", what))
    }
}
