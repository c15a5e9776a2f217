//! Reads the examples of docs/WIRE_PROTOCOL.md and compares them with what this code encodes. The
//! document can be wrong in no byte.

use super::*;
use crate::store::command::{Command, KEY_BYTES_MAX, SessionId, SessionTag};
use crate::store::{Condition, KeyState, Operation, Outcome, Refusal, Reply, Revision};
use crate::wire::admin::{Change, Changed, MemberChange, Transfer, Transferred};
use crate::wire::handshake::{Age, Timing, VersionRange};
use crate::wire::request::{Content, Order, Selection};
use crate::wire::response;
use crate::wire::response::{
    ChunkEnd, Entry, EntryKind, ErrorReply, Found, LeaderHint, LogEntries, LogEntry, MemberKind,
    SCAN_CHUNK_BYTES_MAX, ScanChunk, ServerRole, ServerState, SnapshotProgress, StatusReport,
    Value,
};
use crate::wire::save::{SAVED_PART_BYTES_MAX, Save, SavedPart};
use raft::node::{
    Configuration, Incarnation, Index, Member, NodeId, Position, SnapshotPoint, Term, Voter,
};
use raft::storage::StateHasher;
use std::collections::BTreeMap;

const DOCUMENT: &str = include_str!("../../../../../docs/WIRE_PROTOCOL.md");

/// The blocks that begin with "```hex NAME": on each line bytes, then perhaps a # and words.
fn examples() -> BTreeMap<String, Vec<u8>> {
    let mut examples = BTreeMap::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```hex ") else { continue };
        let block = lines.by_ref().take_while(|line| *line != "```");
        let digits: String =
            block.map(|line| line.split('#').next().unwrap().replace(' ', "")).collect();
        let bytes: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        assert!(examples.insert(name.to_owned(), bytes).is_none(), "{name} is there twice");
    }
    examples
}

fn command() -> Bytes {
    let session = SessionId { start: 40, nonce: 0x5f2c };
    let tag = SessionTag { session, sequence: 17, lowest_unanswered: 15 };
    let operation = Operation::Set { key: b"ana", value: b"4", condition: Condition::None };
    Command { session: Some(tag), operation }.to_bytes()
}

const STATE: KeyState =
    KeyState { create_revision: Revision(7), mod_revision: Revision(300), version: 2 };
const TIMING: Timing = Timing { heartbeat_ms: 50, election_min_ms: 500, election_max_ms: 1000 };

fn handshakes() -> Vec<(&'static str, BytesMut)> {
    let versions = VersionRange::OURS;
    let client = Role::Client(ClusterClaim::Name("demo".to_owned()));
    let peer = PeerHello {
        cluster: "demo".to_owned(),
        cluster_id: None,
        node: "s2".to_owned(),
        incarnation: 5,
        age: Age { boot: 1, nonce: 300, term: 2 },
        timing: TIMING,
        to: "s1".to_owned(),
        to_incarnation: Some(9),
    };
    let welcome = Welcome {
        version: PROTOCOL_VERSION_MAX,
        node: "s1".to_owned(),
        cluster: "demo".to_owned(),
        cluster_id: Some(*b"0123456789abcdef"),
        incarnation: 9,
        age: Age { boot: 3, nonce: 7, term: 6 },
        commit: 40,
        timing: TIMING,
    };
    let refused = Refused::new(RefusedReason::Cluster, "this is cluster demo");
    let rolled_back = RefusedReason::RolledBack { seen: Age { boot: 7, nonce: 300, term: 2 } };
    let rolled_back = Refused::new(rolled_back, "s2 was rolled back");
    vec![
        ("hello-client", encoded(0, &Hello { versions, role: client })),
        ("hello-peer", encoded(0, &Hello { versions, role: Role::Peer(peer.clone()) })),
        ("hello-snapshots", encoded(0, &Hello { versions, role: Role::Snapshots(peer) })),
        ("welcome", encoded(0, &welcome)),
        ("refused", encoded(0, &refused)),
        ("refused-rolled-back", encoded(0, &rolled_back)),
    ]
}

fn requests() -> Vec<(&'static str, BytesMut)> {
    let (timeout_ms, route) = (5000, Route::Any);
    let consistency = Consistency::Linearizable;
    let key = Bytes::from_static(b"ana");
    let scan = request::Scan {
        timeout_ms,
        consistency,
        route,
        order: Order::Ascending,
        content: Content::KeysAndValues,
        limit: Some(2),
        selection: Selection::Prefix(Bytes::from_static(b"a")),
        after: None,
    };
    let (old, new) = ("s3".to_owned(), "s6".to_owned());
    let change = MemberChange::Replace { old, new, address: None };
    vec![
        ("get", encoded(1, &request::Get { timeout_ms, consistency, route, key })),
        ("write", encoded(2, &request::Write { timeout_ms, route, command: command() })),
        ("scan", encoded(3, &scan)),
        ("status", encoded(4, &request::Status { timeout_ms: 1000 })),
        ("log", encoded(5, &request::Log { timeout_ms: 1000, from: 1, limit: 100 })),
        ("change", encoded(6, &Change { timeout_ms, change })),
        ("transfer", encoded(7, &Transfer { timeout_ms, to: Some("s2".to_owned()) })),
        ("save", encoded(8, &Save { timeout_ms, consistency, route })),
    ]
}

fn status_report() -> StatusReport {
    let address = "127.0.0.1:10000".to_owned();
    let leader = LeaderHint { id: "s1".to_owned(), address: address.clone(), term: 6 };
    let member = response::Member {
        id: "s1".to_owned(),
        address: address.clone(),
        incarnation: 9,
        kind: MemberKind::Voter,
        matched: Some(41),
        heard_ms_ago: None,
        feed: None,
        sending: Some(SnapshotProgress { index: 40, bytes: 200, done_bytes: 100 }),
    };
    StatusReport {
        node: "s1".to_owned(),
        address,
        cluster: "demo".to_owned(),
        cluster_id: None,
        incarnation: 9,
        boot: 3,
        uptime_ms: 100,
        role: ServerRole::Leader,
        term: 6,
        leader: Some(leader),
        revision: Revision(30),
        keys: 2,
        live_bytes: 6,
        sessions: 1,
        commit: 40,
        applied: 40,
        durable: 41,
        last: 41,
        snapshot: 0,
        timing: TIMING,
        members: vec![member],
        joint: true,
        members_committed: false,
        receiving: None,
        warnings: vec!["fsync is off".to_owned()],
    }
}

fn saved_point() -> SnapshotPoint {
    let member = Member { id: NodeId::new("s1").unwrap(), incarnation: Incarnation(9) };
    let voters = vec![Voter { member, address: "127.0.0.1:10000".to_owned() }];
    let configuration = Configuration::new(voters).unwrap();
    SnapshotPoint { position: Position { index: Index(41), term: Term(6) }, configuration }
}

fn saved_begin() -> SavedPart {
    let SnapshotPoint { position, configuration } = saved_point();
    let (index, term) = (position.index.0, position.term.0);
    SavedPart::Begin { index, term, configuration: configuration.encode() }
}

/// The hash of the three parts of the example together.
fn saved_hash() -> [u8; 16] {
    let SnapshotPoint { position, configuration } = saved_point();
    let mut hasher = StateHasher::new(position, &configuration);
    hasher.update(b"kvs");
    hasher.finish()
}

fn responses() -> Vec<(&'static str, BytesMut)> {
    let revision = Revision(300);
    let found = Some(Found { state: STATE, value: Bytes::from_static(b"4") });
    let entry =
        Entry { key: Bytes::from_static(b"ana"), value: Bytes::from_static(b"4"), state: STATE };
    let chunk = ScanChunk { end: ChunkEnd::Complete, revision, count: None, entries: vec![entry] };
    let expired = Outcome::Refused(Refusal::SessionExpired { evicted_start_max: 50 });
    let leader = LeaderHint { id: "s1".into(), address: "127.0.0.1:10000".into(), term: 6 };
    let server = ServerState { role: ServerRole::Follower, term: 6 };
    let logged =
        LogEntry { index: 2, term: 6, kind: EntryKind::Command, text: "set ana 4".to_owned() };
    let log = LogEntries { first: 1, last: 2, commit: 2, entries: vec![logged] };
    vec![
        ("value", encoded(1, &Value { revision, found })),
        ("written", encoded(2, &Reply { revision, outcome: Outcome::Set(STATE) })),
        ("written-refused", encoded(2, &Reply { revision, outcome: expired })),
        ("scan-chunk", encoded(3, &chunk)),
        ("status-report", encoded(4, &status_report())),
        ("log-entries", encoded(5, &log)),
        ("changed", encoded(6, &Changed { commit: 41 })),
        ("transferred", encoded(7, &Transferred { to: "s2".to_owned() })),
        ("saved-begin", encoded(8, &saved_begin())),
        ("saved-state", encoded(8, &SavedPart::State(Bytes::from_static(b"kvs")))),
        ("saved-end", encoded(8, &SavedPart::End { state_bytes: 3, hash: saved_hash() })),
        ("error", encoded(2, &ErrorReply::not_leader(server, Some(leader)))),
    ]
}

#[test]
fn the_examples_in_the_document_are_what_is_spoken() {
    let mut written = examples();
    let spoken = [handshakes(), requests(), responses()].concat();
    for (name, bytes) in spoken.into_iter().chain([("command", BytesMut::from(&command()[..]))]) {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.join(" ");
        let example = written.remove(name).unwrap_or_default();
        assert_eq!(example, bytes, "the example {name} is not {hex}");
    }
    assert!(written.is_empty(), "examples that nothing checks: {:?}", written.keys());
}

#[test]
fn a_status_report_arrives_as_it_was_sent() {
    let mut stream = encoded(4, &status_report());
    let frame = frame::decode(&mut stream, FRAME_BYTES_MAX).unwrap().unwrap();
    assert_eq!(Response::decode(&frame), Ok(Response::Status(Box::new(status_report()))));
}

#[test]
fn the_limits_in_the_document_are_the_ones_enforced() {
    for limit in [
        format!("| frame in a handshake | {} bytes |", frame::HANDSHAKE_FRAME_BYTES_MAX),
        format!("| frame afterwards | {} bytes |", FRAME_BYTES_MAX),
        format!("| server id | {} bytes |", handshake::NODE_ID_BYTES_MAX),
        format!("| address | {} bytes |", handshake::ADDRESS_BYTES_MAX),
        format!("| key in a get | {KEY_BYTES_MAX} bytes |"),
        format!("| cluster name | {} bytes |", handshake::CLUSTER_NAME_BYTES_MAX),
        format!("| text of a refused connection | {} bytes |", handshake::REFUSAL_TEXT_BYTES_MAX),
        format!("| chunk of a scan | {} bytes |", SCAN_CHUNK_BYTES_MAX),
        format!("| state in a part of a snapshot | {} bytes |", SAVED_PART_BYTES_MAX),
    ] {
        assert!(DOCUMENT.contains(&limit), "the document does not say: {limit}");
    }
}
