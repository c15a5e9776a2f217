//! A server that joins a cluster, with its power cut anywhere on the way: it comes up again as who
//! it was, belongs to that cluster or to none, and in the end has an empty log and takes part.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]
#![allow(clippy::panic, reason = "a broken rule ends the test with where it was cut")]

mod nothing;

use raft::founding::Charter;
use raft::node::{
    Boot, Config, Configuration, DurableState, Incarnation, Index, Member, Node, NodeId, Position,
    Term, Voter,
};
use raft::storage::{Flushes, Home, HomeError, LogOptions, SnapshotOptions, Stage, Successors};
use wal::sim_disk::{Fault, SimDisk};

use nothing::Nothing;

fn member(id: &str, incarnation: u64) -> Member {
    Member { id: NodeId::new(id).expect("a name"), incarnation: Incarnation(incarnation) }
}

fn charter() -> Charter {
    let voter = Voter { member: member("s1", 1), address: "127.0.0.1:1".to_string() };
    let configuration = Configuration::new(vec![voter]).expect("names differ");
    Charter { name: "demo".to_string(), configuration }
}

fn options() -> LogOptions {
    let mut wal = wal::Options::with_segment_bytes(16 << 10);
    wal.log_id = Some(wal::LogId(7));
    let (successors, snapshots) = (Successors::Inline, SnapshotOptions::default());
    LogOptions { wal, recent_bytes_max: 1000, successors, snapshots, flushes: Flushes::Inline }
}

fn open(disk: &SimDisk, drawn: u64) -> Result<Home, HomeError> {
    Home::open(disk.disk(), member("s5", 0).id, None, || Incarnation(drawn))
}

/// What a server does from its start until it takes part: whoever drew an incarnation was told of
/// it by its peers, so it counts as seen.
fn join(disk: &SimDisk, drawn: u64, seen: &mut Option<Member>) -> Result<DurableState, HomeError> {
    let mut home = open(disk, drawn)?;
    let identity = home.identity().clone();
    assert!(seen.is_none_or(|seen| seen == identity.member), "an announced pair stays");
    *seen = Some(identity.member);
    if !matches!(identity.stage, Stage::Founded { .. }) {
        home.join(charter(), &options())?;
    }
    let recovered = home.recover(&options(), Nothing::default)?;
    recovered.log.close()?;
    Ok(recovered.state)
}

#[test]
fn joining_survives_a_power_cut_at_every_step() {
    let whole = SimDisk::new();
    join(&whole, 5, &mut None).expect("a disk that works");
    let operations = whole.count(None);
    for cut in 0..operations {
        for seed in 0..4 {
            let disk = SimDisk::new();
            let mut seen = None;
            disk.inject(cut, None, Fault::PowerOff);
            // A cut while the log is closed leaves the server as it was: it had joined.
            let _ = join(&disk, 5, &mut seen);
            disk.crash(seed);
            let state = join(&disk, 6, &mut seen);
            let state = state.unwrap_or_else(|error| panic!("cut at {cut}, seed {seed}: {error}"));
            assert_eq!(state.last, Position::default());
            assert_eq!(state.hard_state.term, Term(0));
            let home = open(&disk, 7).expect("a member's directory");
            let (cluster, log) = (charter().cluster_id(), wal::LogId(7));
            assert_eq!(home.identity().stage, Stage::Founded { cluster, log });
            assert_eq!(home.charter(), Some(&charter()));
        }
    }
}

#[test]
fn a_server_that_belongs_to_a_cluster_and_lost_its_log_does_not_start() {
    let disk = SimDisk::new();
    join(&disk, 5, &mut None).expect("a disk that works");
    disk.files().iter().filter(|file| file.ends_with(".wal")).for_each(|file| {
        assert!(disk.destroy(file));
    });
    let lost = join(&disk, 6, &mut None).expect_err("its log is gone");
    assert!(matches!(lost, HomeError::LostHistory { .. }), "{lost}");
}

#[test]
fn a_log_that_was_used_is_never_taken_for_one_that_was_just_made() {
    let disk = SimDisk::new();
    let mut home = open(&disk, 5).expect("an empty disk");
    let before = disk.contents("identity").expect("it was made");
    home.join(charter(), &options()).expect("a disk that works");
    let recovered = home.recover(&options(), Nothing::default).expect("a whole log");
    let mut log = recovered.log;
    let vote = raft::node::HardState { term: Term(4), vote: Some(member("s1", 1)) };
    let append = raft::node::Append {
        ticket: raft::node::Ticket(1),
        hard_state: Some(vote),
        reset: None,
        truncate_after: None,
        entries: raft::node::Entries::default(),
        repairs: Vec::new(),
    };
    log.submit(append).expect("there is room");
    log.complete().expect("a disk that works");
    drop((log, recovered.snapshots, home));

    assert!(disk.corrupt("identity", |bytes| *bytes = before));
    let lost = join(&disk, 6, &mut None).expect_err("the identity is older than the log");
    assert!(matches!(lost, HomeError::LostHistory { .. }), "{lost}");
}

#[test]
fn a_joined_server_knows_nobody_and_never_campaigns() {
    let disk = SimDisk::new();
    let state = join(&disk, 5, &mut None).expect("a disk that works");
    let mut node = Node::restore(Config::new(member("s5", 5), Boot(1)), state, 1)
        .expect("an empty log is one");
    for _ in 0..10_000 {
        node.tick();
        let actions = node.drain();
        assert!(actions.send.is_empty() && actions.append.is_none(), "{actions:?}");
    }
    assert_eq!((node.term(), node.commit()), (Term(0), Index(0)));
}
