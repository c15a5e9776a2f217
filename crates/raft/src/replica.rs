//! Carries out what a node asks for: a node, its log on the disk and the state machine, in one
//! piece that knows no socket, no clock and no thread. The same replica runs in production and
//! under test; only what is handed to it differs.
//!
//! Read this file first; `snapshots` is what it does with snapshots, with `sender` and `receiver`
//! as the two ends of a transfer, `stream` as what they say, and `job` as what takes long.

mod job;
mod receiver;
mod sender;
mod snapshots;
mod stream;

use std::collections::{BTreeMap, VecDeque};

use crate::node::{
    Actions, Change, ChangeOutcome, Config, Ended, Entries, Entry, EntryKind, Envelope, Event,
    Fetch, FetchId, Index, LeadershipChanged, Member, Node, NodeId, Payload, Position,
    ProposalOutcome, ProposeError, ReadError, ReadId, RestoreError, Status, Term, TransferEnded,
    TransferError,
};
use crate::state_machine::{StateMachine, Undecodable};
use crate::storage::{LogError, LogStore, ReadBack, Recovered};

pub use job::{Job, JobDone};
pub use sender::SendingStatus;
pub use snapshots::SnapshotEvent;
pub use stream::{SnapshotEnvelope, SnapshotMessage};

use snapshots::Snapshots;

/// Takes messages to other servers. May lose them, and may not wait.
///
/// # Example
///
/// Between threads of one process, a channel to each server is enough.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::mpsc::Sender;
///
/// use raft::node::{Envelope, NodeId};
/// use raft::replica::{Carried, SnapshotEnvelope};
/// use raft::{Input, Transport};
///
/// struct Channels(BTreeMap<NodeId, Sender<Input>>);
///
/// impl Transport for Channels {
///     fn send(&mut self, envelope: Envelope) {
///         if let Some(inbox) = self.0.get(&envelope.to.id) {
///             // A server that is gone gets nothing, as over any network.
///             let _ = inbox.send(Input::Message(envelope));
///         }
///     }
///
///     fn send_snapshot(&mut self, envelope: &SnapshotEnvelope) -> Carried {
///         match self.0.get(&envelope.to.id) {
///             Some(inbox) if inbox.send(Input::Snapshot(envelope.clone())).is_ok() => {
///                 Carried::Taken
///             }
///             _ => Carried::NotNow,
///         }
///     }
/// }
/// ```
pub trait Transport {
    /// Queues a message for its receiver.
    fn send(&mut self, envelope: Envelope);

    /// Queues a message about a snapshot for its receiver, beside the others: no heartbeat may
    /// wait behind it. One that is not taken comes again later.
    fn send_snapshot(&mut self, envelope: &SnapshotEnvelope) -> Carried;

    /// Nothing more comes for now: what is queued should leave before the disk is waited for. There
    /// is nothing to do where [`send`](Self::send) does not gather.
    fn flush(&mut self) {}
}

/// Whether a message about a snapshot is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It is, or is lost.
    Taken,
    /// The way is congested, or there is none at the moment.
    NotNow,
}

/// Whether a replica has more to do without any further input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It waits for input.
    Done,
    /// It should be called again soon.
    More,
}

/// Drains in one call. An ordinary turn takes three: send and write, acknowledge, apply.
const DRAINS_MAX: u32 = 8;

/// Names a proposal for whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The end of something that was asked of a replica. Each request has exactly one.
#[derive(Debug, PartialEq, Eq)]
pub enum Completion<R> {
    /// A proposal was applied at an index, with this reply.
    Applied(Token, Index, R),
    /// A proposal never entered the log, or lost its place there to an entry of another leader: it
    /// will not be applied. The second is told as [`ProposeError::NotLeader`].
    Refused(Token, ProposeError),
    /// This server stopped leading before the proposal was committed, and did not learn in time
    /// what became of it. It may yet be committed.
    Unknown(Token),
    /// A read may be answered now.
    ReadReady(ReadId),
    /// A read could not be confirmed; nothing happened.
    ReadLost(ReadId, LeadershipChanged),
    /// A read was not begun, since nobody is known who could confirm it.
    ReadRefused(ReadId, ReadError),
    /// A change of the membership ended so. A refused one is told as a refused proposal.
    Changed(Token, ChangeOutcome),
    /// A transfer of leadership ended so.
    Transferred(Token, TransferEnded),
    /// A transfer of leadership was not begun.
    TransferRefused(Token, TransferError),
}

/// Why a replica must stop. There is no way on from any of these.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The disk cannot be trusted any more.
    #[error("{0}")]
    Log(#[from] LogError),
    /// A committed command cannot be understood.
    #[error("{0}")]
    Undecodable(#[from] Undecodable),
}

/// Why entries cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogEntriesError {
    /// The payload of this one is damaged. The other servers are asked for it.
    #[error("entry {0} is damaged on this server's disk; the other servers are asked for it")]
    Damaged(Index),
    /// The log cannot be read. The replica ends.
    #[error("{0}")]
    Failed(String),
}

/// A member of a founded cluster.
///
/// Invariants:
/// - entries are applied in order, each once, and only when committed and on the own disk;
/// - every proposal, read, change and transfer completes exactly once.
pub struct Replica<M: StateMachine> {
    node: Node,
    log: LogStore,
    /// `None` while what it would start from is damaged.
    machine: Option<M>,
    snapshots: Snapshots<M>,
    /// Proposals that entered the log, by the term and index they were given. Those of former
    /// leaderships come first.
    proposed: VecDeque<Proposed>,
    /// Commands for the next batches.
    queued: VecDeque<(Token, Payload)>,
    /// Changes whose end was not told yet, by their joint configurations; likewise transfers.
    changing: VecDeque<(Index, Token)>,
    transferring: VecDeque<Token>,
    /// Confirmed reads that wait for the state machine.
    reads: BTreeMap<Index, Vec<ReadId>>,
    completions: Vec<Completion<M::Reply>>,
    events: Vec<Event>,
    stopwatch: Stopwatch,
    /// Ticks that went by while the disk was waited for, which the node was not told of yet.
    stood_still_ticks: u64,
}

/// A proposal that entered the log: under which term, where, and what its maker calls it.
type Proposed = (Term, Index, Token);

/// Ticks since any fixed moment, to tell how long the disk has kept a replica from its work.
pub type Stopwatch = Box<dyn Fn() -> u64 + Send>;

impl<M: StateMachine> Replica<M> {
    /// A replica that continues from what is on the disk. `seed` decides its election timeouts.
    ///
    /// Commands may have no more than `config` says, and no more than the log takes as a record:
    /// what a leader lets in must find its place in its own log. A follower whose log takes less
    /// than its leader's ignores what is too large for it, and says so in an event.
    ///
    /// # Errors
    /// What is on the disk does not hang together, or is not that of the member which `config`
    /// names.
    pub fn new(
        mut config: Config,
        recovered: Recovered<M>,
        seed: u64,
    ) -> Result<Self, RestoreError> {
        let Recovered { member, boot, mut log, snapshots, state, machine, .. } = recovered;
        if (config.me, config.boot) != (member, boot) {
            let (wanted, found, found_boot) = (config.me, member, boot);
            return Err(RestoreError::OtherMember { found, found_boot, wanted, boot: config.boot });
        }
        config.command_bytes_max = config.command_bytes_max.min(log.command_bytes_max());
        let snapshots = Snapshots::new(snapshots, config.heartbeat_ticks);
        let mut node = Node::restore(config, state, seed)?;
        node.set_room(log.room());
        Ok(Self {
            node,
            log,
            machine,
            snapshots,
            proposed: VecDeque::new(),
            queued: VecDeque::new(),
            changing: VecDeque::new(),
            transferring: VecDeque::new(),
            reads: BTreeMap::new(),
            completions: Vec::new(),
            events: Vec::new(),
            stopwatch: Box::new(|| 0),
            stood_still_ticks: 0,
        })
    }

    /// Has everything measured for which this replica stands still: writes, what is read back or
    /// put back, segments that are waited for. Without a stopwatch that takes no time, as on a
    /// disk that exists in memory only.
    pub fn measure_with(&mut self, stopwatch: Stopwatch) {
        self.stopwatch = stopwatch;
    }

    /// A tenth of a heartbeat has passed.
    pub fn tick(&mut self) {
        self.node.tick();
        self.tick_snapshots();
    }

    /// A message came.
    pub fn step(&mut self, envelope: Envelope) {
        self.node.step(envelope);
    }

    /// The process that led `term` as `leader` is known to be gone; see [`Node::on_disconnected`].
    pub fn on_disconnected(&mut self, leader: Member, term: Term) {
        self.node.on_disconnected(leader, term);
    }

    /// Another start of this server answers than before; see [`Node::on_restarted`].
    pub fn on_restarted(&mut self, member: Member) {
        self.node.on_restarted(member);
    }

    /// Asks for a command to be replicated. All that come before the next
    /// [`advance`](Self::advance) share one batch.
    pub fn propose(&mut self, token: Token, command: Payload) {
        self.queued.push_back((token, command));
    }

    /// Asks for a change of the membership.
    pub fn change_membership(&mut self, token: Token, change: &Change) {
        match self.node.change_membership(change) {
            Ok(index) => self.changing.push_back((index, token)),
            Err(error) => self.completions.push(Completion::Refused(token, error)),
        }
    }

    /// Asks for leadership to be handed to a voter.
    pub fn transfer_leadership(&mut self, token: Token, to: NodeId) {
        match self.node.transfer_leadership(to) {
            Ok(()) => self.transferring.push_back(token),
            Err(error) => self.completions.push(Completion::TransferRefused(token, error)),
        }
    }

    /// Asks for leadership to be handed to whichever voter holds most of the log.
    pub fn hand_over(&mut self, token: Token) {
        match self.node.hand_over() {
            Ok(_) => self.transferring.push_back(token),
            Err(error) => self.completions.push(Completion::TransferRefused(token, error)),
        }
    }

    /// Asks for a linearizable read.
    pub fn read(&mut self, id: ReadId) {
        if let Err(error) = self.node.request_read(id) {
            self.completions.push(Completion::ReadRefused(id, error));
        }
    }

    /// Carries out what the node asks for, until it asks for nothing more or so much was done
    /// that messages should be looked at first: a long way to catch up must not keep a leader
    /// from its heartbeats. Messages leave before the disk is waited for, so that followers write
    /// while this server does.
    ///
    /// # Errors
    /// The replica must stop.
    pub fn advance(&mut self, transport: &mut dyn Transport) -> Result<Work, Fatal> {
        // The disk may have filled, or been cleared, since the last append.
        self.look_at_room();
        self.tell_standstill();
        self.offer_received();
        self.send_snapshots(transport);
        for _ in 0..DRAINS_MAX {
            self.propose_queued();
            let actions = self.node.drain();
            let waits = self.queued.is_empty() || self.waits_for_disk();
            if actions.is_empty() && !self.log.is_pending() && waits {
                return Ok(Work::Done);
            }
            self.carry_out(actions, transport)?;
        }
        Ok(Work::More)
    }

    fn carry_out(&mut self, actions: Actions, transport: &mut dyn Transport) -> Result<(), Fatal> {
        let Actions { append, send, apply, fetch, ended, reads, events, .. } = actions;
        let Actions { snapshot, compact, offered, install, changes, transfers, .. } = actions;
        self.events.extend(events);
        if !send.is_empty() {
            send.into_iter().for_each(|envelope| transport.send(envelope));
            transport.flush();
        }
        ended.into_iter().for_each(|ended| self.on_ended(&ended));
        for read in reads {
            match read.outcome {
                Ok(index) => self.reads.entry(index).or_default().push(read.id),
                Err(changed) => self.completions.push(Completion::ReadLost(read.id, changed)),
            }
        }
        for ended in changes {
            let token = self.changing.pop_front_if(|(index, _)| *index == ended.index);
            let changed = token.map(|(_, token)| Completion::Changed(token, ended.outcome));
            self.completions.extend(changed);
        }
        for ended in transfers {
            let token = self.transferring.pop_front();
            self.completions.extend(token.map(|token| Completion::Transferred(token, ended)));
        }
        if let Some(snapshot) = install {
            self.install(snapshot);
        }
        if let Some(point) = snapshot {
            self.begin_snapshot(point);
        }
        self.apply(&apply)?;
        if let Some(offer) = offered {
            self.on_offered(offer);
        }
        if let Some(index) = compact {
            self.on_disk(|log| log.compact(index))?;
        }
        for fetch in fetch {
            match self.on_disk(|log| log.read(&fetch))? {
                ReadBack::Entries(entries) => self.node.on_fetched(fetch.id, entries),
                ReadBack::Lost(lost) => self.node.on_fetch_lost(fetch.id, lost),
            }
        }
        if let Some(append) = append {
            self.on_disk(|log| log.submit(append))?;
        }
        if self.log.is_pending() {
            let tickets = self.on_disk(LogStore::complete)?;
            let took = u32::try_from(self.stood_still_ticks).unwrap_or(u32::MAX);
            for ticket in tickets {
                self.node.on_durable(ticket, took);
            }
            self.look_at_room();
        }
        self.tell_standstill();
        self.complete_reads();
        Ok(())
    }

    /// Has the log do something for which this replica may stand still, and measures that.
    fn on_disk<T>(&mut self, work: impl FnOnce(&mut LogStore) -> T) -> T {
        let begun = (self.stopwatch)();
        let done = work(&mut self.log);
        let took = (self.stopwatch)().saturating_sub(begun);
        self.stood_still_ticks = self.stood_still_ticks.saturating_add(took);
        done
    }

    /// What was no write counts as well, before anything else follows from it.
    fn tell_standstill(&mut self) {
        let stood_still = std::mem::take(&mut self.stood_still_ticks);
        self.node.on_stood_still(u32::try_from(stood_still).unwrap_or(u32::MAX));
    }

    /// Room for one more snapshot stays in reserve: without one the log could never be let go of.
    fn look_at_room(&mut self) {
        let short = self.snapshots.is_short_of_room();
        let room = if short { 0 } else { self.on_disk(LogStore::room) };
        self.node.set_room(room);
    }

    /// Whether what is queued does not fit behind the write that is under way. It may fit
    /// afterwards, so it is not refused.
    fn waits_for_disk(&self) -> bool {
        let first = self.queued.front();
        self.log.is_flushing() && first.is_some_and(|(_, first)| self.lacks_room_for(first))
    }

    /// Proposes what is queued, as far as the disk takes it at once; the rest follows when that is
    /// written. What is refused is refused by itself, and nothing beside it.
    fn propose_queued(&mut self) {
        while !self.queued.is_empty() && !self.waits_for_disk() {
            let count = self.fitting();
            let (tokens, batch): (Vec<Token>, Vec<Payload>) = self.queued.drain(..count).unzip();
            match self.node.propose(batch) {
                Ok(indexes) => {
                    let (term, indexes) = (self.node.term(), indexes.start.0..indexes.end.0);
                    let named = indexes.zip(tokens).map(|(at, token)| (term, Index(at), token));
                    self.proposed.extend(named);
                    if self.queued.front().is_some_and(|(_, next)| self.lacks_room_for(next)) {
                        return;
                    }
                }
                Err(error) => {
                    let refused = |token| Completion::Refused(token, error.clone());
                    self.completions.extend(tokens.into_iter().map(refused));
                }
            }
        }
    }

    /// How many of the queued commands make up the next batch. What cannot be taken at all, or not
    /// behind those before it, goes alone, so that its refusal is its own.
    fn fitting(&self) -> usize {
        let bytes_max = self.node.room().min(self.node.uncommitted_room());
        let command_bytes_max = self.node.command_bytes_max();
        let mut bytes = 0;
        let fits = |(_, command): &&(Token, Payload)| {
            bytes += command.bytes.len() as u64 + Entry::OVERHEAD_BYTES;
            bytes <= bytes_max && command.bytes.len() as u64 <= command_bytes_max
        };
        self.queued.iter().take_while(fits).count().max(1)
    }

    fn lacks_room_for(&self, command: &Payload) -> bool {
        command.bytes.len() as u64 + Entry::OVERHEAD_BYTES > self.node.room()
    }

    fn on_ended(&mut self, ended: &Ended) {
        let (term, leader) = (ended.term, self.node.leader());
        let completion: fn(Token, Option<NodeId>) -> Completion<M::Reply> = match ended.outcome {
            // They complete with their reply.
            ProposalOutcome::Committed => return,
            ProposalOutcome::Superseded => {
                |token, leader| Completion::Refused(token, ProposeError::NotLeader { leader })
            }
            ProposalOutcome::Unknown => |token, _| Completion::Unknown(token),
        };
        let (first, last) = (*ended.indexes.start(), *ended.indexes.end());
        let from = self.proposed.partition_point(|(of, at, _)| (*of, *at) < (term, first));
        let to = self.proposed.partition_point(|(of, at, _)| (*of, *at) <= (term, last));
        let ended = self.proposed.drain(from..to);
        self.completions.extend(ended.map(|(_, _, token)| completion(token, leader)));
    }

    fn apply(&mut self, entries: &Entries) -> Result<(), Fatal> {
        let Some(last) = entries.last().map(|last| last.index) else { return Ok(()) };
        let Some(machine) = &mut self.machine else {
            assert!(entries.is_empty(), "nothing is applied where there is no state machine");
            return Ok(());
        };
        for entry in entries {
            if entry.kind != EntryKind::Command {
                machine.advance(entry.index);
            } else {
                let reply = machine.apply(entry.index, &entry.payload.bytes)?;
                if let Some(token) = take_proposed(&mut self.proposed, entry.position()) {
                    self.completions.push(Completion::Applied(token, entry.index, reply));
                }
            }
        }
        self.node.on_applied(last);
        Ok(())
    }

    /// Completes the reads whose index the state machine has applied.
    fn complete_reads(&mut self) {
        let applied = self.node.applied();
        while let Some(first) = self.reads.first_entry().filter(|first| *first.key() <= applied) {
            self.completions.extend(first.remove().into_iter().map(Completion::ReadReady));
        }
    }

    /// Runs the write that waits for it, where the disk is
    /// [the owner's to run](crate::storage::Flushes::ByOwner).
    pub fn run_flush(&mut self) {
        self.log.run_flush();
    }

    /// Takes what has completed.
    pub fn take_completions(&mut self) -> Vec<Completion<M::Reply>> {
        std::mem::take(&mut self.completions)
    }

    /// Takes what has happened, for people.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The state machine; `None` while its snapshots are damaged and it waits for one of another
    /// server.
    pub fn machine(&self) -> Option<&M> {
        self.machine.as_ref()
    }

    /// Ticks until the passing of time alone makes this replica do something.
    #[must_use]
    pub fn ticks_until_due(&self) -> u32 {
        if self.snapshots.is_busy() { 1 } else { self.node.ticks_until_due() }
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node at this moment.
    pub fn status(&self) -> Status {
        self.node.status()
    }

    /// Entries of this server's own log, from `from` on, committed or not: at most `count_max`,
    /// and the first of them even if it has more than `bytes_max`. What cannot be read for people
    /// cannot be read for the node either: a damaged payload is asked of the others, and after any
    /// other error the next [`advance`](Self::advance) ends this replica.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn log_entries(
        &mut self,
        from: Index,
        count_max: u32,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LogEntriesError> {
        let status = self.node.status();
        let from = from.max(status.compacted.next());
        let to =
            status.durable.min(Index(from.0.saturating_add(count_max.into()).saturating_sub(1)));
        if from > to {
            return Ok(Vec::new());
        }
        let fetch = Fetch { id: FetchId(0), from, to, bytes_max };
        match self.on_disk(|log| log.read(&fetch)) {
            Ok(ReadBack::Entries(entries)) => Ok(entries),
            Ok(ReadBack::Lost(lost)) => {
                self.node.on_lost(&[lost]);
                Err(LogEntriesError::Damaged(lost.position.index))
            }
            Err(error) => {
                let reason = error.to_string();
                self.log.end_with(error);
                Err(LogEntriesError::Failed(reason))
            }
        }
    }

    /// The next full segment of the log to be read again, so that damage is found while others
    /// still have what it took. It may run on any thread. `None` when all were read; the next
    /// call begins with the oldest.
    pub fn scrub(&mut self) -> Option<wal::Scrub> {
        self.log.scrub()
    }

    /// Takes the outcome of a [`scrub`](Self::scrub); what was found to be damaged is asked of
    /// the others.
    ///
    /// # Errors
    /// More than payloads is damaged, or the segment could not be read: the replica must stop.
    pub fn on_scrubbed(&mut self, scrubbed: wal::Scrubbed) -> Result<(), Fatal> {
        let lost = self.log.finish_scrub(scrubbed)?;
        self.node.on_lost(&lost);
        Ok(())
    }

    /// Stops, closing the log so that the next start can tell that nothing was lost.
    ///
    /// # Errors
    /// The disk failed.
    pub fn close(self) -> Result<(), LogError> {
        self.snapshots.stop();
        self.log.close()
    }
}

/// Who waits for the entry at this position.
fn take_proposed(proposed: &mut VecDeque<Proposed>, position: Position) -> Option<Token> {
    let wanted = (position.term, position.index);
    let is_it = |(term, index, _): &mut Proposed| (*term, *index) == wanted;
    // Others are in front only where a former leadership left some undecided.
    let found = proposed.pop_front_if(is_it).or_else(|| {
        let found = proposed.binary_search_by_key(&wanted, |(term, index, _)| (*term, *index));
        proposed.remove(found.ok()?)
    });
    found.map(|(_, _, token)| token)
}
