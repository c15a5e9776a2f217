//! What waits for the disk. A reply that rests on a write is kept with that write and comes out
//! only when the write is durable: that is the whole discipline, and it lives in this file.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use super::actions::Append;
use super::entries::Entries;
use super::log::Log;
use super::message::{Envelope, Message};
use super::types::{HardState, Index, Member, Position, Term, Ticket};

/// Invariants:
/// - appends complete strictly in the order of their tickets;
/// - `durable` never exceeds the last index of the log, nor what any pending append left of it:
///   it falls to the truncation point when a truncation is *queued*;
/// - a message leaves only once every append queued before it, and its own, has completed.
#[derive(Clone, Debug)]
pub(super) struct Durability {
    next_ticket: Ticket,
    /// Everything up to this index of the log is on the disk.
    durable: Index,
    /// The hard state that is on the disk.
    durable_state: HardState,
    /// What was handed to the disk so far, including what it has not completed.
    handed_out: Index,
    handed_out_state: HardState,
    /// The first entry of the log that the next append must write.
    unwritten_from: Index,
    /// The next append is to write the hard state even if it has not changed.
    rewrites_state: bool,
    /// Replies that rest on the next append.
    open: Vec<Envelope>,
    /// Appends that the disk has not completed.
    pending: VecDeque<Pending>,
}

#[derive(Clone, Debug)]
struct Pending {
    ticket: Ticket,
    /// The end of the log when it was handed out, lowered by every later truncation.
    last: Index,
    state: HardState,
    messages: Vec<Envelope>,
}

impl Durability {
    /// Everything that storage returned is durable.
    pub(super) fn restore(last: Index, state: HardState) -> Self {
        Self {
            next_ticket: Ticket(1),
            durable: last,
            durable_state: state,
            handed_out: last,
            handed_out_state: state,
            unwritten_from: last.next(),
            rewrites_state: false,
            open: Vec::new(),
            pending: VecDeque::new(),
        }
    }

    /// The last index that is on this server's disk.
    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    /// Whether a server that crashed now would come back in this term.
    pub(super) fn remembers(&self, term: Term) -> bool {
        self.durable_state.term == term
    }

    /// The term in which a server that crashed now would come back.
    pub(super) fn durable_term(&self) -> Term {
        self.durable_state.term
    }

    /// Takes the held messages if nothing that they could rest on is still to be written.
    pub(super) fn take_settled(&mut self, log: &Log, state: HardState) -> Vec<Envelope> {
        if self.pending.is_empty() && !self.has_unwritten(log, state) {
            return std::mem::take(&mut self.open);
        }
        Vec::new()
    }

    /// Whether an append was handed to the disk and is not complete.
    pub(super) fn is_writing(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Has the next append write something, for the sake of its completion.
    pub(super) fn rewrite_state(&mut self) {
        self.rewrites_state = true;
    }

    fn has_unwritten(&self, log: &Log, state: HardState) -> bool {
        self.unwritten_from <= log.last().index
            || self.unwritten_from <= self.handed_out
            || state != self.handed_out_state
            || self.rewrites_state
    }

    /// The log was cut to `index`: what was durable above it is no longer part of the log.
    pub(super) fn on_truncated(&mut self, index: Index) {
        self.durable = self.durable.min(index);
        self.unwritten_from = self.unwritten_from.min(index.next());
        for pending in &mut self.pending {
            pending.last = pending.last.min(index);
        }
    }

    /// Keeps `envelope` until everything that is in the node now is durable.
    pub(super) fn hold(&mut self, envelope: Envelope) {
        add(&mut self.open, envelope);
    }

    /// A snapshot took the place of the log, which now ends at `index`, durably.
    pub(super) fn on_reset(&mut self, index: Index) {
        self.durable = index;
        self.handed_out = index;
        self.unwritten_from = index.next();
        for pending in &mut self.pending {
            pending.last = index;
        }
    }

    /// Takes the append that makes room in the log for a snapshot, once nothing of the old log is
    /// still to be written: what is written before it completes before it. `reset` is where the
    /// log goes on; without one it stays, and the append only keeps its place in the order.
    pub(super) fn take_install(
        &mut self,
        log: &Log,
        state: HardState,
        reset: Option<Position>,
    ) -> Option<Append> {
        if self.has_unwritten(log, state) {
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket = ticket.next();
        let last = log.last().index;
        let messages = std::mem::take(&mut self.open);
        self.pending.push_back(Pending { ticket, last, state, messages });
        let (hard_state, truncate_after) = (None, None);
        let (entries, repairs) = (Entries::default(), Vec::new());
        Some(Append { ticket, hard_state, reset, truncate_after, entries, repairs })
    }

    /// Takes the next append, if the log or the hard state has anything to write. `log` and `state`
    /// are the node's present ones. With nothing to write, what was held rests on the last append
    /// that is under way: however long the disk takes, a leader that repeats its question makes
    /// nothing grow.
    pub(super) fn take_append(&mut self, log: &Log, state: HardState) -> Option<Append> {
        if self.has_unwritten(log, state) {
            return Some(self.begin_append(log, state));
        }
        if let Some(last) = self.pending.back_mut() {
            self.open.drain(..).for_each(|envelope| add(&mut last.messages, envelope));
        }
        None
    }

    /// Takes the next append, if only for the sake of what its owner adds to it.
    pub(super) fn begin_append(&mut self, log: &Log, state: HardState) -> Append {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.next();
        let last = log.last().index;
        let truncate_after =
            (self.unwritten_from <= self.handed_out).then(|| self.unwritten_from.previous());
        let entries = log.slice(self.unwritten_from, last, u64::MAX).unwrap_or_default();
        assert!(
            entries.len() as u64 == last.next().0 - self.unwritten_from.0,
            "every entry that is not yet written is in memory"
        );
        let rewrites_state = std::mem::take(&mut self.rewrites_state);
        let hard_state = (state != self.handed_out_state || rewrites_state).then_some(state);
        self.handed_out = last;
        self.handed_out_state = state;
        self.unwritten_from = last.next();
        let messages = std::mem::take(&mut self.open);
        self.pending.push_back(Pending { ticket, last, state, messages });
        Append { ticket, hard_state, reset: None, truncate_after, entries, repairs: Vec::new() }
    }

    /// The disk completed the append of this ticket: the messages that rested on it may leave.
    pub(super) fn complete(&mut self, ticket: Ticket) -> Vec<Envelope> {
        let pending = self.pending.pop_front_if(|pending| pending.ticket == ticket);
        // Otherwise the owner of the node broke the contract: what is durable is not known.
        assert!(pending.is_some(), "appends complete in the order of their tickets, not {ticket}");
        let Some(pending) = pending else { return Vec::new() };
        self.durable = pending.last;
        self.durable_state = pending.state;
        pending.messages
    }

    /// Whether this vote in this term is on the disk.
    pub(super) fn is_vote_durable(&self, term: Term, vote: Member) -> bool {
        self.durable_state == HardState { term, vote: Some(vote) }
    }
}

/// Adds `envelope` to what is held. Of several acknowledgements to the same leader the latest says
/// it all, and nothing need be said twice.
fn add(held: &mut Vec<Envelope>, envelope: Envelope) {
    let superseded = |held: &Envelope| {
        matches!(
            (&held.message, &envelope.message),
            (Message::AppendAccepted { matched: old }, Message::AppendAccepted { matched: new })
                if old <= new && held.to == envelope.to && held.term == envelope.term
        ) || *held == envelope
    };
    held.retain(|held| !superseded(held));
    held.push(envelope);
}

impl Durability {
    /// Everything that decides what comes next. Tickets are names: how many were given out does
    /// not matter, only which of those that are pending come before which.
    fn essence(&self) -> impl Hash + Eq + '_ {
        let pending: Vec<_> = self
            .pending
            .iter()
            .map(|pending| {
                let age = self.next_ticket.0 - pending.ticket.0;
                (age, pending.last, pending.state, &pending.messages)
            })
            .collect();
        let Self { durable, durable_state, handed_out, handed_out_state, .. } = self;
        let marks = (*durable, *durable_state, *handed_out, *handed_out_state, self.rewrites_state);
        (marks, self.unwritten_from, &self.open, pending)
    }
}

impl PartialEq for Durability {
    fn eq(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }
}

impl Eq for Durability {}

impl Hash for Durability {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.essence().hash(state);
    }
}
