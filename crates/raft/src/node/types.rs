//! The words of the protocol as types, so that a term is never compared with an index and a
//! server is never mistaken for an earlier life of itself.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Terms and indexes above this are never adopted: whoever sends one is broken, and adopting it
/// would leave no room to count on (2^62, so that sums of two never overflow).
pub const COUNTER_MAX: u64 = 1 << 62;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// The one before this; zero stays zero.
            #[must_use]
            pub fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A period with at most one leader (dissertation 3.3). Zero is before the first election.
    Term
}
counter! {
    /// A place in the log. The first entry has index 1; zero is before it.
    Index
}
counter! {
    /// One life of a server's directory, drawn at random when the directory is made. A server
    /// whose directory was wiped has another, and is therefore another member.
    Incarnation
}
counter! {
    /// Counts the starts of a server on one directory.
    Boot
}
counter! {
    /// Names one append that was handed to the disk. Tickets complete in order.
    Ticket
}
counter! {
    /// Names one read of one server; chosen by its caller, who may use it again once that has
    /// ended.
    ReadId
}
counter! {
    /// Names one request for entries that are no longer in memory.
    FetchId
}

/// A server's name, as the configuration file gives it: 1 to 32 bytes of ASCII letters, digits,
/// `-`, `_` and `.`. Held in place so that it is copied, compared and sent without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// The name, padded with zeros, which no name contains.
    bytes: [u8; NodeId::BYTES_MAX],
}

/// Why a name cannot be a [`NodeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} cannot name a server: use 1 to {max} ASCII letters, digits, '-', '_' or '.'",
    max = NodeId::BYTES_MAX
)]
pub struct InvalidNodeId {
    /// The name that was given.
    pub name: String,
}

impl NodeId {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 32;

    /// Checks a name.
    ///
    /// # Errors
    /// The name is empty, too long, or has a character that a name cannot have.
    pub fn new(name: &str) -> Result<Self, InvalidNodeId> {
        let invalid = || InvalidNodeId { name: name.chars().take(64).collect() };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(valid) {
            return Err(invalid());
        }
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..name.len()).ok_or_else(invalid)?.copy_from_slice(name.as_bytes());
        Ok(Self { bytes })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|&byte| byte == 0).unwrap_or(Self::BYTES_MAX);
        self.bytes.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = NodeId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a server")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<NodeId, E> {
                NodeId::new(name).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// Who votes and who acknowledges: a server *and* the life of its directory. A server that lost
/// its disk forgot what it promised, so its new life must not speak for the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The server's name.
    pub id: NodeId,
    /// The life of its directory.
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// A place in the log together with the term of the entry there. Two logs that hold the same
/// position are identical up to it (log matching, 3.5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The index.
    pub index: Index,
    /// The term of the entry at that index.
    pub term: Term,
}

impl Position {
    /// Whether a log that ends here is at least as up to date as one that ends at `other`: the
    /// later last term wins, and only between equal terms the longer log (3.6.1).
    #[must_use]
    pub fn is_up_to_date_with(self, other: Position) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// Names a snapshot. Two files of the same name have the same bytes, so that a transfer may go on
/// where an earlier one, perhaps from another server, was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    /// The last entry that it stands for.
    pub position: Position,
    /// The size of its file.
    pub bytes: u64,
    /// A hash of what it says.
    pub hash: [u8; 16],
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// Appended by a new leader, so that it can commit what earlier leaders left (3.6.2, 6.4).
    Empty,
    /// A command for the state machine.
    Command,
    /// A [`Configuration`](super::Configuration).
    Configuration,
}

/// Bytes to be replicated, and their checksum, computed once by whoever made them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Payload {
    /// The bytes; shared, never copied, by the log, every follower and the state machine.
    pub bytes: Bytes,
    /// CRC-32 of the bytes.
    pub checksum: u32,
}

impl Payload {
    /// Computes the checksum of `bytes`.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let checksum = crc32fast::hash(&bytes);
        Self { bytes, checksum }
    }
}

/// One entry of the log. Cloning it copies no payload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its place.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it is for.
    pub kind: EntryKind,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// Bytes that every entry is counted with beyond its payload, in all limits.
    pub const OVERHEAD_BYTES: u64 = 32;

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }

    /// What it counts for in every limit: its payload and a fixed overhead.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.payload.bytes.len() as u64 + Self::OVERHEAD_BYTES
    }
}

/// What is known of an entry whose payload is damaged on the own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LostEntry {
    /// Where it stands.
    pub position: Position,
    /// What it was for.
    pub kind: EntryKind,
    /// The length of its payload.
    pub bytes: u64,
    /// CRC-32 of its payload.
    pub checksum: u32,
}

/// What a server has promised and must remember over a restart (3.4): one record, written whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term this server has seen.
    pub term: Term,
    /// Whom it voted for in that term. Once set it changes only when the term grows.
    pub vote: Option<Member>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_keeps_its_name_and_refuses_what_cannot_be_one() {
        for name in ["s1", "a.b-c_9", &"x".repeat(32)] {
            assert_eq!(NodeId::new(name).unwrap().as_str(), name);
        }
        for name in ["", "a b", "s/1", "é", &"x".repeat(33)] {
            assert!(NodeId::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn up_to_date_compares_the_term_before_the_index() {
        let at = |index, term| Position { index: Index(index), term: Term(term) };
        assert!(at(1, 3).is_up_to_date_with(at(9, 2)));
        assert!(!at(9, 2).is_up_to_date_with(at(1, 3)));
        assert!(at(5, 2).is_up_to_date_with(at(5, 2)));
        assert!(!at(4, 2).is_up_to_date_with(at(5, 2)));
    }
}
