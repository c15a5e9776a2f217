//! What clients can make a server hold is bounded, whatever they send and however little they read.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kvstore::store::command::Command;
use kvstore::store::{Condition, Operation};
use kvstore::wire::frame::{self, FRAME_BYTES_MAX, Kind};
use kvstore::wire::request::{
    Consistency, Content, Get, Order, Request, Route, Scan, Selection, Write,
};
use kvstore::wire::{ErrorCode, Response};
use verify::cluster::{Cluster, Raw, eventually};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const MIB: u64 = 1 << 20;

fn get(key: &str) -> Request {
    Request::Get(Get {
        timeout_ms: 60_000,
        consistency: Consistency::Linearizable,
        route: Route::Any,
        key: Bytes::copy_from_slice(key.as_bytes()),
    })
}

#[test]
fn answers_that_nobody_takes_are_not_made() {
    const GETS: u64 = 1000;
    let cluster = Cluster::started(KVCTL, 1);
    let server = cluster.server("s1");
    cluster.kvctl_with_input(&["set", "large", "-"], &[b'x'; MIB as usize]).expect_code(0);
    let before = server.resident_bytes();
    let mut raw = Raw::welcomed(server.address());
    raw.send_requests(&vec![get("large"); GETS as usize]);
    eventually("the first answers", Duration::from_secs(10), || {
        (server.resident_bytes() > before + MIB).then_some(())
    });
    // Others are served meanwhile, so the requests were read.
    for _ in 0..20 {
        cluster.kvctl(&["get", "small"]).expect_code(4);
    }
    let grown = server.resident_bytes() - before;
    assert!(grown < 64 * MIB, "{} MiB for answers that nobody has taken", grown / MIB);
    let mut answered = 0;
    while answered < GETS {
        let frame = raw.next_frame().expect("an answer to every request");
        assert_eq!(frame.kind, Kind::VALUE);
        assert!(frame.body.len() as u64 > MIB);
        answered += 1;
    }
    let grown = server.resident_bytes() - before;
    assert!(grown < 64 * MIB, "{} MiB after all was taken", grown / MIB);
}

#[test]
fn a_key_that_cannot_exist_is_refused_before_it_is_held() {
    let cluster = Cluster::started(KVCTL, 1);
    let mut raw = Raw::welcomed(cluster.server("s1").address());
    let long = "x".repeat(1 << 20);
    let scan = Request::Scan(Scan {
        timeout_ms: 60_000,
        consistency: Consistency::Linearizable,
        route: Route::Any,
        order: Order::Ascending,
        content: Content::CountOnly,
        limit: None,
        selection: Selection::Prefix(Bytes::new()),
        after: Some(Bytes::copy_from_slice(long.as_bytes())),
    });
    for request in [get(&long), scan] {
        raw.send_requests(&[request]);
        let answer = Response::decode(&raw.next_frame().unwrap()).unwrap();
        let Response::Error(error) = answer else { panic!("{answer:?} to a key of a MiB") };
        assert_eq!(error.code, ErrorCode::TooLarge, "{error}");
    }
}

#[test]
fn the_log_holds_the_commands_and_nothing_that_came_beside_them() {
    const WRITES: u64 = 2000;
    let cluster = Cluster::started(KVCTL, 1);
    let server = cluster.server("s1");
    let before = server.resident_bytes();
    let operation = Operation::Set { key: b"a", value: b"1", condition: Condition::None };
    let command = Command { session: None, operation }.to_bytes();
    let write = Request::Write(Write { timeout_ms: 60_000, route: Route::Any, command });
    // What fills most of the memory that a write is read into, and is gone at once.
    let mut out = BytesMut::new();
    write.encode(&mut out, 1).unwrap();
    let beside = |out: &mut BytesMut| out.put_bytes(0, 60 << 10);
    frame::encode_with(&mut out, Kind(0x1f), 2, FRAME_BYTES_MAX, beside).unwrap();
    let mut raw = Raw::welcomed(server.address());
    for _ in 0..WRITES {
        raw.send(&out);
        let kinds = [raw.next_frame().unwrap().kind, raw.next_frame().unwrap().kind];
        assert!(kinds.contains(&Kind::WRITTEN) && kinds.contains(&Kind::ERROR), "{kinds:?}");
    }
    let grown = server.resident_bytes() - before;
    assert!(grown < 32 * MIB, "{} MiB for {WRITES} small commands", grown / MIB);
}
