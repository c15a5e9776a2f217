//! The deterministic state machine: a function of its commands and their log indexes.

mod reply;

pub use reply::{KeyState, Outcome, Refusal, Reply, Revision};
