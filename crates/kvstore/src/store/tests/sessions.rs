//! What a client may rely on when it sends a write again.

use super::*;

const LIMITS: SessionLimits =
    SessionLimits { session_window_max: 4, sessions_max: 3, session_bytes_max: 1 << 20 };

fn log_with(sessions: SessionLimits) -> Log {
    Log::new(StoreLimits { sessions, ..StoreLimits::default() })
}

fn tag(start: u64, sequence: u64, lowest_unanswered: u64) -> Option<SessionTag> {
    let session = SessionId { start, nonce: 7 };
    Some(SessionTag { session, sequence, lowest_unanswered })
}

fn refused(reply: Reply) -> Refusal {
    match reply.outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("not refused but {other:?}"),
    }
}

#[test]
fn a_write_sent_twice_is_applied_once_and_answered_twice() {
    let mut log = log_with(LIMITS);
    let first = log.apply(tag(0, 1, 1), set("a", "1"));
    log.set("a", "2");
    assert_eq!(log.apply(tag(0, 1, 1), set("a", "1")), first, "the first answer, as it was");
    assert_eq!(log.value("a"), Some(&b"2"[..]));
    assert_eq!(log.store.revision(), Revision(2));
}

#[test]
fn a_failed_condition_is_an_answer_too() {
    let mut log = log_with(LIMITS);
    log.set("a", "1");
    let create = set_if("a", "2", Condition::Absent);
    let first = log.apply(tag(0, 1, 1), create);
    assert!(matches!(first.outcome, Outcome::ConditionFailed { .. }));
    log.apply(None, delete("a"));
    assert_eq!(log.apply(tag(0, 1, 1), create), first);
    assert_eq!(log.value("a"), None);
}

#[test]
fn sequences_are_applied_in_any_order() {
    let mut log = log_with(LIMITS);
    let third = log.apply(tag(0, 3, 1), set("c", "3"));
    let first = log.apply(tag(0, 1, 1), set("a", "1"));
    log.apply(tag(0, 2, 1), set("b", "2"));
    assert_eq!(log.store.revision(), Revision(3));
    assert_eq!(log.apply(tag(0, 1, 1), set("a", "1")), first);
    assert_eq!(log.apply(tag(0, 3, 1), set("c", "3")), third);
    assert_eq!(log.store.revision(), Revision(3));
}

#[test]
fn another_request_under_a_used_sequence_is_refused() {
    let mut log = log_with(LIMITS);
    log.apply(tag(0, 1, 1), set("a", "1"));
    let reply = log.apply(tag(0, 1, 1), set("a", "2"));
    assert_eq!(refused(reply), Refusal::SequenceReused { sequence: 1 });
    assert_eq!(log.value("a"), Some(&b"1"[..]));
}

#[test]
fn what_the_client_has_the_answer_to_is_not_applied_again() {
    let mut log = log_with(LIMITS);
    log.apply(tag(0, 1, 1), set("a", "1"));
    log.apply(tag(0, 2, 2), set("a", "2"));
    let late = log.apply(tag(0, 1, 1), set("a", "1"));
    assert_eq!(refused(late), Refusal::BelowMark { sequence: 1, lowest_unanswered: 2 });
    assert_eq!(log.value("a"), Some(&b"2"[..]));
}

#[test]
fn an_overtaken_mark_does_not_bring_the_mark_down() {
    let mut log = log_with(LIMITS);
    log.apply(tag(0, 5, 5), set("a", "5"));
    let reply = log.apply(tag(0, 6, 2), set("a", "6"));
    assert!(matches!(reply.outcome, Outcome::Set(_)));
    let reply = log.apply(tag(0, 4, 2), set("a", "4"));
    assert_eq!(refused(reply), Refusal::BelowMark { sequence: 4, lowest_unanswered: 5 });
}

#[test]
fn a_session_keeps_no_more_replies_than_its_window() {
    let mut log = log_with(LIMITS);
    for sequence in 1..=4 {
        log.apply(tag(0, sequence, 1), set("a", "1"));
    }
    let full = Refusal::WindowFull { sequence: 5, lowest_unanswered: 1, session_window_max: 4 };
    let hash = log.store.size();
    assert_eq!(refused(log.apply(tag(0, 5, 1), set("a", "5"))), full);
    assert_eq!(log.store.size(), hash);
    let reply = log.apply(tag(0, 5, 2), set("a", "5"));
    assert!(matches!(reply.outcome, Outcome::Set(_)), "one answer less to keep makes room");
    assert_eq!(
        refused(log.apply(tag(1, 9, 1), set("a", "9"))),
        Refusal::WindowFull { sequence: 9, lowest_unanswered: 1, session_window_max: 4 }
    );
    assert_eq!(log.store.size().sessions, 1, "a refused command creates no session");
}

#[test]
fn a_session_cannot_start_in_its_own_future() {
    let mut log = log_with(LIMITS);
    let reply = log.apply(tag(1, 1, 1), set("a", "1"));
    assert_eq!(refused(reply), Refusal::SessionStart { start: 1, index: 1 });
    assert_eq!(log.value("a"), None);
    let reply = log.apply(tag(1, 1, 1), set("a", "1"));
    assert!(matches!(reply.outcome, Outcome::Set(_)), "index 2 is above the start");
}

#[test]
fn the_session_used_least_recently_makes_room() {
    let mut log = log_with(LIMITS);
    log.next = 10;
    for start in [1, 2, 3] {
        log.apply(tag(start, 1, 1), set("a", "1"));
    }
    log.apply(tag(1, 2, 2), set("a", "2"));
    log.apply(tag(4, 1, 1), set("a", "1"));
    assert_eq!(log.store.size().sessions, 3);

    let expired = Refusal::SessionExpired { evicted_start_max: 2 };
    assert_eq!(refused(log.apply(tag(2, 1, 1), set("a", "1"))), expired, "start 2 is gone");
    let reply = log.apply(tag(1, 3, 3), set("a", "3"));
    assert!(matches!(reply.outcome, Outcome::Set(_)), "start 1 is below, but was never evicted");
}

#[test]
fn a_retry_of_a_forgotten_session_is_never_applied_again() {
    let mut log = log_with(LIMITS);
    log.next = 10;
    let first = log.apply(tag(5, 1, 1), set("a", "1"));
    assert!(matches!(first.outcome, Outcome::Set(_)));
    for start in [6, 7, 8] {
        log.apply(tag(start, 1, 1), set("b", "1"));
    }
    let before = log.store.revision();
    for _ in 0..3 {
        let retry = log.apply(tag(5, 1, 1), set("a", "1"));
        assert_eq!(refused(retry), Refusal::SessionExpired { evicted_start_max: 5 });
    }
    assert_eq!(log.store.revision(), before);
}

#[test]
fn a_session_from_the_start_of_the_log_is_welcome_until_one_was_evicted() {
    let mut log = log_with(LIMITS);
    let reply = log.apply(tag(0, 1, 1), set("a", "1"));
    assert!(matches!(reply.outcome, Outcome::Set(_)));
}

#[test]
fn replies_are_bounded_in_bytes_over_all_sessions() {
    let limits = SessionLimits { session_bytes_max: 1000, ..LIMITS };
    let mut log = log_with(limits);
    log.next = 100;
    for start in 1..50 {
        for sequence in 1..=3 {
            log.apply(tag(start, sequence, 1), set("a", "1"));
            assert!(log.store.size().session_bytes <= 1000);
            assert!(log.store.size().sessions >= 1);
        }
    }
    assert_eq!(log.store.size().sessions, 2);
}

#[test]
fn sessions_are_part_of_the_hash() {
    let mut one = log_with(LIMITS);
    let mut other = log_with(LIMITS);
    one.apply(tag(0, 1, 1), set("a", "1"));
    other.apply(tag(0, 2, 1), set("a", "1"));
    assert_ne!(one.store.hash(), other.store.hash());
}
