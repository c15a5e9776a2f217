//! A server that missed a great deal gets it all, while the others go on working.

use std::net::SocketAddrV4;
use std::time::Duration;

use verify::cluster::{Cluster, eventually};
use verify::load::Load;

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const ENTRIES: u64 = 100_000;

fn revision(cluster: &Cluster) -> Option<u64> {
    cluster.status()?["revision"].as_u64()
}

#[test]
fn a_server_100000_entries_behind_catches_up_while_writes_go_on() {
    let mut cluster = Cluster::started(KVCTL, 3);
    let behind = cluster.follower();
    cluster.server_mut(&behind).kill();
    // The bench is the fastest writer there is; small values keep the disk out of it.
    let bench = ["bench", "put", "--clients", "512", "--connections", "2", "--value-size", "8"];
    eventually("100,000 entries", Duration::from_secs(120), || {
        cluster.kvctl(&[&bench[..], &["--duration", "3s"]].concat()).expect_code(0);
        (revision(&cluster)? >= ENTRIES).then_some(())
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
    let count = |at: &str| {
        let address = cluster.server(at).address();
        cluster.kvctl_at(address, &["get", "--prefix", "", "--count", "--stale"]).stdout
    };
    assert_eq!(count(&behind), count(&cluster.leader()), "it holds what the leader holds");
}
