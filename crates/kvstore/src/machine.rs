//! The store as the state machine that Raft replicates. Its snapshot is the store's records, each
//! behind its length.

use std::io::{self, BufReader, BufWriter, Read, Write};

use bytes::Bytes;
use raft::node::Index;
use raft::{StateMachine, Undecodable};

use crate::store::{RECORD_BYTES_MAX, Reply, Restoring, Store};

/// Records are small, and what they are written to or read from is not fast with small pieces.
const BUFFER_BYTES: usize = 64 << 10;

impl StateMachine for Store {
    type Reply = Reply;
    type Image = Store;

    fn apply(&mut self, index: Index, command: &Bytes) -> Result<Reply, Undecodable> {
        Store::apply(self, index.0, command)
            .map_err(|error| Undecodable { index, reason: error.to_string() })
    }

    fn advance(&mut self, index: Index) {
        Store::advance(self, index.0);
    }

    fn applied(&self) -> Index {
        Index(Store::applied(self))
    }

    fn image(&self) -> Store {
        self.clone()
    }

    fn write(image: Store, out: &mut dyn Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        image.records(|record| {
            let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
            if length > RECORD_BYTES_MAX {
                return Err(io::Error::other("a record of the store is too long"));
            }
            out.write_all(&length.to_le_bytes())?;
            out.write_all(record)
        })?;
        out.flush()
    }

    fn restore(input: &mut dyn Read) -> io::Result<Store> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut restoring = Restoring::default();
        let mut record = Vec::new();
        let mut length = [0; 4];
        while !is_at_end(&mut input)? {
            input.read_exact(&mut length)?;
            let bytes = u32::from_le_bytes(length);
            if bytes > RECORD_BYTES_MAX {
                return Err(malformed(format!("a record of {bytes} bytes")));
            }
            record.resize(usize::try_from(bytes).unwrap_or_default(), 0);
            input.read_exact(&mut record)?;
            restoring.take(&record).map_err(|error| malformed(error.to_string()))?;
        }
        restoring.finish().map_err(|error| malformed(error.to_string()))
    }
}

fn is_at_end(input: &mut impl io::BufRead) -> io::Result<bool> {
    Ok(input.fill_buf()?.is_empty())
}
