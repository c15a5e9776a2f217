//! What must hold after every input, in the words in which the types state it. The cheap checks
//! stay on in release builds: a node that broke one must not go on.

use super::configuration::Voter;
use super::progress::Progress;
use super::role::Role;
use super::types::{HardState, Index};
use super::{Node, quorum};

/// What was seen of a node when its invariants last held. It decides nothing, so nodes that differ
/// in it alone are equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastSeen {
    hard_state: HardState,
    commit: Index,
    applied: Index,
}

impl LastSeen {
    pub(super) fn new(hard_state: HardState, commit: Index, applied: Index) -> Self {
        Self { hard_state, commit, applied }
    }
}

impl PartialEq for LastSeen {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastSeen {}

impl std::hash::Hash for LastSeen {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Node {
    pub(super) fn assert_invariants(&mut self) {
        self.assert_nothing_goes_back();
        let (applied, commit) = (self.applied, self.commit);
        let (durable, last) = (self.durability.durable(), self.log.last());
        let start = self.log.start().index;
        if self.snapshots.machine_is_lost() {
            assert!(
                start <= commit && commit <= last.index && applied.0 == 0,
                "compacted {start} <= committed {commit} <= last {last}, and nothing is applied \
                 without a state"
            );
        } else {
            let snapshot = self.newest_snapshot();
            assert!(
                start <= snapshot
                    && snapshot <= applied
                    && applied <= commit.min(durable)
                    && commit <= last.index,
                "compacted {start} <= snapshot {snapshot} <= applied {applied} <= min(committed \
                 {commit}, durable {durable}), committed <= last {last}"
            );
        }
        assert!(
            self.hard_state.term >= last.term,
            "the term {} is never below the last entry's, {last}",
            self.hard_state.term
        );
        let (first, newest) = self.repair.bounds();
        assert!(
            first > start && newest <= last.index,
            "lost entries {first} to {newest} are part of the log, after {start} and up to {last}"
        );
    }

    fn assert_nothing_goes_back(&mut self) {
        let LastSeen { hard_state: before, commit, applied } = self.last_seen;
        assert!(
            commit <= self.commit && applied <= self.applied,
            "committed {} and applied {} never go back, from {commit} and {applied}",
            self.commit,
            self.applied
        );
        (self.last_seen.commit, self.last_seen.applied) = (self.commit, self.applied);
        let now = self.hard_state;
        if now != before {
            let is_first_vote = now.term == before.term && before.vote.is_none();
            assert!(
                now.term > before.term || is_first_vote,
                "a term never goes back, and a vote changes only when it grows: {before:?}, then \
                 {now:?}"
            );
            self.last_seen.hard_state = now;
        }
    }

    /// By brute force, unlike the sort that decides: a majority of each half holds the newest entry
    /// of this leader's term that it has committed. So it is when it commits it; a configuration
    /// that is appended afterwards may have other voters.
    pub(super) fn assert_commit_has_quorum(&self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.commit < leader.term_start {
            return;
        }
        let holds = |voter: &&Voter| {
            let matched = leader.progress.get(&voter.member).map(Progress::matched);
            let own = (voter.member == self.config.me).then(|| self.proven());
            matched.or(own).is_some_and(|matched| matched >= self.commit)
        };
        let configuration = self.membership.current();
        for half in [configuration.voters(), configuration.outgoing()] {
            let holders = half.iter().filter(holds).count();
            assert!(
                half.is_empty() || holders >= quorum::majority(half.len()),
                "committed {} but only {holders} of {} voters hold it",
                self.commit,
                half.len()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::node::{
        Boot, Config, Configuration, DurableState, Incarnation, Member, Node, NodeId, RoleName,
        Term, Voter,
    };

    fn member(n: u64) -> Member {
        let id = NodeId::new(&format!("s{n}")).unwrap();
        Member { id, incarnation: Incarnation(n) }
    }

    /// A candidate of three that voted for itself.
    fn candidate() -> Node {
        let voter = |n| Voter { member: member(n), address: format!("a:{n}") };
        let founders = Configuration::new((1..=3).map(voter).collect()).unwrap();
        let config = Config::new(member(1), Boot(1));
        let mut node = Node::restore(config, DurableState::new(founders), 1).unwrap();
        node.start_election(crate::node::Cause::Silence);
        drop(node.drain());
        assert_eq!((node.role(), node.hard_state.vote), (RoleName::Candidate, Some(member(1))));
        node
    }

    #[test]
    fn a_term_that_grows_may_forget_the_vote() {
        let mut node = candidate();
        node.adopt_term(node.term().next());
        drop(node.drain());
        assert_eq!(node.hard_state.vote, None);
    }

    #[test]
    #[should_panic(expected = "a vote changes only when it grows")]
    fn another_vote_in_the_same_term_stops_the_node() {
        let mut node = candidate();
        node.hard_state.vote = Some(member(2));
        drop(node.drain());
    }

    #[test]
    #[should_panic(expected = "a term never goes back")]
    fn an_earlier_term_stops_the_node() {
        let mut node = candidate();
        node.hard_state.term = Term(node.term().0 - 1);
        node.assert_invariants();
    }

    #[test]
    #[should_panic(expected = "never go back")]
    fn what_was_committed_and_is_not_stops_the_node() {
        let mut node = candidate();
        node.last_seen.commit = node.commit.next();
        drop(node.drain());
    }
}
