//! The sending half of a snapshot's way: reads what a receiver wants, chunk by chunk, and lets it
//! go at a limited pace, so that neither the disk nor the network is taken from those who write.

use std::collections::{BTreeMap, BTreeSet};

use super::Carried;
use super::stream::{SnapshotEnvelope, SnapshotMessage};
use crate::node::{Member, Payload, SnapshotId};

/// A receiver that is silent for so many heartbeats is forgotten; it asks again.
const SILENT_HEARTBEATS_MAX: u32 = 100;

/// How fast snapshots are sent, and in what portions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) chunk_bytes_max: u64,
    /// For all receivers together.
    pub(super) bytes_per_heartbeat: u64,
    pub(super) ticks_per_heartbeat: u32,
}

/// Everything that is being sent.
///
/// Invariant: at most one chunk of each receiver is being read, and at most one waits to leave.
#[derive(Debug)]
pub(super) struct Sender {
    pace: Pace,
    /// What may leave now. It may fall below zero by a chunk.
    budget_bytes: i64,
    /// Who got a chunk last: the others come first.
    last_served: Option<Member>,
    sendings: BTreeMap<Member, Sending>,
    /// Who has a chunk being read. A receiver that goes on elsewhere, or is forgotten and comes
    /// back, waits for that: reads must not pile up however often it changes its mind.
    reading: BTreeSet<Member>,
}

#[derive(Debug)]
struct Sending {
    snapshot: SnapshotId,
    /// The first byte that did not leave yet.
    next: u64,
    /// How far the receiver has room.
    until: u64,
    /// What was read, from `next` on.
    ready: Option<Payload>,
    silent_ticks: u32,
}

/// A part of a snapshot that is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToRead {
    pub(super) to: Member,
    pub(super) snapshot: SnapshotId,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// How far the sending of a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendingStatus {
    /// Who gets it.
    pub to: Member,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What has left of it.
    pub sent_bytes: u64,
}

impl Sender {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            budget_bytes: 0,
            last_served: None,
            sendings: BTreeMap::new(),
            reading: BTreeSet::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sendings.is_empty()
    }

    /// A tick passed. What is not used of a heartbeat's share is lost.
    pub(super) fn tick(&mut self) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let share = self.pace.bytes_per_heartbeat.div_ceil(self.pace.ticks_per_heartbeat.into());
        let most = signed(self.pace.bytes_per_heartbeat);
        self.budget_bytes = self.budget_bytes.saturating_add(signed(share)).min(most);
        let silent_max = SILENT_HEARTBEATS_MAX.saturating_mul(self.pace.ticks_per_heartbeat);
        self.sendings.retain(|_, sending| {
            sending.silent_ticks += 1;
            sending.silent_ticks < silent_max
        });
    }

    /// `from` wants a snapshot that it is offered, from `offset` on. False when that is where it
    /// gets it from anyway.
    pub(super) fn on_want(
        &mut self,
        from: Member,
        snapshot: SnapshotId,
        offset: u64,
        until: u64,
    ) -> bool {
        let next = offset.min(snapshot.bytes);
        if let Some(sending) = self.sendings.get_mut(&from)
            && sending.snapshot == snapshot
            && sending.next == next
        {
            (sending.until, sending.silent_ticks) = (until, 0);
            return false;
        }
        let sending = Sending { snapshot, next, until, ready: None, silent_ticks: 0 };
        self.sendings.insert(from, sending);
        true
    }

    /// Nothing more is sent to `to` until it wants something.
    pub(super) fn forget(&mut self, to: Member) {
        self.sendings.remove(&to);
    }

    pub(super) fn on_allow(&mut self, from: Member, snapshot: SnapshotId, until: u64) {
        if let Some(sending) = self.sendings.get_mut(&from)
            && sending.snapshot == snapshot
        {
            sending.until = sending.until.max(until);
            sending.silent_ticks = 0;
        }
    }

    /// Forgets all that `is_offered` denies.
    pub(super) fn retain(&mut self, is_offered: impl Fn(Member, SnapshotId) -> bool) {
        self.sendings.retain(|to, sending| is_offered(*to, sending.snapshot));
    }

    /// The next part that is to be read, if there is any.
    pub(super) fn take_read(&mut self) -> Option<ToRead> {
        let chunk_bytes_max = self.pace.chunk_bytes_max.min(self.pace.bytes_per_heartbeat).max(1);
        let Self { sendings, reading, .. } = self;
        sendings.iter().find_map(|(to, sending)| {
            let end = sending.until.min(sending.snapshot.bytes);
            let bytes = end.saturating_sub(sending.next).min(chunk_bytes_max);
            if bytes == 0 || sending.ready.is_some() || !reading.insert(*to) {
                return None;
            }
            let (snapshot, offset) = (sending.snapshot, sending.next);
            Some(ToRead { to: *to, snapshot, offset, bytes })
        })
    }

    /// That part was read, or could not be: then nothing more is sent to `to` until it asks again.
    pub(super) fn on_read(
        &mut self,
        to: Member,
        snapshot: SnapshotId,
        offset: u64,
        bytes: Option<Vec<u8>>,
    ) {
        self.reading.remove(&to);
        let Some(sending) = self.sendings.get_mut(&to) else { return };
        if sending.snapshot != snapshot || sending.next != offset {
            // It wants something else by now.
            return;
        }
        match bytes {
            Some(bytes) => sending.ready = Some(Payload::new(bytes)),
            None => self.forget(to),
        }
    }

    /// Gives what is ready to `send` as far as the pace allows; what it does not take is kept for
    /// later. Returns whom the last part has left for.
    pub(super) fn send(
        &mut self,
        me: Member,
        mut send: impl FnMut(&SnapshotEnvelope) -> Carried,
    ) -> Vec<SendingStatus> {
        let mut ended = Vec::new();
        let receivers: Vec<Member> = self.sendings.keys().copied().collect();
        let first = receivers.partition_point(|to| Some(*to) <= self.last_served);
        let (served, waiting) = receivers.split_at(first);
        for to in waiting.iter().chain(served) {
            let Some(sending) = self.sendings.get_mut(to).filter(|_| self.budget_bytes > 0) else {
                break;
            };
            let Some(content) = sending.ready.take() else { continue };
            let bytes = content.bytes.len() as u64;
            let (snapshot, offset) = (sending.snapshot, sending.next);
            let message = SnapshotMessage::Chunk { offset, content: content.clone() };
            let envelope = SnapshotEnvelope { from: me, to: *to, snapshot, message };
            if send(&envelope) == Carried::NotNow {
                sending.ready = Some(content);
                continue;
            }
            self.budget_bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
            self.last_served = Some(*to);
            sending.next += bytes;
            // It was taken, so there is somebody, however slowly it goes.
            sending.silent_ticks = 0;
            if sending.next == snapshot.bytes {
                ended.push(SendingStatus { to: *to, snapshot, sent_bytes: sending.next });
            }
        }
        ended
    }

    /// How far everything has come.
    pub(super) fn status(&self) -> Vec<SendingStatus> {
        let of = |(to, sending): (&Member, &Sending)| SendingStatus {
            to: *to,
            snapshot: sending.snapshot,
            sent_bytes: sending.next,
        };
        self.sendings.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Incarnation, Index, NodeId, Position, Term};

    fn member(n: u64) -> Member {
        Member { id: NodeId::new(&format!("s{n}")).unwrap(), incarnation: Incarnation(n) }
    }

    fn sender() -> (Sender, SnapshotId) {
        let pace = Pace { chunk_bytes_max: 10, bytes_per_heartbeat: 100, ticks_per_heartbeat: 1 };
        let mut sender = Sender::new(pace);
        sender.tick();
        let position = Position { index: Index(5), term: Term(1) };
        (sender, SnapshotId { position, bytes: 15, hash: [7; 16] })
    }

    #[test]
    fn a_part_that_is_being_read_is_not_read_again_and_leaves_once() {
        let (me, to) = (member(1), member(2));
        let (mut sender, snapshot) = sender();
        assert!(sender.on_want(to, snapshot, 0, 15));
        let part = ToRead { to, snapshot, offset: 0, bytes: 10 };
        assert_eq!(sender.take_read(), Some(part));
        // Turns go by while the disk reads.
        for _ in 0..3 {
            sender.send(me, |_| panic!("nothing was read yet"));
            assert_eq!(sender.take_read(), None);
        }
        sender.on_read(to, snapshot, 0, Some(vec![1; 10]));
        let mut left = 0;
        for _ in 0..3 {
            sender.send(me, |_| {
                left += 1;
                Carried::Taken
            });
        }
        assert_eq!(left, 1);
        assert_eq!(sender.take_read(), Some(ToRead { offset: 10, bytes: 5, ..part }));
    }

    #[test]
    fn a_receiver_that_changes_its_mind_has_one_part_read_at_a_time() {
        let (me, to) = (member(1), member(2));
        let (mut sender, snapshot) = sender();
        sender.on_want(to, snapshot, 0, 15);
        assert!(sender.take_read().is_some());
        for _ in 0..3 {
            assert!(sender.on_want(to, snapshot, 7, 15));
            assert_eq!(sender.take_read(), None);
            sender.forget(to);
            sender.on_want(to, snapshot, 12, 15);
            assert_eq!(sender.take_read(), None);
        }
        sender.on_read(to, snapshot, 0, Some(vec![1; 10]));
        sender.send(me, |_| panic!("that is not what it wants any more"));
        assert_eq!(sender.take_read(), Some(ToRead { to, snapshot, offset: 12, bytes: 3 }));
    }

    #[test]
    fn what_could_not_be_read_is_read_again_when_it_is_asked_for_again() {
        let to = member(2);
        let (mut sender, snapshot) = sender();
        sender.on_want(to, snapshot, 0, 15);
        let read = sender.take_read();
        sender.on_read(to, snapshot, 0, None);
        assert!(sender.is_idle());
        assert!(sender.on_want(to, snapshot, 0, 15));
        assert_eq!(sender.take_read(), read);
    }
}
