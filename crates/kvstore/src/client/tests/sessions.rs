//! The client's sessions, seen from the server's side.

use super::*;

#[tokio::test]
async fn a_session_starts_at_the_commit_index_of_the_welcome() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, first) = peer.write().await;
        peer.answer(id, done()).await;
        let (id, second) = peer.write().await;
        peer.answer(id, done()).await;
        (tag(&first), tag(&second))
    };
    let story = async {
        client.set("a", "1").await.unwrap();
        client.set("a", "2").await.unwrap();
    };
    let ((), (first, second)) = tokio::join!(story, script);
    assert_eq!((first.session.start, first.sequence, first.lowest_unanswered), (40, 1, 1));
    assert_eq!(second.session, first.session);
    assert_eq!((second.sequence, second.lowest_unanswered), (2, 2), "the first was answered");
}

#[tokio::test]
async fn the_mark_waits_for_what_is_unknown() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let short = WriteOptions { timeout: Some(Duration::from_millis(50)), request: None };
    let operation = Operation::Delete { key: b"a", condition: Condition::None };
    let script = async {
        let mut peer = s1.accept().await;
        peer.write().await;
        let (id, second) = peer.write().await;
        assert_eq!((tag(&second).sequence, tag(&second).lowest_unanswered), (2, 1));
        peer.answer(id, done()).await;
        let (id, again) = peer.write().await;
        assert_eq!((tag(&again).sequence, tag(&again).lowest_unanswered), (1, 0));
        peer.answer(id, done()).await;
        let (id, third) = peer.write().await;
        assert_eq!((tag(&third).sequence, tag(&third).lowest_unanswered), (3, 3));
        peer.answer(id, done()).await;
    };
    let story = async {
        let unknown = client.write(operation, short).await;
        let Err(ClientError::Unknown { request, .. }) = unknown else { panic!("{unknown:?}") };
        client.set("b", "2").await.unwrap();
        let repeat = WriteOptions { request: Some(request), timeout: None };
        client.write(operation, repeat).await.unwrap();
        client.set("b", "3").await.unwrap();
    };
    tokio::join!(story, script);
}

#[tokio::test]
async fn an_expired_session_is_replaced_if_nothing_is_in_doubt() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, first) = peer.write().await;
        let expired = Refusal::SessionExpired { evicted_start_max: 90 };
        peer.answer(id, refused(expired)).await;
        let (id, second) = peer.write().await;
        peer.answer(id, done()).await;
        (tag(&first), tag(&second))
    };
    let (written, (first, second)) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
    assert_ne!(first.session.nonce, second.session.nonce);
    assert_eq!(second.session.start, 91, "above every session that was forgotten");
}

#[tokio::test]
async fn an_expired_session_leaves_an_earlier_attempt_unknown() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        peer.write().await;
        drop(peer);
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        let expired = Refusal::SessionExpired { evicted_start_max: 90 };
        peer.answer(id, refused(expired)).await;
        peer
    };
    let (written, _peer) = tokio::join!(client.set("a", "1"), script);
    let error = written.unwrap_err();
    let ClientError::Unknown { sent_to, why, .. } = error else { panic!("{error:?}") };
    assert_eq!(sent_to, ["s1"]);
    assert!(why.starts_with("the session has expired"), "{why}");
}

#[tokio::test]
async fn a_repeated_request_of_an_expired_session_stays_unknown() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        peer.answer(id, refused(Refusal::SessionExpired { evicted_start_max: 90 })).await;
        peer
    };
    let request: RequestId = "00000000000005f2c1a:17".parse().unwrap();
    let operation = Operation::Delete { key: b"a", condition: Condition::None };
    let repeat = WriteOptions { request: Some(request), timeout: None };
    let (written, _peer) = tokio::join!(client.write(operation, repeat), script);
    let error = written.unwrap_err();
    assert_eq!(
        error.to_string(),
        "outcome unknown: the session has expired: sessions that started at or below 90 are gone"
            .to_owned()
            + &format!("; repeated as request {request} it cannot be applied twice")
    );
}

#[tokio::test]
async fn a_name_that_was_used_for_another_write_is_refused_for_certain() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        peer.answer(id, refused(Refusal::SequenceReused { sequence: 17 })).await;
        peer
    };
    let request: RequestId = "00000000000005f2c1a:17".parse().unwrap();
    let operation = Operation::Delete { key: b"a", condition: Condition::None };
    let repeat = WriteOptions { request: Some(request), timeout: None };
    let (written, _peer) = tokio::join!(client.write(operation, repeat), script);
    let error = written.unwrap_err();
    assert!(error.is_definite());
    assert_eq!(error.to_string(), "sequence 17 was used before, for another request");
}

#[tokio::test]
async fn a_write_that_is_dropped_can_be_repeated_by_its_name() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let mut peer = tokio::select! {
        ended = client.set("a", "1") => panic!("{ended:?}"),
        peer = async {
            let mut peer = s1.accept().await;
            peer.write().await;
            peer
        } => peer,
    };
    let [request] = client.unknown_writes()[..] else { panic!("{:?}", client.unknown_writes()) };

    let script = async {
        let (id, other) = peer.write().await;
        peer.answer(id, done()).await;
        tag(&other)
    };
    let (written, other) = tokio::join!(client.set("b", "2"), script);
    written.unwrap();
    assert_eq!((other.sequence, other.lowest_unanswered), (2, 1), "the answer is kept for it");

    let operation = Operation::Set { key: b"a", value: b"1", condition: Condition::None };
    let repeat = WriteOptions { request: Some(request), timeout: None };
    let script = async {
        let (id, _) = peer.write().await;
        peer.answer(id, done()).await;
    };
    let (repeated, ()) = tokio::join!(client.write(operation, repeat), script);
    repeated.unwrap();
    assert_eq!(client.unknown_writes(), []);
}

#[test]
fn a_session_has_room_for_its_window_and_no_more() {
    let sessions = Arc::new(Sessions::new());
    let window = crate::store::SessionLimits::default().session_window_max;
    let mut open: Vec<_> = (0..window).map(|_| sessions.begin(9).unwrap().unwrap()).collect();
    assert!(sessions.begin(9).unwrap().is_none(), "the window is full");
    open.remove(1).settle();
    assert!(sessions.begin(9).unwrap().is_none(), "the lowest still holds it");
    open.remove(0).settle();
    let next = sessions.begin(9).unwrap().unwrap().tag();
    assert_eq!((next.sequence, next.lowest_unanswered), (window + 1, 3));
}

#[test]
fn what_is_unknown_gives_way_when_the_window_is_needed() {
    let sessions = Arc::new(Sessions::new());
    let window = crate::store::SessionLimits::default().session_window_max;
    drop(sessions.begin(9).unwrap().unwrap());
    for _ in 1..window {
        let request = sessions.begin(9).unwrap().unwrap();
        assert_eq!(request.tag().lowest_unanswered, 1);
        request.settle();
    }
    let tag = sessions.begin(9).unwrap().unwrap().tag();
    assert_eq!(tag.lowest_unanswered, window + 1);
}

#[test]
fn a_request_id_prints_and_parses() {
    for (start, nonce, sequence) in [(0, 0, 1), (26, 0x5f2c, 17), (u64::MAX, u64::MAX, u64::MAX)] {
        let id = RequestId { session: crate::store::SessionId { start, nonce }, sequence };
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let id: RequestId = "5f2c00000000000c1a:17".parse().unwrap();
    assert_eq!((id.session.start, id.session.nonce, id.sequence), (26, 0x5f2c00000000000c, 17));
    for wrong in [
        "",
        ":",
        "5f2c:17",
        "5f2c00000000000c:17",
        "5f2c00000000000c1a",
        "+f2c00000000000c1a:17",
        "5f2c00000000000c1a:-1",
        "5f2c00000000000c1a:1a",
    ] {
        let error = wrong.parse::<RequestId>().unwrap_err().to_string();
        assert!(error.contains("names no request"), "{error}");
    }
}
