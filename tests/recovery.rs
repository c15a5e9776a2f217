//! Losing a leader costs milliseconds: its followers learn of its death from the closed connection
//! and do not wait for an election timeout. The figures are printed and gate nothing:
//! `FAILOVER_ROUNDS=20 cargo test --release -p verify --test recovery -- --nocapture`.

use std::time::Duration;

use verify::cluster::Cluster;
use verify::gap::{measure, percentile};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_killed_leader_is_replaced_without_waiting_for_an_election_timeout() {
    let rounds = std::env::var("FAILOVER_ROUNDS").ok().and_then(|text| text.parse().ok());
    let mut cluster = Cluster::started(KVCTL, 3);
    let mut gaps = Vec::new();
    for _ in 0..rounds.unwrap_or(2) {
        let leader = cluster.leader();
        let gap = measure(&mut cluster);
        println!("{gap:?}");
        assert_eq!(gap.failed, 0, "a write failed although a majority was there all the time");
        let others = cluster.servers().iter().filter(|server| server.id() != leader);
        // Whoever was elected knew that the old leader was gone.
        let knew = others.filter(|server| {
            server.story().lines().iter().any(|line| line.contains("\"leader-gone\""))
        });
        assert!(knew.count() > 0, "nobody learned of the death from the closed connection");
        gaps.push(gap.cluster);
    }
    gaps.sort_unstable();
    println!(
        "longest write gap over {} rounds: p50 {:?}, p99 {:?}",
        gaps.len(),
        percentile(&gaps, 50),
        percentile(&gaps, 99)
    );
}

#[test]
fn a_leader_that_comes_back_at_once_is_another_one_and_is_not_waited_for() {
    let mut cluster = Cluster::started(KVCTL, 3);
    let leader = cluster.leader();
    let follower = cluster.follower();
    cluster.server_mut(&leader).kill();
    cluster.start(&leader);
    cluster.server(&follower).story().wait_for_event("leader-gone", LIMIT);
    cluster.kvctl(&["set", "after", "1"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
}
