//! A segment file: its name, its header, and how a new one comes to be.
//!
//! A segment is filled with zeros and durable, name included, before the log relies on it. Writing
//! into it later changes no length and allocates nothing, so a commit is one write and one
//! fdatasync that has only data to carry.

use std::io;

use crate::disk::{Disk, File, uninterrupted, write_all_at};
use crate::options::LogId;
use crate::record::{Fields, put_u32, put_u64};

/// Where the first batch of every segment begins.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 64;

/// The one version of the format that this crate reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"\x89WALSEG\n";
const SUFFIX: &str = ".wal";
const TEMPORARY_SUFFIX: &str = ".wal.tmp";

/// Zeros are written in pieces of this size, each synced on its own, so that no commit of the
/// segment in use has to wait behind the flush of a whole new one.
const FILL_BYTES: u64 = 2 * 1024 * 1024;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The file name of a segment.
pub(crate) fn segment_name(sequence: u64) -> String {
    format!("{sequence:016x}{SUFFIX}")
}

/// The sequence that a file name stands for, if it is the name of a segment.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

/// The name of a segment that is still being made. `attempt` keeps two makers apart.
pub(crate) fn temporary_name(sequence: u64, attempt: u64) -> String {
    format!("{sequence:016x}-{attempt}{TEMPORARY_SUFFIX}")
}

/// Whether a file is left over from making a segment.
pub(crate) fn is_temporary_name(name: &str) -> bool {
    name.ends_with(TEMPORARY_SUFFIX)
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: LogId,
    pub(crate) sequence: u64,
    pub(crate) capacity: u64,
}

/// What a segment header turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderReading {
    Whole(SegmentHeader),
    /// Whole, but of a format that this version does not know.
    Unsupported {
        version: u32,
        features: u32,
    },
    Rotten,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&MAGIC);
        put_u32(&mut bytes, FORMAT_VERSION);
        // Feature bits: a reader that does not know one of them must not read on.
        put_u32(&mut bytes, 0);
        bytes.extend_from_slice(&self.log_id.0.to_le_bytes());
        put_u64(&mut bytes, self.sequence);
        put_u64(&mut bytes, self.capacity);
        bytes.extend_from_slice(&[0; 12]);
        let crc = crc32fast::hash(&bytes);
        put_u32(&mut bytes, crc);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> HeaderReading {
        Self::decode_fields(bytes).unwrap_or(HeaderReading::Rotten)
    }

    fn decode_fields(bytes: &[u8]) -> Option<HeaderReading> {
        let covered = bytes.get(..60)?;
        let mut fields = Fields::new(bytes);
        let magic: [u8; 8] = fields.array()?;
        let version = fields.u32()?;
        let features = fields.u32()?;
        let log_id = LogId(u128::from_le_bytes(fields.array()?));
        let sequence = fields.u64()?;
        let capacity = fields.u64()?;
        let reserved: [u8; 12] = fields.array()?;
        let crc = fields.u32()?;
        if magic != MAGIC || crc != crc32fast::hash(covered) {
            return None;
        }
        if version != FORMAT_VERSION || features != 0 || reserved != [0; 12] {
            return Some(HeaderReading::Unsupported { version, features });
        }
        Some(HeaderReading::Whole(SegmentHeader { log_id, sequence, capacity }))
    }
}

/// The checksum of batch headers: it covers where a header stands, in which log, so that stale,
/// misdirected and forged bytes do not match.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    hasher: crc32fast::Hasher,
}

impl Seed {
    pub(crate) fn new(log_id: LogId, sequence: u64) -> Seed {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&log_id.0.to_le_bytes());
        hasher.update(&sequence.to_le_bytes());
        Seed { hasher }
    }

    pub(crate) fn checksum(&self, offset: u64, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// Writes a whole segment under a temporary name, makes its contents durable, and returns it.
///
/// `first` are the bytes of batches that it shall hold from the start.
pub(crate) fn write_segment(
    disk: &dyn Disk,
    temporary: &str,
    header: &SegmentHeader,
    first: &[u8],
) -> io::Result<Box<dyn File>> {
    let file = disk.create(temporary)?;
    let mut head = header.encode();
    head.extend_from_slice(first);
    write_all_at(&*file, &head, 0)?;
    let mut offset = head.len() as u64;
    while offset < header.capacity {
        let end = offset.saturating_add(FILL_BYTES).min(header.capacity);
        write_zeros(&*file, offset, end)?;
        uninterrupted(|| file.sync_data())?;
        offset = end;
    }
    uninterrupted(|| file.sync_all())?;
    Ok(file)
}

/// Writes zeros over `from..to`.
pub(crate) fn write_zeros(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let mut offset = from;
    while offset < to {
        let piece = usize::try_from(to - offset).unwrap_or(usize::MAX).min(ZEROS.len());
        write_all_at(file, ZEROS.get(..piece).unwrap_or(&ZEROS), offset)?;
        offset = offset.saturating_add(piece as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_sequence_and_nothing_else_does() {
        assert_eq!(segment_name(0x1f), "000000000000001f.wal");
        assert_eq!(parse_segment_name("000000000000001f.wal"), Some(0x1f));
        for foreign in ["1f.wal", "000000000000001F.wal", "000000000000001f.wal.tmp", "LOCK", ""] {
            assert_eq!(parse_segment_name(foreign), None, "{foreign}");
        }
        assert!(is_temporary_name(&temporary_name(7, 1)));
    }

    #[test]
    fn a_header_with_any_bit_changed_is_rotten() {
        let header = SegmentHeader { log_id: LogId(7), sequence: 3, capacity: 4096 };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, SEGMENT_HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&bytes), HeaderReading::Whole(header));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&changed), HeaderReading::Rotten, "bit {bit}");
        }
    }

    #[test]
    fn a_header_of_a_later_version_is_told_from_rot() {
        let header = SegmentHeader { log_id: LogId(7), sequence: 3, capacity: 4096 };
        let mut bytes = header.encode();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        let reading = SegmentHeader::decode(&bytes);
        assert_eq!(reading, HeaderReading::Unsupported { version: 2, features: 0 });
    }
}
