//! The node's settings: who it is, its times in ticks, its limits in bytes.

use super::types::{Boot, Member};

/// Settings of one node. Checked once, when the node is restored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This server.
    pub me: Member,
    /// This start of it.
    pub boot: Boot,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// The shortest election timeout, in ticks. For this long after hearing from a leader a
    /// server helps nobody to depose it, and for this long a leader may be without its quorum.
    pub election_ticks_min: u32,
    /// The longest election timeout, in ticks.
    pub election_ticks_max: u32,
    /// One command, in bytes. A replica lowers it to what its log takes as a record.
    pub command_bytes_max: u64,
    /// Entries in one message, in bytes.
    pub message_bytes_max: u64,
    /// Entries sent to one follower and not yet acknowledged, in bytes.
    pub in_flight_bytes_max: u64,
    /// The same for all followers together. Each may have one message under way all the same, so
    /// that those who take nothing cannot hold up those who do.
    pub in_flight_total_bytes_max: u64,
    /// Entries that a leader holds without their being committed, in bytes; above it, proposals
    /// are refused as overloaded.
    pub uncommitted_bytes_max: u64,
    /// Entries handed to the state machine at once, in bytes.
    pub apply_bytes_max: u64,
    /// A snapshot is taken when entries of so many bytes were applied since the last one.
    pub snapshot_every_bytes: u64,
    /// But not before entries were applied of this share of the newest snapshot's size: a large
    /// state is not written more often than its log grows by as much.
    pub snapshot_growth_percent: u32,
    /// So much of the log is kept behind a snapshot, for followers that lag a little.
    pub tail_bytes: u64,
    /// So much of the log is kept, at most, for followers that need more of it: those that are
    /// being sent a snapshot.
    pub pinned_bytes_max: u64,
    /// Durable entries kept in memory for followers that lag a little, in bytes.
    pub window_bytes_max: u64,
}

impl Config {
    /// Ticks in a heartbeat, as the driver gives them.
    pub const TICKS_PER_HEARTBEAT: u32 = 10;

    /// The settings of a server that has no reason to differ: an election timeout of ten to
    /// twenty heartbeats.
    #[must_use]
    pub fn new(me: Member, boot: Boot) -> Self {
        Self {
            me,
            boot,
            heartbeat_ticks: Self::TICKS_PER_HEARTBEAT,
            election_ticks_min: 10 * Self::TICKS_PER_HEARTBEAT,
            election_ticks_max: 20 * Self::TICKS_PER_HEARTBEAT,
            command_bytes_max: 2 << 20,
            message_bytes_max: 1 << 20,
            in_flight_bytes_max: 8 << 20,
            in_flight_total_bytes_max: 32 << 20,
            uncommitted_bytes_max: 64 << 20,
            apply_bytes_max: 4 << 20,
            snapshot_every_bytes: 64 << 20,
            snapshot_growth_percent: 100,
            tail_bytes: 16 << 20,
            pinned_bytes_max: 1 << 30,
            window_bytes_max: 32 << 20,
        }
    }

    /// Times are sums and small multiples of these, and must be numbers.
    const TICKS_MAX: u32 = u32::MAX / 8;

    /// What is wrong with the settings, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.heartbeat_ticks == 0 {
            return Err("a heartbeat needs at least one tick".into());
        }
        if self.heartbeat_ticks.max(self.election_ticks_max) > Self::TICKS_MAX {
            return Err(format!("a time may have at most {} ticks", Self::TICKS_MAX));
        }
        if self.election_ticks_min < 2 * self.heartbeat_ticks {
            return Err(format!(
                "the election timeout ({} ticks) must be at least two heartbeats ({} ticks each)",
                self.election_ticks_min, self.heartbeat_ticks
            ));
        }
        if self.election_ticks_max < self.election_ticks_min {
            return Err("the longest election timeout is shorter than the shortest".into());
        }
        // Of each of these at least one byte, or nothing would ever move.
        let needed = [
            ("a command", self.command_bytes_max),
            ("a message", self.message_bytes_max),
            ("what is in flight to one", self.in_flight_bytes_max),
            ("what is in flight to all", self.in_flight_total_bytes_max),
            ("what is not committed", self.uncommitted_bytes_max),
            ("what is applied at once", self.apply_bytes_max),
        ];
        match needed.iter().find(|(_, bytes_max)| *bytes_max == 0) {
            Some((what, _)) => Err(format!("{what} must be allowed some bytes")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::{Incarnation, NodeId};

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let me = Member { id: NodeId::new("s1").unwrap(), incarnation: Incarnation(1) };
        let check = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::new(me, Boot(1));
            change(&mut config);
            config.check()
        };
        let wrong: [&dyn Fn(&mut Config); 12] = [
            &|it| it.heartbeat_ticks = 0,
            &|it| it.heartbeat_ticks = u32::MAX,
            &|it| it.election_ticks_max = u32::MAX,
            &|it| (it.election_ticks_min, it.election_ticks_max) = (u32::MAX, u32::MAX),
            &|it| it.election_ticks_min = 2 * it.heartbeat_ticks - 1,
            &|it| it.election_ticks_max = it.election_ticks_min - 1,
            &|it| it.command_bytes_max = 0,
            &|it| it.message_bytes_max = 0,
            &|it| it.in_flight_bytes_max = 0,
            &|it| it.in_flight_total_bytes_max = 0,
            &|it| it.uncommitted_bytes_max = 0,
            &|it| it.apply_bytes_max = 0,
        ];
        for (at, change) in wrong.iter().enumerate() {
            assert!(check(change).is_err(), "the {at}th");
        }
        let largest = |it: &mut Config| {
            it.heartbeat_ticks = Config::TICKS_MAX / 2;
            it.election_ticks_min = Config::TICKS_MAX;
            it.election_ticks_max = Config::TICKS_MAX;
        };
        assert_eq!(check(&largest), Ok(()));
        assert_eq!(check(&|_| ()), Ok(()));
    }
}
