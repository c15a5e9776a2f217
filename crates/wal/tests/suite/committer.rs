//! Many threads, one log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use wal::sim_disk::{Fate, Fault, OperationKind, SimDisk};
use wal::{Append, Check, Committer, Entry, Position, RealDisk, Ticket, Wal, WalError};

use crate::harness::options;

fn one(last: Position, payload: &str) -> Append {
    let entry = Entry::new(last.index + 1, 1, 0, payload.as_bytes().to_vec());
    Append { entries: vec![entry], ..Append::default() }
}

/// Lets 8 threads append 50 entries each and wait for every one.
fn write_from_many_threads(committer: &Committer) {
    thread::scope(|scope| {
        for writer in 0..8 {
            scope.spawn(move || {
                for number in 0..50 {
                    let payload = format!("{number} of {writer} {:200}", "");
                    let ticket = committer.append(|last| one(last, &payload)).unwrap();
                    committer.wait(ticket).unwrap();
                }
            });
        }
    });
}

#[test]
fn what_many_threads_waited_for_is_there_after_a_power_cut() {
    let medium = SimDisk::new();
    let wal = Wal::create(medium.disk(), options(16 * 1024)).unwrap();
    let committer = Committer::start(wal, |_| {}).unwrap();
    write_from_many_threads(&committer);
    drop(committer);
    medium.crash_with(|_| Fate::Lose);
    let (wal, _) = Wal::open(medium.disk(), options(16 * 1024), Check::default()).unwrap();
    assert_eq!(wal.last(), Position::new(400, 1));
    for writer in 0..8 {
        let prefix = format!(" of {writer} ");
        let all = wal.read(1, 400, u64::MAX).unwrap();
        let own: Vec<_> = all
            .iter()
            .filter_map(|entry| {
                let text = std::str::from_utf8(entry.payload()).unwrap();
                text.split_once(&prefix).map(|(number, _)| number.parse::<u64>().unwrap())
            })
            .collect();
        assert_eq!(own, (0..50).collect::<Vec<_>>(), "writer {writer} kept its order");
    }
}

#[test]
fn a_segment_is_made_once_however_fast_the_log_fills() {
    let medium = SimDisk::new();
    let wal = Wal::create(medium.disk(), options(16 * 1024)).unwrap();
    let committer = Committer::start(wal, |_| {}).unwrap();
    for _ in 0..5 {
        write_from_many_threads(&committer);
    }
    let wal = committer.stop().unwrap();
    assert!(wal.segment_count() > 20, "{} segments", wal.segment_count());
    let made = medium.count(Some(OperationKind::Create));
    let named = medium.count(Some(OperationKind::Rename));
    assert_eq!(made, named, "nobody made again what was being made already");
}

#[test]
fn a_stopped_committer_gives_the_log_back_and_its_observer_has_seen_all() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    let wal = Wal::create(disk, options(16 * 1024)).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let observer = Arc::clone(&seen);
    let committer = Committer::start(wal, move |outcome| {
        let Ticket(ticket) = outcome.unwrap();
        let before = observer.swap(ticket, Ordering::SeqCst);
        assert!(before <= ticket, "tickets complete in order");
    })
    .unwrap();
    write_from_many_threads(&committer);
    let wal = committer.stop().unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 400);
    assert_eq!((wal.durable(), wal.durable_ticket()), (Position::new(400, 1), Ticket(400)));
    wal.close().unwrap();
}

#[test]
fn when_a_sync_fails_every_waiter_is_told_the_same_and_none_is_acknowledged() {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(64 * 1024)).unwrap();
    // Nothing is left to be done by a job, so the failure strikes the commit.
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    let committer = Committer::start(wal, |_| {}).unwrap();
    let first = committer.append(|last| one(last, "first")).unwrap();
    committer.wait(first).unwrap();
    medium.inject(0, Some(OperationKind::SyncData), Fault::EIO);
    let told: Vec<String> = thread::scope(|scope| {
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let ticket = committer.append(|last| one(last, "never durable"));
                    match ticket {
                        Ok(ticket) => committer.wait(ticket).unwrap_err().to_string(),
                        Err(error) => error.to_string(),
                    }
                })
            })
            .collect();
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
    });
    assert!(told.iter().all(|cause| *cause == told[0]), "{told:?}");
    assert!(told[0].contains("poisoned"), "{}", told[0]);
    let syncs = medium.count(Some(OperationKind::SyncData));
    assert!(matches!(committer.wait(Ticket(99)), Err(WalError::Poisoned(_))));
    assert!(matches!(committer.stop(), Err(WalError::Poisoned(_))));
    assert_eq!(medium.count(Some(OperationKind::SyncData)), syncs, "nothing is retried");
}

#[test]
fn appends_beyond_a_batch_wait_and_are_not_refused() {
    let medium = SimDisk::new();
    let wal = Wal::create(medium.disk(), options(4096)).unwrap();
    let committer = Committer::start(wal, |_| {}).unwrap();
    let payload = "x".repeat(900);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..60 {
                    committer.append(|last| one(last, &payload)).unwrap();
                }
            });
        }
    });
    let last = committer.with(|wal| wal.last()).unwrap();
    assert_eq!(last, Position::new(240, 1));
    let wal = committer.stop().unwrap();
    assert_eq!(wal.durable(), last);
}

/// What a waiter is told, or nothing if it sleeps on although its ticket is settled.
fn told_in_time(committer: Committer, ticket: Ticket, cause: impl FnOnce(&Committer)) -> bool {
    let committer = Arc::new(committer);
    let (tell, told) = channel();
    let waiting = Arc::clone(&committer);
    let waiter = thread::spawn(move || tell.send(waiting.wait(ticket).is_ok()).unwrap());
    cause(&committer);
    match told.recv_timeout(Duration::from_secs(20)) {
        Ok(is_durable) => {
            waiter.join().unwrap();
            is_durable
        }
        Err(_) => {
            // Dropping it would wait for ever as well.
            std::mem::forget(committer);
            panic!("the waiter sleeps on");
        }
    }
}

#[test]
fn a_waiter_wakes_when_staging_has_made_its_ticket_durable() {
    let medium = SimDisk::new();
    medium.set_room(Some(4096));
    let wal = Wal::create(medium.disk(), options(4096)).unwrap();
    let committer = Committer::start(wal, |_| {}).unwrap();
    let is_durable = told_in_time(committer, Ticket(1), |committer| {
        let durable = committer.with(|wal| {
            let payload = "x".repeat(1000);
            wal.stage(one(wal.last(), &payload)).unwrap();
            // Fills the batch, which is committed in place, and is then refused itself.
            while wal.stage(one(wal.last(), &payload)).is_ok() {}
            wal.durable_ticket()
        });
        assert!(durable.unwrap() >= Ticket(1));
    });
    assert!(is_durable);
}

#[test]
fn a_waiter_wakes_when_what_it_waits_for_was_cut_before_it_was_written() {
    let medium = SimDisk::new();
    let wal = Wal::create(medium.disk(), options(4096)).unwrap();
    let committer = Committer::start(wal, |_| {}).unwrap();
    let is_durable = told_in_time(committer, Ticket(2), |committer| {
        committer.with(|wal| {
            wal.stage(one(wal.last(), "cut again")).unwrap();
            wal.stage(Append::<Vec<Entry>> { truncate_after: Some(0), ..Append::default() })
                .unwrap();
        });
    });
    assert!(is_durable);
}

#[test]
fn after_a_panic_of_the_observer_everyone_is_refused_and_nobody_sleeps() {
    let medium = SimDisk::new();
    let wal = Wal::create(medium.disk(), options(4096)).unwrap();
    let observer = |_| std::panic::resume_unwind(Box::new("the observer gives up"));
    let committer = Committer::start(wal, observer).unwrap();
    // The first ticket is durable before the observer hears of it; the second never will be.
    let is_durable = told_in_time(committer, Ticket(99), |committer| {
        committer.append(|last| one(last, "first")).unwrap();
    });
    assert!(!is_durable, "told that the log is poisoned");
}

#[test]
fn what_was_acknowledged_while_segments_were_made_ahead_is_there_afterwards() {
    for round in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        let wal = Wal::create(disk, options(16 * 1024)).unwrap();
        let committer = Committer::start(wal, |_| {}).unwrap();
        let payload = "x".repeat(400);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        let ticket = committer.append(|last| one(last, &payload)).unwrap();
                        committer.wait(ticket).unwrap();
                    }
                });
            }
        });
        let durable = committer.stop().unwrap().durable();
        assert_eq!(durable, Position::new(1000, 1));
        let disk = RealDisk::open(directory.path()).unwrap();
        let (wal, _) = Wal::open(disk, options(16 * 1024), Check::default()).unwrap();
        assert_eq!(wal.last(), durable, "round {round}");
    }
}
