//! The tools that change something, and the questions that `open` takes, each on a copy.

use wal::sim_disk::{Fault, SimDisk};
use wal::{Check, Finding, Health, Inspector, Plan, Position, ReadError, Salvage, Wal};

use super::lives::{lives, options};

/// After which operations the power goes while a log is salvaged.
const CUTS: [u64; 4] = [3, 17, 40, 75];

fn open(medium: &SimDisk, check: Check<'_>) -> Option<Wal> {
    Wal::open(medium.disk(), options(), check).ok().map(|(wal, _)| wal)
}

fn ends(wal: &Wal) -> (Position, Position) {
    (wal.log_start(), wal.last())
}

/// Every tool and every question, whatever the log is like.
pub fn all(medium: &SimDisk) {
    let opened = open(&medium.fork(), Check::default()).map(|wal| ends(&wal));
    mend(&medium.fork(), opened);
    back_up(medium, opened);
    if let Some(ends) = opened {
        ask(medium, ends);
        scrub(&medium.fork());
    }
}

/// What was put in order opens to the same, and there is nothing left to put in order.
fn mend(medium: &SimDisk, opened: Option<(Position, Position)>) {
    let inspector = Inspector::open(medium.disk()).expect("nobody else has it");
    let mended = inspector.mend();
    assert_eq!(mended.is_ok(), opened.is_some(), "mending and opening differ: {mended:?}");
    if opened.is_some() {
        match inspector.verify().expect("the disk works") {
            Health::Clean => {}
            Health::Damaged(found) => {
                let is_lost = |finding: &Finding| matches!(finding, Finding::LostPayload { .. });
                assert!(found.iter().all(is_lost), "left to be mended: {found:?}");
            }
            health => panic!("after mending: {health:?}"),
        }
    }
    drop(inspector);
    assert_eq!(open(medium, Check::default()).map(|wal| ends(&wal)), opened);
}

/// A copy is known as one, and opens to the same.
fn back_up(medium: &SimDisk, opened: Option<(Position, Position)>) {
    let target = SimDisk::new();
    let inspector = Inspector::open(medium.disk()).expect("nobody else has it");
    let backup = inspector.back_up(&*target.disk()).expect("both disks work");
    assert_eq!(backup.unreadable_bytes, 0);
    assert!(inspector.is_backed_up(&*target.disk()).expect("both disks work"));
    assert_eq!(open(&target, Check::default()).map(|wal| ends(&wal)), opened);
}

/// A floor that the log reaches and segments that are suspect change nothing of what is found.
fn ask(medium: &SimDisk, expected: (Position, Position)) {
    let (start, last) = expected;
    let everything = open(&medium.fork(), Check::default()).expect("it opened before").lost();
    let suspects: Vec<u64> = (1..=medium.files().len() as u64 + 1).collect();
    let check = Check { verify_from: u64::MAX, floor: Some(last.index), suspects: &suspects };
    let wal = open(&medium.fork(), check).expect("a floor that is reached refuses nothing");
    assert_eq!((ends(&wal), wal.lost()), (expected, everything));
    if start.index < last.index {
        let check = Check { floor: Some(last.index + 1), ..check };
        // What was a torn end is damage then, and may have lost no more than payloads.
        if let Some(wal) = open(&medium.fork(), check) {
            let is_reached = wal.last().index > last.index && !wal.lost().is_empty();
            assert!(is_reached, "it ends below what was durable");
        }
    }
}

/// What reading again finds to be lost is refused, and what is put back is read.
fn scrub(medium: &SimDisk) {
    let check = Check { verify_from: u64::MAX, ..Check::default() };
    let mut wal = open(medium, check).expect("it opens when more is verified");
    let mut after = 0;
    while let Some(scrub) = wal.scrub(after) {
        assert!(scrub.sequence() > after, "a scrub goes forward");
        after = scrub.sequence();
        // Structure that opening did not look at may be rotten.
        let Ok(lost) = wal.finish_scrub(scrub.run()) else { continue };
        for lost in lost {
            let read = wal.read(lost.index, lost.index, 1);
            assert!(matches!(read, Err(ReadError::Lost { position, .. }) if position == lost));
            let held = lives().one.held.iter().find(|entry| entry.position() == lost);
            if let Some(entry) = held
                && wal.repair(lost, entry.payload()).is_ok()
            {
                let read = wal.read(lost.index, lost.index, 1).expect("it was put back");
                assert_eq!(read.as_slice(), std::slice::from_ref(entry));
            }
        }
    }
}

/// What a plan says comes true, and a salvage comes to that however often it is interrupted.
pub fn salvaged(medium: &SimDisk, plan: &Plan, salvaged: &Salvage) {
    let expected = (salvaged.start, salvaged.last);
    assert_eq!((plan.start, plan.last), expected);
    let planned = medium.fork();
    let inspector = Inspector::open(planned.disk()).expect("nobody else has it");
    let done = inspector.carry_out(plan).expect("what was planned is what is there");
    assert_eq!((done.start, done.last), expected);
    for cut in CUTS {
        let medium = medium.fork();
        medium.inject(cut, None, Fault::PowerOff);
        if let Ok(inspector) = Inspector::open(medium.disk()) {
            let _ = inspector.salvage();
        }
        medium.crash(cut);
        let inspector = Inspector::open(medium.disk()).expect("nobody else has it");
        let again = inspector.salvage().expect("it goes on");
        assert_eq!((again.start, again.last), expected, "the power went at {cut}");
    }
}
