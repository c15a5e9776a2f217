//! Keys, values, revisions, conditions and views.

use super::*;

fn state(create: u64, modified: u64, version: u64) -> KeyState {
    KeyState { create_revision: Revision(create), mod_revision: Revision(modified), version }
}

#[test]
fn a_key_remembers_when_it_was_created_and_changed() {
    let mut log = Log::new(StoreLimits::default());
    assert_eq!(log.set("ana", "4").outcome, Outcome::Set(state(1, 1, 1)));
    assert_eq!(log.set("d", "8").outcome, Outcome::Set(state(2, 2, 1)));
    assert_eq!(log.set("ana", "5").outcome, Outcome::Set(state(1, 3, 2)));
    assert_eq!(log.apply(None, delete("ana")).outcome, Outcome::Deleted { keys: 1 });
    assert_eq!(log.set("ana", "6").outcome, Outcome::Set(state(5, 5, 1)));
}

#[test]
fn only_what_changes_something_moves_the_revision() {
    let mut log = Log::new(StoreLimits::default());
    log.set("a/1", "x");
    log.set("a/2", "x");
    assert_eq!(log.apply(None, delete("nobody")).revision, Revision(2));
    assert_eq!(log.apply(None, delete_prefix("b/")).revision, Revision(2));
    assert_eq!(log.apply(None, set_if("a/1", "y", Condition::Absent)).revision, Revision(2));
    assert_eq!(
        log.apply(None, delete_prefix("a/")),
        Reply { revision: Revision(3), outcome: Outcome::Deleted { keys: 2 } },
        "one revision for one write, however many keys"
    );
    log.store.advance(log.next);
    assert_eq!(log.store.revision(), Revision(3));
}

#[test]
fn a_condition_holds_or_tells_what_was_found() {
    let mut log = Log::new(StoreLimits::default());
    let failed = |found| Outcome::ConditionFailed { found };
    let create = set_if("k", "1", Condition::Absent);
    assert_eq!(log.apply(None, create).outcome, Outcome::Set(state(1, 1, 1)));
    assert_eq!(log.apply(None, create).outcome, failed(Some(state(1, 1, 1))));

    let swap = set_if("k", "2", Condition::Value(b"1"));
    assert_eq!(log.apply(None, swap).outcome, Outcome::Set(state(1, 2, 2)));
    assert_eq!(log.apply(None, swap).outcome, failed(Some(state(1, 2, 2))));

    let at = |revision| set_if("k", "3", Condition::ModRevision(revision));
    assert_eq!(log.apply(None, at(1)).outcome, failed(Some(state(1, 2, 2))));
    assert_eq!(log.apply(None, at(2)).outcome, Outcome::Set(state(1, 3, 3)));

    let missing = set_if("nobody", "", Condition::Value(b""));
    assert_eq!(log.apply(None, missing).outcome, failed(None), "an absent key has no value");
    let never = set_if("nobody", "", Condition::ModRevision(0));
    assert_eq!(log.apply(None, never).outcome, failed(None), "an absent key has no revision");

    let condition = Condition::ModRevision(2);
    let delete = Operation::Delete { key: b"k", condition };
    assert_eq!(log.apply(None, delete).outcome, failed(Some(state(1, 3, 3))));
    assert_eq!(log.value("k"), Some(&b"3"[..]));
}

#[test]
fn a_view_stays_as_it_was() {
    let mut log = Log::new(StoreLimits::default());
    for number in 0..1000 {
        log.set(&format!("key-{number:04}"), "before");
    }
    let view = log.store.view();
    log.apply(None, delete_prefix("key-05"));
    for number in 0..1000 {
        log.set(&format!("key-{number:04}"), "after");
    }
    assert_eq!(view.revision(), Revision(1000));
    assert_eq!(view.applied(), 1000);
    assert_eq!(view.len(), 1000);
    assert!(view.range(&KeyRange::all()).all(|entry| entry.value == b"before"));
    assert_eq!(view.count(&KeyRange::prefix(Bytes::from_static(b"key-05"))), 100);
    assert!(log.store.view().range(&KeyRange::all()).all(|entry| entry.value == b"after"));
}

#[test]
fn a_range_is_walked_from_either_end() {
    let mut log = Log::new(StoreLimits::default());
    for key in ["b", "a", "c", "ab", "d"] {
        log.set(key, key);
    }
    let view = log.store.view();
    let range = KeyRange::between(Bytes::from_static(b"ab"), Some(Bytes::from_static(b"d")));
    let up: Vec<&[u8]> = view.range(&range).map(|entry| entry.key).collect();
    assert_eq!(up, [&b"ab"[..], b"b", b"c"]);
    let down: Vec<&[u8]> = view.range(&range).rev().map(|entry| entry.key).collect();
    assert_eq!(down, [&b"c"[..], b"b", b"ab"]);
    let wrong = KeyRange::between(Bytes::from_static(b"d"), Some(Bytes::from_static(b"a")));
    assert_eq!(view.range(&wrong).count(), 0);
}

#[test]
fn a_full_store_refuses_to_grow_and_clears_by_itself() {
    let limits = StoreLimits { live_bytes_max: 10, ..StoreLimits::default() };
    let mut log = Log::new(limits);
    log.set("aaa", "1234567");
    let full = Refusal::Full { live_bytes: 10, live_bytes_max: 10 };
    assert_eq!(log.set("b", ""), Reply { revision: Revision(1), outcome: Outcome::Refused(full) });
    assert_eq!(log.set("aaa", "12345678").outcome, Outcome::Refused(full));
    assert!(matches!(log.set("aaa", "7654321").outcome, Outcome::Set(_)), "not growing");
    assert!(matches!(log.set("aaa", "1").outcome, Outcome::Set(_)), "shrinking");
    assert!(matches!(log.set("b", "").outcome, Outcome::Set(_)), "room again");
    assert_eq!(log.store.size().live_bytes, 5);
    log.apply(None, delete_prefix(""));
    assert_eq!(log.store.size().live_bytes, 0);
}

#[test]
#[should_panic(expected = "entries must be applied once and in order: 1 comes after 1")]
fn an_index_is_applied_once() {
    let mut log = Log::new(StoreLimits::default());
    log.set("a", "1");
    log.next = 1;
    log.set("a", "1");
}

#[test]
fn the_hash_tells_states_apart() {
    let build = |steps: &[(&str, &str)]| {
        let mut log = Log::new(StoreLimits::default());
        for (key, value) in steps {
            log.set(key, value);
        }
        log.store.hash()
    };
    let hash = build(&[("a", "1"), ("b", "2")]);
    assert_eq!(hash, build(&[("a", "1"), ("b", "2")]));
    assert_ne!(hash, build(&[("b", "2"), ("a", "1")]), "other revisions");
    assert_ne!(hash, build(&[("a", "1"), ("b", "3")]), "another value");
    assert_ne!(hash, build(&[("a", "1")]), "a key less");
}
