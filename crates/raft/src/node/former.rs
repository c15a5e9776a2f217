//! Proposals whose leader leads no more. Whether they happen is for later leaders to decide, but a
//! server that stays in its cluster soon learns it: from what is committed where they stood.
//!
//! Why a word of that is sound. An entry is named by index and term. If the very entry of a
//! proposal is committed, the proposal happened. If another one is committed at its index, it never
//! will, for what is committed at an index stays (state machine safety). And no more will any that
//! was proposed behind it in the same term: a log that holds one of those holds all before it
//! (log matching), and a log that lacks a committed entry is nobody's that leads.
//!
//! Whoever waits is better served by an early *unknown* than by a late word, since it may ask
//! another server again under the same name. So a server that lost its quorum, and probably hears
//! nothing, says so at once, and every other waits for an election timeout, in which a successor
//! ordinarily commits its first entry. A snapshot that takes the place of the log tells nothing.

use std::collections::VecDeque;

use super::Node;
use super::actions::{Ended, ProposalOutcome, StepDown};
use super::types::{Index, Term};

/// Proposals that are remembered at most. Further ones end as unknown at once.
const FORMER_MAX: u64 = 8192;

/// What former leaderships left undecided.
///
/// Invariants: no run is empty, each is above the commit index, and together they have no more
/// than `FORMER_MAX` proposals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Former {
    runs: VecDeque<Run>,
}

/// Proposals of one term that follow each other in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Run {
    term: Term,
    first: Index,
    last: Index,
    /// Ticks until it is unknown.
    ticks: u32,
}

impl Run {
    fn count(&self) -> u64 {
        self.last.0 + 1 - self.first.0
    }

    fn ended(&self, first: Index, last: Index, outcome: ProposalOutcome) -> Option<Ended> {
        (first <= last).then_some(Ended { indexes: first..=last, term: self.term, outcome })
    }
}

impl Former {
    /// Ticks until time alone ends one.
    pub(super) fn ticks_until_due(&self) -> Option<u32> {
        self.runs.iter().map(|run| run.ticks).min()
    }
}

impl Node {
    /// This leader stops: what becomes of its proposals from `first` on is for others to decide.
    pub(super) fn leave_proposals(&mut self, first: Index, reason: Option<StepDown>) {
        let told = self.ended.len();
        self.end_proposals(first, self.log.last().index, ProposalOutcome::Unknown);
        if matches!(reason, None | Some(StepDown::NoQuorum)) {
            return;
        }
        let mut room = FORMER_MAX - self.former.runs.iter().map(Run::count).sum::<u64>();
        for Ended { indexes, term, outcome } in self.ended.split_off(told) {
            let (first, last) = indexes.into_inner();
            let run = Run { term, first, last, ticks: self.config.election_ticks_min };
            let kept = run.count().min(room);
            room -= kept;
            let kept_to = Index(first.0 + kept).previous();
            if kept > 0 {
                self.former.runs.push_back(Run { last: kept_to, ..run });
            }
            self.ended.extend(run.ended(Index(first.0 + kept), last, outcome));
        }
    }

    /// Everything up to `to` is committed, and the log holds it.
    pub(super) fn decide_former_proposals(&mut self, to: Index) {
        if self.former.runs.is_empty() {
            return;
        }
        let mut left = VecDeque::new();
        for run in std::mem::take(&mut self.former.runs) {
            let decided = (run.first.0..=run.last.min(to).0).map(Index);
            let is_committed = |index: &Index| self.log.term(*index) == Some(run.term);
            let count = decided.clone().take_while(is_committed).count() as u64;
            let next = Index(run.first.0 + count);
            let committed = run.ended(run.first, next.previous(), ProposalOutcome::Committed);
            self.ended.extend(committed);
            if next <= run.last.min(to) {
                self.ended.extend(run.ended(next, run.last, ProposalOutcome::Superseded));
            } else if next <= run.last {
                left.push_back(Run { first: next, ..run });
            }
        }
        self.former.runs = left;
    }

    /// A snapshot at `to` stands for what was committed up to there.
    pub(super) fn forget_former_proposals(&mut self, to: Index) {
        for run in std::mem::take(&mut self.former.runs) {
            let last = run.last.min(to);
            self.ended.extend(run.ended(run.first, last, ProposalOutcome::Unknown));
            let first = run.first.max(to.next());
            self.former.runs.extend((first <= run.last).then_some(Run { first, ..run }));
        }
    }

    /// A tick: what was not decided in time is unknown.
    pub(super) fn tick_former_proposals(&mut self) {
        let Self { former, ended, .. } = self;
        former.runs.retain_mut(|run| {
            run.ticks -= 1;
            let is_over = run.ticks == 0;
            ended.extend(
                run.ended(run.first, run.last, ProposalOutcome::Unknown).filter(|_| is_over),
            );
            !is_over
        });
    }
}
