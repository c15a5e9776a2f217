//! Scans, which come in parts on a connection of their own.

use super::*;
use crate::wire::response::{ChunkEnd, Entry, ScanChunk};

fn entry(key: &'static str) -> Entry {
    let revision = Revision(3);
    let state = KeyState { create_revision: revision, mod_revision: revision, version: 1 };
    Entry { key: Bytes::from_static(key.as_bytes()), value: Bytes::from_static(b"v"), state }
}

fn chunk(end: ChunkEnd, keys: &[&'static str]) -> Response {
    let entries = keys.iter().map(|key| entry(key)).collect();
    Response::ScanChunk(ScanChunk { end, revision: Revision(9), count: None, entries })
}

/// Accepts the connection that the client keeps and the one that it scans on.
async fn accept_scan(server: &Fake) -> (Peer, Peer) {
    let kept = server.accept().await;
    (kept, server.accept().await)
}

#[tokio::test]
async fn a_scan_comes_in_parts_of_one_revision() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let (kept, mut peer) = accept_scan(&s1).await;
        let (id, request) = peer.request().await;
        let Request::Scan(scan) = request else { panic!("{request:?}") };
        assert_eq!(scan.limit, Some(3));
        assert!(scan.range().contains(b"a/1") && !scan.range().contains(b"b"));
        peer.answer(id, chunk(ChunkEnd::Continues, &["a/1", "a/2"])).await;
        peer.answer(id, chunk(ChunkEnd::LimitReached, &["a/3"])).await;
        (kept, peer)
    };
    let scan = Scan { limit: Some(3), ..Scan::prefix("a/") };
    let story = async { client.scan(scan).await.unwrap().collect().await.unwrap() };
    let (result, _peers) = tokio::join!(story, script);
    assert_eq!(result.revision, Revision(9));
    assert_eq!(result.entries, [entry("a/1"), entry("a/2"), entry("a/3")]);
    assert_eq!((result.count, result.rest), (3, Rest::Some));
}

#[tokio::test]
async fn a_count_needs_no_keys() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let (kept, mut peer) = accept_scan(&s1).await;
        let (id, _) = peer.request().await;
        let (end, revision) = (ChunkEnd::Complete, Revision(9));
        let count = ScanChunk { end, revision, count: Some(7), entries: Vec::new() };
        peer.answer(id, Response::ScanChunk(count)).await;
        (kept, peer)
    };
    let scan = Scan { content: crate::wire::request::Content::CountOnly, ..Scan::prefix("") };
    let story = async { client.scan(scan).await.unwrap().collect().await.unwrap() };
    let (result, _peers) = tokio::join!(story, script);
    assert_eq!((result.count, result.rest), (7, Rest::None));
}

#[tokio::test]
async fn a_scan_that_breaks_off_is_an_error_and_not_a_short_answer() {
    let s1 = Fake::start("s1").await;
    let client = client(&[&s1], PATIENCE);
    let script = async {
        let (kept, mut peer) = accept_scan(&s1).await;
        let (id, _) = peer.request().await;
        peer.answer(id, chunk(ChunkEnd::Continues, &["a"])).await;
        kept
    };
    let story = async {
        let mut stream = client.scan(Scan::prefix("")).await.unwrap();
        assert_eq!(stream.next().await, Ok(Some(entry("a"))));
        let error = stream.next().await.unwrap_err();
        assert!(error.to_string().contains("connection lost before the answer"), "{error}");
        assert_eq!(stream.next().await, Ok(None), "there is nothing behind an error");
    };
    tokio::join!(story, script);
}

#[tokio::test]
async fn a_scan_starts_over_elsewhere_if_its_first_part_does_not_come() {
    let (s1, s2) = (Fake::start("s1").await, Fake::start("s2").await);
    let client = client(&[&s1, &s2], PATIENCE);
    let script = async {
        let (kept, mut peer) = accept_scan(&s1).await;
        peer.request().await;
        drop(peer);
        let (also_kept, mut peer) = accept_scan(&s2).await;
        let (id, _) = peer.request().await;
        peer.answer(id, chunk(ChunkEnd::Complete, &["a"])).await;
        (kept, also_kept, peer)
    };
    let story = async { client.scan(Scan::prefix("")).await.unwrap().collect().await.unwrap() };
    let (result, _peers) = tokio::join!(story, script);
    assert_eq!(result.entries, [entry("a")]);
}
