//! How a leader changes who belongs to the cluster (dissertation 4.3): it appends a joint
//! configuration, which counts at once, and when that is committed the new one alone. Whoever
//! leads goes on with what it finds: the change of an earlier leader, and learners that are meant
//! to vote (4.2.1).
//!
//! A leader that is in neither half of its newest configuration goes on leading without counting
//! itself anywhere, hands over, and steps down once that configuration is committed (4.2.2). So it
//! is with a leader that removed itself, and with a learner that had to be elected because nobody
//! else held the longest log (databendlabs/openraft#2091).

use std::collections::BTreeMap;

use super::Node;
use super::actions::{ChangeEnded, ChangeOutcome, Event, StepDown};
use super::change::{Change, ChangeError};
use super::configuration::{Configuration, Intent};
use super::entries::Entries;
use super::progress::Progress;
use super::propose::ProposeError;
use super::role::Role;
use super::types::{Entry, EntryKind, Index, Member, Payload};

/// What a leader keeps about the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reconfiguration {
    /// The joint entry of the change that somebody waits for.
    asked: Option<Index>,
    /// The last configuration that this leader has found committed, and not joint.
    finished: Index,
    /// How learners that are to vote catch up.
    catch_ups: BTreeMap<Member, CatchUp>,
    /// Members that are listed no more are still told so.
    farewell: Option<Farewell>,
}

/// One round of catching up: the learner shall hold what the log held when the round began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CatchUp {
    target: Index,
    ticks: u32,
}

/// Since when the configuration without some members is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Farewell {
    /// The round then. Every message of a later round tells of that commit.
    round: u64,
    ticks: u32,
}

impl Reconfiguration {
    /// Takes the change that somebody waits for, of which so much is known.
    pub(super) fn take_asked(&mut self, commit: Index) -> Option<ChangeEnded> {
        let index = self.asked.take()?;
        // Any later leader finishes a change whose joint configuration is committed.
        let certain = commit >= index;
        let outcome = if certain { ChangeOutcome::Certain } else { ChangeOutcome::Unknown };
        Some(ChangeEnded { index, outcome })
    }
}

impl Node {
    /// Begins a change of the membership, if this node leads and no other change is under way.
    /// Returns the index of the joint configuration, by which the end of the change is told in
    /// [`Actions::changes`](super::Actions::changes), exactly once.
    ///
    /// # Errors
    /// Nothing was begun.
    pub fn change_membership(&mut self, change: &Change) -> Result<Index, ProposeError> {
        self.check_takes_proposals()?;
        self.check_may_change()?;
        let joint = self.membership.current().joint_by(change)?;
        let index = self.begin_change(joint)?;
        if let Role::Leader(leader) = &mut self.role {
            leader.reconfiguration.asked = Some(index);
        }
        self.assert_invariants();
        Ok(index)
    }

    /// One change at a time, and none before an entry of the own term is committed: an earlier
    /// leader's change could be committed without this one knowing of it.
    fn check_may_change(&self) -> Result<(), ChangeError> {
        let Role::Leader(leader) = &self.role else { return Err(ChangeError::Pending) };
        if self.commit < leader.term_start {
            return Err(ChangeError::TermNotCommitted);
        }
        if self.membership.current().is_joint() || self.membership.index() > self.commit {
            return Err(ChangeError::Pending);
        }
        Ok(())
    }

    fn begin_change(&mut self, joint: Configuration) -> Result<Index, ProposeError> {
        let bytes = joint.encode().len() as u64;
        let bytes_max = self.config.command_bytes_max;
        if bytes > bytes_max {
            return Err(ProposeError::TooLarge { bytes, bytes_max });
        }
        let bytes = bytes + Entry::OVERHEAD_BYTES;
        if bytes > self.room {
            return Err(ProposeError::NoSpace { bytes, room: self.room });
        }
        Ok(self.append_configuration(joint))
    }

    /// Appends a configuration, which is in force from then on. The one that ends a change is
    /// smaller than the one that began it, and may take of the room that is kept for elections.
    fn append_configuration(&mut self, configuration: Configuration) -> Index {
        let payload = Payload::new(configuration.encode());
        self.room = self.room.saturating_sub(payload.bytes.len() as u64 + Entry::OVERHEAD_BYTES);
        self.append_own(EntryKind::Configuration, payload);
        let index = self.log.last().index;
        self.take_configuration(index, configuration);
        self.follow_lists();
        self.depart_unless_voting();
        index
    }

    /// A configuration was appended and is in force (4.1).
    pub(super) fn take_configuration(&mut self, index: Index, configuration: Configuration) {
        self.events.push(Event::MembersChanged { index, configuration: configuration.clone() });
        self.membership.append(index, configuration);
    }

    /// Says which members are in force when they are others than before: a snapshot, or the repair
    /// of a lost entry, brought them.
    pub(super) fn note_members_unless(&mut self, before: &Configuration) {
        let configuration = self.membership.current();
        if configuration != before {
            let (index, configuration) = (self.membership.index(), configuration.clone());
            self.events.push(Event::MembersChanged { index, configuration });
        }
    }

    /// Says so when what was committed from `first` on lists this server no more.
    pub(super) fn note_removal(&mut self, first: Index) {
        let (index, configuration) = (self.membership.index(), self.membership.current());
        // One that is damaged on the disk may say otherwise.
        let is_known = self.knows_configuration();
        let is_news = is_known && first <= index && index <= self.commit;
        if is_news && !configuration.is_joint() && !configuration.lists(self.config.me) {
            self.events.push(Event::Removed { index });
        }
    }

    /// Gives every member that the configuration in force lists a record of its progress. Those
    /// that it lists no more keep theirs, until they know.
    pub(super) fn follow_lists(&mut self) {
        let (me, last) = (self.config.me, self.log.last().index);
        let Role::Leader(leader) = &mut self.role else { return };
        let configuration = self.membership.current();
        for member in configuration.members().filter(|member| *member != me) {
            leader.progress.entry(member).or_insert_with(|| Progress::new(last));
        }
        let is_meant_to_vote = |member: &Member| {
            let learner = configuration.learner(*member);
            learner.is_some_and(|learner| learner.intent != Intent::Stay)
        };
        let catch_ups = &mut leader.reconfiguration.catch_ups;
        catch_ups.retain(|member, _| is_meant_to_vote(member));
        for learner in configuration.learners().iter().map(|learner| learner.member) {
            if is_meant_to_vote(&learner) {
                catch_ups.entry(learner).or_insert(CatchUp { target: last, ticks: 0 });
            }
        }
    }

    /// A new leader also tells members that its newest configuration lists no more, as long as it
    /// does not know that configuration to be committed: they may not have heard of it.
    pub(super) fn follow_former_lists(&mut self) {
        if self.membership.index() <= self.commit {
            return;
        }
        let (me, last) = (self.config.me, self.log.last().index);
        let Role::Leader(leader) = &mut self.role else { return };
        for member in self.membership.before().members().filter(|member| *member != me) {
            leader.progress.entry(member).or_insert_with(|| Progress::new(last));
        }
    }

    /// Goes on with a change whose latest entry is committed, once an entry of the own term is:
    /// after a joint configuration comes the new one alone; after that, the change is finished.
    pub(super) fn continue_change(&mut self) {
        let (me, index) = (self.config.me, self.membership.index());
        let Role::Leader(leader) = &mut self.role else { return };
        let known = leader.reconfiguration.finished == index;
        if known || self.commit < leader.term_start || self.commit < index {
            return;
        }
        let configuration = self.membership.current();
        if configuration.is_joint() {
            let settled = configuration.settled();
            self.append_configuration(settled);
            return;
        }
        leader.reconfiguration.finished = index;
        let leaves = leader.progress.keys().any(|member| !configuration.lists(*member));
        let round = leader.rounds.round();
        leader.reconfiguration.farewell = leaves.then_some(Farewell { round, ticks: 0 });
        if let Some(ended) = leader.reconfiguration.take_asked(self.commit) {
            self.changes.push(ChangeEnded { outcome: ChangeOutcome::Finished, ..ended });
        }
        if !configuration.is_voter(me) {
            self.retire();
        }
    }

    /// Steps down as a leader that its committed configuration does not let vote, after telling
    /// everybody that it is committed: those who go would not hear of it from anybody else.
    fn retire(&mut self) {
        let commit = self.commit;
        let Role::Leader(leader) = &self.role else { return };
        let untold = leader.progress.iter().filter(|(_, progress)| !progress.was_told(commit));
        let untold: Vec<Member> = untold.map(|(member, _)| *member).collect();
        for member in untold {
            // The log may have been compacted since it was last looked at what they lack.
            self.offer_if_compacted(member);
            self.send_append(member, Entries::default());
        }
        self.send_timeout_now();
        self.step_down(StepDown::NotAVoter);
    }

    /// A tick of a leader.
    pub(super) fn tick_change(&mut self) {
        let ticks_max = self.config.election_ticks_max;
        let Role::Leader(leader) = &mut self.role else { return };
        let reconfiguration = &mut leader.reconfiguration;
        for catch_up in reconfiguration.catch_ups.values_mut() {
            catch_up.ticks = catch_up.ticks.saturating_add(1);
        }
        if let Some(farewell) = &mut reconfiguration.farewell {
            farewell.ticks += 1;
            if farewell.ticks >= ticks_max {
                // They are down or cut off. Whoever comes back without knowing disturbs nobody:
                // others hear from their leader.
                reconfiguration.farewell = None;
                let configuration = self.membership.current();
                leader.progress.retain(|member, _| configuration.lists(*member));
            }
        }
        self.depart_unless_voting();
    }

    /// A leader that counts nowhere looks for a successor, until there is one.
    pub(super) fn depart_unless_voting(&mut self) {
        if !self.membership.current().is_voter(self.config.me) {
            self.begin_departure();
        }
    }

    /// A member echoed a round: one that is listed no more, and knows it, is sent nothing more.
    pub(super) fn dismiss_if_told(&mut self, from: Member) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(farewell) = &leader.reconfiguration.farewell else { return };
        let finished = leader.reconfiguration.finished;
        let knows = |progress: &Progress| {
            progress.matched() >= finished && progress.round_echoed() > farewell.round
        };
        if !self.membership.current().lists(from) && leader.progress.get(&from).is_some_and(knows) {
            leader.progress.remove(&from);
        }
    }

    /// A learner acknowledged entries. It is caught up when it held, in less than an election
    /// timeout, all that the log had when that time began: then waiting for it to vote would stop
    /// nobody for longer (4.2.1).
    pub(super) fn note_catching_up(&mut self, from: Member) {
        let last = self.log.last().index;
        let in_time_ticks = self.config.election_ticks_min;
        let may_change = self.check_takes_proposals().is_ok() && self.check_may_change().is_ok();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get(&from) else { return };
        let Some(catch_up) = leader.reconfiguration.catch_ups.get_mut(&from) else { return };
        if progress.matched() < catch_up.target {
            return;
        }
        let in_time = catch_up.ticks < in_time_ticks;
        *catch_up = CatchUp { target: last, ticks: 0 };
        if in_time
            && may_change
            && let Ok(joint) = self.membership.current().joint_promoting(from)
        {
            // Without room for it now, it is tried again with the next acknowledgement.
            let _ = self.begin_change(joint);
        }
    }
}
