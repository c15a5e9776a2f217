//! A replica's snapshots: carries out what the node asks for, by jobs and by streams to and from
//! other replicas, so that neither appends nor heartbeats nor elections ever wait for a snapshot.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::job::{Job, JobDone, Outcome, Work};
use super::receiver::{Receiver, Step};
use super::sender::{Pace, Sender, SendingStatus};
use super::stream::{SnapshotEnvelope, SnapshotMessage};
use super::{Carried, Completion, Replica, Transport};
use crate::node::{
    Configuration, Index, Member, NodeId, Reception, SnapshotId, SnapshotOffer, SnapshotPoint,
};
use crate::state_machine::StateMachine;
use crate::storage::{SnapshotError, SnapshotStore};

/// Something that happened to a snapshot, for the people who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotEvent {
    /// One was written, and the log behind it let go.
    Written {
        /// The last entry that it stands for.
        index: Index,
        /// The size of its file.
        bytes: u64,
        /// How long it took.
        took: Duration,
        /// The first entry that the log still has.
        log_from: Index,
    },
    /// One could not be written. It is tried again later.
    NotWritten {
        /// Why.
        reason: String,
    },
    /// Another server fetches one from here, from a certain byte on.
    Sending {
        /// The other server.
        to: NodeId,
        /// The last entry that it stands for.
        index: Index,
        /// Where it begins or goes on.
        offset: u64,
        /// The size of its file.
        bytes: u64,
    },
    /// The last byte of it has left.
    Sent {
        /// The other server.
        to: NodeId,
        /// The last entry that it stands for.
        index: Index,
        /// The size of its file.
        bytes: u64,
    },
    /// This server fetches one from another, from a certain byte on.
    Receiving {
        /// The other server.
        from: NodeId,
        /// The last entry that it stands for.
        index: Index,
        /// Where it begins or goes on.
        offset: u64,
        /// The size of its file.
        bytes: u64,
    },
    /// All of it is here, whole, and was made into a state machine.
    Received {
        /// The last entry that it stands for.
        index: Index,
        /// The size of its file.
        bytes: u64,
        /// How long checking and restoring it took.
        took: Duration,
    },
    /// One could not be received. It is tried again.
    NotReceived {
        /// Why.
        reason: String,
    },
    /// One on this server's disk is damaged.
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
}

/// A snapshot that was received and waits for its install.
struct Received<M> {
    snapshot: SnapshotId,
    machine: M,
    /// Until the node was told.
    configuration: Option<Configuration>,
}

/// What a replica knows of its snapshots, beside what the node does.
pub(super) struct Snapshots<M: StateMachine> {
    store: SnapshotStore,
    sender: Sender,
    receiver: Receiver,
    jobs: VecDeque<Work<M>>,
    /// Snapshots that are being read again, since somebody found them to be damaged.
    checking: BTreeSet<SnapshotId>,
    received: Option<Received<M>>,
    /// Received snapshots that are being removed.
    discarding: u32,
    /// Messages of the receiver, for the next turn.
    messages: Vec<SnapshotEnvelope>,
    events: Vec<SnapshotEvent>,
    /// Ticks until the room on the disk is looked at again.
    look_in_ticks: u32,
    /// The disk has no more room than the next snapshot may take.
    is_short_of_room: bool,
}

impl<M: StateMachine> Snapshots<M> {
    pub(super) fn new(store: SnapshotStore, ticks_per_heartbeat: u32) -> Self {
        let options = store.options();
        let pace = Pace {
            chunk_bytes_max: options.chunk_bytes_max,
            bytes_per_heartbeat: options.bytes_per_heartbeat,
            ticks_per_heartbeat,
        };
        Self {
            sender: Sender::new(pace),
            receiver: Receiver::new(options.piece_bytes_max),
            store,
            jobs: VecDeque::new(),
            checking: BTreeSet::new(),
            received: None,
            discarding: 0,
            messages: Vec::new(),
            events: Vec::new(),
            look_in_ticks: 0,
            is_short_of_room: false,
        }
    }

    pub(super) fn stop(&self) {
        self.store.stop();
    }

    /// Jobs may run in any order, so one that must not be overtaken is waited for: a snapshot that
    /// is received again gets the name that it had before, which a late discard would remove.
    fn take_job(&mut self) -> Option<Job<M>> {
        if self.discarding > 0 && matches!(self.jobs.front(), Some(Work::FinishReceiving(_))) {
            return None;
        }
        let work = self.jobs.pop_front()?;
        self.discarding += u32::from(matches!(work, Work::Discard(_)));
        Some(Job { store: self.store.clone(), work })
    }

    pub(super) fn is_short_of_room(&self) -> bool {
        self.is_short_of_room
    }

    /// Has a snapshot read again. To do so takes long, and is done once however many say that it
    /// is damaged, and however often.
    fn check(&mut self, snapshot: SnapshotId) {
        if self.checking.insert(snapshot) {
            self.jobs.push_back(Work::Check(snapshot));
        }
    }

    /// Queues what the receiver says. What could not leave yet is corrected, not followed by its
    /// correction: a want says where to go on, and must not be overtaken by a mere allowance.
    fn say(&mut self, envelope: SnapshotEnvelope) {
        let is_same =
            |it: &SnapshotEnvelope| it.to == envelope.to && it.snapshot == envelope.snapshot;
        if let SnapshotMessage::Allow { until: further } = envelope.message {
            for waiting in self.messages.iter_mut().filter(|it| is_same(it)) {
                if let SnapshotMessage::Want { until, .. } | SnapshotMessage::Allow { until } =
                    &mut waiting.message
                {
                    *until = (*until).max(further);
                    return;
                }
            }
        } else {
            self.messages.retain(|it| !is_same(it));
        }
        self.messages.push(envelope);
    }

    /// Whether something is to be done with every tick.
    pub(super) fn is_busy(&self) -> bool {
        !self.sender.is_idle()
    }
}

impl<M: StateMachine> Drop for Snapshots<M> {
    /// Work that outlives its replica ends soon.
    fn drop(&mut self) {
        self.stop();
    }
}

impl<M: StateMachine> Replica<M> {
    /// Work that takes long, to be run anywhere and brought back. Several may be out at once.
    pub fn take_job(&mut self) -> Option<Job<M>> {
        self.snapshots.take_job()
    }

    /// A message about a snapshot came.
    pub fn step_snapshot(&mut self, envelope: SnapshotEnvelope) {
        let SnapshotEnvelope { from, to, snapshot, message } = envelope;
        if to != self.node.me() {
            return;
        }
        let is_offered = self.node.offer_to(from) == Some(snapshot);
        match message {
            SnapshotMessage::Want { offset, until } if is_offered => {
                let begins = self.snapshots.sender.on_want(from, snapshot, offset, until);
                let (to, index, bytes) = (from.id, snapshot.position.index, snapshot.bytes);
                let sending = SnapshotEvent::Sending { to, index, offset, bytes };
                self.snapshots.events.extend(begins.then_some(sending));
            }
            SnapshotMessage::Allow { until } if is_offered => {
                self.snapshots.sender.on_allow(from, snapshot, until);
            }
            SnapshotMessage::Damaged if is_offered => self.snapshots.check(snapshot),
            SnapshotMessage::Chunk { offset, content } => {
                let steps = self.snapshots.receiver.on_chunk(snapshot, offset, content);
                self.follow_receiver(steps.into_iter().collect());
            }
            _ => {}
        }
    }

    /// The connection over which a snapshot went to or came from another server is gone. What was
    /// on its way is asked for again; nothing goes there before it is.
    pub fn on_snapshot_stream_lost(&mut self, other: Member) {
        let steps = self.snapshots.receiver.on_stream_lost(other);
        self.follow_receiver(steps);
        self.snapshots.sender.forget(other);
    }

    pub(super) fn tick_snapshots(&mut self) {
        self.snapshots.sender.tick();
        self.snapshots.receiver.tick();
        self.snapshots.look_in_ticks = self.snapshots.look_in_ticks.saturating_sub(1);
        if self.snapshots.look_in_ticks == 0 {
            self.snapshots.look_in_ticks = LOOK_EVERY_TICKS;
            let short = self.snapshots.store.room() < self.node.next_snapshot_bytes();
            if short && !self.snapshots.is_short_of_room {
                // A snapshot lets the log go, which may be what the disk is full of.
                self.node.want_snapshot();
            }
            self.snapshots.is_short_of_room = short;
        }
    }

    /// The state is to be written down: it is taken now, and written by a job.
    pub(super) fn begin_snapshot(&mut self, point: SnapshotPoint) {
        match &self.machine {
            Some(machine) => {
                let image = machine.image();
                self.snapshots.jobs.push_back(Work::Write { point, image });
            }
            None => self.node.on_snapshot_failed(),
        }
    }

    pub(super) fn on_offered(&mut self, offer: SnapshotOffer) {
        // What is here already only waits for its turn.
        if self.snapshots.received.is_none() {
            let steps = self.snapshots.receiver.on_offer(offer.from, offer.snapshot);
            self.follow_receiver(steps);
        }
    }

    fn follow_receiver(&mut self, steps: Vec<Step>) {
        let me = self.node.me();
        let snapshots = &mut self.snapshots;
        for step in steps {
            match step {
                Step::Begin(snapshot) => {
                    snapshots.jobs.push_back(Work::BeginReceiving(snapshot));
                }
                Step::Began { from, snapshot, offset } => {
                    snapshots.events.push(SnapshotEvent::Receiving {
                        from: from.id,
                        index: snapshot.position.index,
                        offset,
                        bytes: snapshot.bytes,
                    });
                }
                Step::Say(to, snapshot, message) => {
                    snapshots.say(SnapshotEnvelope { from: me, to, snapshot, message });
                }
                Step::Write { snapshot, offset, pieces } => {
                    snapshots.jobs.push_back(Work::WritePiece { snapshot, offset, pieces });
                }
                Step::Finish(snapshot) => {
                    snapshots.jobs.push_back(Work::FinishReceiving(snapshot));
                }
            }
        }
    }

    /// A job was run; it took this long.
    pub fn finish_job(&mut self, done: JobDone<M>, took: Duration) {
        match done.outcome {
            Outcome::Written(result) => self.on_written(result, took),
            Outcome::Checked(snapshot, result) => {
                self.snapshots.checking.remove(&snapshot);
                if let Err(error @ SnapshotError::Damaged { .. }) = &result {
                    self.on_damaged(snapshot, error);
                }
            }
            Outcome::ChunkRead(to, snapshot, offset, result) => {
                if let Err(error @ SnapshotError::Damaged { .. }) = &result {
                    self.on_damaged(snapshot, error);
                }
                self.snapshots.sender.on_read(to, snapshot, offset, result.ok());
            }
            Outcome::Begun(snapshot, Ok(have)) => {
                let steps = self.snapshots.receiver.on_begun(snapshot, have);
                self.follow_receiver(steps);
            }
            Outcome::PieceWritten(snapshot, end, Ok(())) => {
                let steps = self.snapshots.receiver.on_piece_written(snapshot, end);
                self.follow_receiver(steps);
            }
            Outcome::Begun(snapshot, Err(error))
            | Outcome::PieceWritten(snapshot, _, Err(error)) => {
                self.on_not_received(snapshot, &error);
            }
            Outcome::Restored(snapshot, result) => self.on_restored(snapshot, result, took),
            Outcome::Discarded => self.snapshots.discarding -= 1,
            Outcome::Tidied => {}
        }
    }

    fn on_written(&mut self, result: Result<SnapshotId, SnapshotError>, took: Duration) {
        match result {
            Ok(snapshot) => {
                self.node.on_snapshot_written(snapshot);
                let log_from = self.node.status().compacted.next();
                let (index, bytes) = (snapshot.position.index, snapshot.bytes);
                let event = SnapshotEvent::Written { index, bytes, took, log_from };
                self.snapshots.events.push(event);
                self.prune();
            }
            Err(error) => {
                self.node.on_snapshot_failed();
                let reason = error.to_string();
                self.snapshots.events.push(SnapshotEvent::NotWritten { reason });
            }
        }
    }

    fn prune(&mut self) {
        let needed = self.node.needed_snapshots();
        self.snapshots.jobs.push_back(Work::Prune { needed });
    }

    /// A snapshot of the own disk cannot be read any more.
    fn on_damaged(&mut self, snapshot: SnapshotId, error: &SnapshotError) {
        if !self.node.needed_snapshots().contains(&snapshot) {
            // It was removed since it was asked for.
            return;
        }
        self.node.on_snapshot_damaged(snapshot);
        self.snapshots.events.push(SnapshotEvent::Damaged { reason: error.to_string() });
    }

    fn on_not_received(&mut self, snapshot: SnapshotId, error: &SnapshotError) {
        if self.snapshots.receiver.end(snapshot).is_some() {
            self.snapshots.receiver.pause();
            self.snapshots.events.push(SnapshotEvent::NotReceived { reason: error.to_string() });
        }
    }

    fn on_restored(
        &mut self,
        snapshot: SnapshotId,
        result: Result<(Configuration, M), SnapshotError>,
        took: Duration,
    ) {
        let from = self.snapshots.receiver.end(snapshot);
        match result {
            Ok((configuration, machine)) => {
                let (index, bytes) = (snapshot.position.index, snapshot.bytes);
                self.snapshots.events.push(SnapshotEvent::Received { index, bytes, took });
                let configuration = Some(configuration);
                self.snapshots.received = Some(Received { snapshot, machine, configuration });
            }
            Err(error) => {
                if let (SnapshotError::Damaged { .. }, Some(to)) = (&error, from) {
                    let (from, message) = (self.node.me(), SnapshotMessage::Damaged);
                    let envelope = SnapshotEnvelope { from, to, snapshot, message };
                    self.snapshots.messages.push(envelope);
                }
                self.snapshots.receiver.pause();
                let reason = error.to_string();
                self.snapshots.events.push(SnapshotEvent::NotReceived { reason });
            }
        }
    }

    /// Tells the node of a snapshot that was received, once the log has room to begin anew.
    pub(super) fn offer_received(&mut self) {
        let room = self.log.has_room_to_reset();
        let Some(received) = self.snapshots.received.as_mut().filter(|_| room) else { return };
        let Some(configuration) = received.configuration.take() else { return };
        let reception = self.node.on_snapshot_received(received.snapshot, configuration);
        if reception == Reception::NotNeeded
            && let Some(Received { snapshot, machine, .. }) = self.snapshots.received.take()
        {
            self.snapshots.jobs.push_back(Work::Drop(machine));
            self.discard(snapshot);
        }
    }

    /// Removes a received snapshot, unless it is one that this server stands on.
    fn discard(&mut self, snapshot: SnapshotId) {
        if !self.node.needed_snapshots().contains(&snapshot) {
            self.snapshots.jobs.push_back(Work::Discard(snapshot));
        }
    }

    /// The log goes on behind the received snapshot, durably: its state machine takes the place of
    /// the present one.
    pub(super) fn install(&mut self, snapshot: SnapshotId) {
        let received = self.snapshots.received.take_if(|it| it.snapshot == snapshot);
        assert!(received.is_some(), "what is installed was received, and is kept until then");
        let Some(Received { machine, .. }) = received else { return };
        if let Some(old) = self.machine.replace(machine) {
            self.snapshots.jobs.push_back(Work::Drop(old));
        }
        self.node.on_snapshot_installed();
        // Whether they are part of the snapshot cannot be told from outside, nor what they
        // answered.
        let index = snapshot.position.index;
        let Self { proposed, completions, .. } = self;
        proposed.retain(|(_, at, token)| {
            let is_passed = *at <= index;
            completions.extend(is_passed.then_some(Completion::Unknown(*token)));
            !is_passed
        });
        self.prune();
    }

    /// Lets messages about snapshots leave, as far as the pace and the network allow.
    pub(super) fn send_snapshots(&mut self, transport: &mut dyn Transport) {
        let (node, snapshots) = (&self.node, &mut self.snapshots);
        snapshots.messages.retain(|envelope| transport.send_snapshot(envelope) == Carried::NotNow);
        // What could not leave for long is said again anyway.
        let excess = snapshots.messages.len().saturating_sub(MESSAGES_MAX);
        snapshots.messages.drain(..excess);
        if snapshots.sender.is_idle() {
            return;
        }
        snapshots.sender.retain(|to, snapshot| node.offer_to(to) == Some(snapshot));
        let ended = snapshots.sender.send(node.me(), |envelope| transport.send_snapshot(envelope));
        for SendingStatus { to, snapshot, .. } in ended {
            let (index, bytes) = (snapshot.position.index, snapshot.bytes);
            snapshots.events.push(SnapshotEvent::Sent { to: to.id, index, bytes });
        }
        while let Some(read) = snapshots.sender.take_read() {
            let super::sender::ToRead { to, snapshot, offset, bytes } = read;
            snapshots.jobs.push_back(Work::ReadChunk { to, snapshot, offset, bytes });
        }
    }

    /// The state as it is now, to be written down elsewhere, and what it stands for; `None` while
    /// there is none.
    pub fn image(&self) -> Option<(SnapshotPoint, M::Image)> {
        let machine = self.machine.as_ref()?;
        Some((self.node.point_at(machine.applied())?, machine.image()))
    }

    /// Takes what has happened to snapshots, for people.
    pub fn take_snapshot_events(&mut self) -> Vec<SnapshotEvent> {
        std::mem::take(&mut self.snapshots.events)
    }

    /// What is being sent, and how far that has come.
    pub fn sending(&self) -> Vec<SendingStatus> {
        self.snapshots.sender.status()
    }

    /// What is being received, from whom, and how much of it is here.
    pub fn receiving(&self) -> Option<(Member, SnapshotId, u64)> {
        self.snapshots.receiver.progress()
    }
}

/// Messages that wait for the way to be free.
const MESSAGES_MAX: usize = 16;

/// Between two looks at how much room the disk has.
const LOOK_EVERY_TICKS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Position, Term};
    use crate::state_machine::Undecodable;
    use crate::storage::SnapshotOptions;
    use std::io;
    use std::sync::Arc;
    use wal::sim_disk::SimDisk;

    struct Nothing;

    impl StateMachine for Nothing {
        type Reply = ();
        type Image = ();

        fn apply(&mut self, _: Index, _: &bytes::Bytes) -> Result<(), Undecodable> {
            Ok(())
        }

        fn advance(&mut self, _: Index) {}

        fn applied(&self) -> Index {
            Index(0)
        }

        fn image(&self) {}

        fn write((): (), _: &mut dyn io::Write) -> io::Result<()> {
            Ok(())
        }

        fn restore(_: &mut dyn io::Read) -> io::Result<Self> {
            Ok(Nothing)
        }
    }

    fn snapshots() -> (Snapshots<Nothing>, SnapshotId) {
        let disk = SimDisk::new().disk();
        let lock = Arc::new(disk.lock("LOCK").unwrap());
        let store = SnapshotStore::new(disk, lock, SnapshotOptions::default());
        let position = Position { index: Index(8), term: Term(1) };
        (Snapshots::new(store, 10), SnapshotId { position, bytes: 1, hash: [0; 16] })
    }

    #[test]
    fn a_snapshot_that_is_said_to_be_damaged_is_read_once_at_a_time() {
        let (mut snapshots, snapshot) = snapshots();
        let other = SnapshotId { bytes: 2, ..snapshot };
        for _ in 0..3 {
            snapshots.check(snapshot);
            snapshots.check(other);
        }
        assert_eq!(snapshots.jobs.len(), 2);
        snapshots.checking.remove(&snapshot);
        snapshots.check(snapshot);
        assert_eq!(snapshots.jobs.len(), 3, "it may be damaged by now");
    }

    #[test]
    fn a_snapshot_that_is_received_again_is_not_overtaken_by_the_discard_of_the_first_time() {
        let (mut snapshots, snapshot) = snapshots();
        snapshots.jobs.push_back(Work::Discard(snapshot));
        snapshots.jobs.push_back(Work::BeginReceiving(snapshot));
        snapshots.jobs.push_back(Work::FinishReceiving(snapshot));
        let discard = snapshots.take_job().expect("nothing is before it");
        assert!(snapshots.take_job().is_some(), "to receive needs not wait");
        assert!(snapshots.take_job().is_none(), "the discard may still come");
        assert!(matches!(discard.run().outcome, Outcome::Discarded));
        snapshots.discarding -= 1;
        assert!(snapshots.take_job().is_some());
    }
}
