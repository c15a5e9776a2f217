//! The last survivor of a cluster becomes a cluster of its own, with all that its directory can
//! still serve, whatever happens meanwhile, and never as a member of the old one.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]

use std::io::{self, Read, Write};

use bytes::Bytes;
use raft::founding::Charter;
use raft::node::{
    Append, Configuration, Entry, EntryKind, HardState, Incarnation, Index, Member, NodeId,
    Payload, Term, Ticket, Voter,
};
use raft::storage::{
    Account, Flushes, Home, HomeError, LogOptions, Rescue, RescueError, SnapshotOptions, Stage,
    Successors, Survey, Wanted, note_lost_history,
};
use raft::{StateMachine, Undecodable};
use wal::sim_disk::{Fault, SimDisk};

/// A state machine that remembers all commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chronicle {
    applied: Index,
    commands: Vec<Bytes>,
}

impl StateMachine for Chronicle {
    type Reply = ();
    type Image = Chronicle;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<(), Undecodable> {
        self.advance(index);
        self.commands.push(command.clone());
        Ok(())
    }

    fn advance(&mut self, index: Index) {
        self.applied = index;
    }

    fn applied(&self) -> Index {
        self.applied
    }

    fn image(&self) -> Chronicle {
        self.clone()
    }

    fn write(image: Chronicle, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&image.applied.0.to_le_bytes())?;
        image.commands.iter().try_for_each(|command| {
            out.write_all(&[u8::try_from(command.len()).expect("commands are short")])?;
            out.write_all(command)
        })
    }

    fn restore(input: &mut dyn Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        let (applied, mut rest) = bytes.split_first_chunk::<8>().expect("it begins with a number");
        let mut machine = Chronicle { applied: Index(u64::from_le_bytes(*applied)), ..default() };
        while let Some((length, after)) = rest.split_first() {
            let (command, after) = after.split_at(usize::from(*length));
            machine.commands.push(Bytes::copy_from_slice(command));
            rest = after;
        }
        Ok(machine)
    }
}

fn default() -> Chronicle {
    Chronicle::default()
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

fn old_member() -> Member {
    Member { id: id("s1"), incarnation: Incarnation(1) }
}

fn charter() -> Charter {
    let voter = |(number, name): (u64, &str)| Voter {
        member: Member { id: id(name), incarnation: Incarnation(number) },
        address: format!("127.0.0.1:{number}"),
    };
    let voters = (1..).zip(["s1", "s2", "s3"]).map(voter).collect();
    let configuration = Configuration::new(voters).expect("names differ");
    Charter { name: "demo".to_string(), configuration }
}

fn options() -> LogOptions {
    let mut wal = wal::Options::with_segment_bytes(16 << 10);
    wal.log_id = Some(wal::LogId(7));
    let (successors, snapshots) = (Successors::Inline, SnapshotOptions::default());
    LogOptions { wal, recent_bytes_max: 1000, successors, snapshots, flushes: Flushes::Inline }
}

/// Adds commands to the log of a stopped server, as a leader of this term would.
fn append(disk: &SimDisk, term: u64, commands: &[&'static str]) {
    let home = Home::open(disk.disk(), id("s1"), "demo", || Incarnation(99)).expect("it is whole");
    let mut recovered = home.recover(&options(), Chronicle::default).expect("it is whole");
    let mut index = recovered.state.last.index;
    let entries = commands.iter().map(|command| {
        index = index.next();
        let payload = Payload::new(Bytes::from_static(command.as_bytes()));
        Entry { index, term: Term(term), kind: EntryKind::Command, payload }
    });
    let append = Append {
        ticket: Ticket(1),
        hard_state: Some(HardState { term: Term(term), vote: None }),
        reset: None,
        truncate_after: None,
        entries: entries.collect(),
        repairs: Vec::new(),
    };
    recovered.log.submit(append).expect("there is room");
    recovered.log.complete().expect("a disk that works");
    recovered.log.close().expect("a disk that works");
}

/// A server of three that knows three commands, entries 2 to 4, and stopped.
fn survivor() -> SimDisk {
    let disk = SimDisk::new();
    let mut home = Home::open(disk.disk(), id("s1"), "demo", || Incarnation(1)).expect("empty");
    home.agree(charter()).expect("a disk that works");
    home.found(charter(), &options()).expect("a disk that works");
    drop(home);
    append(&disk, 4, &["a", "b", "c"]);
    disk
}

/// The same after a recovery and two more commands, so that there is a snapshot.
fn survivor_with_snapshot() -> SimDisk {
    let disk = survivor();
    rescue(&disk, 1000).expect("it is whole");
    append(&disk, 5, &["d", "e"]);
    disk
}

fn demo() -> Wanted {
    Wanted { cluster: Some("demo".to_string()), ..Wanted::default() }
}

fn prepare(disk: &SimDisk, wanted: &Wanted, drawn: u64) -> Result<Rescue, RescueError> {
    let draw = || Incarnation(drawn);
    Rescue::prepare(disk.disk(), wanted, &options(), Chronicle::default, draw)
}

fn rescue(disk: &SimDisk, drawn: u64) -> Result<Account, RescueError> {
    prepare(disk, &demo(), drawn)?.carry_out()
}

/// Starts the server up to where it would take part: who it is, how far its log goes, and what it
/// has applied by then.
fn start(disk: &SimDisk) -> Result<(Member, Stage, Index, Vec<Bytes>), HomeError> {
    let home = Home::open(disk.disk(), id("s1"), "demo", || Incarnation(99))?;
    let recovered = home.recover(&options(), Chronicle::default)?;
    let machine = recovered.machine.expect("a state");
    let identity = home.identity().clone();
    let last = recovered.state.last.index;
    recovered.log.close()?;
    Ok((identity.member, identity.stage, last, machine.commands))
}

fn contents(disk: &SimDisk, wanted: impl Fn(&str) -> bool) -> Vec<(String, Option<Vec<u8>>)> {
    let files = disk.files().into_iter().filter(|file| wanted(file));
    files.map(|file| (file.clone(), disk.contents(&file))).collect()
}

fn is_old(file: &str) -> bool {
    file == "founding" || file.starts_with("log/") || file.starts_with("snapshots/")
}

#[test]
fn the_survivor_serves_all_that_it_had_under_another_name_of_cluster_and_self() {
    let disk = survivor();
    let before = contents(&disk, is_old);
    let account = rescue(&disk, 1000).expect("it is whole");
    assert_eq!(account.losses, Vec::<String>::new());
    assert_eq!((account.kept.index, account.kept.term), (Index(4), Term(4)));
    assert_eq!((account.before, account.server.id), (Some(old_member()), id("s1")));
    assert_eq!(account.members, charter().configuration);
    assert_eq!(account.old_cluster, Some(charter().cluster_id()));
    assert_eq!(account.address, "127.0.0.1:1");

    let (member, stage, last, commands) = start(&disk).expect("a whole directory");
    assert_eq!(member, Member { id: id("s1"), incarnation: Incarnation(1000) });
    assert!(matches!(stage, Stage::Founded { cluster, .. } if cluster == account.new_cluster));
    assert_ne!(account.new_cluster, charter().cluster_id());
    assert_eq!((last, commands), (Index(4), vec!["a".into(), "b".into(), "c".into()]));
    assert!(contents(&disk, is_old) == before, "what was replaced is not touched");
    assert!(disk.contents("identity.before-1").is_some(), "who it was is kept");

    // It goes on from there, and a look at it sees what counts.
    append(&disk, 5, &["d"]);
    let survey = Survey::take(disk.disk().as_ref()).expect("a disk that works").expect("a server");
    assert!(survey.lost.is_empty(), "{:?}", survey.lost);
    let new_charter = survey.charter.expect("it is founded");
    assert_eq!(new_charter.cluster_id(), account.new_cluster);
    let voters = new_charter.configuration.voters();
    assert_eq!(voters.iter().map(|voter| voter.member).collect::<Vec<_>>(), [account.server]);
}

#[test]
fn whenever_the_power_goes_the_directory_is_the_old_clusters_or_the_new_ones() {
    for make in [survivor, survivor_with_snapshot] {
        let disk = make();
        let (old, stage, last, _) = start(&disk.fork()).expect("a whole directory");
        let whole = disk.fork();
        let begun = whole.count(None);
        // After the first recovery the server is alone, so losing something makes the next needed.
        let harm = |disk: &SimDisk| {
            let home = disk.disk();
            if last > Index(4) {
                let base = home.subdirectory("recovered-1").expect("it is there");
                note_lost_history(base.as_ref(), "a vote").expect("a disk that works");
            }
        };
        harm(&whole);
        let begun_after_harm = whole.count(None);
        assert!(begun_after_harm >= begun);
        rescue(&whole, 2000).expect("it is whole");
        let operations = whole.count(None) - begun_after_harm;
        assert!(operations > 50, "{operations}");

        let (mut olds, mut news) = (0, 0);
        for after in 0..operations {
            // Only at the very end can either cluster be the one that is left.
            let seeds = if after + 3 > operations { 16 } else { 2 };
            for seed in 0..seeds {
                let cut = disk.fork();
                harm(&cut);
                cut.inject(after, None, Fault::PowerOff);
                let told = rescue(&cut, 2000);
                cut.crash(after * 16 + seed);
                assert!(told.is_err() || after + 1 == operations, "the power was off");
                let copy = cut.fork();
                match start(&copy) {
                    Ok((member, _, now, commands)) if member.incarnation == Incarnation(2000) => {
                        news += 1;
                        assert_eq!((now, commands.len() as u64), (last, last.0 - 1));
                        let again = rescue(&cut, 3000).expect_err("it is alone and whole");
                        assert!(matches!(again, RescueError::NotNeeded { .. }), "{again}");
                    }
                    Ok((member, now_stage, now, _)) => {
                        olds += 1;
                        assert_eq!((member, now_stage, now), (old, stage, last));
                    }
                    Err(HomeError::LostHistory { .. }) if last > Index(4) => olds += 1,
                    Err(error) => unreachable!("cut at operation {after}: {error}"),
                }
                if start(&copy).is_ok_and(|(member, ..)| member.incarnation == Incarnation(2000)) {
                    continue;
                }
                let again = rescue(&cut, 3000).expect("it can be asked for again");
                assert_eq!(again.kept.index, last);
                let (member, _, now, commands) = start(&cut).expect("a whole directory");
                assert_eq!(member.incarnation, Incarnation(3000));
                assert_eq!((now, commands.len() as u64), (last, last.0 - 1));
            }
        }
        assert!(olds > 0 && news > 0, "{olds} {news}");
    }
}

#[test]
fn a_disk_that_fails_or_is_full_leaves_the_old_cluster_and_says_why() {
    let disk = survivor();
    let before = contents(&disk, |file| is_old(file) || file == "identity");
    let whole = disk.fork();
    let begun = whole.count(None);
    rescue(&whole, 2000).expect("it is whole");
    let operations = whole.count(None) - begun;
    for fault in [Fault::EIO, Fault::ENOSPC] {
        for after in 0..operations {
            let failing = disk.fork();
            failing.inject(after, None, fault);
            let told = rescue(&failing, 2000);
            failing.clear_faults();
            let now = contents(&failing, |file| is_old(file) || file == "identity");
            let is_old_still = now == before;
            assert!(is_old_still || told.is_ok() || after + 3 > operations, "operation {after}");
            let (_, _, last, _) = start(&failing).expect("a whole directory");
            assert_eq!(last, Index(4));
        }
    }
    let full = disk.fork();
    full.set_room(Some(full.used() + 1000));
    let told = rescue(&full, 2000).expect_err("there is no room");
    assert!(told.to_string().contains("room"), "{told}");
    full.set_room(None);
    assert!(contents(&full, |file| is_old(file) || file == "identity") == before);
    assert!(contents(&full, |file| file.starts_with("recovered-")).is_empty(), "and no rest");
}

#[test]
fn what_is_abandoned_leaves_nothing() {
    let disk = survivor();
    let before = contents(&disk, |file| !file.ends_with("LOCK"));
    let prepared = prepare(&disk, &demo(), 1000).expect("it is whole");
    let in_use = Home::open(disk.disk(), id("s1"), "demo", || Incarnation(9));
    assert!(matches!(in_use, Err(HomeError::InUse { .. })), "nobody starts on it meanwhile");
    prepared.abandon().expect("a disk that works");
    assert!(contents(&disk, |file| !file.ends_with("LOCK")) == before);
    assert_eq!(start(&disk).expect("it is whole").0, old_member());
}

fn segment(disk: &SimDisk, under: &str) -> String {
    let mut files = disk.files().into_iter().filter(|it| it.starts_with(under));
    files.find(|file| file.ends_with(".wal")).expect("a founded server has one")
}

fn spoil(disk: &SimDisk, file: &str, what: &[u8]) {
    assert!(disk.corrupt(file, |bytes| {
        let at = bytes.windows(what.len()).position(|window| window == what).expect("it is there");
        bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
    }));
}

#[test]
fn a_damaged_directory_gives_what_can_be_proved_and_says_what_cannot() {
    type Harm = fn(&SimDisk);
    let harms: [(&str, Harm, u64, &str); 7] = [
        ("identity", |disk| assert!(disk.destroy("identity")), 4, "identity is gone"),
        ("rot", |disk| assert!(disk.corrupt("identity", |it| it.fill(7))), 4, "both copies"),
        ("founding", |disk| assert!(disk.destroy("founding")), 4, "founding"),
        ("note", |disk| note_lost_history(disk.disk().as_ref(), "x").expect("works"), 4, "(x)"),
        ("payload", |disk| spoil(disk, &segment(disk, "log/"), b"abc"), 1, "entry 2@4"),
        (
            "the first batch",
            |disk| {
                assert!(disk.corrupt(&segment(disk, "log/"), |it| {
                    it.iter_mut().skip(165).take(4).for_each(|byte| *byte ^= 1)
                }))
            },
            0,
            "nothing of it can be served",
        ),
        (
            "log",
            |disk| assert!(disk.destroy(&segment(disk, "log/"))),
            0,
            "neither its log nor a snapshot",
        ),
    ];
    for (story, harm, kept, words) in harms {
        let disk = survivor();
        harm(&disk);
        let before = contents(&disk, is_old);
        let wanted = Wanted { id: Some(id("s1")), ..demo() };
        match prepare(&disk, &wanted, 1000) {
            Ok(prepared) => {
                let account = prepared.carry_out().expect("a disk that works");
                assert_eq!(account.kept.index, Index(kept), "{story}: {:?}", account.losses);
                let losses = account.losses.join("; ");
                assert!(losses.contains(words), "{story}: {losses}");
                let (member, ..) = start(&disk).expect("a whole directory");
                assert_eq!(member.incarnation, Incarnation(1000), "{story}");
            }
            Err(error) => {
                assert_eq!(kept, 0, "{story}: {error}");
                assert!(error.to_string().contains(words), "{story}: {error}");
            }
        }
        assert!(contents(&disk, is_old) == before, "{story}: the old one was touched");
    }
}

#[test]
fn a_snapshot_serves_alone_where_the_log_is_gone_or_does_not_go_on_from_it() {
    for harm in ["recovered-1/log/", "recovered-1/snapshots/"] {
        let disk = survivor_with_snapshot();
        let files: Vec<String> = { disk.files() }
            .into_iter()
            .filter(|file| file.starts_with(harm) && !file.ends_with("LOCK"))
            .collect();
        for file in files {
            assert!(disk.destroy(&file));
        }
        let told = rescue(&disk, 2000);
        if harm.contains("log") {
            let account = told.expect("the snapshot is whole");
            assert_eq!((account.kept.index, account.snapshot), (Index(4), Some(account.kept)));
            assert!(account.losses.join("; ").contains("log is gone"), "{:?}", account.losses);
            assert_eq!(start(&disk).expect("a whole directory").3.len(), 3);
        } else {
            let error = told.expect_err("the log begins behind it");
            let text = error.to_string();
            assert!(text.contains("begins behind entry 4"), "{text}");
        }
    }
}

#[test]
fn a_recovery_that_makes_no_sense_is_refused_and_changes_nothing() {
    let nobodys = SimDisk::new();
    let error = rescue(&nobodys, 9).expect_err("it is empty");
    assert!(matches!(error, RescueError::NoServer { .. }), "{error}");
    assert_eq!(nobodys.files(), Vec::<String>::new());

    let drawn = SimDisk::new();
    drop(Home::open(drawn.disk(), id("s1"), "demo", || Incarnation(1)).expect("empty"));
    let error = rescue(&drawn, 9).expect_err("it was never founded");
    assert!(matches!(error, RescueError::NeverServed { .. }), "{error}");

    let disk = survivor();
    let before = contents(&disk, |file| !file.ends_with("LOCK"));
    let other = Wanted { cluster: Some("other".to_string()), ..Wanted::default() };
    let error = prepare(&disk, &other, 9).expect_err("it is another cluster's");
    assert!(matches!(error, RescueError::OtherCluster { .. }), "{error}");
    let other = Wanted { id: Some(id("s2")), ..demo() };
    let error = prepare(&disk, &other, 9).expect_err("it is another server's");
    assert!(matches!(error, RescueError::Home(HomeError::OtherServer { .. })), "{error}");
    let endless = Wanted { address: Some("x".repeat(300)), ..demo() };
    let error = prepare(&disk, &endless, 9).expect_err("there is no such address");
    assert!(matches!(error, RescueError::Members(_)), "{error}");
    let running = Home::open(disk.disk(), id("s1"), "demo", || Incarnation(9)).expect("whole");
    let error = rescue(&disk, 9).expect_err("it is in use");
    assert!(matches!(error, RescueError::Home(HomeError::InUse { .. })), "{error}");
    drop(running);
    let unchanged = contents(&disk, |file| !file.ends_with("LOCK") && file != "identity");
    let known = { before }.into_iter().filter(|(file, _)| file != "identity");
    assert!(unchanged == known.collect::<Vec<_>>(), "the identity counts starts, no more");

    // Without an identity somebody must say whose it is, and of two recoveries which one counts.
    assert!(disk.destroy("identity"));
    let error = rescue(&disk, 9).expect_err("nobody knows whose it is");
    assert!(matches!(error, RescueError::Unknown { option: "--id ID", .. }), "{error}");
}

/// A directory that was recovered once, and once more after it has lost its identity.
#[test]
fn without_its_identity_the_latest_recovery_is_recovered_and_nothing_is_removed() {
    type Harm = fn(&SimDisk);
    let harms: [(&str, Harm); 4] = [
        ("the identity is gone", |disk| assert!(disk.destroy("identity"))),
        ("it is rotten", |disk| assert!(disk.corrupt("identity", |it| it.fill(7)))),
        ("so are the marks", |disk| {
            assert!(disk.destroy("identity") && disk.destroy("identity.before-1"));
        }),
        ("so is what was replaced", |disk| {
            let old = disk.files().into_iter().filter(|file| is_old(file));
            old.for_each(|file| assert!(disk.destroy(&file)));
            assert!(disk.destroy("identity"));
        }),
    ];
    for (story, harm) in harms {
        let disk = survivor_with_snapshot();
        harm(&disk);
        assert!(matches!(start(&disk), Err(HomeError::LostHistory { .. })), "{story}");
        let is_kept = |file: &str| !file.ends_with("LOCK") && !file.starts_with("identity");
        let before = contents(&disk, is_kept);
        let wanted = Wanted { id: Some(id("s1")), ..demo() };
        let prepared = prepare(&disk, &wanted, 2000).expect("all is there");
        prepared.abandon().expect("a disk that works");
        assert!(contents(&disk, is_kept) == before, "{story}: not confirmed");

        let account = prepare(&disk, &wanted, 2000).expect("all is there").carry_out();
        let account = account.expect("a disk that works");
        let now = contents(&disk, is_kept);
        assert!(before.iter().all(|file| now.contains(file)), "{story}: something was removed");
        assert!(account.losses.join("; ").contains("which recovery counts"), "{story}");
        let (member, _, _, commands) = start(&disk).expect("a whole directory");
        assert_eq!(member.incarnation, Incarnation(2000), "{story}");
        assert_eq!(commands, ["a", "b", "c", "d", "e"].map(Bytes::from), "{story}");
        // The number of the attempt that was abandoned is not used again.
        assert!(disk.contents("identity.before-3").is_some(), "{story}: it is marked");
    }
}

/// What it was made of goes on, so it would be recovered with what it lacks by then.
#[test]
fn a_recovery_that_was_marked_and_interrupted_is_forgotten_by_the_next_start() {
    let disk = survivor();
    let whole = disk.fork();
    let begun = whole.count(None);
    rescue(&whole, 2000).expect("it is whole");
    let operations = whole.count(None) - begun;
    let mut marked = 0;
    for after in operations - 12..operations {
        let cut = disk.fork();
        cut.inject(after, None, Fault::PowerOff);
        let _ = rescue(&cut, 2000);
        cut.crash_with(|_| wal::sim_disk::Fate::Keep);
        let was_marked = cut.contents("identity.before-1").is_some();
        let (member, ..) = start(&cut).expect("a whole directory");
        if member != old_member() {
            continue;
        }
        marked += u32::from(was_marked);
        assert_eq!(cut.contents("identity.before-1"), None, "cut at {after}");
        append(&cut, 9, &["later"]);
        assert!(cut.destroy("identity"));
        let wanted = Wanted { id: Some(id("s1")), ..demo() };
        let account = prepare(&cut, &wanted, 3000).expect("all is there").account().clone();
        assert!(account.kept.index >= Index(4), "cut at {after}");
    }
    assert!(marked > 0, "no cut came between the mark and what it is for");
}
