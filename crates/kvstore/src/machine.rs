//! The store as the state machine that Raft replicates.

use bytes::Bytes;
use raft::node::Index;
use raft::{StateMachine, Undecodable};

use crate::store::{Reply, Store};

impl StateMachine for Store {
    type Reply = Reply;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Reply, Undecodable> {
        Store::apply(self, index.0, command)
            .map_err(|error| Undecodable { index, reason: error.to_string() })
    }

    fn advance(&mut self, index: Index) {
        Store::advance(self, index.0);
    }
}
