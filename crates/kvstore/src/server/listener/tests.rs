//! Whom a server lets in, and what it says to whom it does not, on a disk that fails on demand.

use std::path::Path;
use std::sync::Arc;

use raft::storage::Home;
use tokio::sync::{Notify, mpsc};
use wal::sim_disk::{Fault, OperationKind, SimDisk};

use super::super::core::Core;
use super::super::links::{self, ConnectError};
use super::super::proof::Seen;
use super::super::{Exposure, Failures, ServeError, ServeOptions, settings};
use super::*;
use crate::config::Config;
use crate::wire::handshake::{Age, Timing};

const FILE: &str = r#"
cluster = "demo"
[[server]]
id = "s1"
addr = "127.0.0.1:10000"
[[server]]
id = "s2"
addr = "127.0.0.1:10001"
"#;

const TIMING: Timing = Timing { heartbeat_ms: 50, election_min_ms: 500, election_max_ms: 1000 };

/// Server s1, which waits for s2 to found their cluster.
fn server(medium: &SimDisk) -> (SharedCore, mpsc::UnboundedReceiver<ServeError>) {
    let options = ServeOptions {
        id: "s1".to_owned(),
        config: Config::parse(Path::new("kv.toml"), FILE).unwrap(),
        data: None,
        address: None,
        join: None,
        exposure: Exposure::LoopbackOnly,
    };
    let wake = Arc::new(Notify::new());
    let settings = settings(&options, &wake).unwrap();
    let home = Home::open(medium.disk(), settings.id, "demo", || Incarnation(1)).unwrap();
    let (failures, failed) = Failures::new();
    let core = Core::new(settings, home, Arc::new(|_: &Event| {}), wake, failures);
    (Rc::new(core.into()), failed)
}

/// What s2 says of itself at one of its starts.
fn hello(boot: u64) -> PeerHello {
    hello_of(Age { boot, nonce: 1000 + boot, term: 0 })
}

fn hello_of(age: Age) -> PeerHello {
    PeerHello {
        cluster: "demo".to_owned(),
        cluster_id: None,
        node: "s2".to_owned(),
        incarnation: 2,
        age,
        timing: TIMING,
        to: "s1".to_owned(),
        to_incarnation: None,
    }
}

/// A dial finds s2 in one of its starts.
fn meet(core: &SharedCore, hello: &PeerHello) -> Option<Seen> {
    let member = Member { id: NodeId::new("s2").unwrap(), incarnation: Incarnation(2) };
    core.borrow_mut().note_boot(member, hello.age, hello.cluster_id)
}

#[test]
fn a_disk_that_fails_here_says_nothing_of_the_other_servers_directory() {
    for kind in [OperationKind::Write, OperationKind::SyncData] {
        let medium = SimDisk::new();
        let (core, mut failed) = server(&medium);
        assert_eq!(meet(&core, &hello(4)), Some(Seen::Current));
        medium.inject(0, Some(kind), Fault::Error(5));
        assert_eq!(meet(&core, &hello(5)), None);
        let failure = failed.try_recv().expect("this server is about to stop");
        assert!(matches!(failure, ServeError::Home(_)), "{failure}");
    }
}

#[test]
fn a_server_that_was_turned_back_is_told_which_start_was_seen() {
    let (core, mut failed) = server(&SimDisk::new());
    assert_eq!(meet(&core, &hello(4)), Some(Seen::Current));
    let refused = check_peer(&core, &hello(3)).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::RolledBack { seen: hello(4).age });
    assert!(failed.try_recv().is_err());
}

#[test]
fn a_copy_that_counts_to_the_same_start_is_another_directory() {
    let (core, _failed) = server(&SimDisk::new());
    assert_eq!(meet(&core, &hello(4)), Some(Seen::Current));
    let again = Age { nonce: 7, ..hello(4).age };
    let refused = check_peer(&core, &hello_of(again)).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::RolledBack { seen: hello(4).age });
    assert!(check_peer(&core, &hello(4)).is_ok());
}

#[test]
fn a_copy_that_does_not_know_a_term_in_which_its_server_was_heard_was_made_before() {
    let (core, _failed) = server(&SimDisk::new());
    let age = |boot, term| Age { term, ..hello(boot).age };
    assert_eq!(meet(&core, &hello_of(age(4, 8))), Some(Seen::Current));
    let refused = check_peer(&core, &hello_of(age(5, 7))).unwrap_err();
    assert_eq!(refused.reason, RefusedReason::RolledBack { seen: age(4, 8) });
    // That start stays refused, whatever it hears meanwhile; another directory may come.
    assert!(check_peer(&core, &hello_of(age(5, 8))).is_err());
    assert!(check_peer(&core, &hello_of(age(6, 8))).is_ok());
}

#[test]
fn who_only_introduces_itself_leaves_no_trace() {
    let (core, _failed) = server(&SimDisk::new());
    assert_eq!(meet(&core, &hello(4)), Some(Seen::Current));
    assert!(check_peer(&core, &hello_of(Age { term: 9, ..hello(2_000).age })).is_ok());
    assert!(check_peer(&core, &hello(4)).is_ok());
    assert_eq!(meet(&core, &hello(5)), Some(Seen::Current));
    let leap = meet(&core, &hello(1 << 40));
    assert_eq!(leap, Some(Seen::Absurd(hello(5).age)), "nor does who answers with a made-up start");
    assert_eq!(meet(&core, &hello(6)), Some(Seen::Current));
}

#[tokio::test]
async fn who_has_seen_no_later_start_of_this_server_cannot_stop_it_for_good() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (core, _failed) = server(&SimDisk::new());
    let age = core.borrow().hello_to(None).age;
    let Age { boot, nonce, term } = age;
    let cases = [
        (Age { boot: boot - 1, ..age }, false),
        (age, false),
        (Age { boot: boot + 1, ..age }, true),
        (Age { nonce: nonce + 1, ..age }, true),
        (Age { boot: boot - 1, term: term + 1, ..age }, true),
    ];
    for (seen, is_evidence) in cases {
        let answer = async {
            let (socket, _) = listener.accept().await.unwrap();
            let outbox = Outbox::new(socket);
            let reason = RefusedReason::RolledBack { seen };
            let refused = Refused::new(reason, "it was rolled back");
            outbox
                .append(|out| frame::encode(out, 0, &refused, HANDSHAKE_FRAME_BYTES_MAX))
                .unwrap();
            outbox.flush();
        };
        let dial = links::connect(&core, None, &address, links::Purpose::Raft);
        let (result, ()) = tokio::join!(dial, answer);
        match result {
            Err(ConnectError::RolledBack(_)) => assert!(is_evidence, "{seen:?}"),
            Err(ConnectError::Refused(_)) => assert!(!is_evidence, "{seen:?}"),
            _ => panic!("it is refused, whatever was seen"),
        }
    }
}
