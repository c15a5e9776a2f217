//! Log replication (dissertation 3.5, 3.6): a leader sends what each follower lacks, a follower
//! takes what follows a position it holds, and what a majority holds durably is committed.

use super::actions::{Ended, Event, ProposalOutcome};
use super::configuration::{Configuration, Voter};
use super::entries::Entries;
use super::message::Message;
use super::progress::Progress;
use super::role::Role;
use super::types::{Entry, EntryKind, FetchId, Index, Member, Payload, Position};
use super::{FetchPurpose, Node};

/// The entries of an append, as far as their sender can be believed.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) previous: Position,
    pub(super) entries: Entries,
    pub(super) commit: Index,
    pub(super) round: u64,
}

impl Node {
    // ------------------------------------------------------------------ the leader's side

    /// Appends an entry of this leader's own term; the disk and the followers get it at the next
    /// drain, both at the same time (10.2.1).
    pub(super) fn append_own(&mut self, kind: EntryKind, payload: Payload) {
        let index = self.log.last().index.next();
        self.log.append(Entry { index, term: self.hard_state.term, kind, payload }.into());
    }

    /// Sends every follower what it lacks and may be sent now.
    pub(super) fn replicate(&mut self, urge: Urge) {
        let Role::Leader(leader) = &self.role else { return };
        let (last, start) = (self.log.last().index, self.log.start().index);
        let (round, commit) = (leader.rounds.round(), self.commit);
        let lacks = |progress: &Progress| {
            progress.next() <= start
                || progress.may_send(last, u64::MAX)
                || progress.is_offer_due()
                || progress.lacks_round(round)
                || urge == Urge::Tick && progress.lacks_commit(commit)
        };
        let lacking = leader.progress.iter().filter(|(_, progress)| lacks(progress));
        let members: Vec<Member> = lacking.map(|(member, _)| *member).collect();
        for member in members {
            self.offer_if_compacted(member);
            while self.send_entries(member) {}
            self.send_news(member, urge);
        }
    }

    /// Sends one message of entries, if there are any to send. True when more may follow.
    fn send_entries(&mut self, member: Member) -> bool {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return false };
        let total: u64 = leader.progress.values().map(Progress::in_flight_bytes).sum();
        let Some(progress) = leader.progress.get_mut(&member) else { return false };
        let others = total - progress.in_flight_bytes();
        let left = self.config.in_flight_total_bytes_max.saturating_sub(others);
        if !progress.may_send(last, self.config.in_flight_bytes_max.min(left)) {
            return false;
        }
        let from = progress.next();
        let Some(entries) = self.log.slice(from, last, self.config.message_bytes_max) else {
            if self.repair.is_lost(from) {
                // It goes on as soon as the entry is found.
                return false;
            }
            let to = self.log.window_first().previous();
            let fetch = self.new_fetch(from, to, self.config.message_bytes_max);
            if let Role::Leader(leader) = &mut self.role
                && let Some(progress) = leader.progress.get_mut(&member)
            {
                progress.on_fetch(fetch);
            }
            self.fetching.insert(fetch, FetchPurpose::Follower(member));
            return false;
        };
        self.send_append(member, entries);
        true
    }

    /// Sends entries that were read back for a follower, if it still wants them.
    pub(super) fn on_fetched_for_follower(
        &mut self,
        member: Member,
        id: FetchId,
        entries: Vec<Entry>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&member) else { return };
        if !progress.on_fetched(id) {
            return;
        }
        let next = progress.next();
        if next <= self.log.start().index {
            // What it follows was compacted meanwhile.
            return self.offer_if_compacted(member);
        }
        let current = |entry: &Entry| self.log.holds(entry.position());
        if entries.first().is_some_and(|first| first.index == next) && entries.iter().all(current) {
            self.send_append(member, entries.into());
        }
    }

    /// Brings news that needs no entries: a heartbeat, a read round, a commit index.
    fn send_news(&mut self, member: Member, urge: Urge) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&member) else { return };
        if let Some(snapshot) = progress.take_offer_due() {
            self.send(member, Message::SnapshotOffer { snapshot });
        }
        let Role::Leader(leader) = &self.role else { return };
        let Some(progress) = leader.progress.get(&member) else { return };
        let due = progress.lacks_round(leader.rounds.round())
            || urge == Urge::Tick && progress.lacks_commit(self.commit);
        if due {
            self.send_append(member, Entries::default());
        }
    }

    pub(super) fn send_append(&mut self, member: Member, entries: Entries) {
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.rounds.round();
        let Some(progress) = leader.progress.get_mut(&member) else { return };
        // One that waits for a snapshot holds no position of this log yet.
        let index = match progress.needs_snapshot() {
            true => self.log.start().index,
            false => progress.next().previous(),
        };
        let term = self.log.term(index).unwrap_or_default();
        assert!(
            self.log.holds(Position { index, term }),
            "a leader's next entry for a follower, {index} + 1, follows one of its log"
        );
        let sent = entries.last().map(|last| (last.index, entries.bytes()));
        progress.on_sent(sent, commit, round);
        let previous = Position { index, term };
        self.send(member, Message::Append { previous, entries, commit, round });
    }

    /// The follower's log equals this leader's up to `verified`; it counts up to `matched`.
    pub(super) fn on_append_accepted(&mut self, from: Member, matched: Index, verified: Index) {
        let (start, last) = (self.log.start().index, self.log.last().index);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.on_heard();
        if matched.max(verified) > last {
            let reason = "it acknowledged an entry that was never sent";
            self.events.push(Event::Ignored { from, reason });
            return;
        }
        let news = progress.on_accepted(matched, verified, start);
        if progress.take_caught_up() {
            self.events.push(Event::FollowerCaughtUp { follower: from.id, at: matched });
        }
        if news {
            self.advance_commit();
        }
        self.note_catching_up(from);
    }

    /// Another start of this server answers than before, over a new connection, and nothing of the
    /// earlier one comes any more. Its disk may have lost what that acknowledged: it is asked what
    /// it holds, sent what it lacks, and counted anew. What is committed stays committed.
    pub fn on_restarted(&mut self, member: Member) {
        let last = self.log.last().index;
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&member)
        {
            progress.on_restarted(last);
        }
        self.assert_invariants();
    }

    pub(super) fn on_append_rejected(&mut self, from: Member, previous: Index, hint: Position) {
        let last = self.log.last().index;
        // Of our own log, too, nothing above the hint's term can match: go back over it at once.
        let agree = self.log.highest_with_term_at_most(hint.index, hint.term);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.on_heard();
        let next = agree.index.next();
        if progress.on_rejected(previous, next) && progress.on_lagging(last) {
            let from_index = progress.next();
            self.events.push(Event::FollowerLags { follower: from.id, from: from_index, to: last });
        }
    }

    /// Commits what a majority of voters holds durably, if it is of this leader's own term; all
    /// before it is then committed too. An entry of an older term is never committed by counting
    /// (3.6.2, figure 3.7).
    pub(super) fn advance_commit(&mut self) {
        let proven = self.proven();
        let me = self.config.me;
        let Role::Leader(leader) = &self.role else { return };
        let matched = |voter: &Voter| match leader.progress.get(&voter.member) {
            Some(progress) => progress.matched().0,
            // The own log counts as far as it is on the disk and whole, like everybody's.
            None if voter.member == me => proven.0,
            None => 0,
        };
        let reached = Index(self.membership.current().quorum().reached(matched).unwrap_or(0));
        if reached > self.commit && self.log.term(reached) == Some(self.hard_state.term) {
            self.commit_to(reached);
            if cfg!(debug_assertions) {
                self.assert_commit_has_quorum();
            }
            self.continue_change();
        }
    }

    // ------------------------------------------------------------------ the follower's side

    pub(super) fn on_append(&mut self, from: Member, received: Received) {
        self.follow(Some(from));
        self.echo_round(from, received.round);
        if self.snapshots.is_installing() {
            // What the log will hold is about to change: nothing is taken, nothing is said of it.
            return;
        }
        let Received { previous, entries, commit, .. } = received;
        if previous.index < self.log.start().index {
            // What precedes our log is committed, and so is all up to our commit index: the
            // leader holds the very same there.
            self.accept(from, self.commit, commit);
            return;
        }
        if !self.log.holds(previous) {
            let hint = self.log.highest_with_term_at_most(previous.index, previous.term);
            self.send(from, Message::AppendRejected { previous: previous.index, hint });
            return;
        }
        let next = entries.first().map(Entry::bytes);
        let entries = self.within_room(entries);
        if let Some(bytes) = next.filter(|_| entries.is_empty()) {
            return self.turn_away(bytes);
        }
        let verified = entries.last().map_or(previous.index, |last| last.index);
        if self.take_entries(from, entries) {
            self.accept(from, verified, commit);
        }
    }

    /// As many of the entries as the disk has room for now. The others come again: what follows
    /// them is rejected until they do. The empty entry of a new leader is in reserve, since
    /// without it nothing could even be read, and what the log holds already takes no room.
    fn within_room(&self, mut entries: Entries) -> Entries {
        let mut room = self.room;
        if entries.bytes() <= room {
            return entries;
        }
        let lacks_room = |entry: &Entry| {
            let is_free = entry.kind != EntryKind::Command || self.log.holds(entry.position());
            let left = if is_free { Some(room) } else { room.checked_sub(entry.bytes()) };
            room = left.unwrap_or(room);
            left.is_none()
        };
        let fitting = entries.iter().position(lacks_room).unwrap_or(entries.len());
        entries.truncate(fitting);
        entries
    }

    /// Adds what is new of entries whose predecessor this log holds. False when they cannot be
    /// what a leader sent.
    fn take_entries(&mut self, from: Member, mut entries: Entries) -> bool {
        let known = entries.iter().take_while(|entry| self.log.holds(entry.position())).count();
        if self.repair.is_damaged() {
            entries.iter().take(known).for_each(|entry| self.take_lost_entry(from, entry));
        }
        let mut configurations = Vec::new();
        for entry in entries.iter().skip(known) {
            if entry.kind == EntryKind::Configuration {
                let Ok(configuration) = Configuration::decode(&entry.payload.bytes) else {
                    let reason = "a configuration in its append cannot be read";
                    self.events.push(Event::Ignored { from, reason });
                    return false;
                };
                configurations.push((entry.index, configuration));
            }
        }
        entries.skip_first(known);
        if let Some(first) = entries.first().map(|entry| entry.index)
            && first <= self.log.last().index
        {
            if first <= self.commit {
                // A leader holds every committed entry, so this is none. Believing it would lose
                // what was acknowledged; stopping would let anybody stop us.
                let reason = "its entries conflict with committed ones";
                self.events.push(Event::Ignored { from, reason });
                return false;
            }
            self.truncate_after(first.previous());
        }
        self.room = self.room.saturating_sub(entries.bytes());
        self.log.append(entries);
        for (index, configuration) in configurations {
            self.take_configuration(index, configuration);
        }
        true
    }

    /// Removes entries that conflict with the leader's: only from the first conflicting one on
    /// (microsoft/CCF#5991), and never a committed one.
    fn truncate_after(&mut self, after: Index) {
        assert!(
            after >= self.commit,
            "a leader holds every committed entry (leader completeness), yet one conflicts \
             above {after} with commit at {}",
            self.commit
        );
        let last = self.log.last().index;
        self.log.truncate_after(after);
        let rolled_back = self.membership.truncate_after(after);
        self.durability.on_truncated(after);
        self.repair.truncate_after(after);
        if let Role::Follower(follower) = &mut self.role {
            follower.verified = follower.verified.min(after);
        }
        self.events.push(Event::Truncated { after, last });
        if rolled_back {
            let configuration = self.membership.current().clone();
            self.events
                .push(Event::MembersChanged { index: self.membership.index(), configuration });
        }
    }

    /// This log equals the leader's up to `verified`: acknowledge once it is durable, and commit
    /// as far as *this* append proves.
    pub(super) fn accept(&mut self, from: Member, verified: Index, commit: Index) {
        if let Role::Follower(follower) = &mut self.role {
            follower.verified = follower.verified.max(verified);
            let lagging = follower.lagging_to.is_some_and(|to| follower.verified < to);
            if !lagging {
                follower.lagging_to = (commit > verified).then_some(commit);
                if follower.lagging_to.is_some() {
                    let (leader, first) = (from.id, verified.next());
                    self.events.push(Event::CatchingUp { leader, from: first, to: commit });
                }
            }
        }
        self.acknowledge(from, verified);
        self.commit_to(commit.min(verified));
    }

    /// Tells the leader, once that is durable, that this log equals its own up to `verified`, and
    /// that it counts only below the first entry that is damaged.
    pub(super) fn acknowledge(&mut self, leader: Member, verified: Index) {
        let matched = verified.min(self.repair.whole_to());
        self.send_when_durable(
            leader,
            if matched == verified {
                Message::AppendAccepted { matched }
            } else {
                Message::AppendAcceptedInPart { matched, verified }
            },
        );
    }

    /// Tells the leader that this server still followed it when it saw `round`.
    fn echo_round(&mut self, from: Member, round: u64) {
        if let Role::Follower(follower) = &mut self.role
            && round > follower.round_echoed
        {
            follower.round_echoed = round;
            self.send(from, Message::RoundEcho { round });
        }
    }

    // ------------------------------------------------------------------ both

    /// Everything up to `index` is committed.
    pub(super) fn commit_to(&mut self, index: Index) {
        if index <= self.commit {
            return;
        }
        assert!(
            index <= self.log.last().index,
            "only entries that exist are committed, not {index} of {}",
            self.log.last()
        );
        let first = self.commit.next();
        self.commit = index;
        self.note_removal(first);
        self.decide_former_proposals(index);
        let Role::Leader(leader) = &mut self.role else { return };
        while leader.uncommitted.front().is_some_and(|(last, _)| *last <= index) {
            let freed = leader.uncommitted.pop_front().map_or(0, |(_, bytes)| bytes);
            leader.uncommitted_bytes -= freed;
        }
        // The empty entry at `term_start` was nobody's proposal.
        let first = first.max(leader.term_start.next());
        self.end_proposals(first, index, ProposalOutcome::Committed);
    }

    /// Ends the proposals from `first` to `last`; configurations between them were none.
    pub(super) fn end_proposals(&mut self, first: Index, last: Index, outcome: ProposalOutcome) {
        let term = self.hard_state.term;
        let mut first = first;
        for configuration in self.membership.indexes_within(first, last) {
            if first < configuration {
                let indexes = first..=configuration.previous();
                self.ended.push(Ended { indexes, term, outcome });
            }
            first = configuration.next();
        }
        if first <= last {
            self.ended.push(Ended { indexes: first..=last, term, outcome });
        }
    }
}

/// Why a leader looks at its followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urge {
    /// Something happened.
    Event,
    /// Time passed: whoever has not heard of the commit index since is told now. Under load the
    /// next entries bring it, and no message is sent for its sake.
    Tick,
}
