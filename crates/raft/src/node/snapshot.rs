//! Snapshots and compaction (dissertation 5): when the state machine is written down, what of the
//! log may go then, and who is offered a snapshot because it lacks what went. How a received one is
//! taken in is told in `install`.

use super::Node;
use super::actions::{Event, SnapshotOffer, SnapshotPoint};
use super::config::Config;
use super::entries::Entries;
use super::install::Installing;
use super::message::Message;
use super::role::Role;
use super::sizes::Sizes;
use super::types::{Index, Member, Position, SnapshotId};

/// A follower that was silent for so many heartbeats keeps nobody's log from being compacted.
const SILENT_HEARTBEATS_MAX: u32 = 600;

/// Whether the state machine has what its log stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MachineState {
    /// It has the state at the newest snapshot, or began empty.
    Whole,
    /// The snapshots that it would start from are damaged. Its server votes and acknowledges,
    /// for log and promises are whole, but it applies nothing, does not campaign, and asks its
    /// leader for a snapshot.
    Lost,
}

/// What a node knows of its snapshots.
///
/// Invariants:
/// - the log starts at or below `newest`;
/// - while something is being installed no entries are accepted, nothing is applied, and this
///   server does not campaign.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Snapshots {
    /// The newest one that is durable here and known to be whole.
    newest: Option<SnapshotId>,
    /// The newest one, if it was whole and is not any more.
    damaged: Option<SnapshotId>,
    machine: MachineState,
    /// The one that is being written, and the bytes that were applied when it was begun.
    writing: Option<(Position, u64)>,
    /// What the applied entries count for.
    sizes: Sizes,
    /// The bytes that were applied when the newest one was begun.
    begun_bytes: u64,
    /// The next one is due when so much was applied.
    due_at_bytes: u64,
    /// One is wanted now, due or not.
    pub(super) wanted: bool,
    /// The one that is being taken in.
    pub(super) installing: Option<Installing>,
    /// Ticks since a snapshot was last asked for.
    pub(super) asked_ticks: u32,
    // What the next drain will give.
    compact: Option<Index>,
    pub(super) offered: Option<SnapshotOffer>,
}

impl Snapshots {
    pub(super) fn restore(
        config: &Config,
        newest: Option<SnapshotId>,
        machine: MachineState,
    ) -> Self {
        let mut snapshots = Self {
            newest,
            damaged: None,
            machine,
            writing: None,
            sizes: Sizes::new(match config.tail_bytes {
                0 => config.pinned_bytes_max.min(config.snapshot_every_bytes) / 16,
                tail => tail.min(config.snapshot_every_bytes) / 8,
            }),
            begun_bytes: 0,
            due_at_bytes: 0,
            wanted: false,
            installing: None,
            asked_ticks: 0,
            compact: None,
            offered: None,
        };
        snapshots.next_due(config);
        snapshots
    }

    pub(super) fn newest(&self) -> Option<SnapshotId> {
        self.newest
    }

    pub(super) fn newest_index(&self) -> Index {
        self.newest.map_or(Index(0), |newest| newest.position.index)
    }

    /// What can be offered to others.
    fn offerable(&self) -> Option<SnapshotId> {
        self.newest.filter(|newest| self.damaged != Some(*newest))
    }

    /// Whether a snapshot of the state at `index` would be of use.
    fn is_news(&self, index: Index) -> bool {
        index > self.newest_index() || index == self.newest_index() && self.damaged.is_some()
    }

    pub(super) fn machine_is_lost(&self) -> bool {
        self.machine == MachineState::Lost
    }

    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Whether this server may apply entries now.
    pub(super) fn may_apply(&self) -> bool {
        self.installing.is_none() && self.machine == MachineState::Whole
    }

    /// The next one is due after so much more of the log as the settings say.
    fn next_due(&mut self, config: &Config) {
        let newest = self.newest.map_or(0, |newest| newest.bytes);
        let growth = newest / 100 * u64::from(config.snapshot_growth_percent);
        let bytes = config.snapshot_every_bytes.max(growth);
        self.due_at_bytes = self.sizes.total_bytes().saturating_add(bytes);
        self.wanted = false;
    }

    /// A received one is in force: what was counted and begun before concerns another log.
    pub(super) fn on_installed(&mut self, snapshot: SnapshotId, config: &Config) {
        self.newest = Some(snapshot);
        self.damaged = None;
        self.machine = MachineState::Whole;
        self.writing = None;
        self.sizes.clear();
        self.begun_bytes = self.sizes.total_bytes();
        self.next_due(config);
    }
}

impl Node {
    // ------------------------------------------------------------------ writing and compacting

    /// These entries were handed to the state machine.
    pub(super) fn count_applied(&mut self, entries: &Entries) {
        if self.snapshots.sizes.add_unmarked(entries.bytes()) {
            return;
        }
        for entry in entries {
            self.snapshots.sizes.add(entry.index, entry.bytes());
        }
    }

    /// The state that is to be written down now, if that is due: the one that has applied exactly
    /// what was handed out so far.
    pub(super) fn take_snapshot_point(&mut self) -> Option<SnapshotPoint> {
        let applied = self.applied;
        let snapshots = &mut self.snapshots;
        let due = snapshots.wanted || snapshots.sizes.total_bytes() >= snapshots.due_at_bytes;
        let idle = snapshots.writing.is_none() && snapshots.may_apply();
        if !due || !idle || self.applying != applied || !snapshots.is_news(applied) {
            return None;
        }
        let position = Position { index: applied, term: self.log.term(applied)? };
        snapshots.writing = Some((position, snapshots.sizes.total_bytes()));
        let configuration = self.membership.at(applied).clone();
        Some(SnapshotPoint { position, configuration })
    }

    /// What the state stands for that has applied everything up to `index`, if the log still tells.
    #[must_use]
    pub fn point_at(&self, index: Index) -> Option<SnapshotPoint> {
        let position = Position { index, term: self.log.term(index)? };
        Some(SnapshotPoint { position, configuration: self.membership.at(index).clone() })
    }

    /// The next snapshot is written now, without waiting for the log to grow: its server wants
    /// one, or runs out of room.
    pub fn want_snapshot(&mut self) {
        self.snapshots.wanted = true;
    }

    /// The snapshot that was asked for is durable under its name, and was read back from the disk.
    /// The log behind it may go now, and not before.
    pub fn on_snapshot_written(&mut self, snapshot: SnapshotId) {
        let begun = self.snapshots.writing.take_if(|(position, _)| *position == snapshot.position);
        let Some((_, bytes)) = begun else { return };
        // One that was overtaken by an install stands for a past that nobody needs.
        if self.snapshots.is_news(snapshot.position.index) {
            self.snapshots.newest = Some(snapshot);
            self.snapshots.damaged = None;
            self.snapshots.begun_bytes = bytes;
            self.snapshots.next_due(&self.config);
            let whole_to = self.repair.whole_to();
            self.compact(bytes);
            self.on_damage_compacted(whole_to);
            self.assert_invariants();
        }
    }

    /// What the next snapshot may take, in bytes: every byte of the state came either with the
    /// newest snapshot or with the log since then.
    #[must_use]
    pub fn next_snapshot_bytes(&self) -> u64 {
        let snapshots = &self.snapshots;
        let newest = snapshots.newest.map_or(0, |newest| newest.bytes);
        newest.saturating_add(snapshots.sizes.total_bytes() - snapshots.begun_bytes)
    }

    /// The snapshot that was asked for could not be written. It is tried again when the log has
    /// grown by some more.
    pub fn on_snapshot_failed(&mut self) {
        self.snapshots.writing = None;
        self.snapshots.wanted = false;
        let more = self.config.snapshot_every_bytes / 4;
        self.snapshots.due_at_bytes = self.snapshots.sizes.total_bytes().saturating_add(more);
    }

    /// The newest snapshot on the own disk turned out to be damaged. Another one is written, out
    /// of the state in memory.
    pub fn on_snapshot_damaged(&mut self, snapshot: SnapshotId) {
        if self.snapshots.newest == Some(snapshot) {
            self.snapshots.damaged = Some(snapshot);
            self.snapshots.wanted = true;
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.progress.values_mut().for_each(|other| other.withdraw_offer(snapshot));
        }
    }

    /// Lets go of the log up to the newest snapshot, except for a tail that spares followers that
    /// lag a little a whole snapshot, and for what followers lack that are being fed. What the
    /// tail was then is told by the bytes that were applied when the snapshot was begun.
    fn compact(&mut self, bytes_at_snapshot: u64) {
        let snapshot = self.newest_snapshot();
        let start = self.log.start().index;
        let sizes = &self.snapshots.sizes;
        let tail = match self.config.tail_bytes {
            0 => snapshot,
            tail => sizes.index_before(bytes_at_snapshot, tail).unwrap_or(start),
        };
        let pinned = self.pinned().unwrap_or(snapshot);
        // A follower that is too slow to ever catch up must not fill the disk.
        let limit = match self.config.pinned_bytes_max {
            0 => Some(snapshot),
            pinned => sizes.index_before(sizes.total_bytes(), pinned),
        };
        // What is damaged and what nobody else has is of no use to anybody.
        let damaged = self.repair.snapshot_wanted().unwrap_or(start);
        let to = tail.min(pinned).max(limit.unwrap_or(start)).max(damaged).min(snapshot);
        self.compact_to(to);
    }

    fn compact_to(&mut self, to: Index) {
        if to > self.log.start().index {
            self.log.compact(to);
            self.membership.compact(to);
            self.repair.drop_through(to);
            self.snapshots.sizes.forget(to);
            self.snapshots.compact = Some(to);
        }
    }

    /// Damaged entries that a snapshot stands for need not be repaired: they go, with all before
    /// them. Not while the file of that snapshot is damaged itself: then they are what it would be
    /// made from again.
    pub(super) fn let_go_of_damage(&mut self) {
        let Some(whole) = self.snapshots.offerable() else { return };
        if let Some(index) = self.repair.last_up_to(whole.position.index) {
            self.compact_to(index);
        }
    }

    /// The lowest index that a follower still needs the log from.
    fn pinned(&self) -> Option<Index> {
        let Role::Leader(leader) = &self.role else { return None };
        let silent_max = SILENT_HEARTBEATS_MAX.saturating_mul(self.config.heartbeat_ticks);
        let fed = leader.progress.values().filter(|other| other.silent_ticks() < silent_max);
        fed.map(|other| other.needs_log_from()).min()
    }

    pub(super) fn newest_snapshot(&self) -> Index {
        self.snapshots.newest_index()
    }

    // ------------------------------------------------------------------ the leader's side

    /// A follower whose next entry is gone from the log gets a snapshot instead. It is offered the
    /// same one for as long as the log still continues it, so that it need not chase newer ones
    /// for ever (databendlabs/openraft#1706).
    pub(super) fn offer_if_compacted(&mut self, member: Member) {
        let start = self.log.start().index;
        let newest = self.snapshots.offerable();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&member) else { return };
        if progress.next() > start {
            return;
        }
        let first = progress.on_compacted();
        if progress.offer().is_none_or(|offer| offer.position.index < start) {
            progress.set_offer(newest);
            if newest.is_none() {
                self.snapshots.wanted = true;
            }
        }
        if first && let Some(snapshot) = progress.offer() {
            let (follower, index) = (member.id, snapshot.position.index);
            self.events.push(Event::SnapshotOffered { follower, index });
        }
    }

    /// The snapshot that `member` may fetch from this server, since this leader offers it.
    #[must_use]
    pub fn offer_to(&self, member: Member) -> Option<SnapshotId> {
        let Role::Leader(leader) = &self.role else { return None };
        leader.progress.get(&member)?.offer()
    }

    /// Snapshots that must not be removed: the newest one, and what is being offered.
    #[must_use]
    pub fn needed_snapshots(&self) -> Vec<SnapshotId> {
        let mut needed: Vec<SnapshotId> = self.snapshots.newest.into_iter().collect();
        if let Role::Leader(leader) = &self.role {
            needed.extend(leader.progress.values().filter_map(|other| other.offer()));
        }
        if let Some(installing) = &self.snapshots.installing {
            needed.push(installing.snapshot());
        }
        needed
    }

    /// A follower lost its state machine and asks for a snapshot at `after` or later. Its log is
    /// whole, so it goes on getting entries meanwhile.
    pub(super) fn on_snapshot_request(&mut self, from: Member, after: Index) {
        let newest = self.snapshots.offerable().filter(|newest| newest.position.index >= after);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.on_heard();
        progress.on_offer_wanted();
        if progress.offer().is_none_or(|offer| offer.position.index < after) {
            progress.set_offer(newest);
        }
        match progress.offer() {
            Some(snapshot) => self.send(from, Message::SnapshotOffer { snapshot }),
            None => self.snapshots.wanted = true,
        }
    }

    pub(super) fn take_compaction(&mut self) -> Option<Index> {
        self.snapshots.compact.take()
    }

    pub(super) fn take_offered(&mut self) -> Option<SnapshotOffer> {
        self.snapshots.offered.take()
    }
}
