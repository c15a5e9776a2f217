//! What a leader knows of one follower. Every transition of it is in this file, and heartbeats
//! and appends take the same path through it (hashicorp/raft#612).

use std::collections::VecDeque;

use super::status::Feed;
use super::types::{FetchId, Index, SnapshotId};

/// A follower that lacks its state machine asks for a snapshot with every heartbeat. One that has
/// not for so many has got what it wanted, or has gone: the file need not be kept for it.
const OFFER_HEARTBEATS_MAX: u32 = 600;

/// How entries are sent to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Flow {
    /// Where its log agrees with ours is not known: one message at a time, each a question.
    Probe {
        /// The question is out; the next heartbeat asks again.
        asked: bool,
    },
    /// Its log agrees with ours: entries are sent as they come, without waiting.
    Stream,
    /// It has said nothing for an election timeout. It gets heartbeats, and entries only once it
    /// answers: what nobody takes must not pile up before its socket.
    Silent,
    /// What it lacks is gone from our log: it needs a snapshot, and gets no entries meanwhile.
    Snapshot,
}

/// Invariants: `matched < next`; the in-flight bytes are those of the in-flight messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    /// Durable on the follower and equal to our log, up to here.
    matched: Index,
    /// The first entry to send next.
    next: Index,
    flow: Flow,
    /// Last index and bytes of each message that is on its way, oldest first.
    in_flight: VecDeque<(Index, u64)>,
    in_flight_bytes: u64,
    /// Entries for it are being read back.
    fetching: Option<FetchId>,
    /// The commit index it was last told.
    commit_told: Index,
    /// The read round it was last told, and the one it echoed.
    round_told: u64,
    round_echoed: u64,
    /// Ticks since it was last heard from, or since this leader began to lead.
    silent_ticks: u32,
    /// The snapshot that it may fetch.
    offer: Option<SnapshotId>,
    /// Heartbeats since it last asked for that, or was found to need it.
    offer_heartbeats: u32,
    /// It is to be told of the offer (again).
    offer_due: bool,
    /// The end of the log when it was found to lag, until it has caught up with that.
    catching_up_to: Option<Index>,
}

impl Progress {
    /// A follower of a new leader whose log ends at `last`: assume that its log is the same.
    pub(super) fn new(last: Index) -> Self {
        Self {
            matched: Index(0),
            next: last.next(),
            flow: Flow::Probe { asked: false },
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            fetching: None,
            commit_told: Index(0),
            round_told: 0,
            round_echoed: 0,
            silent_ticks: 0,
            offer: None,
            offer_heartbeats: 0,
            offer_due: false,
            catching_up_to: None,
        }
    }

    pub(super) fn matched(&self) -> Index {
        self.matched
    }

    pub(super) fn next(&self) -> Index {
        self.next
    }

    pub(super) fn feed(&self) -> Feed {
        match self.flow {
            Flow::Probe { .. } => Feed::Probes,
            Flow::Stream => Feed::Entries,
            Flow::Silent => Feed::Heartbeats,
            Flow::Snapshot => Feed::Snapshot,
        }
    }

    pub(super) fn round_echoed(&self) -> u64 {
        self.round_echoed
    }

    /// What is on its way to it and not acknowledged.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Whether entries up to `last` may be sent now, when so many bytes may be on their way to it.
    /// With nothing on its way one message always may.
    pub(super) fn may_send(&self, last: Index, in_flight_bytes_max: u64) -> bool {
        self.next <= last
            && self.fetching.is_none()
            && match self.flow {
                Flow::Probe { asked } => !asked,
                Flow::Stream => {
                    self.in_flight.is_empty() || self.in_flight_bytes < in_flight_bytes_max
                }
                Flow::Silent | Flow::Snapshot => false,
            }
    }

    /// Whether it lacks news that a message without entries can bring.
    pub(super) fn lacks_round(&self, round: u64) -> bool {
        self.round_told < round
    }

    /// Whether it holds committed entries without knowing that they are committed.
    pub(super) fn lacks_commit(&self, commit: Index) -> bool {
        self.commit_told < commit.min(self.matched)
    }

    /// Whether it was told that everything up to `commit` is committed.
    pub(super) fn was_told(&self, commit: Index) -> bool {
        self.commit_told >= commit
    }

    /// A message with entries up to `last` (or none) was sent, carrying these.
    pub(super) fn on_sent(&mut self, last: Option<(Index, u64)>, commit: Index, round: u64) {
        self.commit_told = commit;
        self.round_told = round;
        match &mut self.flow {
            // A probe without entries asks the same question.
            Flow::Probe { asked } => *asked = true,
            Flow::Silent | Flow::Snapshot => {}
            Flow::Stream => {
                if let Some((last, bytes)) = last {
                    self.next = last.next();
                    self.in_flight.push_back((last, bytes));
                    self.in_flight_bytes += bytes;
                }
            }
        }
    }

    /// Entries for it are being read back; until they are here nothing else is sent.
    pub(super) fn on_fetch(&mut self, id: FetchId) {
        self.fetching = Some(id);
    }

    /// Whether that fetch is still wanted.
    pub(super) fn on_fetched(&mut self, id: FetchId) -> bool {
        let wanted = self.fetching == Some(id);
        if wanted {
            self.fetching = None;
        }
        wanted
    }

    /// Its log equals ours up to `verified`, and it acknowledged everything up to `matched`, which
    /// is less where it lost what entries say. Our log starts after `start`. True when that is
    /// news.
    pub(super) fn on_accepted(&mut self, matched: Index, verified: Index, start: Index) -> bool {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(verified.next());
        let reaches_log = match self.flow {
            Flow::Probe { .. } | Flow::Silent => true,
            Flow::Stream => false,
            Flow::Snapshot => verified >= start,
        };
        if reaches_log {
            self.reset_flight();
            self.next = self.matched.max(verified).next();
            self.flow = Flow::Stream;
            self.offer = None;
        }
        while self.in_flight.front().is_some_and(|(last, _)| *last <= verified) {
            self.in_flight_bytes -= self.in_flight.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        news
    }

    /// It does not hold `previous`; `next` is where its log may agree. False when the answer is
    /// to an older question.
    pub(super) fn on_rejected(&mut self, previous: Index, next: Index) -> bool {
        let current = match self.flow {
            Flow::Probe { .. } | Flow::Silent => previous.next() == self.next,
            Flow::Stream => previous > self.matched,
            // Where its log agrees with ours does not matter until it has the snapshot.
            Flow::Snapshot => false,
        };
        if current {
            self.reset_flight();
            self.next = next.min(previous).max(self.matched.next());
            self.flow = Flow::Probe { asked: false };
        }
        current
    }

    /// Another start of it answers than before. What its earlier start acknowledged it may have
    /// lost, so it counts again when this one acknowledges it; the log ends at `last`.
    pub(super) fn on_restarted(&mut self, last: Index) {
        self.reset_flight();
        self.matched = Index(0);
        self.next = last.next();
        self.flow = Flow::Probe { asked: false };
        self.commit_told = Index(0);
        // What the earlier start echoed it did echo; this one has been told of no round.
        self.round_told = self.round_echoed;
        self.set_offer(None);
    }

    /// A heartbeat is due: an unanswered question is asked again.
    pub(super) fn on_heartbeat(&mut self) {
        match &mut self.flow {
            Flow::Probe { asked } => *asked = false,
            Flow::Snapshot => self.offer_due = self.offer.is_some(),
            Flow::Stream | Flow::Silent => {}
        }
        self.offer_heartbeats = match (&self.flow, self.offer) {
            (_, None) | (Flow::Snapshot, _) => 0,
            _ => self.offer_heartbeats + 1,
        };
        if self.offer_heartbeats >= OFFER_HEARTBEATS_MAX {
            self.set_offer(None);
        }
    }

    /// The next entry for it is gone from our log. True when that is news.
    pub(super) fn on_compacted(&mut self) -> bool {
        let news = self.flow != Flow::Snapshot;
        if news {
            self.reset_flight();
            self.flow = Flow::Snapshot;
        }
        news
    }

    pub(super) fn needs_snapshot(&self) -> bool {
        self.flow == Flow::Snapshot
    }

    /// The snapshot that it may fetch.
    pub(super) fn offer(&self) -> Option<SnapshotId> {
        self.offer
    }

    pub(super) fn set_offer(&mut self, offer: Option<SnapshotId>) {
        self.offer = offer;
        self.offer_heartbeats = 0;
        self.offer_due = offer.is_some() && self.needs_snapshot();
    }

    /// It lacks its state machine, and asked for a snapshot again.
    pub(super) fn on_offer_wanted(&mut self) {
        self.offer_heartbeats = 0;
    }

    /// That snapshot is damaged.
    pub(super) fn withdraw_offer(&mut self, snapshot: SnapshotId) {
        if self.offer == Some(snapshot) {
            self.set_offer(None);
        }
    }

    pub(super) fn is_offer_due(&self) -> bool {
        self.offer_due
    }

    /// What it is to be told of now.
    pub(super) fn take_offer_due(&mut self) -> Option<SnapshotId> {
        let due = std::mem::take(&mut self.offer_due);
        self.offer.filter(|_| due)
    }

    /// The index behind which it needs our log.
    pub(super) fn needs_log_from(&self) -> Index {
        match (&self.flow, self.offer) {
            (Flow::Snapshot, Some(offer)) => offer.position.index,
            _ => self.matched,
        }
    }

    /// Ticks since it was last heard from.
    pub(super) fn silent_ticks(&self) -> u32 {
        self.silent_ticks
    }

    /// It echoed a round. True when that is news.
    pub(super) fn on_echo(&mut self, round: u64) -> bool {
        // It can only echo what it was told.
        let round = round.min(self.round_told);
        let news = round > self.round_echoed;
        self.round_echoed = self.round_echoed.max(round);
        news
    }

    pub(super) fn on_heard(&mut self) {
        self.silent_ticks = 0;
    }

    /// A tick; after `silent_ticks_max` without a word it gets no entries until it is heard again.
    pub(super) fn tick(&mut self, silent_ticks_max: u32) {
        self.silent_ticks = self.silent_ticks.saturating_add(1);
        if self.silent_ticks == silent_ticks_max {
            self.on_silent();
        }
    }

    /// What was on its way counts as lost.
    fn on_silent(&mut self) {
        if self.flow == Flow::Snapshot {
            // It gets no entries anyway.
            return;
        }
        if self.flow == Flow::Stream {
            self.next = self.matched.next();
        }
        self.reset_flight();
        self.flow = Flow::Silent;
    }

    /// It lacks so much that it is worth telling; true the first time.
    pub(super) fn on_lagging(&mut self, last: Index) -> bool {
        let first = self.catching_up_to.is_none();
        self.catching_up_to.get_or_insert(last);
        first
    }

    /// Whether it has just caught up with where the log ended when it was found to lag.
    pub(super) fn take_caught_up(&mut self) -> bool {
        let caught_up = self.catching_up_to.is_some_and(|last| self.matched >= last);
        if caught_up {
            self.catching_up_to = None;
        }
        caught_up
    }

    fn reset_flight(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.fetching = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::{Position, Term};

    #[test]
    fn a_probe_asks_once_until_the_next_heartbeat() {
        let mut progress = Progress::new(Index(5));
        assert!(progress.may_send(Index(6), 100));
        progress.on_sent(Some((Index(6), 40)), Index(0), 0);
        assert_eq!(progress.next(), Index(6), "a probe is not counted as received");
        assert!(!progress.may_send(Index(6), 100));
        progress.on_heartbeat();
        assert!(progress.may_send(Index(6), 100));
    }

    #[test]
    fn a_stream_is_bounded_by_bytes_in_flight_and_acknowledgements_free_them() {
        let mut progress = Progress::new(Index(0));
        progress.on_accepted(Index(0), Index(0), Index(0));
        progress.on_sent(Some((Index(1), 60)), Index(0), 0);
        progress.on_sent(Some((Index(2), 60)), Index(0), 0);
        assert!(!progress.may_send(Index(3), 100));
        progress.on_accepted(Index(1), Index(1), Index(0));
        assert!(progress.may_send(Index(3), 100));
    }

    #[test]
    fn one_message_may_be_under_way_whatever_the_limit() {
        let mut progress = Progress::new(Index(0));
        progress.on_accepted(Index(0), Index(0), Index(0));
        assert!(progress.may_send(Index(1), 0), "or nothing would ever be sent");
        progress.on_sent(Some((Index(1), 60)), Index(0), 0);
        assert!(!progress.may_send(Index(2), 0));
    }

    #[test]
    fn a_silent_follower_holds_nothing_and_begins_again_where_it_matched() {
        let mut progress = Progress::new(Index(0));
        progress.on_accepted(Index(3), Index(3), Index(0));
        progress.on_sent(Some((Index(9), 60)), Index(0), 0);
        progress.tick(2);
        assert!(progress.in_flight_bytes() > 0, "a new leader gives everybody an election timeout");
        progress.tick(2);
        assert_eq!((progress.in_flight_bytes(), progress.next()), (0, Index(4)));
        assert!(!progress.may_send(Index(9), 100));
        progress.on_heartbeat();
        assert!(!progress.may_send(Index(9), 100), "a heartbeat is no answer");
        progress.on_accepted(Index(3), Index(3), Index(0));
        assert!(progress.may_send(Index(9), 100));
    }

    #[test]
    fn a_follower_that_lost_entries_gets_what_follows_and_counts_only_below_them() {
        let mut progress = Progress::new(Index(8));
        progress.on_accepted(Index(3), Index(8), Index(0));
        assert_eq!((progress.matched(), progress.next()), (Index(3), Index(9)));
        progress.on_sent(Some((Index(9), 100)), Index(0), 0);
        assert!(!progress.may_send(Index(10), 100));
        assert!(
            !progress.on_accepted(Index(3), Index(9), Index(0)),
            "no news for the commit index"
        );
        assert!(progress.may_send(Index(10), 100), "what it took is not in flight any more");
        assert!(progress.on_accepted(Index(9), Index(9), Index(0)), "it is whole again");
    }

    #[test]
    fn a_late_rejection_moves_nothing() {
        let mut progress = Progress::new(Index(9));
        progress.on_accepted(Index(7), Index(7), Index(0));
        assert!(!progress.on_rejected(Index(7), Index(3)), "what is matched stays matched");
        assert_eq!(progress.next(), Index(8));
        assert!(progress.on_rejected(Index(9), Index(4)));
        assert_eq!(progress.next(), Index(8), "never back below what is matched");
        assert!(!progress.on_rejected(Index(9), Index(4)), "the probe now asks about 7");
    }

    #[test]
    fn another_start_of_a_follower_is_asked_what_it_holds() {
        let mut progress = Progress::new(Index(9));
        progress.on_accepted(Index(9), Index(9), Index(0));
        progress.on_sent(Some((Index(10), 60)), Index(9), 4);
        progress.on_echo(3);
        progress.on_restarted(Index(10));
        assert_eq!((progress.matched(), progress.next()), (Index(0), Index(11)));
        assert_eq!((progress.in_flight_bytes(), progress.round_echoed()), (0, 3));
        assert!(progress.lacks_round(4), "it was told to the earlier start");
        assert!(progress.on_rejected(Index(10), Index(8)), "below what that had acknowledged");
        assert!(progress.may_send(Index(10), 100));
        assert_eq!(progress.next(), Index(8));
    }

    #[test]
    fn a_follower_that_needs_a_snapshot_gets_no_entries_until_it_reaches_the_log() {
        let position = Position { index: Index(8), term: Term(1) };
        let snapshot = SnapshotId { position, bytes: 1, hash: [0; 16] };
        let mut progress = Progress::new(Index(3));
        assert!(progress.on_compacted());
        assert!(!progress.on_compacted(), "it is news once");
        progress.set_offer(Some(snapshot));
        assert_eq!(progress.take_offer_due(), Some(snapshot));
        assert_eq!(progress.take_offer_due(), None, "until the next heartbeat");
        progress.on_heartbeat();
        assert_eq!(progress.take_offer_due(), Some(snapshot));
        assert!(!progress.may_send(Index(20), 100));
        assert_eq!(progress.needs_log_from(), Index(8), "what the snapshot leaves to the log");
        progress.on_accepted(Index(2), Index(2), Index(6));
        assert!(progress.needs_snapshot(), "an old acknowledgement does not reach the log");
        progress.on_accepted(Index(8), Index(8), Index(6));
        assert!(progress.may_send(Index(20), 100));
        assert_eq!((progress.next(), progress.offer()), (Index(9), None));
    }

    /// Its log may be whole and reach beyond the snapshot already, so how far it has come says
    /// nothing; that it does not ask any more does.
    #[test]
    fn an_offer_to_a_follower_without_state_ends_when_it_does_not_ask_any_more() {
        let position = Position { index: Index(3), term: Term(1) };
        let snapshot = SnapshotId { position, bytes: 1, hash: [0; 16] };
        let mut progress = Progress::new(Index(8));
        progress.on_accepted(Index(8), Index(8), Index(0));
        progress.set_offer(Some(snapshot));
        for _ in 0..3 * OFFER_HEARTBEATS_MAX {
            progress.on_heartbeat();
            progress.on_offer_wanted();
        }
        assert_eq!(
            progress.offer(),
            Some(snapshot),
            "it still fetches it, however long that takes"
        );
        (1..OFFER_HEARTBEATS_MAX).for_each(|_| progress.on_heartbeat());
        assert_eq!(progress.offer(), Some(snapshot));
        progress.on_heartbeat();
        assert_eq!(progress.offer(), None);
    }

    #[test]
    fn an_echo_of_a_round_never_told_counts_as_the_round_that_was() {
        let mut progress = Progress::new(Index(0));
        progress.on_sent(None, Index(0), 3);
        assert!(progress.on_echo(9));
        assert_eq!(progress.round_echoed(), 3);
        assert!(!progress.on_echo(3));
    }
}
