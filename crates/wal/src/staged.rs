//! What has been handed to the log and not yet been written: appends merge here into one batch.

use crate::batch::batch_bytes;
use crate::entry::{Metadata, Position};
use crate::options::BATCH_OVERHEAD_BYTES;
use crate::record::ENTRY_ROW_BYTES;

/// The next batch, apart from its entries, which wait among the recent ones of the log.
///
/// Invariant: every entry of the log from `first` on is to be written, and none before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staged {
    pub(crate) reset: Option<Position>,
    pub(crate) metadata: Option<Metadata>,
    /// The last committed entry that is kept; set only if a committed one is cut.
    pub(crate) truncate: Option<Position>,
    pub(crate) prefix: Option<Position>,
    pub(crate) first: u64,
    pub(crate) payload_bytes: u64,
}

impl Staged {
    /// Nothing, in a log that ends at `last`.
    pub(crate) fn nothing_after(last: u64) -> Staged {
        Staged { first: last.saturating_add(1), ..Staged::default() }
    }

    /// How many entries wait in a log that ends at `last`.
    pub(crate) fn count(&self, last: u64) -> u64 {
        last.saturating_add(1).saturating_sub(self.first)
    }

    pub(crate) fn is_empty(&self, last: u64) -> bool {
        let Staged { reset, metadata, truncate, prefix, .. } = self;
        reset.is_none()
            && metadata.is_none()
            && truncate.is_none()
            && prefix.is_none()
            && self.count(last) == 0
    }

    /// The most that the batch can take on the medium.
    pub(crate) fn bytes_max(&self, last: u64) -> u64 {
        bytes_max(self.count(last), self.payload_bytes)
    }
}

/// The most that a batch of `count` entries with `payload_bytes` in total can take.
pub(crate) fn bytes_max(count: u64, payload_bytes: u64) -> u64 {
    let rows = count.saturating_mul(ENTRY_ROW_BYTES);
    batch_bytes(rows.saturating_add(CONTROL_ROWS_BYTES), payload_bytes)
}

/// More than one row of each kind but entries can take together.
const CONTROL_ROWS_BYTES: u64 = BATCH_OVERHEAD_BYTES - 64;
