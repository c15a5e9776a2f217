//! Appends: synced, of several sizes, by several writers, and unsynced by one.

use std::time::{Duration, Instant};

use benches::Result;
use benches::figure::{Figure, Goal};
use benches::floor::{RawLog, SyncedFloor};
use benches::log::{SEGMENT_BYTES, SyncedLog, segment_files, sync_files};
use benches::measure::{Side, Slice, Turns};
use bytes::Bytes;
use wal::{Append, Entry, Fsync, Options, RealDisk, Wal};

use crate::{Care, Session};

const SIZES: [(&str, usize); 4] =
    [("100", 100), ("1k", 1024), ("16k", 16 << 10), ("64k", 64 << 10)];
const WRITERS: [usize; 3] = [1, 16, 64];

/// Large appends fill segments fast, and a slice must be long enough to hold several rotations.
fn turns(care: Care, bytes: usize) -> Turns {
    let is_large = bytes >= 16 << 10;
    let (rounds, slice_ms) = match (care, is_large) {
        (Care::Quick, false) => (9, 60),
        (Care::Quick, true) => (3, 500),
        (Care::Full, false) => (41, 100),
        (Care::Full, true) => (11, 1000),
    };
    Turns { rounds, slice: Duration::from_millis(slice_ms) }
}

/// Synced appends through the committer, beside threads that hand the same bytes to one.
pub(crate) fn synced(session: &mut Session) -> Result<()> {
    for (label, bytes) in SIZES {
        for writers in WRITERS {
            let base = format!("append.sync.{label}.w{writers}");
            let (p50, throughput) = (format!("{base}.p50"), format!("{base}.throughput"));
            if !session.wants(&base, &[&p50, &throughput]) {
                continue;
            }
            let corner = session.place.corner()?;
            let payload = Bytes::from(vec![b'x'; bytes]);
            let mut ours = SyncedLog::start(&corner.path().join("log"), writers, payload.clone())?;
            let floor = corner.path().join("floor");
            let mut floor = SyncedFloor::start(&floor, SEGMENT_BYTES, writers, payload)?;
            ours.settle()?;
            let samples =
                session.take_turns(&mut [&mut ours, &mut floor], turns(session.care, bytes))?;
            let [ours, floor] = &samples[..] else { continue };
            session.print(&Figure {
                name: p50,
                value: ours.p50_us(),
                unit: "us",
                floor: floor.p50_us(),
                goal: Goal::RatioAtMost(1.15),
            })?;
            session.print(&Figure {
                name: throughput,
                value: ours.rate(),
                unit: "appends/s",
                floor: floor.rate(),
                goal: Goal::RatioAtLeast(0.85),
            })?;
        }
    }
    Ok(())
}

const BATCH: u64 = 64;
const PAYLOAD_BYTES: usize = 100;
/// A slice is so many batches: a small part of a segment.
const BATCHES: u64 = 1000;

/// Who computes the checksum of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksum {
    /// It is computed with each append.
    Computed,
    /// It comes with the payload, as from the peer or the client that encoded it.
    Given,
}

/// Unsynced appends by the log's one owner.
struct UnsyncedLog {
    wal: Wal,
    directory: tempfile::TempDir,
    payload: Entry,
    checksum: Checksum,
}

impl UnsyncedLog {
    fn start(directory: tempfile::TempDir, checksum: Checksum) -> Result<UnsyncedLog> {
        let options =
            Options { fsync: Fsync::UnsafeNever, ..Options::with_segment_bytes(SEGMENT_BYTES) };
        let wal = Wal::create(RealDisk::open(directory.path())?, options)?;
        let payload = Entry::new(0, 1, 0, vec![b'x'; PAYLOAD_BYTES]);
        Ok(UnsyncedLog { wal, directory, payload, checksum })
    }
}

impl Side for UnsyncedLog {
    fn work(&mut self, _: Duration) -> Result<Slice> {
        let UnsyncedLog { wal, payload, checksum, .. } = self;
        let begin = Instant::now();
        for _ in 0..BATCHES {
            let first = wal.last().index + 1;
            let entries = (first..first + BATCH).map(|index| match checksum {
                Checksum::Computed => Entry::new(index, 1, 0, payload.payload.clone()),
                Checksum::Given => Entry { index, ..payload.clone() },
            });
            wal.stage(Append { metadata: None, reset: None, truncate_after: None, entries })?;
            wal.commit()?;
        }
        Ok(Slice::whole(BATCHES * BATCH, begin.elapsed()))
    }

    /// Makes the next segment, drops what is full, and makes clean pages of all that is dirty.
    fn settle(&mut self) -> Result<()> {
        if self.wal.segment_count() > 2 {
            self.wal.drop_prefix(self.wal.last().index)?;
            self.wal.commit()?;
        }
        while let Some(job) = self.wal.take_job() {
            self.wal.finish_job(job.run())?;
        }
        let expected = self.wal.segment_count() + 1;
        let found = segment_files(self.directory.path())?.len();
        if found != expected {
            return Err(format!("{found} segment files instead of {expected}").into());
        }
        sync_files(self.directory.path())
    }
}

/// The same bytes, written and nothing else.
struct UnsyncedFloor {
    log: RawLog,
    bytes: Vec<u8>,
}

impl Side for UnsyncedFloor {
    fn work(&mut self, _: Duration) -> Result<Slice> {
        let begin = Instant::now();
        for _ in 0..BATCHES {
            self.log.write(&self.bytes)?;
        }
        Ok(Slice::whole(BATCHES * BATCH, begin.elapsed()))
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self.log.sync()?)
    }
}

/// Appends that wait for nothing: what the log costs the processor.
pub(crate) fn unsynced(session: &mut Session) -> Result<()> {
    let names = ["append.nosync.64x100.throughput", "append.nosync.64x100.given_crc.throughput"];
    if !session.wants("append.nosync.64x100", &names) {
        return Ok(());
    }
    let rounds = if session.care == Care::Quick { 31 } else { 201 };
    let turns = Turns { rounds, slice: Duration::ZERO };
    let mut computed = UnsyncedLog::start(session.place.corner()?, Checksum::Computed)?;
    let mut given = UnsyncedLog::start(session.place.corner()?, Checksum::Given)?;
    computed.settle()?;
    given.settle()?;
    let corner = session.place.corner()?;
    let log = RawLog::create(&corner.path().join("floor"), SEGMENT_BYTES)?;
    let mut floor = UnsyncedFloor { log, bytes: vec![b'x'; PAYLOAD_BYTES * BATCH as usize] };
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
