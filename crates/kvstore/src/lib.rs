//! A linearizable key-value store, replicated with Raft.
//!
//! # The story
//!
//! A client's write is a *command*. The server that leads checks it, has Raft replicate it, and
//! applies it to the *store* once it is committed; every other server applies the same command at
//! the same place in the log and ends in the same state. Each write that changes something raises
//! the store's *revision* by one, and every answer carries the revision, so that two answers can be
//! told apart in time. A read is confirmed by Raft without being written, and answered from the
//! store of the server that was asked.
//!
//! # Guarantees
//!
//! - Reads and writes are linearizable, on every server, unless a stale read is asked for.
//! - Each request ends as done, refused (nothing happened) or unknown. The client repeats an
//!   unknown write under the same session and sequence, and it is applied at most once.
//! - Nothing invalid is ever proposed, and applying is total: a refusal is a result.
//! - What a client or another server sends gives a typed error at worst, and bounded memory.
//!
//! # Reading order
//!
//! 1. [`store`]: what a command does. Deterministic: no clock, chance or hash-map order.
//! 2. [`wire`]: frames and messages. No sockets.
//! 3. [`server`]: one event loop that joins clients, other servers and the replica.
//! 4. [`client`]: finds the leader, repeats safely, says what is known.
//! 5. [`config`]: the one file that servers and clients share.
//!
//! Linux only: durability rests on system calls whose meaning differs elsewhere.
//!
//! # Deliberately not done
//!
//! - Encryption and passwords: a server listens on loopback unless it is told that the network is
//!   its owner's alone.
//! - Forwarding a write from a follower to the leader: the client is told who leads, and so knows
//!   what became of each attempt.

#[cfg(not(target_os = "linux"))]
compile_error!("kvctl runs on Linux only: its durability rests on Linux's fdatasync and flock");

pub mod client;
mod codec;
pub mod config;
mod machine;
pub mod server;
pub mod store;
pub mod wire;

pub use machine::read_contents;
