//! No server claims what it cannot prove: what is damaged on its disk, and what follows it, it does
//! not acknowledge, however much of it the cluster holds.

use std::collections::BTreeMap;

use raft::node::{Index, Member, Message, Node};

use super::Broken;

/// What is known of one server's damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// The first damaged entry, and how many there are.
    damage: (Index, u64),
    /// Where the log ended when that was news. What is acknowledged above was acknowledged later.
    end: Index,
}

/// Who knows of damage in its log.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    seen: BTreeMap<Member, Seen>,
    /// How often it was checked.
    pub checked: u64,
}

impl Damage {
    /// A process has started: nothing that it says was to be said before it knew of its damage.
    pub fn on_started(&mut self, member: Member, node: &Node) {
        self.seen.remove(&member);
        if let Some(first) = node.first_damaged() {
            let damage = (first, node.damaged());
            self.seen.insert(member, Seen { damage, end: Index(0) });
        }
    }

    /// A server is seen, after it has said what it had to say.
    pub fn on_seen(&mut self, member: Member, node: &Node) {
        let Some(first) = node.first_damaged() else {
            self.seen.remove(&member);
            return;
        };
        let (damage, end) = ((first, node.damaged()), node.last().index);
        let seen = self.seen.entry(member).or_insert(Seen { damage, end });
        if seen.damage != damage {
            *seen = Seen { damage, end: end.max(seen.end) };
        }
    }

    /// A message leaves a server.
    ///
    /// # Errors
    /// It acknowledges damaged entries, or what follows them, and knew of the damage before.
    pub fn on_spoken(
        &mut self,
        from: Member,
        message: &Message,
        node: &Node,
    ) -> Result<(), Broken> {
        let (Message::AppendAccepted { matched } | Message::AppendAcceptedInPart { matched, .. }) =
            message
        else {
            return Ok(());
        };
        let Some(Seen { damage, end }) = self.seen.get(&from) else { return Ok(()) };
        if node.first_damaged().map(|first| (first, node.damaged())) != Some(*damage) {
            return Ok(());
        }
        self.checked += 1;
        let first = damage.0;
        if *matched < first || matched <= end {
            return Ok(());
        }
        let what = format!("{from} acknowledges up to {matched}, and {first} is damaged");
        Err(Broken::new("what is damaged is not acknowledged", what))
    }
}
