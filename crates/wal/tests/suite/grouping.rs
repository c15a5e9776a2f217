//! What shares a sync with what: seen on a disk whose syncs wait until they are let through.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use wal::sim_disk::{Fate, OperationKind, SimDisk};
use wal::{Append, Check, Committer, Entry, Position, Ticket, Wal};

use crate::harness::options;
use crate::twisted::{Twist, twisted};

/// Where syncs wait.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_closed: bool,
    waiting: u32,
}

impl Gate {
    fn close(&self) {
        self.state.lock().unwrap().is_closed = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().is_closed = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        // A test that fails while the gate is closed shall end all the same.
        let limit = Duration::from_secs(30);
        let waited = self.changed.wait_timeout_while(state, limit, |state| state.is_closed);
        waited.unwrap().0.waiting -= 1;
    }

    /// Returns when a sync waits here.
    fn is_reached(&self) {
        let state = self.state.lock().unwrap();
        let limit = Duration::from_secs(20);
        let waited = self.changed.wait_timeout_while(state, limit, |state| state.waiting == 0);
        assert!(!waited.unwrap().1.timed_out(), "nobody syncs");
    }
}

/// An fdatasync waits at the gate.
impl Twist for Gate {
    fn before_sync_data(&self) {
        self.pass();
    }
}

/// A log whose syncs wait at a gate that is open, and for which no job is left to be done.
fn gated() -> (SimDisk, Arc<Gate>, Committer) {
    let medium = SimDisk::new();
    let gate = Arc::new(Gate::default());
    let disk = twisted(medium.disk(), Arc::clone(&gate) as Arc<dyn Twist>);
    let mut wal = Wal::create(disk, options(64 * 1024)).unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    (medium, gate, Committer::start(wal, |_| {}).unwrap())
}

fn append_one(committer: &Committer) -> Ticket {
    let one = |last: Position| Append {
        entries: vec![Entry::new(last.index + 1, 1, 0, b"payload".to_vec())],
        ..Append::default()
    };
    committer.append(one).unwrap()
}

/// The log as it would be found if the power went now.
fn after_a_power_cut(medium: &SimDisk) -> Wal {
    let medium = medium.fork();
    medium.crash_with(|_| Fate::Lose);
    Wal::open(medium.disk(), options(64 * 1024), Check::default()).unwrap().0
}

#[test]
fn what_is_appended_while_a_sync_runs_shares_the_next_one() {
    let (medium, gate, committer) = gated();
    let before = medium.count(Some(OperationKind::SyncData));
    gate.close();
    append_one(&committer);
    gate.is_reached();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let ticket = append_one(&committer);
                committer.wait(ticket).unwrap();
            });
        }
        let limit = Instant::now() + Duration::from_secs(20);
        while committer.with(|wal| wal.newest_ticket()) != Some(Ticket(9)) {
            assert!(Instant::now() < limit, "a sync that runs keeps nobody from appending");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(committer.with(|wal| wal.durable_ticket()), Some(Ticket(0)));
        gate.open();
    });
    let syncs = medium.count(Some(OperationKind::SyncData)) - before;
    assert_eq!(syncs, 2, "one for the first, one for all that came while it ran");
    assert_eq!(after_a_power_cut(&medium).last(), Position::new(9, 1));
}

#[test]
fn the_ticket_of_a_dropped_prefix_completes_when_its_new_start_is_durable() {
    let (medium, gate, committer) = gated();
    for _ in 0..8 {
        append_one(&committer);
    }
    let last = append_one(&committer);
    committer.wait(last).unwrap();
    gate.close();
    let ticket = committer.with(|wal| wal.drop_prefix(5).unwrap()).unwrap();
    gate.is_reached();
    let durable = committer.with(|wal| wal.durable_ticket()).unwrap();
    assert!(durable < ticket, "{durable:?} is durable, {ticket:?} was given out");
    assert_eq!(after_a_power_cut(&medium).log_start().index, 0);
    gate.open();
    committer.wait(ticket).unwrap();
    assert_eq!(after_a_power_cut(&medium).log_start().index, 5);
    let nothing = committer.with(|wal| wal.drop_prefix(5).unwrap()).unwrap();
    assert_eq!(nothing, ticket, "what was dropped already is covered");
}
