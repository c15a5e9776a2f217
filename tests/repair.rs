//! Disks that lost what they were given. Where only payloads are damaged a server starts, says what
//! it lost and gets it back from the others; where more is damaged it does not start, and says how
//! it can come back.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use verify::cluster::{Cluster, Run, clean_command, run};
use verify::rot::flip;
use wal::{Health, Inspector, Item, ReadOnlyDisk, Record};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(30);
const KEYS: u64 = 60;

/// Where an entry stands on the disk of a stopped server.
struct Place {
    file: PathBuf,
    index: u64,
    /// Where its batch begins, and its payload.
    batch: u64,
    payload: u64,
}

/// All entries on a stopped server's disk, in the order in which they were written.
fn entries(data: &Path) -> Vec<Place> {
    let (mut file, mut batch, mut entries) = (PathBuf::new(), 0, Vec::new());
    inspector(data)
        .dump(|item| {
            match item {
                Item::Segment { path, .. } => file = path.into(),
                Item::Batch { offset, .. } => batch = offset,
                Item::Record(Record::Entry { position, offset, bytes, .. }) if bytes > 0 => {
                    let (file, index) = (file.clone(), position.index);
                    entries.push(Place { file, index, batch, payload: offset });
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

fn inspector(data: &Path) -> Inspector {
    Inspector::open(ReadOnlyDisk::open(data.join("log")).unwrap()).unwrap()
}

fn assert_clean(data: &Path) {
    let health = inspector(data).verify().unwrap();
    assert!(matches!(health, Health::Clean), "{health:?}");
}

/// Damages the payloads of these entries on the disk of a stopped server.
fn damage(data: &Path, wanted: impl Fn(&Place) -> bool) -> u64 {
    let places: Vec<Place> = entries(data).into_iter().filter(wanted).collect();
    for place in &places {
        flip(&place.file, place.payload);
    }
    places.len() as u64
}

/// A cluster of three with some keys, all applied everywhere.
fn filled() -> Cluster {
    let cluster = Cluster::started(KVCTL, 3);
    for number in 0..KEYS {
        cluster.kvctl(&["set", &format!("key-{number}"), "1"]).expect_code(0);
    }
    cluster.wait_until_level(LIMIT);
    cluster
}

fn data_of(cluster: &Cluster, id: &str) -> PathBuf {
    cluster.server(id).data().to_owned()
}

fn serve(cluster: &Cluster, id: &str) -> Run {
    let mut command = clean_command(KVCTL);
    command.current_dir(cluster.directory()).arg("--config").arg(cluster.config());
    run(command, &["serve", "--id", id], b"")
}

fn keys_at(cluster: &Cluster, id: &str) -> u64 {
    let address = cluster.server(id).address();
    let run = cluster.kvctl_at(address, &["get", "--prefix", "key-", "--count", "--stale"]);
    run.expect_code(0).stdout.trim().parse().unwrap()
}

#[test]
fn a_flipped_bit_is_repaired_in_place_also_while_the_third_server_is_down() {
    let mut cluster = filled();
    let damaged = cluster.follower();
    cluster.server_mut(&damaged).stop();
    let third = cluster.follower();
    cluster.server_mut(&third).kill();
    let data = data_of(&cluster, &damaged);
    assert_eq!(damage(&data, |place| (20..32).contains(&place.index)), 12);

    cluster.start(&damaged);
    let story = cluster.server(&damaged).story();
    let found = story.wait_for_event("damaged", LIMIT);
    assert_eq!(
        (&found["entries"], &found["first"], &found["last"]),
        (&12.into(), &20.into(), &31.into())
    );
    let repaired = story.wait_for_event("repaired", LIMIT);
    assert_eq!((&repaired["entries"], &repaired["left"]), (&12.into(), &0.into()));
    // Two of three are a majority again: the repaired server acknowledges.
    cluster.kvctl(&["set", "key-after", "1"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    assert_eq!(keys_at(&cluster, &damaged), KEYS + 1);

    cluster.server_mut(&damaged).stop();
    assert_clean(&data);
}

#[test]
fn a_rotten_note_of_suspects_stops_nobody_and_goes_once_everything_is_whole() {
    let mut cluster = filled();
    let damaged = cluster.follower();
    cluster.server_mut(&damaged).stop();
    let data = data_of(&cluster, &damaged);
    let note = data.join("suspect");
    fs::write(&note, b"anything").unwrap();
    damage(&data, |place| (20..23).contains(&place.index));
    cluster.start(&damaged);
    let repaired = cluster.server(&damaged).story().wait_for_event("repaired", LIMIT);
    assert_eq!(repaired["left"], 0);
    cluster.server_mut(&damaged).stop();
    assert!(note.exists(), "a start that found damage leaves it for the next");
    cluster.start(&damaged);
    cluster.server(&damaged).story().wait_for_event("recovered", LIMIT);
    assert!(!note.exists());
    cluster.wait_until_level(LIMIT);
    assert_eq!(keys_at(&cluster, &damaged), KEYS);
}

#[test]
fn servers_that_lost_different_entries_help_each_other_before_any_of_them_leads() {
    let mut cluster = filled();
    for number in 1..=3 {
        cluster.server_mut(&format!("s{number}")).stop();
    }
    let all: Vec<(u64, PathBuf)> =
        (1..=3).map(|number| (number, data_of(&cluster, &format!("s{number}")))).collect();
    for (number, data) in &all {
        // The founding configuration, too, is lost by one of them.
        let lost = damage(data, |place| place.index < 50 && place.index % 3 == number % 3);
        assert!(lost > 10, "{lost}");
    }

    cluster.start_all();
    for (number, _) in &all {
        let story = cluster.server(&format!("s{number}")).story();
        story.wait_for("its repair", LIMIT, |event| {
            event["event"] == "repaired" && event["left"] == 0
        });
    }
    cluster.leader();
    cluster.kvctl(&["set", "key-after", "1"]).expect_code(0);
    cluster.wait_until_level(LIMIT);
    for (number, data) in &all {
        let id = format!("s{number}");
        assert_eq!(keys_at(&cluster, &id), KEYS + 1);
        cluster.server_mut(&id).stop();
        assert_clean(data);
    }
}

#[test]
fn a_server_without_anybody_to_ask_says_so_and_serves_nothing() {
    let mut cluster = Cluster::started(KVCTL, 1);
    for number in 0..10 {
        cluster.kvctl(&["set", &format!("key-{number}"), "1"]).expect_code(0);
    }
    cluster.server_mut("s1").stop();
    let data = data_of(&cluster, "s1");
    assert_eq!(damage(&data, |place| place.index == 5), 1);

    cluster.start("s1");
    cluster.server("s1").story().wait_for_event("irreparable", LIMIT);
    cluster.kvctl(&["--timeout", "5s", "get", "key-9"]).expect_code(7);
    let status = cluster.kvctl(&["status"]).expect_code(0);
    assert!(status.stderr.contains("1 entries of its log are damaged"), "{}", status.stderr);
}

#[test]
fn a_damaged_directory_is_lost_history_and_says_how_to_come_back() {
    let mut cluster = filled();
    let damaged = cluster.follower();
    cluster.server_mut(&damaged).stop();
    let data = data_of(&cluster, &damaged);
    let victim = entries(&data).into_iter().find(|place| place.index == 30).unwrap();
    // Behind the header of the batch stands its directory.
    flip(&victim.file, victim.batch + 32);
    let left = fs::read(&victim.file).unwrap();

    for _ in 0..2 {
        let run = serve(&cluster, &damaged).expect_code(10);
        let place = format!("damaged at offset {}", victim.batch);
        for expected in [victim.file.to_str().unwrap(), &place, "30", "member replace"] {
            assert!(run.stderr.contains(expected), "{expected} is missing: {}", run.stderr);
        }
    }
    assert!(fs::read(&victim.file).unwrap() == left, "what is left is not touched");
    cluster.kvctl(&["set", "key-after", "1"]).expect_code(0);
}
