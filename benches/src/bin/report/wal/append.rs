//! Appends: synced, of several sizes, by several writers, and unsynced by one.

use std::time::Duration;

use benches::Result;
use benches::figure::{Figure, Goal};
use benches::floor::{OwnedFloor, SyncedFloor};
use benches::log::{Checksum, OwnedLog, SEGMENT_BYTES, SyncedLog, Syncs};
use benches::measure::{Side, Turns};
use bytes::Bytes;

use crate::{Care, Session};

const SIZES: [(&str, usize); 4] =
    [("100", 100), ("1k", 1024), ("16k", 16 << 10), ("64k", 64 << 10)];
const WRITERS: [usize; 3] = [1, 16, 64];

/// Long enough for the making of segments to be part of what is timed, where many are filled.
fn turns(care: Care) -> Turns {
    let (rounds, slice_ms) = match care {
        Care::Quick => (3, 300),
        Care::Full => (11, 1000),
    };
    Turns { rounds, slice: Duration::from_millis(slice_ms) }
}

/// Synced appends through the committer, beside threads that hand the same bytes to one.
pub(crate) fn synced(session: &mut Session) -> Result<()> {
    for (label, bytes) in SIZES {
        for writers in WRITERS {
            let base = format!("append.sync.{label}.w{writers}");
            let [p50, p99, throughput] =
                ["p50", "p99", "throughput"].map(|what| format!("{base}.{what}"));
            if !session.wants(&base, &[&p50, &p99, &throughput]) {
                continue;
            }
            let corner = session.place.corner()?;
            let payload = Bytes::from(vec![b'x'; bytes]);
            let mut ours = SyncedLog::start(&corner.path().join("log"), writers, payload.clone())?;
            let floor = corner.path().join("floor");
            let mut floor = SyncedFloor::start(&floor, SEGMENT_BYTES, writers, payload)?;
            ours.settle()?;
            let samples = session.take_turns(&mut [&mut ours, &mut floor], turns(session.care))?;
            let [ours, floor] = &samples[..] else { continue };
            session.print(&Figure {
                name: p50,
                value: ours.p50_us(),
                unit: "us",
                floor: floor.p50_us(),
                goal: Goal::RatioAtMost(1.15),
            })?;
            session.print(&Figure {
                name: p99,
                value: ours.p99_us(),
                unit: "us",
                floor: floor.p99_us(),
                goal: Goal::None,
            })?;
            session.print(&Figure {
                name: throughput,
                value: ours.whole_rate(),
                unit: "appends/s",
                floor: floor.whole_rate(),
                goal: Goal::RatioAtLeast(0.85),
            })?;
        }
    }
    Ok(())
}

const ENTRIES: u64 = 64;
const PAYLOAD_BYTES: usize = 100;
/// What is written of one slice is about an eighth of a segment.
const UNSYNCED: Syncs = Syncs::Never { batches: 1000 };

/// Appends that wait for nothing: what the log costs the processor.
pub(crate) fn unsynced(session: &mut Session) -> Result<()> {
    let names = ["append.nosync.64x100.throughput", "append.nosync.64x100.given_crc.throughput"];
    if !session.wants("append.nosync.64x100", &names) {
        return Ok(());
    }
    let rounds = if session.care == Care::Quick { 31 } else { 201 };
    let turns = Turns { rounds, slice: Duration::ZERO };
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let corner = session.place.corner()?;
    let start = |name, checksum| {
        OwnedLog::start(&corner.path().join(name), ENTRIES, payload.clone(), checksum, UNSYNCED)
    };
    let mut computed = start("computed", Checksum::Computed)?;
    let mut given = start("given", Checksum::Given)?;
    computed.settle()?;
    given.settle()?;
    let floor = corner.path().join("floor");
    let mut floor = OwnedFloor::make(&floor, SEGMENT_BYTES, ENTRIES, &payload, UNSYNCED)?;
    let samples = session.take_turns(&mut [&mut computed, &mut given, &mut floor], turns)?;
    let [computed, given, floor] = &samples[..] else { return Ok(()) };
    for (name, ours) in names.into_iter().zip([computed, given]) {
        session.print(&Figure {
            name: name.to_owned(),
            value: ours.rate(),
            unit: "appends/s",
            floor: floor.rate(),
            goal: Goal::RatioAtLeast(0.4),
        })?;
    }
    Ok(())
}
