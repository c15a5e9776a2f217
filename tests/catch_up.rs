//! A server that missed a great deal gets it all, while the others go on working.

use std::net::SocketAddrV4;
use std::time::Duration;

use verify::cluster::{Cluster, Run, eventually};
use verify::load::{Load, found};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const ENTRIES: u64 = 100_000;

/// How many keys a run counted.
fn keys(run: Run) -> u64 {
    run.expect_code(0).stdout.trim().parse().unwrap()
}

#[test]
fn a_server_100000_entries_behind_catches_up_while_writes_go_on() {
    let mut cluster = Cluster::started(KVCTL, 3);
    let behind = cluster.follower();
    cluster.server_mut(&behind).kill();
    // The bench is the fastest writer there is; small values keep the disk out of it.
    let bench = ["bench", "put", "--clients", "512", "--connections", "2", "--value-size", "8"];
    let count = ["get", "--prefix", "", "--count"];
    // A run writes the keys of the one before first, so on a slow machine it must last longer.
    let mut seconds: u64 = 3;
    eventually("100,000 keys", Duration::from_secs(180), || {
        let duration = format!("{seconds}s");
        seconds *= 2;
        let spread = ["--keys", "1000000000", "--duration", &duration];
        cluster.kvctl(&[&bench[..], &spread].concat()).expect_code(0);
        (keys(cluster.kvctl(&count)) >= ENTRIES).then_some(())
    });

    let addresses: Vec<SocketAddrV4> = cluster.servers().iter().map(|it| it.address()).collect();
    let load = Load::start(&addresses, 4, Duration::from_secs(10));
    cluster.start(&behind);
    eventually("the server to have caught up", Duration::from_secs(60), || {
        let status = cluster.status()?;
        let members = status["members"].as_array()?;
        let applied =
            |id: &str| members.iter().find(|member| member["id"] == id)?["applied"].as_u64();
        let leader = status["leader"].as_str()?;
        // While writes go on it is always a little behind; it must get within sight.
        (applied(&behind)? + 1_000 >= applied(leader)?).then_some(())
    });
    let account = load.stop();
    assert!(!account.acknowledged.is_empty(), "writes went on meanwhile");
    cluster.wait_until_level(Duration::from_secs(30));
    account.check(&found(&cluster));
    let held_by = |id: &str| {
        let address = cluster.server(id).address();
        keys(cluster.kvctl_at(address, &[&count[..], &["--stale"]].concat()))
    };
    let held = held_by(&behind);
    assert!(held >= ENTRIES, "it holds {held} keys only");
    assert_eq!(held, held_by(&cluster.leader()), "it holds what the leader holds");
}
