//! Messages between servers keep their bytes and their meaning.

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
            1, 3, 2, 1, 0xac, 0xd5, 0xcc, 0xc4, 0x0d, 2, b'h', b'i', // it has 3@2, a command
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
    let Message::Append { previous, entries, commit, round } = append(b"x") else { unreachable!() };
    let mut entries = entries.to_vec();
    entries[1].payload.checksum ^= 1;
    let mut out = BytesMut::new();
    let message = Message::Append { previous, entries: entries.into(), commit, round };
    encode_raft(&mut out, TO, Term(9), &message).unwrap();
    let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
    assert!(matches!(decode(&frame), Err(DecodeError::Malformed { .. })));
}

/// What a cluster of one was founded with.
fn charter(name: &str, address: &str) -> Charter {
    let member = Member { id: NodeId::new("s1").unwrap(), incarnation: Incarnation(3) };
    let voter = Voter { member, address: address.into() };
    Charter { name: name.into(), configuration: Configuration::new(vec![voter]).unwrap() }
}

#[test]
fn a_standing_with_longer_texts_than_there_can_be_is_refused() {
    let (long_name, long_address) = ("n".repeat(65), "a".repeat(260));
    // A configuration has no longer addresses: it is not made of such bytes.
    let long_charter = charter(&long_name, "127.0.0.1:1");
    let members = long_charter.configuration.clone();
    for standing in [
        Standing::Joining { address: long_address },
        Standing::Empty { name: long_name, seats: Vec::new() },
        Standing::Agreed(long_charter.clone()),
        Standing::Founded(Founded { charter: long_charter, members, since: None }),
    ] {
        let mut out = BytesMut::new();
        encode_standing(&mut out, &standing).unwrap();
        let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
        assert!(decode(&frame).is_err(), "{standing:?}");
    }
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
