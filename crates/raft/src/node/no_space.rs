//! A leader without room on its disk refuses writes that another might take. So the first time it
//! must refuse one it hands over, and as long as it lacks the room it lets the others campaign
//! first. If nobody else leads, it does: a cluster of full disks can still be read from, and its
//! keys deleted, which it could not if its servers made way for each other for ever.

use super::{Event, Node};

impl Node {
    /// The disk can take entries of so many bytes. Beyond that a leader refuses proposals and a
    /// follower takes no entries, so that an append that was handed out never fails for want of
    /// room.
    pub fn set_room(&mut self, bytes: u64) {
        self.room = bytes;
        // It has what it lacked.
        self.lacking.take_if(|lacking| *lacking <= bytes);
        if self.turned_away.take_if(|lacking| *lacking <= bytes).is_some() {
            self.events.push(Event::DiskHasRoom { bytes });
        }
    }

    /// What the disk can take beyond what it was handed.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.room
    }

    /// Whether a proposal was refused for want of room that there still is not.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        self.lacking.is_some()
    }

    /// A batch of so many bytes was refused for want of room.
    pub(super) fn on_no_space(&mut self, bytes: u64) {
        if self.lacking.replace(bytes).is_none() {
            self.begin_to_make_way();
        }
    }

    /// The next of the leader's entries, of so many bytes, was not taken for want of room. The
    /// leader sends it again and again; that is told once.
    pub(super) fn turn_away(&mut self, bytes: u64) {
        if self.turned_away.replace(bytes).is_none() {
            self.events.push(Event::DiskFull { room: self.room });
        }
    }

    /// Ticks for which a server without room lets the others go first.
    pub(super) fn ticks_to_make_way(&self) -> u32 {
        if self.lacking.is_some() { self.config.election_ticks_max } else { 0 }
    }
}
