//! Writes and syncs what the leader sends. It has one connection, so it waits in the read itself.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener};
use std::path::Path;

use load::Result;

use crate::file::Journal;

/// In front of each batch: its number (u64) and its bytes (u32), little endian.
pub(crate) const BATCH_HEAD_BYTES: usize = 12;

/// The size of an acknowledgement: the number of the last batch that is synced.
pub(crate) const ACKNOWLEDGEMENT_BYTES: usize = 8;

/// The head of a batch.
pub(crate) fn batch_head(number: u64, bytes: usize) -> [u8; BATCH_HEAD_BYTES] {
    let mut head = [0; BATCH_HEAD_BYTES];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..].copy_from_slice(&(bytes as u32).to_le_bytes());
    head
}

/// The size of the whole batches at the beginning of `input`, and the number of the last of them.
fn whole_batches(input: &[u8]) -> Option<(usize, u64)> {
    let mut last = None;
    let mut at = 0;
    while let Some(head) = input.get(at..).and_then(|rest| rest.first_chunk::<12>()) {
        let [n0, n1, n2, n3, n4, n5, n6, n7, b0, b1, b2, b3] = *head;
        let bytes = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        at += BATCH_HEAD_BYTES + bytes;
        if at > input.len() {
            break;
        }
        last = Some((at, u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7])));
    }
    last
}

/// Serves one leader until it is gone.
pub(crate) fn run(listen: SocketAddrV4, file: &Path) -> Result<()> {
    let mut journal = Journal::make(file)?;
    let (mut leader, _) = TcpListener::bind(listen)?.accept()?;
    leader.set_nodelay(true)?;
    let mut input = vec![0; 4 * 1024 * 1024];
    let mut held = 0;
    loop {
        if held == input.len() {
            return Err("a batch is larger than the buffer".into());
        }
        match leader.read(&mut input[held..])? {
            0 => return Ok(()),
            bytes => held += bytes,
        }
        if let Some((bytes, number)) = whole_batches(&input[..held]) {
            journal.append(&input[..bytes])?;
            leader.write_all(&number.to_le_bytes())?;
            input.copy_within(bytes..held, 0);
            held -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{batch_head, whole_batches};

    #[test]
    fn only_whole_batches_are_written() {
        let mut input = Vec::new();
        for (number, payload) in [(1, "one"), (2, "second")] {
            input.extend_from_slice(&batch_head(number, payload.len()));
            input.extend_from_slice(payload.as_bytes());
        }
        let whole = input.len();
        assert_eq!(whole_batches(&input), Some((whole, 2)));
        assert_eq!(whole_batches(&input[..whole - 1]), Some((15, 1)));
        assert_eq!(whole_batches(&input[..14]), None);
        assert_eq!(whole_batches(&[]), None);
    }
}
