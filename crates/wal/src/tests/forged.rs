//! Segments whose every checksum is right and whose records are nonsense: what a bug, or someone
//! with access to the disk, could write. Opening and reading them must end in an answer, never in
//! a panic.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::batch::{Before, Place, encode_batch};
use crate::entry::{Entry, Metadata, Position};
use crate::inspect::Inspector;
use crate::options::{LogId, Options};
use crate::record::{Boundary, Link, Row, Seal};
use crate::segment::{Seed, SegmentHeader, segment_name};
use crate::sim_disk::SimDisk;
use crate::survey::Check;
use crate::tally::Tally;
use crate::wal::Wal;

const CAPACITY: u64 = 4096;
const LOG: LogId = LogId(3);

/// Small numbers, so that nonsense is often almost right, and the largest ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![60 => 0..4_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)]
}

fn position() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(index, term)| Position { index, term })
}

fn boundary() -> impl Strategy<Value = Boundary> {
    let first_sequence = prop_oneof![8 => Just(1), 1 => 0..3_u64];
    (position(), number(), number(), first_sequence).prop_map(
        |(start, more, term, first_sequence)| {
            let last = Position { index: start.index.saturating_add(more), term };
            Boundary { start, last, first_sequence, metadata: None }
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (boundary(), prop_oneof![Just(0), Just(160), number()], number())
        .prop_map(|(boundary, seal_offset, seal_end)| Link { boundary, seal_offset, seal_end })
}

fn row() -> impl Strategy<Value = Row> {
    prop_oneof![
        1 => link().prop_map(Row::Link),
        1 => link().prop_map(Row::Reset),
        2 => Just(Row::Metadata(Metadata::new(b"x").unwrap())),
        4 => position().prop_map(Row::Truncate),
        2 => (position(), 0..4_u64)
            .prop_map(|(start, first_sequence)| Row::Prefix { start, first_sequence }),
        1 => (boundary(), number(), proptest::option::of(vec(position(), 0..4)))
            .prop_map(|(boundary, low, runs)| Row::Seal(Seal { boundary, low, runs })),
        1 => Just(Row::Close),
    ]
}

/// How far a batch is nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    FirstIndex(u64),
    Chain,
}

#[derive(Clone, Debug)]
struct ForgedBatch {
    rows: Vec<Row>,
    terms: Vec<u64>,
    last_rows: Vec<Row>,
    lie: Lie,
}

fn forged_batch() -> impl Strategy<Value = ForgedBatch> {
    let some = |most| vec(row(), 0..=most);
    let rows = prop_oneof![3 => some(0), 2 => some(1), 1 => some(2)];
    let last_rows = prop_oneof![5 => some(0), 1 => some(1)];
    let terms = vec(number(), 0..3);
    let lie = prop_oneof![
        18 => Just(Lie::None),
        1 => number().prop_map(Lie::FirstIndex),
        1 => Just(Lie::Chain),
    ];
    (rows, terms, last_rows, lie).prop_map(|(rows, mut terms, last_rows, lie)| {
        if lie == Lie::None {
            terms.sort_unstable();
        }
        ForgedBatch { rows, terms, last_rows, lie }
    })
}

#[derive(Clone, Debug)]
struct ForgedSegment {
    /// Used by the first segment, and by others if `is_linked` is not set.
    link: Link,
    is_linked: bool,
    is_reset: bool,
    batches: Vec<ForgedBatch>,
    is_sealed: bool,
}

fn forged_segment() -> impl Strategy<Value = ForgedSegment> {
    let batches = vec(forged_batch(), 0..5);
    let rarely = || proptest::bool::weighted(0.1);
    (link(), rarely(), rarely(), batches, rarely()).prop_map(
        |(link, is_unlinked, is_reset, batches, is_unsealed)| ForgedSegment {
            link,
            is_linked: !is_unlinked,
            is_reset,
            batches,
            is_sealed: !is_unsealed,
        },
    )
}

/// What the end of one segment hands to the next.
#[derive(Clone, Copy, Default)]
struct Handover {
    link: Option<Link>,
    crc: u32,
}

/// Counts rows as recovery would, so that most of the nonsense gets as far as possible.
fn count(tally: &mut Tally, rows: &[Row], sequence: u64) {
    for row in rows {
        match row {
            Row::Truncate(keep) => {
                let _ = tally.truncate(*keep);
            }
            Row::Prefix { start, first_sequence } => {
                let _ = tally.prefix(*start, *first_sequence, sequence);
            }
            Row::Metadata(metadata) => tally.metadata(*metadata),
            _ => {}
        }
    }
}

fn encode(sequence: u64, segment: &ForgedSegment, before: Handover) -> (Vec<u8>, Handover) {
    let header = SegmentHeader { log_id: LOG, sequence, capacity: CAPACITY };
    let seed = Seed::new(LOG, sequence);
    let mut buffer = header.encode();
    let link = before.link.filter(|_| segment.is_linked).unwrap_or(segment.link);
    let row = if segment.is_reset { Row::Reset(link) } else { Row::Link(link) };
    let mut tally = Tally::begin(link.boundary);
    let mut crc = before.crc;
    let mut write = |buffer: &mut Vec<u8>, batch: &ForgedBatch, tally: &mut Tally| {
        let offset = buffer.len() as u64;
        let previous_crc = if batch.lie == Lie::Chain { 7 } else { crc };
        let place = Place { seed: &seed, offset, previous_crc, before: Before::Synced };
        count(tally, &batch.rows, sequence);
        let mut first_index = tally.boundary.last.index.wrapping_add(1);
        for term in &batch.terms {
            let _ = tally.entry(*term);
        }
        count(tally, &batch.last_rows, sequence);
        if let Lie::FirstIndex(lie) = batch.lie {
            first_index = lie;
        }
        let entries: VecDeque<Entry> =
            batch.terms.iter().map(|term| Entry::new(0, *term, 0, b"payload".to_vec())).collect();
        let ForgedBatch { rows, last_rows, .. } = batch;
        crc = encode_batch(buffer, place, rows, entries.iter(), last_rows, first_index);
        offset
    };
    let batch = |rows| ForgedBatch { rows, terms: vec![], last_rows: vec![], lie: Lie::None };
    write(&mut buffer, &batch(vec![row]), &mut tally);
    for forged in &segment.batches {
        write(&mut buffer, forged, &mut tally);
    }
    let mut after = Handover::default();
    if segment.is_sealed {
        let seal = Row::Seal(tally.seal());
        let seal_offset = write(&mut buffer, &batch(vec![seal]), &mut tally);
        let (boundary, seal_end) = (tally.boundary, buffer.len() as u64);
        after.link = Some(Link { boundary, seal_offset, seal_end });
    }
    after.crc = crc;
    buffer.resize(CAPACITY as usize, 0);
    (buffer, after)
}

fn forge(segments: &[ForgedSegment]) -> SimDisk {
    let medium = SimDisk::new();
    let disk = medium.disk();
    let mut handover = Handover::default();
    for (sequence, segment) in (1..).zip(segments) {
        let mut segment = segment.clone();
        // The last one of an honest log is not sealed.
        segment.is_sealed &= sequence < segments.len() as u64;
        let file = disk.create(&segment_name(sequence)).unwrap();
        let bytes;
        (bytes, handover) = encode(sequence, &segment, handover);
        crate::disk::write_all_at(&*file, &bytes, 0).unwrap();
        file.sync_all().unwrap();
    }
    disk.sync().unwrap();
    medium
}

/// Asks an opened log everything.
fn question(wal: &mut Wal) {
    let (start, last) = (wal.log_start().index, wal.last().index);
    let end = last.min(start.saturating_add(20));
    for index in start..=end {
        let _ = wal.term(index);
        let _ = wal.read(index, end, u64::MAX);
    }
    let _ = wal.drop_prefix(end);
    let entry = Entry::new(last.wrapping_add(1), u64::MAX, 0, b"more".to_vec());
    let _ = wal.stage(crate::Append {
        entries: vec![entry],
        metadata: None,
        reset: None,
        truncate_after: Some(last),
    });
    let _ = wal.commit();
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn forged_segments_get_an_answer(
        segments in vec(forged_segment(), 1..4),
        verify_from in number(),
        floor in proptest::option::of(number()),
    ) {
        let medium = forge(&segments);
        let check = Check { verify_from, floor, suspects: &[] };
        let options = Options::with_segment_bytes(CAPACITY);
        let inspector = Inspector::open(medium.disk()).unwrap().with_floor(floor);
        let _ = inspector.verify();
        let _ = inspector.summarize();
        let mut seen = 0;
        let count = |_| {
            seen += 1;
            ControlFlow::Continue(())
        };
        inspector.dump(count).unwrap();
        prop_assert!(seen > 0);
        drop(inspector);
        if let Ok((mut wal, _)) = Wal::open(medium.disk(), options.clone(), check) {
            question(&mut wal);
            drop(wal);
            let _ = Wal::open(medium.disk(), options, check);
        }
    }
}
