//! Leaders that lose the cluster while they have much to do. What they append then nobody else has,
//! or few have: later leaders write something else in its place, and for some time the longest log
//! is not the right one.

use kvstore::store::command::Command;
use kvstore::store::{Condition, Operation};
use raft::driver::Input;
use raft::node::Payload;
use raft::replica::Token;

use crate::check::Broken;

use super::agenda::MILLISECOND;
use super::client::value_bytes;
use super::dice::Chance;
use super::plan::FaultKind;
use super::world::{Happening, World};

/// Others have a leader of their own after so long, at least.
const ELECTION_MICROS: u64 = 500 * MILLISECOND;

impl World {
    /// The leader is cut off from all others, or from all but one, and is given commands and
    /// perhaps a change. Often the next leader follows it. True if there was one.
    pub(super) fn depose(&mut self) -> Result<bool, Broken> {
        let Some(leader) = self.leader().filter(|_| !self.is_calm) else { return Ok(false) };
        let count = self.servers.len();
        let dice = self.dice.fault(FaultKind::Coup);
        let lasts = ELECTION_MICROS / 2 + dice.below(3 * ELECTION_MICROS);
        let friend = dice.permille(400).then(|| dice.place(count));
        let (commands, changes) = (dice.pick(&[0, 3, 20, 60]), dice.permille(400));
        let (is_deaf, is_next) = (dice.permille(700), dice.permille(400));
        let pause = dice.below(ELECTION_MICROS);
        for other in (0..count).filter(|other| *other != leader && Some(*other) != friend) {
            self.cut((leader, other), lasts);
            if is_deaf {
                self.cut((other, leader), lasts);
            }
        }
        self.flood(leader, commands)?;
        if changes {
            let what = self.dice.fault(FaultKind::Coup).between(3, 11);
            if let Some(change) = self.choose_change(leader, what) {
                self.ask(leader, change)?;
            }
        }
        // Before the old leader comes back, the new one may have the longer log.
        let dice = self.dice.fault(FaultKind::Coup);
        let more = dice.pick(&[0, 10, 80]);
        let before = lasts.saturating_sub(dice.below(200 * MILLISECOND));
        self.plan_in(before, Happening::Flood(more));
        if is_next {
            self.plan_in(lasts + pause, Happening::Coup);
        }
        Ok(count > 1)
    }

    /// A leader that has told another server to take over perhaps hears a little late that it did,
    /// and what was said before that.
    pub(super) fn deafen(&mut self, leader: usize) {
        let (now, count) = (self.now(), self.servers.len());
        let dice = self.dice.fault(FaultKind::Coup);
        let (is_deaf, late) = (dice.permille(600), dice.below(80 * MILLISECOND));
        if is_deaf && !self.is_calm && self.plan.faults.every(FaultKind::Coup).is_some() {
            (0..count).for_each(|other| self.network.clog((other, leader), now + late));
        }
    }

    /// The leader of the moment is given commands.
    pub(super) fn flood_the_leader(&mut self, commands: u64) -> Result<(), Broken> {
        match self.leader().filter(|_| !self.is_calm) {
            Some(leader) => self.flood(leader, commands),
            None => Ok(()),
        }
    }

    /// A leader is given commands, each another one, of which nobody asks what became of them.
    pub(super) fn flood(&mut self, leader: usize, commands: u64) -> Result<(), Broken> {
        for _ in 0..commands {
            self.flooded += 1;
            let value = value_bytes(self.flooded);
            let operation =
                Operation::Set { key: b"flood", value: &value, condition: Condition::None };
            let bytes = Command { session: None, operation }.to_bytes();
            let Some(process) = &mut self.servers[leader].process else { return Ok(()) };
            let token = Token(process.next_name());
            process.orders.insert(token, Some(bytes.clone()));
            self.hand_in(leader, Input::Propose(token, Payload::new(bytes)))?;
        }
        Ok(())
    }
}
