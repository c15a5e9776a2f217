//! What must hold after every input, in the words in which the types state it. The cheap checks
//! stay on in release builds: a node that broke one must not go on.

use super::configuration::Voter;
use super::progress::Progress;
use super::role::Role;
use super::{Node, quorum};

impl Node {
    pub(super) fn assert_invariants(&self) {
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
