//! What must hold for every input.

use std::ops::ControlFlow;

use wal::sim_disk::{OperationKind, SimDisk};
use wal::{Append, Check, Ending, Entry, Health, Inspector, OpenError, Plan, Wal};

use super::lives::{lives, options};
use super::mutation::Mutated;
use super::tools;

/// How an input ended, so that a corpus can be seen to reach everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    NoLog,
    Unsupported,
    Refused,
    Lost,
    Mended,
    Torn,
    Whole,
    Salvaged,
}

/// Reading anything costs a fixed number of passes over the files; more would not be linear.
const PASSES_MAX: u64 = 64;

fn total_bytes(medium: &SimDisk) -> u64 {
    let files = medium.files();
    files.iter().filter_map(|file| medium.contents(file)).map(|bytes| bytes.len() as u64).sum()
}

fn count_reads(medium: &SimDisk, work: impl FnOnce() -> Seen) -> Seen {
    let total = total_bytes(medium).max(4096);
    medium.record_operations();
    let seen = work();
    let operations = medium.operations();
    let reads = operations.iter().filter(|operation| operation.kind == OperationKind::Read);
    let read: u64 = reads.map(|operation| operation.bytes).sum();
    assert!(read <= PASSES_MAX * total, "{read} bytes read of {total}");
    seen
}

/// Opens a log, asks it everything, appends to it, and opens it again.
pub fn open(medium: &SimDisk, verify_from: u64, mutated: Option<&Mutated>) -> Seen {
    let check = Check { verify_from, floor: None, suspects: &[] };
    let mut opened = None;
    let seen = count_reads(medium, || match Wal::open(medium.disk(), options(), check) {
        Ok((wal, recovery)) => {
            let seen = match &recovery.ending {
                Ending::Torn(_) => Seen::Torn,
                _ if !recovery.lost.is_empty() => Seen::Lost,
                _ if !recovery.mended.is_empty() => Seen::Mended,
                _ => Seen::Whole,
            };
            opened = Some(wal);
            seen
        }
        Err(OpenError::NoLog { .. }) => Seen::NoLog,
        Err(OpenError::Unsupported { .. }) => Seen::Unsupported,
        Err(OpenError::Corrupt { .. }) => Seen::Refused,
        Err(error) => panic!("{error}"),
    });
    let Some(mut wal) = opened else { return seen };
    let found = question(&wal);
    if let Some(mutated) = mutated {
        check_entries(&wal, &found);
        if mutated.is_one_flip && verify_from == 0 {
            check_flip(seen, &wal, &found);
        }
    }
    let last = wal.last();
    let next = Entry::new(last.index.saturating_add(1), last.term, 0, b"after".to_vec());
    let append = Append { entries: vec![next.clone()], ..Append::default() };
    if wal.stage(append).is_err() {
        return seen;
    }
    wal.commit().expect("the disk works");
    drop(wal);
    let (wal, _) = Wal::open(medium.disk(), options(), check).expect("what was opened opens again");
    assert_eq!(wal.read(next.index, next.index, 1).expect("it was acknowledged"), [next]);
    seen
}

/// Every entry that can be read.
fn question(wal: &Wal) -> Vec<Entry> {
    let (start, last) = (wal.log_start().index, wal.last().index);
    let end = last.min(start.saturating_add(200));
    let mut found = Vec::new();
    for index in start..=end {
        let _ = wal.term(index);
        if index > start
            && let Ok(entries) = wal.read(index, index, 1)
        {
            found.extend(entries);
        }
    }
    found
}

/// Nothing is in the log that was not once submitted, to this life or to the other.
fn check_entries(wal: &Wal, found: &[Entry]) {
    let lives = lives();
    for entry in found {
        let key = (entry.index, entry.term, entry.payload().to_vec());
        assert!(lives.submitted.contains(&key), "an invented entry {}", entry.position());
    }
    let most = [&lives.one, &lives.other].into_iter().filter_map(|life| life.held.last());
    let most = most.map(|entry| entry.index).max().unwrap_or(0);
    assert!(wal.last().index <= most, "more than was submitted: {}", wal.last());
    if let Some(vote) = wal.metadata() {
        assert!(lives.votes.contains(vote.as_bytes()), "an invented vote {vote:?}");
    }
}

/// One flipped bit never makes the log shorter, unless it says so; and then by its last batch.
fn check_flip(seen: Seen, wal: &Wal, found: &[Entry]) {
    let life = &lives().one;
    match seen {
        Seen::Torn => {
            let is_whole = found == life.held || found == life.held_before;
            assert!(is_whole, "torn, and more than the last batch is gone");
        }
        Seen::Lost => assert_eq!(wal.lost().len() + found.len(), life.held.len()),
        _ => assert!(found == life.held, "a log that is shorter and does not say so"),
    }
}

/// Looks at a log with every tool; opening it must agree with what they say.
pub fn inspect(medium: &SimDisk) -> Seen {
    let inspector = match Inspector::open(medium.disk()) {
        Ok(inspector) => inspector,
        Err(OpenError::NoLog { .. }) => {
            let opened = Wal::open(medium.disk(), options(), Check::default());
            assert!(matches!(opened, Err(OpenError::NoLog { .. })), "no log, and it opens");
            return Seen::NoLog;
        }
        Err(error) => panic!("{error}"),
    };
    let before = changes(medium);
    let verified = inspector.verify();
    let summary = inspector.summarize();
    let mut items = 0_u64;
    let dumped = inspector.dump(|_| {
        items += 1;
        ControlFlow::Continue(())
    });
    let plan = inspector.plan_salvage();
    assert_eq!(changes(medium), before, "a tool that only looks has changed something");
    drop(inspector);
    let fork = medium.fork();
    let opened = Wal::open(fork.disk(), options(), Check::default());
    let health = match verified {
        Ok(health) => health,
        Err(error) => {
            assert!(opened.is_err(), "it opens, but cannot be verified: {error}");
            return Seen::NoLog;
        }
    };
    assert!(dumped.is_ok() && items > 0, "what can be verified can be dumped");
    let seen = match health {
        Health::Lost(error) => {
            assert!(opened.is_err(), "it opens, but is lost: {error}");
            tools::all(medium);
            return salvage(medium, plan.ok().flatten());
        }
        Health::Clean => Seen::Whole,
        Health::Torn(_) => Seen::Torn,
        Health::Damaged(_) => Seen::Lost,
    };
    let (wal, recovery) = opened.expect("what is not lost opens");
    assert!(plan.is_ok_and(|plan| plan.is_none()), "what opens needs no salvage");
    assert_eq!(
        matches!(recovery.ending, Ending::Torn(_)),
        seen == Seen::Torn || { seen == Seen::Lost && matches!(recovery.ending, Ending::Torn(_)) }
    );
    let summary = summary.expect("what opens can be summarized");
    assert_eq!(summary.last, wal.last());
    tools::all(medium);
    seen
}

/// How many operations have changed the medium.
fn changes(medium: &SimDisk) -> u64 {
    let kinds = [
        OperationKind::Write,
        OperationKind::Create,
        OperationKind::Remove,
        OperationKind::Rename,
        OperationKind::SetLen,
    ];
    kinds.iter().map(|kind| medium.count(Some(*kind))).sum()
}

/// What was salvaged opens.
fn salvage(medium: &SimDisk, plan: Option<Plan>) -> Seen {
    let before = medium.fork();
    let inspector = Inspector::open(medium.disk()).expect("nobody else has it");
    let salvaged = inspector.salvage();
    drop(inspector);
    match salvaged {
        Ok(found) => {
            let plan = plan.expect("salvaged without a plan");
            tools::salvaged(&before, &plan, &found);
            let opened = Wal::open(medium.disk(), options(), Check::default());
            let (wal, _) = opened.expect("what was salvaged opens");
            assert_eq!((wal.log_start(), wal.last()), (found.start, found.last));
            Seen::Salvaged
        }
        Err(_) => Seen::Refused,
    }
}
