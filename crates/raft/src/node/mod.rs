//! The protocol, and nothing else: a [`Node`] is a function of its inputs. It has no clock (time
//! is [`tick`](Node::tick)), no source of chance but a seed, no thread, no file and no socket. The
//! same inputs give the same outputs, byte for byte, which is why it can be simulated, scripted
//! and searched exhaustively.
//!
//! Inputs are method calls; all outputs leave through [`drain`](Node::drain). Whatever asserts
//! something that is not yet durable stays inside until [`on_durable`](Node::on_durable), so no
//! owner of a node can send it too early.
//!
//! Read `types`, `message` and `role` first, then `election`, `replication` and `read`, which are
//! the three parts of the protocol; `durability` and `progress` hold the two bookkeepings that
//! they lean on. `restore` is how a node begins, `admission` what it listens to, `propose` how a
//! command enters the log and `former` how a leader that was learns what became of it.
//! `configuration`, `change` and `reconfiguration` are who belongs to the cluster and how that
//! changes, `transfer` is how a leader hands over. `snapshot` and `install` are what happens where
//! logs do not go back far enough, and `repair` where they are damaged. `recovery` is what makes
//! elections quick where the old leader is known to be gone; `slow_disk` and `no_space` are when a
//! leader makes way for another. `invariants` is what holds all the time.
//!
//! Architecture invariant: nothing here touches a thread, a clock, a file, a socket, a global
//! source of chance, or the order of a hash map.

mod actions;
mod admission;
mod change;
mod config;
mod configuration;
mod durability;
mod election;
mod entries;
mod former;
mod install;
mod invariants;
mod log;
mod membership;
mod message;
mod no_space;
mod progress;
mod propose;
mod quorum;
mod random;
mod read;
mod reconfiguration;
mod recovery;
mod repair;
mod replication;
mod restore;
mod role;
mod search;
mod sizes;
mod slow_disk;
mod snapshot;
mod status;
mod transfer;
mod types;

use std::collections::BTreeMap;

pub use actions::{
    Actions, Append, Ballot, Bar, ChangeEnded, ChangeOutcome, DamageEvent, Ended, Event, Fetch,
    LeadershipChanged, ProposalOutcome, ReadEnded, SnapshotOffer, SnapshotPoint, StepDown, Target,
    TransferEnded, TransferOutcome, VoteRefusal,
};
pub use change::{Change, ChangeError};
pub use config::Config;
pub use configuration::{Configuration, ConfigurationError, Intent, Learner, Lists, Voter};
pub use entries::Entries;
pub use install::Reception;
pub use message::{Cause, Envelope, Message};
pub use propose::ProposeError;
pub use quorum::{Outcome, Quorum, majority};
pub use read::ReadError;
pub use restore::{DurableState, RestoreError};
pub use snapshot::MachineState;
pub use status::{Feed, FollowerStatus, RoleName, Status};
pub use transfer::TransferError;
pub use types::{
    Boot, COUNTER_MAX, Entry, EntryKind, FetchId, HardState, Incarnation, Index, InvalidNodeId,
    LostEntry, Member, NodeId, Payload, Position, ReadId, SnapshotId, Term, Ticket,
};

use durability::Durability;
use election::Answer;
use former::Former;
use invariants::LastSeen;
use log::Log;
use membership::Membership;
use progress::Progress;
use random::Random;
use repair::Repair;
use replication::{Received, Urge};
use role::{ElectionTimer, Role};
use slow_disk::DiskPace;
use snapshot::Snapshots;
use transfer::Transfer;

/// A server that is its own majority waits for nobody.
const TICKS_ALONE: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FetchPurpose {
    Apply,
    Follower(Member),
    Repair(Member),
}

/// One server's part in the protocol.
///
/// Invariants, asserted after every input and with every [`drain`](Node::drain):
/// - compacted <= snapshot <= applied <= min(committed, durable), and committed <= last; while
///   there is no state, nothing is applied;
/// - the term is never below that of the last entry;
/// - term, commit and applied never go back; a vote changes only when the term grows;
/// - lost entries are part of the log.
///
/// And asserted where it is decided:
/// - what a leader commits in its term, a majority of voters holds durably (in debug builds).
///
/// Two nodes that are equal act alike from here on, which is what an exhaustive search needs.
///
/// # Example
///
/// A node that is a cluster by itself elects itself, writes, and has its command to apply. Its
/// owner does what every [`drain`](Node::drain) asks for, and says what is done.
///
/// ```
/// use raft::node::{
///     Boot, Config, Configuration, DurableState, Incarnation, Member, Node, NodeId, Payload,
///     Voter,
/// };
///
/// let member = Member { id: NodeId::new("s1")?, incarnation: Incarnation(1) };
/// let voter = Voter { member, address: "127.0.0.1:7001".into() };
/// let founded = DurableState::new(Configuration::new(vec![voter])?);
/// let mut node = Node::restore(Config::new(member, Boot(1)), founded, 1)?;
///
/// let mut applied = Vec::new();
/// let mut carry_out = |node: &mut Node| loop {
///     let actions = node.drain();
///     if actions.is_empty() {
///         break;
///     }
///     if let Some(last) = actions.apply.last() {
///         let index = last.index;
///         applied.extend(actions.apply.iter().map(|entry| entry.payload.bytes.clone()));
///         node.on_applied(index);
///     }
///     if let Some(append) = actions.append {
///         // Here it is written and synced.
///         node.on_durable(append.ticket, 0);
///     }
/// };
/// node.tick();
/// carry_out(&mut node);
/// node.propose(vec![Payload::new("set a 1")])?;
/// carry_out(&mut node);
/// assert_eq!(applied, ["", "set a 1"], "a leader begins with an entry that says nothing");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    config: Config,
    random: Random,
    hard_state: HardState,
    log: Log,
    membership: Membership,
    durability: Durability,
    disk: DiskPace,
    repair: Repair,
    role: Role,
    former: Former,
    snapshots: Snapshots,
    /// Everything up to here is committed.
    commit: Index,
    /// Handed to the state machine, and applied by it.
    applying: Index,
    applied: Index,
    last_leader: Option<(Member, Term)>,
    /// What the disk can take beyond what it was handed.
    room: u64,
    /// What a proposal took that was refused for want of room, until there is so much.
    lacking: Option<u64>,
    /// What the next entry takes that this follower did not take for want of room, until there is
    /// so much.
    turned_away: Option<u64>,
    /// Counts the questions for read indexes of this boot.
    read_counter: u64,
    next_fetch: FetchId,
    fetching: BTreeMap<FetchId, FetchPurpose>,
    /// Entries that were read back for the state machine.
    fetched: Vec<Entry>,
    last_seen: LastSeen,
    // What the next drain will give.
    outbox: Vec<Envelope>,
    fetches: Vec<Fetch>,
    ended: Vec<Ended>,
    reads: Vec<ReadEnded>,
    changes: Vec<ChangeEnded>,
    transfers: Vec<TransferEnded>,
    events: Vec<Event>,
}

impl Node {
    /// A tenth of a heartbeat has passed.
    pub fn tick(&mut self) {
        self.tick_disk();
        self.tick_repair();
        self.tick_snapshots();
        self.tick_former_proposals();
        let (term, me) = (self.hard_state.term, self.config.me);
        let question_ticks = self.read_question_ticks();
        match &mut self.role {
            Role::Follower(follower) => {
                follower.reads.tick(question_ticks);
                if follower.timer.tick() {
                    self.start_pre_vote();
                }
            }
            // Nobody was asked yet, so nobody is waited for. To start over would put the next vote
            // behind this one, and so on for ever.
            Role::Candidate(_) if !self.durability.is_vote_durable(term, me) => {}
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => {
                if campaign.timer.tick() {
                    self.start_pre_vote();
                }
            }
            Role::Leader(_) => self.tick_leader(),
        }
        self.assert_invariants();
    }

    fn tick_leader(&mut self) {
        let (commit, silent_max) = (self.commit, self.config.election_ticks_min);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.progress.values_mut().for_each(|progress| progress.tick(silent_max));
        leader.heartbeat_elapsed += 1;
        if leader.heartbeat_elapsed >= self.config.heartbeat_ticks {
            leader.heartbeat_elapsed = 0;
            if commit >= leader.term_start {
                leader.rounds.begin(commit);
            } else {
                leader.rounds.begin_without_readers();
            }
            leader.progress.values_mut().for_each(Progress::on_heartbeat);
            leader.transfer.iter_mut().for_each(Transfer::on_heartbeat);
            self.confirm_reads();
        }
        self.check_quorum();
        self.tick_transfer();
        self.tick_change();
        self.replicate(Urge::Tick);
    }

    /// A message came. Anything may come: what no correct server sends is ignored.
    pub fn step(&mut self, envelope: Envelope) {
        if let Err(reason) = self.admit(&envelope) {
            self.events.push(Event::Ignored { from: envelope.from, reason });
            return;
        }
        self.step_by_term(envelope);
        self.assert_invariants();
    }

    /// The only place that compares a sender's term with the own one (3.3).
    fn step_by_term(&mut self, envelope: Envelope) {
        let Envelope { from, term, message, .. } = envelope;
        let mine = self.hard_state.term;
        let message = match message {
            // What a position of the log says is the same in every term.
            Message::RepairRequest { positions } => {
                return self.on_repair_request(from, &positions);
            }
            Message::RepairAnswer { entries, lacking, compacted } => {
                return self.on_repair_answer(from, &entries, &lacking, compacted);
            }
            message => message,
        };
        match &message {
            // A question about a later term, and a yes to it, are no sign that the term exists.
            Message::PreVoteRequest { campaign, last } => {
                return self.on_pre_vote_request(from, *campaign, *last);
            }
            Message::PreVoteGranted { campaign } => {
                return self.on_vote_answer(from, *campaign, Ballot::PreVote, Answer::Yes);
            }
            // A refusal names the refuser's term, and whoever lags behind it adopts it.
            Message::PreVoteRefused { campaign } if term <= mine => {
                return self.on_vote_answer(from, *campaign, Ballot::PreVote, Answer::No);
            }
            _ => {}
        }
        if term < mine {
            match message {
                // A refusal would be one in this term, in which nobody has asked for a vote yet.
                Message::Append { .. }
                | Message::SnapshotOffer { .. }
                | Message::VoteRequest { .. } => self.send(from, Message::TermIsOver),
                _ => {}
            }
            return;
        }
        if term > mine {
            // A leader that hands over wants its followers' loyalty to end.
            if matches!(message, Message::VoteRequest { cause: Cause::Silence, .. })
                && self.is_loyal_against(from, term)
            {
                return;
            }
            self.adopt_term(term);
        }
        self.step_in_term(from, message);
    }

    fn step_in_term(&mut self, from: Member, message: Message) {
        let term = self.hard_state.term;
        match message {
            Message::VoteRequest { last, .. } => self.on_vote_request(from, last),
            Message::VoteGranted => self.on_vote_answer(from, term, Ballot::Vote, Answer::Yes),
            Message::VoteRefused => self.on_vote_answer(from, term, Ballot::Vote, Answer::No),
            Message::Append { previous, entries, commit, round } => {
                if let Role::Leader(_) = self.role {
                    let reason = "it leads in the same term";
                    self.events.push(Event::Ignored { from, reason });
                    return;
                }
                self.on_append(from, Received { previous, entries, commit, round });
            }
            Message::AppendAccepted { matched } => {
                self.on_append_accepted(from, matched, matched);
            }
            Message::AppendAcceptedInPart { matched, verified } => {
                self.on_append_accepted(from, matched, verified);
            }
            Message::AppendRejected { previous, hint } => {
                self.on_append_rejected(from, previous, hint);
            }
            Message::RoundEcho { round } => self.on_round_echo(from, round),
            Message::SnapshotOffer { snapshot } => {
                if let Role::Leader(_) = self.role {
                    let reason = "it leads in the same term";
                    self.events.push(Event::Ignored { from, reason });
                    return;
                }
                self.on_snapshot_offer(from, snapshot);
            }
            Message::SnapshotRequest { after } => self.on_snapshot_request(from, after),
            Message::ReadIndexRequest { boot, counter } => {
                self.on_read_index_request(from, boot, counter);
            }
            Message::ReadIndexAnswer { boot, counter, index } => {
                self.on_read_index_answer(boot, counter, index);
            }
            Message::TimeoutNow { last } => self.on_timeout_now(from, last),
            // Their whole meaning is the term, which is adopted by now.
            Message::TermIsOver
            | Message::PreVoteRequest { .. }
            | Message::PreVoteGranted { .. }
            | Message::PreVoteRefused { .. } => {}
            // Answered before terms are compared.
            Message::RepairRequest { .. } | Message::RepairAnswer { .. } => {}
        }
    }

    /// The append of this ticket is on the disk, for good. Appends complete in order. If its owner
    /// stood still for it, `took_ticks` is how many ticks were not given meanwhile.
    ///
    /// # Panics
    /// It is not the oldest append that was handed out and is not complete.
    pub fn on_durable(&mut self, ticket: Ticket, took_ticks: u32) {
        let released = self.durability.complete(ticket);
        self.judge_disk(ticket, took_ticks);
        self.on_repairs_durable(ticket);
        self.on_install_durable(ticket);
        let term = self.hard_state.term;
        // What was promised in a term that is over is of no use to anybody, nor is a question
        // of a campaign that was given up.
        let role = self.role();
        let is_of_use = |it: &Envelope| {
            it.term == term
                && match it.message {
                    Message::VoteRequest { .. } => role == RoleName::Candidate,
                    Message::PreVoteRequest { .. } => role == RoleName::PreCandidate,
                    _ => true,
                }
        };
        self.outbox.extend(released.into_iter().filter(is_of_use));
        self.count_own_vote();
        self.advance_commit();
        self.assert_invariants();
    }

    /// The entries that a fetch asked for, at least the first of them.
    pub fn on_fetched(&mut self, id: FetchId, entries: Vec<Entry>) {
        match self.fetching.remove(&id) {
            Some(FetchPurpose::Apply) => self.fetched = entries,
            Some(FetchPurpose::Follower(member)) => {
                self.on_fetched_for_follower(member, id, entries);
            }
            Some(FetchPurpose::Repair(member)) => {
                let current = |entry: &Entry| self.log.holds(entry.position());
                if entries.iter().all(current) {
                    self.answer_repair(member, entries, Vec::new());
                }
            }
            None => {}
        }
    }

    /// Takes everything that the node wants done.
    pub fn drain(&mut self) -> Actions {
        self.begin_read_round();
        self.ask_read_index();
        self.seek_repair();
        self.replicate(Urge::Event);
        self.advance_transfer();
        let settled = self.durability.take_settled(&self.log, self.hard_state);
        self.outbox.extend(settled);
        let append = self.take_append();
        append.iter().for_each(|append| self.disk.on_handed_out(append));
        let snapshot = self.take_snapshot_point();
        let install = self.take_install();
        let apply = self.take_apply();
        self.log.evict(self.config.window_bytes_max, self.durability.durable());
        self.assert_invariants();
        Actions {
            append,
            apply,
            snapshot,
            install,
            compact: self.take_compaction(),
            offered: self.take_offered(),
            send: std::mem::take(&mut self.outbox),
            fetch: std::mem::take(&mut self.fetches),
            ended: std::mem::take(&mut self.ended),
            reads: std::mem::take(&mut self.reads),
            changes: std::mem::take(&mut self.changes),
            transfers: std::mem::take(&mut self.transfers),
            events: std::mem::take(&mut self.events),
        }
    }

    fn take_append(&mut self) -> Option<Append> {
        if let Some(reset) = self.install_to_write()
            && let Some(append) = self.durability.take_install(&self.log, self.hard_state, reset)
        {
            self.on_install_handed_out(append.ticket);
            return Some(append);
        }
        if !self.has_repairs() {
            return self.durability.take_append(&self.log, self.hard_state);
        }
        let append = self.durability.begin_append(&self.log, self.hard_state);
        let repairs = self.take_repairs(append.ticket);
        Some(Append { repairs, ..append })
    }

    fn new_fetch(&mut self, from: Index, to: Index, bytes_max: u64) -> FetchId {
        let id = self.next_fetch;
        self.next_fetch = id.next();
        self.fetches.push(Fetch { id, from, to, bytes_max });
        id
    }

    /// Sends what is true without the disk, except that no term leaves before it is durable:
    /// a server must never come back in a term below one that it has spoken in.
    fn send(&mut self, to: Member, message: Message) {
        if self.durability.remembers(self.hard_state.term) {
            let envelope = self.envelope(to, message);
            self.outbox.push(envelope);
        } else {
            self.send_when_durable(to, message);
        }
    }

    /// Sends once everything that the node holds now is on the disk.
    fn send_when_durable(&mut self, to: Member, message: Message) {
        let envelope = self.envelope(to, message);
        self.durability.hold(envelope);
    }

    fn envelope(&self, to: Member, message: Message) -> Envelope {
        Envelope { from: self.config.me, to, term: self.hard_state.term, message }
    }

    fn known_leader(&self) -> Option<Member> {
        match &self.role {
            Role::Leader(_) => Some(self.config.me),
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Ticks until the passing of time alone makes this node do something; its owner may sleep so
    /// long if nothing comes.
    #[must_use]
    pub fn ticks_until_due(&self) -> u32 {
        let until = |timer: &ElectionTimer| timer.timeout.saturating_sub(timer.elapsed);
        let due = match &self.role {
            Role::Follower(follower) if follower.reads.has_question() => 1,
            Role::Follower(follower) => until(&follower.timer),
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => until(&campaign.timer),
            Role::Leader(leader) => {
                let news = leader.progress.values().any(|other| other.lacks_commit(self.commit));
                let heartbeat =
                    self.config.heartbeat_ticks.saturating_sub(leader.heartbeat_elapsed);
                let transfer = leader.transfer.as_ref();
                let transfer =
                    transfer.map_or(heartbeat, |it| it.ticks_left(self.config.election_ticks_min));
                if news { 1 } else { heartbeat.min(transfer) }
            }
        };
        let due = due.min(self.former.ticks_until_due().unwrap_or(due));
        due.min(self.repair.ticks_until_due().unwrap_or(due)).max(1)
    }

    /// Ticks between a leader's heartbeats.
    #[must_use]
    pub fn heartbeat_ticks(&self) -> u32 {
        self.config.heartbeat_ticks
    }

    /// Whether an append was handed out and is not complete.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.durability.is_writing()
    }

    /// The members of the cluster, as far as this node's log says.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.membership.current()
    }

    /// Where that configuration stands in the log; it may be truncated until it is committed.
    #[must_use]
    pub fn configuration_index(&self) -> Index {
        self.membership.index()
    }

    /// This server.
    #[must_use]
    pub fn me(&self) -> Member {
        self.config.me
    }

    /// The role, without what belongs to it.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The latest term that is on the disk. No message of a later one has left.
    #[must_use]
    pub fn durable_term(&self) -> Term {
        self.durability.durable_term()
    }

    /// The leader of this term, as far as it has been heard.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.known_leader().map(|leader| leader.id)
    }

    /// The last leader that was heard from, in any term, and that term.
    #[must_use]
    pub fn last_leader(&self) -> Option<(NodeId, Term)> {
        self.last_leader.map(|(leader, term)| (leader.id, term))
    }

    /// The last leader that was heard from, in the life in which it led.
    #[must_use]
    pub fn last_leading_member(&self) -> Option<Member> {
        self.last_leader.map(|(leader, _)| leader)
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// Everything up to here was applied by the state machine.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }
}
