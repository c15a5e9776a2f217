//! A batch: what one write and one fdatasync carry, and what a crash keeps or loses as a whole.
//!
//! Header, directory, payloads, padding up to a multiple of eight. The header can be judged alone,
//! which makes a search past damage linear; the directory is covered by its own checksum, which
//! makes every length trustworthy before it is followed; each payload is covered by the checksum
//! in its row, so that one rotten payload takes no other along.

use crate::entry::Entry;
use crate::record::{ENTRY_ROW_BYTES, EntryRow, Fields, Row, put_u32, put_u64};
use crate::segment::Seed;

/// The width of a batch header.
pub(crate) const BATCH_HEADER_BYTES: u64 = 32;

/// Batches begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;

const FLAG_SYNCED: u32 = 1;

/// The last byte of every batch. A batch usually shares its last sector with the next one. If what
/// it has there were zeros, it would look whole although that sector never reached the medium, and
/// the next write into a sector that holds nothing may turn it into garbage.
const END_MARK: u8 = 0xbe;

/// Whether everything before a batch was synced when the batch was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Synced,
    Unsynced,
}

/// The first bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Of this header; the next batch repeats it.
    pub(crate) crc: u32,
    pub(crate) directory_crc: u32,
    /// The `crc` of the batch before, so that batches cannot be left out or exchanged.
    pub(crate) previous_crc: u32,
    pub(crate) directory_bytes: u32,
    /// Header, directory, payloads and padding.
    pub(crate) total_bytes: u32,
    pub(crate) before: Before,
    /// The index of the first entry in the batch, or of the next one if it has none.
    pub(crate) first_index: u64,
}

impl BatchHeader {
    /// The header at `offset`, if a whole one stands there. `room` is what is left of the file.
    ///
    /// The cheap checks come first: a search runs this at every eighth byte.
    pub(crate) fn decode(bytes: &[u8], seed: &Seed, offset: u64, room: u64) -> Option<BatchHeader> {
        let mut fields = Fields::new(bytes);
        let crc = fields.u32()?;
        let directory_crc = fields.u32()?;
        let previous_crc = fields.u32()?;
        let directory_bytes = fields.u32()?;
        let total_bytes = fields.u32()?;
        let flags = fields.u32()?;
        let first_index = fields.u64()?;
        let body = u64::from(total_bytes).checked_sub(BATCH_HEADER_BYTES)?;
        let plausible = flags <= FLAG_SYNCED
            && u64::from(total_bytes).is_multiple_of(ALIGNMENT)
            && u64::from(total_bytes) <= room
            && directory_bytes != 0
            && u64::from(directory_bytes) <= body;
        if !plausible || seed.checksum(offset, bytes.get(4..32)?) != crc {
            return None;
        }
        let before = if flags == FLAG_SYNCED { Before::Synced } else { Before::Unsynced };
        Some(BatchHeader {
            crc,
            directory_crc,
            previous_crc,
            directory_bytes,
            total_bytes,
            before,
            first_index,
        })
    }
}

/// What a batch will take, computed before a byte of it is encoded.
pub(crate) fn batch_bytes(directory_bytes: u64, payload_bytes: u64) -> u64 {
    BATCH_HEADER_BYTES
        .saturating_add(directory_bytes)
        .saturating_add(payload_bytes)
        .saturating_add(1)
        .checked_next_multiple_of(ALIGNMENT)
        .unwrap_or(u64::MAX)
}

/// Whether the bytes behind the payloads are what a writer puts there.
pub(crate) fn is_padding(bytes: &[u8]) -> bool {
    match bytes.split_last() {
        Some((last, zeros)) => *last == END_MARK && zeros.iter().all(|byte| *byte == 0),
        None => false,
    }
}

/// The padding of a batch that has room for `length` bytes of it.
pub(crate) fn padding(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    if let Some(last) = bytes.last_mut() {
        *last = END_MARK;
    }
    bytes
}

/// Where a batch will stand and what it continues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) seed: &'a Seed,
    pub(crate) offset: u64,
    pub(crate) previous_crc: u32,
    pub(crate) before: Before,
}

/// Appends a batch to `buffer` and returns the crc of its header. The rows in `last` follow the
/// entries.
pub(crate) fn encode_batch<'e>(
    buffer: &mut Vec<u8>,
    place: Place<'_>,
    first: &[Row],
    entries: impl Iterator<Item = &'e Entry> + Clone,
    last: &[Row],
    first_index: u64,
) -> u32 {
    let begin = buffer.len();
    buffer.extend_from_slice(&[0; BATCH_HEADER_BYTES as usize]);
    let directory = buffer.len();
    for row in first {
        row.encode(buffer);
    }
    encode_entry_rows(buffer, entries.clone());
    for row in last {
        row.encode(buffer);
    }
    let directory_bytes = buffer.len().saturating_sub(directory);
    for entry in entries {
        buffer.extend_from_slice(entry.payload());
    }
    let unpadded = buffer.len().saturating_sub(begin);
    let total_bytes = unpadded.saturating_add(1).next_multiple_of(ALIGNMENT as usize);
    buffer.resize(begin.saturating_add(total_bytes).saturating_sub(1), 0);
    buffer.push(END_MARK);

    let directory_end = directory.saturating_add(directory_bytes);
    let directory_crc = crc32fast::hash(buffer.get(directory..directory_end).unwrap_or_default());
    let mut header = Vec::with_capacity(BATCH_HEADER_BYTES as usize);
    put_u32(&mut header, directory_crc);
    put_u32(&mut header, place.previous_crc);
    put_u32(&mut header, directory_bytes as u32);
    put_u32(&mut header, total_bytes as u32);
    put_u32(&mut header, if place.before == Before::Synced { FLAG_SYNCED } else { 0 });
    put_u64(&mut header, first_index);
    let crc = place.seed.checksum(place.offset, &header);
    if let Some(field) = buffer.get_mut(begin..directory) {
        let (crc_field, rest) = field.split_at_mut(4);
        crc_field.copy_from_slice(&crc.to_le_bytes());
        rest.copy_from_slice(&header);
    }
    crc
}

/// Makes room for all rows at once, and fills it.
fn encode_entry_rows<'e>(buffer: &mut Vec<u8>, entries: impl Iterator<Item = &'e Entry> + Clone) {
    let begin = buffer.len();
    let bytes = entries.clone().count().saturating_mul(ENTRY_ROW_BYTES as usize);
    buffer.resize(begin.saturating_add(bytes), 0);
    let (rows, _) = buffer.get_mut(begin..).unwrap_or_default().as_chunks_mut();
    for (row, entry) in rows.iter_mut().zip(entries) {
        *row = EntryRow {
            tag: entry.tag,
            length: entry.payload().len() as u32,
            checksum: entry.checksum(),
            term: entry.term,
        }
        .to_bytes();
    }
}

/// Appends a batch of one link, seal or close record, which hold no entries.
pub(crate) fn encode_control(
    buffer: &mut Vec<u8>,
    place: Place<'_>,
    row: &Row,
    next_index: u64,
) -> u32 {
    let rows = std::slice::from_ref(row);
    encode_batch(buffer, place, rows, std::iter::empty(), &[], next_index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::LogId;
    use std::collections::VecDeque;

    fn sample(offset: u64) -> (Seed, Vec<u8>) {
        let seed = Seed::new(LogId(9), 4);
        let entries: VecDeque<Entry> =
            (5..8).map(|index| Entry::new(index, 2, 1, format!("payload {index}"))).collect();
        let mut buffer = Vec::new();
        let place = Place { seed: &seed, offset, previous_crc: 77, before: Before::Synced };
        encode_batch(&mut buffer, place, &[], entries.iter(), &[], 5);
        (seed, buffer)
    }

    #[test]
    fn a_header_is_whole_only_where_it_was_written() {
        let (seed, buffer) = sample(64);
        let room = buffer.len() as u64;
        let header = BatchHeader::decode(&buffer, &seed, 64, room).unwrap();
        assert_eq!(header.first_index, 5);
        assert_eq!(header.previous_crc, 77);
        assert_eq!(u64::from(header.total_bytes), room);
        assert_eq!(header.before, Before::Synced);
        assert_eq!(BatchHeader::decode(&buffer, &seed, 72, room), None, "another offset");
        let other_segment = Seed::new(LogId(9), 5);
        assert_eq!(BatchHeader::decode(&buffer, &other_segment, 64, room), None);
        let other_log = Seed::new(LogId(8), 4);
        assert_eq!(BatchHeader::decode(&buffer, &other_log, 64, room), None);
        assert_eq!(BatchHeader::decode(&buffer, &seed, 64, room - 8), None, "past the file's end");
    }

    #[test]
    fn every_bit_of_a_header_is_covered() {
        let (seed, buffer) = sample(64);
        for bit in 0..BATCH_HEADER_BYTES as usize * 8 {
            let mut changed = buffer.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&changed, &seed, 64, 4096), None, "bit {bit}");
        }
    }

    #[test]
    fn the_size_of_a_batch_is_known_before_it_is_encoded() {
        let (_, buffer) = sample(64);
        let payloads = 3 * "payload 5".len() as u64;
        assert_eq!(batch_bytes(3 * ENTRY_ROW_BYTES, payloads), buffer.len() as u64);
    }
}
