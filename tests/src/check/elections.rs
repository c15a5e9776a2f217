//! Election safety (dissertation 3.4): at most one leader per term.

use std::collections::BTreeMap;

use raft::node::{Member, Term};

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

    /// How many terms had a leader.
    pub fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }
}
