//! One connection for many callers.

use super::*;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

#[tokio::test]
async fn answers_find_their_callers_in_any_order() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (one, _) = peer.request().await;
        let (two, _) = peer.request().await;
        let (three, _) = peer.request().await;
        peer.answer(three, value("3")).await;
        peer.answer(one, value("1")).await;
        peer.answer(99, value("nobody asked")).await;
        peer.answer(two, value("2")).await;
        assert!(s1.is_left_alone().await, "one connection is enough");
    };
    let clone = client.clone();
    let story = async { tokio::join!(client.get("1"), client.get("2"), clone.get("3")) };
    let (read, ()) = tokio::join!(story, script);
    assert_eq!(read, (Ok(value("1")), Ok(value("2")), Ok(value("3"))));
}

#[tokio::test]
async fn what_many_callers_ask_leaves_in_one_write() {
    const CALLERS: usize = 200;
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.request().await;
        peer.answer(id, value("connected")).await;
        peer.input.reserve(1 << 20);
        peer.stream.read_buf(&mut peer.input).await.unwrap();
        let mut seen = 0;
        let buffered = peer.input.clone();
        let mut rest = buffered;
        while crate::wire::frame::decode(&mut rest, 1 << 20).unwrap().is_some() {
            seen += 1;
        }
        peer.answer_all(|_| Response::Written(done())).await;
        seen
    };
    let story = async move {
        client.get("a").await.unwrap();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let client = client.clone();
            callers.spawn(async move { client.set("a", "1").await });
        }
        while let Some(written) = callers.join_next().await {
            assert_eq!(written.unwrap(), Ok(done()));
        }
    };
    let ((), seen) = tokio::join!(story, script);
    assert_eq!(seen, CALLERS, "all requests came with one read");
}

#[tokio::test]
async fn a_request_that_was_not_sent_is_not_in_doubt() {
    let s1 = Fake::start_with_a_small_window("s1").await;
    let client = client(&[&s1], SHORT);
    let large = vec![b'x'; 2_000_000];
    let writes = async {
        let mut writes = JoinSet::new();
        for _ in 0..4 {
            let (client, large) = (client.clone(), large.clone());
            writes.spawn(async move { client.set("a", large).await });
        }
        writes.join_all().await
    };
    let script = async {
        let peer = s1.accept().await;
        peer.stream.readable().await.unwrap();
        // Nothing was read, so most of what the client has to send is still with it. The server
        // goes away for good.
        drop((peer, s1));
    };
    let (written, ()) = tokio::join!(writes, script);
    let definite = written.iter().filter(|it| it.as_ref().unwrap_err().is_definite()).count();
    assert!(definite < 4, "the first was sent in part");
    assert!(definite > 0, "of the last not one byte was sent");
}

#[test]
fn a_client_outlives_the_runtime_that_it_was_used_in() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let serving = runtime();
    let s1 = serving.block_on(Fake::start("s1"));
    let client = client(&[&s1], PATIENCE);
    let serve = std::thread::spawn(move || {
        serving.block_on(async {
            s1.accept().await.answer_all(|_| Response::Value(value("4"))).await;
            s1.accept().await.answer_all(|_| Response::Value(value("4"))).await;
        });
    });
    for _ in 0..2 {
        assert_eq!(runtime().block_on(client.get("ana")), Ok(value("4")));
    }
    serve.join().unwrap();
}

#[tokio::test]
async fn the_last_clone_takes_the_connection_with_it() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let mut peer = s1.accept().await;
        let (id, _) = peer.request().await;
        peer.answer(id, value("4")).await;
        peer
    };
    let (read, mut peer) = tokio::join!(client.get("ana"), script);
    read.unwrap();
    let clone = client.clone();
    drop(client);
    drop(clone);
    assert!(peer.frame(1 << 20).await.is_none(), "the client has hung up");
}
