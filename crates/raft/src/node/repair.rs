//! Entries whose payloads are damaged on the own disk, and how they come back.
//!
//! The log still says where each of them stood, under which term, and what its bytes amount to. So
//! the server forgot nothing that it promised: a lost entry counts as present when logs are
//! compared in an election, and nothing but its own bytes is ever taken for it, from whomever they
//! come. But the server does not claim what it cannot prove: it acknowledges, and applies, only
//! below its first lost entry, it does not campaign, and where it leads it does not count itself
//! ("Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018).
//!
//! What a position of the log says is the same on every server and in every term, so any server
//! can be asked, a leader is not needed, and neither question nor answer compares terms.

use std::collections::BTreeMap;

use super::actions::{DamageEvent, Event, StepDown};
use super::configuration::Configuration;
use super::message::Message;
use super::role::Role;
use super::search::{Known, Search};
use super::types::{
    Entry, EntryKind, FetchId, Index, LostEntry, Member, NodeId, Payload, Position, Ticket,
};
use super::{FetchPurpose, Node};

/// Positions in one question, and in one answer.
pub(super) const POSITIONS_MAX: usize = 128;

/// The lost entries, each wanted, found or being written.
///
/// Invariants: what is found or being written is lost; nothing that is not in the log is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Repair {
    lost: BTreeMap<Index, LostEntry>,
    /// Right answers that the next append writes, and who gave them.
    found: BTreeMap<Index, (Member, Entry)>,
    /// What an append writes, and who gave it.
    writing: BTreeMap<Index, (Ticket, Member)>,
    search: Search,
    /// Entries repaired since the last time this was told, by who gave them.
    untold: BTreeMap<NodeId, u64>,
    /// Ticks since there was first something lost.
    ticks: u32,
    /// A snapshot is wanted that stands for this index: entries up to there were asked for in
    /// vain, and somebody's log begins above.
    snapshot_wanted: Option<Index>,
}

/// What became of an entry that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    /// It is the one that was lost.
    Taken,
    /// It claims to be, and is not.
    Wrong,
    /// Nobody is waiting for it.
    NotWanted,
}

impl Repair {
    pub(super) fn new(lost: Vec<LostEntry>) -> Self {
        let lost = lost.into_iter().map(|lost| (lost.position.index, lost)).collect();
        Self { lost, ..Self::default() }
    }

    pub(super) fn is_damaged(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Everything below the first lost entry.
    pub(super) fn whole_to(&self) -> Index {
        self.lost.keys().next().map_or(Index(u64::MAX), |first| first.previous())
    }

    /// The first and the last lost index; for no lost entry, a range that is part of every log.
    pub(super) fn bounds(&self) -> (Index, Index) {
        let first = self.lost.keys().next().copied().unwrap_or(Index(u64::MAX));
        (first, self.lost.keys().next_back().copied().unwrap_or_default())
    }

    pub(super) fn is_lost(&self, index: Index) -> bool {
        self.lost.contains_key(&index)
    }

    pub(super) fn lost(&self) -> impl DoubleEndedIterator<Item = &LostEntry> {
        self.lost.values()
    }

    pub(super) fn count(&self) -> u64 {
        self.lost.len() as u64
    }

    /// Ticks until time alone makes this do something.
    pub(super) fn ticks_until_due(&self) -> Option<u32> {
        self.is_damaged().then(|| self.search.ticks_until_due())
    }

    /// The log now ends at `index`. What was lost above it is nobody's any more.
    pub(super) fn truncate_after(&mut self, index: Index) {
        self.lost.retain(|lost, _| *lost <= index);
        self.forget_others();
    }

    /// The log now begins after `index`. What was lost up to there is nobody's any more.
    pub(super) fn drop_through(&mut self, index: Index) {
        self.lost.retain(|lost, _| *lost > index);
        self.snapshot_wanted = self.snapshot_wanted.filter(|wanted| *wanted > index);
        self.forget_others();
    }

    /// The last lost index up to `index`.
    pub(super) fn last_up_to(&self, index: Index) -> Option<Index> {
        self.lost.range(..=index).next_back().map(|(lost, _)| *lost)
    }

    /// See [`Node::snapshot_wanted`].
    pub(super) fn snapshot_wanted(&self) -> Option<Index> {
        self.snapshot_wanted
    }

    /// Keeps what is lost within the log, if that is still anything.
    fn forget_others(&mut self) {
        let Self { lost, found, writing, .. } = self;
        found.retain(|index, _| lost.contains_key(index));
        writing.retain(|index, _| lost.contains_key(index));
        self.snapshot_wanted = self.snapshot_wanted.filter(|_| !lost.is_empty());
    }

    /// Entries that are neither found nor being written, from `from` on.
    fn wanted_from(&self, from: Index) -> impl Iterator<Item = &LostEntry> {
        let wanted =
            |index: &Index| !self.found.contains_key(index) && !self.writing.contains_key(index);
        self.lost.range(from..).filter(move |(index, _)| wanted(index)).map(|(_, lost)| lost)
    }

    fn offer(&mut self, from: Member, entry: &Entry) -> Offered {
        let Some(lost) = self.lost.get(&entry.index).copied() else { return Offered::NotWanted };
        if self.found.contains_key(&entry.index) || self.writing.contains_key(&entry.index) {
            return Offered::NotWanted;
        }
        if !lost.is(entry) {
            return Offered::Wrong;
        }
        self.found.insert(entry.index, (from, entry.clone()));
        Offered::Taken
    }

    /// What the append of `ticket` is to write.
    fn take_found(&mut self, ticket: Ticket) -> Vec<Entry> {
        let found = std::mem::take(&mut self.found);
        let write = |(index, (from, entry))| {
            self.writing.insert(index, (ticket, from));
            entry
        };
        found.into_iter().map(write).collect()
    }

    /// What was written by the append of `ticket`, and was still lost, is lost no more.
    fn on_written(&mut self, ticket: Ticket) -> bool {
        let before = self.lost.len();
        let Self { lost, writing, untold, .. } = self;
        writing.retain(|index, (writer, from)| {
            let written = *writer == ticket;
            if written && lost.remove(index).is_some() {
                *untold.entry(from.id).or_default() += 1;
            }
            !written
        });
        self.lost.len() < before
    }
}

impl Node {
    // ------------------------------------------------------------------ what was lost

    /// Entries of the log turned out to be damaged on the disk: their payloads are gone.
    ///
    /// Whoever campaigns stops. A leader that has applied what it lost goes on, since its state
    /// machine holds what the log does not, but it no longer counts itself. One that has not
    /// applied it can neither apply it nor send it to anybody, and stops.
    pub fn on_lost(&mut self, lost: &[LostEntry]) {
        let (start, me) = (self.log.start().index, self.config.me);
        if self.snapshots.is_installing() {
            // What the log holds is about to change.
            return;
        }
        let mut news = false;
        for lost in lost {
            let Position { index, .. } = lost.position;
            if index <= start || !self.log.holds(lost.position) || self.repair.is_lost(index) {
                continue;
            }
            news = true;
            self.repair.lost.insert(index, *lost);
            // What is still in memory needs nobody's help.
            let held = self.log.slice(index, index, 0).unwrap_or_default();
            for entry in &held {
                self.repair.offer(me, entry);
            }
        }
        if !news {
            return;
        }
        self.let_go_of_damage();
        self.repair.search = Search::default();
        self.tell_damage();
        let applied = self.applied;
        match &self.role {
            Role::Leader(_) if self.repair.wanted_from(applied.next()).next().is_some() => {
                self.step_down(StepDown::Damaged);
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.follow(None),
            Role::Leader(_) | Role::Follower(_) => {}
        }
        self.assert_invariants();
    }

    /// What a fetch asked for is damaged, from its first entry on.
    pub fn on_fetch_lost(&mut self, id: FetchId, lost: LostEntry) {
        let purpose = self.fetching.remove(&id);
        self.on_lost(&[lost]);
        match purpose {
            Some(FetchPurpose::Repair(member)) => {
                self.answer_repair(member, Vec::new(), vec![lost.position]);
            }
            Some(FetchPurpose::Follower(member)) => {
                if let Role::Leader(leader) = &mut self.role
                    && let Some(progress) = leader.progress.get_mut(&member)
                {
                    progress.on_fetched(id);
                }
            }
            Some(FetchPurpose::Apply) | None => {}
        }
    }

    pub(super) fn tell_damage(&mut self) {
        let positions = || self.repair.lost().map(|lost| lost.position.index);
        let (Some(first), Some(last)) = (positions().next(), positions().next_back()) else {
            return;
        };
        let entries = self.repair.count();
        let asked = self.members_to_ask().iter().map(|member| member.id).collect();
        self.events.push(Event::Damage(DamageEvent::Found { entries, first, last, asked }));
    }

    /// The highest index up to which this server can prove what its log says.
    pub(super) fn proven(&self) -> Index {
        self.durability.durable().min(self.repair.whole_to())
    }

    /// Whether the newest configurations of the log are known: not while one of them is lost. The
    /// last one that can be read then says who may be asked, and decides nothing, since a damaged
    /// server neither campaigns nor counts.
    #[must_use]
    pub fn knows_configuration(&self) -> bool {
        self.repair.lost().all(|lost| lost.kind != EntryKind::Configuration)
    }

    /// The last lost entry that no member has and that a snapshot of some member stands for:
    /// with a snapshot at this index or above, everything up to it is as good as found.
    #[must_use]
    pub fn snapshot_wanted(&self) -> Option<Index> {
        self.repair.snapshot_wanted
    }

    // ------------------------------------------------------------------ asking

    /// The other members, the leader first: it is the one that is sure to run.
    fn members_to_ask(&self) -> Vec<Member> {
        let me = self.config.me;
        let leader = self.known_leader();
        let mut members: Vec<Member> =
            self.membership.current().members().filter(|member| *member != me).collect();
        members.sort_by_key(|member| Some(*member) != leader);
        members
    }

    pub(super) fn tick_repair(&mut self) {
        if self.repair.is_damaged() {
            self.repair.ticks = self.repair.ticks.saturating_add(1);
            self.repair.search.tick(self.config.heartbeat_ticks);
        }
    }

    /// Asks for what is lost, one server after the other, one question at a time: not before what
    /// was answered is on the disk, so that a slow disk holds up the answers.
    pub(super) fn seek_repair(&mut self) {
        let is_idle = self.repair.found.is_empty() && self.repair.writing.is_empty();
        if !self.repair.is_damaged() || !is_idle || self.snapshots.is_installing() {
            return;
        }
        if self.repair.search.wants_members() {
            let members = self.members_to_ask();
            self.repair.search.begin(members);
        }
        while let Some((member, from)) = self.repair.search.next_to_ask() {
            let mut bytes = 0;
            let fits = |lost: &&LostEntry| {
                let first = bytes == 0;
                bytes += lost.bytes + Entry::OVERHEAD_BYTES;
                first || bytes <= self.config.message_bytes_max
            };
            let wanted = self.repair.wanted_from(from).take(POSITIONS_MAX).take_while(fits);
            let positions: Vec<Position> = wanted.map(|lost| lost.position).collect();
            if positions.is_empty() {
                self.repair.search.go_on();
                continue;
            }
            let indexes = positions.iter().map(|position| position.index);
            self.repair.search.on_asked(indexes.collect());
            self.send(member, Message::RepairRequest { positions });
            return;
        }
        if let Some(known) = self.repair.search.end(&self.config) {
            self.on_searched(known);
        }
    }

    /// Every member was asked, and something is still lost.
    fn on_searched(&mut self, known: Known) {
        self.tell_repaired();
        let Known { compacted, news } = known;
        let Some(first) = self.repair.lost().next().map(|lost| lost.position.index) else {
            return;
        };
        let covered = self.repair.lost().rfind(|lost| lost.position.index <= compacted);
        self.repair.snapshot_wanted = covered.map(|lost| lost.position.index);
        if news {
            let entries = self.repair.count();
            self.events.push(Event::Damage(DamageEvent::NobodyHasIt { entries, first }));
        }
    }

    pub(super) fn on_repair_answer(
        &mut self,
        from: Member,
        entries: &[Entry],
        lacking: &[Position],
        compacted: Index,
    ) {
        for entry in entries {
            self.take_lost_entry(from, entry);
        }
        let answered = entries.iter().map(|entry| entry.index);
        let answered = answered.chain(lacking.iter().map(|position| position.index));
        self.repair.search.on_answer(from, answered, compacted);
    }

    /// An entry came that may be a lost one: the answer to a question, or a leader's append that
    /// goes over it.
    pub(super) fn take_lost_entry(&mut self, from: Member, entry: &Entry) {
        let unreadable = entry.kind == EntryKind::Configuration
            && Configuration::decode(&entry.payload.bytes).is_err();
        match self.repair.offer(from, entry) {
            Offered::Taken if unreadable => {
                self.repair.found.remove(&entry.index);
                let reason = "a configuration that was lost here cannot be read";
                self.events.push(Event::Ignored { from, reason });
            }
            Offered::Wrong => {
                let reason = "what it says of a lost entry is not what was written here";
                self.events.push(Event::Ignored { from, reason });
            }
            Offered::Taken | Offered::NotWanted => {}
        }
    }

    /// Lost entries that the append of `ticket` puts back in their places.
    pub(super) fn take_repairs(&mut self, ticket: Ticket) -> Vec<Entry> {
        let entries = self.repair.take_found(ticket);
        let members_before = self.membership.current().clone();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Configuration) {
            if let Ok(configuration) = Configuration::decode(&entry.payload.bytes) {
                self.membership.insert(entry.index, configuration);
            }
        }
        self.note_members_unless(&members_before);
        entries
    }

    pub(super) fn has_repairs(&self) -> bool {
        !self.repair.found.is_empty() && !self.snapshots.is_installing()
    }

    /// What the append of `ticket` put back is on the disk, and counts again.
    pub(super) fn on_repairs_durable(&mut self, ticket: Ticket) {
        if !self.repair.on_written(ticket) {
            return;
        }
        self.end_repair_if_whole();
        self.claim_what_is_proven();
    }

    /// With nothing lost any more, the search for it is over.
    fn end_repair_if_whole(&mut self) {
        if !self.repair.is_damaged() {
            self.tell_repaired();
            self.repair = Repair::default();
        }
    }

    /// The log was compacted, and was whole up to `whole_to` before. Damage that went with it
    /// casts doubt on what stands behind it no more.
    pub(super) fn on_damage_compacted(&mut self, whole_to: Index) {
        if self.repair.whole_to() > whole_to {
            self.end_repair_if_whole();
            self.claim_what_is_proven();
        }
    }

    /// What a loss stood in the way of counts now, and nobody waits for the next append to learn
    /// it.
    fn claim_what_is_proven(&mut self) {
        if let Role::Follower(follower) = &self.role
            && let Some(leader) = follower.leader
            && follower.verified > Index(0)
            && !self.snapshots.is_installing()
        {
            self.acknowledge(leader, follower.verified);
        }
        self.advance_commit();
    }

    fn tell_repaired(&mut self) {
        let (left, ticks) = (self.repair.count(), self.repair.ticks);
        for (from, entries) in std::mem::take(&mut self.repair.untold) {
            let repaired = DamageEvent::Repaired { entries, from, left, ticks };
            self.events.push(Event::Damage(repaired));
        }
    }

    // ------------------------------------------------------------------ answering

    /// Somebody lost these. The answer has what this server can say at once, at least of the
    /// first; whoever asked asks again for the rest.
    pub(super) fn on_repair_request(&mut self, from: Member, positions: &[Position]) {
        let busy = FetchPurpose::Repair(from);
        if self.fetching.values().any(|purpose| *purpose == busy) {
            return;
        }
        let (mut entries, mut lacking, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (number, position) in positions.iter().enumerate() {
            let index = position.index;
            let in_memory = index >= self.log.window_first();
            let exists = index > self.log.start().index && self.log.holds(*position);
            if !exists || !in_memory && self.repair.is_lost(index) {
                lacking.push(*position);
            } else if in_memory {
                let entry = self.log.slice(index, index, 0).unwrap_or_default();
                bytes += entry.iter().map(Entry::bytes).sum::<u64>();
                if bytes > self.config.message_bytes_max && !entries.is_empty() {
                    break;
                }
                entries.extend_from_slice(&entry);
            } else if number == 0 {
                return self.fetch_for_repair(from, positions);
            } else {
                break;
            }
        }
        self.answer_repair(from, entries, lacking);
    }

    /// Reads back the first of `positions` and those that directly follow it.
    fn fetch_for_repair(&mut self, from: Member, positions: &[Position]) {
        let Some(first) = positions.first().map(|position| position.index) else { return };
        let indexes = (first.0..).zip(positions);
        let run = indexes.take_while(|(index, position)| {
            position.index.0 == *index && self.log.holds(**position)
        });
        let to = run.last().map_or(first, |(_, position)| position.index);
        let to = to.min(self.log.window_first().previous());
        let fetch = self.new_fetch(first, to, self.config.message_bytes_max);
        self.fetching.insert(fetch, FetchPurpose::Repair(from));
    }

    pub(super) fn answer_repair(
        &mut self,
        to: Member,
        entries: Vec<Entry>,
        lacking: Vec<Position>,
    ) {
        let compacted = self.log.start().index;
        self.send(to, Message::RepairAnswer { entries, lacking, compacted });
    }
}

impl LostEntry {
    /// Whether `entry` is the one that was lost, by everything that is known of that.
    fn is(&self, entry: &Entry) -> bool {
        let Entry { kind, payload: Payload { bytes, checksum }, .. } = entry;
        entry.position() == self.position
            && *kind == self.kind
            && bytes.len() as u64 == self.bytes
            && *checksum == self.checksum
            && crc32fast::hash(bytes) == self.checksum
    }
}
