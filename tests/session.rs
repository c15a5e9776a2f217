//! The teaching demo's session on four servers started by hand from `examples/cluster.toml`.

use std::fs;

use verify::cluster::{Cluster, Settings};
use verify::tidy::repository;

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");

/// Four servers as the example has them, on addresses of this test's own.
fn four_servers() -> Cluster {
    let mut cluster = Cluster::new(KVCTL, 4);
    let example = fs::read_to_string(repository().join("examples/cluster.toml")).unwrap();
    let mut text = example.replace("./data", &cluster.directory().display().to_string());
    for (server, port) in cluster.servers().iter().zip(10_000..) {
        text = text.replace(&format!("127.0.0.1:{port}"), &server.address().to_string());
    }
    assert!(!text.contains("127.0.0.1"), "the example has other servers than expected:\n{text}");
    fs::write(cluster.config(), text).unwrap();
    cluster.start_all();
    cluster.leader();
    cluster
}

#[test]
fn the_old_session_works_as_it_did() {
    let cluster = four_servers();
    let say = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        cluster.kvctl(&words).expect_code(0).stdout
    };
    say("set ana 4");
    assert_eq!(say("get ana"), "4\n");
    assert_eq!(say("set d 8"), "d set to 8\n");
    assert_eq!(say("get d"), "8\n");
    let table = say("show");
    assert!(table.contains("ana") && table.contains(" 8 "), "{table}");
    assert_eq!(say("del d"), "d deleted\n");
    cluster.kvctl(&["get", "d"]).expect_code(4);
}

#[test]
fn the_shell_takes_the_same_lines() {
    let cluster = four_servers();
    let lines = b"set ana 4\nget ana\nset d 8\nget d\nshow\ndelete d\nshow\n";
    let run = cluster.kvctl_with_input(&["shell"], lines).expect_code(0);
    let output: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(output[..4], ["ana set to 4", "4", "d set to 8", "8"]);
    assert!(output.contains(&"d deleted"), "{}", run.stdout);
    assert_eq!(run.stderr, "", "a script sees no prompt and no banner");
}

#[test]
fn several_clients_see_each_others_writes() {
    let cluster = four_servers();
    std::thread::scope(|scope| {
        for client in 0..6 {
            let cluster = &cluster;
            scope.spawn(move || {
                let key = format!("client-{client}");
                cluster.kvctl(&["set", &key, "here"]).expect_code(0);
            });
        }
    });
    for client in 0..6 {
        let run = cluster.kvctl(&["get", &format!("client-{client}")]).expect_code(0);
        assert_eq!(run.stdout, "here\n");
    }
}

#[test]
fn a_follower_names_the_leader_when_tied_to_and_leads_there_otherwise() {
    let cluster = four_servers();
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let leader = cluster.leader();
    let follower = cluster.server(&cluster.follower()).address();
    let sorry = format!(
        "kvctl: Sorry, I am not the leader. Last leader I heard from is: {leader} ({}, term ",
        cluster.server(&leader).address()
    );

    for arguments in [&["--no-redirect", "get", "ana"][..], &["--no-redirect", "set", "ana", "5"]] {
        let run = cluster.kvctl_at(follower, arguments).expect_code(6);
        assert!(run.stderr.starts_with(&sorry), "{}", run.stderr);
    }
    let run = cluster.kvctl_at(follower, &["get", "ana"]).expect_code(0);
    assert_eq!(run.stdout, "4\n", "the refused write changed nothing");
    cluster.kvctl_at(follower, &["set", "ana", "6"]).expect_code(0);
    let at_leader = cluster.server(&leader).address();
    let run = cluster.kvctl_at(at_leader, &["--no-redirect", "get", "ana"]).expect_code(0);
    assert_eq!(run.stdout, "6\n");
}

#[test]
fn a_cluster_of_one_needs_no_other() {
    let mut cluster = Cluster::with(KVCTL, &Settings { servers: 1, ..Settings::default() });
    cluster.start_all();
    assert_eq!(cluster.leader(), "s1");
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    assert_eq!(cluster.kvctl(&["get", "ana"]).expect_code(0).stdout, "4\n");
}
