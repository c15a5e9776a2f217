//! A linearizable key-value store on Raft: the state machine, the protocol and the client.

mod codec;
pub mod config;
pub mod store;
pub mod wire;
