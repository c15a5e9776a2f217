//! How a server ends when it is asked to: in good order at the first signal, at once at the second.

use std::time::{Duration, Instant};

use verify::cluster::{Cluster, Settings, eventually};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn sigterm_ends_a_server_in_good_order() {
    let mut cluster = Cluster::started(KVCTL, 3);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    for id in ["s1", "s2", "s3"] {
        let (status, took) = cluster.server_mut(id).stop();
        assert_eq!(status.code(), Some(0), "{id}");
        assert!(took < Duration::from_secs(5), "{id} took {took:?}");
        cluster.server(id).story().wait_for_event("stopped", LIMIT);
    }
    cluster.start_all();
    cluster.leader();
    assert_eq!(cluster.kvctl(&["get", "ana"]).expect_code(0).stdout, "4\n");
}

#[test]
fn a_second_signal_ends_a_server_that_still_waits_at_once() {
    // A leader that hears from nobody leads on for long enough to be caught waiting.
    let extra = "[raft]\nelection = \"3s..4s\"\n".to_owned();
    let mut cluster = Cluster::with(KVCTL, &Settings { servers: 3, extra });
    cluster.start_all();
    let leader = cluster.leader();
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    for server in cluster.servers().iter().filter(|server| server.id() != leader) {
        server.pause();
    }
    let address = cluster.server(&leader).address();
    std::thread::scope(|scope| {
        // A write that cannot be committed keeps the leader from ending in good order.
        let waiting =
            scope.spawn(|| cluster.kvctl_at(address, &["set", "ana", "5", "--timeout", "5s"]));
        eventually("the write to reach the leader", LIMIT, || {
            let status = cluster.kvctl_at(address, &["status", "-o", "json"]).json();
            let members = status["members"].as_array()?;
            let member = members.iter().find(|member| member["id"] == leader.as_str())?;
            (member["last"].as_u64()? > member["commit"].as_u64()?).then_some(())
        });
        let server = cluster.server(&leader);
        server.terminate();
        server.story().wait_for_event("stopping", LIMIT);
        server.terminate();
        assert_eq!(waiting.join().unwrap().code, Some(8), "nobody knows what became of the write");
    });
    let start = Instant::now();
    assert_eq!(cluster.server_mut(&leader).wait().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
}
