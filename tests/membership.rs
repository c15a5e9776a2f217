//! The members of a running cluster change, one after the other, while clients write: no write
//! fails that its client does not repeat by itself, and nothing acknowledged is lost.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use verify::cluster::{Cluster, eventually};
use verify::gap::measure_during;
use verify::load::{Load, found};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(60);

/// The voters, in the order of their ids.
fn voters(cluster: &Cluster) -> Vec<String> {
    let list = cluster.kvctl(&["member", "list", "-o", "json"]).expect_code(0).json();
    let members = list["members"].as_array().expect("a list of members").clone();
    let voting = members.iter().filter(|member| member["kind"] == "voter");
    voting.map(|member| member["id"].as_str().expect("an id").to_owned()).collect()
}

/// Starts a server and takes it in.
fn add(cluster: &mut Cluster) {
    let id = cluster.start_joining();
    let address = cluster.server(&id).address().to_string();
    let run = cluster.kvctl(&["member", "add", &id, &address, "--timeout", "40s"]).expect_code(0);
    assert_eq!(run.stdout, format!("{id} votes\n"));
    println!("{id} was added");
}

/// Starts a server, lets it take the place of another, and stops that.
fn replace(cluster: &mut Cluster, old: &str) {
    let new = cluster.start_joining();
    cluster.kvctl(&["member", "replace", old, &new, "--timeout", "40s"]).expect_code(0);
    cluster.server_mut(old).stop();
    println!("{new} took the place of {old}");
}

/// Takes a server out and stops it.
fn remove(cluster: &mut Cluster, id: &str) {
    cluster.kvctl(&["member", "remove", id, "--yes", "--timeout", "40s"]).expect_code(0);
    cluster.server_mut(id).stop();
    println!("{id} was removed");
}

/// Waits until writes go on: `more` of them after those that are there.
fn wait_for_writes(cluster: &Cluster, more: u64) {
    let revision = || cluster.status()?["revision"].as_u64();
    let before = eventually("a revision", LIMIT, revision);
    eventually("writes to go on", LIMIT, || (revision()? >= before + more).then_some(()));
}

#[test]
fn from_one_to_five_with_two_replaced_and_down_to_three_while_clients_write() {
    let mut cluster = Cluster::started(KVCTL, 1);
    let first = cluster.server("s1").address();
    let addresses: Vec<SocketAddrV4> =
        (0..7).map(|nth| SocketAddrV4::new(*first.ip(), first.port() + nth)).collect();
    let load = Load::start(&addresses, 8, Duration::from_secs(30));
    wait_for_writes(&cluster, 50);
    let begun = Instant::now();
    while cluster.servers().len() < 5 {
        add(&mut cluster);
        wait_for_writes(&cluster, 50);
    }
    assert_eq!(voters(&cluster), ["s1", "s2", "s3", "s4", "s5"]);
    for old in ["s2", "s3"] {
        replace(&mut cluster, old);
        wait_for_writes(&cluster, 50);
    }
    assert_eq!(voters(&cluster), ["s1", "s4", "s5", "s6", "s7"]);
    for _ in 0..2 {
        let leader = cluster.leader();
        remove(&mut cluster, &leader);
        wait_for_writes(&cluster, 50);
    }
    let took = begun.elapsed();
    let account = load.stop();
    println!(
        "in {took:?}: {} writes acknowledged, {} unknown, {} refused",
        account.acknowledged.len(),
        account.unknown.len(),
        account.refused.len()
    );
    assert!(account.unknown.is_empty(), "{:?}", account.unknown);
    assert!(account.refused.is_empty(), "{:?}", account.refused);
    assert_eq!(voters(&cluster).len(), 3);
    cluster.wait_until_level(LIMIT);
    account.check(&found(&cluster));
}

#[test]
fn a_removal_that_leaves_no_room_for_a_failure_wants_to_be_meant() {
    let mut cluster = Cluster::started(KVCTL, 3);
    let follower = cluster.follower();
    let run = cluster.kvctl(&["member", "remove", &follower]).expect_code(2);
    assert!(run.stderr.contains("could not lose one more"), "{}", run.stderr);
    assert_eq!(voters(&cluster).len(), 3);
    remove(&mut cluster, &follower);
    assert_eq!(voters(&cluster).len(), 2);
    let unknown = cluster.kvctl(&["member", "remove", "s9", "--yes"]).expect_code(6);
    assert!(unknown.stderr.contains("s9 is no member of this cluster"), "{}", unknown.stderr);
}

#[test]
fn leadership_goes_where_it_is_sent() {
    let cluster = Cluster::started(KVCTL, 3);
    let leader = cluster.leader();
    let follower = cluster.follower();
    let run = cluster.kvctl(&["leader", "transfer", &follower, "-o", "json"]).expect_code(0);
    assert_eq!(run.json()["leader"], follower.as_str());
    let shown = cluster.kvctl(&["leader", "show", "-o", "json"]).expect_code(0).json();
    assert_eq!(shown["leader"], follower.as_str());
    let run = cluster.kvctl(&["leader", "transfer", &follower]).expect_code(6);
    assert!(run.stderr.contains("leads already"), "{}", run.stderr);
    cluster.kvctl(&["leader", "transfer"]).expect_code(0);
    assert_ne!(cluster.leader(), follower, "somebody else leads");
    let run = cluster.kvctl(&["leader", "transfer", "s9"]).expect_code(6);
    assert!(run.stderr.contains("s9 is no member"), "{}", run.stderr);
    drop(leader);
}

#[test]
fn restarting_all_servers_one_after_the_other_fails_no_write() {
    let mut cluster = Cluster::started(KVCTL, 3);
    let mut stopped = 0;
    let gap = measure_during(&mut cluster, |cluster| {
        for id in ["s1", "s2", "s3"] {
            let leads = cluster.leader() == id;
            let (status, took) = cluster.server_mut(id).stop();
            assert!(status.success(), "{id} ended with {status}");
            if leads {
                stopped += 1;
                let told = cluster.server(id).story().lines().join("\n");
                assert!(told.contains("\"hands-over\""), "{told}");
            }
            println!("{id} stopped in {took:?}{}", if leads { ", leading" } else { "" });
            cluster.start(id);
            cluster.server(id).story().wait_for_event("recovered", LIMIT);
            cluster.wait_until_level(LIMIT);
        }
    });
    println!("{gap:?} while {stopped} leaders were stopped");
    assert!(stopped > 0, "some server led when it was stopped");
    assert_eq!(gap.failed, 0, "a write failed although a majority was there all the time");
}
