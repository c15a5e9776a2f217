//! What servers say to each other: Raft's messages, and what they stand for while one of them is in
//! no cluster. A connection mostly carries them one way, from the server that connected; answers
//! come on the connection that the other side made, or on this one if there is none.
//!
//! Each frame names the incarnation and the boot of the server it was written for. A message that
//! was queued for an earlier life must not be taken by a later one.

use super::frame::{self, FRAME_BYTES_MAX, Frame, FrameError, Kind};
use super::handshake::check_address;
use crate::codec::{self, DecodeError, Raw};
use bytes::{Bytes, BytesMut};
use raft::founding::Standing;
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
    match frame.kind {
        STANDING => {
            let standing = codec::exact("Standing", &frame.body)?;
            check_standing(&standing)?;
            Ok(PeerMessage::Standing(standing))
        }
        RAFT => {
            let body: RaftBody<'_> = codec::exact("a Raft message", &frame.body)?;
            let message = from_body(body.message, &frame.body)?;
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
    match standing {
        Standing::Joining { address } => check_address(address),
        Standing::Founded(founded) => {
            let mut addresses = founded.members.addresses();
            addresses.try_for_each(|(_, address)| check_address(address))
        }
        Standing::Empty { seats, .. } => {
            seats.iter().try_for_each(|seat| check_address(&seat.address))
        }
        Standing::Agreed(charter) => {
            let mut addresses = charter.configuration.addresses();
            addresses.try_for_each(|(_, address)| check_address(address))
        }
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

fn from_body(message: MessageBody<'_>, frame: &Bytes) -> Result<Message, DecodeError> {
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
            let entries = to_entries(previous, &entries, frame)?;
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
            let entries = entries.iter().map(|placed| to_entry(placed.index, &placed.entry, frame));
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
    frame: &Bytes,
) -> Result<Entries, DecodeError> {
    let mut index = previous.index;
    let mut entries = Vec::with_capacity(bodies.len());
    for body in bodies {
        index = Index(index.0.wrapping_add(1));
        entries.push(to_entry(index, body, frame)?);
    }
    Ok(entries.into())
}

/// An entry, with its payload checked against the checksum that its first encoder gave it: that
/// checksum goes to our disk too, and a wrong one would look like damage there.
fn to_entry(index: Index, body: &EntryBody<'_>, frame: &Bytes) -> Result<Entry, DecodeError> {
    let payload = Payload { bytes: body.payload.share(frame), checksum: body.checksum };
    if crc32fast::hash(&payload.bytes) != payload.checksum {
        let why = format!("the payload of entry {index} does not match its checksum");
        return Err(DecodeError::Malformed { what: "a Raft message", why });
    }
    Ok(Entry { index, term: body.term, kind: body.kind, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::founding::{Charter, Founded};
    use raft::node::{Configuration, Member, NodeId, Voter};

    const TO: Addressee = Addressee { incarnation: Incarnation(300), boot: Boot(2) };

    fn round_trip(message: Message) -> BytesMut {
        let mut out = BytesMut::new();
        encode_raft(&mut out, TO, Term(9), &message).unwrap();
        let encoded = out.clone();
        let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
        let expected = PeerMessage::Raft { to: TO, term: Term(9), message };
        assert_eq!(decode(&frame), Ok(expected));
        encoded
    }

    fn at(index: u64, term: u64) -> Position {
        Position { index: Index(index), term: Term(term) }
    }

    fn append(payload: &'static [u8]) -> Message {
        let entry = |index, kind, payload| Entry {
            index: Index(index),
            term: Term(8),
            kind,
            payload: Payload::new(payload),
        };
        let empty = entry(6, EntryKind::Empty, Bytes::new());
        let command = entry(7, EntryKind::Command, Bytes::from_static(payload));
        let entries = vec![empty, command].into();
        Message::Append { previous: at(5, 7), entries, commit: Index(4), round: 3 }
    }

    #[test]
    fn every_message_survives_its_encoding() {
        let (campaign, last) = (Term(10), at(5, 7));
        let (boot, counter) = (Boot(2), 77);
        let messages = [
            Message::PreVoteRequest { campaign, last },
            Message::PreVoteGranted { campaign },
            Message::PreVoteRefused { campaign },
            Message::VoteRequest { last, cause: Cause::Silence },
            Message::TimeoutNow { last },
            Message::VoteGranted,
            Message::VoteRefused,
            append(b"x"),
            Message::AppendAccepted { matched: Index(5) },
            Message::AppendRejected { previous: Index(5), hint: at(3, 2) },
            Message::TermIsOver,
            Message::RoundEcho { round: 6 },
            Message::ReadIndexRequest { boot, counter },
            Message::ReadIndexAnswer { boot, counter, index: Index(5) },
            Message::AppendAcceptedInPart { matched: Index(3), verified: Index(5) },
            Message::RepairRequest { positions: vec![at(3, 2), at(5, 7)] },
            repair_answer(b"x"),
            Message::SnapshotOffer { snapshot: snapshot() },
            Message::SnapshotRequest { after: Index(5) },
        ];
        for message in messages {
            round_trip(message);
        }
    }

    #[test]
    fn an_append_has_these_very_bytes() {
        let encoded = round_trip(append(b"hi"));
        let body = &encoded[frame::HEADER_BYTES..];
        assert_eq!(
            body,
            [
                0xac, 0x02, 2, 9, // for incarnation 300, boot 2; in term 9
                6, 5, 7, 4, 3, // an append after 5@7, commit 4, round 3
                2, 8, 0, 0, 0, // two entries: term 8, empty, checksum 0, no payload
                8, 1, 0xac, 0xd5, 0xcc, 0xc4, 0x0d, 2, b'h', b'i',
            ]
        );
    }

    fn repair_answer(payload: &'static [u8]) -> Message {
        let payload = Payload::new(payload);
        let entry = Entry { index: Index(3), term: Term(2), kind: EntryKind::Command, payload };
        Message::RepairAnswer { entries: vec![entry], lacking: vec![at(5, 7)], compacted: Index(1) }
    }

    #[test]
    fn an_answer_to_a_damaged_server_has_these_very_bytes() {
        let encoded = round_trip(repair_answer(b"hi"));
        let body = &encoded[frame::HEADER_BYTES..];
        assert_eq!(
            body,
            [
                0xac, 0x02, 2, 9, // for incarnation 300, boot 2; in term 9
                16, 1, // an answer; its log begins after 1
                1, 5, 7, // it lacks one entry, 5@7
                1, 3, 2, 1, 0xac, 0xd5, 0xcc, 0xc4, 0x0d, 2, b'h',
                b'i', // it has 3@2, a command
            ]
        );
    }

    fn snapshot() -> SnapshotId {
        SnapshotId { position: at(300, 8), bytes: 70_000, hash: *b"0123456789abcdef" }
    }

    fn encode_chunk(content: Payload) -> BytesMut {
        let message = SnapshotMessage::Chunk { offset: 5, content };
        let mut out = BytesMut::new();
        encode_snapshot(&mut out, TO, snapshot(), &message).unwrap();
        out
    }

    #[test]
    fn what_is_said_about_snapshots_survives_its_encoding() {
        let messages = [
            SnapshotMessage::Want { offset: 5, until: 900 },
            SnapshotMessage::Allow { until: 900 },
            SnapshotMessage::Chunk { offset: 5, content: Payload::new("hi") },
            SnapshotMessage::Damaged,
        ];
        for message in messages {
            let mut out = BytesMut::new();
            encode_snapshot(&mut out, TO, snapshot(), &message).unwrap();
            let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
            let snapshot = snapshot();
            assert_eq!(decode(&frame), Ok(PeerMessage::Snapshot { to: TO, snapshot, message }));
        }
    }

    #[test]
    fn a_chunk_has_these_very_bytes_and_a_wrong_one_is_refused() {
        let encoded = encode_chunk(Payload::new("hi"));
        let expected: Vec<u8> = [
            &[0xac, 0x02, 2][..],               // for incarnation 300, boot 2
            &[0xac, 0x02, 8, 0xf0, 0xa2, 0x04], // the snapshot at 300@8 of 70,000 bytes
            b"0123456789abcdef",                // and this hash
            &[2, 5],                            // a chunk at 5
            &[0xac, 0xd5, 0xcc, 0xc4, 0x0d, 2], // its checksum and length
            b"hi",
        ]
        .concat();
        assert_eq!(&encoded[frame::HEADER_BYTES..], expected);
        let mut wrong = encode_chunk(Payload { checksum: 1, ..Payload::new("hi") });
        let frame = frame::decode(&mut wrong, FRAME_BYTES_MAX).unwrap().unwrap();
        assert!(matches!(decode(&frame), Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn what_hands_leadership_over_has_these_very_bytes() {
        let last = at(300, 8);
        let timeout_now = round_trip(Message::TimeoutNow { last });
        assert_eq!(timeout_now[frame::HEADER_BYTES..], [0xac, 0x02, 2, 9, 13, 0xac, 0x02, 8]);
        let request = round_trip(Message::VoteRequest { last, cause: Cause::Transfer });
        assert_eq!(request[frame::HEADER_BYTES..], [0xac, 0x02, 2, 9, 3, 0xac, 0x02, 8, 1]);
    }

    #[test]
    fn a_payload_that_does_not_match_its_checksum_is_refused() {
        let Message::Append { previous, entries, commit, round } = append(b"x") else {
            unreachable!()
        };
        let mut entries = entries.to_vec();
        entries[1].payload.checksum ^= 1;
        let mut out = BytesMut::new();
        let message = Message::Append { previous, entries: entries.into(), commit, round };
        encode_raft(&mut out, TO, Term(9), &message).unwrap();
        let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
        assert!(matches!(decode(&frame), Err(DecodeError::Malformed { .. })));
    }

    #[test]
    fn a_standing_survives_its_encoding_in_these_very_bytes() {
        let member = Member { id: NodeId::new("s1").unwrap(), incarnation: Incarnation(3) };
        let seat = raft::founding::Seat { id: member.id, address: "127.0.0.1:1".into() };
        let voter = Voter { member, address: seat.address.clone() };
        let configuration = Configuration::new(vec![voter]).unwrap();
        let charter = Charter { name: "demo".into(), configuration: configuration.clone() };
        let founded =
            Founded { charter: charter.clone(), members: configuration, since: Some(Index(9)) };
        let address = seat.address.clone();
        for (standing, bytes) in [
            (
                Standing::Empty { name: "demo".into(), seats: vec![seat] },
                b"\x00\x04demo\x01\x02s1\x0b127.0.0.1:1".as_slice(),
            ),
            (Standing::Agreed(charter), b"\x01\x04demo\x01\x02s1\x03\x0b127.0.0.1:1"),
            (
                Standing::Founded(founded),
                b"\x02\x04demo\x01\x02s1\x03\x0b127.0.0.1:1\x12\x01\x01\x02s1\x03\x0b127.0.0.1:1\
                    \x01\x09",
            ),
            (Standing::Joining { address }, b"\x03\x0b127.0.0.1:1"),
        ] {
            let mut out = BytesMut::new();
            encode_standing(&mut out, &standing).unwrap();
            assert_eq!(&out[frame::HEADER_BYTES..], bytes, "{standing:?}");
            let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
            assert_eq!(decode(&frame), Ok(PeerMessage::Standing(standing)));
        }
    }
}
