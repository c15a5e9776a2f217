//! `kvctl wal` on the directories of real servers: what it finds, what it mends, what it refuses to
//! give up, and that looking leaves no trace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use tempfile::TempDir;
use verify::cluster::{Cluster, Run, Settings, clean_command, eventually, run};
use verify::rot::flip;

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(20);
const SETTINGS: &str = "[raft]\nheartbeat = \"50ms\"\nelection = \"500ms..1s\"\n\
                        [wal]\nsegment = \"5MiB\"\n";

fn kvctl(arguments: &[&str]) -> Run {
    run(clean_command(KVCTL), arguments, b"")
}

/// `kvctl wal COMMAND --data DIRECTORY ARGUMENTS`.
fn wal(command: &str, directory: &Path, arguments: &[&str]) -> Run {
    let directory = directory.to_str().unwrap();
    kvctl(&[&["wal", command, "--data", directory], arguments].concat())
}

/// A cluster with small segments that has a leader.
fn cluster(servers: u16) -> Cluster {
    let settings = Settings { servers, extra: SETTINGS.to_owned() };
    let mut cluster = Cluster::with(KVCTL, &settings);
    cluster.start_all();
    cluster.leader();
    cluster
}

/// A cluster of one that was written to and then killed, and the directory of its server.
fn killed() -> (Cluster, PathBuf) {
    let mut cluster = cluster(1);
    // The value of the last write reaches over several sectors.
    let long = "x".repeat(3000);
    for arguments in
        [["set", "ana", "4"], ["set", "d", "8"], ["set", "e", "9"], ["set", "long", &long]]
    {
        cluster.kvctl(&arguments).expect_code(0);
    }
    cluster.kill_all();
    let data = cluster.server("s1").data().to_path_buf();
    (cluster, data)
}

/// The lines of a dump, as objects.
fn records(directory: &Path) -> Vec<Value> {
    let dump = wal("dump", directory, &["-o", "jsonl"]).expect_code(0).stdout;
    dump.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The record of an entry with this command.
fn record_of(directory: &Path, command: &str) -> Value {
    let records = records(directory);
    let found = records.iter().find(|record| record["command"] == command);
    found.unwrap_or_else(|| panic!("no {command:?} in {records:?}")).clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn segment(data: &Path) -> PathBuf {
    data.join("log/0000000000000001.wal")
}

/// Every file below a directory, with its content and the time of its last change.
fn trace(directory: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for item in fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        if path.is_dir() {
            files.insert(path.clone(), (changed, Vec::new()));
            files.extend(trace(&path));
        } else {
            files.insert(path.clone(), (changed, fs::read(&path).unwrap()));
        }
    }
    files
}

/// Fails unless looking leaves everything as it is.
fn assert_no_trace(directory: &Path, look: impl FnOnce()) {
    let before = trace(directory);
    look();
    assert!(trace(directory) == before, "something was changed in {}", directory.display());
}

/// The one thing that `wal verify` finds.
fn finding(directory: &Path, code: i32) -> Value {
    let run = wal("verify", directory, &["-o", "json"]).expect_code(code);
    let report = run.json();
    assert_eq!(report["exit"], code);
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings[0].clone()
}

#[test]
fn a_server_that_was_stopped_in_a_live_cluster_is_whole_and_its_log_can_be_read() {
    let mut cluster = cluster(3);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    let id = cluster.follower();
    cluster.server_mut(&id).stop();
    let data = cluster.server(&id).data().to_path_buf();
    assert_no_trace(&data, || {
        let report = wal("verify", &data, &["-o", "json"]).expect_code(0).json();
        assert_eq!((&report["condition"], &report["exit"]), (&"clean".into(), &0.into()));
        wal("verify", &data.join("log"), &[]).expect_code(0);

        let entry = record_of(&data, "set ana 4");
        assert_eq!((&entry["kind"], &entry["payload"]), (&"command".into(), &"whole".into()));
        let text = wal("dump", &data, &[]).expect_code(0).stdout;
        for expected in ["members s1 s2 s3", "(a leader begins term", "set ana 4", "vote for"] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }

        let stat = wal("stat", &data, &["-o", "json"]).expect_code(0).json();
        assert_eq!(stat["server"]["id"], id.as_str());
        assert_eq!(stat["server"]["cluster"], "test");
        assert!(number(&stat["last"]["index"]) >= number(&entry["index"]));
        assert_eq!(stat["hard_state"]["term"], stat["last"]["term"]);
        assert_eq!(stat["segments"][0]["role"], "active");
        let text = wal("stat", &data, &[]).expect_code(0).stdout;
        assert!(text.contains("promised   term ") && text.contains(&format!("server     {id}, ")));
    });
    cluster.kvctl(&["set", "d", "8"]).expect_code(0);
    cluster.start(&id);
    cluster.wait_until_level(LIMIT);
}

#[test]
fn a_part_of_a_log_is_shown_and_a_reader_may_go_away() {
    let (cluster, data) = killed();
    let (first, second) = (record_of(&data, "set ana 4"), record_of(&data, "set d 8"));
    let (from, to) = (first["index"].to_string(), second["index"].to_string());
    let dump = wal("dump", &data, &["--from", &from, "--to", &to, "-o", "json"]).expect_code(0);
    assert_eq!(dump.json(), Value::Array(vec![first, second]));

    let mut command = clean_command(KVCTL);
    command.args(["wal", "dump", "--data"]).arg(&data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(ended.stderr, b"", "a closed pipe is no error");

    let config = cluster.config().to_str().unwrap();
    kvctl(&["wal", "verify", "--id", "s1", "--config", config]).expect_code(0);
    kvctl(&["wal", "verify", "--id", "s9", "--config", config]).expect_code(2);
    kvctl(&["wal", "verify"]).expect_code(2);
}

#[test]
fn a_flipped_bit_in_the_middle_is_damage_with_index_and_term_and_no_repair_drops_it() {
    let (mut cluster, data) = killed();
    let entry = record_of(&data, "set ana 4");
    flip(&segment(&data), number(&entry["offset"]) + 5);
    assert_no_trace(&data, || {
        let found = finding(&data, 10);
        assert_eq!(found["kind"], "lost_payload");
        assert_eq!((&found["segment"], &found["index"]), (&1.into(), &entry["index"]));
        assert_eq!(found["term"], entry["term"]);
        assert!(number(&found["offset"]) < number(&entry["offset"]), "where its batch begins");
        let text = wal("verify", &data, &[]).expect_code(10);
        let words = format!("entry {}, term {}, is lost", entry["index"], entry["term"]);
        assert!(text.stdout.contains(&words), "{}", text.stdout);
        assert!(text.stderr.contains("start s1, and it asks"), "{}", text.stderr);

        let dump = wal("dump", &data, &[]).expect_code(0).stdout;
        assert!(dump.contains("LOST: ") && dump.contains("set d 8"), "it goes on behind:\n{dump}");
        wal("stat", &data, &[]).expect_code(0);
    });
    let before = fs::read(segment(&data)).unwrap();
    for arguments in [&[][..], &["--accept-data-loss", "--yes"]] {
        let refused = wal("repair", &data, arguments).expect_code(10);
        assert!(refused.stderr.contains("the other servers"), "{}", refused.stderr);
    }
    assert!(fs::read(segment(&data)).unwrap() == before, "the place of the payload is kept");
    // Alone, the server has nobody to ask for it.
    cluster.start("s1");
    cluster.server("s1").story().wait_for_event("irreparable", LIMIT);
    cluster.server_mut("s1").stop();
    assert_eq!(finding(&data, 10)["kind"], "lost_payload");
    flip(&segment(&data), number(&entry["offset"]) + 5);
    wal("verify", &data, &[]).expect_code(0);
}

/// Zeroes what a power cut might not have written: the later sectors of the last batch.
fn tear(data: &Path) {
    let last = records(data).pop().unwrap();
    let (offset, bytes) = (number(&last["offset"]), number(&last["bytes"]));
    assert!(bytes > 2048, "the last batch reaches over several sectors: {last}");
    let file = File::options().write(true).open(segment(data)).unwrap();
    let sector = (offset + bytes / 2).next_multiple_of(512);
    file.write_all_at(&vec![0; (offset + bytes - sector + 8) as usize], sector).unwrap();
}

#[test]
fn a_torn_end_is_told_from_damage_and_repaired_without_loss_of_anything_else() {
    let (mut cluster, data) = killed();
    let offset = number(&records(&data).pop().unwrap()["offset"]);
    tear(&data);
    assert_no_trace(&data, || {
        let found = finding(&data, 11);
        assert_eq!((&found["kind"], &found["segment"]), (&"torn".into(), &1.into()));
        assert!(number(&found["offset"]) < offset, "the whole batch goes");
        let json = wal("verify", &data, &["-o", "json"]).stderr;
        let error: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&error["error"]["kind"], &error["error"]["exit"]),
            (&"torn".into(), &11.into())
        );
    });
    let repaired = wal("repair", &data, &[]).expect_code(0);
    assert!(repaired.stdout.contains("removed a last write"), "{}", repaired.stdout);
    wal("verify", &data, &[]).expect_code(0);
    assert_no_trace(&data, || {
        assert_eq!(wal("repair", &data, &[]).expect_code(0).stdout, "nothing to repair\n");
    });
    cluster.start("s1");
    cluster.leader();
    assert_eq!(cluster.kvctl(&["get", "e"]).expect_code(0).stdout, "9\n");
    cluster.kvctl(&["get", "long"]).expect_code(4);
}

#[test]
fn a_server_starts_over_a_torn_end_by_itself() {
    let (mut cluster, data) = killed();
    tear(&data);
    cluster.start("s1");
    cluster.leader();
    assert_eq!(cluster.kvctl(&["get", "e"]).expect_code(0).stdout, "9\n");
    cluster.kill_all();
    wal("verify", &data, &[]).expect_code(0);
}

#[test]
fn what_other_bytes_repeat_is_made_again_to_the_last_bit() {
    let (_cluster, data) = killed();
    let whole = fs::read(segment(&data)).unwrap();
    let entry = records(&data)
        .into_iter()
        .find(|record| record["kind"] == "command" && !number(&record["bytes"]).is_multiple_of(8));
    let entry = entry.expect("a payload with padding behind it");
    flip(&segment(&data), number(&entry["offset"]) + number(&entry["bytes"]));
    let found = finding(&data, 10);
    assert_eq!((&found["kind"], &found["segment"]), (&"mendable".into(), &1.into()));
    let repaired = wal("repair", &data, &[]).expect_code(0).stdout;
    assert!(repaired.contains("made again what was rotten"), "{repaired}");
    assert!(fs::read(segment(&data)).unwrap() == whole);
    wal("verify", &data, &[]).expect_code(0);
}

/// Flips a bit of the directory of the batch that holds an entry: its history is lost.
fn lose_history(data: &Path, command: &str) -> Value {
    let entry = record_of(data, command);
    flip(&segment(data), number(&entry["offset"]) - 10);
    entry
}

#[test]
fn lost_history_is_given_up_only_when_that_is_asked_for_and_the_server_never_votes_again() {
    let (mut cluster, data) = killed();
    let entry = lose_history(&data, "set d 8");
    let found = finding(&data, 10);
    assert_eq!(found["kind"], "lost_history");
    assert_eq!((&found["lost"]["from"], &found["lost"]["to"]), (&entry["index"], &entry["index"]));
    assert_eq!(found["lost"]["term_max"], entry["term"]);
    assert_no_trace(&data, || {
        wal("stat", &data, &[]).expect_code(10);
        let refused = wal("repair", &data, &[]).expect_code(10);
        let (lost, term) = (number(&entry["index"]), &entry["term"]);
        let (behind, left) = (lost + 1, lost - 1);
        for account in [
            format!("lost already: entry {lost} of term {term}"),
            format!("given up with that: entries {behind}..={} of term {term}", lost + 2),
            format!("left: entries 1..={left}"),
            "--accept-data-loss".to_owned(),
        ] {
            assert!(refused.stderr.contains(&account), "{account:?} not in\n{}", refused.stderr);
        }
    });
    let damaged = fs::read(segment(&data)).unwrap();
    let repaired = wal("repair", &data, &["--accept-data-loss", "-o", "json"]).expect_code(0);
    let backup = repaired.json()["backup"].as_str().map(PathBuf::from).unwrap();
    assert!(fs::read(backup.join("0000000000000001.wal")).unwrap() == damaged, "it is a copy");
    assert!(repaired.stderr.contains("kvctl member replace s1"), "{}", repaired.stderr);

    assert_eq!(records(&data).last().unwrap()["index"], number(&entry["index"]) - 1);
    let marked = finding(&data, 10);
    assert_eq!(marked["kind"], "lost_history");
    assert!(marked["message"].as_str().unwrap().contains("a repair gave up a part of its log"));
    wal("repair", &data, &[]).expect_code(10);

    let before = trace(&data);
    cluster.start("s1");
    assert_eq!(cluster.server_mut("s1").wait().code(), Some(10));
    for expected in ["gave up", "must neither vote", "kvctl member replace s1"] {
        // What it said last may be read after its end was seen.
        eventually(&format!("{expected:?} on stderr"), LIMIT, || {
            let told = cluster.server("s1").story().lines().join("\n");
            told.contains(expected).then_some(())
        });
    }
    assert!(trace(&data) == before, "the start changed something");

    // A second repair copies to another place.
    lose_history(&data, &format!("(a leader begins term {})", entry["term"]));
    let again = wal("repair", &data, &["--accept-data-loss", "-o", "json"]).expect_code(10);
    assert_ne!(again.json()["backup"].as_str().map(PathBuf::from).unwrap(), backup);
    assert!(fs::read(backup.join("0000000000000001.wal")).unwrap() == damaged);
}

#[test]
fn a_log_by_itself_that_was_repaired_with_loss_is_marked_too() {
    let (mut cluster, data) = killed();
    lose_history(&data, "set d 8");
    let apart = cluster.directory().join("apart");
    fs::rename(data.join("log"), &apart).unwrap();
    wal("repair", &apart, &["--accept-data-loss"]).expect_code(0);
    assert!(cluster.directory().join("apart.backup-1").is_dir());
    fs::rename(&apart, data.join("log")).unwrap();
    cluster.start("s1");
    assert_eq!(cluster.server_mut("s1").wait().code(), Some(10), "the mark came along");
}

/// How a command ends whose output goes to a pipe that nobody reads any more, and to a full disk.
fn ends_unread(command: &str, data: &Path, arguments: &[&str]) -> [Option<i32>; 2] {
    let (reader, unread) = std::io::pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full").unwrap();
    [Stdio::from(unread), full.into()].map(|output| {
        let mut kvctl = clean_command(KVCTL);
        kvctl.args(["wal", command, "--data"]).arg(data).args(arguments);
        kvctl.stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).status().unwrap().code()
    })
}

#[test]
fn whoever_stops_reading_does_not_make_damage_look_whole() {
    let (_cluster, data) = killed();
    for format in ["text", "json", "jsonl"] {
        // What could not be told is no success, unless nobody wanted to be told.
        assert_eq!(ends_unread("verify", &data, &["-o", format]), [Some(0), Some(1)]);
        assert_eq!(ends_unread("dump", &data, &["-o", format]), [Some(0), Some(1)]);
        assert_eq!(ends_unread("stat", &data, &["-o", format]), [Some(0), Some(1)]);
    }
    let entry = record_of(&data, "set ana 4");
    flip(&segment(&data), number(&entry["offset"]) + 5);
    for format in ["text", "json", "jsonl"] {
        assert_eq!(ends_unread("verify", &data, &["-o", format]), [Some(10); 2]);
        assert_eq!(ends_unread("repair", &data, &["-o", format]), [Some(10); 2]);
    }
    flip(&segment(&data), number(&entry["offset"]) + 5);
    tear(&data);
    assert_eq!(ends_unread("verify", &data, &[]), [Some(11); 2]);
    wal("repair", &data, &[]).expect_code(0);
    lose_history(&data, "set d 8");
    for command in ["verify", "stat", "repair"] {
        assert_eq!(ends_unread(command, &data, &[]), [Some(10); 2], "{command}");
    }
}

/// A terminal: this end of it, and the end that a program takes for one.
fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (ours.into(), theirs)
}

/// Runs a lossy repair on a terminal where somebody types `answer`, and returns how it ended.
fn repair_on_a_terminal(data: &Path, answer: &[u8]) -> Option<i32> {
    let (mut ours, theirs) = terminal();
    let mut command = clean_command(KVCTL);
    command.args(["wal", "repair", "--accept-data-loss", "--data"]).arg(data);
    command.env("TERM", "xterm").stdout(Stdio::piped());
    command.stdin(theirs.try_clone().unwrap()).stderr(theirs);
    // Whoever types ahead is read when the question comes.
    ours.write_all(answer).unwrap();
    let mut child = command.spawn().unwrap();
    drop(command);
    let screen = std::thread::spawn(move || {
        let mut chunk = [0; 1024];
        // The end of the program that has the other end is an error here.
        while ours.read(&mut chunk).is_ok_and(|count| count > 0) {}
    });
    let status = child.wait().unwrap();
    screen.join().unwrap();
    status.code()
}

#[test]
fn on_a_terminal_nothing_is_given_up_before_somebody_said_yes() {
    let (_cluster, data) = killed();
    lose_history(&data, "set d 8");
    assert_no_trace(&data, || {
        assert_eq!(repair_on_a_terminal(&data, b"n\n"), Some(130));
    });
    assert_eq!(repair_on_a_terminal(&data, b"y\n"), Some(0));
    assert!(data.join("log.backup-1").is_dir() && data.join("lost-history").is_file());
}

#[test]
fn a_running_server_is_not_looked_at() {
    let cluster = cluster(1);
    let data = cluster.server("s1").data();
    for command in ["stat", "dump", "verify", "repair"] {
        for directory in [data.to_path_buf(), data.join("log")] {
            let refused = wal(command, &directory, &[]).expect_code(1);
            let expected = "is in use by a running server";
            assert!(refused.stderr.contains(expected), "{command}: {}", refused.stderr);
        }
    }
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
}

#[test]
fn what_is_no_log_is_left_alone_and_said_to_be_none() {
    let directory = TempDir::with_prefix("kvctl-suite-").unwrap();
    fs::write(directory.path().join("notes.txt"), "nothing of interest").unwrap();
    let missing = directory.path().join("missing");
    let file = directory.path().join("notes.txt");
    assert_no_trace(directory.path(), || {
        for command in ["stat", "dump", "verify", "repair"] {
            for (place, why) in [
                (directory.path(), "holds neither a server's data nor a log"),
                (&missing, "there is no such directory"),
                (&file, "it is not a directory"),
            ] {
                let run = wal(command, place, &[]).expect_code(1);
                assert!(run.stderr.contains(why), "{command}: {}", run.stderr);
                assert_eq!(run.stdout, "");
            }
        }
    });
}

#[test]
fn garbage_in_every_file_is_damage_and_no_accident() {
    let (_cluster, data) = killed();
    for name in ["identity", "founding", "log/0000000000000001.wal"] {
        let path = data.join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, vec![0x5a; whole.len()]).unwrap();
        assert_no_trace(&data, || {
            let run = wal("verify", &data, &["-o", "json"]).expect_code(10);
            assert_eq!(run.json()["findings"][0]["kind"], "lost_history", "{name}");
            let dumped = wal("dump", &data, &[]).expect_code(0).stdout;
            assert!(dumped.contains("BROKEN") == name.ends_with(".wal"), "{name}:\n{dumped}");
        });
        wal("repair", &data, &["--accept-data-loss", "--yes"]).expect_code(10);
        fs::write(&path, &whole).unwrap();
        wal("verify", &data, &[]).expect_code(0);
    }
}

#[test]
fn one_rotten_copy_of_the_identity_is_found_and_the_next_start_mends_it() {
    let (mut cluster, data) = killed();
    flip(&data.join("identity"), 30);
    assert_eq!(finding(&data, 10)["kind"], "mendable");
    wal("repair", &data, &[]).expect_code(0);
    cluster.start("s1");
    cluster.leader();
    cluster.kill_all();
    wal("verify", &data, &[]).expect_code(0);
}

#[test]
fn a_directory_that_cannot_be_written_to_can_be_looked_at() {
    let (cluster, data) = killed();
    // As in a copy that was made without them.
    fs::remove_file(data.join("LOCK")).unwrap();
    fs::remove_file(data.join("log/LOCK")).unwrap();
    let mount = cluster.directory().join("mount");
    fs::create_dir(&mount).unwrap();
    let script = r#"
        mount --bind "$2" "$3" && mount -o remount,ro,bind "$3" || exit 99
        touch "$3/x" 2>/dev/null && exit 98
        for command in stat dump verify; do "$1" wal $command --data "$3" || exit 97; done
        "$1" wal repair --data "$3" || exit 96
    "#;
    assert_no_trace(&data, || {
        let command = clean_command("unshare");
        let (data, mount) = (data.to_str().unwrap(), mount.to_str().unwrap());
        let arguments = ["-m", "sh", "-c", script, "sh", KVCTL, data, mount];
        if !rustix::process::getuid().is_root() {
            // The owner cannot mount, but root's powers are not in the way of a mode either.
            eprintln!("not root: a directory without the right to write stands in for a mount");
            let commands = ["stat", "dump", "verify"];
            let data = Path::new(data);
            let runs = without_the_right_to_write(data, || commands.map(|it| wal(it, data, &[])));
            runs.into_iter().for_each(|run| drop(run.expect_code(0)));
            return;
        }
        let run = run(command, &arguments, b"");
        assert!(run.code == Some(0), "{:?}\n{}\n{}", run.code, run.stdout, run.stderr);
    });
}

#[test]
fn what_cannot_be_written_to_is_not_repaired_and_is_told_what_a_repair_would_do() {
    let (cluster, data) = killed();
    lose_history(&data, "set d 8");
    let mount = cluster.directory().join("mount");
    fs::create_dir(&mount).unwrap();
    let script = r#"
        mount --bind "$2" "$3" && mount -o remount,ro,bind "$3" || exit 99
        "$1" wal repair --data "$3"; [ $? = 10 ] || exit 98
        "$1" wal repair --data "$3" --accept-data-loss; [ $? = 1 ] || exit 97
    "#;
    assert_no_trace(&data, || {
        let (path, mount) = (data.to_str().unwrap(), mount.to_str().unwrap());
        let told = if rustix::process::getuid().is_root() {
            let arguments = ["-m", "sh", "-c", script, "sh", KVCTL, path, mount];
            run(clean_command("unshare"), &arguments, b"").expect_code(0).stderr
        } else {
            without_the_right_to_write(&data, || {
                let plan = wal("repair", &data, &[]).expect_code(10).stderr;
                plan + &wal("repair", &data, &["--accept-data-loss"]).expect_code(1).stderr
            })
        };
        for expected in ["given up with that: entries", "nothing was changed"] {
            assert!(told.contains(expected), "{expected:?} not in\n{told}");
        }
    });
}

/// Looks while the owner may write neither to the server's directory nor to that of its log.
fn without_the_right_to_write<T>(data: &Path, look: impl FnOnce() -> T) -> T {
    use std::os::unix::fs::PermissionsExt;
    let allow = |mode| {
        for path in [data.to_path_buf(), data.join("log")] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(0o555);
    let seen = look();
    allow(0o755);
    seen
}
