//! Segments made of arbitrary bytes. The encoder here was written from the description of the
//! format alone and shares nothing with the log's own, so that one mistake is not made twice.

use wal::sim_disk::SimDisk;

use super::Choices;
use super::lives::{SEGMENT_BYTES, options};

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES_MAX: usize = 64 * 1024;

fn log_id() -> [u8; 16] {
    options().log_id.map_or([0; 16], |id| id.0.to_le_bytes())
}

fn name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

fn place(medium: &SimDisk, sequence: u64, bytes: &[u8]) {
    let disk = medium.disk();
    let file = disk.create(&name(sequence)).unwrap();
    wal::disk::write_all_at(&*file, bytes, 0).unwrap();
    file.sync_all().unwrap();
    disk.sync().unwrap();
}

fn segment_header(sequence: u64, capacity: usize) -> Vec<u8> {
    let mut bytes = b"\x89WALSEG\n".to_vec();
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&log_id());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&(capacity as u64).to_le_bytes());
    bytes.extend_from_slice(&[0; 12]);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// One segment, of which at most the header is put right.
pub fn raw(choices: &mut Choices<'_>) -> SimDisk {
    let medium = SimDisk::new();
    let has_header = choices.byte().is_multiple_of(2);
    let body = choices.bytes(SEGMENT_BYTES_MAX);
    let mut bytes = Vec::new();
    if has_header {
        let capacity = (HEADER_BYTES + body.len()).max(SEGMENT_BYTES as usize);
        bytes = segment_header(1, capacity);
        bytes.extend_from_slice(body);
        bytes.resize(capacity, 0);
    } else {
        bytes.extend_from_slice(body);
    }
    place(&medium, 1, &bytes);
    medium
}

/// A segment that is being forged.
struct Forger {
    sequence: u64,
    bytes: Vec<u8>,
    crc: u32,
    next_index: u64,
}

impl Forger {
    fn begin(sequence: u64, crc: u32, next_index: u64) -> Forger {
        let bytes = segment_header(sequence, SEGMENT_BYTES as usize);
        Forger { sequence, bytes, crc, next_index }
    }

    fn batch(&mut self, flags: u8, first_index: u64, directory: &[u8], payloads: &[u8]) {
        let offset = self.bytes.len() as u64;
        let total = (32 + directory.len() + payloads.len() + 1).next_multiple_of(8);
        if self.bytes.len() + total > SEGMENT_BYTES as usize {
            return;
        }
        let previous = if flags & 2 == 0 { self.crc } else { !self.crc };
        let mut header = crc32fast::hash(directory).to_le_bytes().to_vec();
        header.extend_from_slice(&previous.to_le_bytes());
        header.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        let claimed = if flags & 4 == 0 { total } else { total + 8 };
        header.extend_from_slice(&(claimed as u32).to_le_bytes());
        header.extend_from_slice(&u32::from(!flags & 1).to_le_bytes());
        header.extend_from_slice(&first_index.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&log_id());
        hasher.update(&self.sequence.to_le_bytes());
        hasher.update(&offset.to_le_bytes());
        hasher.update(&header);
        self.crc = hasher.finalize();
        self.bytes.extend_from_slice(&self.crc.to_le_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(directory);
        self.bytes.extend_from_slice(payloads);
        let end = offset as usize + total;
        self.bytes.resize(end - 1, 0);
        self.bytes.push(0xbe);
    }

    fn end(mut self, medium: &SimDisk) -> Forger {
        self.bytes.resize(SEGMENT_BYTES as usize, 0);
        place(medium, self.sequence, &self.bytes);
        Forger::begin(self.sequence + 1, self.crc, self.next_index)
    }
}

/// A link that begins an empty log.
fn first_link() -> Vec<u8> {
    let mut row = vec![1, 0, 57, 0];
    row.extend_from_slice(&[0; 32]);
    row.extend_from_slice(&1_u64.to_le_bytes());
    row.extend_from_slice(&[0; 17]);
    row
}

/// Rows of entries with small numbers, and their payloads.
fn entries(choices: &mut Choices<'_>) -> (Vec<u8>, Vec<u8>, u64) {
    let (mut rows, mut payloads) = (Vec::new(), Vec::new());
    let count = 1 + u64::from(choices.byte() % 4);
    for _ in 0..count {
        let length = usize::from(choices.byte() % 64);
        let payload = choices.bytes(length);
        rows.extend_from_slice(&[5, choices.byte()]);
        rows.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        let crc = crc32fast::hash(payload) ^ u32::from(choices.byte() == 1);
        rows.extend_from_slice(&crc.to_le_bytes());
        rows.extend_from_slice(&u64::from(choices.byte() % 8).to_le_bytes());
        payloads.extend_from_slice(payload);
    }
    (rows, payloads, count)
}

/// Up to four segments of batches whose checksums are right, whatever they say.
pub fn forged(choices: &mut Choices<'_>) -> SimDisk {
    let medium = SimDisk::new();
    let mut forger = Forger::begin(1, 0, 1);
    if choices.byte() != 0xff {
        forger.batch(0, 1, &first_link(), &[]);
    }
    while !choices.is_over() && forger.sequence <= 4 {
        let flags = choices.byte();
        let first_index = match choices.byte() {
            0xff => u64::MAX,
            more => forger.next_index.wrapping_add(u64::from(more / 32)),
        };
        if flags & 0x80 != 0 {
            forger = forger.end(&medium);
        } else if flags & 0x40 != 0 {
            let (rows, payloads, count) = entries(choices);
            forger.batch(flags, first_index, &rows, &payloads);
            forger.next_index = forger.next_index.wrapping_add(count);
        } else {
            let count = usize::from(choices.byte());
            let directory = choices.bytes(count);
            let count = usize::from(choices.byte());
            forger.batch(flags, first_index, directory, choices.bytes(count));
        }
    }
    forger.end(&medium);
    medium
}
