//! A cluster that has lost its majority for good goes on as a cluster of its last server, which
//! serves all that it had, grows again, and lets nobody of the old cluster in.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use verify::cluster::{Cluster, Run, Settings, clean_command, eventually, run, terminal};
use wal::{Inspector, Item, ReadOnlyDisk, Record};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(30);
const KEYS: u64 = 12;

/// A cluster of three with some keys, all applied everywhere.
fn filled() -> Cluster {
    // Segments that are quickly copied.
    let defaults = Settings::default();
    let extra = format!("{}\n[wal]\nsegment = \"8MiB\"\n", defaults.extra);
    let mut cluster = Cluster::with(KVCTL, &Settings { extra, ..defaults });
    cluster.start_all();
    cluster.leader();
    for number in 0..KEYS {
        cluster.kvctl(&["set", &format!("key-{number}"), "1"]).expect_code(0);
    }
    cluster.wait_until_level(LIMIT);
    cluster
}

fn data_of(cluster: &Cluster, id: &str) -> PathBuf {
    cluster.server(id).data().to_owned()
}

/// The line that recovers a directory of a cluster.
fn recover_line(data: &Path) -> Command {
    let directory = data.parent().expect("it lies in the cluster's");
    let mut command = clean_command(KVCTL);
    command.env("KVCTL_CONFIG", directory.join("kv.toml"));
    command.arg("recover").arg("--data").arg(data);
    command
}

fn recover(data: &Path, more: &[&str]) -> Run {
    run(recover_line(data), more, b"")
}

const MEANT: [&str; 5] = ["--cluster", "test", "--yes", "-o", "json"];

fn keys_at(cluster: &Cluster, id: &str, more: &[&str]) -> Option<u64> {
    let arguments = [&["get", "--prefix", "key-", "--count"], more].concat();
    let run = cluster.kvctl_at(cluster.server(id).address(), &arguments);
    run.stdout.trim().parse().ok()
}

/// Waits until a server, alone or not, answers a linearizable read of all keys.
fn wait_for_keys(cluster: &Cluster, id: &str, keys: u64) {
    eventually(&format!("{id} to serve {keys} keys"), LIMIT, || {
        (keys_at(cluster, id, &[]) == Some(keys)).then_some(())
    });
}

fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for item in fs::read_dir(directory).expect("it is there") {
        let path = item.expect("it can be listed").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.ends_with("LOCK") => {}
            false => found.push((path.clone(), fs::read(&path).expect("it can be read"))),
        }
    }
    found.sort();
    found
}

#[test]
fn the_last_of_three_serves_all_it_had_and_grows_and_the_others_are_refused() {
    let mut cluster = filled();
    cluster.kill_all();
    let data = data_of(&cluster, "s1");
    let before = files(&data);

    let done = recover(&data, &MEANT).expect_code(0).json();
    assert_eq!((&done["recovered"], &done["server"]), (&true.into(), &"s1".into()));
    assert_ne!(done["old_cluster_id"], done["new_cluster_id"]);
    assert_ne!(done["old_incarnation"], done["new_incarnation"]);
    assert_eq!(done["members"].as_array().map(Vec::len), Some(3));
    assert_eq!(done["losses"], Value::Array(Vec::new()));
    let after = files(&data);
    let is_kept = |old: &&(PathBuf, Vec<u8>)| !old.0.ends_with("identity");
    assert!(before.iter().filter(is_kept).all(|old| after.contains(old)), "all is there still");
    // Asked again, it has nothing to do.
    let again = recover(&data, &MEANT).expect_code(0).json();
    assert_eq!(again["recovered"], false);
    let kept = files(&data);
    assert!(kept == after, "and does nothing");

    cluster.start("s1");
    wait_for_keys(&cluster, "s1", KEYS);
    for _ in 0..2 {
        let id = cluster.start_joining();
        cluster.server(&id).story().wait_for_event("joining", LIMIT);
        let address = cluster.server(&id).address().to_string();
        let add = ["member", "add", &id, &address, "--timeout", "30s"];
        let run = cluster.kvctl_at(cluster.server("s1").address(), &add).expect_code(0);
        assert_eq!(run.stdout, format!("{id} votes\n"));
    }
    for id in ["s4", "s5"] {
        wait_for_keys(&cluster, id, KEYS);
    }
    cluster.kvctl_at(cluster.server("s4").address(), &["set", "key-new", "1"]).expect_code(0);

    for id in ["s2", "s3"] {
        cluster.start(id);
        let refused = |event: &Value| {
            event["event"] == "refused" && event["story"].to_string().contains("--join")
        };
        let told = cluster.server(id).story().wait_for("a refusal", LIMIT, refused);
        let story = told["story"].as_str().expect("a story");
        assert!(story.contains(&format!("move the directory of {id} away")), "{story}");
    }
    let list = ["member", "list", "-o", "json"];
    let list = cluster.kvctl_at(cluster.server("s4").address(), &list).expect_code(0).json();
    let ids: Vec<&str> = list["members"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| member["id"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids, ["s1", "s4", "s5"]);
    // It survives the loss of one, like any cluster of three.
    cluster.server_mut("s1").kill();
    wait_for_keys(&cluster, "s5", KEYS + 1);
    // And one of the old comes in as anybody does: with an empty directory.
    cluster.server_mut("s2").kill();
    cluster.server_mut("s3").kill();
}

#[test]
fn a_damaged_survivor_says_what_it_lost_and_serves_what_is_left() {
    let mut cluster = filled();
    cluster.kill_all();
    let data = data_of(&cluster, "s1");
    fs::remove_file(data.join("identity")).expect("it is there");
    let mut command = clean_command(KVCTL);
    command.arg("--config").arg(cluster.config());
    let told = run(command, &["serve", "--id", "s1"], b"").expect_code(10).stderr;
    assert!(told.contains("kvctl recover --data"), "{told}");

    let told = recover(&data, &MEANT).expect_code(2);
    assert!(told.stderr.contains("--id ID"), "{}", told.stderr);
    let done = recover(&data, &[&MEANT[..], &["--id", "s1"]].concat()).expect_code(0).json();
    let losses = done["losses"].to_string();
    assert!(losses.contains("identity is gone"), "{losses}");
    assert_eq!(done["old_incarnation"], Value::Null);
    cluster.start("s1");
    wait_for_keys(&cluster, "s1", KEYS);
    cluster.server_mut("s1").stop();

    // What counts now is seen by the other tools, under the server's directory and by itself.
    for place in [data.clone(), data.join("recovered-1/log")] {
        let place = place.to_str().expect("a path in UTF-8");
        cluster.kvctl(&["wal", "verify", "--data", place]).expect_code(0);
        let stat = cluster.kvctl(&["wal", "stat", "--data", place, "-o", "json"]);
        let stat = stat.expect_code(0).json();
        assert_eq!(stat["server"]["cluster_id"], done["new_cluster_id"], "{stat}");
        assert_eq!(stat["server"]["lost"], Value::Array(Vec::new()));
    }

    // Its own snapshot is gone and the log begins behind it: nothing can be served any more.
    let snapshots = data.join("recovered-1/snapshots");
    for file in fs::read_dir(&snapshots).expect("it is there") {
        fs::remove_file(file.expect("it can be listed").path()).expect("it can be removed");
    }
    let told = recover(&data, &MEANT).expect_code(10);
    let error: Value = serde_json::from_str(&told.stderr).expect("JSON was asked for");
    let message = error["error"]["message"].as_str().expect("a message");
    assert!(message.contains("nothing of it can be served: its log begins behind"), "{message}");
}

#[test]
fn a_recovered_log_that_is_repaired_with_loss_keeps_its_server_from_starting() {
    let mut cluster = filled();
    cluster.kill_all();
    let data = data_of(&cluster, "s1");
    recover(&data, &MEANT).expect_code(0);
    cluster.start("s1");
    wait_for_keys(&cluster, "s1", KEYS);
    for number in 0..5 {
        let set = ["set", &format!("key-after-{number}"), "1"];
        cluster.kvctl_at(cluster.server("s1").address(), &set).expect_code(0);
    }
    cluster.server_mut("s1").stop();
    let (segment, offset) = third_batch(&data.join("recovered-1/log"));
    let mut content = fs::read(&segment).expect("it can be read");
    // Behind the header of the batch stands its directory.
    content.iter_mut().skip(offset + 32).take(1).for_each(|byte| *byte ^= 1);
    fs::write(&segment, content).expect("it can be written");

    let place = data.to_str().expect("a path in UTF-8");
    let repair = ["wal", "repair", "--accept-data-loss", "--data", place];
    cluster.kvctl(&repair).expect_code(0);
    let mut command = clean_command(KVCTL);
    command.arg("--config").arg(cluster.config());
    let told = run(command, &["serve", "--id", "s1"], b"").expect_code(10).stderr;
    assert!(told.contains("a repair gave up a part of its log"), "{told}");
    // The snapshot still has all that was there before.
    let done = recover(&data, &MEANT).expect_code(0).json();
    assert!(done["losses"].to_string().contains("a repair gave up"), "{done}");
    cluster.start("s1");
    let kept = eventually("s1 to serve", LIMIT, || keys_at(&cluster, "s1", &[]));
    assert!((KEYS..KEYS + 5).contains(&kept), "{kept} keys");
}

/// Where the third batch with a command begins in the log of a stopped server.
fn third_batch(log: &Path) -> (PathBuf, usize) {
    let inspector = Inspector::open(ReadOnlyDisk::open(log).expect("it is there"));
    let (mut file, mut batch, mut found) = (PathBuf::new(), 0, Vec::new());
    let seen = inspector.expect("nobody uses it").dump(|item| {
        match item {
            Item::Segment { path, .. } => file = path.into(),
            Item::Batch { offset, .. } => batch = offset,
            Item::Record(Record::Entry { bytes, .. }) if bytes > 0 => {
                found.push((file.clone(), usize::try_from(batch).expect("a small file")));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    seen.expect("it can be read");
    found.into_iter().nth(2).expect("three commands were written")
}

#[test]
fn a_recovery_that_is_not_meant_or_makes_no_sense_changes_nothing() {
    let mut cluster = filled();
    let data = data_of(&cluster, "s1");
    let in_use = recover(&data, &MEANT).expect_code(6);
    assert!(in_use.stderr.contains("stop that first"), "{}", in_use.stderr);
    cluster.kill_all();
    let before = files(&data);

    let other = recover(&data, &["--cluster", "other", "--yes"]).expect_code(6);
    let words = "belongs to cluster \"test\", not to \"other\"";
    assert!(other.stderr.contains(words), "{}", other.stderr);
    let server = recover(&data, &[&MEANT[..], &["--id", "s2"]].concat()).expect_code(6);
    assert!(server.stderr.contains("belongs to server s1, not s2"), "{}", server.stderr);
    for hesitant in [&[][..], &["--yes"], &["--cluster", "test"]] {
        let told = recover(&data, hesitant).expect_code(2).stderr;
        for words in ["cannot be undone", "entries 1 to", "s3 ", "--cluster test --yes"] {
            assert!(told.contains(words), "{words} is missing: {told}");
        }
    }
    assert!(files(&data) == before, "nothing was changed");
    let made = fs::read_dir(&data).expect("it is there").flatten().map(|item| item.file_name());
    let made = made.filter(|name| name.to_string_lossy().starts_with("recovered-"));
    assert_eq!(made.count(), 0, "and nothing was left");

    let nowhere = cluster.directory().join("nowhere");
    recover(&nowhere, &MEANT).expect_code(2);
    assert!(!nowhere.exists(), "it is not made");
    fs::create_dir(&nowhere).expect("it can be made");
    let told = recover(&nowhere, &MEANT).expect_code(2);
    assert!(told.stderr.contains("no server's data directory"), "{}", told.stderr);
    assert_eq!(fs::read_dir(&nowhere).expect("it is there").count(), 0);
    recover(cluster.config(), &MEANT).expect_code(1);

    // All three are back, and nothing has happened.
    cluster.start_all();
    cluster.leader();
    wait_for_keys(&cluster, "s1", KEYS);
}

#[test]
fn while_a_server_of_the_old_cluster_answers_a_recovery_must_be_forced() {
    let mut cluster = filled();
    cluster.server_mut("s1").stop();
    let data = data_of(&cluster, "s1");
    let before = files(&data);
    let told = recover(&data, &MEANT).expect_code(6).stderr;
    for words in ["is not gone", "s2 at ", "s3 at ", "--force"] {
        assert!(told.contains(words), "{words} is missing: {told}");
    }
    assert!(files(&data) == before, "nothing was changed");
    let forced = recover(&data, &[&MEANT[..], &["--force"]].concat()).expect_code(0).json();
    assert_eq!(forced["recovered"], true);
}

/// A recovery that asks, at a terminal.
struct Asking {
    child: Child,
    terminal: File,
}

impl Asking {
    /// Waits until it has told what it would do and asks for the name.
    fn start(data: &Path) -> Asking {
        let (mut ours, theirs) = terminal();
        let mut command = recover_line(data);
        command.stdin(theirs.try_clone().expect("a terminal")).stderr(theirs);
        command.stdout(Stdio::null());
        let child = command.spawn().expect("kvctl can be started");
        let (mut seen, mut chunk) = (Vec::new(), [0; 1024]);
        let prompt = b"Type the name of the cluster";
        while !seen.windows(prompt.len()).any(|window| window == prompt) {
            let count = ours.read(&mut chunk).expect("it asks before it ends");
            seen.extend_from_slice(&chunk[..count]);
        }
        let told = String::from_utf8_lossy(&seen);
        for words in ["kept ", "not known ", "lost ", "s3 "] {
            assert!(told.contains(words), "{words} is missing: {told}");
        }
        Asking { child, terminal: ours }
    }

    fn answer(mut self, name: &str) -> Option<i32> {
        self.terminal.write_all(format!("{name}\n").as_bytes()).expect("it listens");
        let end = eventually("its end", LIMIT, || self.child.try_wait().expect("it is ours"));
        end.code()
    }
}

#[test]
fn at_a_terminal_the_name_of_the_cluster_must_be_typed_and_until_then_nothing_has_happened() {
    let mut cluster = filled();
    cluster.kill_all();
    let data = data_of(&cluster, "s1");
    let before = files(&data);
    assert_eq!(Asking::start(&data).answer("y"), Some(130));
    assert!(files(&data) == before, "a mere yes is not enough");

    // Everything is prepared and nothing counts yet when it is killed.
    let mut killed = Asking::start(&data);
    killed.child.kill().expect("it runs");
    killed.child.wait().expect("it is ours");
    let now = files(&data);
    assert!(before.iter().all(|old| now.contains(old)), "all is as it was");
    cluster.start_all();
    cluster.leader();
    wait_for_keys(&cluster, "s1", KEYS);
    cluster.kill_all();

    assert_eq!(Asking::start(&data).answer("test"), Some(0));
    cluster.start("s1");
    wait_for_keys(&cluster, "s1", KEYS);
}
