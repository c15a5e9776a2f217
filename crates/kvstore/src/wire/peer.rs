//! What servers say to each other: Raft's messages, and what they stand for while one of them is in
//! no cluster. A connection mostly carries them one way, from the server that connected; answers
//! come on the connection that the other side made, or on this one if there is none.
//!
//! Each frame names the incarnation and the boot of the server it was written for. A message that
//! was queued for an earlier life must not be taken by a later one.

#[cfg(test)]
mod tests;

use super::frame::{self, FRAME_BYTES_MAX, Frame, FrameError, Kind};
use super::handshake::{check_address, check_cluster_name};
use crate::codec::{self, DecodeError, Raw};
use bytes::{Bytes, BytesMut};
use raft::founding::{Charter, Standing};
use raft::node::{
    Boot, Cause, Entries, Entry, EntryKind, Incarnation, Index, Message, Payload, Position,
    SnapshotId, Term,
};
use raft::replica::SnapshotMessage;
use serde::{Deserialize, Serialize};

/// One of Raft's messages.
pub const RAFT: Kind = Kind(0x40);
/// What a server stands for while the cluster is founded.
pub const STANDING: Kind = Kind(0x41);
/// A part of a snapshot, or what is said about its transfer.
pub const SNAPSHOT: Kind = Kind(0x42);

/// The life of the server that a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressee {
    /// The life of its directory.
    pub incarnation: Incarnation,
    /// Its start.
    pub boot: Boot,
}

/// A message between servers, as the receiver reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// One of Raft's messages, with its sender's term.
    Raft {
        /// Whom it is for.
        to: Addressee,
        /// The sender's term.
        term: Term,
        /// What it says.
        message: Message,
    },
    /// What the sender stands for.
    Standing(Standing),
    /// About the transfer of a snapshot.
    Snapshot {
        /// Whom it is for.
        to: Addressee,
        /// Which snapshot.
        snapshot: SnapshotId,
        /// What it says.
        message: SnapshotMessage,
    },
}

#[derive(Serialize, Deserialize)]
struct SnapshotBody<'a> {
    to: Addressee,
    snapshot: SnapshotId,
    #[serde(borrow)]
    message: SnapshotMessageBody<'a>,
}

/// The numbers of the variants are part of the protocol.
#[derive(Serialize, Deserialize)]
enum SnapshotMessageBody<'a> {
    Want {
        offset: u64,
        until: u64,
    },
    Allow {
        until: u64,
    },
    Chunk {
        offset: u64,
        checksum: u32,
        #[serde(borrow)]
        content: Raw<'a>,
    },
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct RaftBody<'a> {
    to: Addressee,
    term: Term,
    #[serde(borrow)]
    message: MessageBody<'a>,
}

/// The numbers of the variants are part of the protocol: new ones go to the end.
#[derive(Serialize, Deserialize)]
enum MessageBody<'a> {
    PreVoteRequest {
        campaign: Term,
        last: Position,
    },
    PreVoteGranted {
        campaign: Term,
    },
    PreVoteRefused {
        campaign: Term,
    },
    VoteRequest {
        last: Position,
        cause: Cause,
    },
    VoteGranted,
    VoteRefused,
    Append {
        previous: Position,
        commit: Index,
        round: u64,
        #[serde(borrow)]
        entries: Vec<EntryBody<'a>>,
    },
    AppendAccepted {
        matched: Index,
    },
    AppendRejected {
        previous: Index,
        hint: Position,
    },
    TermIsOver,
    RoundEcho {
        round: u64,
    },
    ReadIndexRequest {
        boot: Boot,
        counter: u64,
    },
    ReadIndexAnswer {
        boot: Boot,
        counter: u64,
        index: Index,
    },
    TimeoutNow {
        last: Position,
    },
    AppendAcceptedInPart {
        matched: Index,
        verified: Index,
    },
    RepairRequest {
        positions: Vec<Position>,
    },
    RepairAnswer {
        compacted: Index,
        lacking: Vec<Position>,
        #[serde(borrow)]
        entries: Vec<PlacedEntryBody<'a>>,
    },
    SnapshotOffer {
        snapshot: SnapshotId,
    },
    SnapshotRequest {
        after: Index,
    },
}

/// Entries follow each other, so only the first one's place is told, by `previous`.
#[derive(Serialize, Deserialize)]
struct EntryBody<'a> {
    term: Term,
    kind: EntryKind,
    checksum: u32,
    #[serde(borrow)]
    payload: Raw<'a>,
}

/// An entry that stands alone, and so says where.
#[derive(Serialize, Deserialize)]
struct PlacedEntryBody<'a> {
    index: Index,
    #[serde(borrow)]
    entry: EntryBody<'a>,
}

/// Appends one of Raft's messages as a frame.
///
/// # Errors
/// The frame would be longer than frames may be.
pub fn encode_raft(
    out: &mut BytesMut,
    to: Addressee,
    term: Term,
    message: &Message,
) -> Result<(), FrameError> {
    let message = to_body(message);
    frame::encode_with(out, RAFT, 0, FRAME_BYTES_MAX, |out| {
        codec::append(out, &RaftBody { to, term, message });
    })
}

/// Appends what this server stands for as a frame.
///
/// # Errors
/// The frame would be longer than frames may be.
pub fn encode_standing(out: &mut BytesMut, standing: &Standing) -> Result<(), FrameError> {
    frame::encode_with(out, STANDING, 0, FRAME_BYTES_MAX, |out| codec::append(out, standing))
}

/// Appends a message about a snapshot as a frame.
///
/// # Errors
/// The frame would be longer than frames may be.
pub fn encode_snapshot(
    out: &mut BytesMut,
    to: Addressee,
    snapshot: SnapshotId,
    message: &SnapshotMessage,
) -> Result<(), FrameError> {
    let message = match message {
        SnapshotMessage::Want { offset, until } => {
            SnapshotMessageBody::Want { offset: *offset, until: *until }
        }
        SnapshotMessage::Allow { until } => SnapshotMessageBody::Allow { until: *until },
        SnapshotMessage::Chunk { offset, content } => SnapshotMessageBody::Chunk {
            offset: *offset,
            checksum: content.checksum,
            content: Raw(&content.bytes),
        },
        SnapshotMessage::Damaged => SnapshotMessageBody::Damaged,
    };
    frame::encode_with(out, SNAPSHOT, 0, FRAME_BYTES_MAX, |out| {
        codec::append(out, &SnapshotBody { to, snapshot, message });
    })
}

/// Reads a frame between servers. Payloads share the frame's body.
///
/// # Errors
/// The frame is no such message, or a payload is not what its checksum says.
pub fn decode(frame: &Frame) -> Result<PeerMessage, DecodeError> {
    decode_keeping(frame, &mut |payload| frame.body.slice_ref(payload))
}

/// The same, with the payloads of entries as `keep` makes them of the bytes in the frame.
///
/// # Errors
/// As above.
pub fn decode_keeping(
    frame: &Frame,
    keep: &mut dyn FnMut(&[u8]) -> Bytes,
) -> Result<PeerMessage, DecodeError> {
    match frame.kind {
        STANDING => {
            let standing = codec::exact("Standing", &frame.body)?;
            check_standing(&standing)?;
            Ok(PeerMessage::Standing(standing))
        }
        RAFT => {
            let body: RaftBody<'_> = codec::exact("a Raft message", &frame.body)?;
            let message = from_body(body.message, keep)?;
            Ok(PeerMessage::Raft { to: body.to, term: body.term, message })
        }
        SNAPSHOT => {
            let body: SnapshotBody<'_> = codec::exact("a snapshot message", &frame.body)?;
            let message = from_snapshot_body(body.message, &frame.body)?;
            Ok(PeerMessage::Snapshot { to: body.to, snapshot: body.snapshot, message })
        }
        Kind(kind) => Err(DecodeError::UnknownKind { kind }),
    }
}

/// What others say of themselves is remembered, so its texts are limited.
fn check_standing(standing: &Standing) -> Result<(), DecodeError> {
    // Configurations with longer addresses than there can be are not decoded.
    let check_charter = |charter: &Charter| check_cluster_name("a charter", &charter.name);
    match standing {
        Standing::Joining { address } => check_address(address),
        Standing::Founded(founded) => check_charter(&founded.charter),
        Standing::Empty { name, seats } => {
            check_cluster_name("Standing", name)?;
            seats.iter().try_for_each(|seat| check_address(&seat.address))
        }
        Standing::Agreed(charter) => check_charter(charter),
    }
}

fn from_snapshot_body(
    message: SnapshotMessageBody<'_>,
    frame: &Bytes,
) -> Result<SnapshotMessage, DecodeError> {
    Ok(match message {
        SnapshotMessageBody::Want { offset, until } => SnapshotMessage::Want { offset, until },
        SnapshotMessageBody::Allow { until } => SnapshotMessage::Allow { until },
        SnapshotMessageBody::Chunk { offset, checksum, content } => {
            let content = Payload { bytes: content.share(frame), checksum };
            if crc32fast::hash(&content.bytes) != checksum {
                let why = format!("the chunk at {offset} does not match its checksum");
                return Err(DecodeError::Malformed { what: "a snapshot message", why });
            }
            SnapshotMessage::Chunk { offset, content }
        }
        SnapshotMessageBody::Damaged => SnapshotMessage::Damaged,
    })
}

fn to_body<'m>(message: &'m Message) -> MessageBody<'m> {
    match *message {
        Message::PreVoteRequest { campaign, last } => {
            MessageBody::PreVoteRequest { campaign, last }
        }
        Message::PreVoteGranted { campaign } => MessageBody::PreVoteGranted { campaign },
        Message::PreVoteRefused { campaign } => MessageBody::PreVoteRefused { campaign },
        Message::VoteRequest { last, cause } => MessageBody::VoteRequest { last, cause },
        Message::VoteGranted => MessageBody::VoteGranted,
        Message::VoteRefused => MessageBody::VoteRefused,
        Message::Append { previous, ref entries, commit, round } => {
            let entries = entries.iter().map(to_entry_body).collect();
            MessageBody::Append { previous, commit, round, entries }
        }
        Message::AppendAccepted { matched } => MessageBody::AppendAccepted { matched },
        Message::AppendRejected { previous, hint } => {
            MessageBody::AppendRejected { previous, hint }
        }
        Message::TermIsOver => MessageBody::TermIsOver,
        Message::RoundEcho { round } => MessageBody::RoundEcho { round },
        Message::ReadIndexRequest { boot, counter } => {
            MessageBody::ReadIndexRequest { boot, counter }
        }
        Message::ReadIndexAnswer { boot, counter, index } => {
            MessageBody::ReadIndexAnswer { boot, counter, index }
        }
        Message::TimeoutNow { last } => MessageBody::TimeoutNow { last },
        Message::AppendAcceptedInPart { matched, verified } => {
            MessageBody::AppendAcceptedInPart { matched, verified }
        }
        Message::RepairRequest { ref positions } => {
            MessageBody::RepairRequest { positions: positions.clone() }
        }
        Message::RepairAnswer { ref entries, ref lacking, compacted } => {
            let placed = |entry: &'m Entry| PlacedEntryBody {
                index: entry.index,
                entry: to_entry_body(entry),
            };
            let entries = entries.iter().map(placed).collect();
            MessageBody::RepairAnswer { compacted, lacking: lacking.clone(), entries }
        }
        Message::SnapshotOffer { snapshot } => MessageBody::SnapshotOffer { snapshot },
        Message::SnapshotRequest { after } => MessageBody::SnapshotRequest { after },
    }
}

fn to_entry_body(entry: &Entry) -> EntryBody<'_> {
    EntryBody {
        term: entry.term,
        kind: entry.kind,
        checksum: entry.payload.checksum,
        payload: Raw(&entry.payload.bytes),
    }
}

fn from_body(
    message: MessageBody<'_>,
    keep: &mut dyn FnMut(&[u8]) -> Bytes,
) -> Result<Message, DecodeError> {
    Ok(match message {
        MessageBody::PreVoteRequest { campaign, last } => {
            Message::PreVoteRequest { campaign, last }
        }
        MessageBody::PreVoteGranted { campaign } => Message::PreVoteGranted { campaign },
        MessageBody::PreVoteRefused { campaign } => Message::PreVoteRefused { campaign },
        MessageBody::VoteRequest { last, cause } => Message::VoteRequest { last, cause },
        MessageBody::VoteGranted => Message::VoteGranted,
        MessageBody::VoteRefused => Message::VoteRefused,
        MessageBody::Append { previous, commit, round, entries } => {
            let entries = to_entries(previous, &entries, keep)?;
            Message::Append { previous, entries, commit, round }
        }
        MessageBody::AppendAccepted { matched } => Message::AppendAccepted { matched },
        MessageBody::AppendRejected { previous, hint } => {
            Message::AppendRejected { previous, hint }
        }
        MessageBody::TermIsOver => Message::TermIsOver,
        MessageBody::RoundEcho { round } => Message::RoundEcho { round },
        MessageBody::ReadIndexRequest { boot, counter } => {
            Message::ReadIndexRequest { boot, counter }
        }
        MessageBody::ReadIndexAnswer { boot, counter, index } => {
            Message::ReadIndexAnswer { boot, counter, index }
        }
        MessageBody::TimeoutNow { last } => Message::TimeoutNow { last },
        MessageBody::AppendAcceptedInPart { matched, verified } => {
            Message::AppendAcceptedInPart { matched, verified }
        }
        MessageBody::RepairRequest { positions } => Message::RepairRequest { positions },
        MessageBody::RepairAnswer { compacted, lacking, entries } => {
            let entries = entries.iter().map(|placed| to_entry(placed.index, &placed.entry, keep));
            Message::RepairAnswer {
                entries: entries.collect::<Result<_, _>>()?,
                lacking,
                compacted,
            }
        }
        MessageBody::SnapshotOffer { snapshot } => Message::SnapshotOffer { snapshot },
        MessageBody::SnapshotRequest { after } => Message::SnapshotRequest { after },
    })
}

/// The entries of an append.
fn to_entries(
    previous: Position,
    bodies: &[EntryBody<'_>],
    keep: &mut dyn FnMut(&[u8]) -> Bytes,
) -> Result<Entries, DecodeError> {
    let mut index = previous.index;
    let mut entries = Vec::with_capacity(bodies.len());
    for body in bodies {
        index = Index(index.0.wrapping_add(1));
        entries.push(to_entry(index, body, keep)?);
    }
    Ok(entries.into())
}

/// An entry, with its payload checked against the checksum that its first encoder gave it: that
/// checksum goes to our disk too, and a wrong one would look like damage there.
fn to_entry(
    index: Index,
    body: &EntryBody<'_>,
    keep: &mut dyn FnMut(&[u8]) -> Bytes,
) -> Result<Entry, DecodeError> {
    let payload = Payload { bytes: keep(body.payload.0), checksum: body.checksum };
    if crc32fast::hash(&payload.bytes) != payload.checksum {
        let why = format!("the payload of entry {index} does not match its checksum");
        return Err(DecodeError::Malformed { what: "a Raft message", why });
    }
    Ok(Entry { index, term: body.term, kind: body.kind, payload })
}
