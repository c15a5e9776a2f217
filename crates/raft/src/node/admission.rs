//! Which messages are let in. Anything may come from the network; what no correct server sends is
//! ignored here, with its reason, so that the protocol behind this door need not doubt what it is
//! given.
//!
//! Whether the own configuration lists the sender is not asked: a server that was away must follow
//! a leader, and may have to vote for a candidate, that it has not heard of yet (dissertation 4.1).
//! Who is not listed counts nowhere, and that is enough.

use super::Node;
use super::message::{Envelope, Message};
use super::repair::POSITIONS_MAX;
use super::types::{COUNTER_MAX, Entry, Index, Member, Position, Term};

/// How far beyond its own a server believes a term to be.
const TERM_LEAP_MAX: u64 = 1 << 32;

impl Node {
    /// Whether a correct server could have sent this here.
    pub(super) fn admit(&self, envelope: &Envelope) -> Result<(), &'static str> {
        check_envelope(envelope, self.config.me)?;
        self.check_leap(envelope.term)?;
        self.check_sizes(&envelope.message)
    }

    /// A term far beyond the own one was not reached by elections. Adopting it would leave nowhere
    /// to go.
    fn check_leap(&self, term: Term) -> Result<(), &'static str> {
        if term.0 > self.hard_state.term.0.saturating_add(TERM_LEAP_MAX) {
            return Err("its term is too far beyond this server's to be true");
        }
        Ok(())
    }

    /// An entry that the own log cannot take, since this server was set up with less room for one
    /// than its leader.
    fn check_sizes(&self, message: &Message) -> Result<(), &'static str> {
        let too_large =
            |entry: &Entry| entry.payload.bytes.len() as u64 > self.config.command_bytes_max;
        match message {
            Message::RepairRequest { positions } if positions.len() > POSITIONS_MAX => {
                Err("it asks for more entries than one question may")
            }
            Message::Append { entries, .. }
                if entries.bytes() > self.config.command_bytes_max
                    && entries.iter().any(too_large) =>
            {
                Err("an entry is larger than this server's log takes: its segments are too small")
            }
            _ => Ok(()),
        }
    }
}

/// Whether a correct server could have sent this to `me`.
fn check_envelope(envelope: &Envelope, me: Member) -> Result<(), &'static str> {
    let Envelope { from, to, term, message } = envelope;
    if *to != me {
        return Err("it was meant for another member, or for an earlier life of this one");
    }
    if *from == me {
        return Err("it came from this server itself");
    }
    let (highest, terms): (Index, &[Term]) = match message {
        Message::PreVoteRequest { campaign, last } => (last.index, &[*campaign, last.term]),
        Message::PreVoteGranted { campaign } | Message::PreVoteRefused { campaign } => {
            (Index(0), &[*campaign])
        }
        Message::VoteRequest { last, .. } | Message::TimeoutNow { last } => {
            (last.index, &[last.term])
        }
        Message::Append { previous, entries, commit, .. } => {
            if previous.index.0 > COUNTER_MAX {
                return Err("its index is beyond all counting");
            }
            check_entries(*previous, entries, *term)?;
            ((*commit).max(previous.index), &[previous.term])
        }
        Message::AppendAccepted { matched } => (*matched, &[]),
        Message::AppendAcceptedInPart { matched, verified } => ((*matched).max(*verified), &[]),
        Message::RepairRequest { positions } => (highest_of(positions), &[]),
        Message::RepairAnswer { compacted, .. } => (*compacted, &[]),
        Message::AppendRejected { previous, hint } => ((*previous).max(hint.index), &[hint.term]),
        Message::SnapshotOffer { snapshot } => {
            if snapshot.position.term > *term || snapshot.position.index == Index(0) {
                return Err("its snapshot cannot be: it stands for nothing, or for a later term");
            }
            (snapshot.position.index, &[])
        }
        Message::SnapshotRequest { after } => (*after, &[]),
        Message::ReadIndexAnswer { index, .. } => (*index, &[]),
        Message::VoteGranted
        | Message::VoteRefused
        | Message::TermIsOver
        | Message::RoundEcho { .. }
        | Message::ReadIndexRequest { .. } => (Index(0), &[]),
    };
    if highest.0 > COUNTER_MAX || terms.iter().chain([term]).any(|term| term.0 > COUNTER_MAX) {
        return Err("its term or index is beyond all counting");
    }
    Ok(())
}

fn highest_of(positions: &[Position]) -> Index {
    positions.iter().map(|position| position.index).max().unwrap_or_default()
}

/// Entries follow each other and the position before them, and none is of a later term than
/// their sender's.
fn check_entries(previous: Position, entries: &[Entry], term: Term) -> Result<(), &'static str> {
    let mut last = previous;
    for entry in entries {
        if entry.index != last.index.next() || entry.term < last.term {
            return Err("its entries do not follow each other");
        }
        last = entry.position();
    }
    if last.term > term {
        return Err("it has entries of a term later than its own");
    }
    Ok(())
}
