//! Linearizable reads without the log (dissertation 6.4). The leader notes its commit index, then
//! starts a *round*: a number that rides on its appends. Once a quorum has echoed that round or a
//! later one, no later leader can have committed anything before the round began, so a state
//! machine that has applied the noted index may answer. One round confirms every read that was
//! queued before it began.
//!
//! Numbers are the leader's own, count up within its term and are never used again: rounds
//! that were told apart by the caller's names have confirmed reads with old echoes
//! (etcd-io/etcd#7331, #20418).

use std::collections::VecDeque;

use super::actions::{LeadershipChanged, ReadEnded};
use super::configuration::Voter;
use super::message::Message;
use super::types::{Boot, Index, Member, ReadId};
use super::{Node, Role};

/// Why a read was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody is known to lead, so nobody can confirm it.
    #[error("no leader is known")]
    NoLeader,
}

/// Who waits for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    /// A read of this server.
    Local(ReadId),
    /// All reads that a follower gathered in one question.
    Remote { member: Member, boot: Boot, counter: u64 },
}

/// A leader's reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ReadRounds {
    /// The latest round.
    round: u64,
    /// Readers that the next round will confirm.
    waiting: Vec<Reader>,
    /// Rounds with readers that a quorum has not yet echoed, oldest first.
    open: VecDeque<OpenRound>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OpenRound {
    round: u64,
    /// The commit index when the round began.
    index: Index,
    readers: Vec<Reader>,
}

impl ReadRounds {
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// Begins a round, whether or not anybody waits for it: heartbeats do so too, and their
    /// echoes are how a leader knows that it still has its quorum.
    pub(super) fn begin(&mut self, index: Index) {
        self.round += 1;
        if !self.waiting.is_empty() {
            let readers = std::mem::take(&mut self.waiting);
            self.open.push_back(OpenRound { round: self.round, index, readers });
        }
    }

    /// Begins a round that confirms nothing but the quorum itself.
    pub(super) fn begin_without_readers(&mut self) {
        self.round += 1;
    }

    fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn queue(&mut self, reader: Reader) {
        if let Reader::Remote { member, boot, counter } = reader {
            let readers = self.open.iter().flat_map(|open| &open.readers).chain(&self.waiting);
            let is_late = |other: &Reader| {
                matches!(other, Reader::Remote { member: m, boot: b, counter: c }
                    if *m == member && (*b, *c) >= (boot, counter))
            };
            if readers.clone().any(is_late) {
                return;
            }
            // A follower that asks again has given up its earlier question, and would take no
            // answer to it. So each waits once, however long no quorum answers.
            let asks_again =
                |other: &Reader| matches!(other, Reader::Remote { member: m, .. } if *m == member);
            self.waiting.retain(|other| !asks_again(other));
            self.open.iter_mut().for_each(|open| open.readers.retain(|it| !asks_again(it)));
            self.open.retain(|open| !open.readers.is_empty());
        }
        self.waiting.push(reader);
    }

    /// Takes the readers whose round a quorum has echoed, with their read index.
    fn take_confirmed(&mut self, echoed: u64) -> Vec<(Index, Reader)> {
        let mut confirmed = Vec::new();
        while self.open.front().is_some_and(|open| open.round <= echoed) {
            let Some(open) = self.open.pop_front() else { break };
            confirmed.extend(open.readers.into_iter().map(|reader| (open.index, reader)));
        }
        confirmed
    }

    /// Takes every reader of this server that was not confirmed.
    pub(super) fn abandon(&mut self) -> Vec<ReadId> {
        let waiting = std::mem::take(&mut self.waiting);
        let open = std::mem::take(&mut self.open);
        open.into_iter()
            .flat_map(|open| open.readers)
            .chain(waiting)
            .filter_map(|reader| match reader {
                Reader::Local(id) => Some(id),
                Reader::Remote { .. } => None,
            })
            .collect()
    }
}

/// A follower's reads: one question to the leader at a time, for all reads gathered before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FollowerReads {
    /// Reads for the next question.
    waiting: Vec<ReadId>,
    asked: Option<Question>,
    /// How often the time for an answer was doubled. Where messages take long an answer would
    /// otherwise always come too late.
    doublings: u32,
}

/// A question that is not answered within so many heartbeats is lost, unless answers were slow
/// before.
const QUESTION_HEARTBEATS: u32 = 2;

/// A question is never waited for longer than so many times the shortest time.
const DOUBLINGS_MAX: u32 = 6;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    counter: u64,
    reads: Vec<ReadId>,
    age_ticks: u32,
}

impl FollowerReads {
    /// A tick; a question that was not answered in time is lost, and its reads join the next one.
    /// `limit` is the shortest time in which none is.
    pub(super) fn tick(&mut self, limit: u32) {
        let limit = limit.saturating_mul(1 << self.doublings);
        let Some(question) = &mut self.asked else { return };
        question.age_ticks += 1;
        if let Some(lost) = self.asked.take_if(|question| question.age_ticks >= limit) {
            self.waiting.extend(lost.reads);
            self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        }
    }

    /// Takes the question that is answered, if it is the one that is waited for.
    fn answer(&mut self, counter: u64, limit: u32) -> Option<Question> {
        let question = self.asked.take_if(|asked| asked.counter == counter)?;
        let quick = limit.saturating_mul(1 << self.doublings) / 4;
        if question.age_ticks < quick {
            self.doublings = self.doublings.saturating_sub(1);
        }
        Some(question)
    }

    pub(super) fn has_question(&self) -> bool {
        self.asked.is_some()
    }

    /// Takes every read that was not answered.
    pub(super) fn abandon(&mut self) -> Vec<ReadId> {
        let asked = self.asked.take().map(|question| question.reads).unwrap_or_default();
        asked.into_iter().chain(std::mem::take(&mut self.waiting)).collect()
    }
}

impl Node {
    /// Asks from which index on a read may be answered. The read ends exactly once, in
    /// [`Actions::reads`](super::Actions::reads).
    ///
    /// # Errors
    /// There is no leader to confirm it; nothing was begun.
    pub fn request_read(&mut self, id: ReadId) -> Result<(), ReadError> {
        match &mut self.role {
            Role::Leader(leader) => leader.rounds.queue(Reader::Local(id)),
            Role::Follower(follower) if follower.leader.is_some() => {
                follower.reads.waiting.push(id);
            }
            _ => return Err(ReadError::NoLeader),
        }
        Ok(())
    }

    /// Begins a round for the reads that wait, once an entry of this term is committed: before
    /// that a new leader does not know what earlier leaders committed (6.4).
    pub(super) fn begin_read_round(&mut self) {
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.rounds.has_waiting() && commit >= leader.term_start {
            leader.rounds.begin(commit);
            self.confirm_reads();
        }
    }

    /// Ends the reads of every round that a quorum has echoed.
    pub(super) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.rounds.round;
        let me = self.config.me;
        let echoed = |voter: &Voter| match leader.progress.get(&voter.member) {
            Some(progress) => progress.round_echoed(),
            None if voter.member == me => round,
            None => 0,
        };
        let echoed = self.membership.current().quorum().reached(echoed).unwrap_or(0);
        for (index, reader) in leader.rounds.take_confirmed(echoed) {
            match reader {
                Reader::Local(id) => self.reads.push(ReadEnded { id, outcome: Ok(index) }),
                Reader::Remote { member, boot, counter } => {
                    self.send(member, Message::ReadIndexAnswer { boot, counter, index });
                }
            }
        }
    }

    pub(super) fn on_round_echo(&mut self, from: Member, round: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.on_heard();
        if progress.on_echo(round) {
            self.confirm_reads();
            self.dismiss_if_told(from);
        }
    }

    pub(super) fn on_read_index_request(&mut self, from: Member, boot: Boot, counter: u64) {
        let Role::Leader(leader) = &mut self.role else { return };
        // Whoever is not sent the log cannot have learned from it who leads.
        if leader.progress.contains_key(&from) {
            leader.rounds.queue(Reader::Remote { member: from, boot, counter });
        }
    }

    /// Sends the reads that gathered as one question, unless one is still unanswered: reads that
    /// come after a question has left wait for the next.
    pub(super) fn ask_read_index(&mut self) {
        let boot = self.config.boot;
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        if follower.reads.asked.is_some() || follower.reads.waiting.is_empty() {
            return;
        }
        self.read_counter += 1;
        let counter = self.read_counter;
        let reads = std::mem::take(&mut follower.reads.waiting);
        follower.reads.asked = Some(Question { counter, reads, age_ticks: 0 });
        self.send(leader, Message::ReadIndexRequest { boot, counter });
    }

    /// The shortest time in which a question to the leader is not taken for lost.
    pub(super) fn read_question_ticks(&self) -> u32 {
        QUESTION_HEARTBEATS * self.config.heartbeat_ticks
    }

    pub(super) fn on_read_index_answer(&mut self, boot: Boot, counter: u64, index: Index) {
        if boot != self.config.boot {
            return;
        }
        let limit = self.read_question_ticks();
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(question) = follower.reads.answer(counter, limit) else { return };
        // The leader says that `index` is committed; of that, what it has verified here.
        let verified = follower.verified;
        for id in question.reads {
            self.reads.push(ReadEnded { id, outcome: Ok(index) });
        }
        self.commit_to(index.min(verified));
    }

    /// Ends reads that can no longer be confirmed.
    pub(super) fn abandon_reads(&mut self, reads: Vec<ReadId>) {
        let ended = reads.into_iter().map(|id| ReadEnded { id, outcome: Err(LeadershipChanged) });
        self.reads.extend(ended);
    }
}
