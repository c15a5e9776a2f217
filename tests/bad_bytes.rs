//! Bytes that no client would send. A server answers with a reason or closes the connection, and
//! goes on serving everybody else.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kvstore::wire::frame::{self, FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, Kind};
use kvstore::wire::handshake::VersionRange;
use kvstore::wire::{Answer, ClusterClaim, Hello, RefusedReason, Role};
use verify::cluster::Cluster;

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(10);

/// A raw connection to a server.
struct Raw {
    stream: TcpStream,
    read: BytesMut,
}

impl Raw {
    fn connect(address: SocketAddrV4) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Raw { stream, read: BytesMut::new() }
    }

    /// Sends bytes. The server may have hung up already, which shows when reading.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn send_hello(&mut self, versions: VersionRange, claim: ClusterClaim) {
        let mut out = BytesMut::new();
        let hello = Hello { versions, role: Role::Client(claim) };
        frame::encode(&mut out, 0, &hello, HANDSHAKE_FRAME_BYTES_MAX).unwrap();
        self.send(&out);
    }

    /// The next frame, or `None` once the server has hung up.
    fn next_frame(&mut self) -> Option<frame::Frame> {
        loop {
            if let Some(frame) = frame::decode(&mut self.read, FRAME_BYTES_MAX).unwrap() {
                return Some(frame);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.read.put_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the server neither answered nor hung up: {error}"),
            }
        }
    }

    fn answer(&mut self) -> Option<Answer> {
        let frame = self.next_frame()?;
        Some(Answer::decode(frame.kind, &frame.body).unwrap())
    }

    /// A connection whose handshake was accepted.
    fn welcomed(address: SocketAddrV4) -> Raw {
        let mut raw = Raw::connect(address);
        raw.send_hello(VersionRange::OURS, ClusterClaim::Any);
        assert!(matches!(raw.answer(), Some(Answer::Welcome(_))));
        raw
    }

    fn assert_hung_up(&mut self) {
        while let Some(frame) = self.next_frame() {
            let polite = frame.kind == Kind::ERROR || frame.kind == Kind::REFUSED;
            assert!(polite, "answered {:?} to garbage", frame.kind);
        }
    }
}

fn cluster() -> (Cluster, SocketAddrV4) {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let address = cluster.server("s1").address();
    (cluster, address)
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
        raw.assert_hung_up();
    }
    assert_still_serves(&cluster);
}

#[test]
fn a_silent_connection_does_not_stay_for_ever() {
    let (cluster, address) = cluster();
    let mut raw = Raw::connect(address);
    raw.assert_hung_up();
    assert_still_serves(&cluster);
}

#[test]
fn an_oversized_frame_ends_its_connection_only() {
    let (cluster, address) = cluster();
    let mut other = Raw::welcomed(address);
    let mut raw = Raw::welcomed(address);
    raw.send(&(FRAME_BYTES_MAX + 1).to_le_bytes());
    raw.assert_hung_up();
    other.send_unknown_kind();
    assert_eq!(other.next_frame().unwrap().kind, Kind::ERROR, "the other connection lives on");
    assert_still_serves(&cluster);
}

impl Raw {
    fn send_unknown_kind(&mut self) {
        let mut out = BytesMut::new();
        frame::encode_with(&mut out, Kind(0x1f), 7, FRAME_BYTES_MAX, |_| {}).unwrap();
        self.send(&out);
    }
}

#[test]
fn an_unknown_kind_of_request_gets_an_answer() {
    let (cluster, address) = cluster();
    let mut raw = Raw::welcomed(address);
    raw.send_unknown_kind();
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
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        raw.assert_hung_up();
    }
    let mut raw = Raw::welcomed(address);
    raw.send(&good);
    assert_eq!(raw.next_frame().unwrap().kind, Kind::ERROR, "a whole frame with no command in it");
    assert_still_serves(&cluster);
}
