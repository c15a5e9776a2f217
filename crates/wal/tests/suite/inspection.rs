//! Looking at a stopped log, in every condition.

use std::ops::ControlFlow;

use wal::sim_disk::{OperationKind, SimDisk};
use wal::{
    Append, Damage, Finding, Health, Inspector, Item, OpenError, Payload, Record, Role, Wal,
};

use crate::harness::options;
use crate::sample::{Sample, append, entry};

/// The indexes of all entries in a dump, and whether their payloads are whole.
fn entries_in(items: &[Item]) -> Vec<(u64, bool)> {
    let entry = |item: &Item| match item {
        Item::Record(Record::Entry { position, payload, .. }) => {
            Some((position.index, matches!(payload, Payload::Whole(_))))
        }
        _ => None,
    };
    items.iter().filter_map(entry).collect()
}

fn dump(inspector: &Inspector) -> Vec<Item> {
    let mut items = Vec::new();
    let visit = |item| {
        items.push(item);
        ControlFlow::Continue(())
    };
    inspector.dump(visit).unwrap();
    items
}

#[test]
fn each_condition_has_its_own_answer() {
    let sample = Sample::new();
    let last = sample.last_file();
    let first = sample.medium.files()[0].clone();
    let verify = |path: &str, byte: usize| {
        let medium = sample.medium.fork();
        medium.corrupt(path, |contents| contents[byte] ^= 1);
        Inspector::open(medium.disk()).unwrap().verify().unwrap()
    };
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let inspector = inspector.with_floor(Some(sample.model.last().index));
    let clean = inspector.verify().unwrap();
    assert!(matches!(clean, Health::Clean));

    let torn = verify(&last, sample.last_batch as usize);
    assert!(matches!(&torn, Health::Torn(torn) if torn.offset == sample.last_batch));

    let contents = sample.medium.contents(&first).unwrap();
    let needle = b"entry 5 of term 1 ";
    let payload = contents.windows(needle.len()).position(|window| window == needle).unwrap();
    let damaged = verify(&first, payload);
    let Health::Damaged(findings) = &damaged else { panic!("{damaged:?}") };
    assert!(matches!(
        findings[..],
        [Finding::LostPayload { segment: 1, position, offset }]
            if position.index == 5 && (offset as usize) < payload
    ));

    let lost = verify(&first, 161);
    assert!(matches!(lost, Health::Lost(OpenError::Corrupt { .. })));
}

#[test]
fn a_dump_shows_every_record_and_goes_on_behind_damage() {
    let sample = Sample::new();
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let items = dump(&inspector);
    let written = entries_in(&items);
    assert!(sample.model.entries.keys().all(|index| written.contains(&(*index, true))));
    assert!(items.iter().any(|item| matches!(item, Item::Record(Record::Truncate(_)))));
    assert!(items.iter().any(|item| matches!(item, Item::Record(Record::Prefix { .. }))));
    assert!(items.iter().any(|item| matches!(item, Item::Record(Record::Seal { .. }))));
    assert!(!items.iter().any(|item| matches!(item, Item::Broken { .. })));
    drop(inspector);

    for file in sample.medium.files() {
        let medium = sample.medium.fork();
        let end = if file == sample.last_file() { sample.last_batch as usize } else { 1000 };
        medium.corrupt(&file, |contents| contents[200..end].fill(0x5a));
        let inspector = Inspector::open(medium.disk()).unwrap();
        let items = dump(&inspector);
        let broken = items.iter().any(|item| matches!(item, Item::Broken { .. }));
        let payload = entries_in(&items).iter().any(|(_, is_whole)| !is_whole);
        assert!(broken || payload, "{file}");
        let last = sample.model.last().index;
        assert!(entries_in(&items).contains(&(last, true)), "{file}: it went on");
    }
}

#[test]
fn a_dump_hands_over_what_was_written_and_stops_when_it_is_told_to() {
    let sample = Sample::new();
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let items = dump(&inspector);
    for item in &items {
        let Item::Record(Record::Entry { position, payload, bytes, .. }) = item else { continue };
        let Payload::Whole(payload) = payload else { panic!("{position} is damaged") };
        assert_eq!(payload.len() as u64, *bytes);
        let held =
            sample.model.entries.get(&position.index).filter(|held| held.term == position.term);
        let dead = || sample.dead.iter().find(|dead| dead.position() == *position);
        assert_eq!(payload, held.or_else(dead).unwrap().payload());
    }
    for enough in 1..=items.len() {
        let mut seen = 0;
        let count = |_| {
            seen += 1;
            if seen == enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        inspector.dump(count).unwrap();
        assert_eq!(seen, enough);
    }
}

#[test]
fn a_payload_that_a_later_segment_has_cut_is_missed_by_nobody() {
    let medium = SimDisk::new();
    let options = options(4096);
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    while wal.segment_count() < 2 {
        wal.stage(append(vec![entry(wal.last().index + 1, 1, 200)])).unwrap();
        wal.commit().unwrap();
    }
    let cut = Append { truncate_after: Some(4), ..append(vec![entry(5, 2, 200)]) };
    wal.stage(cut).unwrap();
    wal.commit().unwrap();
    drop(wal);
    let rot = |index: u64| {
        medium.corrupt("0000000000000001.wal", |contents| {
            let needle = format!("entry {index} of term 1 ");
            let found = contents.windows(needle.len()).position(|it| it == needle.as_bytes());
            contents[found.unwrap()] ^= 1;
        });
    };
    let verify = || Inspector::open(medium.disk()).unwrap().verify().unwrap();
    rot(6);
    assert!(matches!(verify(), Health::Clean));
    rot(3);
    let Health::Damaged(findings) = verify() else { panic!("the other one still counts") };
    let [Finding::LostPayload { position, .. }] = &findings[..] else { panic!("{findings:?}") };
    let (_, recovery) = Wal::open(medium.disk(), options, Default::default()).unwrap();
    assert_eq!(recovery.lost, [*position], "opening says the same");
}

#[test]
fn a_summary_knows_terms_metadata_and_the_role_of_every_file() {
    let sample = Sample::new();
    let (mut wal, _) = sample.open(&sample.medium, Default::default()).unwrap();
    let job = wal.take_job().unwrap();
    wal.finish_job(job.run()).unwrap();
    let terms = wal.terms();
    wal.close().unwrap();
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let summary = inspector.summarize().unwrap();
    assert_eq!((summary.start, summary.last), (sample.model.start, sample.model.last()));
    assert_eq!(summary.metadata, sample.model.metadata);
    assert_eq!(summary.terms, terms);
    let roles: Vec<Role> = summary.segments.iter().map(|segment| segment.role).collect();
    assert_eq!(roles, [Role::Sealed, Role::Sealed, Role::Active, Role::Spare]);
    assert!(summary.segments.iter().all(|segment| segment.bytes == 4096));
}

#[test]
fn inspection_writes_nothing_and_needs_the_log_for_itself() {
    let sample = Sample::new();
    sample.medium.corrupt(&sample.last_file(), |contents| {
        contents[sample.last_batch as usize] ^= 1;
    });
    let writes = |medium: &SimDisk| {
        let kinds = [
            OperationKind::Write,
            OperationKind::SyncAll,
            OperationKind::SyncData,
            OperationKind::Create,
            OperationKind::Remove,
            OperationKind::Rename,
        ];
        kinds.iter().map(|kind| medium.count(Some(*kind))).sum::<u64>()
    };
    let before = writes(&sample.medium);
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    inspector.verify().unwrap();
    inspector.summarize().unwrap();
    dump(&inspector);
    assert_eq!(writes(&sample.medium), before);
    let opened = Wal::open(sample.medium.disk(), options(4096), Default::default());
    assert!(matches!(opened, Err(OpenError::Locked { .. })));
}

#[test]
fn a_segment_that_cannot_be_read_at_all_is_shown_with_its_problem() {
    let sample = Sample::new();
    let file = sample.medium.files()[1].clone();
    sample.medium.corrupt(&file, |contents| contents[3] ^= 1);
    let inspector = Inspector::open(sample.medium.disk()).unwrap();
    let problems: Vec<_> = dump(&inspector)
        .into_iter()
        .filter_map(|item| match item {
            Item::Segment { sequence, problem, .. } => Some((sequence, problem)),
            _ => None,
        })
        .collect();
    assert_eq!(problems, [(1, None), (2, Some(Damage::SegmentHeader)), (3, None)]);
}

#[test]
fn a_segment_that_is_missing_between_two_others_is_named() {
    let sample = Sample::new();
    assert!(sample.medium.destroy(&sample.medium.files()[1].clone()));
    let items = dump(&Inspector::open(sample.medium.disk()).unwrap());
    let missing: Vec<_> = items.iter().filter(|it| matches!(it, Item::Missing { .. })).collect();
    assert_eq!(missing, [&Item::Missing { first: 2, last: 2 }]);
}
