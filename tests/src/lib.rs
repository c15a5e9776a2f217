//! The process harness and the rules of style, for the suites beside this folder.
//!
//! Read [`cluster`] first: it starts, kills and asks real servers, and every suite but one stands
//! on it. [`load`] writes while servers die and keeps account of what was acknowledged; [`gap`]
//! measures how long writes stand still meanwhile, [`register`] looks for stale reads. Then read
//! [`tidy`] for what the style checker can find, and its suite `tests/tidy.rs` for what it is
//! applied to.

pub mod bugs;
pub mod check;
pub mod cluster;
pub mod gap;
pub mod load;
pub mod model;
pub mod register;
pub mod rot;
pub mod sim;
pub mod tidy;
