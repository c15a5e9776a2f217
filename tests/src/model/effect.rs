//! Which messages can have no effect any more, whatever happens. Forgetting them makes clusters
//! equal that differ in nothing but what was once said, and there lies most of what a search would
//! otherwise go through.
//!
//! Each rule rests on these facts. The term on a server's disk never falls (dissertation 3.4), so
//! neither does the term it can be in: its *floor*. A server is candidate in a term only by raising
//! its own term to it, and leads in a term only after having been candidate in it; so one that is
//! in a term, or above it, and is neither, never will be. And within the scope of a search nobody
//! is ever in a term above the last.
//!
//! These are the protocol's own rules, and a node that breaks one is what a search is to find. So a
//! message is not forgotten unseen: it is delivered once more, aside, and must change nothing.
//!
//! What is never delivered again was in no schedule that changes what a property speaks of: it
//! would have changed no term, vote, log, role or commit index of its receiver, and what its
//! receiver would have answered falls under the same rules.

use raft::node::{Message, RoleName, Term};

use super::local::{Letter, Local};

/// What bounds the future.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// No server is in a later term.
    pub(super) last_term: Term,
    /// Whether a server may still run out of patience.
    pub(super) may_pass: bool,
}

/// Whether delivering `letter`, now or at any time later, can change anything within `bounds`.
pub(super) fn may_matter(
    letter: &Letter,
    sender: &Local,
    receiver: &Local,
    bounds: Bounds,
) -> bool {
    let term = letter.envelope.term;
    let is_over = receiver.floor > term;
    // An answer whose whole meaning is a later term, to a sender that may be in none later.
    let may_learn_term = sender.floor < bounds.last_term;
    match &letter.envelope.message {
        // Counted by a candidate of that very term.
        Message::VoteGranted | Message::VoteRefused => {
            receiver.floor < term || may_be(receiver, term, &[RoleName::Candidate])
        }
        // For a leader of that very term.
        Message::AppendAccepted { .. }
        | Message::AppendAcceptedInPart { .. }
        | Message::AppendRejected { .. }
        | Message::RoundEcho { .. }
        | Message::ReadIndexRequest { .. }
        | Message::SnapshotRequest { .. } => {
            let roles = [RoleName::Candidate, RoleName::Leader];
            receiver.floor < term || may_be(receiver, term, &roles)
        }
        Message::TermIsOver => receiver.floor < term,
        // Taken in that very term; no answer to a late one tells more than a term.
        Message::Append { .. } | Message::SnapshotOffer { .. } => !is_over || may_learn_term,
        Message::VoteRequest { .. } => {
            let is_spent = receiver.floor == term
                && receiver.vote.is_some_and(|vote| vote != letter.envelope.from)
                && !may_be(sender, term, &[RoleName::Candidate]);
            !(is_over || is_spent) || may_learn_term
        }
        Message::TimeoutNow { .. } | Message::ReadIndexAnswer { .. } => !is_over,
        Message::PreVoteRequest { campaign, .. } => {
            may_be_won(sender, *campaign, bounds) || may_learn_term
        }
        Message::PreVoteGranted { campaign } => may_be_won(receiver, *campaign, bounds),
        Message::PreVoteRefused { campaign } => {
            receiver.floor < term || may_be_won(receiver, *campaign, bounds)
        }
        Message::RepairRequest { .. } | Message::RepairAnswer { .. } => true,
    }
}

/// Whether a server whose floor is not below `term` is in it, in one of these roles; if it is not,
/// it never will be.
fn may_be(server: &Local, term: Term, roles: &[RoleName]) -> bool {
    server.floor <= term
        && server.term == term
        && server.role.is_some_and(|role| roles.contains(&role))
}

/// Whether answers to a question about this campaign may still be counted, and lead to a campaign
/// within bounds.
fn may_be_won(asker: &Local, campaign: Term, bounds: Bounds) -> bool {
    let asks = asker.role == Some(RoleName::PreCandidate) && asker.term.next() == campaign;
    campaign <= bounds.last_term && asker.floor < campaign && (asks || bounds.may_pass)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::{DefaultHasher, Hash, Hasher};

    use stateright::Model;

    use super::super::{Memory, Schedules, Scope, World};

    fn print(it: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        it.hash(&mut hasher);
        hasher.finish()
    }

    /// Everything that properties speak of.
    fn essence(world: &World) -> u64 {
        let server = |local: &&'static super::Local| {
            let server = &local.server;
            let (log, disk) = (print(&server.log()), print(&server.durable()));
            let commit = server.committed().len();
            (local.leads(), local.term, local.floor, local.vote, log, disk, commit)
        };
        let servers: Vec<_> = world.servers.iter().map(server).collect();
        let faults = (world.is_forked, world.is_stale);
        let history = (&world.leaders, world.committed.print, faults);
        print(&(servers, history))
    }

    /// Whatever a search can come to.
    fn essences(scope: Scope, memory: Memory) -> (usize, BTreeSet<u64>) {
        let model = Schedules { memory, ..Schedules::within(scope) };
        let mut open = model.init_states();
        let mut seen: BTreeSet<u64> = open.iter().map(print).collect();
        let mut essences: BTreeSet<u64> = open.iter().map(essence).collect();
        let mut steps = Vec::new();
        while let Some(world) = open.pop() {
            model.actions(&world, &mut steps);
            for step in steps.drain(..) {
                let next = model.next_state(&world, step);
                let next = next.filter(|next| model.within_boundary(next));
                if let Some(next) = next.filter(|next| seen.insert(print(next))) {
                    essences.insert(essence(&next));
                    open.push(next);
                }
            }
        }
        (seen.len(), essences)
    }

    #[test]
    fn what_is_forgotten_would_have_led_nowhere_else() {
        let scopes = [
            Scope { terms: 1, timeouts: 1, ..Scope::SMALLEST },
            Scope { terms: 1, timeouts: 2, proposals: 0, servers: 2, ..Scope::SMALLEST },
            Scope { terms: 1, timeouts: 1, proposals: 0, crashes: 1, ..Scope::SMALLEST },
            Scope { servers: 2, heartbeats: 1, ..Scope::SMALLEST },
            Scope { servers: 2, crashes: 1, ..Scope::SMALLEST },
            Scope { terms: 1, timeouts: 1, proposals: 0, reads: 1, ..Scope::SMALLEST },
        ];
        for scope in scopes {
            let (all, expected) = essences(scope, Memory::Everything);
            let (fewer, found) = essences(scope, Memory::WhatMatters);
            assert!(expected == found, "{scope}: not the same is reached");
            assert!(fewer < all, "{scope}: {fewer} states instead of {all}");
        }
    }
}
