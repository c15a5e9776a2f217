//! The command line as scripts see it: what is printed where, and what the process ends with.

use std::time::Duration;

use serde_json::{Value, json};
use verify::cluster::{Cluster, clean_command, run};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(20);

/// Runs `kvctl` with no cluster in sight.
fn alone(arguments: &[&str]) -> verify::cluster::Run {
    let directory = tempfile::tempdir().unwrap();
    let mut command = clean_command(KVCTL);
    command.current_dir(directory.path());
    run(command, arguments, b"")
}

fn error(text: &str) -> Value {
    let error: Value = serde_json::from_str(text)
        .unwrap_or_else(|error| panic!("stderr is not JSON ({error}):\n{text}"));
    error["error"].clone()
}

#[test]
fn help_and_version_need_no_server() {
    let overview = alone(&["--help"]).expect_code(0).stdout;
    let data = ["get", "set", "del", "cas", "show"];
    let cluster = ["status", "log", "serve", "member", "leader", "snapshot", "wal", "recover"];
    let others = ["demo", "shell", "bench", "help", "completions", "version"];
    for command in data.into_iter().chain(cluster).chain(others) {
        assert!(overview.contains(&format!("\n  {command} ")), "{command}: {overview}");
        let help = alone(&["help", command]).expect_code(0).stdout;
        assert!(help.contains("Example"), "{command} has no example:\n{help}");
    }
    assert!(alone(&["help", "exit-codes"]).expect_code(0).stdout.contains("124"));
    assert!(alone(&["version"]).expect_code(0).stdout.starts_with("kvctl "));
    assert!(alone(&["--version"]).expect_code(0).stdout.starts_with("kvctl "));
    assert!(alone(&["completions", "bash"]).expect_code(0).stdout.contains("kvctl"));
}

#[test]
fn a_wrong_use_ends_with_2() {
    for arguments in [
        &["set", "only-a-key"][..],
        &["get"],
        &["get", "a", "--prefix", "b"],
        &["no-such-command"],
        &["set", "a", "1", "--if-absent", "--if-rev", "3"],
        &["get", "a", "--timeout", "5"],
        &["-e", "no-port", "get", "a"],
        &["set", "a", "1", "--request", "nonsense"],
        &["help", "no-such-topic"],
    ] {
        let run = alone(arguments).expect_code(2);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{arguments:?}");
    }
    let run = alone(&["-o", "json", "set", "only-a-key"]).expect_code(2);
    assert_eq!(error(&run.stderr)["kind"], "usage");
}

#[test]
fn no_server_in_sight_ends_with_3() {
    for arguments in [&["set", "a", "1"][..], &["get", "a"], &["status"], &["log"]] {
        let address = verify::cluster::free_addresses(1)[0].to_string();
        let arguments = [&["-e", &address, "--timeout", "300ms"], arguments].concat();
        let run = alone(&arguments).expect_code(3);
        assert!(run.stderr.contains("reach"), "{}", run.stderr);
    }
}

#[test]
fn a_key_that_is_not_there_ends_with_4() {
    let cluster = Cluster::started(KVCTL, 1);
    for arguments in [["get", "nothing"], ["del", "nothing"]] {
        let run = cluster.kvctl(&arguments).expect_code(4);
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains("nothing"), "{}", run.stderr);
    }
    let run = cluster.kvctl(&["del", "--prefix", "nothing"]).expect_code(0);
    assert_eq!(run.stdout, "0 keys deleted\n");
    let run = cluster.kvctl(&["-o", "json", "get", "nothing"]).expect_code(4);
    let error = error(&run.stderr);
    assert_eq!((&error["kind"], &error["exit"]), (&json!("not_found"), &json!(4)));
}

#[test]
fn a_condition_that_does_not_hold_ends_with_5_and_writes_nothing() {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl(&["set", "a", "1", "--if-absent"]).expect_code(0);
    cluster.kvctl(&["set", "a", "2", "--if-absent"]).expect_code(5);
    cluster.kvctl(&["set", "a", "2", "--if-value", "x"]).expect_code(5);
    cluster.kvctl(&["set", "a", "2", "--if-rev", "99"]).expect_code(5);
    cluster.kvctl(&["cas", "a", "x", "2"]).expect_code(5);
    cluster.kvctl(&["del", "a", "--if-rev", "99"]).expect_code(5);
    let found = cluster.kvctl(&["get", "a", "-o", "json"]).expect_code(0).json();
    assert_eq!((&found["value"], &found["version"]), (&json!("1"), &json!(1)));

    let revision = found["mod_revision"].to_string();
    cluster.kvctl(&["set", "a", "2", "--if-rev", &revision]).expect_code(0);
    cluster.kvctl(&["cas", "a", "2", "3"]).expect_code(0);
    assert_eq!(cluster.kvctl(&["get", "a"]).expect_code(0).stdout, "3\n");
}

#[test]
fn no_leader_ends_with_7_and_says_what_still_works() {
    let mut cluster = Cluster::started(KVCTL, 3);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let leader = cluster.leader();
    let follower = cluster.follower();
    cluster.server_mut(&leader).kill();
    cluster.server_mut(&follower).kill();
    for arguments in [&["set", "ana", "5"][..], &["get", "ana"]] {
        let run = cluster.kvctl(&[arguments, &["--timeout", "1s"]].concat()).expect_code(7);
        let head = "kvctl: no leader: 1 of 3 servers reachable, 2 needed\n";
        assert!(run.stderr.starts_with(head), "{}", run.stderr);
        assert!(run.stderr.contains("kvctl get ana --stale"), "{}", run.stderr);
        let nothing = run.stderr.contains("nothing was written");
        assert_eq!(nothing, arguments[0] == "set", "{}", run.stderr);
    }
}

#[test]
fn a_write_whose_outcome_is_unknown_ends_with_8_and_can_be_repeated_safely() {
    let cluster = Cluster::started(KVCTL, 3);
    cluster.kvctl(&["set", "a", "0"]).expect_code(0);
    let leader = cluster.leader();
    let others: Vec<&str> =
        cluster.servers().iter().map(|server| server.id()).filter(|id| *id != leader).collect();
    // The leader takes the write and cannot find out whether it commits.
    others.iter().for_each(|id| cluster.server(id).pause());
    let at_leader = cluster.server(&leader).address();
    let run = cluster.kvctl_at(at_leader, &["set", "a", "1", "--timeout", "400ms"]);
    others.iter().for_each(|id| cluster.server(id).resume());
    let run = run.expect_code(8);
    assert!(run.stderr.starts_with("kvctl: outcome unknown: sent to "), "{}", run.stderr);
    let (_, repeat) = run.stderr.split_once("kvctl set a 1 ").unwrap();
    let request = repeat.split_once("--request ").unwrap().1.split_whitespace().next().unwrap();

    cluster.leader();
    for _ in 0..3 {
        let run = cluster.kvctl(&["set", "a", "1", "--request", request]).expect_code(0);
        assert_eq!(run.stdout, "a set to 1\n");
    }
    let found = cluster.kvctl(&["get", "a", "-o", "json"]).expect_code(0).json();
    assert_eq!(found["version"], 2, "four attempts were one write");
    let run = cluster.kvctl(&["set", "a", "other", "--request", request]).expect_code(6);
    assert!(run.stderr.contains("another request"), "{}", run.stderr);
}

#[test]
fn every_format_of_get_prints_what_it_promises() {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let get = |format: &str| cluster.kvctl(&["get", "ana", "-o", format]).expect_code(0).stdout;
    assert_eq!(get("text"), "4\n");
    assert_eq!(get("value"), "4");
    assert!(get("table").contains("│ ana ┆"), "{}", get("table"));
    let expected = json!({
        "key": "ana", "value": "4",
        "create_revision": 1, "mod_revision": 1, "version": 1, "revision": 1,
    });
    assert_eq!(serde_json::from_str::<Value>(&get("json")).unwrap(), expected);
    assert_eq!(get("jsonl").lines().count(), 1);
}

#[test]
fn bytes_come_back_as_they_went_in() {
    let cluster = Cluster::started(KVCTL, 1);
    let value = [0xff, 0x00, b'\n', 0x80];
    cluster.kvctl_with_input(&["set", "bytes", "-"], &value).expect_code(0);
    let found = cluster.kvctl(&["get", "bytes", "-o", "json"]).expect_code(0).json();
    assert_eq!(found["value_b64"], "/wAKgA==");
    assert_eq!(found["value"], Value::Null);
    let file = cluster.directory().join("value");
    std::fs::write(&file, b"from a file\n").unwrap();
    cluster.kvctl(&["set", "file", &format!("@{}", file.display())]).expect_code(0);
    assert_eq!(cluster.kvctl(&["get", "file", "-o", "value"]).stdout, "from a file\n");
}

#[test]
fn scans_are_ordered_and_limited() {
    let cluster = Cluster::started(KVCTL, 1);
    for key in ["b/2", "a", "b/1", "c", "b/3"] {
        cluster.kvctl(&["set", key, &format!("v-{key}")]).expect_code(0);
    }
    let get =
        |arguments: &[&str]| cluster.kvctl(&[&["get"], arguments].concat()).expect_code(0).stdout;
    assert_eq!(get(&["--prefix", "b/", "--keys-only"]), "b/1\nb/2\nb/3\n");
    assert_eq!(get(&["--prefix", "b/", "--keys-only", "--reverse"]), "b/3\nb/2\nb/1\n");
    assert_eq!(get(&["--range", "a", "b/2"]), "a\tv-a\nb/1\tv-b/1\n");
    assert_eq!(get(&["--prefix", "", "--limit", "2", "--keys-only"]), "a\nb/1\n");
    assert_eq!(get(&["--prefix", "b/", "--count"]), "3\n");
    let run = cluster.kvctl(&["show", "b/", "-o", "jsonl"]).expect_code(0);
    assert_eq!(run.stdout.lines().count(), 3);
    let run = cluster.kvctl(&["del", "--prefix", ""]).expect_code(2);
    assert!(run.stderr.contains("say --yes if that is meant"), "{}", run.stderr);
    let run = cluster.kvctl(&["del", "--prefix", "b/"]).expect_code(0);
    assert_eq!(run.stdout, "3 keys deleted\n");
    assert_eq!(get(&["--prefix", "", "--count"]), "2\n");
}

#[test]
fn quiet_is_quiet_and_verbose_speaks_on_stderr() {
    let cluster = Cluster::started(KVCTL, 1);
    let run = cluster.kvctl(&["-q", "set", "a", "1"]).expect_code(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    let run = cluster.kvctl(&["-v", "get", "a"]).expect_code(0);
    assert_eq!(run.stdout, "1\n");
    assert!(run.stderr.contains("revision 1"), "{}", run.stderr);
}

#[test]
fn status_lists_every_member_and_marks_the_leader() {
    let mut cluster = Cluster::started(KVCTL, 3);
    cluster.kvctl(&["set", "a", "1"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    let leader = cluster.leader();
    let status = cluster.status().unwrap();
    let keys: Vec<&str> = status.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["cluster", "leader", "term", "revision", "members"]);
    assert_eq!((&status["cluster"], &status["revision"]), (&json!("test"), &json!(1)));
    let members = status["members"].as_array().unwrap();
    let keys: Vec<&str> = members[0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "id",
        "role",
        "address",
        "term",
        "commit",
        "applied",
        "durable",
        "last",
        "snapshot",
        "reachable",
    ];
    assert_eq!(keys, expected);
    for member in members {
        let leads = member["id"] == leader.as_str();
        assert_eq!(member["role"], if leads { "leader" } else { "follower" });
        assert_eq!(member["applied"], member["last"]);
    }
    let text = cluster.kvctl(&["status"]).expect_code(0).stdout;
    let marked: Vec<&str> = text.lines().filter(|line| line.contains("LEADER")).collect();
    assert!(marked.len() == 1 && marked[0].contains(&leader), "{text}");

    let at_one = cluster.server(&leader).address();
    let run = cluster.kvctl_at(at_one, &["status", "-o", "json"]).expect_code(0);
    assert_eq!(run.json()["members"].as_array().unwrap().len(), 3, "one server knows the others");
    let follower = cluster.follower();
    cluster.server_mut(&follower).kill();
    let status = cluster.status().unwrap();
    let members = status["members"].as_array().unwrap();
    let dead = members.iter().find(|member| member["id"] == follower.as_str()).unwrap();
    assert_eq!((&dead["reachable"], &dead["role"]), (&json!(false), &Value::Null));
}

#[test]
fn the_log_is_told_in_words() {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    cluster.kvctl(&["del", "ana"]).expect_code(0);
    let log = cluster.kvctl(&["log", "s1"]).expect_code(0).stdout;
    let last: Vec<&str> = log.lines().rev().take(2).collect();
    let words = |line: &str| line.splitn(3, "  ").nth(2).unwrap().to_owned();
    assert_eq!(words(last[1]), "set ana 4");
    assert!(words(last[0]).contains("ana"), "{log}");
    let json = cluster.kvctl(&["log", "s1", "--from", "2", "--limit", "1", "-o", "json"]).json();
    assert_eq!(json["entries"].as_array().unwrap().len(), 1);
    assert_eq!(json["entries"][0]["index"], 2);
    let at = cluster.server("s1").address();
    assert_eq!(cluster.kvctl_at(at, &["log"]).expect_code(0).stdout, log, "no id, no file");
    assert_eq!(cluster.kvctl_at(at, &["log", "s1"]).expect_code(0).stdout, log);
    cluster.kvctl(&["log", "s9"]).expect_code(2);
}

#[test]
fn a_log_of_many_pages_is_told_without_a_gap() {
    let cluster = Cluster::started(KVCTL, 1);
    let bench = ["bench", "put", "--clients", "256", "--value-size", "8", "--duration", "1s"];
    cluster.kvctl(&bench).expect_code(0);
    let last = cluster.status().unwrap()["members"][0]["last"].as_u64().unwrap();
    assert!(last > 2_000, "{last} entries are too few for several pages");
    let indexes: Vec<u64> = (1..=last).collect();
    let text = cluster.kvctl(&["log"]).expect_code(0).stdout;
    let index = |line: &str| line.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    assert_eq!(text.lines().map(index).collect::<Vec<_>>(), indexes);
    let jsonl = cluster.kvctl(&["log", "-o", "jsonl"]).expect_code(0).stdout;
    let index =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["index"].as_u64().unwrap();
    assert_eq!(jsonl.lines().map(index).collect::<Vec<_>>(), indexes);
    let middle = cluster.kvctl(&["log", "--from", "900", "--limit", "1200", "-o", "json"]).json();
    let entries = middle["entries"].as_array().unwrap();
    assert_eq!((&entries[0]["index"], entries.len()), (&json!(900), 1200));
    assert_eq!((&middle["last"], &entries[1199]["index"]), (&json!(last), &json!(2099)));
}

#[test]
fn a_server_of_a_cluster_that_is_not_founded_refuses_to_show_its_log() {
    let mut cluster = Cluster::new(KVCTL, 3);
    cluster.start("s1");
    cluster.server("s1").story().wait_for_event("listening", LIMIT);
    let run = cluster.kvctl(&["log", "s1"]).expect_code(6);
    assert!(run.stderr.contains("not founded yet"), "{}", run.stderr);
}

#[test]
fn a_script_stops_at_its_first_error_and_names_the_line() {
    let cluster = Cluster::started(KVCTL, 1);
    let lines =
        b"# comments and empty lines are fine\n\nset a 'two words'\nget a\nget b\nset c 1\n";
    let run = cluster.kvctl_with_input(&["shell"], lines).expect_code(4);
    assert_eq!(run.stdout, "a set to two words\ntwo words\n");
    assert!(run.stderr.contains("in line 5: get b"), "{}", run.stderr);
    cluster.kvctl(&["get", "c"]).expect_code(4);
    let run = cluster.kvctl_with_input(&["shell"], b"get a -o json\nquit\nget b\n").expect_code(0);
    assert_eq!(run.json()["value"], "two words");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl_with_input(&["set", "big", "-"], &[b'x'; 900_000]).expect_code(0);
    let script = format!("{KVCTL} get big | head -c 1; exit ${{PIPESTATUS[0]}}");
    let mut command = clean_command("bash");
    command.env("KVCTL_CONFIG", cluster.config());
    let run = run(command, &["-c", &script], b"").expect_code(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("x", ""));
}
