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
        if is_next {
            self.plan_in(lasts + pause, Happening::Coup);
        }
        Ok(count > 1)
    }

    /// A leader is given commands whose end nobody waits for.
    fn flood(&mut self, leader: usize, commands: u64) -> Result<(), Broken> {
        let operation =
            Operation::Set { key: b"flood", value: b"water", condition: Condition::None };
        let bytes = Command { session: None, operation }.to_bytes();
        for _ in 0..commands {
            let Some(process) = &mut self.servers[leader].process else { return Ok(()) };
            let token = Token(process.next_name());
            process.orders.insert(token);
            self.hand_in(leader, Input::Propose(token, Payload::new(bytes.clone())))?;
        }
        Ok(())
    }
}
