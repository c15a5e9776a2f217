//! How a snapshot of another server takes the place of state machine and log (dissertation 5.3).
//!
//! Why taking in a snapshot is safe, whoever sent it: it stands for a *committed* prefix of the
//! log, and every leader from then on holds the entry at its position (leader completeness). So it
//! may replace whatever this server has not committed. If the own log holds that very entry, all up
//! to it is the same (log matching) and the entries behind it stay. If it does not, nothing in it
//! beyond the commit index can ever be committed, and all of it goes, also what lies *behind* the
//! position: it follows an entry that lost (hashicorp/raft#697).

use super::actions::{Event, SnapshotOffer};
use super::configuration::Configuration;
use super::message::Message;
use super::role::Role;
use super::types::{Index, Member, Position, SnapshotId, Ticket};
use super::{FetchPurpose, Node};

/// What becomes of a snapshot that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reception {
    /// It takes the place of state machine and log; see [`Actions::install`](super::Actions).
    Installing,
    /// It is not needed (any more), and may be removed.
    NotNeeded,
}

/// A received snapshot on its way into the log. Its ticket is that of the append that makes the
/// log begin behind it.
#[derive(Clone, Debug)]
pub(super) struct Installing {
    snapshot: SnapshotId,
    configuration: Configuration,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// The log is still to be told.
    Queued,
    /// The append with this ticket tells it.
    Writing(Ticket),
    /// It is durable. The owner is to exchange the state machine.
    Durable,
    /// The owner was asked to.
    Asked,
}

impl PartialEq for Installing {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Eq for Installing {}

impl std::hash::Hash for Installing {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}

impl Installing {
    pub(super) fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// Everything that decides what comes next. Tickets are names.
    fn essence(&self) -> impl std::hash::Hash + Eq + '_ {
        let step = match self.step {
            Step::Queued => 0,
            Step::Writing(_) => 1,
            Step::Durable => 2,
            Step::Asked => 3,
        };
        (self.snapshot, &self.configuration, step)
    }
}

impl Node {
    /// Whether only a snapshot of another server helps this one: its state machine is lost, or
    /// what it would apply next is, everywhere.
    fn needs_snapshot(&self) -> bool {
        let is_stuck = |wanted: Index| self.applied < wanted;
        self.snapshots.machine_is_lost() || self.repair.snapshot_wanted().is_some_and(is_stuck)
    }

    /// Where the log begins that it goes on with.
    fn snapshot_needed_at(&self) -> Index {
        let start = self.log.start().index;
        self.repair.snapshot_wanted().map_or(start, |wanted| wanted.max(start))
    }

    /// Whether a snapshot at `position` would bring this server on. One that contradicts what is
    /// committed here came from no correct server.
    fn is_of_use(&self, position: Position) -> bool {
        let holds = self.log.holds(position);
        let is_ahead = position.index > self.commit && !holds;
        is_ahead || holds && self.needs_snapshot() && position.index >= self.snapshot_needed_at()
    }

    /// The leader has a snapshot for this server.
    pub(super) fn on_snapshot_offer(&mut self, from: Member, snapshot: SnapshotId) {
        self.follow(Some(from));
        if self.snapshots.is_installing() {
            return;
        }
        let position = snapshot.position;
        if self.is_of_use(position) {
            self.snapshots.offered = Some(SnapshotOffer { from, snapshot });
        } else if position.index <= self.commit {
            // The leader holds the same up to there.
            self.accept(from, self.commit, self.commit);
        } else {
            // So all up to it is the same, and committed, since there is a snapshot of it.
            self.accept(from, position.index, position.index);
        }
    }

    /// A server that cannot go on without a snapshot asks its leader for one, once a heartbeat.
    pub(super) fn tick_snapshots(&mut self) {
        if !self.needs_snapshot() || self.snapshots.is_installing() {
            if self.repair.snapshot_wanted().is_some() {
                // What is damaged was applied before: an own one does.
                self.snapshots.wanted = true;
            }
            return;
        }
        self.snapshots.asked_ticks += 1;
        if self.snapshots.asked_ticks < self.config.heartbeat_ticks {
            return;
        }
        let Role::Follower(follower) = &self.role else { return };
        let Some(leader) = follower.leader else { return };
        self.snapshots.asked_ticks = 0;
        let after = self.snapshot_needed_at();
        self.send(leader, Message::SnapshotRequest { after });
    }

    /// A snapshot was received whole, and is durable under its name. The state machine that it
    /// holds is ready to take the place of the present one.
    pub fn on_snapshot_received(
        &mut self,
        snapshot: SnapshotId,
        configuration: Configuration,
    ) -> Reception {
        // A leader holds everything that is committed, also what it does not know to be.
        let leads = matches!(self.role, Role::Leader(_));
        if self.snapshots.is_installing() || leads || !self.is_of_use(snapshot.position) {
            return Reception::NotNeeded;
        }
        if !matches!(self.role, Role::Follower(_)) {
            self.follow(None);
        }
        let step = Step::Queued;
        self.snapshots.installing = Some(Installing { snapshot, configuration, step });
        self.assert_invariants();
        Reception::Installing
    }

    /// The position that the log is to be reset to, once nothing of the old log is still to be
    /// written. `None` inside: the log goes on behind the snapshot, and stays.
    pub(super) fn install_to_write(&self) -> Option<Option<Position>> {
        let installing = self.snapshots.installing.as_ref()?;
        let position = installing.snapshot.position;
        let reset = (!self.log.holds(position)).then_some(position);
        (installing.step == Step::Queued).then_some(reset)
    }

    /// The append that carries the reset was handed out.
    pub(super) fn on_install_handed_out(&mut self, ticket: Ticket) {
        if let Some(installing) = &mut self.snapshots.installing {
            installing.step = Step::Writing(ticket);
        }
    }

    /// An append is durable; it may be the one that an install waits for.
    pub(super) fn on_install_durable(&mut self, ticket: Ticket) {
        if let Some(installing) = &mut self.snapshots.installing
            && installing.step == Step::Writing(ticket)
        {
            installing.step = Step::Durable;
        }
    }

    /// The snapshot whose state machine the owner is to put in the place of the present one. Not
    /// before the present one has applied what it was given.
    pub(super) fn take_install(&mut self) -> Option<SnapshotId> {
        let idle = self.applying == self.applied;
        let installing = self.snapshots.installing.as_mut()?;
        if installing.step != Step::Durable || !idle {
            return None;
        }
        installing.step = Step::Asked;
        Some(installing.snapshot)
    }

    /// The owner has exchanged the state machine for the one of the snapshot that
    /// [`Actions::install`](super::Actions) named: snapshot, log, applied and committed move in
    /// this one step, and the leader is told.
    ///
    /// # Panics
    /// It named none.
    pub fn on_snapshot_installed(&mut self) {
        let installing = self.snapshots.installing.take();
        let asked = installing.filter(|installing| installing.step == Step::Asked);
        assert!(asked.is_some(), "a state machine is exchanged only when the node asks for it");
        let Some(Installing { snapshot, configuration, .. }) = asked else { return };
        let position = snapshot.position;
        let (members_before, news_from) = (self.configuration().clone(), self.commit.next());
        if self.log.holds(position) {
            self.membership.rebase(position.index, configuration);
        } else {
            self.repair.drop_through(self.log.last().index);
            self.log.reset(position);
            self.membership.reset(position.index, configuration);
            self.durability.on_reset(position.index);
        }
        self.forget_former_proposals(position.index);
        self.snapshots.on_installed(snapshot, &self.config);
        self.let_go_of_damage();
        self.commit = self.commit.max(position.index);
        (self.applying, self.applied) = (position.index, position.index);
        self.fetched.clear();
        self.fetching.retain(|_, purpose| *purpose != FetchPurpose::Apply);
        self.events.push(Event::SnapshotInstalled { index: position.index });
        self.note_members_unless(&members_before);
        if members_before.lists(self.config.me) {
            // One that joins may get a snapshot from before it was listed.
            self.note_removal(news_from);
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.verified = follower.verified.max(position.index);
            if let Some(leader) = follower.leader {
                self.send_when_durable(leader, Message::AppendAccepted { matched: position.index });
            }
        }
        self.assert_invariants();
    }
}
