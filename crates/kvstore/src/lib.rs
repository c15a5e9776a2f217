//! A linearizable key-value store on Raft: the state machine, the protocol and the client.

pub mod client;
mod codec;
pub mod config;
mod machine;
pub mod server;
pub mod store;
pub mod wire;
