//! What a server keeps on its disk: who it is ([`Identity`]), what its cluster was founded with
//! ([`Home`]), and its log ([`LogStore`]).
//!
//! A data directory:
//!
//! ```text
//! LOCK        held while a server runs on it
//! identity    two sectors: name, incarnation, boot, how far founding has come
//! founding    the pairs that this server agreed to found its cluster with
//! log/        the write-ahead log
//! ```

mod home;
mod identity;
mod log_store;

pub use home::{Home, HomeError};
pub use identity::{Identity, IdentityError, Stage};
pub use log_store::{LogError, LogOptions, LogStore, Opened, Successors, TornTail};
