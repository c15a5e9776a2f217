//! Bytes that no client would send. A server answers with a reason or closes the connection, and
//! goes on serving everybody else.

use std::net::SocketAddrV4;

use bytes::{BufMut, BytesMut};
use kvstore::wire::frame::{self, FRAME_BYTES_MAX, Kind};
use kvstore::wire::handshake::VersionRange;
use kvstore::wire::{Answer, ClusterClaim, RefusedReason};
use verify::cluster::{Cluster, Raw};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");

fn cluster() -> (Cluster, SocketAddrV4) {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let address = cluster.server("s1").address();
    (cluster, address)
}

fn assert_hung_up(raw: &mut Raw) {
    while let Some(frame) = raw.next_frame() {
        let polite = frame.kind == Kind::ERROR || frame.kind == Kind::REFUSED;
        assert!(polite, "answered {:?} to garbage", frame.kind);
    }
}

fn send_unknown_kind(raw: &mut Raw) {
    let mut out = BytesMut::new();
    frame::encode_with(&mut out, Kind(0x1f), 7, FRAME_BYTES_MAX, |_| {}).unwrap();
    raw.send(&out);
}

fn assert_still_serves(cluster: &Cluster) {
    assert_eq!(cluster.kvctl(&["get", "ana"]).expect_code(0).stdout, "4\n");
}

#[test]
fn a_version_that_is_not_spoken_is_refused_with_those_that_are() {
    let (cluster, address) = cluster();
    let mut raw = Raw::connect(address);
    raw.send_hello(VersionRange { min: 77, max: 78 }, ClusterClaim::Any);
    let Some(Answer::Refused(refused)) = raw.answer() else {
        panic!("a version from the future was not refused");
    };
    assert_eq!(refused.reason, RefusedReason::Version);
    assert!(refused.text.contains(&VersionRange::OURS.to_string()), "{}", refused.text);
    assert!(raw.answer().is_none(), "the connection is closed");
    assert_still_serves(&cluster);
}

#[test]
fn another_cluster_is_refused_by_name() {
    let (cluster, address) = cluster();
    let mut raw = Raw::connect(address);
    raw.send_hello(VersionRange::OURS, ClusterClaim::Name("elsewhere".to_owned()));
    let Some(Answer::Refused(refused)) = raw.answer() else {
        panic!("a client of another cluster was not refused");
    };
    assert_eq!(refused.reason, RefusedReason::Cluster);
    assert!(refused.text.contains("test"), "it names its own cluster: {}", refused.text);
    assert_still_serves(&cluster);
}

#[test]
fn a_client_configured_for_another_cluster_is_told() {
    let (cluster, _) = cluster();
    let text = std::fs::read_to_string(cluster.config()).unwrap();
    let other = cluster.directory().join("other.toml");
    std::fs::write(&other, text.replace("cluster = \"test\"", "cluster = \"elsewhere\"")).unwrap();
    for arguments in [&["get", "ana"][..], &["set", "ana", "5"], &["log", "s1"]] {
        let config = ["--config", other.to_str().unwrap()];
        let run = cluster.kvctl(&[&config[..], arguments].concat()).expect_code(6);
        assert!(run.stderr.contains("\"test\""), "{}", run.stderr);
    }
}

#[test]
fn a_greeting_that_is_none_is_hung_up_on() {
    let (cluster, address) = cluster();
    let garbage: Vec<u8> =
        (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let greetings: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0; 64],
        &[0xff; 64],
        &garbage,
        // A frame that says it is as long as a frame can be.
        &u32::MAX.to_le_bytes(),
        // A frame that is longer than a greeting may be.
        &257_u32.to_le_bytes(),
    ];
    for greeting in greetings {
        let mut raw = Raw::connect(address);
        raw.send(greeting);
        assert_hung_up(&mut raw);
    }
    assert_still_serves(&cluster);
}

#[test]
fn a_silent_connection_does_not_stay_for_ever() {
    let (cluster, address) = cluster();
    let mut raw = Raw::connect(address);
    assert_hung_up(&mut raw);
    assert_still_serves(&cluster);
}

#[test]
fn an_oversized_frame_ends_its_connection_only() {
    let (cluster, address) = cluster();
    let mut other = Raw::welcomed(address);
    let mut raw = Raw::welcomed(address);
    raw.send(&(FRAME_BYTES_MAX + 1).to_le_bytes());
    assert_hung_up(&mut raw);
    send_unknown_kind(&mut other);
    assert_eq!(other.next_frame().unwrap().kind, Kind::ERROR, "the other connection lives on");
    assert_still_serves(&cluster);
}

#[test]
fn an_unknown_kind_of_request_gets_an_answer() {
    let (cluster, address) = cluster();
    let mut raw = Raw::welcomed(address);
    send_unknown_kind(&mut raw);
    let frame = raw.next_frame().unwrap();
    assert_eq!((frame.kind, frame.request_id), (Kind::ERROR, 7));
    assert_still_serves(&cluster);
}

#[test]
fn frames_that_were_tampered_with_are_never_carried_out() {
    let (cluster, address) = cluster();
    let mut good = BytesMut::new();
    frame::encode_with(&mut good, Kind::WRITE, 1, FRAME_BYTES_MAX, |out| {
        out.put_slice(b"not a command");
    })
    .unwrap();
    for at in 0..good.len() {
        let mut raw = Raw::welcomed(address);
        let mut bad = good.to_vec();
        bad[at] ^= 0x10;
        raw.send(&bad);
        // Half a frame may be waited for; no more of it will come.
        raw.say_no_more();
        assert_hung_up(&mut raw);
    }
    let mut raw = Raw::welcomed(address);
    raw.send(&good);
    assert_eq!(raw.next_frame().unwrap().kind, Kind::ERROR, "a whole frame with no command in it");
    assert_still_serves(&cluster);
}
