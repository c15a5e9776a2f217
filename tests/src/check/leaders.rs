//! What a leader's log is: it holds every committed entry (leader completeness, dissertation 3.4),
//! and while it leads, the log only grows (leader append-only). Only entries of its own term are
//! committed by being counted (3.6.2).

use std::collections::BTreeMap;

use raft::node::{Index, Member, Node, Position, RoleName, Term};

use super::Broken;

/// A leader, as it was last seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    term: Term,
    /// Where its log ended.
    end: Position,
    commit: Index,
}

/// What was seen of each leader.
#[derive(Clone, Debug, Default)]
pub struct Leaders {
    seen: BTreeMap<Member, Seen>,
    /// How often completeness was checked.
    pub completeness_checked: u64,
    /// How often it was checked that a log only grew.
    pub append_only_checked: u64,
}

/// Whether a log holds a position, or begins behind it.
fn holds(node: &Node, position: Position) -> bool {
    match node.term_at(position.index) {
        Some(term) => term == position.term,
        None => position.index <= node.log_start().index,
    }
}

impl Leaders {
    /// A server leads from now on; the last entry that is committed is `committed`.
    ///
    /// # Errors
    /// It does not hold that.
    pub fn on_elected(
        &mut self,
        member: Member,
        node: &Node,
        committed: Option<Position>,
    ) -> Result<(), Broken> {
        let Some(committed) = committed else { return Ok(()) };
        self.completeness_checked += 1;
        if holds(node, committed) {
            return Ok(());
        }
        let what = format!("{member} leads term {} without {committed}", node.term());
        Err(Broken::new("leader completeness", what))
    }

    /// A server is seen.
    ///
    /// # Errors
    /// It leads, and its log has lost entries since it was seen in that term, or it has counted an
    /// entry of an earlier one.
    pub fn on_seen(&mut self, member: Member, node: &Node) -> Result<(), Broken> {
        if node.role() != RoleName::Leader {
            return Ok(());
        }
        self.append_only_checked += 1;
        let (term, commit) = (node.term(), node.commit());
        let now = Seen { term, end: node.last(), commit };
        let before = self.seen.insert(member, now).unwrap_or(now);
        if before.term != term {
            return Ok(());
        }
        let end = before.end;
        if !holds(node, end) {
            let what = format!("{member} leads term {term} and has removed {end}");
            return Err(Broken::new("leader append-only", what));
        }
        let counted = node.term_at(commit).filter(|_| commit > before.commit);
        match counted.filter(|of| *of != term) {
            None => Ok(()),
            Some(of) => {
                let what = format!("{member} leads term {term} and commits {commit} of {of}");
                Err(Broken::new("a leader counts entries of its own term", what))
            }
        }
    }
}
