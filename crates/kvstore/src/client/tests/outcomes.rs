//! What a call may claim to know about its own effect.

use super::*;

#[tokio::test]
async fn a_write_whose_connection_is_lost_gets_its_answer_elsewhere() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (_, first) = peer.write().await;
        drop(peer);
        let mut peer = s2.accept().await;
        let (id, second) = peer.write().await;
        assert_eq!(first.command, second.command, "the store can tell that it is the same write");
        peer.answer(id, done()).await;
    };
    let (written, ()) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown_and_can_be_repeated_by_its_name() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], SHORT);
    let script = async {
        let mut peer = s1.accept().await;
        let (_, write) = peer.write().await;
        drop(peer);
        // The client comes back and asks again, but there is no answer any more.
        let mut peer = s1.accept().await;
        peer.write().await;
        (tag(&write), peer)
    };
    let (written, (sent, _peer)) = tokio::join!(client.set("a", "1"), script);
    let error = written.unwrap_err();
    assert!(!error.is_definite());
    let ClientError::Unknown { request, sent_to, why } = &error else { panic!("{error:?}") };
    assert_eq!((request.session, request.sequence), (sent.session, sent.sequence));
    assert_eq!(sent_to, &["s1"]);
    assert_eq!(why, "no answer within 300 ms");

    let name: RequestId = request.to_string().parse().unwrap();
    let another = super::client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, write) = peer.write().await;
        assert_eq!(tag(&write), SessionTag { lowest_unanswered: 0, ..sent });
        peer.answer(id, done()).await;
    };
    let operation = Operation::Set { key: b"a", value: b"1", condition: Condition::None };
    let repeat = WriteOptions { request: Some(name), timeout: None };
    let (written, ()) = tokio::join!(another.write(operation, repeat), script);
    assert_eq!(written, Ok(done()));
}

#[tokio::test]
async fn a_write_that_is_not_answered_in_time_is_unknown() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], SHORT);
    let script = async {
        let mut peer = s1.accept().await;
        peer.write().await;
        peer
    };
    let (written, _peer) = tokio::join!(client.set("a", "1"), script);
    let error = written.unwrap_err();
    let ClientError::Unknown { request, .. } = &error else { panic!("{error:?}") };
    assert_eq!(
        error.to_string(),
        format!(
            "outcome unknown: sent to s1, no answer within 300 ms; \
             repeated as request {request} it cannot be applied twice"
        )
    );
}

#[tokio::test]
async fn a_read_that_is_not_answered_in_time_has_changed_nothing() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], SHORT);
    let script = async {
        let mut peer = s1.accept().await;
        peer.request().await;
        peer
    };
    let (read, _peer) = tokio::join!(client.get("a"), script);
    let error = read.unwrap_err();
    assert!(error.is_definite());
    assert!(matches!(&error, ClientError::ReadTimeout { server, .. } if server == "s1"));
}

#[tokio::test]
async fn a_read_that_the_server_could_not_confirm_in_time_has_changed_nothing() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let text = "the read could not be confirmed in time";
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.request().await;
        let error = ErrorReply::nothing_happened(ErrorCode::Timeout, text);
        peer.answer(id, Response::Error(error)).await;
    };
    let (read, ()) = tokio::join!(client.get("a"), script);
    let error = read.unwrap_err();
    assert!(matches!(&error, ClientError::ReadTimeout { why, .. } if why == text), "{error:?}");
}

#[tokio::test]
async fn no_leader_tells_how_every_server_was_found() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let gone = Endpoint { id: Some("s3".to_owned()), address: "127.0.0.1:1".to_owned() };
    let endpoints = vec![s1.endpoint(), s2.endpoint(), gone];
    let client = Client::new(ClientOptions { endpoints, ..options(&[], SHORT) }).unwrap();
    let script = async {
        let electing = s1.accept().await.answer_all(|request| match request {
            Request::Status(_) => s1.status(ServerRole::Candidate, 9),
            _ => Response::Error(ErrorReply::no_leader(candidate(), None)),
        });
        let stopped = async {
            let _stopped = s2.accept_silently().await;
            std::future::pending::<()>().await;
        };
        tokio::join!(electing, stopped)
    };
    tokio::select! {
        written = client.set("a", "1") => {
            let error = written.unwrap_err();
            assert!(error.is_definite(), "every attempt was refused before it was proposed");
            assert_eq!(
                error.to_string(),
                format!(
                    "no leader: 1 of 3 servers reachable, 2 needed\n  \
                     s1 {}  ok, candidate, term 9\n  \
                     s2 {}  timed out after 150 ms\n  \
                     s3 127.0.0.1:1  connection refused",
                    s1.address, s2.address
                )
            );
        }
        _ = script => {}
    }
}

#[tokio::test]
async fn once_unknown_a_later_refusal_does_not_make_it_certain() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], SHORT);
    let script = async {
        let mut peer = s1.accept().await;
        peer.write().await;
        drop(peer);
        let no_leader = |_| Response::Error(ErrorReply::no_leader(candidate(), None));
        s1.accept().await.answer_all(no_leader).await;
    };
    tokio::select! {
        written = client.set("a", "1") => {
            let error = written.unwrap_err();
            assert!(matches!(error, ClientError::Unknown { .. }), "{error:?}");
        }
        () = script => {}
    }
}

#[tokio::test]
async fn an_error_that_leaves_the_outcome_open_is_followed_up() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, first) = peer.write().await;
        let lost_leadership = ErrorReply {
            outcome: RequestOutcome::Unknown,
            ..ErrorReply::not_leader(candidate(), None)
        };
        peer.answer(id, Response::Error(lost_leadership)).await;
        let (id, second) = peer.write().await;
        assert_eq!(first.command, second.command);
        peer.answer(id, done()).await;
    };
    let (written, ()) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
}

#[tokio::test]
async fn a_server_that_leaves_the_outcome_open_again_and_again_is_named_once() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], SHORT);
    let script = async {
        let peer = s1.accept().await;
        let lost_leadership = || ErrorReply {
            outcome: RequestOutcome::Unknown,
            ..ErrorReply::not_leader(candidate(), None)
        };
        peer.answer_all(|_| Response::Error(lost_leadership())).await;
    };
    let error = tokio::select! {
        written = client.set("a", "1") => written.unwrap_err(),
        () = script => panic!("the client has left"),
    };
    let ClientError::Unknown { sent_to, .. } = error else { panic!("{error:?}") };
    assert_eq!(sent_to, ["s1"]);
}

#[tokio::test]
async fn an_error_that_leaves_the_outcome_open_is_never_taken_for_a_refusal() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        let error = ErrorReply::unknown(ErrorCode::Internal, "the log was closed");
        peer.answer(id, Response::Error(error)).await;
        peer
    };
    let (written, _peer) = tokio::join!(client.set("a", "1"), script);
    let error = written.unwrap_err();
    let ClientError::Unknown { sent_to, why, .. } = error else { panic!("{error:?}") };
    assert_eq!((sent_to, why.as_str()), (vec!["s1".to_owned()], "the log was closed"));
}

#[tokio::test]
async fn a_refusal_at_the_door_is_final_and_certain() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let text = "the value is too large: 2000000 bytes, limit 1048576";
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        let error = ErrorReply::nothing_happened(ErrorCode::TooLarge, text);
        peer.answer(id, Response::Error(error)).await;
    };
    let value = vec![b'x'; 2_000_000];
    let (written, ()) = tokio::join!(client.set("a", value), script);
    let error = written.unwrap_err();
    assert!(error.is_definite());
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn what_fits_into_no_frame_is_not_sent() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let value = vec![b'x'; 3 << 20];
    let (written, _peer) = tokio::join!(client.set("a", value), s1.accept());
    let error = written.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { bytes_max: 2_101_248, .. }), "{error:?}");
    assert!(error.is_definite());
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        for _ in 0..2 {
            let (id, _) = peer.write().await;
            let error = ErrorReply::nothing_happened(ErrorCode::Overloaded, "too much to do");
            peer.answer(id, Response::Error(error)).await;
        }
        let (id, _) = peer.write().await;
        peer.answer(id, done()).await;
    };
    let (written, ()) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
}

#[tokio::test]
async fn garbage_ends_the_connection_and_not_the_call() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (_, first) = peer.write().await;
        peer.send_bytes(&[0xaa; 64]).await;
        let mut peer = s2.accept().await;
        let (id, second) = peer.write().await;
        assert_eq!(first.command, second.command);
        peer.answer(id, done()).await;
    };
    let (written, ()) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
}

#[tokio::test]
async fn an_answer_to_another_question_is_garbage_too() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        peer.answer(id, value("4")).await;
        let mut peer = s2.accept().await;
        let (id, _) = peer.write().await;
        peer.answer(id, done()).await;
    };
    let (written, ()) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
}

#[tokio::test]
async fn a_server_without_a_sign_of_life_is_given_up() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let mut stopped = s1.accept().await;
        let (_, first) = stopped.write().await;
        let mut peer = s2.accept().await;
        let (id, second) = peer.write().await;
        assert_eq!(first.command, second.command);
        peer.answer(id, done()).await;
        stopped
    };
    let (written, mut stopped) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
    let (_, question) = stopped.request().await;
    assert!(matches!(question, Request::Status(_)), "it was asked for a sign of life first");
}

#[tokio::test]
async fn a_server_that_gives_signs_of_life_may_take_its_time() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        for _ in 0..4 {
            let (question, _) = peer.request().await;
            peer.answer(question, s1.status(ServerRole::Candidate, 9)).await;
        }
        peer.answer(id, done()).await;
    };
    let (written, ()) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
    assert!(s2.is_left_alone().await);
}
