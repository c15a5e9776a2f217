//! Raft.

pub mod founding;
pub mod node;
mod state_machine;

pub use founding::ClusterId;
pub use state_machine::{StateMachine, Undecodable};
