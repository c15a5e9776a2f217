//! The simulator: a cluster of production servers (driver, replica, node, log with its recovery,
//! snapshots, store with its sessions) on one thread, with simulated disks, clocks and a simulated
//! network that carries encoded frames. Everything that happens follows from one seed.
//!
//! Read `world` first: what can happen, one event at a time. `server` is one server, `network`
//! what lies between them and `wire` what they say to each other, `entrance` how one comes into
//! its cluster and `meeting` what two check when they meet; `client` and `history` are those
//! who use them, `service` what servers do for them, `operator` who looks after them. `faults`
//! (with `damage`, `strangers` and `coup`) is what goes wrong, `plan` how often, and `budget` how
//! much of it a cluster must bear; `checks` holds the invariants that are looked at after every
//! event. A `run` ends with phases without faults (`ending`), in which all must come to rest.
//!
//! What happens in a run is data: `course` has its faults, requests and mishaps, `script` writes
//! them down and reads them again, and `minimise` leaves out of a script what a failure does not
//! need. A run that is watched is seen by an `onlooker`, who draws a `diagram`.

mod agenda;
mod budget;
mod checks;
mod client;
mod clock;
mod coup;
mod course;
mod damage;
mod diagram;
mod dice;
mod ending;
mod entrance;
mod faults;
mod history;
mod meeting;
pub mod minimise;
mod network;
mod onlooker;
mod operator;
mod plan;
pub mod repeat;
pub mod report;
mod run;
pub mod script;
mod server;
mod service;
mod strangers;
mod trace;
mod wire;
mod witness;
mod world;

pub use plan::{Allowed, FaultKind};
pub use run::{Failure, Outcome, Watch, draw, run, run_script, run_with};
