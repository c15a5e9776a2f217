//! Benches of the hot path, each beside its *floor*: the least that the machine must do for the
//! same work. A time alone says little on a shared machine; the ratio of two that were taken side
//! by side says what our own part costs.
//!
//! `cargo bench -p benches` runs all of them. [`floor`] holds the floors.

pub mod floor;
