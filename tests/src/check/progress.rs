//! What only grows. Within one process that is term, commit and applied, and the vote of a term
//! stands; across restarts, the term is never below one that the server has spoken in, and a vote
//! once told stands for its term.

use std::collections::BTreeMap;

use raft::node::{Index, Member, Node, Term};

use super::Broken;

const INVARIANT: &str = "monotonic progress";

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    term: Term,
    vote: Option<Member>,
    commit: Index,
    applied: Index,
}

/// What was seen of each member.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Of the running process.
    running: BTreeMap<Member, Seen>,
    /// The highest term that left each member, in any of its processes.
    spoken: BTreeMap<Member, Term>,
    /// Whom each member has voted for, as it told the candidate.
    votes: BTreeMap<(Member, Term), Member>,
    /// How often it was checked.
    pub checked: u64,
}

impl Progress {
    /// A process of this member has started.
    ///
    /// # Errors
    /// It has forgotten a term that it spoke in, or a vote that it told.
    pub fn on_started(&mut self, member: Member, node: &Node) -> Result<(), Broken> {
        self.running.remove(&member);
        let spoken = self.spoken.get(&member).copied().unwrap_or_default();
        if node.term() < spoken {
            let what = format!("{member} starts in term {}, and spoke in {spoken}", node.term());
            return Err(Broken::new(INVARIANT, what));
        }
        let told = self.votes.get(&(member, node.term())).copied();
        if told.is_some() && told != node.vote() {
            let what = format!("{member} starts with the vote {:?}, told {told:?}", node.vote());
            return Err(Broken::new(INVARIANT, what));
        }
        self.on_seen(member, node).map(drop)
    }

    /// A running member is seen so. Returns what it took for committed when it was seen before.
    ///
    /// # Errors
    /// Something has gone back.
    pub fn on_seen(&mut self, member: Member, node: &Node) -> Result<Index, Broken> {
        self.checked += 1;
        let (term, vote) = (node.term(), node.vote());
        let (commit, applied) = (node.commit(), node.applied());
        let seen = self.running.entry(member).or_default();
        let before = *seen;
        *seen = Seen { term, vote, commit, applied };
        let votes_otherwise = term == before.term && before.vote.is_some() && vote != before.vote;
        if term < before.term
            || votes_otherwise
            || commit < before.commit
            || applied < before.applied
        {
            let what = format!("{member} went back from {before:?} to {seen:?}");
            return Err(Broken::new(INVARIANT, what));
        }
        Ok(before.commit)
    }

    /// A message of this term left the member.
    pub fn on_spoken(&mut self, member: Member, term: Term) {
        let spoken = self.spoken.entry(member).or_default();
        *spoken = term.max(*spoken);
    }

    /// Whether the member told this candidate that it has its vote.
    pub fn has_voted(&self, voter: Member, term: Term, candidate: Member) -> bool {
        self.votes.get(&(voter, term)) == Some(&candidate)
    }

    /// The member told a candidate that it has its vote.
    ///
    /// # Errors
    /// It told another candidate of the same term the same.
    pub fn on_vote(&mut self, voter: Member, term: Term, to: Member) -> Result<(), Broken> {
        self.checked += 1;
        let first = *self.votes.entry((voter, term)).or_insert(to);
        if first == to {
            return Ok(());
        }
        let what = format!("{voter} voted for {first} and for {to} in term {term}");
        Err(Broken::new("one vote per term", what))
    }
}
