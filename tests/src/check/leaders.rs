//! What a leader's log is: it holds every committed entry (leader completeness, dissertation 3.4),
//! and while it leads, the log only grows (leader append-only).

use std::collections::BTreeMap;

use raft::node::{Member, Node, Position, RoleName, Term};

use super::Broken;

/// Where the log of each leader ended when it was last seen.
#[derive(Clone, Debug, Default)]
pub struct Leaders {
    ends: BTreeMap<Member, (Term, Position)>,
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
    /// It leads, and its log has lost entries since it was seen in that term.
    pub fn on_seen(&mut self, member: Member, node: &Node) -> Result<(), Broken> {
        if node.role() != RoleName::Leader {
            return Ok(());
        }
        self.append_only_checked += 1;
        let now = (node.term(), node.last());
        let (term, end) = self.ends.insert(member, now).unwrap_or(now);
        if term != node.term() || holds(node, end) {
            return Ok(());
        }
        let what = format!("{member} leads term {term} and has removed {end}");
        Err(Broken::new("leader append-only", what))
    }
}
