//! Old parts of a log that cannot be read any more: the server ends at the first, and the next
//! start knows of it. And logs that are exchanged for each other.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]
#![allow(clippy::panic, reason = "a broken rule ends the test with what was found")]

use std::io::{self, Read, Write};

use bytes::Bytes;
use raft::founding::Charter;
use raft::node::{
    Append, Config, Configuration, Entry, Envelope, Fetch, FetchId, Incarnation, Index, LostEntry,
    Member, NodeId, Payload, Ticket, Voter,
};
use raft::replica::{
    Carried, Fatal, LogEntriesError, Replica, SnapshotEnvelope, Token, Transport, Work,
};
use raft::storage::{
    Flushes, Home, HomeError, LogError, LogOptions, ReadBack, Recovered, SnapshotOptions, Stage,
    Successors, Survey,
};
use raft::{StateMachine, Undecodable};
use wal::sim_disk::SimDisk;

const SEGMENT_BYTES: u64 = 16 << 10;
const FIRST: &str = "log/0000000000000001.wal";
/// Some sectors hold nothing but a part of one command.
const COMMAND_BYTES: usize = 3000;
const PAYLOAD_SECTOR: u64 = 3;

/// A state machine that knows only how far it has come.
#[derive(Default)]
struct Applied(Index);

impl StateMachine for Applied {
    type Reply = ();
    type Image = Index;

    fn apply(&mut self, index: Index, _: &Bytes) -> Result<(), Undecodable> {
        self.advance(index);
        Ok(())
    }

    fn advance(&mut self, index: Index) {
        self.0 = index;
    }

    fn applied(&self) -> Index {
        self.0
    }

    fn image(&self) -> Index {
        self.0
    }

    fn write(image: Index, target: &mut dyn Write) -> io::Result<()> {
        target.write_all(&image.0.to_le_bytes())
    }

    fn restore(source: &mut dyn Read) -> io::Result<Self> {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes)?;
        Ok(Self(Index(u64::from_le_bytes(bytes))))
    }
}

/// A network that goes nowhere.
struct Nowhere;

impl Transport for Nowhere {
    fn send(&mut self, _: Envelope) {}

    fn send_snapshot(&mut self, _: &SnapshotEnvelope) -> Carried {
        Carried::Taken
    }

    fn flush(&mut self) {}
}

fn member() -> Member {
    Member { id: NodeId::new("s1").expect("a name"), incarnation: Incarnation(1) }
}

fn charter() -> Charter {
    let voter = Voter { member: member(), address: "127.0.0.1:1".to_string() };
    let configuration = Configuration::new(vec![voter]).expect("names differ");
    Charter { name: "demo".to_string(), configuration }
}

fn options(log: u128) -> LogOptions {
    let mut wal = wal::Options::with_segment_bytes(SEGMENT_BYTES);
    wal.log_id = Some(wal::LogId(log));
    let (successors, snapshots) = (Successors::Inline, SnapshotOptions::default());
    LogOptions { wal, recent_bytes_max: 1000, successors, snapshots, flushes: Flushes::Inline }
}

fn open(disk: &SimDisk) -> Home {
    Home::open(disk.disk(), member().id, "demo", || member().incarnation).expect("a whole disk")
}

fn founded(log: u128) -> SimDisk {
    let disk = SimDisk::new();
    let mut home = open(&disk);
    home.agree(charter()).expect("a disk that works");
    home.found(charter(), &options(log)).expect("a disk that works");
    drop(home);
    disk
}

fn start(disk: &SimDisk) -> Result<(Home, Recovered<Applied>), HomeError> {
    let home = open(disk);
    let recovered = home.recover(&options(7), Applied::default)?;
    Ok((home, recovered))
}

fn run(replica: &mut Replica<Applied>) {
    while replica.advance(&mut Nowhere).expect("nothing fatal") == Work::More {}
    while let Some(job) = replica.take_job() {
        replica.finish_job(job.run(), std::time::Duration::ZERO);
        while replica.advance(&mut Nowhere).expect("nothing fatal") == Work::More {}
    }
}

/// A server with a snapshot, and before it a tail of full segments for followers that lag.
fn with_a_tail() -> (SimDisk, Index) {
    let disk = founded(7);
    let (home, recovered) = start(&disk).expect("a whole log");
    let mut config = Config::new(member(), home.identity().boot);
    (config.snapshot_every_bytes, config.tail_bytes) = (60 << 10, 1 << 30);
    let mut replica = Replica::new(config, recovered, 1).expect("a sound log");
    replica.tick();
    run(&mut replica);
    let mut token = 0;
    while replica.status().snapshot == Index(0) {
        token += 1;
        replica.propose(Token(token), Payload::new(vec![b'x'; COMMAND_BYTES]));
        run(&mut replica);
    }
    let snapshot = replica.status().snapshot;
    replica.propose(Token(0), Payload::new(vec![b'x'; COMMAND_BYTES]));
    run(&mut replica);
    assert!(replica.status().compacted == Index(0) && snapshot > Index(10));
    replica.close().expect("a disk that works");
    drop(home);
    (disk, snapshot)
}

fn fetch(from: u64, to: u64) -> Fetch {
    Fetch { id: FetchId(1), from: Index(from), to: Index(to), bytes_max: 1 << 20 }
}

/// Reads from `from` on until something goes wrong, as a follower that lags makes a leader do.
fn read_until_it_fails(recovered: &mut Recovered<Applied>, from: u64) -> LogError {
    let mut from = from;
    loop {
        match recovered.log.read(&fetch(from, 10)) {
            Ok(ReadBack::Entries(entries)) => {
                from = entries.last().expect("at least one").index.0 + 1;
            }
            Ok(ReadBack::Lost(lost)) => panic!("{lost:?} was read as damaged"),
            Err(error) => return error,
        }
    }
}

/// Puts back what was lost, as an answer of another server would.
fn repair(recovered: &mut Recovered<Applied>, lost: &[LostEntry]) {
    let whole = |lost: &LostEntry| Entry {
        index: lost.position.index,
        term: lost.position.term,
        kind: lost.kind,
        payload: Payload::new(vec![b'x'; COMMAND_BYTES]),
    };
    let append = Append {
        ticket: Ticket(1),
        hard_state: None,
        reset: None,
        truncate_after: None,
        entries: Vec::new().into(),
        repairs: lost.iter().map(whole).collect(),
    };
    recovered.log.submit(append).expect("what was written once");
    recovered.log.complete().expect("a disk that works");
}

/// A person's question once read past the note: the damage was answered as an internal error, and
/// neither the node nor the next start heard of it.
#[test]
fn what_a_person_finds_unreadable_ends_the_server_and_is_noted() {
    let (disk, _) = with_a_tail();
    assert!(disk.spoil_sector(FIRST, PAYLOAD_SECTOR));
    let (home, recovered) = start(&disk).expect("the segment is believed by its seal");
    let config = Config::new(member(), home.identity().boot);
    let mut replica = Replica::new(config, recovered, 1).expect("a sound log");
    let asked = (2..20).find_map(|from| replica.log_entries(Index(from), 1, 1 << 20).err());
    assert!(matches!(asked, Some(LogEntriesError::Failed(_))), "{asked:?}");
    assert!(disk.contents("suspect").is_some());
    let ended = replica.advance(&mut Nowhere);
    assert!(matches!(ended, Err(Fatal::Log(LogError::Read(_)))), "{ended:?}");
}

/// A damaged payload is no end: the node hears of it, whoever found it.
#[test]
fn what_a_person_finds_damaged_is_asked_of_the_others() {
    let (disk, _) = with_a_tail();
    let (home, recovered) = start(&disk).expect("a whole log");
    let config = Config::new(member(), home.identity().boot);
    let mut replica = Replica::new(config, recovered, 1).expect("a sound log");
    run(&mut replica);
    assert!(disk.corrupt(FIRST, |bytes| bytes[1636] ^= 1));
    let asked = (2..20).find_map(|from| replica.log_entries(Index(from), 1, 1 << 20).err());
    let Some(LogEntriesError::Damaged(index)) = asked else { panic!("{asked:?}") };
    run(&mut replica);
    assert!(replica.status().compacted >= index, "the own snapshot stands for it");
}

#[test]
fn a_read_error_is_fatal_once_and_then_repaired() {
    let (disk, _) = with_a_tail();
    assert!(disk.spoil_sector(FIRST, PAYLOAD_SECTOR));
    let (home, mut recovered) = start(&disk).expect("the segment is believed by its seal");
    assert!(recovered.state.lost.is_empty());
    let error = read_until_it_fails(&mut recovered, 2);
    assert!(matches!(error, LogError::Read(_)) && error.is_damage(), "{error}");
    drop((home, recovered));
    // The process ends, and the power with it: the note is durable all the same.
    disk.crash(1);
    assert!(disk.contents("suspect").is_some());

    let (home, mut recovered) = start(&disk).expect("only payloads are lost");
    let lost = recovered.state.lost.clone();
    assert!(!lost.is_empty() && lost.len() == 1, "{lost:?}");
    assert!(recovered.opened.let_go.is_none());
    assert!(disk.contents("suspect").is_some(), "another start must know of it too");
    repair(&mut recovered, &lost);
    drop((home, recovered));
    disk.crash(2);

    let (_home, mut recovered) = start(&disk).expect("a whole log");
    assert!(recovered.state.lost.is_empty());
    assert!(disk.contents("suspect").is_none(), "all of it was read and is whole");
    let first = lost[0].position.index.0;
    let ReadBack::Entries(read) = recovered.log.read(&fetch(first, 10)).expect("it is whole")
    else {
        panic!("{first} is still damaged");
    };
    assert_eq!(read[0].payload.bytes.len(), COMMAND_BYTES);
}

#[test]
fn an_old_segment_that_is_gone_ends_the_server_and_a_want_of_descriptors_does_not() {
    use wal::sim_disk::{Fault, OperationKind};
    let (disk, _) = with_a_tail();
    let (_home, mut recovered) = start(&disk).expect("a whole log");
    let log = &mut recovered.log;
    let first = log.scrub().expect("full segments");
    assert_eq!(first.sequence(), 1);
    disk.inject(0, Some(OperationKind::Open), Fault::Error(24));
    let found = log.finish_scrub(first.run()).expect("it was not looked at");
    assert!(found.is_empty() && disk.contents("suspect").is_none());

    assert!(disk.destroy("log/0000000000000002.wal"));
    let second = log.scrub().expect("the next one");
    assert_eq!(second.sequence(), 2);
    let error = log.finish_scrub(second.run()).expect_err("it is needed");
    assert!(error.is_damage() && error.to_string().contains("0000000000000002.wal"), "{error}");
    assert!(disk.contents("suspect").is_some());
    assert_eq!(log.scrub().map(|scrub| scrub.sequence()), Some(3), "the round goes on");
}

#[test]
fn the_note_is_durable_or_the_error_says_that_it_is_not() {
    let (disk, _) = with_a_tail();
    assert!(disk.spoil_sector(FIRST, PAYLOAD_SECTOR));
    let (_home, mut recovered) = start(&disk).expect("the segment is believed by its seal");
    disk.inject(0, Some(wal::sim_disk::OperationKind::Create), wal::sim_disk::Fault::ENOSPC);
    let error = read_until_it_fails(&mut recovered, 2);
    assert!(matches!(error, LogError::NotNoted { .. }), "{error}");
    assert!(error.is_damage() && error.to_string().contains("could not be noted"), "{error}");
}

#[test]
fn what_a_snapshot_stands_for_is_let_go_of_if_more_than_payloads_is_damaged() {
    let (disk, snapshot) = with_a_tail();
    // Three sectors behind the one that is all payload, the next batch begins.
    assert!(disk.spoil_sector(FIRST, PAYLOAD_SECTOR + 3));
    let (home, mut recovered) = start(&disk).expect("the segment is believed by its seal");
    assert_eq!(recovered.state.start.index, Index(0));
    let error = read_until_it_fails(&mut recovered, 2);
    assert!(matches!(error, LogError::Read(_)), "{error}");
    drop((home, recovered));
    disk.crash(1);

    for _ in 0..2 {
        let (home, recovered) = start(&disk).expect("a snapshot stands for what is damaged");
        let state = &recovered.state;
        assert_eq!((state.start.index, state.lost.len()), (snapshot, 0));
        assert_eq!(state.last.index, snapshot.next());
        assert_eq!(recovered.machine.as_ref().map(Applied::applied), Some(snapshot));
        assert!(disk.contents("suspect").is_none() && disk.contents(FIRST).is_none());
        drop((home, recovered));
        disk.crash(2);
    }
}

#[test]
fn a_note_that_cannot_be_read_makes_the_start_read_everything() {
    for harm in ["rotten", "unreadable"] {
        let (disk, _) = with_a_tail();
        assert!(disk.spoil_sector(FIRST, PAYLOAD_SECTOR));
        let file = disk.disk().create("suspect").expect("a disk that works");
        wal::disk::write_all_at(file.as_ref(), b"anything", 0).expect("a disk that works");
        file.sync_all().expect("a disk that works");
        disk.disk().sync().expect("a disk that works");
        if harm == "unreadable" {
            assert!(disk.spoil_sector("suspect", 0));
        }
        let (_home, recovered) = start(&disk).expect("a note is no reason not to start");
        assert!(!recovered.state.lost.is_empty(), "{harm}");
    }
}

#[test]
fn a_log_that_was_exchanged_is_refused_with_what_to_do() {
    let (own, other) = (founded(7), founded(8));
    assert!(matches!(open(&own).identity().stage, Stage::Founded { log: wal::LogId(7), .. }));
    let theirs = other.contents(FIRST).expect("a founded server has a log");
    let ours = own.contents(FIRST).expect("a founded server has a log");
    assert!(own.corrupt(FIRST, |bytes| *bytes = theirs));
    let survey = Survey::take(own.disk().as_ref()).expect("a disk that works").expect("a server's");
    assert_eq!(survey.lost.len(), 1, "{:?}", survey.lost);
    drop(survey);
    let error = start(&own).map(|_| ()).expect_err("it is another server's log");
    assert!(matches!(error, HomeError::LostHistory { .. }) && error.is_damage(), "{error}");
    let text = error.to_string();
    for part in ["00000008", "00000007", "exchanged", "put the right one back"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(own.corrupt(FIRST, |bytes| *bytes = ours));
    start(&own).map(|_| ()).expect("its own log is back");
}
