//! Entries and positions as the write-ahead log has them: in numbers, with a tag for their kind.

use super::log_store::LogError;
use crate::node::{Entry, EntryKind, Index, Payload, Position, Term};

pub(super) fn to_wal(entry: &Entry) -> wal::Entry {
    let tag = match entry.kind {
        EntryKind::Empty => 0,
        EntryKind::Command => 1,
        EntryKind::Configuration => 2,
    };
    let Payload { bytes: payload, checksum } = entry.payload.clone();
    wal::Entry::with_checksum(entry.index.0, entry.term.0, tag, payload, checksum)
}

/// What an entry with this tag is for; `None` if no server writes such a tag.
#[must_use]
pub fn entry_kind(tag: u8) -> Option<EntryKind> {
    match tag {
        0 => Some(EntryKind::Empty),
        1 => Some(EntryKind::Command),
        2 => Some(EntryKind::Configuration),
        _ => None,
    }
}

pub(super) fn kind_of(tag: u8, index: Index) -> Result<EntryKind, LogError> {
    entry_kind(tag).ok_or_else(|| LogError::Meaning(format!("entry {index} has kind {tag}")))
}

pub(super) fn from_wal(entry: wal::Entry) -> Result<Entry, LogError> {
    let kind = kind_of(entry.tag, Index(entry.index))?;
    let (index, term) = (Index(entry.index), Term(entry.term));
    let checksum = entry.checksum();
    let payload = Payload { bytes: entry.into_payload(), checksum };
    Ok(Entry { index, term, kind, payload })
}

pub(super) fn to_position(position: Position) -> wal::Position {
    wal::Position::new(position.index.0, position.term.0)
}

pub(super) fn from_position(position: wal::Position) -> Position {
    Position { index: Index(position.index), term: Term(position.term) }
}
