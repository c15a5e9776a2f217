//! What goes into the log and comes out of it: positions, entries, metadata, appends, tickets.

use bytes::Bytes;
use thiserror::Error;

/// The most bytes that one metadata record may hold.
pub const METADATA_MAX: usize = 64;

/// The place of an entry: its index, and the term under which it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Entries are numbered without gaps.
    pub index: u64,
    /// Never falls from one entry to the next.
    pub term: u64,
}

impl Position {
    /// A position from its two parts.
    pub const fn new(index: u64, term: u64) -> Position {
        Position { index, term }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}", self.index, self.term)
    }
}

/// One entry.
///
/// The checksum is the CRC-32 (IEEE) of the payload alone, so that whoever encodes a payload
/// computes it once and every copy, on this disk and elsewhere, can be compared with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Opaque to the log.
    pub tag: u8,
    payload: Bytes,
    /// CRC-32 of the payload. The two go together: a wrong checksum would be acknowledged, and
    /// after a restart be damage that no payload can repair.
    checksum: u32,
}

impl Entry {
    /// An entry whose checksum is computed here.
    pub fn new(index: u64, term: u64, tag: u8, payload: impl Into<Bytes>) -> Entry {
        let payload = payload.into();
        let checksum = crc32fast::hash(&payload);
        Entry { index, term, tag, payload, checksum }
    }

    /// An entry whose checksum was computed before, by whoever encoded the payload or compared it
    /// with the checksum that it came with.
    ///
    /// It is believed: only a build with debug assertions compares the two, and panics if they
    /// differ. An entry with a wrong checksum counts as damaged once the log is opened again.
    pub fn with_checksum(
        index: u64,
        term: u64,
        tag: u8,
        payload: impl Into<Bytes>,
        checksum: u32,
    ) -> Entry {
        let payload = payload.into();
        debug_assert_eq!(
            crc32fast::hash(&payload),
            checksum,
            "entry {index} came with a checksum of another payload"
        );
        Entry { index, term, tag, payload, checksum }
    }

    /// The bytes, opaque to the log.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The bytes, without the rest.
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// CRC-32 of the payload.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Where the entry stands.
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }

    /// The payload's length as the format counts it.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.payload.len() as u64
    }

    /// What it takes in memory: an empty payload is not free.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.payload_bytes().saturating_add(size_of::<Entry>() as u64)
    }
}

/// A small opaque record of which only the newest counts: a vote, a term, a configuration number.
#[derive(Clone, Copy)]
pub struct Metadata {
    length: u8,
    bytes: [u8; METADATA_MAX],
}

/// Metadata longer than [`METADATA_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("metadata of {bytes} bytes is longer than {METADATA_MAX}")]
pub struct MetadataTooLong {
    /// The length that was asked for.
    pub bytes: usize,
}

impl Metadata {
    /// Takes a copy of at most [`METADATA_MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Result<Metadata, MetadataTooLong> {
        let too_long = MetadataTooLong { bytes: bytes.len() };
        let mut metadata = Metadata {
            length: u8::try_from(bytes.len()).map_err(|_| too_long)?,
            bytes: [0; METADATA_MAX],
        };
        metadata.bytes.get_mut(..bytes.len()).ok_or(too_long)?.copy_from_slice(bytes);
        Ok(metadata)
    }

    /// The bytes that were given.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Metadata {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Metadata) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Metadata {}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metadata(")?;
        for byte in self.as_bytes() {
            write!(formatter, "{byte:02x}")?;
        }
        formatter.write_str(")")
    }
}

/// What one caller wants changed, as one unit: after a crash all of it is there or none of it.
///
/// It is carried out in the order of its fields: reset, metadata, truncation, entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Append<E = Vec<Entry>> {
    /// Replaces the metadata.
    pub metadata: Option<Metadata>,
    /// Empties the log, which then continues after this position.
    pub reset: Option<Position>,
    /// Keeps the entries up to and including this index and cuts those above.
    pub truncate_after: Option<u64>,
    /// Entries to add: contiguous, with terms that never fall.
    pub entries: E,
}

/// The number of a staged append or prefix removal. A commit that returns a ticket at least as
/// large covers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_of_another_payload_is_noticed_where_assertions_are_on() {
        let given = Entry::with_checksum(1, 1, 0, "hi", crc32fast::hash(b"hi"));
        assert_eq!(given, Entry::new(1, 1, 0, "hi"));
        let wrong = std::panic::catch_unwind(|| Entry::with_checksum(1, 1, 0, "hi", 0));
        assert_eq!(wrong.is_err(), cfg!(debug_assertions));
    }
}
