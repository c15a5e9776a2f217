//! A log that ends before an entry of which its own server has made a snapshot: it held that entry
//! once, so its end is not where it was. The tools say what a start says, and mend nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use verify::cluster::{Cluster, Run, Settings, clean_command, eventually, run};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(30);

fn wal(command: &str, data: &Path, arguments: &[&str]) -> Run {
    let data = data.to_str().expect("it can be typed");
    run(clean_command(KVCTL), &[&["wal", command, "--data", data], arguments].concat(), b"")
}

/// Writes until the server has made a snapshot of all that it holds.
fn write_up_to_a_snapshot(cluster: &Cluster) {
    let value = "v".repeat(20_000);
    eventually("a snapshot of everything", LIMIT, || {
        cluster.kvctl(&["set", "large", &value]).expect_code(0);
        let status = cluster.kvctl(&["status", "-o", "json"]).expect_code(0).json();
        let server = &status["members"][0];
        let is_new = server["snapshot"].as_u64() > Some(1);
        (is_new && server["snapshot"] == server["last"]).then_some(())
    });
}

#[test]
fn a_log_that_was_turned_back_behind_a_snapshot_is_damage_to_every_tool() {
    let extra = "[raft]\nsnapshot_every = \"64KiB\"\n[wal]\nsegment = \"5MiB\"\n".to_owned();
    let mut cluster = Cluster::with(KVCTL, &Settings { servers: 1, extra });
    cluster.start_all();
    cluster.leader();
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    cluster.kill_all();
    let data = cluster.server("s1").data().to_path_buf();
    let segment = data.join("log/0000000000000001.wal");
    let old = fs::read(&segment).expect("it is there");
    wal("verify", &data, &[]).expect_code(0);

    cluster.start_all();
    write_up_to_a_snapshot(&cluster);
    cluster.kill_all();
    wal("verify", &data, &[]).expect_code(0);
    fs::write(&segment, &old).expect("it can be written");

    let verified = wal("verify", &data, &["-o", "json"]).expect_code(10).json();
    assert_eq!(verified["findings"][0]["kind"], "lost_history", "{verified}");
    let refused = wal("repair", &data, &[]).expect_code(10);
    assert!(refused.stderr.contains("--accept-data-loss"), "{}", refused.stderr);
    cluster.kvctl(&["serve", "--id", "s1"]).expect_code(10);
    assert!(old == fs::read(&segment).expect("it is there"), "something was mended");

    wal("repair", &data, &["--accept-data-loss", "--yes"]).expect_code(0);
    let noted = fs::read_to_string(data.join("lost-history")).expect("it is marked");
    assert!(noted.contains("entries"), "{noted}");
    // Whoever does it again comes to the same end, and the server does not start with what is left.
    wal("verify", &data, &[]).expect_code(10);
    wal("repair", &data, &["--accept-data-loss", "--yes"]).expect_code(10);
    cluster.kvctl(&["serve", "--id", "s1"]).expect_code(10);
}
