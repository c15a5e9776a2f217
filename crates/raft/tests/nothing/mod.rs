//! The smallest state machine, for tests of everything around one.

use std::io::{self, Read, Write};

use bytes::Bytes;
use raft::node::Index;
use raft::{StateMachine, Undecodable};

/// A state machine without a state.
#[derive(Default)]
pub(crate) struct Nothing(Index);

impl StateMachine for Nothing {
    type Reply = ();
    type Image = ();

    fn apply(&mut self, index: Index, _: &Bytes) -> Result<(), Undecodable> {
        self.advance(index);
        Ok(())
    }

    fn advance(&mut self, index: Index) {
        self.0 = index;
    }

    fn applied(&self) -> Index {
        self.0
    }

    fn image(&self) {}

    fn write((): (), _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn restore(_: &mut dyn Read) -> io::Result<Self> {
        Ok(Self::default())
    }
}
