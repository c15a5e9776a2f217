//! The store as the state machine that Raft replicates. Its snapshot is the store's records, each
//! behind its length.

use std::io::{self, BufReader, BufWriter, Read, Write};

use bytes::Bytes;
use raft::node::Index;
use raft::{StateMachine, Undecodable};

use crate::store::{Contents, Counting, RECORD_BYTES_MAX, Reply, RestoreError, Restoring, Store};

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
        let mut restoring = Restoring::default();
        each_record(input, |record| restoring.take(record))?;
        restoring.finish().map_err(malformed)
    }
}

/// Looks through the state in a snapshot, to its end, without making a store of it.
///
/// # Errors
/// Those of `input`, or what is read is no state; [`io::ErrorKind::InvalidData`] then.
pub fn read_contents(input: &mut dyn Read) -> io::Result<Contents> {
    let mut counting = Counting::default();
    each_record(input, |record| counting.take(record))?;
    counting.finish().map_err(malformed)
}

/// Hands over every record, in order.
fn each_record(
    input: &mut dyn Read,
    mut take: impl FnMut(&[u8]) -> Result<(), RestoreError>,
) -> io::Result<()> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
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
        take(&record).map_err(malformed)?;
    }
    Ok(())
}

fn malformed(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

fn is_at_end(input: &mut impl io::BufRead) -> io::Result<bool> {
    Ok(input.fill_buf()?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::command::Command;
    use crate::store::{Condition, Operation, Revision, StoreLimits};

    fn written() -> Vec<u8> {
        let mut store = Store::new(StoreLimits::default());
        for (index, key) in (1..).zip([b"a", b"b", b"c"]) {
            let operation = Operation::Set { key, value: b"1", condition: Condition::None };
            let command = Command { session: None, operation }.to_bytes();
            store.apply(index, &command).unwrap();
        }
        let mut out = Vec::new();
        <Store as StateMachine>::write(store, &mut out).unwrap();
        out
    }

    #[test]
    fn looking_through_a_snapshot_tells_what_is_in_it() {
        let contents = read_contents(&mut &written()[..]).unwrap();
        assert_eq!((contents.applied, contents.revision), (3, Revision(3)));
        assert_eq!((contents.keys, contents.sessions), (3, 0));
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_no_state() {
        let whole = written();
        for length in 0..whole.len() {
            assert!(read_contents(&mut &whole[..length]).is_err(), "{length} bytes");
        }
        let twice = [&whole[..], &whole[..]].concat();
        assert!(read_contents(&mut &twice[..]).is_err());
    }
}
