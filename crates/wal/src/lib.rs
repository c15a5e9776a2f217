//! A segmented write-ahead log that tells damage from a torn end.
//!
//! # The story
//!
//! A program that promises to remember something writes it to a log, waits until the medium has
//! it, and only then says so. [`Wal`] is such a log for numbered entries, each with a term, and
//! for one small record of metadata of which only the newest counts. Appends are
//! [staged](Wal::stage), merge into one batch, and are [committed](Wal::commit) with one write and
//! one fdatasync, however many they are.
//!
//! # What it promises
//!
//! - **Committed is durable.** When `commit` has returned a ticket, everything staged up to it
//!   survives a power cut. A batch is recovered whole or not at all.
//! - **Damage is not an end.** A log that ends early because the power went is opened and goes on.
//!   A log that ends early although something later proves that more was durable is refused, or
//!   opened with a list of what is missing.
//! - **A failed write is final.** After a failed write or sync the log takes nothing more; nothing
//!   is retried, because a retried fsync succeeds without having written anything.
//! - **Space is known beforehand.** Segments are filled with zeros before they are used. What
//!   cannot be taken is refused before a byte is written.
//!
//! # What it leaves to others
//!
//! It does not know what the entries mean, has no network, no clock, no executor, and starts no
//! thread but for [`Committer`], whose purpose that is. It does not recycle segments, compress, or
//! encrypt. A lost *last* batch cannot be told from a torn one; no local format can.
//! [`Wal::close`] makes a mark that spares an orderly stop this doubt.
//!
//! # Where to read
//!
//! [`entry`](Entry) and [`options`](Options) say what goes in. `segment`, `record` and `batch` are
//! the format, which docs/WAL_FORMAT.md draws byte by byte. `tally` counts what records amount to,
//! and `terms` which terms they have; `staged`, `append`, `active`, `commit` and `room` write them,
//! `successor` makes the segments that they go to, and [`Committer`] does it for many threads.
//! `reader` reads entries back, from where `index` says that they are, through the few files that
//! `pool` keeps open. Opening reads through a `window` that notices a disk which gives two answers;
//! it goes from `inventory` (what files are there) over `scan` (how far is one segment whole),
//! `search` (what stands behind that) and `survey` (which segments make up the log) to `verdict`
//! (what is damage, what is torn) and `open`. `repair` and `scrub` deal with rot while the log
//! runs; [`Inspector`] looks at a log that nobody uses, puts it in order, and can back up and
//! `salvage` one that does not open: on a `draft`, by `giving_up` what has to be, and then in one
//! `exchange` of whole files. All of it stands on [`disk`], which tests replace with `sim_disk`,
//! and tools that must not touch anything with [`ReadOnlyDisk`].

mod active;
mod append;
mod backup;
mod batch;
mod commit;
mod committer;
pub mod disk;
mod draft;
mod dump;
mod entry;
mod error;
mod exchange;
mod given_up;
mod giving_up;
mod index;
mod inspect;
mod inventory;
mod locked;
mod open;
mod options;
mod pool;
mod read_only;
mod reader;
mod real_disk;
mod record;
mod repair;
mod room;
mod salvage;
mod scan;
mod scrub;
mod search;
mod segment;
#[cfg(feature = "sim")]
pub mod sim_disk;
mod staged;
mod successor;
mod survey;
mod tally;
mod terms;
#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
mod verdict;
mod wal;
mod window;

pub use backup::{Backup, BackupError};
pub use commit::{Flush, FlushDone};
pub use committer::{CommitOutcome, Committer};
pub use disk::{Disk, File, Lock};
pub use dump::{Item, Payload, Record};
pub use entry::{Append, Entry, METADATA_MAX, Metadata, MetadataTooLong, Position, Ticket};
pub use error::{
    AppendError, CreateError, Damage, Failure, LostRange, OpenError, ReadError, RepairError,
    WalError,
};
pub use inspect::{Finding, Health, Inspector, Mended, Role, SegmentSummary, Summary};
pub use open::{Ending, Recovery};
pub use options::{Fsync, LogId, Options, OptionsError, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use read_only::ReadOnlyDisk;
pub use real_disk::RealDisk;
pub use repair::LostPayload;
pub use salvage::{Plan, Salvage};
pub use scrub::{Scrub, Scrubbed};
pub use successor::{Job, JobDone};
pub use survey::Check;
pub use verdict::TornTail;
pub use wal::Wal;
