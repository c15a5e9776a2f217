//! The simulator: a cluster of production servers (driver, replica, node, log with its recovery,
//! snapshots, store with its sessions) on one thread, with simulated disks, clocks and a simulated
//! network that carries encoded frames. Everything that happens follows from one seed.
//!
//! Read `world` first: what can happen, one event at a time. `server` is one server, `network`
//! what lies between them, `client` and `history` those who use them, `service` what servers do
//! for them; `faults` is what goes wrong
//! and `plan` how often; `checks` holds the invariants that are looked at after every event.
//! `run` ends with a phase without faults, in which everything must come to rest.

mod agenda;
mod checks;
mod client;
mod clock;
mod dice;
mod faults;
mod history;
mod network;
mod plan;
pub mod report;
mod run;
mod server;
mod service;
mod trace;
mod witness;
mod world;

pub use run::{Failure, Outcome, Watch, run, run_with};
