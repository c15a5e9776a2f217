//! What somebody who can reach the port, and is no member, can do to a cluster: call itself
//! anything, answer for a server that is down, or say nothing at all.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kvstore::wire::frame::{self, HANDSHAKE_FRAME_BYTES_MAX};
use kvstore::wire::handshake::{Age, PeerHello, Refused, Timing, VersionRange, Welcome};
use kvstore::wire::{Answer, ClusterClaim, Hello, RefusedReason, Role};
use verify::cluster::{Cluster, Raw, Settings};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(20);

/// What a server tells everybody who connects.
fn welcome(cluster: &Cluster, id: &str) -> Welcome {
    let mut raw = Raw::connect(cluster.server(id).address());
    raw.send_hello(VersionRange::OURS, ClusterClaim::Any);
    match raw.answer() {
        Some(Answer::Welcome(welcome)) => welcome,
        other => panic!("{id} answers {other:?}"),
    }
}

/// An introduction as the server that says this of itself, but for its boot.
fn forged(welcome: &Welcome, to: &str, boot: u64) -> PeerHello {
    PeerHello {
        cluster: welcome.cluster.clone(),
        cluster_id: welcome.cluster_id,
        node: welcome.node.clone(),
        incarnation: welcome.incarnation,
        age: Age { boot, ..welcome.age },
        timing: welcome.timing,
        to: to.to_owned(),
        to_incarnation: None,
    }
}

fn introduce(cluster: &Cluster, to: &str, role: Role) -> Raw {
    let mut raw = Raw::connect(cluster.server(to).address());
    raw.introduce(Hello { versions: VersionRange::OURS, role });
    raw
}

#[test]
fn invented_names_leave_no_trace_in_the_status() {
    let cluster = Cluster::started(KVCTL, 1);
    let us = welcome(&cluster, "s1");
    let timing = Timing { heartbeat_ms: 1, ..us.timing };
    for number in 0..300 {
        let node = format!("x{number}");
        let hello = PeerHello { node, timing, ..forged(&us, "s1", 1) };
        assert!(introduce(&cluster, "s1", Role::Peer(hello)).answer().is_some());
    }
    let run = cluster.kvctl(&["status"]).expect_code(0);
    assert!(!run.stderr.contains("other times"), "{}", run.stderr);
    let told = cluster.server("s1").story().lines().join("\n");
    assert!(!told.contains("other times"), "nor in the story");
}

#[test]
fn a_boot_that_somebody_made_up_does_not_keep_its_server_out() {
    for boot in [2_000, 1 << 40] {
        let mut cluster = Cluster::started(KVCTL, 3);
        let victim = cluster.follower();
        let said = welcome(&cluster, &victim);
        cluster.server_mut(&victim).stop();
        let others = ["s1", "s2", "s3"].into_iter().filter(|id| *id != victim);
        for to in others {
            let hello = forged(&said, to, boot);
            for role in [Role::Peer(hello.clone()), Role::Snapshots(hello)] {
                assert!(introduce(&cluster, to, role).answer().is_some());
            }
        }
        cluster.start(&victim);
        cluster.kvctl(&["set", "a", "1", "--timeout", "20s"]).expect_code(0);
        cluster.wait_until_level(LIMIT);
        assert!(!cluster.server(&victim).data().join("lost-history").exists());
    }
}

#[test]
fn a_word_of_another_cluster_stops_no_server_and_is_told_once() {
    let cluster = Cluster::started(KVCTL, 3);
    let said = welcome(&cluster, "s1");
    for to in ["s1", "s2", "s3"] {
        for _ in 0..3 {
            let hello = PeerHello {
                node: "x".to_owned(),
                cluster_id: Some([7; 16]),
                to_incarnation: Some(1),
                ..forged(&said, to, 1)
            };
            let answer = introduce(&cluster, to, Role::Peer(hello)).answer();
            assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
        }
    }
    cluster.kvctl(&["set", "a", "1", "--timeout", "20s"]).expect_code(0);
    for id in ["s1", "s2", "s3"] {
        let told = cluster.server(id).story().lines();
        let said = "x belongs to another cluster that is also called";
        assert_eq!(told.iter().filter(|line| line.contains(said)).count(), 1, "{told:?}");
    }
    let run = cluster.kvctl(&["status"]).expect_code(0);
    assert!(run.stderr.contains("knows s1 by another disk"), "{}", run.stderr);
}

#[test]
fn a_name_that_no_server_can_have_is_told_to_nobody() {
    let cluster = Cluster::started(KVCTL, 3);
    let said = welcome(&cluster, "s1");
    let hello = PeerHello {
        node: "\u{1b}[2J".to_owned(),
        cluster_id: Some([7; 16]),
        to_incarnation: Some(1),
        ..forged(&said, "s1", 1)
    };
    let answer = introduce(&cluster, "s1", Role::Peer(hello)).answer();
    assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
    let told = cluster.server("s1").story().lines();
    assert!(!told.iter().any(|line| line.contains("another cluster")), "{told:?}");
}

/// Answers everybody at an address that its directory is an older copy, until dropped.
struct Liar {
    address: SocketAddrV4,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Liar {
    fn at(address: SocketAddrV4) -> Liar {
        let listener = TcpListener::bind(address).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut answer = BytesMut::new();
        let seen = Age { boot: 99, nonce: 1, term: 1 };
        let refused = Refused::new(RefusedReason::RolledBack { seen }, "start 99 of you was seen");
        frame::encode(&mut answer, 0, &refused, HANDSHAKE_FRAME_BYTES_MAX).unwrap();
        let thread = std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let _ = socket.read(&mut [0; 256]);
                let _ = socket.write_all(&answer);
            }
        });
        Liar { address, stop, thread: Some(thread) }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for somebody to come.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn note(data: &Path, name: &str) -> bool {
    data.join(name).exists()
}

#[test]
fn one_voice_stops_a_server_and_does_not_cost_its_life() {
    let mut cluster = Cluster::started(KVCTL, 3);
    cluster.kvctl(&["set", "a", "1"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    let [accused, liar] = ["s1", "s2"];
    cluster.server_mut(liar).stop();
    let lying = Liar::at(cluster.server(liar).address());
    assert_eq!(cluster.server_mut(accused).wait().code(), Some(10), "it does not go on");
    let data = cluster.server(accused).data().to_owned();
    assert!(note(&data, "accused") && !note(&data, "lost-history"));

    // However often it is started, it serves nobody, and asks the others.
    for _ in 0..2 {
        cluster.start(accused);
        cluster.server(accused).story().wait_for("a word on what holds it back", LIMIT, |event| {
            event["event"] == "warning" && event["story"].to_string().contains("accused")
        });
        let address = cluster.server(accused).address();
        let run = cluster.kvctl_at(address, &["get", "a", "--stale", "--timeout", "1s"]);
        assert_ne!(run.code, Some(0), "{}", run.stdout);
        let told = cluster.server(accused).story().lines().join("\n");
        assert!(!told.contains("\"recovered\""), "{told}");
        cluster.server_mut(accused).stop();
    }
    assert!(!note(&data, "lost-history"));
    drop(lying);
    std::fs::remove_file(data.join("accused")).unwrap();
    if cluster.server("s3").is_running() {
        // The liar has told it the same.
        let third = cluster.server("s3").data().join("accused");
        cluster.server_mut("s3").wait();
        std::fs::remove_file(third).unwrap();
    }
    cluster.start_all();
    cluster.leader();
    assert_eq!(cluster.kvctl(&["get", "a"]).expect_code(0).stdout, "1\n");
    cluster.wait_until_level(LIMIT);
}

#[test]
fn whoever_says_nothing_keeps_no_server_out() {
    let mut settings = Settings::default();
    settings.extra.push_str("\n[limits]\nconnections = 8\n");
    let mut cluster = Cluster::with(KVCTL, &settings);
    cluster.start_all();
    cluster.leader();
    cluster.server_mut("s3").stop();
    let addresses = ["s1", "s2"].map(|id| cluster.server(id).address());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let silent = std::thread::spawn(move || {
        let mut sockets = std::collections::VecDeque::new();
        while !stopped.load(Ordering::Relaxed) {
            for address in addresses {
                sockets.extend(TcpStream::connect(address));
            }
            sockets.drain(..sockets.len().saturating_sub(400));
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    std::thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    cluster.start("s3");
    cluster.server("s3").story().wait_for("s3 to follow a leader", LIMIT, |event| {
        event["event"] == "follower" && event["story"].to_string().contains("of s")
    });
    cluster.kvctl(&["set", "a", "1", "--timeout", "20s"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    assert!(begun.elapsed() < LIMIT);
    stop.store(true, Ordering::Relaxed);
    silent.join().unwrap();
}
