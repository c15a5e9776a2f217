//! A salvage that is interrupted: wherever that happens, nothing is gone, nothing opens as if it
//! were whole, and running it again comes to the same end.

use std::cell::Cell;
use std::ops::ControlFlow;

use wal::sim_disk::{Fate, Fault, Pending, SimDisk};
use wal::{Check, CreateError, Health, Inspector, Item, OpenError, Position, Record, Salvage, Wal};

use crate::counts::tell;
use crate::harness::{Harness, Model, Random, for_seeds, observe, options};
use crate::sample::{SEGMENT_BYTES, Sample, append, entry};

/// Every file with its contents.
type Files = Vec<(String, Vec<u8>)>;

fn files_of(medium: &SimDisk) -> Files {
    let files = medium.files().into_iter().filter(|file| file != "LOCK");
    files.map(|file| (file.clone(), medium.contents(&file).unwrap())).collect()
}

/// Fails unless each byte of a segment that is not as it was before stands, in its place, in a file
/// that was put aside for that segment.
fn assert_all_is_kept(before: &Files, after: &Files, story: &str) {
    for (name, original) in before.iter().filter(|(name, _)| name.ends_with(".wal")) {
        let now = after.iter().find(|(held, _)| held == name).map(|(_, contents)| contents);
        let aside: Vec<&Vec<u8>> = after
            .iter()
            .filter(|(held, _)| held.strip_prefix(name.as_str()).is_some_and(is_aside))
            .map(|(_, contents)| contents)
            .collect();
        for (at, byte) in original.iter().enumerate() {
            let is_held = now.is_some_and(|now| now.get(at) == Some(byte));
            let is_kept =
                *byte == 0 || is_held || aside.iter().any(|kept| kept.get(at) == Some(byte));
            assert!(is_kept, "{story}: byte {at} of {name} was {byte:#04x} and is kept nowhere");
        }
    }
}

fn is_aside(suffix: &str) -> bool {
    suffix.starts_with(".lost.")
}

/// How many files were put aside.
fn count_aside(files: &Files) -> usize {
    files.iter().filter(|(name, _)| name.contains(".lost.")).count()
}

/// A damaged log with 4 KiB segments, and what it is called in a failure.
struct Damaged {
    story: String,
    medium: SimDisk,
}

/// The sample with a spare, with what an interrupted making of a segment leaves, and with one
/// thing or another wrong with it.
fn damaged_logs(sample: &Sample) -> Vec<Damaged> {
    let base = sample.medium.fork();
    let (mut wal, _) = sample.open(&base, Check::default()).unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    drop(wal);
    for attempt in ["0000000000000003-0.wal.tmp", "0000000000000004-0.wal.tmp"] {
        let disk = base.disk();
        let file = disk.create(attempt).unwrap();
        wal::disk::write_all_at(&*file, b"a segment that is still being made", 0).unwrap();
        file.sync_all().unwrap();
        disk.sync().unwrap();
    }
    let files: Vec<String> =
        base.files().into_iter().filter(|file| file.ends_with(".wal")).collect();
    let [first, middle, last, _spare] = &files[..] else { panic!("{files:?}") };
    let seal = sample.medium.contents(middle).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let mut damaged = Vec::new();
    let mut add = |story: String, change: &dyn Fn(&SimDisk)| {
        let medium = base.fork();
        change(&medium);
        damaged.push(Damaged { story, medium });
    };
    let spots = [
        ("the header", 20),
        ("the link", 100),
        ("the first batch", 165),
        ("a directory in the middle", 1_200),
        ("a later directory", 1_900),
    ];
    for file in [first, middle, last] {
        for (spot, at) in spots {
            // Eight bytes reach into a header or a directory wherever they stand.
            add(format!("{spot} of {file} is rotten"), &|medium| {
                medium.corrupt(file, |contents| contents[at..at + 64].fill(0x5a));
            });
        }
        add(format!("{file} is missing"), &|medium| assert!(medium.destroy(file)));
        add(format!("{file} is cut short"), &|medium| {
            medium.corrupt(file, |contents| contents.truncate(1_500));
        });
        add(format!("{file} cannot be read"), &|medium| {
            (0..3).for_each(|sector| assert!(medium.spoil_sector(file, sector)));
        });
    }
    add("a seal is rotten, and the link behind it".to_owned(), &|medium| {
        medium.corrupt(middle, |contents| contents[seal - 60] ^= 1);
        medium.corrupt(last, |contents| contents[100] ^= 1);
    });
    add("the first segment is missing and the end is torn".to_owned(), &|medium| {
        assert!(medium.destroy(first));
        medium.corrupt(last, |contents| contents[sample.last_batch as usize] ^= 1);
    });
    add("the first two segments are missing".to_owned(), &|medium| {
        assert!(medium.destroy(first) && medium.destroy(middle));
    });
    add("the first and the last segment are missing".to_owned(), &|medium| {
        assert!(medium.destroy(first) && medium.destroy(last));
    });
    damaged.retain(|it| {
        let opened = sample.open(&it.medium.fork(), Check::default());
        matches!(opened, Err(OpenError::Corrupt { .. }))
    });
    damaged
}

fn salvage(medium: &SimDisk) -> Result<Salvage, OpenError> {
    Inspector::open(medium.disk())?.salvage()
}

/// What an uninterrupted salvage comes to.
struct Outcome {
    ends: (Position, Position),
    model: Option<Model>,
    aside: usize,
    operations: u64,
}

fn open_as_model(sample: &Sample, medium: &SimDisk) -> Result<(Model, bool), OpenError> {
    let (wal, recovery) = sample.open(medium, Check::default())?;
    let is_whole = recovery.lost.is_empty();
    let model = if is_whole { observe(&wal) } else { Model::default() };
    Ok((model, is_whole))
}

fn uninterrupted(sample: &Sample, damaged: &Damaged) -> Option<Outcome> {
    let medium = damaged.medium.fork();
    let inspector = Inspector::open(medium.disk()).unwrap();
    let before = medium.count(None);
    let found = inspector.salvage().ok()?;
    let operations = medium.count(None) - before;
    drop(inspector);
    let (files, story) = (files_of(&medium), &damaged.story);
    assert_all_is_kept(&files_of(&damaged.medium), &files, story);
    let aside = count_aside(&files);
    let (model, is_whole) = open_as_model(sample, &medium).unwrap();
    let model = is_whole.then_some(model);
    Some(Outcome { ends: (found.start, found.last), model, aside, operations })
}

/// Checks what an interruption left, runs the salvage again, and compares.
fn run_again(sample: &Sample, damaged: &Damaged, medium: &SimDisk, whole: &Outcome, story: &str) {
    let before = files_of(&damaged.medium);
    assert_all_is_kept(&before, &files_of(medium), story);
    let ends = |model: &Model| (model.start, model.last());
    if let Ok((model, is_whole)) = open_as_model(sample, &medium.fork()) {
        assert!(!is_whole || ends(&model) == whole.ends, "{story}: it opens half-way");
        let aside = count_aside(&files_of(medium));
        assert_eq!(aside, whole.aside, "{story}: it opens before it is done");
    }
    let planned = Inspector::open(medium.disk()).unwrap().plan_salvage();
    let planned = planned.unwrap_or_else(|error| panic!("{story}: no plan: {error}"));
    if let Some(plan) = planned {
        assert_eq!((plan.start, plan.last), whole.ends, "{story}: another plan");
    }
    let again = salvage(medium).unwrap_or_else(|error| panic!("{story}: not again: {error}"));
    assert_eq!((again.start, again.last), whole.ends, "{story}: another end");
    let files = files_of(medium);
    assert_all_is_kept(&before, &files, story);
    assert_eq!(count_aside(&files), whole.aside, "{story}: {:?}", medium.files());
    // It is as durable as it is complete.
    medium.crash_with(|_| Fate::Lose);
    let (model, is_whole) = open_as_model(sample, medium)
        .unwrap_or_else(|error| panic!("{story}: does not open when it was done: {error}"));
    assert_eq!(is_whole.then_some(model), whole.model, "{story}: another log");
    assert_all_is_kept(&before, &files_of(medium), story);
}

/// What a power cut decides about: two moments that have the same of it are one.
fn state(medium: &SimDisk) -> (Files, Vec<Pending>) {
    (files_of(medium), medium.pending())
}

#[test]
fn a_salvage_goes_on_to_the_same_end_wherever_the_power_was_cut() {
    let sample = Sample::new();
    let (mut cuts, mut operations, mut logs) = (0, 0, 0);
    for damaged in damaged_logs(&sample) {
        let Some(whole) = uninterrupted(&sample, &damaged) else { continue };
        logs += 1;
        let mut seen = None;
        for at in 0..whole.operations {
            let medium = damaged.medium.fork();
            let inspector = Inspector::open(medium.disk()).unwrap();
            medium.inject(at, None, Fault::PowerOff);
            let story = format!("{}, power cut at operation {at}", damaged.story);
            assert!(inspector.salvage().is_err(), "{story}: nobody noticed");
            drop(inspector);
            operations += 1;
            let now = state(&medium);
            if seen.as_ref() == Some(&now) {
                continue;
            }
            for_seeds(if now.1.is_empty() { 1 } else { 4 }, |seed| {
                let medium = medium.fork();
                medium.crash(seed);
                run_again(&sample, &damaged, &medium, &whole, &story);
            });
            cuts += if now.1.is_empty() { 1 } else { 4 };
            seen = Some(now);
        }
    }
    tell(&[
        ("damaged logs salvaged", logs),
        ("operations of salvages at which the power was cut", operations),
        ("power cuts in salvages", cuts),
    ]);
    assert!(logs > 15, "{logs}");
}

#[test]
fn a_salvage_that_a_refused_operation_ended_can_be_run_again() {
    let sample = Sample::new();
    for damaged in damaged_logs(&sample) {
        let Some(whole) = uninterrupted(&sample, &damaged) else { continue };
        let mut seen = None;
        for at in 0..whole.operations {
            let medium = damaged.medium.fork();
            let inspector = Inspector::open(medium.disk()).unwrap();
            medium.inject(at, None, Fault::EIO);
            let story = format!("{}, an error at operation {at}", damaged.story);
            if let Ok(found) = inspector.salvage() {
                // A read that is refused once must not make it give up more.
                assert_eq!((found.start, found.last), whole.ends, "{story}");
            }
            medium.clear_faults();
            drop(inspector);
            let now = Some(state(&medium));
            if seen == now {
                continue;
            }
            seen = now;
            run_again(&sample, &damaged, &medium, &whole, &story);
        }
    }
}

#[test]
fn a_salvage_for_which_there_is_no_room_leaves_the_log_as_it_was() {
    let sample = Sample::new();
    for damaged in damaged_logs(&sample) {
        let Some(whole) = uninterrupted(&sample, &damaged) else { continue };
        let before = files_of(&damaged.medium);
        let is_refused = (0..5).filter(|segments| {
            let medium = damaged.medium.fork();
            medium.set_room(Some(medium.used() + segments * SEGMENT_BYTES / 2));
            let refused = salvage(&medium).is_err();
            let story = format!("{}, room for {segments} halves of a segment", damaged.story);
            if refused {
                assert!(files_of(&medium) == before, "{story}: it left something");
            }
            medium.set_room(None);
            run_again(&sample, &damaged, &medium, &whole, &story);
            refused
        });
        assert!(is_refused.count() < 5, "{}: one segment is enough", damaged.story);
    }
}

#[test]
fn every_byte_that_a_salvage_changes_is_kept_beside_it() {
    let sample = Sample::new();
    for damaged in damaged_logs(&sample) {
        uninterrupted(&sample, &damaged);
    }
    for file in sample.medium.files().into_iter().filter(|file| file.ends_with(".wal")) {
        let length = sample.medium.contents(&file).unwrap().len();
        for byte in 0..length {
            let medium = sample.medium.fork();
            medium.corrupt(&file, |contents| contents[byte] ^= 1 << (byte % 8));
            let before = files_of(&medium);
            let story = format!("{file} byte {byte}");
            if salvage(&medium).is_ok() {
                assert_all_is_kept(&before, &files_of(&medium), &story);
            }
        }
    }
}

/// A log of any history, with any damage, whether or not it takes history along.
fn random_damage(seed: u64) -> Damaged {
    let mut random = Random::new(seed);
    let mut harness = Harness::create(SEGMENT_BYTES);
    for _ in 0..80 {
        harness.step(&mut random).unwrap();
    }
    harness.commit().unwrap();
    let medium = harness.medium.fork();
    medium.crash_with(|_| Fate::Lose);
    let files: Vec<String> =
        medium.files().into_iter().filter(|file| file.ends_with(".wal")).collect();
    let mut story = format!("seed {seed}, {} segments:", files.len());
    for _ in 0..=random.below(3) {
        let file = &files[random.below(files.len() as u64) as usize];
        let at = random.below(SEGMENT_BYTES) as usize;
        match random.below(8) {
            0 => drop(medium.destroy(file)),
            1 => drop(medium.corrupt(file, |contents| contents.truncate(at))),
            2 => drop(medium.spoil_sector(file, at as u64 / 512)),
            3 => drop(medium.corrupt(file, |contents| {
                contents.iter_mut().skip(at).take(600).for_each(|byte| *byte = 0);
            })),
            _ => drop(medium.corrupt(file, |contents| {
                contents.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
            })),
        }
        story.push_str(&format!(" {file} at {at},"));
    }
    Damaged { story, medium }
}

fn is_under_way(medium: &SimDisk) -> bool {
    medium.files().iter().any(|file| file == "SALVAGE")
}

/// How much a salvage has still to do; one that is done looks at the log and leaves it.
fn operations_left(medium: &SimDisk) -> u64 {
    let medium = medium.fork();
    let before = medium.count(None);
    salvage(&medium).expect("it goes on to its end");
    medium.count(None) - before
}

#[test]
fn any_log_with_any_damage_is_salvaged_to_one_end_however_often_the_power_goes() {
    let sample = Sample::new();
    let (lost, salvaged, resumed) = (Cell::new(0), Cell::new(0), Cell::new(0));
    for_seeds(250, |seed| {
        let damaged = random_damage(seed);
        let opened = sample.open(&damaged.medium.fork(), Check::default());
        if !matches!(opened, Err(OpenError::Corrupt { .. })) {
            return;
        }
        lost.set(lost.get() + 1);
        let Some(whole) = uninterrupted(&sample, &damaged) else { return };
        salvaged.set(salvaged.get() + 1);
        let mut random = Random::new(seed);
        let medium = damaged.medium.fork();
        // It is cut short more than once, each time somewhere in what was left to be done. Every
        // other time only the program ends, and the disk keeps all that it was told.
        let mut story = format!("{} cut short at", damaged.story);
        for round in 0..4 {
            if is_under_way(&medium) {
                resumed.set(resumed.get() + 1);
            }
            let at = random.below(operations_left(&medium));
            story.push_str(&format!(" {at}"));
            medium.inject(at, None, Fault::PowerOff);
            assert!(salvage(&medium).is_err(), "{story}: it was not cut short");
            match random.below(2) {
                0 => drop(medium.crash(seed + round)),
                _ => drop(medium.crash_with(|_| Fate::Keep)),
            }
        }
        run_again(&sample, &damaged, &medium, &whole, &story);
    });
    let (lost, salvaged, resumed) = (lost.get(), salvaged.get(), resumed.get());
    tell(&[
        ("random logs with lost history", lost),
        ("of them salvaged", salvaged),
        ("salvages that went on with an exchange and were cut short again", resumed),
    ]);
    assert!(resumed > salvaged / 4, "{resumed}: what is left behind the exchange was hardly met");
    assert!(salvaged * 10 >= lost * 5, "{salvaged} of {lost}");
}

/// A damaged log in its only segment, in a salvage that was cut short when that had left its place.
fn between_old_and_new() -> (SimDisk, OpenError) {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(SEGMENT_BYTES)).unwrap();
    for index in 1..=3 {
        wal.stage(append(vec![entry(index, 1, 50)])).unwrap();
        wal.commit().unwrap();
    }
    drop(wal);
    medium.corrupt("0000000000000001.wal", |contents| contents[170] ^= 1);
    for at in 0.. {
        let medium = medium.fork();
        let inspector = Inspector::open(medium.disk()).unwrap();
        medium.inject(at, None, Fault::PowerOff);
        assert!(inspector.salvage().is_err(), "it never was between them");
        drop(inspector);
        medium.crash_with(|_| Fate::Keep);
        if !medium.files().iter().any(|file| file == "0000000000000001.wal") {
            let opened = Wal::open(medium.disk(), options(SEGMENT_BYTES), Check::default());
            return (medium, opened.map(drop).unwrap_err());
        }
    }
    unreachable!("every number was tried");
}

#[test]
fn a_new_file_that_rots_before_it_is_in_place_is_made_again() {
    let (medium, _) = between_old_and_new();
    let whole = Inspector::open(medium.fork().disk()).unwrap().salvage().unwrap();
    let prepared = "0000000000000001-salvage.wal.tmp";
    assert!(medium.corrupt(prepared, |contents| contents[120] ^= 1));
    for at in 0.. {
        let medium = medium.fork();
        medium.inject(at, None, Fault::PowerOff);
        let is_done = salvage(&medium).is_ok();
        medium.clear_faults();
        medium.crash(at);
        let plan = Inspector::open(medium.disk()).unwrap().plan_salvage().unwrap();
        let planned = plan.map_or(whole.last, |plan| plan.last);
        assert_eq!(planned, whole.last, "cut at {at}");
        let again = salvage(&medium).unwrap();
        assert_eq!((again.start, again.last), (whole.start, whole.last), "cut at {at}");
        if is_done {
            break;
        }
    }
}

#[test]
fn between_the_old_log_and_the_new_one_there_is_none_and_nobody_makes_one() {
    let (medium, refused) = between_old_and_new();
    assert!(matches!(refused, OpenError::HalfSalvaged { .. }), "{refused}");
    assert!(Wal::exists(&*medium.disk()).unwrap());
    let created = Wal::create(medium.disk(), options(SEGMENT_BYTES));
    assert!(matches!(created, Err(CreateError::Exists { .. })), "{created:?}");
    let inspector = Inspector::open(medium.disk()).unwrap();
    let health = inspector.verify().unwrap();
    assert!(matches!(health, Health::Lost(OpenError::HalfSalvaged { .. })), "{health:?}");
    assert!(matches!(inspector.mend(), Err(OpenError::HalfSalvaged { .. })));
    assert!(matches!(inspector.summarize(), Err(OpenError::HalfSalvaged { .. })));
    inspector.forget_cached().unwrap();
    let mut entries = 0;
    inspector
        .dump(|item| {
            entries += u64::from(matches!(item, Item::Record(Record::Entry { .. })));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(entries, 2, "the log as it was, but for the damaged batch, can be read");
    let target = SimDisk::new();
    inspector.back_up(&*target.disk()).unwrap();
    assert_eq!(target.files(), ["0000000000000001.wal"], "and copied");
    assert!(inspector.is_backed_up(&*target.disk()).unwrap());
    target.corrupt("0000000000000001.wal", |contents| contents[4_000] ^= 1);
    assert!(!inspector.is_backed_up(&*target.disk()).unwrap());
}

#[test]
fn a_list_of_files_of_which_one_copy_rotted_is_followed_and_one_that_rotted_whole_is_not() {
    let (medium, _) = between_old_and_new();
    let list = medium.contents("SALVAGE").unwrap();
    for copy in [0, list.len() / 2] {
        let medium = medium.fork();
        medium.corrupt("SALVAGE", |contents| contents[copy + 12] ^= 1);
        salvage(&medium).unwrap();
        Wal::open(medium.disk(), options(SEGMENT_BYTES), Check::default()).unwrap();
        let medium = between_old_and_new().0;
        medium.spoil_sector("SALVAGE", copy as u64 / 512);
        salvage(&medium).unwrap();
    }
    medium.corrupt("SALVAGE", |contents| {
        contents[12] ^= 1;
        contents[list.len() / 2 + 12] ^= 1;
    });
    let before = files_of(&medium);
    assert!(matches!(salvage(&medium), Err(OpenError::Io(_))));
    assert!(files_of(&medium) == before);
}
