//! One rule for whatever takes a server's promises along: it does not start, the directory is left
//! as it is, and a survey says the same beforehand without touching anything.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]

mod nothing;

use raft::founding::Charter;
use raft::node::{Configuration, Incarnation, Member, NodeId, Voter};
use raft::storage::{
    Flushes, GiveUpError, Home, HomeError, LogOptions, SnapshotOptions, Successors, Survey,
    give_up_history, note_lost_history,
};
use wal::sim_disk::{Fate, Fault, SimDisk};

use nothing::Nothing;

fn member() -> Member {
    Member { id: NodeId::new("s1").expect("a name"), incarnation: Incarnation(1) }
}

fn charter() -> Charter {
    let voter = Voter { member: member(), address: "127.0.0.1:1".to_string() };
    let configuration = Configuration::new(vec![voter]).expect("names differ");
    Charter { name: "demo".to_string(), configuration }
}

fn options() -> LogOptions {
    let mut wal = wal::Options::with_segment_bytes(16 << 10);
    wal.log_id = Some(wal::LogId(7));
    let (successors, snapshots) = (Successors::Inline, SnapshotOptions::default());
    LogOptions { wal, recent_bytes_max: 1000, successors, snapshots, flushes: Flushes::Inline }
}

/// Starts the server up to where it would vote.
fn start(disk: &SimDisk) -> Result<(), HomeError> {
    let home = Home::open(disk.disk(), member().id, "demo", || Incarnation(2))?;
    Ok(home.recover(&options(), Nothing::default)?.log.close()?)
}

/// The disk of a founded server that was started once and stopped.
fn founded() -> SimDisk {
    let disk = SimDisk::new();
    let mut home = Home::open(disk.disk(), member().id, "demo", || member().incarnation)
        .expect("an empty disk");
    home.agree(charter()).expect("a disk that works");
    home.found(charter(), &options()).expect("a disk that works");
    drop(home);
    start(&disk).expect("a whole directory");
    disk
}

fn contents(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.files().into_iter().map(|file| (file.clone(), disk.contents(&file))).collect()
}

fn segment(disk: &SimDisk) -> String {
    disk.files().into_iter().find(|file| file.ends_with(".wal")).expect("a founded server has one")
}

#[test]
fn whatever_is_lost_the_server_does_not_start_and_nothing_is_touched() {
    type Harm = fn(&SimDisk);
    let harms: [(&str, Harm); 9] = [
        ("no identity", |disk| assert!(disk.destroy("identity"))),
        ("a rotten identity", |disk| assert!(disk.corrupt("identity", |it| it.fill(7)))),
        ("no founding", |disk| assert!(disk.destroy("founding"))),
        ("a rotten founding", |disk| assert!(disk.corrupt("founding", |it| it.fill(7)))),
        ("no log", |disk| {
            let segments = disk.files().into_iter().filter(|file| file.ends_with(".wal"));
            segments.for_each(|file| assert!(disk.destroy(&file)));
        }),
        ("a rotten segment", |disk| assert!(disk.corrupt(&segment(disk), |it| it.fill(7)))),
        ("a rotten batch", |disk| {
            assert!(disk.corrupt(&segment(disk), |it| {
                it.iter_mut().skip(165).take(4).for_each(|byte| *byte ^= 1)
            }));
        }),
        ("a note beside the identity", |disk| {
            note_lost_history(disk.disk().as_ref(), "gone").expect("a disk that works");
        }),
        ("a note beside the log", |disk| {
            let log = disk.disk().subdirectory("log").expect("it is there");
            note_lost_history(log.as_ref(), "gone").expect("a disk that works");
        }),
    ];
    for (story, harm) in harms {
        let disk = founded();
        harm(&disk);
        let before = contents(&disk);
        let survey = Survey::take(disk.disk().as_ref()).expect("a disk that works");
        let survey = survey.unwrap_or_else(|| unreachable!("{story}: it is a server's"));
        let in_log = survey.log.as_ref().is_some_and(|log| {
            let inspector = wal::Inspector::open(log.clone()).expect("nobody uses it");
            matches!(inspector.verify(), Ok(wal::Health::Lost(_)))
        });
        assert!(in_log == survey.lost.is_empty(), "{story}: {:?}", survey.lost);
        drop(survey);
        assert!(contents(&disk) == before, "{story}: the survey changed something");
        // The identity counts starts, which is no promise.
        let error = start(&disk).expect_err(story);
        assert!(matches!(error, HomeError::LostHistory { .. }), "{story}: {error}");
        assert!(error.is_damage() && error.to_string().contains("new member"), "{story}: {error}");
        let unchanged = |files: Vec<(String, Option<Vec<u8>>)>| -> Vec<_> {
            files.into_iter().filter(|(name, _)| name != "identity").collect()
        };
        assert!(unchanged(contents(&disk)) == unchanged(before), "{story}: the start changed it");
    }
}

/// Whatever is made after the identity says that there was one.
#[test]
fn a_directory_without_identity_is_a_new_servers_only_if_nothing_else_is_in_it() {
    let traces: [(&str, &str); 4] = [
        ("", "boots"),
        ("", "identity.before-1"),
        ("snapshots", "00000000000000000008-00000000000000000001.own"),
        ("recovered-1", "founding"),
    ];
    for (directory, name) in traces {
        let disk = SimDisk::new();
        let parent = match directory {
            "" => disk.disk(),
            named => disk.disk().subdirectory(named).expect("a disk that works"),
        };
        let file = parent.create(name).expect("a disk that works");
        wal::disk::write_all_at(file.as_ref(), b"x", 0).expect("a disk that works");
        let error = start(&disk).expect_err(name);
        assert!(matches!(error, HomeError::LostHistory { .. }), "{name}: {error}");
        assert!(error.to_string().contains("no identity file"), "{name}: {error}");
        assert!(disk.contents("identity").is_none(), "{name}: nobody is made of it");
    }
}

/// Both ways into a cluster begin with an empty log, and nothing may stand for entries before it.
#[test]
fn snapshots_of_another_life_are_no_part_of_a_new_one() {
    for joins in [false, true] {
        let disk = SimDisk::new();
        let mut home = Home::open(disk.disk(), member().id, "demo", || member().incarnation)
            .expect("an empty disk");
        let old = disk.disk().subdirectory("snapshots").expect("a disk that works");
        let file = old.create("of-another-life.own").expect("a disk that works");
        wal::disk::write_all_at(file.as_ref(), b"x", 0).expect("a disk that works");
        if joins {
            home.join(charter(), &options()).expect("a disk that works");
        } else {
            home.found(charter(), &options()).expect("a disk that works");
        }
        assert_eq!(old.list().expect("a disk that works"), Vec::<String>::new());
    }
}

#[test]
fn a_log_that_was_salvaged_and_noted_never_votes_again() {
    let disk = founded();
    assert!(disk.corrupt(&segment(&disk), |bytes| {
        bytes.iter_mut().skip(165).take(4).for_each(|byte| *byte ^= 1)
    }));
    let log = disk.disk().subdirectory("log").expect("it is there");
    let inspector = wal::Inspector::open(log.clone()).expect("nobody uses it");
    note_lost_history(disk.disk().as_ref(), "entries from 1 on").expect("a disk that works");
    inspector.salvage().expect("an empty log is left");
    assert!(matches!(inspector.verify(), Ok(wal::Health::Clean)));
    drop(inspector);
    let error = start(&disk).expect_err("it has forgotten its vote");
    assert!(error.to_string().contains("entries from 1 on"), "{error}");
    let survey =
        Survey::take(disk.disk().as_ref()).expect("a disk that works").expect("a server's");
    assert_eq!(survey.lost.len(), 1);
    assert_eq!(survey.identity.map(|identity| identity.member), Some(member()));
}

/// A founded server whose log has lost history, and one of its batches left.
fn damaged() -> SimDisk {
    let disk = founded();
    assert!(disk.corrupt(&segment(&disk), |bytes| {
        bytes.iter_mut().skip(165).take(4).for_each(|byte| *byte ^= 1)
    }));
    disk
}

/// Gives up what has to be given up, as a tool does it.
fn give_up(disk: &SimDisk) -> Result<(), GiveUpError> {
    let home = disk.disk();
    let note = |source| GiveUpError::Note { path: String::new(), source };
    let inspector = wal::Inspector::open(home.subdirectory("log").map_err(note)?)?;
    if let Some(plan) = inspector.plan_salvage()? {
        give_up_history(home.as_ref(), &inspector, &plan, "entries from 1 on")?;
    }
    Ok(())
}

fn assert_never_starts(disk: &SimDisk, story: &str) {
    let error = start(&disk.fork()).expect_err(story);
    assert!(matches!(error, HomeError::LostHistory { .. }), "{story}: {error}");
    let survey = Survey::take(disk.fork().disk().as_ref()).expect("a disk that works");
    let survey = survey.expect("a server's");
    let log = wal::Inspector::open(survey.log.clone().expect("it is there")).expect("a log");
    let is_whole = !matches!(log.verify(), Ok(wal::Health::Lost(_)));
    assert!(!is_whole || survey.lost.len() == 1, "{story}: it looks whole and is not marked");
}

#[test]
fn wherever_the_power_goes_while_history_is_given_up_the_server_never_votes_again() {
    let whole = damaged();
    let before = whole.count(None);
    give_up(&whole).expect("an empty log is left");
    let operations = whole.count(None) - before;
    let note = whole.contents("lost-history");
    assert!(operations > 50 && note.is_some());
    for at in 0..operations {
        for fault in [Fault::PowerOff, Fault::EIO] {
            for seed in 0..4 {
                let disk = damaged();
                disk.inject(at, None, fault);
                let _ = give_up(&disk);
                disk.clear_faults();
                let story = format!("{fault:?} at operation {at}, seed {seed}");
                if fault == Fault::PowerOff || seed > 0 {
                    disk.crash(seed);
                }
                assert_never_starts(&disk, &story);
                give_up(&disk).expect(&story);
                disk.crash_with(|_| Fate::Lose);
                assert_never_starts(&disk, &story);
                // Of the very last step it may not be durable that it was done.
                give_up(&disk).expect(&story);
                assert_eq!(disk.contents("lost-history"), note, "{story}: it is noted once");
                assert_eq!(disk.contents(&segment(&disk)), whole.contents(&segment(&whole)));
                let (again, once) = (disk.files(), whole.files());
                assert_eq!(again, once, "{story}");
            }
        }
    }
}

#[test]
fn a_whole_directory_is_surveyed_as_what_it_is() {
    let disk = founded();
    let survey =
        Survey::take(disk.disk().as_ref()).expect("a disk that works").expect("a server's");
    assert!(survey.lost.is_empty() && !survey.is_identity_damaged);
    assert_eq!(survey.charter, Some(charter()));
    assert!(survey.log.is_some());
    let in_use = Home::open(disk.disk(), member().id, "demo", || Incarnation(2));
    assert!(matches!(in_use, Err(HomeError::InUse { .. })), "nobody starts on it meanwhile");
    drop(survey);
    assert!(disk.corrupt("identity", |bytes| bytes[20] ^= 1));
    let survey =
        Survey::take(disk.disk().as_ref()).expect("a disk that works").expect("a server's");
    assert!(survey.lost.is_empty() && survey.is_identity_damaged);
    drop(survey);
    let home =
        Home::open(disk.disk(), member().id, "demo", || Incarnation(2)).expect("one is left");
    let in_use = Survey::take(disk.disk().as_ref());
    assert!(matches!(in_use, Err(HomeError::InUse { .. })), "and nobody looks while it runs");
    drop(home);
}

#[test]
fn a_directory_that_is_nobodys_is_none_to_survey() {
    let disk = SimDisk::new();
    assert!(Survey::take(disk.disk().as_ref()).expect("a disk that works").is_none());
    assert_eq!(disk.files(), Vec::<String>::new());
}
