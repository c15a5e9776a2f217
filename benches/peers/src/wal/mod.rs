//! The write-ahead log beside raft-engine and okaywal.
//!
//! Every system gets the settings that serve it best here: files as large as ours, filled or kept
//! for reuse before they are needed, no compression. What ours and raft-engine do to free space is
//! done between two turns and not timed. okaywal frees space by itself, on a thread of its own,
//! whenever a file is three quarters full: that falls into its turns and, now and then, into those
//! of the others.

mod okaywal;
mod raft_engine;

use std::path::Path;
use std::time::Duration;

use benches::Result;
use benches::floor::{OwnedFloor, SyncedFloor};
use benches::log::{Checksum, OwnedLog, SEGMENT_BYTES, SyncedLog, Syncs};
use benches::measure::{Samples, Side, Turns, take_turns};
use bytes::Bytes;

use self::okaywal::OkayWal;
use self::raft_engine::RaftEngine;
use crate::print::Comparison;
use crate::{Care, Session};

const PAYLOAD_BYTES: usize = 100;
const UNSYNCED: Syncs = Syncs::Never { batches: 1000 };

/// The same work, for all systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One thread appends so many entries at a time.
    Batches(u64, Syncs),
    /// So many threads append one entry at a time, synced.
    Writers(usize),
}

impl Work {
    fn name(self) -> String {
        match self {
            Work::Batches(entries, Syncs::Always) => format!("append.sync.100.batch{entries}"),
            Work::Batches(entries, Syncs::Never { .. }) => format!("append.nosync.{entries}x100"),
            Work::Writers(writers) => format!("append.sync.100.w{writers}"),
        }
    }

    /// How many threads append, and how many entries each at a time.
    pub(crate) fn threads_and_entries(self) -> (usize, u64) {
        match self {
            Work::Batches(entries, _) => (1, entries),
            Work::Writers(writers) => (writers, 1),
        }
    }

    fn turns(self, care: Care) -> Turns {
        let rounds = match (care, self) {
            (Care::Quick, _) => 9,
            (Care::Full, Work::Batches(_, Syncs::Never { .. })) => 101,
            (Care::Full, _) => 41,
        };
        Turns { rounds, slice: Duration::from_millis(100) }
    }
}

const ALL: [Work; 7] = [
    Work::Batches(1, Syncs::Always),
    Work::Batches(16, Syncs::Always),
    Work::Batches(256, Syncs::Always),
    Work::Writers(1),
    Work::Writers(16),
    Work::Writers(64),
    Work::Batches(64, UNSYNCED),
];

fn ours(directory: &Path, work: Work, payload: Bytes) -> Result<Box<dyn Side>> {
    let directory = directory.join("ours");
    Ok(match work {
        Work::Batches(entries, syncs) => {
            let log = OwnedLog::start(&directory, entries, payload, Checksum::Computed, syncs);
            Box::new(log?)
        }
        Work::Writers(writers) => Box::new(SyncedLog::start(&directory, writers, payload)?),
    })
}

fn floor(directory: &Path, work: Work, payload: Bytes) -> Result<Box<dyn Side>> {
    let file = directory.join("floor");
    Ok(match work {
        Work::Batches(entries, syncs) => {
            Box::new(OwnedFloor::make(&file, SEGMENT_BYTES, entries, &payload, syncs)?)
        }
        Work::Writers(writers) => {
            Box::new(SyncedFloor::start(&file, SEGMENT_BYTES, writers, payload)?)
        }
    })
}

/// Measures every work on every system that can do it.
pub(crate) fn measure(session: &mut Session) -> Result<()> {
    for work in ALL {
        let name = work.name();
        if !name.contains(&session.only) {
            continue;
        }
        eprintln!("measuring {name}");
        let corner = session.place.corner()?;
        let directory = corner.path();
        let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
        let mut names = vec!["ours", "floor", "raft-engine"];
        let mut sides = vec![
            ours(directory, work, payload.clone())?,
            floor(directory, work, payload.clone())?,
            Box::new(RaftEngine::open(directory, work, &payload)?),
        ];
        // It knows only how to sync.
        if !matches!(work, Work::Batches(_, Syncs::Never { .. })) {
            names.push("okaywal");
            sides.push(Box::new(OkayWal::open(directory, work, payload)?));
        }
        for side in &mut sides {
            side.settle()?;
        }
        let mut turns: Vec<&mut dyn Side> = Vec::new();
        for side in &mut sides {
            turns.push(side.as_mut());
        }
        let samples = take_turns(&mut turns, work.turns(session.care))?;
        print(session, work, &names, &samples)?;
    }
    Ok(())
}

fn print(
    session: &mut Session,
    work: Work,
    names: &[&'static str],
    samples: &[Samples],
) -> Result<()> {
    let mut compare = |what: &str, unit, value: fn(&Samples) -> f64| {
        let mut values = names.iter().copied().zip(samples.iter().map(value));
        let (_, ours) = values.next().ok_or("nothing was measured")?;
        let name = format!("{}.{what}", work.name());
        let comparison = Comparison { name, value: ours, unit, others: values.collect() };
        session.printer.print(&comparison).map_err(benches::Error::from)
    };
    if let Work::Writers(_) = work {
        compare("p50", "us", Samples::p50_us)?;
    }
    compare("throughput", "appends/s", Samples::rate)
}
