//! Reading: a verification of everything, and a reopening that verifies the end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use benches::Result;
use benches::figure::{Figure, Goal};
use benches::log::{SEGMENT_BYTES, segment_files};
use benches::measure::{Side, Slice, Turns};
use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use wal::{Append, Check, Entry, Health, Inspector, Options, RealDisk, Wal};

use crate::{Care, Session};

const PAYLOAD_BYTES: u64 = 1024;
const BATCH: u64 = 64;
const LOG_BYTES: u64 = 1 << 30;
const VERIFIED_BYTES: u64 = 64 << 20;
/// How much the floor reads at once.
const PIECE_BYTES: usize = 512 << 10;

/// Fills a new log; returns its last index.
fn fill(directory: &Path) -> Result<u64> {
    let options = Options::with_segment_bytes(SEGMENT_BYTES);
    let mut wal = Wal::create(RealDisk::open(directory)?, options)?;
    let payload = Bytes::from(vec![b'x'; usize::try_from(PAYLOAD_BYTES)?]);
    for batch in 0..LOG_BYTES / PAYLOAD_BYTES / BATCH {
        let first = batch * BATCH + 1;
        let entries = (first..first + BATCH).map(|index| Entry::new(index, 1, 0, payload.clone()));
        wal.stage(Append { metadata: None, reset: None, truncate_after: None, entries })?;
        wal.commit()?;
        if let Some(job) = wal.take_job() {
            wal.finish_job(job.run())?;
        }
    }
    let last = wal.last().index;
    wal.close()?;
    Ok(last)
}

/// A part of a file.
#[derive(Debug)]
struct Extent {
    path: PathBuf,
    from: u64,
    to: u64,
}

/// Reads and checksums some parts of files, and does nothing else with them.
struct ReadFloor {
    extents: Vec<Extent>,
    buffer: Vec<u8>,
    /// Whether the bytes must come from the medium.
    is_cold: bool,
}

impl ReadFloor {
    fn new(extents: Vec<Extent>, is_cold: bool) -> ReadFloor {
        ReadFloor { extents, buffer: vec![0; PIECE_BYTES], is_cold }
    }

    fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.to - extent.from).sum()
    }
}

impl Side for ReadFloor {
    fn work(&mut self, _: Duration) -> Result<Slice> {
        let bytes = self.bytes();
        let begin = Instant::now();
        for Extent { path, from, to } in &self.extents {
            let file = File::open(path)?;
            if self.is_cold {
                fadvise(&file, 0, None, Advice::DontNeed)?;
            }
            let mut at = *from;
            while at < *to {
                let left = usize::try_from(to - at)?.min(PIECE_BYTES);
                let piece = self.buffer.get_mut(..left).ok_or("a piece beyond the buffer")?;
                file.read_exact_at(piece, at)?;
                std::hint::black_box(crc32fast::hash(piece));
                at += left as u64;
            }
        }
        Ok(Slice::whole(bytes, begin.elapsed()))
    }
}

/// A verification of the whole log from the cache of the operating system.
struct Verify {
    directory: PathBuf,
    bytes: u64,
}

impl Side for Verify {
    fn work(&mut self, _: Duration) -> Result<Slice> {
        let inspector = Inspector::open(RealDisk::open(&self.directory)?)?;
        let begin = Instant::now();
        let health = inspector.verify()?;
        let elapsed = begin.elapsed();
        match health {
            Health::Clean => Ok(Slice::whole(self.bytes, elapsed)),
            other => Err(format!("the log is not clean: {other:?}").into()),
        }
    }
}

/// Opening the log as after a restart.
struct Reopen {
    directory: PathBuf,
    verify_from: u64,
    last: u64,
}

impl Side for Reopen {
    fn work(&mut self, _: Duration) -> Result<Slice> {
        let begin = Instant::now();
        let disk = RealDisk::open(&self.directory)?;
        let options = Options::with_segment_bytes(SEGMENT_BYTES);
        let check = Check { verify_from: self.verify_from, floor: None, suspects: &[] };
        let (wal, _) = Wal::open(disk, options, check)?;
        let elapsed = begin.elapsed();
        if wal.last().index != self.last {
            return Err(format!("the log ends at {}", wal.last()).into());
        }
        Ok(Slice::whole(1, elapsed))
    }
}

/// What is used of each segment.
fn used(directory: &Path) -> Result<Vec<Extent>> {
    let summary = Inspector::open(RealDisk::open(directory)?)?.summarize()?;
    let used = summary.segments.into_iter().filter(|segment| segment.used_bytes > 0);
    Ok(used.map(|it| Extent { path: it.path.into(), from: 0, to: it.used_bytes }).collect())
}

/// The last `bytes` of what is used.
fn end_of(extents: &[Extent], bytes: u64) -> Vec<Extent> {
    let mut left = bytes;
    let mut end = Vec::new();
    for Extent { path, from, to } in extents.iter().rev() {
        let length = (to - from).min(left);
        left -= length;
        end.push(Extent { path: path.clone(), from: to - length, to: *to });
    }
    end.retain(|extent| extent.from < extent.to);
    end
}

/// Measures the scan and the reopening on one log.
pub(crate) fn measure(session: &mut Session) -> Result<()> {
    let (scan, reopen) = ("scan.throughput", "reopen.1g.seconds");
    if !session.wants("scan and reopen of 1 GiB", &[scan, reopen]) {
        return Ok(());
    }
    let corner = session.place.corner()?;
    let directory = corner.path().to_path_buf();
    let last = fill(&directory)?;
    let extents = used(&directory)?;
    let end = end_of(&extents, VERIFIED_BYTES);
    for file in segment_files(&directory)? {
        std::io::copy(&mut File::open(file)?, &mut std::io::sink())?;
    }
    let turns =
        Turns { rounds: if session.care == Care::Quick { 3 } else { 11 }, slice: Duration::ZERO };
    let mut floor = ReadFloor::new(extents, false);
    let mut verify = Verify { directory: directory.clone(), bytes: floor.bytes() };
    let samples = session.take_turns(&mut [&mut verify, &mut floor], turns)?;
    if let [ours, floor] = &samples[..] {
        session.print(&Figure {
            name: scan.to_owned(),
            value: ours.rate() / 1e9,
            unit: "GB/s",
            floor: floor.rate() / 1e9,
            goal: Goal::ValueAtLeast(1.5),
        })?;
    }
    let verify_from = last + 1 - VERIFIED_BYTES / PAYLOAD_BYTES;
    let mut opening = Reopen { directory, verify_from, last };
    let mut floor = ReadFloor::new(end, true);
    let samples = session.take_turns(&mut [&mut opening, &mut floor], turns)?;
    if let [ours, floor] = &samples[..] {
        session.print(&Figure {
            name: reopen.to_owned(),
            value: ours.p50_us() / 1e6,
            unit: "s",
            floor: floor.p50_us() / 1e6,
            goal: Goal::ValueAtMost(0.5),
        })?;
    }
    Ok(())
}
