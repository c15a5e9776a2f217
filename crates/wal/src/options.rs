//! What the owner of a log may choose, checked once when the log is created or opened.

use thiserror::Error;

/// The smallest segment that is accepted: it must hold a header, a link, a seal and a record.
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024;

/// The largest segment that is accepted: lengths inside a segment are 32 bits wide.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of every segment that no batch of entries may take: a link, a seal and a close record.
pub(crate) const SEGMENT_OVERHEAD_BYTES: u64 = 1536;

/// Sizes and guarantees of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The size of new segment files; existing ones keep theirs.
    pub segment_bytes: u64,
    /// The largest payload of one entry.
    pub record_bytes_max: u64,
    /// The most that one write covers, headers included.
    pub batch_bytes_max: u64,
    /// How many bytes of memory recent entries may take, so that reads of them need no disk. A
    /// large cache costs appends: each entry that it lets go has left the processor's own caches.
    pub cache_bytes: u64,
    /// Whether a commit waits for the medium.
    pub fsync: Fsync,
    /// Which log this is: a new one gets this identity, and an existing one that has another is
    /// not opened. When absent a new log draws one from the operating system.
    pub log_id: Option<LogId>,
}

/// Whether a commit waits for the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Every commit ends with fdatasync.
    Always,
    /// Commits return when the operating system has the bytes: a power cut loses acknowledged
    /// entries. The log never mistakes what a crash leaves behind for damage.
    UnsafeNever,
}

/// Identifies one life of one log, so that bytes of another can never be taken for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u128);

impl LogId {
    /// No log: what stands where an identity is not known.
    pub(crate) const NONE: LogId = LogId(0);
}

impl std::fmt::Display for LogId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::with_segment_bytes(64 * 1024 * 1024)
    }
}

impl Options {
    /// Limits in proportion to a segment size: records up to a quarter, batches up to a half.
    pub fn with_segment_bytes(segment_bytes: u64) -> Options {
        let batch_bytes_max = (segment_bytes / 2).min(16 * 1024 * 1024);
        Options {
            segment_bytes,
            record_bytes_max: batch_bytes_max / 2,
            batch_bytes_max,
            cache_bytes: segment_bytes.min(2 * 1024 * 1024),
            fsync: Fsync::Always,
            log_id: None,
        }
    }

    /// Checks that the limits fit into each other.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(OptionsError::Segment { bytes: self.segment_bytes });
        }
        if self.record_bytes_max.saturating_mul(2) > self.segment_bytes {
            return Err(OptionsError::Record {
                bytes: self.record_bytes_max,
                segment: self.segment_bytes,
            });
        }
        let batch_floor = self.record_bytes_max.saturating_add(BATCH_OVERHEAD_BYTES);
        let batch_ceiling = self.segment_bytes.saturating_sub(SEGMENT_OVERHEAD_BYTES);
        if !(batch_floor..=batch_ceiling).contains(&self.batch_bytes_max) {
            return Err(OptionsError::Batch {
                bytes: self.batch_bytes_max,
                floor: batch_floor,
                ceiling: batch_ceiling,
            });
        }
        Ok(())
    }
}

/// What a batch takes beside one payload, at most: header, rows of every kind, padding.
pub(crate) const BATCH_OVERHEAD_BYTES: u64 = 512;

/// Why a set of options cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// The segment size is outside of what the format can hold.
    #[error("segment_bytes {bytes} is outside {SEGMENT_BYTES_MIN}..={SEGMENT_BYTES_MAX}")]
    Segment {
        /// What was asked for.
        bytes: u64,
    },
    /// A segment must hold at least two of the largest records.
    #[error("record_bytes_max {bytes} is more than half of segment_bytes {segment}")]
    Record {
        /// What was asked for.
        bytes: u64,
        /// The segment size it must fit into.
        segment: u64,
    },
    /// A batch must hold the largest record and must fit into a segment.
    #[error("batch_bytes_max {bytes} is outside {floor}..={ceiling}")]
    Batch {
        /// What was asked for.
        bytes: u64,
        /// The least that holds the largest record.
        floor: u64,
        /// The most that fits into a segment.
        ceiling: u64,
    },
}
