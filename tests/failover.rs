//! Servers die, all at once or one by one, and nothing that was acknowledged is lost.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use verify::cluster::{Cluster, eventually};
use verify::load::{Load, found};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(30);

fn addresses(cluster: &Cluster) -> Vec<SocketAddrV4> {
    cluster.servers().iter().map(|server| server.address()).collect()
}

/// Waits until all servers have applied the same log, then compares the logs entry by entry.
fn assert_logs_agree(cluster: &Cluster) {
    cluster.wait_until_level(LIMIT);
    let logs: Vec<(String, String)> = cluster
        .servers()
        .iter()
        .map(|server| {
            let run = cluster.kvctl(&["log", server.id()]).expect_code(0);
            (server.id().to_owned(), run.stdout)
        })
        .collect();
    let (first, expected) = &logs[0];
    assert!(!expected.is_empty());
    for (other, log) in &logs[1..] {
        assert_eq!(log, expected, "the logs of {first} and {other} differ");
    }
}

/// Waits until as many writes were acknowledged as it takes for a test to mean something.
fn wait_for_writes(cluster: &Cluster, at_least: u64) {
    eventually("the load to get going", LIMIT, || {
        let revision = cluster.status()?["revision"].as_u64()?;
        (revision >= at_least).then_some(())
    });
}

#[test]
fn the_next_write_after_the_leaders_death_succeeds_within_two_seconds() {
    let mut cluster = Cluster::started(KVCTL, 4);
    cluster.kvctl(&["set", "before", "1"]).expect_code(0);
    let leader = cluster.leader();
    cluster.server_mut(&leader).kill();
    let start = Instant::now();
    cluster.kvctl(&["set", "after", "1"]).expect_code(0);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    assert_eq!(cluster.kvctl(&["get", "before"]).expect_code(0).stdout, "1\n");

    cluster.start(&leader);
    cluster.server(&leader).story().wait_for_event("recovered", LIMIT);
    assert_logs_agree(&cluster);
}

#[test]
fn without_a_majority_nothing_is_promised_and_afterwards_nothing_is_missing() {
    let mut cluster = Cluster::started(KVCTL, 4);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let leader = cluster.leader();
    let follower = cluster.follower();
    cluster.server_mut(&leader).kill();
    cluster.server_mut(&follower).kill();

    let run = cluster.kvctl(&["set", "ana", "5", "--timeout", "2s"]);
    let (code, told) = (run.code.unwrap(), run.stderr);
    match code {
        7 => {
            let head = "kvctl: no leader: 2 of 4 servers reachable, 3 needed\n";
            assert!(told.starts_with(head), "{told}");
            assert!(told.contains("connection refused"), "{told}");
            assert!(told.contains("nothing was written"), "{told}");
            assert!(told.contains("kvctl get ana --stale"), "{told}");
        }
        8 => assert!(told.starts_with("kvctl: outcome unknown: sent to"), "{told}"),
        other => panic!("exit code {other}:\n{told}"),
    }
    let stale = cluster.kvctl(&["get", "ana", "--stale"]).expect_code(0);
    assert_eq!(stale.stdout, "4\n", "a stale read needs no majority");

    cluster.start_all();
    cluster.leader();
    let value = cluster.kvctl(&["get", "ana"]).expect_code(0).stdout;
    let possible: &[&str] = if code == 7 { &["4\n"] } else { &["4\n", "5\n"] };
    assert!(possible.contains(&value.as_str()), "exit code {code}, then {value}");
    assert_logs_agree(&cluster);
}

#[test]
fn a_power_failure_of_all_servers_under_load_loses_nothing_acknowledged() {
    let mut cluster = Cluster::started(KVCTL, 4);
    let load = Load::start(&addresses(&cluster), 16, Duration::from_secs(10));
    for round in 1..=2 {
        wait_for_writes(&cluster, round * 300);
        cluster.kill_all();
        cluster.start_all();
        cluster.leader();
    }
    wait_for_writes(&cluster, 900);
    let account = load.stop();
    assert!(account.acknowledged.len() >= 500, "too few writes to mean anything");
    account.check(&found(&cluster));
    assert_logs_agree(&cluster);
}

#[test]
fn leaders_that_die_one_after_the_other_lose_nothing_acknowledged() {
    let mut cluster = Cluster::started(KVCTL, 3);
    let load = Load::start(&addresses(&cluster), 8, Duration::from_secs(10));
    for round in 1..=3 {
        wait_for_writes(&cluster, round * 200);
        let leader = cluster.leader();
        cluster.server_mut(&leader).kill();
        cluster.leader();
        cluster.start(&leader);
        cluster.server(&leader).story().wait_for_event("recovered", LIMIT);
    }
    let account = load.stop();
    account.check(&found(&cluster));
    assert_logs_agree(&cluster);
}

#[test]
fn a_server_that_was_started_alone_does_not_say_that_there_is_nothing() {
    let mut cluster = Cluster::started(KVCTL, 3);
    cluster.kvctl(&["set", "important", "yes"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    cluster.kill_all();
    cluster.start("s1");
    let address = cluster.server("s1").address();
    for arguments in [&["get", "important", "--stale"][..], &["get", "--prefix", "", "--stale"]] {
        let refused = cluster.kvctl_at(address, arguments).expect_code(6);
        assert!(refused.stderr.contains("which of them are committed"), "{}", refused.stderr);
    }
    cluster.start("s2");
    cluster.leader();
    eventually("s1 to hear what counts", LIMIT, || {
        let read = cluster.kvctl_at(address, &["get", "important", "--stale"]);
        (read.code == Some(0) && read.stdout.trim() == "yes").then_some(())
    });
}
