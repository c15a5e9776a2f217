//! How a client finds a server, and the leader among them.

use super::*;
use crate::wire::handshake::{Refused, RefusedReason};
use crate::wire::response::{Member, MemberKind};
use std::time::Instant;
use tokio::net::TcpListener;

/// An address where nobody listens.
async fn nowhere(id: &'static str) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    Endpoint { id: Some(id.to_owned()), address }
}

#[tokio::test]
async fn a_key_is_read_and_written() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        peer.answer(id, done()).await;
        let (id, request) = peer.request().await;
        let Request::Get(get) = request else { panic!("{request:?}") };
        assert_eq!((&get.key[..], get.consistency), (&b"ana"[..], Consistency::Linearizable));
        peer.answer(id, value("4")).await;
        let (id, request) = peer.request().await;
        assert!(matches!(request, Request::Get(Get { consistency: Consistency::Stale, .. })));
        peer.answer(id, value("4")).await;
    };
    let story = async {
        assert_eq!(client.set("ana", "4").await, Ok(done()));
        assert_eq!(client.get("ana").await, Ok(value("4")));
        assert_eq!(client.get_stale("ana").await, Ok(value("4")));
    };
    tokio::join!(story, script);
}

#[tokio::test]
async fn a_write_is_led_to_the_leader_which_is_remembered() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, first) = peer.write().await;
        peer.answer(id, not_leader(Some(&s2))).await;
        let mut leader = s2.accept().await;
        let (id, second) = leader.write().await;
        assert_eq!(tag(&first), tag(&second), "it is the same write");
        leader.answer(id, done()).await;
        let (id, _) = leader.write().await;
        leader.answer(id, done()).await;
    };
    let story = async {
        client.set("a", "1").await.unwrap();
        client.set("a", "2").await.unwrap();
    };
    tokio::join!(story, script);
}

#[tokio::test]
async fn a_leader_that_was_only_heard_of_is_found() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.write().await;
        peer.answer(id, not_leader(Some(&s2))).await;
        let mut leader = s2.accept().await;
        let (id, _) = leader.write().await;
        leader.answer(id, done()).await;
    };
    let (written, ()) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
    assert_eq!(client.endpoints(), [s1.endpoint(), s2.endpoint()]);
}

#[tokio::test]
async fn a_client_tied_to_a_follower_is_told_who_leads() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let options = ClientOptions { redirect: Redirect::Never, ..options(&[&s1, &s2], PATIENCE) };
    let client = Client::new(options).unwrap();
    let leader = LeaderHint { address: "127.0.0.1:10000".to_owned(), ..s2.hint(6) };
    let script = async {
        let mut peer = s1.accept().await;
        let (id, request) = peer.request().await;
        assert!(matches!(request, Request::Get(Get { route: Route::LeaderOnly, .. })));
        let server = ServerState { role: ServerRole::Follower, term: 6 };
        let refusal = ErrorReply::not_leader(server, Some(leader.clone()));
        peer.answer(id, Response::Error(refusal)).await;
    };
    let (read, ()) = tokio::join!(client.get("ana"), script);
    let error = read.unwrap_err();
    assert!(error.is_definite());
    assert_eq!(
        error.to_string(),
        "Sorry, I am not the leader. \
         Last leader I heard from is: s2 (127.0.0.1:10000, term 6)"
    );
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over_at_once() {
    let s2 = Fake::start("s2").await;
    let endpoints = vec![nowhere("s1").await, s2.endpoint()];
    let client = Client::new(ClientOptions { endpoints, ..options(&[], PATIENCE) }).unwrap();
    let script = async {
        let mut peer = s2.accept().await;
        let (id, _) = peer.request().await;
        peer.answer(id, value("4")).await;
    };
    let (read, ()) = tokio::join!(client.get("ana"), script);
    assert_eq!(read, Ok(value("4")));
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_handshake_is_passed_over() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let _stopped = s1.accept_silently().await;
        let mut peer = s2.accept().await;
        let (id, _) = peer.request().await;
        peer.answer(id, value("4")).await;
    };
    let (read, ()) = tokio::join!(client.get("ana"), script);
    assert_eq!(read, Ok(value("4")));
}

#[tokio::test]
async fn a_hint_at_a_server_that_is_gone_does_not_lead_into_a_loop() {
    let s2 = Fake::start("s2").await;
    let gone = nowhere("s1").await;
    let endpoints = vec![gone.clone(), s2.endpoint()];
    let client = Client::new(ClientOptions { endpoints, ..options(&[], PATIENCE) }).unwrap();
    let script = async {
        let mut peer = s2.accept().await;
        for _ in 0..3 {
            let (id, _) = peer.write().await;
            let hint = LeaderHint { id: "s1".to_owned(), address: gone.address.clone(), term: 6 };
            let error = ErrorReply::not_leader(candidate(), Some(hint));
            peer.answer(id, Response::Error(error)).await;
        }
        let (id, _) = peer.write().await;
        peer.answer(id, done()).await;
    };
    let (written, ()) = tokio::join!(client.set("a", "1"), script);
    assert_eq!(written, Ok(done()));
}

#[tokio::test]
async fn a_server_that_insists_on_one_that_is_gone_is_not_flooded() {
    let s2 = Fake::start("s2").await;
    let gone = nowhere("s1").await;
    let endpoints = vec![gone.clone(), s2.endpoint()];
    let client = Client::new(ClientOptions { endpoints, ..options(&[], SHORT) }).unwrap();
    let asked = std::cell::Cell::new(0);
    let script = async {
        let insist = |_| {
            asked.set(asked.get() + 1);
            let hint = LeaderHint { id: "s1".to_owned(), address: gone.address.clone(), term: 6 };
            Response::Error(ErrorReply::not_leader(candidate(), Some(hint)))
        };
        s2.accept().await.answer_all(insist).await;
    };
    tokio::select! {
        written = client.set("a", "1") => {
            assert!(written.unwrap_err().is_definite());
        }
        () = script => {}
    }
    assert!(asked.get() < 30, "asked {} times in {SHORT:?}", asked.get());
}

#[tokio::test]
async fn nobody_to_be_reached_means_that_nothing_was_sent() {
    let options = ClientOptions {
        endpoints: vec![nowhere("s1").await, nowhere("s2").await],
        timeout: SHORT,
        ..ClientOptions::default()
    };
    let addresses: Vec<String> = options.endpoints.iter().map(|it| it.address.clone()).collect();
    let error = Client::new(options).unwrap().set("a", "1").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert!(error.is_definite());
    assert_eq!(
        error.to_string(),
        format!(
            "cannot reach any server\n  s1 {}  connection refused\n  s2 {}  connection refused",
            addresses[0], addresses[1]
        )
    );
}

#[tokio::test]
async fn a_refused_handshake_ends_the_call_before_its_deadline() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        loop {
            let mut peer = s1.accept_silently().await;
            let text = "this server speaks versions 2..3, the client 1..1";
            peer.send(&Refused::new(RefusedReason::Version, text), 0).await;
            while peer.stream.readable().await.is_ok()
                && peer.stream.try_read_buf(&mut peer.input).is_ok_and(|read| read > 0)
            {
            }
        }
    };
    let begun = Instant::now();
    tokio::select! {
        written = client.set("a", "1") => assert_eq!(
            written.unwrap_err().to_string(),
            format!(
                "no server that can be reached accepts this client\n  s1 {}  \
                 refused: this server speaks versions 2..3, the client 1..1",
                s1.address
            )
        ),
        () = script => {}
    }
    assert!(begun.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn something_else_at_the_address_is_called_what_it_is() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        loop {
            let mut peer = s1.accept_silently().await;
            peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    };
    tokio::select! {
        read = client.get("a") => {
            let text = read.unwrap_err().to_string();
            assert!(text.contains("does not answer like a kvctl server: a frame of"), "{text}");
        }
        () = script => {}
    }
}

#[tokio::test]
async fn another_server_or_cluster_at_the_address_is_not_talked_to() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let swapped = Endpoint { id: Some("s1".to_owned()), address: s2.address.clone() };
    let options = ClientOptions {
        endpoints: vec![swapped, s1.endpoint()],
        cluster: Some("live".to_owned()),
        timeout: PATIENCE,
        redirect: Redirect::Follow,
    };
    let client = Client::new(options).unwrap();
    let script = async {
        let welcome_all = async |server: &Fake| loop {
            server.accept().await;
        };
        tokio::join!(welcome_all(&s1), welcome_all(&s2))
    };
    tokio::select! {
        read = client.get("a") => {
            let text = read.unwrap_err().to_string();
            assert!(text.contains("is server s2, not s1; check the addresses"), "{text}");
            assert!(text.contains("is a server of another cluster, \"demo\""), "{text}");
        }
        _ = script => {}
    }
}

#[tokio::test]
async fn every_server_tells_how_it_is_or_why_not() {
    let s1 = Fake::start("s1").await;
    let gone = nowhere("s2").await;
    let endpoints = vec![s1.endpoint(), gone.clone()];
    let client = Client::new(ClientOptions { endpoints, ..options(&[], PATIENCE) }).unwrap();
    let script = async {
        s1.accept().await.answer_all(|_| s1.status(ServerRole::Leader, 7)).await;
    };
    tokio::select! {
        status = client.cluster_status() => {
            let [first, second] = &status.servers[..] else { panic!("{status:?}") };
            assert_eq!(first.endpoint, s1.endpoint());
            let report = first.report.as_ref().unwrap();
            assert_eq!((report.role, report.term), (ServerRole::Leader, 7));
            assert_eq!((status.leader_id(), status.term()), (Some("s1"), 7));
            assert_eq!(second.endpoint, gone);
            let condition = second.report.as_ref().unwrap_err();
            assert_eq!(condition.to_string(), "connection refused");
        }
        () = script => {}
    }
}

#[tokio::test]
async fn a_server_that_others_know_of_is_asked_and_may_have_heard_of_a_later_term() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1], PATIENCE);
    let leads = || {
        let Response::Status(mut report) = s1.status(ServerRole::Leader, 7) else { panic!() };
        let (id, address) = ("s2".to_owned(), s2.address.clone());
        report.members.push(Member {
            id,
            address,
            incarnation: 1,
            kind: MemberKind::Voter,
            matched: None,
            heard_ms_ago: None,
            feed: None,
            sending: None,
        });
        Response::Status(report)
    };
    let script = async {
        let first = async { s1.accept().await.answer_all(|_| leads()).await };
        let second = async {
            let status = |_| s2.status(ServerRole::Candidate, 8);
            s2.accept().await.answer_all(status).await;
        };
        tokio::join!(first, second);
    };
    tokio::select! {
        status = client.cluster_status() => {
            assert_eq!(status.servers.len(), 2);
            assert_eq!((status.term(), status.leader_id()), (8, None));
            assert_eq!(status.find(ServerRole::Leader), None);
            assert_eq!(status.find(ServerRole::Candidate), Some(&s2.endpoint()));
        }
        () = script => {}
    }
}

#[tokio::test]
async fn a_read_that_a_server_could_not_answer_in_time_is_asked_of_another() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let mut behind = s1.accept().await;
        let (id, request) = behind.request().await;
        let told = Duration::from_millis(request.timeout_ms().into());
        assert!(told < PATIENCE / 2, "it leaves time for another one, and says {told:?}");
        let text = "the read could not be confirmed in time";
        let late = ErrorReply::nothing_happened(ErrorCode::Timeout, text);
        behind.answer(id, Response::Error(late)).await;
        let mut healthy = s2.accept().await;
        for _ in 0..2 {
            let (id, _) = healthy.request().await;
            healthy.answer(id, value("4")).await;
        }
    };
    let story = async {
        assert_eq!(client.get("ana").await, Ok(value("4")));
        assert_eq!(client.get("ana").await, Ok(value("4")), "the healthy one is preferred now");
    };
    tokio::join!(story, script);
}
