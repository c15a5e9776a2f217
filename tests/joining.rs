//! Servers that no cluster lists: they wait, say what to type, and are let in only by name. Disks
//! that were lost or turned back are never let in as what they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use verify::cluster::{Cluster, Settings, eventually, free_addresses};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(30);

/// What the member list says of a server, life by life.
fn parts(cluster: &Cluster, id: &str) -> Vec<String> {
    let list = cluster.kvctl(&["member", "list", "-o", "json"]).expect_code(0).json();
    let members = list["members"].as_array().expect("a list of members").clone();
    let lives = members.iter().filter(|member| member["id"] == id);
    lives.map(|member| member["kind"].as_str().expect("a kind").to_owned()).collect()
}

fn wait_for_parts(cluster: &Cluster, id: &str, expected: &[&str]) {
    eventually(&format!("{id} to be {expected:?}"), LIMIT, || {
        (parts(cluster, id) == expected).then_some(())
    });
}

fn story(event: &Value) -> &str {
    event["story"].as_str().expect("a story")
}

#[test]
fn a_new_server_waits_says_what_to_type_and_votes_once_it_was_named() {
    let mut cluster = Cluster::started(KVCTL, 1);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let run = cluster.kvctl(&["member", "add", "s2", "127.0.0.1:1", "--timeout", "500ms"]);
    let told = run.expect_code(6).stderr;
    assert!(told.contains("s2 is not waiting to be taken in"), "{told}");
    assert!(told.contains("kvctl serve --id s2 --join"), "{told}");

    let id = cluster.start_joining();
    let event = cluster.server(&id).story().wait_for_event("joining", LIMIT);
    wait_for_parts(&cluster, &id, &["joining"]);
    let told = cluster.kvctl(&["member", "add", &id, "127.0.0.1:1"]).expect_code(6).stderr;
    assert!(told.contains("not at 127.0.0.1:1, where the others would look for it"), "{told}");
    let address = cluster.server(&id).address().to_string();
    assert!(story(&event).ends_with(&format!("kvctl member add s2 {address}")), "{event}");
    wait_for_parts(&cluster, &id, &["joining"]);
    let run = cluster.kvctl_at(cluster.server(&id).address(), &["get", "ana", "--timeout", "1s"]);
    assert_eq!(run.code, Some(7), "it serves nobody: {}", run.stderr);

    let run = cluster.kvctl(&["member", "add", &id, &address, "--timeout", "20s"]).expect_code(0);
    assert_eq!(run.stdout, "s2 votes\n");
    assert_eq!(parts(&cluster, &id), ["voter"]);
    cluster.wait_until_level(LIMIT);
    let run = cluster.kvctl_at(cluster.server(&id).address(), &["get", "ana"]).expect_code(0);
    assert_eq!(run.stdout, "4\n");

    // The line that joined it starts it again, and it is who it was.
    cluster.server_mut(&id).kill();
    cluster.start(&id);
    cluster.server(&id).story().wait_for_event("recovered", LIMIT);
    cluster.wait_until_level(LIMIT);
    assert_eq!(parts(&cluster, &id), ["voter"]);
}

#[test]
fn a_learner_does_not_vote_until_it_is_promoted() {
    let mut cluster = Cluster::started(KVCTL, 1);
    let id = cluster.start_joining();
    wait_for_parts(&cluster, &id, &["joining"]);
    cluster.kvctl(&["member", "add", &id, "--learner", "--timeout", "20s"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    assert_eq!(parts(&cluster, &id), ["learner"]);
    let to_it = cluster.kvctl(&["leader", "transfer", &id]).expect_code(6);
    assert!(to_it.stderr.contains("does not vote"), "{}", to_it.stderr);

    // The one voter needs nobody.
    cluster.server(&id).pause();
    cluster.kvctl(&["set", "alone", "1"]).expect_code(0);
    cluster.server(&id).resume();
    cluster.kvctl(&["member", "promote", &id, "--timeout", "20s"]).expect_code(0);
    assert_eq!(parts(&cluster, &id), ["voter"]);
}

#[test]
fn a_server_that_lost_its_disk_is_refused_and_then_replaced_by_itself() {
    let mut cluster = Cluster::started(KVCTL, 3);
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    let wiped = cluster.follower();
    cluster.server_mut(&wiped).stop();
    cluster.server(&wiped).wipe();
    cluster.start(&wiped);
    let event = cluster.server(&wiped).story().wait_for_event("joining", LIMIT);
    assert_eq!(event["place"], "other-disk");
    assert!(story(&event).ends_with(&format!("kvctl member replace {wiped}")), "{event}");
    wait_for_parts(&cluster, &wiped, &["voter", "joining"]);

    // Whatever happens, it does not vote for what it forgot.
    let told = cluster.server(&wiped).story().lines().join("\n");
    assert!(!told.contains("\"vote\"") && !told.contains("recovered"), "{told}");

    cluster.kvctl(&["member", "replace", &wiped, "--timeout", "20s"]).expect_code(0);
    assert_eq!(parts(&cluster, &wiped), ["voter"]);
    cluster.wait_until_level(LIMIT);
    let leader = cluster.leader();
    let other = cluster.servers().iter().map(|it| it.id().to_owned());
    let other = { other }.find(|id| *id != leader && *id != wiped).expect("a third server");
    cluster.server_mut(&other).kill();
    cluster.kvctl(&["set", "ana", "5", "--timeout", "20s"]).expect_code(0);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target)
        } else {
            fs::copy(&path, &target).map(|_| ()).unwrap()
        }
    }
}

#[test]
fn a_directory_that_was_turned_back_takes_no_part() {
    let mut cluster = Cluster::started(KVCTL, 3);
    let turned = cluster.follower();
    cluster.server_mut(&turned).stop();
    let (data, old) = (cluster.server(&turned).data().to_owned(), cluster.directory().join("old"));
    copy(&data, &old);
    cluster.start(&turned);
    cluster.server(&turned).story().wait_for_event("recovered", LIMIT);
    cluster.wait_until_level(LIMIT);
    cluster.server_mut(&turned).stop();
    // Twice: opening counts a start, and the copy must stay behind.
    cluster.start(&turned);
    cluster.server(&turned).story().wait_for_event("recovered", LIMIT);
    cluster.wait_until_level(LIMIT);
    cluster.server_mut(&turned).stop();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&old, &data).unwrap();

    cluster.start(&turned);
    let refused = cluster.server(&turned).story().wait_for_event("refused", LIMIT);
    assert!(story(&refused).contains("was rolled back"), "{refused}");
    cluster.kvctl(&["set", "without", "it"]).expect_code(0);
    let told = cluster.server(&turned).story().lines().join("\n");
    assert!(!told.contains("\"LEADER"), "{told}");
}

/// Three servers that have a leader, and small segments, so that a start is quick.
fn three_quick_ones() -> Cluster {
    quick_ones(3)
}

fn quick_ones(servers: u16) -> Cluster {
    let extra = Settings::default().extra;
    let extra = format!("{extra}[wal]\nsegment = \"8MiB\"\n");
    let mut cluster = Cluster::with(KVCTL, &Settings { servers, extra });
    cluster.start_all();
    cluster.leader();
    cluster
}

/// Starts a stopped server, waits until the others count it again, and stops it.
fn one_more_life(cluster: &mut Cluster, id: &str) {
    cluster.start(id);
    cluster.server(id).story().wait_for_event("recovered", LIMIT);
    cluster.wait_until_level(LIMIT);
    cluster.server_mut(id).stop();
}

#[test]
fn a_directory_that_was_turned_back_is_known_also_after_all_were_stopped() {
    let mut cluster = three_quick_ones();
    let turned = cluster.follower();
    cluster.kvctl(&["set", "key", "old"]).expect_code(0);
    cluster.server_mut(&turned).stop();
    let (data, old) = (cluster.server(&turned).data().to_owned(), cluster.directory().join("old"));
    copy(&data, &old);
    one_more_life(&mut cluster, &turned);
    one_more_life(&mut cluster, &turned);
    let others: Vec<String> =
        cluster.servers().iter().map(|it| it.id().to_owned()).filter(|it| *it != turned).collect();
    for id in &others {
        cluster.server_mut(id).stop();
    }
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&old, &data).unwrap();

    cluster.start_all();
    let refused = cluster.server(&turned).story().wait_for_event("refused", LIMIT);
    let remedy = format!("kvctl member replace {turned}");
    for part in ["was rolled back", "put its newest directory back", &remedy] {
        assert!(story(&refused).contains(part), "{refused}");
    }
    assert_eq!(cluster.server_mut(&turned).wait().code(), Some(10), "it does not stay");
    cluster.kvctl(&["set", "without", "it"]).expect_code(0);
    let told = cluster.server(&turned).story().lines().join("\n");
    assert!(!told.contains("\"LEADER") && !told.contains("count on me"), "{told}");
    // However often it is started: counting starts up to where it was is no way back.
    for _ in 0..3 {
        cluster.start(&turned);
        assert_eq!(cluster.server_mut(&turned).wait().code(), Some(10));
    }
    let told = eventually("its last words", LIMIT, || {
        let told = cluster.server(&turned).story().lines().join("\n");
        told.contains("was rolled back").then_some(told)
    });
    assert!(!told.contains("\"recovered\""), "{told}");
}

/// Puts an older copy in the place of a stopped server's directory and starts it: it must end, and
/// end again, since both of the others say so.
fn start_turned_back(cluster: &mut Cluster, id: &str, old: &Path) {
    turn_back(cluster, id, old);
    cluster.start(id);
    assert_eq!(cluster.server_mut(id).wait().code(), Some(10), "nor come back");
}

fn turn_back(cluster: &mut Cluster, id: &str, old: &Path) {
    let data = cluster.server(id).data().to_owned();
    fs::remove_dir_all(&data).unwrap();
    fs::rename(old, &data).unwrap();
    cluster.start(id);
    let refused = cluster.server(id).story().wait_for_event("refused", LIMIT);
    assert!(story(&refused).contains("was rolled back"), "{refused}");
    assert_eq!(cluster.server_mut(id).wait().code(), Some(10), "it does not stay");
}

#[test]
fn a_directory_that_was_turned_back_across_a_single_start_is_known() {
    let mut cluster = three_quick_ones();
    let turned = cluster.follower();
    cluster.server_mut(&turned).stop();
    let old = cluster.directory().join("old");
    copy(cluster.server(&turned).data(), &old);
    one_more_life(&mut cluster, &turned);
    // The copy counts to the very number of the start that it has forgotten.
    start_turned_back(&mut cluster, &turned, &old);
    cluster.kvctl(&["set", "without", "it"]).expect_code(0);
}

#[test]
fn a_copy_that_was_made_while_its_server_ran_lacks_a_term_in_which_that_was_heard() {
    let mut cluster = three_quick_ones();
    let leader = cluster.leader();
    let others: Vec<String> =
        cluster.servers().iter().map(|it| it.id().to_owned()).filter(|it| *it != leader).collect();
    let turned = &others[0];
    cluster.wait_until_level(LIMIT);
    let old = cluster.directory().join("old");
    copy(cluster.server(turned).data(), &old);
    cluster.kvctl(&["leader", "transfer", &others[1], "--timeout", "20s"]).expect_code(0);
    cluster.kvctl(&["set", "key", "acknowledged", "--timeout", "20s"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    cluster.server_mut(turned).kill();
    turn_back(&mut cluster, turned, &old);
    // Only the leader has heard it in that term. The word of one stops it, and does not remove it.
    for _ in 0..2 {
        cluster.start(turned);
        let server = cluster.server(turned);
        server.story().wait_for("a word on what holds it back", LIMIT, |event| {
            event["event"] == "warning" && event["story"].to_string().contains("accused")
        });
        let run = cluster.kvctl_at(server.address(), &["get", "key", "--stale", "--timeout", "1s"]);
        assert_ne!(run.code, Some(0), "{}", run.stdout);
        let told = server.story().lines().join("\n");
        assert!(!told.contains("\"recovered\"") && !told.contains("count on me"), "{told}");
        cluster.server_mut(turned).stop();
    }
    let data = cluster.server(turned).data();
    assert!(data.join("accused").exists() && !data.join("lost-history").exists());
    cluster.kvctl(&["set", "without", "it"]).expect_code(0);
}

#[test]
fn a_majority_that_was_turned_back_is_told_what_to_do_and_elects_nobody() {
    let mut cluster = three_quick_ones();
    let kept = cluster.leader();
    let turned: Vec<String> =
        cluster.servers().iter().map(|it| it.id().to_owned()).filter(|it| *it != kept).collect();
    let directories: Vec<(PathBuf, PathBuf)> = turned
        .iter()
        .map(|id| {
            let data = cluster.server(id).data().to_owned();
            (data, cluster.directory().join(format!("old-{id}")))
        })
        .collect();
    for (id, (data, old)) in turned.iter().zip(&directories) {
        cluster.server_mut(id).stop();
        copy(data, old);
        cluster.start(id);
        cluster.wait_until_level(LIMIT);
        cluster.server_mut(id).stop();
        one_more_life(&mut cluster, id);
        cluster.start(id);
        cluster.wait_until_level(LIMIT);
    }
    cluster.kvctl(&["set", "acknowledged", "1"]).expect_code(0);
    for id in turned.iter().chain([&kept]) {
        cluster.server_mut(id).stop();
    }
    for (data, old) in &directories {
        fs::remove_dir_all(data).unwrap();
        fs::rename(old, data).unwrap();
    }
    // One after the other: they know of each other's later starts too, and who is refused by
    // anybody ends.
    cluster.start(&kept);
    cluster.server(&kept).story().wait_for_event("listening", LIMIT);
    for id in &turned {
        cluster.start(id);
        cluster.server(id).story().wait_for_event("refused", LIMIT);
        assert_eq!(cluster.server_mut(id).wait().code(), Some(10), "{id}");
        let told = cluster.server(id).story().lines().join("\n");
        assert!(told.contains("was rolled back") && !told.contains("\"LEADER"), "{told}");
    }
    for id in &turned {
        let about = format!("kvctl member replace {id}");
        cluster.server(&kept).story().wait_for("a word on what to do", LIMIT, |event| {
            event["event"] == "warning" && story(event).contains(&about)
        });
    }
    let run = cluster.kvctl(&["set", "lost", "1", "--timeout", "1s"]);
    assert_ne!(run.code, Some(0), "nobody leads alone");
}

#[test]
fn a_server_that_was_away_while_it_was_removed_is_told() {
    let mut cluster = Cluster::started(KVCTL, 4);
    let removed = cluster.follower();
    cluster.server_mut(&removed).stop();
    cluster.kvctl(&["member", "remove", &removed, "--yes", "--timeout", "20s"]).expect_code(0);
    cluster.start(&removed);
    let told = cluster.server(&removed).story().wait_for("a word on the removal", LIMIT, |event| {
        event["event"] == "warning" && story(event).contains("is no member of the cluster since")
    });
    assert!(story(&told).contains(&format!("kvctl member add {removed}")), "{told}");
    cluster.kvctl(&["set", "in", "peace"]).expect_code(0);
    let address = cluster.server(&removed).address();
    let role = || {
        let status = cluster.kvctl_at(address, &["status", "-o", "json"]).json();
        let members = status["members"].as_array()?.clone();
        let own = members.into_iter().find(|member| member["id"] == removed.as_str())?;
        (own["role"] == "removed").then_some(())
    };
    eventually("its status to say that it was removed", LIMIT, role);
}

#[test]
fn a_member_of_one_cluster_never_becomes_a_member_of_another() {
    let mut one = Cluster::started(KVCTL, 1);
    let mut other = Cluster::started(KVCTL, 1);
    let id = one.start_joining();
    let address = one.server(&id).address();
    let add = ["member", "add", &id, &address.to_string(), "--timeout", "20s"];
    one.kvctl(&add).expect_code(0);
    one.server_mut(&id).stop();

    let directory = one.server(&id).data().to_owned();
    let stranger = other.start_joining();
    assert_eq!(stranger, id, "both clusters count alike");
    other.server_mut(&id).kill();
    let data = other.server(&id).data().to_owned();
    fs::remove_dir_all(&data).ok();
    copy(&directory, &data);
    other.start(&id);
    other.server(&id).story().wait_for_event("recovered", LIMIT);
    let run = other.kvctl(&["member", "add", &id, &address.to_string(), "--timeout", "2s"]);
    assert_eq!(run.code, Some(6), "{}", run.stderr);
    assert!(run.stderr.contains("is not waiting to be taken in"), "{}", run.stderr);
}

/// A cluster that a lone server founded, and that two more have joined.
fn grown_from_one() -> Cluster {
    let mut cluster = quick_ones(1);
    for _ in 0..2 {
        let id = cluster.start_joining();
        cluster.server(&id).story().wait_for_event("joining", LIMIT);
        let address = cluster.server(&id).address().to_string();
        cluster.kvctl(&["member", "add", &id, &address, "--timeout", "20s"]).expect_code(0);
    }
    cluster.kvctl(&["set", "ana", "4"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    cluster
}

#[test]
fn a_lone_founder_that_lost_its_disk_hears_of_its_cluster_and_founds_no_other() {
    let mut cluster = grown_from_one();
    cluster.server_mut("s1").kill();
    cluster.server("s1").wipe();
    cluster.start("s1");
    let event = cluster.server("s1").story().wait_for_event("joining", LIMIT);
    assert_eq!(event["place"], "other-disk");
    let run = cluster.kvctl_at(cluster.server("s1").address(), &["get", "ana", "--timeout", "1s"]);
    assert_eq!(run.code, Some(7), "it serves nobody: {}", run.stdout);
    cluster.kvctl(&["member", "replace", "s1", "--timeout", "20s"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    let run = cluster.kvctl_at(cluster.server("s1").address(), &["get", "ana"]).expect_code(0);
    assert_eq!(run.stdout, "4\n");
    let told = cluster.server("s1").story().lines().join("\n");
    assert!(!told.contains("\"founded\""), "{told}");
}

#[test]
fn a_lone_founder_that_founded_again_stops_when_it_hears_of_its_cluster() {
    let mut cluster = grown_from_one();
    for id in ["s1", "s2", "s3"] {
        cluster.server_mut(id).stop();
    }
    cluster.server("s1").wipe();
    cluster.start("s1");
    cluster.server("s1").story().wait_for_event("founded", LIMIT);
    cluster.start("s2");
    cluster.server("s2").story().wait_for_event("listening", LIMIT);
    assert_eq!(cluster.server_mut("s1").wait().code(), Some(6));
    let told = cluster.server("s1").story().lines().join("\n");
    assert!(told.contains("founded a cluster anew"), "{told}");
    let told = cluster.server("s2").story().lines().join("\n");
    assert!(!told.contains("empty directory"), "its directory is all that is left: {told}");
    // What the others have is served again when a majority of them runs.
    cluster.start("s3");
    let address = cluster.server("s2").address();
    eventually("the old cluster to serve", LIMIT, || {
        let run = cluster.kvctl_at(address, &["get", "ana"]);
        (run.stdout == "4\n").then_some(())
    });
}

/// Whoever knows a server by another disk, on the same machine, tries every tenth of a second.
#[test]
fn a_cluster_is_founded_only_when_its_servers_have_listened() {
    for servers in [1, 3] {
        let cluster = Cluster::started(KVCTL, servers);
        for server in cluster.servers() {
            let at = |name| server.story().wait_for_event(name, LIMIT)["time_ms"].as_u64().unwrap();
            assert!(at("founded") - at("listening") >= 250, "{}", server.id());
        }
    }
}

#[test]
fn two_founders_that_lost_their_disks_do_not_found_their_cluster_again() {
    let mut cluster = quick_ones(2);
    for _ in 0..2 {
        let id = cluster.start_joining();
        cluster.server(&id).story().wait_for_event("joining", LIMIT);
        let address = cluster.server(&id).address().to_string();
        cluster.kvctl(&["member", "add", &id, &address, "--timeout", "20s"]).expect_code(0);
    }
    cluster.wait_until_level(LIMIT);
    for id in ["s1", "s2"] {
        cluster.server_mut(id).kill();
        cluster.server(id).wipe();
    }
    // The file knows only these two, and they hear each other first.
    for id in ["s1", "s2"] {
        cluster.start(id);
    }
    for id in ["s1", "s2"] {
        let event = cluster.server(id).story().wait_for_event("joining", LIMIT);
        assert_eq!(event["place"], "other-disk");
        let told = cluster.server(id).story().lines().join("\n");
        assert!(!told.contains("\"founded\""), "{told}");
    }
}

/// The process of a server that has a directory and an address of its own, and the name of another.
struct Heir(std::process::Child);

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_live_server_gives_way_to_another_directory_of_it_also_while_it_leads() {
    for leads in [false, true] {
        let cluster = quick_ones(2);
        let replaced = if leads { cluster.leader() } else { cluster.follower() };
        let address = free_addresses(1)[0];
        let data = cluster.directory().join("heir");
        let mut command = verify::cluster::clean_command(KVCTL);
        let join = cluster.server(&replaced).address().to_string();
        command.args(["serve", "--id", &replaced, "--join", &join, "--addr"]);
        command.arg(address.to_string()).arg("--data").arg(&data);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let _heir = Heir(command.spawn().expect("kvctl can be started"));
        wait_for_parts(&cluster, &replaced, &["voter", "joining"]);
        // The answer may be lost with the leadership of a leader that goes.
        let run = cluster.kvctl(&["member", "replace", &replaced, "--timeout", "20s"]);
        assert!(leads || run.code == Some(0), "{}", run.stderr);
        let list = ["member", "list", "-o", "json"];
        eventually("the heir to vote alone under its name", LIMIT, || {
            let list = cluster.kvctl_at(address, &list);
            let members = list.code.filter(|code| *code == 0).map(|_| list.json())?;
            let members = members["members"].as_array()?.clone();
            let lives: Vec<&Value> =
                members.iter().filter(|member| member["id"] == replaced.as_str()).collect();
            let [life] = lives[..] else { return None };
            (life["kind"] == "voter" && life["address"] == address.to_string()).then_some(())
        });
        let run = cluster.kvctl_at(address, &["set", "key", "1", "--timeout", "20s"]);
        run.expect_code(0);
    }
}
