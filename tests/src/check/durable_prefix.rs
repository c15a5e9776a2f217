//! A leader counts on a follower only for what is on the follower's disk: what it takes for
//! matched is never above the follower's durable prefix. And no start forgets of that prefix what
//! was committed.

use std::collections::BTreeMap;

use raft::node::{Index, Member, Node, RoleName, Term};

use super::Broken;
use super::committed::Committed;

/// What is on whose disk.
#[derive(Clone, Debug, Default)]
pub struct DurablePrefix {
    /// The end of each member's durable prefix when it was last seen, and its term then.
    durable: BTreeMap<Member, (Term, Index)>,
    /// Up to where each member's disk holds what it knows to be committed.
    kept: BTreeMap<Member, Index>,
    /// How often it was checked that nothing unwritten is counted on.
    pub checked: u64,
    /// How often it was checked that a start has forgotten nothing.
    pub starts_checked: u64,
}

impl DurablePrefix {
    /// A server is seen.
    ///
    /// # Errors
    /// It takes for durable what its log does not hold; or it leads, and counts on more than a
    /// follower has.
    pub fn on_seen(&mut self, member: Member, node: &Node) -> Result<(), Broken> {
        let (term, durable) = (node.term(), node.durable());
        if durable > node.last().index {
            let what = format!("{member} has {durable} on its disk, and a log to {}", node.last());
            return Err(Broken::new("what is durable is in the log", what));
        }
        self.durable.insert(member, (term, durable));
        let kept = self.kept.entry(member).or_default();
        *kept = durable.min(node.commit()).max(*kept);
        if node.role() != RoleName::Leader {
            return Ok(());
        }
        for follower in node.followers().filter(|follower| follower.member != member) {
            let Some((at, durable)) = self.durable.get(&follower.member) else { continue };
            self.checked += 1;
            if *at == term && follower.matched > *durable {
                let (other, matched) = (follower.member, follower.matched);
                let what = format!("{member} counts on {other} up to {matched}, and {durable} is");
                return Err(Broken::new("match index within the durable prefix", what));
            }
        }
        Ok(())
    }

    /// A process has started.
    ///
    /// # Errors
    /// Its log lacks an entry that was on its disk and is committed.
    pub fn on_started(
        &mut self,
        member: Member,
        node: &Node,
        committed: &Committed,
    ) -> Result<(), Broken> {
        let Some(kept) = self.kept.get(&member).copied() else { return Ok(()) };
        self.starts_checked += 1;
        let is_there = kept <= node.log_start().index
            || kept <= node.last().index
                && committed.term_at(kept).is_none_or(|term| node.term_at(kept) == Some(term));
        if is_there {
            return Ok(());
        }
        let what = format!("{member} starts with a log up to {}, and had {kept}", node.last());
        Err(Broken::new("what was durable stays", what))
    }
}
