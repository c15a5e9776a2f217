//! What a plan says of entries that were cut, written again or dropped: none of them is named that
//! would not be given up, and each under its own term.

use wal::sim_disk::SimDisk;
use wal::{Append, Inspector, Plan, Position, Wal};

use crate::harness::options;
use crate::sample::{append, entry};

/// A log in one segment, batch by batch, and where each batch begins.
struct Story {
    medium: SimDisk,
    wal: Wal,
    offsets: Vec<u64>,
}

impl Story {
    fn new() -> Story {
        let medium = SimDisk::new();
        let wal = Wal::create(medium.disk(), options(16 << 10)).unwrap();
        Story { medium, wal, offsets: Vec::new() }
    }

    fn commit(&mut self) {
        self.medium.record_operations();
        self.wal.commit().unwrap();
        self.offsets.push(self.medium.operations()[0].offset);
    }

    /// Cuts what stands above `keep`, if that is asked for, and writes entries of one term.
    fn write(&mut self, keep: Option<u64>, indexes: std::ops::RangeInclusive<u64>, term: u64) {
        let entries = indexes.map(|index| entry(index, term, 60)).collect();
        self.wal.stage(Append { truncate_after: keep, ..append(entries) }).unwrap();
        self.commit();
    }

    /// What would be given up if these batches rotted: bytes of the header, or of the directory.
    fn plan(&self, rotten: &[(usize, u64)]) -> Plan {
        let medium = self.medium.fork();
        for (batch, byte) in rotten {
            let at = (self.offsets[*batch] + byte) as usize;
            medium.corrupt("0000000000000001.wal", |contents| contents[at] ^= 1);
        }
        let inspector = Inspector::open(medium.disk()).unwrap();
        inspector.plan_salvage().unwrap().expect("history is lost")
    }

    fn given_up(&self, rotten: &[(usize, u64)]) -> Vec<(Position, Position)> {
        self.plan(rotten).given_up
    }
}

const HEADER: u64 = 9;
const DIRECTORY: u64 = 34;

fn row(first: (u64, u64), last: (u64, u64)) -> (Position, Position) {
    (Position::new(first.0, first.1), Position::new(last.0, last.1))
}

#[test]
fn entries_that_were_cut_are_not_named_and_those_in_their_places_are_of_their_own_term() {
    let mut story = Story::new();
    story.write(None, 1..=3, 1);
    story.write(None, 4..=9, 1);
    story.write(Some(6), 7..=8, 2);
    story.write(None, 9..=9, 2);
    for spot in [HEADER, DIRECTORY] {
        // The first batch: everything goes, but what was cut had gone before.
        let plan = story.plan(&[(0, spot)]);
        assert_eq!(plan.last, Position::new(0, 0));
        assert_eq!(plan.given_up, [row((4, 1), (9, 2))]);
        // The batch that cut: what it cut comes back, and what stands in its place behind goes.
        let plan = story.plan(&[(2, spot)]);
        assert_eq!(plan.last, Position::new(9, 1));
        assert_eq!(plan.given_up, [row((9, 2), (9, 2))]);
    }
}

#[test]
fn entries_that_were_cut_and_not_written_again_are_named_nowhere() {
    let mut story = Story::new();
    story.write(None, 1..=2, 1);
    story.write(None, 3..=9, 1);
    story.wal.stage(Append { truncate_after: Some(5), ..append(Vec::new()) }).unwrap();
    story.commit();
    story.wal.stage(Append { metadata: crate::sample::metadata(7), ..append(Vec::new()) }).unwrap();
    story.commit();
    assert_eq!(story.given_up(&[(0, HEADER)]), [row((3, 1), (5, 1))]);
    // The record of the cut is gone, and what stands behind goes on where it left the log.
    assert_eq!(story.given_up(&[(0, HEADER), (2, HEADER)]), [row((3, 1), (5, 1))]);
    assert_eq!(story.given_up(&[(0, HEADER), (2, DIRECTORY)]), [row((3, 1), (5, 1))]);
}

#[test]
fn a_cut_in_a_batch_behind_the_damage_counts_though_only_its_header_is_left() {
    let mut story = Story::new();
    story.write(None, 1..=2, 1);
    story.write(None, 3..=9, 1);
    story.write(Some(5), 6..=7, 2);
    story.write(None, 8..=8, 2);
    let rows = story.given_up(&[(0, HEADER), (2, DIRECTORY)]);
    assert_eq!(rows, [row((3, 1), (5, 1)), row((8, 2), (8, 2))]);
}

#[test]
fn what_a_dropped_prefix_took_away_is_not_given_up_again() {
    let mut story = Story::new();
    story.write(None, 1..=2, 1);
    story.write(None, 3..=9, 1);
    story.wal.drop_prefix(5).unwrap();
    story.commit();
    story.write(None, 10..=11, 2);
    assert_eq!(story.given_up(&[(0, HEADER)]), [row((6, 1), (11, 2))]);
}

#[test]
fn entries_that_are_left_are_not_named() {
    let mut story = Story::new();
    for term in 1..=4 {
        story.write(None, term * 3 - 2..=term * 3, term);
    }
    let plan = story.plan(&[(2, HEADER)]);
    assert_eq!(plan.last, Position::new(6, 2));
    assert_eq!(plan.given_up, [row((10, 4), (12, 4))]);
}

#[test]
fn what_stood_before_a_reset_is_not_given_up_again() {
    let mut story = Story::new();
    story.write(None, 1..=9, 1);
    story.wal.stage(Append { reset: Some(Position::new(20, 3)), ..append(Vec::new()) }).unwrap();
    story.wal.commit().unwrap();
    story.write(None, 21..=22, 3);
    story.write(None, 23..=24, 3);
    let file = story.medium.files().pop().unwrap();
    assert_ne!(file, "0000000000000001.wal", "a reset begins a segment");
    let at = (story.offsets[1] + HEADER) as usize;
    assert!(story.medium.corrupt(&file, |contents| contents[at] ^= 1));
    drop(story.wal);
    let inspector = Inspector::open(story.medium.disk()).unwrap();
    let plan = inspector.plan_salvage().unwrap().expect("history is lost");
    assert_eq!(plan.last, Position::new(20, 3));
    assert_eq!(plan.given_up, [row((23, 3), (24, 3))]);
}
