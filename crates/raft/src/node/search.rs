//! Whom a damaged server asks, and in which order: one member after the other, until everything is
//! found or everybody was asked; then it pauses and begins anew, since servers come back. Which
//! entries are lost is not known here.

use std::collections::{BTreeSet, VecDeque};

use super::config::Config;
use super::types::{Index, Member};

/// A member that is silent for so many heartbeats is passed over.
const ANSWER_HEARTBEATS: u32 = 2;

/// A round of questions, or the pause before the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Search {
    round: Option<Round>,
    /// Ticks until the next round may begin.
    pause: u32,
    /// Whether a round has ended in vain.
    in_vain: bool,
}

/// Invariant: a question is out only to the first of `members`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    /// Who is still to be asked.
    members: VecDeque<Member>,
    /// The first of them was asked for everything below this.
    from: Index,
    question: Option<Question>,
    /// Whether nobody has answered, of those that could.
    is_silent: bool,
    /// What the answers said of their logs: the highest beginning.
    compacted: Index,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    /// What was asked for and not answered.
    awaited: BTreeSet<Index>,
    /// Asked for up to here.
    last: Index,
    elapsed: u32,
}

/// What a round in which not everything was found has brought to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Some server's log begins above this: a snapshot stands for what came before.
    pub(super) compacted: Index,
    /// Whether this is the first round to end like this, and somebody was there to be asked.
    pub(super) news: bool,
}

impl Search {
    pub(super) fn tick(&mut self, heartbeat_ticks: u32) {
        self.pause = self.pause.saturating_sub(1);
        let question = self.round.as_mut().and_then(|round| round.question.as_mut());
        let Some(question) = question else { return };
        question.elapsed += 1;
        if question.elapsed >= ANSWER_HEARTBEATS * heartbeat_ticks {
            self.go_on();
        }
    }

    /// Questions are counted tick by tick.
    pub(super) fn ticks_until_due(&self) -> u32 {
        if self.round.is_some() { 1 } else { self.pause.max(1) }
    }

    /// Whether it is time for another round.
    pub(super) fn wants_members(&self) -> bool {
        self.round.is_none() && self.pause == 0
    }

    pub(super) fn begin(&mut self, members: Vec<Member>) {
        self.round = Some(Round {
            is_silent: !members.is_empty(),
            members: members.into(),
            from: Index(0),
            question: None,
            compacted: Index(0),
        });
    }

    /// Whom to ask now, for what is lost from where on.
    pub(super) fn next_to_ask(&self) -> Option<(Member, Index)> {
        let round = self.round.as_ref().filter(|round| round.question.is_none())?;
        Some((*round.members.front()?, round.from))
    }

    /// The member whose turn it is has been asked for these.
    pub(super) fn on_asked(&mut self, awaited: BTreeSet<Index>) {
        let Some(round) = &mut self.round else { return };
        let last = awaited.last().copied().unwrap_or(round.from);
        round.question = Some(Question { awaited, last, elapsed: 0 });
    }

    /// Leaves the member whose turn it is.
    pub(super) fn go_on(&mut self) {
        if let Some(round) = &mut self.round {
            round.question = None;
            round.from = Index(0);
            round.members.pop_front();
        }
    }

    /// An answer says something of these. One that says nothing of what was asked is no answer.
    pub(super) fn on_answer(
        &mut self,
        from: Member,
        answered: impl Iterator<Item = Index>,
        compacted: Index,
    ) {
        let round = self.round.as_mut().filter(|round| round.members.front() == Some(&from));
        let Some(round) = round else { return };
        let Some(question) = &mut round.question else { return };
        let before = question.awaited.len();
        answered.for_each(|index| {
            question.awaited.remove(&index);
        });
        if question.awaited.len() == before {
            return;
        }
        round.from = question.awaited.first().copied().unwrap_or(question.last.next());
        round.question = None;
        round.is_silent = false;
        round.compacted = round.compacted.max(compacted);
    }

    /// Ends the round if everybody was asked. The next one begins after an election timeout; or
    /// after a heartbeat if nobody answered, since then it is the network that is not there yet.
    pub(super) fn end(&mut self, config: &Config) -> Option<Known> {
        let round = self.round.take_if(|round| round.members.is_empty())?;
        let silent = round.is_silent;
        self.pause = if silent { config.heartbeat_ticks } else { config.election_ticks_min };
        let news = !self.in_vain && !silent;
        self.in_vain |= news;
        Some(Known { compacted: round.compacted, news })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::{Boot, Incarnation, NodeId};

    fn member(id: &str) -> Member {
        Member { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
    }

    fn asked(indexes: &[u64]) -> BTreeSet<Index> {
        indexes.iter().copied().map(Index).collect()
    }

    fn config() -> Config {
        Config::new(member("s1"), Boot(1))
    }

    #[test]
    fn what_an_answer_leaves_out_is_asked_for_again_and_then_the_next_member_is_asked() {
        let mut search = Search::default();
        assert!(search.wants_members());
        search.begin(vec![member("s2"), member("s3")]);
        assert_eq!(search.next_to_ask(), Some((member("s2"), Index(0))));
        search.on_asked(asked(&[4, 7, 9]));
        assert_eq!(search.next_to_ask(), None, "one question at a time");
        search.on_answer(member("s3"), [Index(4)].into_iter(), Index(0));
        search.on_answer(member("s2"), [Index(5)].into_iter(), Index(0));
        assert_eq!(search.next_to_ask(), None, "neither answers the question");
        search.on_answer(member("s2"), [Index(4), Index(9)].into_iter(), Index(2));
        assert_eq!(search.next_to_ask(), Some((member("s2"), Index(7))));
        search.on_asked(asked(&[7]));
        search.on_answer(member("s2"), [Index(7)].into_iter(), Index(2));
        assert_eq!(search.next_to_ask(), Some((member("s2"), Index(8))));
        search.go_on();
        assert_eq!(search.next_to_ask(), Some((member("s3"), Index(0))));
        assert_eq!(search.end(&config()), None, "somebody was not asked");
        search.go_on();
        let known = Known { compacted: Index(2), news: true };
        assert_eq!(search.end(&config()), Some(known));
        assert!(!search.wants_members(), "there is a pause");
    }

    #[test]
    fn a_silent_member_is_passed_over_and_a_silent_round_is_soon_tried_again() {
        let config = config();
        let mut search = Search::default();
        search.begin(vec![member("s2")]);
        search.on_asked(asked(&[4]));
        (0..2 * config.heartbeat_ticks).for_each(|_| search.tick(config.heartbeat_ticks));
        assert_eq!(search.next_to_ask(), None);
        assert_eq!(search.end(&config), Some(Known { compacted: Index(0), news: false }));
        (0..config.heartbeat_ticks).for_each(|_| search.tick(config.heartbeat_ticks));
        assert!(search.wants_members());
    }
}
