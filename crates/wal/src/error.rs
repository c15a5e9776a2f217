//! One error type per operation; each variant says what happened and what the caller may do.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use thiserror::Error;

use crate::entry::Position;
use crate::options::{LogId, OptionsError};

/// An operating system error with what was being done to which file.
///
/// It can be cloned, because every waiter of a poisoned log is told the same cause.
#[derive(Clone, Debug, Error)]
#[error("{operation} {path}: {source}")]
pub struct Failure {
    /// What was being done.
    pub operation: &'static str,
    /// To which file or directory.
    pub path: String,
    /// What the operating system said.
    pub source: Arc<io::Error>,
    sequence: Option<u64>,
}

impl Failure {
    pub(crate) fn new(
        operation: &'static str,
        path: impl AsRef<str>,
        source: io::Error,
    ) -> Failure {
        let (path, source) = (path.as_ref().to_owned(), Arc::new(source));
        Failure { operation, path, source, sequence: None }
    }

    /// The same, of a segment that the log holds.
    pub(crate) fn of_segment(self, sequence: u64) -> Failure {
        Failure { sequence: Some(sequence), ..self }
    }

    /// The sequence of the segment that could not be read or repaired, if it was one.
    pub fn segment(&self) -> Option<u64> {
        self.sequence
    }

    /// Whether the machine had no file descriptor or no memory left. That says nothing about the
    /// file, and may have passed the next time.
    pub fn is_exhaustion(&self) -> bool {
        let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
        self.source.raw_os_error().is_some_and(|code| exhausted.contains(&code))
    }

    /// Whether the medium had no space left.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}

/// Why a log could not be created.
#[derive(Debug, Error)]
pub enum CreateError {
    /// There is a log here already; nothing was touched.
    #[error("{path} already holds a log; open it, or choose an empty directory")]
    Exists {
        /// A segment of that log, or its directory.
        path: String,
    },
    /// Another process, or another owner in this one, has the directory.
    #[error("{path} is locked by another owner of this log")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// The options cannot work.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The operating system failed; what was made so far is removed by the next attempt.
    #[error(transparent)]
    Io(#[from] Failure),
}

/// Why a log could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is no segment at all. Whoever knows that there was a log must treat this as loss.
    #[error("{path} holds no log")]
    NoLog {
        /// The directory.
        path: String,
    },
    /// Another process, or another owner in this one, has the directory.
    #[error("{path} is locked by another owner of this log")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// The options cannot work.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The operating system failed where nothing proves loss; trying again is safe.
    #[error(transparent)]
    Io(#[from] Failure),
    /// The end of the log cannot be read, and nothing says what was written there last. Nothing
    /// was touched; trying again is safe, and may succeed if the medium recovers.
    #[error(
        "{failure}, at offset {offset}, where the log ends: whether something was acknowledged \
         there last cannot be told, so the log neither ends here nor goes on; if the medium does \
         not recover, copy what can be read to another one, or give this log up and rebuild from \
         another replica"
    )]
    UnreadableEnd {
        /// The first offset that cannot be trusted.
        offset: u64,
        /// What the operating system said.
        failure: Failure,
    },
    /// The log is whole, and is not the one that was asked for. Nothing was touched.
    #[error(
        "{path} is of the log {found}, not of the log {expected}: its directory was exchanged, or \
         a segment of another log was put into it; put the right one back"
    )]
    OtherLog {
        /// The directory, or a segment in it.
        path: String,
        /// What it holds.
        found: LogId,
        /// What was asked for.
        expected: LogId,
    },
    /// The segment was written by a version of this crate that this one does not know.
    #[error("{segment} has format version {version}, features {features:#x}; use a newer program")]
    Unsupported {
        /// The segment's path.
        segment: String,
        /// Its format version.
        version: u32,
        /// Its feature bits.
        features: u32,
    },
    /// A salvage was interrupted between the log as it was and the log that it was to leave.
    /// [`Inspector::salvage`](crate::Inspector::salvage) finishes it.
    #[error(
        "{path}: a salvage of this log was interrupted; it does not open before the salvage is run \
         again and has finished"
    )]
    HalfSalvaged {
        /// The directory.
        path: String,
    },
    /// Bytes that were durable are gone, and with them history: nothing was touched.
    #[error(
        "{segment} is damaged at offset {offset}: {damage}; lost: {lost}; restore the file from a \
         copy, or give this log up and rebuild from another replica"
    )]
    Corrupt {
        /// The segment's path.
        segment: String,
        /// The segment's number.
        sequence: u64,
        /// The first offset that cannot be trusted.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
        /// Which entries can no longer be accounted for.
        lost: LostRange,
    },
}

impl OpenError {
    /// Whether something is wrong with the data, rather than with the machine or the call.
    pub fn is_damage(&self) -> bool {
        match self {
            OpenError::NoLog { .. }
            | OpenError::UnreadableEnd { .. }
            | OpenError::OtherLog { .. }
            | OpenError::HalfSalvaged { .. }
            | OpenError::Corrupt { .. } => true,
            OpenError::Locked { .. }
            | OpenError::Options(_)
            | OpenError::Io(_)
            | OpenError::Unsupported { .. } => false,
        }
    }

    /// For a place that nothing proves durable and that the medium refuses to read.
    pub(crate) fn unreadable_end(offset: u64, failure: &Failure) -> OpenError {
        OpenError::UnreadableEnd { offset, failure: failure.clone() }
    }
}

/// What is wrong at a damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file is not there.
    Missing,
    /// The file is not as long as its header says.
    Length,
    /// The segment's own header does not match its checksum, or names another log or place.
    SegmentHeader,
    /// The record that ties a segment to its predecessor is not whole.
    Link,
    /// The link is whole but does not continue what its predecessor ends with.
    Chain,
    /// A batch header is not whole.
    BatchHeader,
    /// A whole batch header does not continue the batch before it.
    Splice,
    /// A batch's directory is not whole.
    Directory,
    /// A whole directory says something that no writer of this format says.
    Malformed,
    /// The medium refused to read.
    Unreadable,
    /// The log ends below an index that is known to have been durable.
    BelowFloor,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Damage::Missing => "the file is missing",
            Damage::Length => "the file does not have the length that it was made with",
            Damage::SegmentHeader => "the segment header is not the one that was written",
            Damage::Link => "the link to the segment before is not whole",
            Damage::Chain => "the link does not continue the segment before",
            Damage::BatchHeader => "a batch header is not whole",
            Damage::Splice => "a batch does not continue the one before it",
            Damage::Directory => "the directory of a batch is not whole",
            Damage::Malformed => "a whole directory is not one that this format allows",
            Damage::Unreadable => "the medium cannot be read",
            Damage::BelowFloor => "the log ends below an index that was durable",
        })
    }
}

/// The entries that damage may have taken, as far as what is left tells.
///
/// A truncation may have been among what is lost. Then entries up to `after` may have been cut, and
/// others written in their places, and nothing tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The last entry before the damage.
    pub after: Position,
    /// The last index that can have been lost; unknown if nothing behind the damage names it.
    pub through: Option<u64>,
    /// No lost entry has a term above this; unknown if nothing behind the damage names one.
    pub term_max: Option<u64>,
}

impl fmt::Display for LostRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after;
        let first = after.index.saturating_add(1);
        match self.through {
            Some(0) => {
                return write!(
                    formatter,
                    "metadata or truncations written after {after}, no entry"
                );
            }
            Some(through) if through < first => {
                return write!(
                    formatter,
                    "metadata or truncations written after {after}, and what they put in the \
                     place of entries up to {through}, if anything"
                );
            }
            Some(through) => write!(formatter, "entries {first}..={through}")?,
            None => write!(formatter, "entries from {first} on")?,
        }
        match self.term_max {
            Some(term_max) => write!(formatter, " of terms {}..={term_max}", after.term),
            None => write!(formatter, " of terms from {}", after.term),
        }
    }
}

/// Why an append was not taken. Nothing of it was staged.
#[derive(Debug, Error)]
pub enum AppendError {
    /// An earlier write failed; the log takes nothing more. What was staged may be durable or not.
    #[error("the log is poisoned: {0}")]
    Poisoned(#[source] Failure),
    /// An entry does not continue the log.
    #[error("entry {found} does not follow {expected_after}")]
    NotContiguous {
        /// The entry before it.
        expected_after: Position,
        /// The entry that was given.
        found: Position,
    },
    /// A truncation outside of what the log holds.
    #[error("cannot keep entries through {truncate_after}: the log holds {start}..={last}")]
    TruncateOutOfRange {
        /// What was asked for.
        truncate_after: u64,
        /// The index before the first entry.
        start: u64,
        /// The last index.
        last: u64,
    },
    /// A reset to a position whose next index does not exist.
    #[error("cannot continue after {position}: indexes end there")]
    ResetOutOfRange {
        /// What was asked for.
        position: Position,
    },
    /// One payload is larger than `record_bytes_max`.
    #[error("the payload of entry {index} has {bytes} bytes, more than {max}")]
    RecordTooLarge {
        /// The entry.
        index: u64,
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// All of it together is larger than `batch_bytes_max`; split it.
    #[error("the append takes {bytes} bytes, more than one batch of {max}")]
    BatchTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The medium is full. Not a byte was written; drop a prefix, or free space elsewhere.
    #[error("no space: the append takes {bytes} bytes, there is room for {room}")]
    NoSpace {
        /// What was asked for.
        bytes: u64,
        /// What can be taken.
        room: u64,
    },
    /// The [`Committer`](crate::Committer) was stopped.
    #[error("the log was stopped")]
    Stopped,
    /// What is queued fills a batch while another one is being written; the append may be
    /// repeated when the flush that is out has been finished.
    #[error("a commit is running, and {bytes} bytes more do not fit into the batch behind it")]
    InFlight {
        /// What was asked for.
        bytes: u64,
    },
    /// The next segment could not be made; the log itself is unharmed and the call may be repeated.
    #[error("cannot make the next segment: {0}")]
    Successor(#[source] Failure),
}

/// Why a commit, a prefix removal, a job or a close failed.
#[derive(Clone, Debug, Error)]
pub enum WalError {
    /// A write or a sync failed, now or before. Nothing is retried; the outcome of everything
    /// staged and not yet acknowledged is unknown until the log is opened again.
    #[error("the log is poisoned: {0}")]
    Poisoned(#[source] Failure),
    /// The [`Committer`](crate::Committer) was stopped.
    #[error("the log was stopped")]
    Stopped,
    /// A flush is out; it must be finished first.
    #[error("a commit is running elsewhere")]
    InFlight,
    /// The flush that was brought back is not the one that is out. Nothing was changed.
    #[error("the flush that was brought back is not one that this log waits for")]
    ForeignFlush,
    /// A prefix removal that reaches beyond the last entry.
    #[error("cannot drop entries through {through}: the last one is {last}")]
    PrefixOutOfRange {
        /// What was asked for.
        through: u64,
        /// The last index.
        last: u64,
    },
    /// The medium is full even for a record without payload.
    #[error("no space for {bytes} bytes")]
    NoSpace {
        /// What was asked for.
        bytes: u64,
    },
    /// A job failed for another reason than space; the log itself is unharmed.
    #[error("a background job failed: {0}")]
    Job(#[source] Failure),
}

/// Why entries could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The entry was dropped with a prefix, or lies before a reset.
    #[error("entry {index} is gone: the log starts after {start}")]
    Dropped {
        /// What was asked for.
        index: u64,
        /// The index before the first entry.
        start: u64,
    },
    /// The entry does not exist yet.
    #[error("entry {index} is beyond the last one, {last}")]
    BeyondEnd {
        /// What was asked for.
        index: u64,
        /// The last index.
        last: u64,
    },
    /// The payload is damaged; the entry can be written again with `Wal::repair`.
    #[error("the payload of entry {position} is damaged ({segment})")]
    Lost {
        /// Which entry.
        position: Position,
        /// The segment's path.
        segment: String,
        /// The segment's number.
        sequence: u64,
    },
    /// The structure around the entry is damaged: what was proven at open has rotted since.
    #[error("{segment} is damaged at offset {offset}: {damage}")]
    Corrupt {
        /// The segment's path.
        segment: String,
        /// The segment's number.
        sequence: u64,
        /// Where.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// The operating system failed. It is never the end of the log.
    #[error(transparent)]
    Io(#[from] Failure),
}

impl ReadError {
    /// The sequence of the segment that could not be read as it was written. Opening the log with
    /// it among the [suspects](crate::Check::suspects) finds out what is wrong with it.
    pub fn segment(&self) -> Option<u64> {
        match self {
            ReadError::Dropped { .. } | ReadError::BeyondEnd { .. } => None,
            ReadError::Lost { sequence, .. } | ReadError::Corrupt { sequence, .. } => {
                Some(*sequence)
            }
            ReadError::Io(failure) => failure.segment(),
        }
    }
}

/// Why a damaged entry was not repaired.
#[derive(Debug, Error)]
pub enum RepairError {
    /// An earlier write failed; the log takes nothing more.
    #[error("the log is poisoned: {0}")]
    Poisoned(#[source] Failure),
    /// That entry is not among the damaged ones.
    #[error("entry {0} is not damaged, or not held")]
    NotLost(Position),
    /// The payload is not the one that was written: its length or checksum differs.
    #[error("the payload offered for entry {0} is not the one that was written")]
    WrongPayload(Position),
    /// The segment could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}
