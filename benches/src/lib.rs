//! Benches of the hot path, each beside its *floor*: the least that the machine must do for the
//! same work. A time alone says little on a shared machine; the ratio of two that were taken side
//! by side says what our own part costs.
//!
//! `cargo bench -p benches` runs the benches that criterion times. The program `report` takes turns
//! between ours and the floor in short slices, in one process and one directory, and prints the
//! ratios; docs/BENCHMARKS.md says how to read them. A comparison with other systems, which needs
//! them as dependencies, is a workspace of its own in `peers/`.
//!
//! [`floor`] holds the floors, [`log`] the log put to the same work, [`nodes`] the protocol
//! without anything around it, [`memory`] a disk that costs nothing. [`measure`] takes turns and
//! takes medians, [`figure`] prints, [`place`] is the directory in which all of it happens.

pub mod figure;
pub mod floor;
pub mod log;
pub mod measure;
pub mod memory;
pub mod nodes;
pub mod place;

/// What can go wrong in a bench: anything, and it ends the run.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a step of a bench.
pub type Result<T> = std::result::Result<T, Error>;
