//! A state machine whose whole past can be looked at.

use std::io::{self, Read, Write};

use bytes::Bytes;
use raft::node::Index;
use raft::{StateMachine, Undecodable};

/// Remembers every command with its index.
#[derive(Clone, Default)]
pub(super) struct List {
    pub(super) commands: Vec<(Index, Bytes)>,
    pub(super) applied: Index,
}

impl StateMachine for List {
    type Reply = Index;
    type Image = List;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Index, Undecodable> {
        self.commands.push((index, command.clone()));
        self.applied = index;
        Ok(index)
    }

    fn advance(&mut self, index: Index) {
        self.applied = index;
    }

    fn applied(&self) -> Index {
        self.applied
    }

    fn image(&self) -> List {
        self.clone()
    }

    /// A line for the applied index, then one for each command.
    fn write(image: List, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", image.applied)?;
        for (index, command) in image.commands {
            write!(out, "{index} ")?;
            out.write_all(&command)?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn restore(input: &mut dyn Read) -> io::Result<List> {
        let mut text = String::new();
        input.read_to_string(&mut text)?;
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let index = |text: &str| text.parse().map(Index).map_err(|_| malformed());
        let mut lines = text.lines();
        let applied = index(lines.next().ok_or_else(malformed)?)?;
        let command = |line: &str| {
            let (at, command) = line.split_once(' ').ok_or_else(malformed)?;
            Ok((index(at)?, Bytes::copy_from_slice(command.as_bytes())))
        };
        let commands = lines.map(command).collect::<io::Result<_>>()?;
        Ok(List { commands, applied })
    }
}
