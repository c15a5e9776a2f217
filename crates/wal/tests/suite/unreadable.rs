//! Sectors that cannot be read, where what stands behind them proves that they were durable.

use wal::sim_disk::{Fate, SimDisk};
use wal::{Check, Entry, Inspector, Position, Wal};

use crate::harness::{observe, options};
use crate::sample::{append, entry};

const SEGMENT_BYTES: u64 = 16384;
const SECTOR_BYTES: u64 = 512;

/// A log of two batches, and where the second one begins.
fn two_batches(first: Entry) -> (SimDisk, u64) {
    let medium = SimDisk::new();
    let mut wal = Wal::create(medium.disk(), options(SEGMENT_BYTES)).unwrap();
    wal.stage(append(vec![first])).unwrap();
    wal.commit().unwrap();
    medium.record_operations();
    wal.stage(append(vec![entry(2, 1, 40)])).unwrap();
    wal.commit().unwrap();
    let second = medium.operations()[0].offset;
    (medium, second)
}

#[test]
fn the_sector_in_which_a_batch_ends_takes_its_payload_along_and_nothing_else() {
    let mut tried = 0;
    for bytes in 600..600 + SECTOR_BYTES as usize {
        let first = entry(1, 1, bytes);
        let (medium, second) = two_batches(first.clone());
        if second % SECTOR_BYTES != 0 {
            continue;
        }
        tried += 1;
        let file = medium.files().into_iter().next().unwrap();
        assert!(medium.spoil_sector(&file, second / SECTOR_BYTES - 1));
        let inspector = Inspector::open(medium.disk()).unwrap();
        inspector.mend().unwrap();
        drop(inspector);
        let open = || Wal::open(medium.disk(), options(SEGMENT_BYTES), Check::default());
        let (mut wal, recovery) = open().unwrap();
        assert_eq!(recovery.lost, [Position::new(1, 1)], "a payload of {bytes} bytes");
        wal.repair(Position::new(1, 1), first.payload()).unwrap();
        drop(wal);
        medium.crash_with(|_| Fate::Lose);
        let (wal, recovery) = open().unwrap();
        assert!(recovery.lost.is_empty() && recovery.mended.is_empty(), "{recovery:?}");
        assert_eq!(observe(&wal).entries.len(), 2);
    }
    assert_eq!(tried, 8, "with every length of padding");
}
