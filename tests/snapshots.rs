//! The state of a running cluster as a file: all that was acknowledged is in it, damage to it is
//! told with its place, and whoever saves one slowly or badly harms nobody.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kvstore::client::{Client, ClientOptions, Endpoint, Redirect, SnapshotStream};
use kvstore::wire::Consistency;
use serde_json::Value;
use verify::cluster::{Cluster, Run, clean_command, eventually, run};
use verify::rot::flip;

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(90);
const KEYS: u64 = 20;

/// More than sockets hold, in values of the largest size.
const LARGE_VALUES: u64 = 40;

fn filled(servers: u16) -> Cluster {
    let cluster = Cluster::started(KVCTL, servers);
    for number in 0..KEYS {
        cluster.kvctl(&["set", &format!("key-{number}"), "some value"]).expect_code(0);
    }
    cluster
}

fn path(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.directory().join(name)
}

fn look(cluster: &Cluster, how: &str, name: &str) -> Run {
    cluster.kvctl(&["snapshot", how, name, "-o", "json"])
}

/// What is in the directory of the cluster and looks like a snapshot, whole or not.
fn left(cluster: &Cluster) -> Vec<String> {
    let items = fs::read_dir(cluster.directory()).expect("it is there").flatten();
    let names = items.map(|item| item.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("snapshot")).collect()
}

#[test]
fn a_saved_snapshot_has_all_that_was_acknowledged_whichever_server_gives_it() {
    let cluster = filled(3);
    let follower = cluster.server(&cluster.follower()).address();
    let run = cluster.kvctl_at(follower, &["snapshot", "save", "a.snapshot", "-o", "json"]);
    let saved = run.expect_code(0).json();
    assert_eq!((&saved["keys"], &saved["revision"]), (&KEYS.into(), &KEYS.into()));
    assert!(saved["sessions"].as_u64().is_some_and(|sessions| sessions >= KEYS), "{saved}");
    assert_eq!(saved["members"].as_array().map(Vec::len), Some(3));
    assert_eq!(saved["bytes"], fs::metadata(path(&cluster, "a.snapshot")).unwrap().len());

    let inspected = look(&cluster, "inspect", "a.snapshot").expect_code(0).json();
    assert_eq!(inspected, saved);
    let verified = look(&cluster, "verify", "a.snapshot").expect_code(0).json();
    assert_eq!((&verified["whole"], &verified["bytes"]), (&true.into(), &saved["bytes"]));
    let text = cluster.kvctl(&["snapshot", "inspect", "a.snapshot"]).expect_code(0).stdout;
    for words in ["keys      20", "revision  20", "s2 ", "voter", "hash      "] {
        assert!(text.contains(words), "{words} is missing: {text}");
    }
    let text = cluster.kvctl(&["snapshot", "verify", "a.snapshot"]).expect_code(0).stdout;
    assert!(text.starts_with("a.snapshot is whole"), "{text}");

    // Nobody writes: a second one is of the same state, and equal states make equal files.
    cluster.kvctl(&["snapshot", "save", "b.snapshot"]).expect_code(0);
    let files = ["a.snapshot", "b.snapshot"].map(|name| fs::read(path(&cluster, name)).unwrap());
    assert!(files[0] == files[1]);
}

#[test]
fn a_name_that_is_taken_or_cannot_be_written_is_refused_and_nothing_is_left() {
    let mut cluster = filled(1);
    fs::write(path(&cluster, "taken.snapshot"), "mine").unwrap();
    fs::create_dir(path(&cluster, "directory.snapshot")).unwrap();
    for taken in ["taken.snapshot", "directory.snapshot"] {
        let told = cluster.kvctl(&["snapshot", "save", taken]).expect_code(6);
        assert!(told.stderr.contains("exists already"), "{}", told.stderr);
    }
    assert_eq!(fs::read(path(&cluster, "taken.snapshot")).unwrap(), b"mine");
    cluster.kvctl(&["snapshot", "save", "nowhere/a.snapshot"]).expect_code(1);
    assert!(!path(&cluster, "nowhere").exists());

    // A file that may not grow is as good as a full disk.
    let run = with_limit(&cluster, "trap '' XFSZ; ulimit -f 2", "a.snapshot").expect_code(1);
    assert!(run.stderr.contains("nothing is left of it"), "{}", run.stderr);
    let mut found = left(&cluster);
    found.sort();
    assert_eq!(found, ["directory.snapshot", "taken.snapshot"]);

    cluster.server_mut("s1").kill();
    let arguments = ["snapshot", "save", "a.snapshot", "--timeout", "500ms"];
    cluster.kvctl(&arguments).expect_code(3);
    assert!(!path(&cluster, "a.snapshot").exists());
}

/// Saves a snapshot in a shell that has set a limit before.
fn with_limit(cluster: &Cluster, limit: &str, name: &str) -> Run {
    let mut command = Command::new("sh");
    command.env("KVCTL_CONFIG", cluster.config()).current_dir(cluster.directory());
    let line = format!("{limit}; exec \"$0\" snapshot save {name}");
    run(command, &["-c", &line, KVCTL], b"")
}

#[test]
fn a_damaged_file_is_told_from_a_whole_one_with_the_place() {
    let cluster = filled(1);
    cluster.kvctl(&["snapshot", "save", "whole.snapshot"]).expect_code(0);
    let whole = fs::read(path(&cluster, "whole.snapshot")).unwrap();
    let length = whole.len() as u64;
    let damaged = path(&cluster, "damaged.snapshot");
    // In the first header, its members, the state, the members again and the second header.
    for at in [20, 530, 1200, length - 1000, length - 500] {
        fs::write(&damaged, &whole).unwrap();
        flip(&damaged, at);
        let verdict = look(&cluster, "verify", "damaged.snapshot").expect_code(10);
        let flaws = verdict.json()["damaged"].as_array().expect("a list").clone();
        let [flaw] = &flaws[..] else { panic!("byte {at}: {flaws:?}") };
        let (offset, bytes) = (flaw["offset"].as_u64().unwrap(), flaw["bytes"].as_u64().unwrap());
        assert!((offset..offset + bytes).contains(&at), "byte {at}: {flaw}");
        let text = cluster.kvctl(&["snapshot", "verify", "damaged.snapshot"]).expect_code(10);
        assert!(text.stdout.contains(&format!("offset {offset}")), "{}", text.stdout);
    }
    // The state cannot be read, but what it stands for can.
    fs::write(&damaged, &whole).unwrap();
    flip(&damaged, 1200);
    let inspected = look(&cluster, "inspect", "damaged.snapshot").expect_code(10);
    assert_eq!(inspected.json()["keys"], Value::Null);
    assert_eq!(inspected.json()["bytes"], length);

    for cut in [0, 100, 600, whole.len() / 2, whole.len() - 1] {
        fs::write(&damaged, &whole[..cut]).unwrap();
        for how in ["verify", "inspect"] {
            let told = look(&cluster, how, "damaged.snapshot").expect_code(10).stderr;
            assert!(told.contains("damaged.snapshot"), "{told}");
        }
    }
    let told = look(&cluster, "verify", "damaged.snapshot").stderr;
    assert!(told.contains(&format!("has {} bytes and should have {length}", length - 1)), "{told}");
    fs::write(&damaged, [&whole[..], b"more"].concat()).unwrap();
    look(&cluster, "verify", "damaged.snapshot").expect_code(10);
    look(&cluster, "verify", "kv.toml").expect_code(10);
    look(&cluster, "verify", "nothing.snapshot").expect_code(1);
    look(&cluster, "verify", "s1").expect_code(1);
    look(&cluster, "verify", ".").expect_code(2);
}

#[test]
fn a_servers_own_snapshots_can_be_looked_at_as_well() {
    let mut cluster = filled(3);
    cluster.kill_all();
    let data = cluster.server("s1").data().to_owned();
    let mut command = clean_command(KVCTL);
    command.args(["recover", "--cluster", "test", "--yes", "--data"]).arg(&data);
    run::<&str>(command, &[], b"").expect_code(0);
    let snapshots = fs::read_dir(data.join("recovered-1/snapshots")).unwrap().flatten();
    let own: Vec<PathBuf> = snapshots.map(|item| item.path()).collect();
    let [own] = &own[..] else { panic!("one snapshot is expected, not {own:?}") };
    let own = own.to_str().unwrap();
    look(&cluster, "verify", own).expect_code(0);
    let inspected = look(&cluster, "inspect", own).expect_code(0).json();
    assert_eq!(inspected["keys"], KEYS);
    assert_eq!(inspected["members"].as_array().map(Vec::len), Some(1));
}

/// A server with more in it than sockets hold.
fn large() -> Cluster {
    let cluster = Cluster::started(KVCTL, 1);
    let value = vec![b'v'; 1 << 20];
    for number in 0..LARGE_VALUES {
        cluster.kvctl_with_input(&["set", &format!("large-{number}"), "-"], &value).expect_code(0);
    }
    cluster
}

/// Begins to read the state and stops there.
async fn begin(cluster: &Cluster) -> SnapshotStream {
    let address = cluster.server("s1").address().to_string();
    let endpoints = vec![Endpoint { id: None, address }];
    let (timeout, redirect) = (Duration::from_secs(20), Redirect::Follow);
    let options = ClientOptions { endpoints, cluster: None, timeout, redirect };
    let client = Client::new(options).expect("the options make sense");
    let mut stream = client.snapshot(Consistency::Linearizable).await.expect("a server answers");
    stream.next().await.expect("it begins").expect("it is not empty");
    stream
}

#[test]
fn to_save_a_snapshot_takes_no_more_memory_than_a_part_of_it() {
    let cluster = large();
    // All memory that may be written to: a fraction of the state.
    with_limit(&cluster, "ulimit -d 24000", "large.snapshot").expect_code(0);
    let inspected = look(&cluster, "inspect", "large.snapshot").expect_code(0).json();
    assert_eq!(inspected["keys"], LARGE_VALUES);
    assert!(inspected["bytes"].as_u64().unwrap() > LARGE_VALUES << 20);
}

#[test]
fn clients_that_vanish_or_dawdle_keep_neither_the_server_nor_others_for_long() {
    let cluster = large();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let save =
        |name: &str| cluster.kvctl(&["snapshot", "save", name, "--timeout", "2s"]).code == Some(0);
    for _ in 0..6 {
        drop(runtime.block_on(begin(&cluster)));
    }
    eventually("the vanished to be forgotten", LIMIT, || save("a.snapshot").then_some(()));

    let dawdlers: Vec<SnapshotStream> = (0..4).map(|_| runtime.block_on(begin(&cluster))).collect();
    let run = cluster.kvctl(&["snapshot", "save", "b.snapshot", "--timeout", "1s"]).expect_code(6);
    assert!(run.stderr.contains("too many snapshots"), "{}", run.stderr);
    cluster.kvctl(&["set", "small", "1"]).expect_code(0);
    // Nobody reads on, and still their time ends.
    eventually("the dawdlers to be cut off", LIMIT, || save("c.snapshot").then_some(()));
    drop(dawdlers);
    let pid = cluster.server("s1").pid();
    assert!(threads(pid) < 20, "{} threads", threads(pid));
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").count()
}
