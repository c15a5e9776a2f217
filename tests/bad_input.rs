//! What must not go wrong when something is wrong: every case ends with an error that says what to
//! do, nothing is lost, and no server falls over.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use verify::cluster::{Cluster, Run, clean_command, config_text, free_addresses, run};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");

/// Runs a server that is expected to end by itself.
fn serve(id: &str, config: &Path, more: &[&str]) -> Run {
    let config = config.to_str().unwrap();
    let arguments = [&["serve", "--id", id, "--config", config], more].concat();
    run(clean_command(KVCTL), &arguments, b"")
}

/// A cluster of one with a key in it, stopped in good order.
fn stopped_cluster() -> Cluster {
    let mut cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let (status, _) = cluster.server_mut("s1").stop();
    assert!(status.success(), "{status}");
    cluster
}

/// Starts the only server again and looks whether its key is still there.
fn assert_nothing_was_lost(cluster: &mut Cluster) {
    cluster.start("s1");
    cluster.leader();
    assert_eq!(cluster.kvctl(&["get", "ana"]).expect_code(0).stdout, "4\n");
}

fn write_config(cluster: &Cluster, name: &str, text: &str) -> PathBuf {
    let path = cluster.directory().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn an_unknown_server_id_is_refused_with_those_that_exist() {
    let cluster = Cluster::new(KVCTL, 3);
    let run = serve("s9", cluster.config(), &[]).expect_code(2);
    for expected in ["s9", "s1", "s2", "s3"] {
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let cluster = Cluster::new(KVCTL, 1);
    let missing = cluster.directory().join("missing.toml");
    let run = serve("s1", &missing, &[]).expect_code(2);
    assert!(run.stderr.contains("missing.toml"), "{}", run.stderr);
    let run = cluster.kvctl(&["--config", missing.to_str().unwrap(), "get", "a"]).expect_code(2);
    assert!(run.stderr.contains("missing.toml"), "{}", run.stderr);
}

#[test]
fn a_malformed_configuration_is_located() {
    let cluster = Cluster::new(KVCTL, 1);
    let good = fs::read_to_string(cluster.config()).unwrap();
    let cases = [
        (good.replace("[node]", "[node"), "kv-bad.toml:"),
        (good.replace("heartbeat", "hartbeat"), "heartbeat"),
        (good.replace("50ms", "50 parsecs"), "50 parsecs"),
        (format!("{good}\n[[server]]\nid = \"s1\"\naddr = \"127.0.0.1:1\"\n"), "s1"),
    ];
    for (text, expected) in cases {
        let path = write_config(&cluster, "kv-bad.toml", &text);
        let run = serve("s1", &path, &[]).expect_code(2);
        assert!(run.stderr.contains("kv-bad.toml"), "{}", run.stderr);
        assert!(run.stderr.contains(expected), "{expected} is missing: {}", run.stderr);
    }
}

#[test]
fn without_any_configuration_only_s1_can_be_served() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = clean_command(KVCTL);
    command.current_dir(directory.path());
    let run = run(command, &["serve", "--id", "s2"], b"").expect_code(2);
    assert!(run.stderr.contains("s1"), "{}", run.stderr);
}

#[test]
fn a_port_in_use_is_named_and_costs_nothing() {
    let mut cluster = stopped_cluster();
    let address = cluster.server("s1").address();
    let taken = TcpListener::bind(address).unwrap();
    let run = serve("s1", cluster.config(), &[]).expect_code(1);
    assert!(run.stderr.contains(&address.to_string()), "{}", run.stderr);
    assert!(run.stderr.to_lowercase().contains("in use"), "{}", run.stderr);
    drop(taken);
    assert_nothing_was_lost(&mut cluster);
}

#[test]
fn the_directory_of_another_server_is_refused() {
    let mut cluster = stopped_cluster();
    let addresses = free_addresses(2);
    let text = config_text(cluster.directory(), &addresses, "");
    let config = write_config(&cluster, "two.toml", &text);
    let data = cluster.server("s1").data().to_str().unwrap().to_owned();
    let run = serve("s2", &config, &["--data", &data]).expect_code(6);
    assert!(run.stderr.contains("belongs to server s1, not s2"), "{}", run.stderr);
    assert_nothing_was_lost(&mut cluster);
}

#[test]
fn the_directory_of_another_cluster_is_refused() {
    let mut cluster = stopped_cluster();
    let good = fs::read_to_string(cluster.config()).unwrap();
    let text = good.replace("cluster = \"test\"", "cluster = \"other\"");
    let config = write_config(&cluster, "other.toml", &text);
    let run = serve("s1", &config, &[]).expect_code(6);
    for expected in ["cluster \"test\"", "names \"other\""] {
        assert!(run.stderr.contains(expected), "{expected} is missing: {}", run.stderr);
    }
    assert_nothing_was_lost(&mut cluster);
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let text = config_text(cluster.directory(), &free_addresses(1), "");
    let config = write_config(&cluster, "second.toml", &text);
    let run = serve("s1", &config, &[]).expect_code(6);
    let data = cluster.server("s1").data().to_str().unwrap().to_owned();
    assert!(run.stderr.contains(&data), "{}", run.stderr);
    assert_eq!(cluster.kvctl(&["get", "ana"]).expect_code(0).stdout, "4\n");
}

#[test]
fn a_key_or_value_over_the_limit_is_refused_with_the_limit() {
    let cluster = Cluster::started(KVCTL, 1);
    let long_key = "k".repeat(4097);
    let run = cluster.kvctl(&["set", &long_key, "1"]).expect_code(6);
    assert!(run.stderr.contains("4096") || run.stderr.contains("4 KiB"), "{}", run.stderr);
    let long_value = vec![b'v'; 1024 * 1024 + 1];
    let run = cluster.kvctl_with_input(&["set", "k", "-"], &long_value).expect_code(6);
    assert!(run.stderr.contains("1048576") || run.stderr.contains("1 MiB"), "{}", run.stderr);
    cluster.kvctl(&["get", "k"]).expect_code(4);

    cluster.kvctl(&["set", &long_key[..4096], "1"]).expect_code(0);
    cluster.kvctl_with_input(&["set", "k", "-"], &long_value[1..]).expect_code(0);
    let run = cluster.kvctl(&["get", "k", "-o", "value"]).expect_code(0);
    assert_eq!(run.stdout.len(), 1024 * 1024, "a value of exactly the limit is kept whole");
}

#[test]
fn off_loopback_a_server_wants_to_be_told_that_it_is_meant() {
    let cluster = Cluster::new(KVCTL, 1);
    let good = fs::read_to_string(cluster.config()).unwrap();
    let address = cluster.server("s1").address();
    let text = good.replace(&address.to_string(), "192.0.2.1:10000");
    let config = write_config(&cluster, "public.toml", &text);
    let run = serve("s1", &config, &[]).expect_code(2);
    assert!(run.stderr.contains("--insecure"), "{}", run.stderr);
    assert!(!cluster.server("s1").data().exists(), "a refused server leaves nothing behind");
}
