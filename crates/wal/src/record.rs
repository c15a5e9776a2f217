//! The rows of a batch's directory, byte by byte.
//!
//! A row says everything about a record except an entry's payload. Rows of entries have a fixed
//! width; the others carry their body inline. Reading never allocates and never trusts a length
//! beyond the slice that it was given.

use crate::entry::{METADATA_MAX, Metadata, Position};

/// Most term runs that a seal lists; a segment with more is read in full when it is opened.
pub(crate) const SEAL_RUNS_MAX: usize = 48;

const RUNS_NOT_LISTED: u16 = u16::MAX;

/// The width of an entry's row.
pub(crate) const ENTRY_ROW_BYTES: u64 = 18;

const KIND_LINK: u8 = 1;
const KIND_RESET: u8 = 2;
const KIND_METADATA: u8 = 3;
const KIND_TRUNCATE: u8 = 4;
const KIND_ENTRY: u8 = 5;
const KIND_PREFIX: u8 = 6;
const KIND_SEAL: u8 = 7;
const KIND_CLOSE: u8 = 8;

pub(crate) fn put_u32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put_position(bytes: &mut Vec<u8>, position: Position) {
    put_u64(bytes, position.index);
    put_u64(bytes, position.term);
}

/// Takes little-endian fields off the front of a slice; `None` when it is too short.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn position(&mut self) -> Option<Position> {
        Some(Position { index: self.u64()?, term: self.u64()? })
    }
}

/// What is known at the border between two segments. Seal and link both carry it, so that either
/// can be made again from the other, and so that the segment before the border may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The position before the first entry of the log.
    pub(crate) start: Position,
    /// The last entry.
    pub(crate) last: Position,
    /// The oldest segment that is still needed. Older ones may be missing in any pattern.
    pub(crate) first_sequence: u64,
    /// The newest metadata.
    pub(crate) metadata: Option<Metadata>,
}

impl Boundary {
    fn encode(&self, bytes: &mut Vec<u8>) {
        put_position(bytes, self.start);
        put_position(bytes, self.last);
        put_u64(bytes, self.first_sequence);
        match &self.metadata {
            None => bytes.push(0),
            Some(metadata) => {
                let content = metadata.as_bytes();
                bytes.push(1 + content.len() as u8);
                bytes.extend_from_slice(content);
            }
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Boundary> {
        let start = fields.position()?;
        let last = fields.position()?;
        let first_sequence = fields.u64()?;
        let metadata = match fields.u8()? {
            0 => None,
            more => Some(Metadata::new(fields.take(usize::from(more - 1))?).ok()?),
        };
        (start.index <= last.index).then_some(Boundary { start, last, first_sequence, metadata })
    }
}

/// The first record of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) boundary: Boundary,
    /// Where the predecessor's seal begins and ends; zero for the first segment of a log.
    pub(crate) seal_offset: u64,
    pub(crate) seal_end: u64,
}

/// The last record of a segment that is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) boundary: Boundary,
    /// The lowest index for which this segment, of all up to it, holds the valid entry; one more
    /// than the last index if it holds none.
    pub(crate) low: u64,
    /// The term runs of `low..=last`; `None` if there are too many to list.
    pub(crate) runs: Option<Vec<Position>>,
}

/// One record, as its row tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// Continues the segment before.
    Link(Link),
    /// Begins the log anew in this segment; its boundary is that of the emptied log.
    Reset(Link),
    Metadata(Metadata),
    /// Cuts all entries above this one.
    Truncate(Position),
    Entry(EntryRow),
    /// Drops all entries up to `start`; segments before `first_sequence` are needed no more.
    Prefix {
        start: Position,
        first_sequence: u64,
    },
    Seal(Seal),
    /// The owner closed the log; nothing was in flight.
    Close,
}

/// What the directory says about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRow {
    pub(crate) tag: u8,
    pub(crate) length: u32,
    pub(crate) checksum: u32,
    pub(crate) term: u64,
}

impl EntryRow {
    pub(crate) fn to_bytes(self) -> [u8; ENTRY_ROW_BYTES as usize] {
        let mut row = [0; ENTRY_ROW_BYTES as usize];
        let [kind, tag, rest @ ..] = &mut row;
        *kind = KIND_ENTRY;
        *tag = self.tag;
        let (length, rest) = rest.split_at_mut(4);
        length.copy_from_slice(&self.length.to_le_bytes());
        let (checksum, term) = rest.split_at_mut(4);
        checksum.copy_from_slice(&self.checksum.to_le_bytes());
        term.copy_from_slice(&self.term.to_le_bytes());
        row
    }
}

impl Row {
    /// Appends the row. Everything but an entry carries its body inline, behind its length.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        let kind = match self {
            Row::Entry(entry) => return bytes.extend_from_slice(&entry.to_bytes()),
            Row::Link(_) => KIND_LINK,
            Row::Reset(_) => KIND_RESET,
            Row::Metadata(_) => KIND_METADATA,
            Row::Truncate(_) => KIND_TRUNCATE,
            Row::Prefix { .. } => KIND_PREFIX,
            Row::Seal(_) => KIND_SEAL,
            Row::Close => KIND_CLOSE,
        };
        bytes.extend_from_slice(&[kind, 0, 0, 0]);
        let body = bytes.len();
        match self {
            Row::Link(link) | Row::Reset(link) => {
                link.boundary.encode(bytes);
                put_u64(bytes, link.seal_offset);
                put_u64(bytes, link.seal_end);
            }
            Row::Metadata(metadata) => bytes.extend_from_slice(metadata.as_bytes()),
            Row::Truncate(keep) => put_position(bytes, *keep),
            Row::Prefix { start, first_sequence } => {
                put_position(bytes, *start);
                put_u64(bytes, *first_sequence);
            }
            Row::Seal(seal) => encode_seal(seal, bytes),
            Row::Close | Row::Entry(_) => {}
        }
        let length = u16::try_from(bytes.len().saturating_sub(body)).unwrap_or(u16::MAX);
        if let Some(field) = bytes.get_mut(body.saturating_sub(2)..body) {
            field.copy_from_slice(&length.to_le_bytes());
        }
    }
}

fn encode_seal(seal: &Seal, bytes: &mut Vec<u8>) {
    seal.boundary.encode(bytes);
    put_u64(bytes, seal.low);
    let listed = seal.runs.as_ref().filter(|runs| runs.len() <= SEAL_RUNS_MAX);
    match listed {
        None => bytes.extend_from_slice(&RUNS_NOT_LISTED.to_le_bytes()),
        Some(runs) => {
            bytes.extend_from_slice(&(runs.len() as u16).to_le_bytes());
            for run in runs {
                put_position(bytes, *run);
            }
        }
    }
}

fn decode_seal(fields: &mut Fields<'_>) -> Option<Seal> {
    let boundary = Boundary::decode(fields)?;
    let low = fields.u64()?;
    let runs = match fields.u16()? {
        RUNS_NOT_LISTED => None,
        count if usize::from(count) <= SEAL_RUNS_MAX => {
            let mut runs = Vec::with_capacity(usize::from(count));
            for _ in 0..count {
                runs.push(fields.position()?);
            }
            Some(runs)
        }
        _ => return None,
    };
    Some(Seal { boundary, low, runs })
}

/// A row that no writer of this format makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads the rows of a directory in order.
#[derive(Clone, Debug)]
pub(crate) struct Rows<'a> {
    fields: Fields<'a>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(directory: &'a [u8]) -> Rows<'a> {
        Rows { fields: Fields::new(directory) }
    }

    fn read(&mut self) -> Option<Row> {
        let fields = &mut self.fields;
        let kind = fields.u8()?;
        let tag = fields.u8()?;
        if kind == KIND_ENTRY {
            let length = fields.u32()?;
            let checksum = fields.u32()?;
            let term = fields.u64()?;
            return Some(Row::Entry(EntryRow { tag, length, checksum, term }));
        }
        let length = usize::from(fields.u16()?);
        let content = fields.take(length)?;
        let mut body = Fields::new(content);
        let row = match kind {
            KIND_LINK | KIND_RESET => {
                let boundary = Boundary::decode(&mut body)?;
                let link = Link { boundary, seal_offset: body.u64()?, seal_end: body.u64()? };
                if kind == KIND_LINK { Row::Link(link) } else { Row::Reset(link) }
            }
            KIND_METADATA if length <= METADATA_MAX => {
                Row::Metadata(Metadata::new(body.take(length)?).ok()?)
            }
            KIND_TRUNCATE => Row::Truncate(body.position()?),
            KIND_PREFIX => Row::Prefix { start: body.position()?, first_sequence: body.u64()? },
            KIND_SEAL => Row::Seal(decode_seal(&mut body)?),
            KIND_CLOSE => Row::Close,
            _ => return None,
        };
        (tag == 0 && body.is_empty()).then_some(row)
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Malformed>;

    fn next(&mut self) -> Option<Result<Row, Malformed>> {
        if self.fields.is_empty() {
            return None;
        }
        let row = self.read();
        if row.is_none() {
            // Nothing behind a row that cannot be read has a known beginning.
            self.fields = Fields::new(&[]);
        }
        Some(row.ok_or(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position() -> impl Strategy<Value = Position> {
        (0..1000_u64, 0..50_u64).prop_map(|(index, term)| Position { index, term })
    }

    fn metadata() -> impl Strategy<Value = Metadata> {
        proptest::collection::vec(any::<u8>(), 0..=METADATA_MAX)
            .prop_map(|bytes| Metadata::new(&bytes).unwrap())
    }

    fn boundary() -> impl Strategy<Value = Boundary> {
        (position(), 0..50_u64, any::<u64>(), proptest::option::of(metadata())).prop_map(
            |(start, more, first_sequence, metadata)| {
                let last = Position { index: start.index + more, term: start.term };
                Boundary { start, last, first_sequence, metadata }
            },
        )
    }

    fn link() -> impl Strategy<Value = Link> {
        (boundary(), any::<u64>(), any::<u64>())
            .prop_map(|(boundary, seal_offset, seal_end)| Link { boundary, seal_offset, seal_end })
    }

    fn row() -> impl Strategy<Value = Row> {
        let runs = proptest::option::of(proptest::collection::vec(position(), 0..=SEAL_RUNS_MAX));
        prop_oneof![
            link().prop_map(Row::Link),
            link().prop_map(Row::Reset),
            metadata().prop_map(Row::Metadata),
            position().prop_map(Row::Truncate),
            (any::<u8>(), any::<u32>(), any::<u32>(), any::<u64>()).prop_map(
                |(tag, length, checksum, term)| Row::Entry(EntryRow {
                    tag,
                    length,
                    checksum,
                    term
                })
            ),
            (position(), any::<u64>())
                .prop_map(|(start, first_sequence)| Row::Prefix { start, first_sequence }),
            (boundary(), any::<u64>(), runs).prop_map(|(boundary, low, runs)| Row::Seal(Seal {
                boundary,
                low,
                runs
            })),
            Just(Row::Close),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were_written(rows in proptest::collection::vec(row(), 0..8)) {
            let mut bytes = Vec::new();
            for row in &rows {
                row.encode(&mut bytes);
            }
            let decoded: Result<Vec<Row>, Malformed> = Rows::new(&bytes).collect();
            prop_assert_eq!(decoded, Ok(rows));
        }

        #[test]
        fn arbitrary_bytes_end_in_rows_or_in_one_refusal(
            bytes in proptest::collection::vec(0..12_u8, 0..600)
        ) {
            let readings: Vec<_> = Rows::new(&bytes).collect();
            let refused = readings.iter().filter(|reading| reading.is_err()).count();
            prop_assert!(refused <= 1);
            prop_assert!(readings.len() <= bytes.len() / 4 + 1);
        }
    }
}
