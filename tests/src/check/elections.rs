//! Election safety (dissertation 3.4): at most one leader per term, and it has the votes of a
//! quorum.

use std::collections::BTreeMap;

use raft::node::{Configuration, Member, Term};

use super::Broken;

/// Who led which term.
#[derive(Clone, Debug, Default)]
pub struct Elections {
    leaders: BTreeMap<Term, Member>,
    /// How often it was checked.
    pub checked: u64,
}

impl Elections {
    /// This member leads in this term.
    ///
    /// # Errors
    /// Another does too.
    pub fn on_leader(&mut self, term: Term, leader: Member) -> Result<(), Broken> {
        self.checked += 1;
        let first = *self.leaders.entry(term).or_insert(leader);
        if first == leader {
            return Ok(());
        }
        let what = format!("term {term} has two leaders, {first} and {leader}");
        Err(Broken::new("election safety", what))
    }

    /// This member leads by this configuration. `votes` says who gave it a vote.
    ///
    /// # Errors
    /// Those who did are no quorum.
    pub fn on_elected(
        &mut self,
        term: Term,
        leader: Member,
        configuration: &Configuration,
        votes: impl Fn(Member) -> bool,
    ) -> Result<(), Broken> {
        let has_given = |voter: Member| voter == leader || votes(voter);
        if configuration.quorum().has(|voter| has_given(voter.member)) {
            return Ok(());
        }
        let members = configuration.members();
        let given: Vec<Member> = members.filter(|member| has_given(*member)).collect();
        let what = format!("{leader} leads term {term} with votes of {given:?} alone");
        Err(Broken::new("a leader has a quorum's votes", what))
    }

    /// How many terms had a leader.
    pub fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }
}
