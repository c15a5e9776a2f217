//! Bytes that were durable and are not any more: every single bit, every segment.

use wal::sim_disk::{OperationKind, SimDisk};
use wal::{
    Append, Check, Damage, Ending, Entry, Inspector, LostPayload, OpenError, Position, ReadError,
    RepairError, Wal,
};

use crate::counts::tell;
use crate::harness::{Model, observe, options};
use crate::sample::{SEGMENT_BYTES, Sample, append, entry};

/// Where the last batch of a file ends: everything behind is zeros.
fn used(contents: &[u8]) -> usize {
    contents.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

/// Compares an opened log with what it should hold, entry by entry: each is right, or is refused
/// with an error that says so.
fn same_but_for_refused(wal: &Wal, model: &Model) -> usize {
    assert_eq!(wal.metadata(), model.metadata);
    assert_eq!(wal.log_start(), model.start);
    assert_eq!(wal.last(), model.last());
    let mut refused = 0;
    for (index, expected) in &model.entries {
        assert_eq!(wal.term(*index), Some(expected.term));
        match wal.read(*index, *index, 1) {
            Ok(found) => assert!(found == [expected.clone()], "a wrong entry {index}"),
            Err(ReadError::Lost { .. } | ReadError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("entry {index}: {error}"),
        }
    }
    refused
}

#[test]
fn every_flipped_bit_is_reported_and_none_shortens_the_log_in_silence() {
    let sample = Sample::new();
    let mut told = [0_u64; 4];
    let mut flips = 0;
    for file in sample.medium.files() {
        let original = sample.medium.contents(&file).unwrap();
        let used = used(&original);
        let dead = sample.dead_bytes(&original);
        let is_last = file == sample.last_file();
        for (byte, held) in original.iter().enumerate() {
            // All zeros behind the last batch are alike: one bit of each byte will do there.
            let bits = if byte < used + 16 { 0..8 } else { byte % 8..byte % 8 + 1 };
            for bit in bits {
                let medium = sample.medium.fork();
                medium.corrupt(&file, |contents| contents[byte] ^= 1 << bit);
                let story = format!("{file}, bit {bit} of byte {byte}");
                flips += 1;
                match sample.open(&medium, Check::default()) {
                    Err(OpenError::Corrupt { segment, .. }) => {
                        assert!(!segment.is_empty(), "{story}");
                        told[0] += 1;
                    }
                    Err(error) => panic!("{story}: {error}"),
                    Ok((wal, recovery)) if !recovery.lost.is_empty() => {
                        assert_eq!(same_but_for_refused(&wal, &sample.model), 1, "{story}");
                        assert_eq!(recovery.lost, wal.lost(), "{story}");
                        told[1] += 1;
                    }
                    Ok((wal, recovery)) if !recovery.mended.is_empty() => {
                        assert!(observe(&wal) == sample.model, "{story}: mended means whole");
                        told[2] += 1;
                    }
                    Ok((wal, recovery)) => {
                        let found = observe(&wal);
                        if let Ending::Torn(torn) = &recovery.ending {
                            assert!(is_last, "{story}: torn in the middle: {torn:?}");
                            assert!(byte as u64 >= sample.last_batch, "{story}: {torn:?}");
                            let whole = byte >= used.next_multiple_of(8);
                            let expected = if whole { &sample.model } else { &sample.before_last };
                            assert!(found == *expected, "{story}: torn, and something else gone");
                            told[3] += 1;
                        } else {
                            assert!(found == sample.model, "{story}: an unreported loss");
                            let is_idle = *held == 0 && !is_last;
                            let is_dead = dead.iter().any(|range| range.contains(&byte));
                            assert!(is_idle || is_dead, "{story}: an unreported flip");
                        }
                    }
                }
            }
        }
    }
    assert!(told.iter().all(|count| *count > 100), "each answer was given: {told:?}");
    let [refused, lost, mended, torn] = told;
    tell(&[
        ("flipped bits", flips),
        ("flips refused as lost history", refused),
        ("flips reported as a lost payload", lost),
        ("flips mended", mended),
        ("flips reported as a torn end", torn),
        ("flips in bytes that nothing reads", flips - told.iter().sum::<u64>()),
    ]);
}

#[test]
fn rot_that_opening_does_not_look_at_is_found_by_reading() {
    let sample = Sample::new();
    let check = Check { verify_from: sample.model.last().index + 1, floor: None, suspects: &[] };
    let mut refused = 0;
    let files = sample.medium.files();
    for file in &files[..files.len() - 1] {
        let original = sample.medium.contents(file).unwrap();
        for byte in 0..used(&original) {
            let bit = byte * 5 % 8;
            let medium = sample.medium.fork();
            medium.corrupt(file, |contents| contents[byte] ^= 1 << bit);
            match sample.open(&medium, check) {
                Err(OpenError::Corrupt { .. }) => {}
                Err(error) => panic!("{file} byte {byte}: {error}"),
                Ok((wal, _)) => refused += same_but_for_refused(&wal, &sample.model),
            }
        }
    }
    assert!(refused > 1000, "only {refused} reads were refused");
}

#[test]
fn a_missing_segment_is_named() {
    let sample = Sample::new();
    for file in sample.medium.files() {
        let medium = sample.medium.fork();
        assert!(medium.destroy(&file));
        match sample.open(&medium, Check::default()) {
            Err(OpenError::Corrupt { segment, sequence, damage: Damage::Missing, .. }) => {
                assert_eq!(format!("{sequence:016x}.wal"), segment);
                assert_eq!(segment, file);
            }
            other => panic!("{file} is gone, and: {:?}", other.map(|(_, recovery)| recovery)),
        }
    }
}

#[test]
fn a_segment_that_is_cut_short_anywhere_is_named() {
    let sample = Sample::new();
    for file in sample.medium.files() {
        for length in (0..SEGMENT_BYTES as usize).step_by(61) {
            let medium = sample.medium.fork();
            medium.corrupt(&file, |contents| contents.truncate(length));
            match sample.open(&medium, Check::default()) {
                Err(OpenError::Corrupt { segment, damage: Damage::Length, .. }) => {
                    assert_eq!(segment, file);
                }
                other => panic!(
                    "{file} has {length} bytes, and: {:?}",
                    other.map(|(_, recovery)| recovery)
                ),
            }
        }
    }
}

/// Every file of a disk with its contents.
fn contents(medium: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let files = medium.files().into_iter();
    files.map(|file| (file.clone(), medium.contents(&file).unwrap())).collect()
}

#[test]
fn a_segment_in_use_is_not_taken_for_a_spare_when_its_header_and_the_seal_before_rot() {
    let sample = Sample::new();
    let files = sample.medium.files();
    let [.., sealed, active] = &files[..] else { panic!("{files:?}") };
    let end = used(&sample.medium.contents(sealed).unwrap());
    for in_seal in (end - 130..end).step_by(3) {
        for in_header in (0..64).step_by(5) {
            let medium = sample.medium.fork();
            medium.corrupt(sealed, |contents| contents[in_seal] ^= 1);
            medium.corrupt(active, |contents| contents[in_header] ^= 1);
            let before = contents(&medium);
            let story = format!("byte {in_seal} of {sealed} and byte {in_header} of {active}");
            let opened = sample.open(&medium, Check::default()).map(|(_, recovery)| recovery);
            assert!(
                matches!(opened, Err(OpenError::Corrupt { .. } | OpenError::Unsupported { .. })),
                "{story}: {opened:?}"
            );
            let mended = Inspector::open(medium.disk()).unwrap().mend();
            assert!(mended.is_err(), "{story}: {mended:?}");
            assert!(contents(&medium) == before, "{story}: something was written or removed");
        }
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_no_spare_behind_a_broken_end() {
    let sample = Sample::new();
    let files = sample.medium.files();
    let [.., sealed, active] = &files[..] else { panic!("{files:?}") };
    let end = used(&sample.medium.contents(sealed).unwrap());
    let medium = sample.medium.fork();
    medium.corrupt(sealed, |contents| contents[end - 60] ^= 1);
    (0..SEGMENT_BYTES / 512).for_each(|sector| {
        medium.spoil_sector(active, sector);
    });
    let before = contents(&medium);
    let opened = sample.open(&medium, Check::default()).map(|(_, recovery)| recovery);
    assert!(matches!(opened, Err(OpenError::UnreadableEnd { .. })), "{opened:?}");
    assert!(contents(&medium) == before);
}

#[test]
fn without_its_only_segment_a_log_is_gone_and_its_spare_is_no_log() {
    let medium = SimDisk::new();
    let options = options(SEGMENT_BYTES);
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    wal.stage(append(vec![entry(1, 1, 50)])).unwrap();
    wal.commit().unwrap();
    drop(wal);
    assert!(medium.destroy("0000000000000001.wal"));
    match Wal::open(medium.disk(), options.clone(), Check::default()) {
        Err(OpenError::Corrupt { segment, damage: Damage::Missing, .. }) => {
            assert_eq!(segment, "0000000000000001.wal");
        }
        other => panic!("{:?}", other.map(|(_, recovery)| recovery)),
    }
    assert!(medium.destroy("0000000000000002.wal"));
    let opened = Wal::open(medium.disk(), options, Check::default());
    assert!(matches!(opened, Err(OpenError::NoLog { .. })));
}

#[test]
fn a_damaged_payload_is_repaired_in_place_and_only_with_its_own_bytes() {
    let sample = Sample::new();
    let victim = sample.model.entries.values().nth(10).unwrap().clone();
    let medium = sample.medium.fork();
    let needle = format!("entry {} of term {} ", victim.index, victim.term);
    for file in medium.files() {
        medium.corrupt(&file, |contents| {
            let found = contents.windows(needle.len()).position(|w| w == needle.as_bytes());
            if let Some(at) = found {
                contents[at] ^= 0x20;
            }
        });
    }
    let (mut wal, recovery) = sample.open(&medium, Check::default()).unwrap();
    assert_eq!(recovery.lost, [victim.position()]);
    assert!(matches!(
        wal.read(victim.index, victim.index, 1),
        Err(ReadError::Lost { position, .. }) if position == victim.position()
    ));
    let before = wal.read(victim.index - 2, victim.index + 2, u64::MAX).unwrap();
    assert_eq!(before.len(), 2, "what stands before the damage is readable");

    let wrong = Entry::new(victim.index, victim.term, 0, b"something else".to_vec());
    assert!(wal.repair(victim.position(), wrong.payload()).is_err());
    let elsewhere = Position::new(victim.index + 1, victim.term);
    assert!(wal.repair(elsewhere, victim.payload()).is_err());
    wal.repair(victim.position(), victim.payload()).unwrap();
    assert!(wal.lost().is_empty());
    drop(wal);

    medium.crash_with(|_| wal::sim_disk::Fate::Lose);
    let (wal, recovery) = sample.open(&medium, Check::default()).unwrap();
    assert!(recovery.lost.is_empty());
    assert!(observe(&wal) == sample.model);
}

#[test]
fn truncating_or_dropping_damaged_entries_ends_their_damage() {
    let sample = Sample::new();
    let medium = sample.medium.fork();
    let file = medium.files()[0].clone();
    let needle = b"entry 5 of term 1 ";
    medium.corrupt(&file, |contents| {
        let at = contents.windows(needle.len()).position(|w| w == needle).unwrap();
        contents[at] = 0;
    });
    let lost = [Position::new(5, 1)];
    for cut in ["truncate", "drop", "reset"] {
        let medium = medium.fork();
        let (mut wal, recovery) = sample.open(&medium, Check::default()).unwrap();
        assert_eq!(recovery.lost, lost);
        match cut {
            "truncate" => {
                wal.stage(Append { truncate_after: Some(4), ..append(Vec::new()) }).unwrap();
            }
            "drop" => {
                wal.drop_prefix(5).unwrap();
            }
            _ => {
                let reset = Some(Position::new(50, 7));
                wal.stage(Append { reset, ..append(Vec::new()) }).unwrap();
            }
        }
        wal.commit().unwrap();
        assert!(wal.lost().is_empty(), "{cut}");
        let model = observe(&wal);
        drop(wal);
        let (wal, recovery) = sample.open(&medium, Check::default()).unwrap();
        assert!(recovery.lost.is_empty(), "{cut}: {:?}", recovery.lost);
        assert!(observe(&wal) == model, "{cut}");
    }
}

#[test]
fn a_log_that_ends_below_the_floor_has_lost_history() {
    let sample = Sample::new();
    let last = sample.model.last().index;
    let floor = |index| Check { verify_from: 0, floor: Some(index), suspects: &[] };
    assert!(sample.open(&sample.medium.fork(), floor(last)).is_ok());
    match sample.open(&sample.medium.fork(), floor(last + 1)) {
        Err(OpenError::Corrupt { damage: Damage::BelowFloor, lost, .. }) => {
            assert_eq!(lost.after, sample.model.last());
            assert_eq!(lost.through, Some(last + 1));
        }
        other => panic!("{:?}", other.map(|(_, recovery)| recovery)),
    }
    // What would be a torn tail is damage when the floor says that it was durable.
    let medium = sample.medium.fork();
    medium.corrupt(&sample.last_file(), |contents| {
        contents[sample.last_batch as usize] ^= 1;
    });
    assert!(sample.open(&medium.fork(), floor(last - 1)).is_ok());
    let opened = sample.open(&medium, floor(last));
    assert!(matches!(opened, Err(OpenError::Corrupt { damage: Damage::BatchHeader, .. })));
}

#[test]
fn after_a_clean_close_the_last_batch_is_proven_too() {
    let sample = Sample::new();
    let medium = sample.medium.fork();
    let (wal, _) = sample.open(&medium, Check::default()).unwrap();
    wal.close().unwrap();
    let flip = |medium: &SimDisk| {
        medium.corrupt(&sample.last_file(), |contents| {
            contents[sample.last_batch as usize] ^= 1;
        });
    };
    flip(&sample.medium);
    let (_, recovery) = sample.open(&sample.medium, Check::default()).unwrap();
    assert!(matches!(recovery.ending, Ending::Torn(_)), "without the mark it looks torn");
    flip(&medium);
    let opened = sample.open(&medium, Check::default());
    assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "with the mark it is damage");
}

/// Flips a bit in the payload of each of these entries, wherever it stands.
pub(crate) fn rot(medium: &SimDisk, victims: &[Entry]) {
    for victim in victims {
        let needle = format!("entry {} of term {} ", victim.index, victim.term);
        for file in medium.files() {
            medium.corrupt(&file, |contents| {
                let found = contents.windows(needle.len()).position(|w| w == needle.as_bytes());
                if let Some(at) = found {
                    contents[at] ^= 1;
                }
            });
        }
    }
}

#[test]
fn many_payloads_are_repaired_with_one_sync_for_each_segment() {
    let sample = Sample::new();
    let entries = &sample.model.entries;
    let victims: Vec<Entry> = [5, 6, 30, 31].map(|index| entries[&index].clone()).to_vec();
    rot(&sample.medium, &victims);
    let (mut wal, recovery) = sample.open(&sample.medium, Check::default()).unwrap();
    assert_eq!(recovery.lost, victims.iter().map(Entry::position).collect::<Vec<_>>());
    let payloads = |count| victims[..count].iter().map(|it| (it.position(), it.payload()));
    let wrong = (victims[3].position(), victims[0].payload());
    assert!(matches!(
        wal.repair_all(payloads(3).chain([wrong])),
        Err(RepairError::WrongPayload(position)) if position == victims[3].position()
    ));
    assert_eq!(wal.lost(), recovery.lost, "without a sync none counts as repaired");
    let before = sample.medium.count(Some(OperationKind::SyncData));
    wal.repair_all(payloads(4)).unwrap();
    assert_eq!(sample.medium.count(Some(OperationKind::SyncData)) - before, 2);
    assert_eq!(wal.lost(), []);
    assert!(observe(&wal) == sample.model);
}

#[test]
fn an_entry_that_could_not_be_read_is_noted_with_what_is_known_of_it() {
    let sample = Sample::new();
    let check = Check { verify_from: sample.model.last().index, floor: None, suspects: &[] };
    let (mut wal, _) = sample.open(&sample.medium, check).unwrap();
    let victim = sample.model.entries[&6].clone();
    rot(&sample.medium, std::slice::from_ref(&victim));
    assert!(matches!(wal.read(6, 6, 1), Err(ReadError::Lost { .. })));
    assert_eq!(wal.lost(), [], "reading changes nothing");
    let lost = wal.note_lost(victim.position()).unwrap();
    let known = LostPayload {
        position: victim.position(),
        tag: victim.tag,
        bytes: u32::try_from(victim.payload().len()).unwrap(),
        checksum: victim.checksum(),
    };
    assert_eq!((lost, wal.lost()), (known, vec![victim.position()]));
    let elsewhere = Position::new(6, 9);
    assert!(matches!(wal.note_lost(elsewhere), Err(RepairError::NotLost(_))));
    wal.repair(victim.position(), victim.payload()).unwrap();
    assert!(observe(&wal) == sample.model);
}
