//! Mistakes that were made once. Each test tells one; none may come back.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raft::driver::{Clock, Driver, Input};
use raft::founding::Charter;
use raft::node::{
    Config, Configuration, Entry, EntryKind, Envelope, Event, Incarnation, Index, MachineState,
    Member, Message, Node, NodeId, Payload, Position, ProposeError, ReadId, RestoreError, RoleName,
    Term, Voter,
};
use raft::replica::{Carried, Completion, Replica, SnapshotEnvelope, Token, Transport, Work};
use raft::storage::{Flushes, Home, HomeError, LogOptions, SnapshotOptions, Stage, Successors};
use raft::{StateMachine, Undecodable};
use wal::sim_disk::{OperationKind, SimDisk};

const SEGMENT_BYTES: u64 = 64 << 10;

/// A state machine that only counts.
#[derive(Default)]
struct Count(u64);

impl StateMachine for Count {
    type Reply = u64;
    type Image = ();

    fn apply(&mut self, _: Index, _: &Bytes) -> Result<u64, Undecodable> {
        self.0 += 1;
        Ok(self.0)
    }

    fn advance(&mut self, _: Index) {}

    fn applied(&self) -> Index {
        Index(0)
    }

    fn image(&self) {}

    fn write((): (), _: &mut dyn std::io::Write) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn restore(_: &mut dyn std::io::Read) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
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

/// A clock that is set by hand.
#[derive(Clone, Default)]
struct HandClock(Arc<AtomicU64>);

impl HandClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, to: Duration) {
        let millis = u64::try_from(to.as_millis()).expect("a time that a test can wait for");
        self.0.store(millis, Ordering::Relaxed);
    }

    fn read(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

fn member(n: u64) -> Member {
    let id = NodeId::new(&format!("s{n}")).expect("a letter and a number");
    Member { id, incarnation: Incarnation(n) }
}

fn charter(count: u64) -> Charter {
    let voter = |n| Voter { member: member(n), address: format!("127.0.0.1:{n}") };
    let configuration = Configuration::new((1..=count).map(voter).collect());
    Charter { name: "demo".into(), configuration: configuration.expect("names differ") }
}

fn options() -> LogOptions {
    let mut wal = wal::Options::with_segment_bytes(SEGMENT_BYTES);
    wal.log_id = Some(wal::LogId(7));
    let (successors, snapshots) = (Successors::Inline, SnapshotOptions::default());
    LogOptions { wal, recent_bytes_max: 1 << 20, successors, snapshots, flushes: Flushes::Inline }
}

/// Server s1 of a cluster of `count`, founded if it is not yet.
fn start(disk: &SimDisk, count: u64) -> (Home, Replica<Count>) {
    let mut home =
        Home::open(disk.disk(), member(1).id, "demo", || Incarnation(1)).expect("a whole disk");
    if home.identity().stage == Stage::Drawn {
        home.agree(charter(count)).expect("a disk that works");
    }
    if !matches!(home.identity().stage, Stage::Founded { .. }) {
        home.found(charter(count), &options()).expect("a disk that works");
    }
    let recovered = home.recover(&options(), Count::default).expect("a whole log");
    let config = Config::new(member(1), home.identity().boot);
    let replica = Replica::new(config, recovered, 1).expect("a sound log");
    (home, replica)
}

fn run(replica: &mut Replica<Count>) {
    while replica.advance(&mut Nowhere).expect("nothing fatal") == Work::More {}
}

/// A cluster of one that leads.
fn leader(disk: &SimDisk) -> (Home, Replica<Count>) {
    let (home, mut replica) = start(disk, 1);
    replica.tick();
    run(&mut replica);
    assert_eq!(replica.status().role, RoleName::Leader);
    (home, replica)
}

fn empty_entry(index: u64, term: u64) -> Entry {
    let (index, term) = (Index(index), Term(term));
    Entry { index, term, kind: EntryKind::Empty, payload: Payload::default() }
}

fn append(from: Member, term: u64, previous: (u64, u64), entries: Vec<Entry>) -> Envelope {
    let previous = Position { index: Index(previous.0), term: Term(previous.1) };
    let commit = entries.last().map_or(previous.index, |last| last.index);
    let message = Message::Append { previous, entries: entries.into(), commit, round: 1 };
    Envelope { from, to: member(1), term: Term(term), message }
}

/// A rotten sector of the identity file once made a server believe that it had no log yet, and so
/// it removed the one it had.
#[test]
fn a_rotten_identity_sector_never_costs_the_log() {
    for sector in [0, 4096] {
        let disk = SimDisk::new();
        let (home, mut replica) = leader(&disk);
        replica.propose(Token(1), Payload::new("x"));
        run(&mut replica);
        let last = replica.status().last;
        replica.close().expect("a disk that works");
        drop(home);
        assert!(disk.corrupt("identity", |bytes| bytes[sector + 100] ^= 0xff));
        let (_home, replica) = start(&disk, 1);
        assert_eq!(replica.status().last, last, "with the sector at {sector} rotten");
    }
}

/// Were both sectors to lie all the same, a log that was used is not taken for a leftover.
#[test]
fn a_used_log_is_never_taken_for_the_leftover_of_a_founding() {
    let disk = SimDisk::new();
    let old_identity = {
        let mut home = Home::open(disk.disk(), member(1).id, "demo", || Incarnation(1))
            .expect("an empty disk");
        home.agree(charter(1)).expect("a disk that works");
        disk.contents("identity").expect("it was written")
    };
    let (home, replica) = leader(&disk);
    replica.close().expect("a disk that works");
    drop(home);
    assert!(disk.corrupt("identity", |bytes| *bytes = old_identity));
    let mut home =
        Home::open(disk.disk(), member(1).id, "demo", || Incarnation(1)).expect("it reads well");
    let error = home.found(charter(1), &options()).expect_err("there is a log");
    assert!(matches!(error, HomeError::LostHistory { .. }), "{error}");
}

/// A driver that slept for a whole election timeout once gave the node only a heartbeat of it, so
/// that elections took many times as long as they should.
#[test]
fn an_idle_follower_asks_for_votes_when_its_election_timeout_is_over() {
    let disk = SimDisk::new();
    let (_home, replica) = start(&disk, 3);
    let tick = Duration::from_millis(5);
    let clock = HandClock::default();
    let mut driver = Driver::new(replica, tick, clock.read());
    let mut timeout = None;
    for _ in 0..1000 {
        let next = driver.turn([], &mut Nowhere).expect("nothing fatal");
        for event in driver.take_events() {
            match event {
                Event::BecameFollower { timeout_ticks, .. } => timeout = Some(tick * timeout_ticks),
                Event::AskingForVotes { .. } => {
                    assert_eq!(
                        Some(clock.now()),
                        timeout,
                        "it asks exactly when its timeout is over"
                    );
                    return;
                }
                _ => {}
            }
        }
        clock.set(next);
    }
    unreachable!("it never asked for votes");
}

/// A process that was stopped for a minute has missed a minute of heartbeats; that is no reason to
/// campaign before looking at what came meanwhile.
#[test]
fn a_pause_passes_as_one_heartbeat_at_most() {
    let disk = SimDisk::new();
    let (_home, replica) = start(&disk, 3);
    let tick = Duration::from_millis(5);
    let clock = HandClock::default();
    let mut driver = Driver::new(replica, tick, clock.read());
    let due = driver.replica().ticks_until_due();
    clock.set(Duration::from_secs(60));
    driver.turn([], &mut Nowhere).expect("nothing fatal");
    let passed = due - driver.replica().ticks_until_due();
    assert_eq!(passed, Config::TICKS_PER_HEARTBEAT, "that much, and no more of the minute");
}

/// With the disk on the node's own thread nobody counts ticks while it hangs, so the driver
/// measures (hashicorp/raft#503).
#[test]
fn a_node_learns_how_long_its_driver_stood_still_for_the_disk() {
    let disk = SimDisk::new();
    let (_home, replica) = start(&disk, 3);
    let tick = Duration::from_millis(5);
    // Every sync takes 600 ms.
    let watched = disk.clone();
    let clock: Clock =
        Arc::new(move || Duration::from_millis(600 * watched.count(Some(OperationKind::SyncData))));
    let mut driver = Driver::new(replica, tick, clock);
    let entry = Input::Message(append(member(2), 2, (1, 1), vec![empty_entry(2, 2)]));
    driver.turn([entry], &mut Nowhere).expect("nothing fatal");
    let slow = |event: &Event| matches!(event, Event::DiskSlow { ticks: 120 });
    assert!(driver.take_events().iter().any(slow));
}

/// Only writes were measured once. To read back what is to be applied, or to put back what was
/// lost, can keep a leader from its heartbeats just as long.
#[test]
fn a_node_learns_how_long_its_driver_stood_still_to_read() {
    let disk = SimDisk::new();
    let (home, mut replica) = start(&disk, 3);
    replica.step(append(member(2), 2, (1, 1), vec![empty_entry(2, 2), empty_entry(3, 2)]));
    run(&mut replica);
    drop((home, replica));
    let home = Home::open(disk.disk(), member(1).id, "demo", || Incarnation(1)).expect("whole");
    let options = LogOptions { recent_bytes_max: 0, ..options() };
    let recovered = home.recover(&options, Count::default).expect("a whole log");
    let config = Config::new(member(1), home.identity().boot);
    let mut replica = Replica::new(config, recovered, 1).expect("a sound log");
    let (watched, written) = (disk.clone(), disk.count(Some(OperationKind::Write)));
    replica.measure_with(Box::new(move || 300 * watched.count(Some(OperationKind::Read))));
    replica.step(append(member(2), 2, (3, 2), Vec::new()));
    run(&mut replica);
    assert_eq!(replica.status().applied, Index(3));
    assert_eq!(disk.count(Some(OperationKind::Write)), written, "nothing was written");
    let slow = |event: &Event| matches!(event, Event::DiskSlow { ticks: 300.. });
    assert!(replica.take_events().iter().any(slow));
}

/// One message with an index at the end of all numbers once made a server panic.
#[test]
fn an_index_beyond_counting_is_ignored() {
    let disk = SimDisk::new();
    let (_home, mut replica) = start(&disk, 3);
    replica.step(append(member(2), 2, (u64::MAX, 1), vec![empty_entry(0, 1)]));
    run(&mut replica);
    assert!(replica.take_events().iter().any(|event| matches!(event, Event::Ignored { .. })));
}

/// A term near the end of all numbers was adopted once; no later term could follow it.
#[test]
fn a_term_that_no_election_can_have_reached_is_not_adopted() {
    let disk = SimDisk::new();
    let (_home, mut replica) = start(&disk, 3);
    let (from, to, term) = (member(2), member(1), Term(1 << 61));
    replica.step(Envelope { from, to, term, message: Message::TermIsOver });
    run(&mut replica);
    assert_eq!(replica.status().term, Term(1));
}

/// Entries that conflict with committed ones cannot come from a leader. They once stopped the
/// server, so that anybody could.
#[test]
fn entries_that_conflict_with_committed_ones_are_ignored() {
    let disk = SimDisk::new();
    let (_home, mut replica) = start(&disk, 3);
    replica.step(append(member(2), 2, (1, 1), vec![empty_entry(2, 2)]));
    run(&mut replica);
    assert_eq!(replica.status().commit, Index(2));
    replica.step(append(member(3), 3, (1, 1), vec![empty_entry(2, 3)]));
    run(&mut replica);
    assert_eq!(replica.status().last, Index(2));
    let entries = replica.log_entries(Index(2), 1, 1000).expect("it can be read");
    assert_eq!(entries.first().map(|entry| entry.term), Some(Term(2)));
}

/// A disk that was full once stayed full in the eyes of a leader that had nothing to write.
#[test]
fn a_full_disk_refuses_commands_and_is_noticed_when_it_is_cleared() {
    let disk = SimDisk::new();
    let (_home, mut replica) = leader(&disk);
    disk.set_room(Some(disk.used()));
    let mut token = 0;
    let refused = loop {
        token += 1;
        replica.propose(Token(token), Payload::new(vec![b'x'; 1000]));
        run(&mut replica);
        match replica.take_completions().pop() {
            Some(Completion::Refused(_, error)) => break error,
            Some(Completion::Applied(..)) if token < 1000 => {}
            other => unreachable!("{other:?} after {token} commands"),
        }
    };
    assert!(matches!(refused, ProposeError::NoSpace { .. }), "{refused}");
    disk.set_room(None);
    replica.propose(Token(token + 1), Payload::new(vec![b'x'; 1000]));
    run(&mut replica);
    assert!(matches!(replica.take_completions().pop(), Some(Completion::Applied(..))));
}

/// A disk was once filled up to where no snapshot could let the log go any more.
#[test]
fn room_for_one_more_snapshot_is_in_reserve() {
    let disk = SimDisk::new();
    let (_home, mut replica) = leader(&disk);
    let mut tokens = (0..).map(Token);
    let mut propose = |replica: &mut Replica<Count>| {
        (0..10).for_each(|_| replica.tick());
        replica.propose(tokens.next().expect("endless"), Payload::new(vec![b'x'; 1000]));
        run(replica);
        replica.take_completions().pop()
    };
    for _ in 0..20 {
        assert!(matches!(propose(&mut replica), Some(Completion::Applied(..))));
    }
    let needed = replica.node().next_snapshot_bytes();
    assert!(needed >= 20 * 1000, "a state may consist of all its commands: {needed}");
    assert!(replica.take_job().is_none());
    disk.set_room(Some(disk.used() + needed - 1));
    let refused = propose(&mut replica);
    assert!(matches!(refused, Some(Completion::Refused(_, ProposeError::NoSpace { .. }))));
    assert!(replica.take_job().is_some(), "a snapshot is written, to let the log go");
    disk.set_room(Some(disk.used() + needed));
    let taken = propose(&mut replica);
    assert!(matches!(taken, Some(Completion::Applied(..))), "{taken:?}");
}

/// Whoever copied a constant incarnation into its settings once ran as a member that its directory
/// is not: one that was wiped came back as the same, and could vote twice.
#[test]
fn a_replica_runs_only_as_the_member_that_its_directory_is() {
    let disk = SimDisk::new();
    drop(leader(&disk));
    let home = Home::open(disk.disk(), member(1).id, "demo", || Incarnation(1)).expect("whole");
    let raft::storage::Identity { member, boot, .. } = *home.identity();
    let other = Member { incarnation: Incarnation(2), ..member };
    let earlier = raft::node::Boot(boot.0 - 1);
    for config in [Config::new(other, boot), Config::new(member, earlier)] {
        let recovered = home.recover(&options(), Count::default).expect("a whole log");
        let refused = Replica::new(config, recovered, 1).err();
        assert!(matches!(refused, Some(RestoreError::OtherMember { .. })), "{refused:?}");
    }
}

/// The empty entry of a new leader once found no room on a full disk, and the server ended.
#[test]
fn a_server_with_a_full_disk_can_still_be_elected() {
    let disk = SimDisk::new();
    let (home, mut replica) = leader(&disk);
    disk.set_room(Some(disk.used()));
    for token in 0..200 {
        replica.propose(Token(token), Payload::new(vec![b'x'; 1000]));
        run(&mut replica);
    }
    let is_refused = |completion: &Completion<u64>| {
        matches!(completion, Completion::Refused(_, ProposeError::NoSpace { .. }))
    };
    assert!(replica.take_completions().last().is_some_and(is_refused), "the disk is full");
    drop((home, replica));
    for _ in 0..5 {
        let (home, replica) = leader(&disk);
        drop((home, replica));
    }
}

/// A command that the node let in, and that the log could not take as one record, once stopped
/// every server in turn: the leader, and each that was elected after it.
#[test]
fn a_command_larger_than_a_record_is_refused() {
    let disk = SimDisk::new();
    let (_home, mut replica) = leader(&disk);
    let record = options().wal.record_bytes_max;
    for (bytes, is_taken) in [(record + 1, false), (record, true), (2 << 20, false)] {
        let command = vec![b'x'; usize::try_from(bytes).expect("it fits")];
        replica.propose(Token(bytes), Payload::new(command));
        run(&mut replica);
        match replica.take_completions().pop() {
            Some(Completion::Applied(..)) if is_taken => {}
            Some(Completion::Refused(_, ProposeError::TooLarge { bytes: told, bytes_max }))
                if !is_taken =>
            {
                assert_eq!((told, bytes_max), (bytes, record));
            }
            other => unreachable!("{bytes} bytes: {other:?}"),
        }
    }
}

/// All commands of a turn were once refused as too large if one of them was, with its size.
#[test]
fn a_command_that_is_too_large_is_refused_alone() {
    let disk = SimDisk::new();
    let (_home, mut replica) = leader(&disk);
    let record = options().wal.record_bytes_max;
    for (token, bytes) in [(1, 10), (2, record + 1), (3, 10), (4, record + 2), (5, 20)] {
        let command = vec![b'x'; usize::try_from(bytes).expect("it fits")];
        replica.propose(Token(token), Payload::new(command));
    }
    run(&mut replica);
    let (mut applied, mut refused) = (Vec::new(), Vec::new());
    for completion in replica.take_completions() {
        match completion {
            Completion::Applied(Token(token), ..) => applied.push(token),
            Completion::Refused(Token(token), ProposeError::TooLarge { bytes, .. }) => {
                refused.push((token, bytes));
            }
            other => unreachable!("{other:?}"),
        }
    }
    assert_eq!((applied, refused), (vec![1, 3, 5], vec![(2, record + 1), (4, record + 2)]));
}

/// All commands of a turn were once refused as too many, though most of them fitted.
#[test]
fn what_fits_beside_the_uncommitted_is_taken() {
    let disk = SimDisk::new();
    let (home, replica) = leader(&disk);
    drop((home, replica));
    let home = Home::open(disk.disk(), member(1).id, "demo", || Incarnation(1)).expect("whole");
    let recovered = home.recover(&options(), Count::default).expect("a whole log");
    let mut config = Config::new(member(1), home.identity().boot);
    config.uncommitted_bytes_max = 4 * (1000 + Entry::OVERHEAD_BYTES);
    let mut replica = Replica::new(config, recovered, 1).expect("a sound log");
    replica.tick();
    run(&mut replica);
    for token in 1..=6 {
        replica.propose(Token(token), Payload::new(vec![b'x'; 1000]));
    }
    run(&mut replica);
    let completions = replica.take_completions();
    let applied = |it: &&Completion<u64>| matches!(it, Completion::Applied(..));
    let overloaded = |it: &&Completion<u64>| {
        matches!(it, Completion::Refused(Token(5 | 6), ProposeError::Overloaded { .. }))
    };
    assert_eq!(completions.iter().filter(applied).count(), 4, "{completions:?}");
    assert_eq!(completions.iter().filter(overloaded).count(), 2, "{completions:?}");
}

/// The same command from a leader whose log takes larger records once stopped its followers.
#[test]
fn an_entry_larger_than_a_record_is_ignored_and_told() {
    let disk = SimDisk::new();
    let (_home, mut replica) = start(&disk, 3);
    let entry = |bytes: u64| {
        let payload = vec![b'x'; usize::try_from(bytes).expect("it fits")];
        let (kind, payload) = (EntryKind::Command, Payload::new(payload));
        Entry { kind, payload, ..empty_entry(2, 2) }
    };
    let record = options().wal.record_bytes_max;
    replica.step(append(member(2), 2, (1, 1), vec![entry(record + 1)]));
    run(&mut replica);
    let ignored =
        |event: &Event| matches!(event, Event::Ignored { reason, .. } if reason.contains("larger"));
    assert!(replica.take_events().iter().any(ignored));
    assert_eq!(replica.status().last, Index(1));
    replica.step(append(member(2), 2, (1, 1), vec![entry(record)]));
    run(&mut replica);
    assert_eq!(replica.status().durable, Index(2), "what fits is taken");
}

fn replica_boot() -> raft::node::Boot {
    raft::node::Boot(1)
}

/// A read that came while the first entry of the term was being written, followed by a heartbeat,
/// once waited for ever in a cluster of one.
#[test]
fn a_read_that_a_heartbeat_picks_up_ends() {
    let configuration = charter(1).configuration;
    let founding = Entry {
        index: Index(1),
        term: Term(1),
        kind: EntryKind::Configuration,
        payload: Payload::new(configuration.encode()),
    };
    let state = raft::node::DurableState {
        hard_state: raft::node::HardState { term: Term(1), vote: None },
        start: Position::default(),
        runs: vec![founding.position()],
        last: founding.position(),
        recent: vec![founding],
        snapshot: None,
        machine: MachineState::Whole,
        configuration: Configuration::default(),
        configurations: vec![(Index(1), configuration)],
        lost: Vec::new(),
    };
    let config = Config::new(member(1), replica_boot());
    let mut node = Node::restore(config, state, 1).expect("a sound state");
    node.tick();
    let vote = node.drain().append.expect("its own vote is written");
    node.on_durable(vote.ticket, 0);
    let first = node.drain().append.expect("its first entry is written");
    node.request_read(ReadId(1)).expect("it leads");
    node.on_durable(first.ticket, 0);
    (0..Config::TICKS_PER_HEARTBEAT).for_each(|_| node.tick());
    assert_eq!(node.drain().reads.len(), 1);
}
