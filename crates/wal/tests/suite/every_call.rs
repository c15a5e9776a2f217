//! One life of a log, told again and again, with something else going wrong each time: at every
//! single call that it makes of the disk.

use wal::sim_disk::{Fate, Fault, OperationKind, SimDisk};
use wal::{Append, Check, Entry, Metadata, Position, Wal};

use crate::counts::tell;
use crate::harness::{Model, observe, options};

/// What happened to a log up to its end, or up to the call that failed.
struct Told {
    /// The state after each acknowledged step, oldest first.
    acknowledged: Vec<Model>,
    error: Option<String>,
}

fn append(wal: &mut Wal, count: u64, truncate_after: Option<u64>) -> Result<(), String> {
    let first = truncate_after.unwrap_or(wal.last().index) + 1;
    let entries: Vec<Entry> = (first..first + count)
        .map(|index| Entry::new(index, 1 + index / 9, index as u8, vec![b'e'; 150]))
        .collect();
    let metadata = Some(Metadata::new(&first.to_le_bytes()).unwrap());
    wal.stage(Append { metadata, reset: None, truncate_after, entries })
        .map_err(|error| error.to_string())?;
    wal.commit().map_err(|error| error.to_string())?;
    Ok(())
}

fn run_jobs(wal: &mut Wal) -> Result<(), String> {
    while let Some(job) = wal.take_job() {
        wal.finish_job(job.run()).map_err(|error| error.to_string())?;
        if wal.take_job().is_none() {
            break;
        }
    }
    Ok(())
}

/// Creation, rotations, a truncation, a dropped prefix, a reset, and two openings.
fn live(medium: &SimDisk, acknowledged: &mut Vec<Model>) -> Result<(), String> {
    let create = Wal::create(medium.disk(), options(4096));
    let mut wal = create.map_err(|error| error.to_string())?;
    acknowledged.push(observe(&wal));
    for round in 0..14 {
        let cut = (round == 6).then(|| wal.last().index - 2);
        append(&mut wal, 3, cut)?;
        acknowledged.push(observe(&wal));
        if round == 9 {
            let through = wal.last().index - 4;
            wal.drop_prefix(through).map_err(|error| error.to_string())?;
            wal.commit().map_err(|error| error.to_string())?;
            acknowledged.push(observe(&wal));
        }
        run_jobs(&mut wal)?;
        if round == 4 || round == 11 {
            drop(wal);
            let opened = Wal::open(medium.disk(), options(4096), Check::default());
            wal = opened.map_err(|error| error.to_string())?.0;
        }
    }
    let reset = Some(Position::new(100, 20));
    wal.stage(Append { reset, ..Append::<Vec<Entry>>::default() })
        .map_err(|error| error.to_string())?;
    wal.commit().map_err(|error| error.to_string())?;
    acknowledged.push(observe(&wal));
    wal.close().map_err(|error| error.to_string())
}

fn tell_life(medium: &SimDisk) -> Told {
    let mut acknowledged = Vec::new();
    let error = live(medium, &mut acknowledged).err();
    Told { acknowledged, error }
}

/// How many calls of a kind an undisturbed life makes.
fn calls(kind: OperationKind) -> u64 {
    let medium = SimDisk::new();
    assert_eq!(tell_life(&medium).error, None);
    medium.count(Some(kind))
}

#[test]
fn an_interruption_or_a_short_transfer_at_any_call_changes_nothing() {
    let undisturbed = SimDisk::new();
    let expected = tell_life(&undisturbed).acknowledged;
    let mut tried = 0;
    let transfers = [OperationKind::Read, OperationKind::Write];
    let syncs = [OperationKind::SyncData, OperationKind::SyncAll, OperationKind::SyncDirectory];
    for kind in transfers.into_iter().chain(syncs) {
        let mut faults = vec![Fault::EINTR];
        if transfers.contains(&kind) {
            faults.extend([Fault::Short(1), Fault::Short(7), Fault::Short(513)]);
        }
        for call in 0..calls(kind) {
            for fault in &faults {
                let medium = SimDisk::new();
                medium.inject(call, Some(kind), *fault);
                let told = tell_life(&medium);
                assert_eq!(told.error, None, "{fault:?} at {kind:?} {call}");
                assert!(told.acknowledged == expected, "{fault:?} at {kind:?} {call}");
                for file in undisturbed.files() {
                    let same = medium.contents(&file) == undisturbed.contents(&file);
                    assert!(same, "{fault:?} at {kind:?} {call}: {file} differs");
                }
                tried += 1;
            }
        }
    }
    tell(&[("interrupted or short calls", tried)]);
}

/// Whatever fails, the last acknowledged state is there afterwards, or the one that was on its way.
fn fail_every_call(fault: Fault, kinds: &[OperationKind]) -> u64 {
    let undisturbed = tell_life(&SimDisk::new()).acknowledged;
    let mut tried = 0;
    for kind in kinds {
        for call in 0..calls(*kind) {
            let medium = SimDisk::new();
            medium.inject(call, Some(*kind), fault);
            let told = tell_life(&medium);
            tried += 1;
            let story = format!("{fault:?} at {kind:?} {call}: {:?}", told.error);
            medium.clear_faults();
            let last = told.acknowledged.len();
            let is_log = Wal::exists(&*medium.disk()).unwrap();
            assert!(is_log || last == 0, "{story}: the log is gone");
            if !is_log {
                continue;
            }
            for fate in [Fate::Keep, Fate::Lose] {
                let fork = medium.fork();
                fork.crash_with(|_| fate);
                if !Wal::exists(&*fork.disk()).unwrap() {
                    assert_eq!(last, 0, "{story}: the log is gone after the power went");
                    continue;
                }
                let opened = Wal::open(fork.disk(), options(4096), Check::default());
                let (wal, recovery) = opened.unwrap_or_else(|error| panic!("{story}: {error}"));
                assert!(recovery.lost.is_empty() && recovery.mended.is_empty(), "{story}");
                let found = observe(&wal);
                let allowed =
                    &undisturbed[last.saturating_sub(1)..(last + 1).min(undisturbed.len())];
                assert!(
                    allowed.contains(&found),
                    "{story}: {:?}..={:?}",
                    found.start,
                    found.last()
                );
            }
        }
    }
    tried
}

#[test]
fn a_full_disk_at_any_call_that_may_allocate_loses_nothing_that_was_acknowledged() {
    let kinds = [
        OperationKind::Create,
        OperationKind::Write,
        OperationKind::Rename,
        OperationKind::SyncData,
        OperationKind::SyncAll,
        OperationKind::SyncDirectory,
    ];
    tell(&[("calls that failed for want of space", fail_every_call(Fault::ENOSPC, &kinds))]);
}

#[test]
fn a_failure_at_any_call_loses_nothing_that_was_acknowledged() {
    let kinds = [
        OperationKind::List,
        OperationKind::Open,
        OperationKind::Create,
        OperationKind::Rename,
        OperationKind::Remove,
        OperationKind::Lock,
        OperationKind::Room,
        OperationKind::Read,
        OperationKind::Write,
        OperationKind::SyncData,
        OperationKind::SyncAll,
        OperationKind::SyncDirectory,
        OperationKind::Len,
        OperationKind::DropCache,
    ];
    tell(&[("calls that failed with an error", fail_every_call(Fault::EIO, &kinds))]);
}
