//! okaywal: one log for many threads, of which one syncs for all that wait. It cannot do without
//! syncs.

use std::path::Path;
use std::time::Duration;

use benches::log::SEGMENT_BYTES;
use benches::measure::{Side, Slice, alone, closed_loop};
use benches::{Error, Result};
use bytes::Bytes;
use okaywal::{Configuration, LogVoid, WriteAheadLog};

use super::Work;

pub(super) struct OkayWal {
    log: WriteAheadLog,
    work: Work,
    payload: Bytes,
}

impl OkayWal {
    pub(super) fn open(directory: &Path, work: Work, payload: Bytes) -> Result<OkayWal> {
        let bytes = u32::try_from(SEGMENT_BYTES)?;
        let log = Configuration::default_for(directory.join("okaywal"))
            .preallocate_bytes(bytes)
            .checkpoint_after_bytes(u64::from(bytes / 4 * 3))
            .buffer_bytes(64 << 10)
            .open(LogVoid)?;
        Ok(OkayWal { log, work, payload })
    }

    fn append(&self, entries: u64) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        for _ in 0..entries {
            entry.write_chunk(&self.payload)?;
        }
        entry.commit().map(drop).map_err(Error::from)
    }
}

impl Side for OkayWal {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let (_, entries) = self.work.threads_and_entries();
        let slice = match self.work {
            Work::Writers(writers) => closed_loop(writers, length, |_| self.append(1)),
            Work::Batches(..) => alone(length, || self.append(entries)),
        };
        Ok(slice?.times(entries))
    }
}
