//! `kvctl bench`: its numbers are those of the cluster.

use serde_json::Value;
use verify::cluster::Cluster;

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");

fn revision(cluster: &Cluster) -> u64 {
    cluster.status().unwrap()["revision"].as_u64().unwrap()
}

fn bench(cluster: &Cluster, arguments: &[&str]) -> Value {
    let run = cluster.kvctl(&[&["bench"], arguments, &["-o", "json"]].concat()).expect_code(0);
    assert!(run.stderr.contains("bench/"), "it says where its keys stay: {}", run.stderr);
    run.json()
}

#[test]
fn as_many_operations_are_reported_as_the_revision_grew() {
    let cluster = Cluster::started(KVCTL, 3);
    let before = revision(&cluster);
    let report = bench(&cluster, &["put", "--clients", "64", "--duration", "5s"]);
    let ops = report["ops"].as_u64().unwrap();
    assert!(ops > 100, "{report}");
    assert_eq!(ops, revision(&cluster) - before);
    let expected = [
        "op",
        "clients",
        "connections",
        "pipeline",
        "value_size",
        "seconds",
        "ops",
        "ops_per_sec",
        "errors",
        "unknown",
        "latency_us",
    ];
    let keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, expected);
    assert_eq!(report["clients"], 64);
    assert_eq!((&report["errors"], &report["unknown"]), (&Value::from(0), &Value::from(0)));
    let latency = &report["latency_us"];
    let percentiles: Vec<u64> =
        ["p50", "p90", "p99", "p999", "max"].iter().map(|p| latency[p].as_u64().unwrap()).collect();
    assert!(percentiles.is_sorted() && percentiles[0] > 0, "{report}");
}

#[test]
fn reads_change_nothing_and_missing_keys_are_no_errors() {
    let cluster = Cluster::started(KVCTL, 3);
    let before = revision(&cluster);
    for to in ["leader", "follower", "any"] {
        let report =
            bench(&cluster, &["get", "--clients", "16", "--duration", "500ms", "--to", to]);
        assert!(report["ops"].as_u64().unwrap() > 0, "{to}: {report}");
        assert_eq!(report["errors"], 0, "{to}: {report}");
    }
    assert_eq!(revision(&cluster), before);
}

#[test]
fn an_open_loop_starts_what_its_rate_asks_for() {
    let cluster = Cluster::started(KVCTL, 3);
    let arguments =
        ["mixed", "--rate", "200", "--duration", "1s", "--clients", "8", "--pipeline", "4"];
    let report = bench(&cluster, &arguments);
    let ended = ["ops", "errors", "unknown"].iter().map(|key| report[key].as_u64().unwrap());
    assert_eq!(ended.sum::<u64>(), 200, "{report}");
}
