//! State machine safety (dissertation 3.6.3): no two servers apply different commands at one index,
//! and to the same commands they answer the same. What is applied once is so for good, also where a
//! snapshot brought it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvstore::store::{Outcome, Reply};
use raft::node::Index;

use super::Broken;

const INVARIANT: &str = "state machine safety";

/// What was first applied at each index, and what states came of it.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    applied: BTreeMap<Index, (Bytes, Reply)>,
    hashes: BTreeMap<Index, u64>,
    /// How often it was checked.
    pub checked: u64,
}

impl Agreement {
    /// Somebody applied this.
    ///
    /// # Errors
    /// Somebody else applied something else there, or answered otherwise.
    pub fn on_applied(
        &mut self,
        index: Index,
        command: &Bytes,
        reply: Reply,
    ) -> Result<(), Broken> {
        self.checked += 1;
        let (first, answer) = self.applied.entry(index).or_insert_with(|| (command.clone(), reply));
        if first != command {
            let what = format!("two servers applied different commands at {index}");
            return Err(Broken::new(INVARIANT, what));
        }
        if *answer != reply {
            let what = format!("one command at {index}, two answers: {answer:?} and {reply:?}");
            return Err(Broken::new(INVARIANT, what));
        }
        Ok(())
    }

    /// Somebody who has applied everything up to `index` is in a state with this hash.
    ///
    /// # Errors
    /// Somebody else was in another.
    pub fn on_state(&mut self, index: Index, hash: u64) -> Result<(), Broken> {
        self.checked += 1;
        let first = *self.hashes.entry(index).or_insert(hash);
        if first == hash {
            return Ok(());
        }
        let what = format!("two states at {index}: {first:016x} and {hash:016x}");
        Err(Broken::new(INVARIANT, what))
    }

    /// A client is told that what was applied here gave this answer. Returns the checksum of the
    /// command.
    ///
    /// # Errors
    /// Something else was applied, or nothing.
    pub fn on_acknowledged(&mut self, index: Index, reply: Reply) -> Result<u32, Broken> {
        self.checked += 1;
        match self.applied.get(&index) {
            Some((command, answer)) if *answer == reply => Ok(crc32fast::hash(command)),
            other => {
                let what = format!("the answer {reply:?} of {index}, where {other:?} was applied");
                Err(Broken::new(INVARIANT, what))
            }
        }
    }

    /// Every command that was carried out, in order. One that its session's account turned away was
    /// applied, and did nothing.
    pub fn commands(&self) -> impl Iterator<Item = (Index, &Bytes)> {
        let carried_out = self
            .applied
            .iter()
            .filter(|(_, (_, reply))| !matches!(reply.outcome, Outcome::Refused(_)));
        carried_out.map(|(index, (command, _))| (*index, command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvstore::store::{Refusal, Revision};

    #[test]
    fn what_was_turned_away_was_applied_and_not_carried_out() {
        let mut agreement = Agreement::default();
        let refusal = Refusal::BelowMark { sequence: 1, lowest_unanswered: 2 };
        let outcomes = [Outcome::Deleted { keys: 1 }, Outcome::Refused(refusal)];
        for (index, outcome) in (1..).zip(outcomes) {
            let reply = Reply { revision: Revision(1), outcome };
            let command = Bytes::from(vec![1]);
            assert!(agreement.on_applied(Index(index), &command, reply).is_ok());
        }
        let carried_out: Vec<Index> = agreement.commands().map(|(index, _)| index).collect();
        assert_eq!(carried_out, [Index(1)]);
    }
}
