//! The process harness and the rules of style, for the suites beside this folder.
//!
//! Read [`tidy`] for what the style checker can find, and its suite `tests/tidy.rs` for what it is
//! applied to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness that is broken fails the test that uses it, which is what a panic does"
)]

pub mod tidy;
