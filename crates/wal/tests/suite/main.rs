//! The tests of the log as its users see it, on simulated and on real disks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod arbitrary;
mod borders;
mod committer;
mod counts;
mod crash_points;
mod damage;
mod every_call;
mod faults;
mod golden;
mod grouping;
mod harness;
mod inspection;
mod mending;
mod operations;
mod random_walk;
mod read_only;
mod recovery;
mod salvage;
mod salvage_cut_short;
mod salvage_plan;
mod sample;
mod scrubbing;
mod smoke;
mod space;
mod successor;
mod suspects;
mod twisted;
mod unneeded;
mod unreadable;
mod wavering;
