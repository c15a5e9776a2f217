//! Messages: there and back, and what made-up bodies do.

use super::*;
use crate::store::{KeyState, Outcome, Refusal, Reply, Revision};
use crate::wire::admin::{Change, MemberChange, Transfer};
use crate::wire::handshake::{Timing, VersionRange};
use crate::wire::request::{Content, Order, Selection};
use crate::wire::response::*;
use crate::wire::save::{Save, SavedPart};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn consistency() -> impl Strategy<Value = Consistency> {
    prop_oneof![Just(Consistency::Linearizable), Just(Consistency::Stale)]
}

fn route() -> impl Strategy<Value = Route> {
    prop_oneof![Just(Route::Any), Just(Route::LeaderOnly)]
}

fn get() -> impl Strategy<Value = Request> {
    (any::<u32>(), consistency(), route(), bytes()).prop_map(
        |(timeout_ms, consistency, route, key)| {
            Request::Get(request::Get { timeout_ms, consistency, route, key })
        },
    )
}

fn write() -> impl Strategy<Value = Request> {
    (any::<u32>(), route(), bytes()).prop_map(|(timeout_ms, route, command)| {
        Request::Write(request::Write { timeout_ms, route, command })
    })
}

fn scan() -> impl Strategy<Value = Request> {
    let selection = prop_oneof![
        bytes().prop_map(Selection::Prefix),
        (bytes(), prop::option::of(bytes())).prop_map(|(from, to)| Selection::Range { from, to }),
    ];
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    let content = prop_oneof![
        Just(Content::KeysAndValues),
        Just(Content::KeysOnly),
        Just(Content::CountOnly)
    ];
    let limit = any::<Option<u64>>();
    let how = (any::<u32>(), consistency(), route(), order, content, limit);
    (how, selection, prop::option::of(bytes())).prop_map(|(how, selection, after)| {
        let (timeout_ms, consistency, route, order, content, limit) = how;
        Request::Scan(request::Scan {
            timeout_ms,
            consistency,
            route,
            order,
            content,
            limit,
            selection,
            after,
        })
    })
}

fn change() -> impl Strategy<Value = Request> {
    let id = || "[a-z0-9]{0,5}";
    let address = || prop::option::of("[a-z0-9:]{0,9}");
    let change = prop_oneof![
        (id(), address()).prop_map(|(id, address)| MemberChange::AddVoter { id, address }),
        (id(), address()).prop_map(|(id, address)| MemberChange::AddLearner { id, address }),
        id().prop_map(|id| MemberChange::Promote { id }),
        id().prop_map(|id| MemberChange::Remove { id }),
        (id(), id(), address()).prop_map(|(old, new, address)| MemberChange::Replace {
            old,
            new,
            address
        }),
    ];
    (any::<u32>(), change)
        .prop_map(|(timeout_ms, change)| Request::Change(Change { timeout_ms, change }))
}

fn any_request() -> impl Strategy<Value = Request> {
    let status =
        any::<u32>().prop_map(|timeout_ms| Request::Status(request::Status { timeout_ms }));
    let log = any::<(u32, u64, u32)>().prop_map(|(timeout_ms, from, limit)| {
        Request::Log(request::Log { timeout_ms, from, limit })
    });
    let transfer = (any::<u32>(), prop::option::of("[a-z0-9]{0,5}"))
        .prop_map(|(timeout_ms, to)| Request::Transfer(Transfer { timeout_ms, to }));
    let save =
        (any::<u32>(), consistency(), route()).prop_map(|(timeout_ms, consistency, route)| {
            Request::Save(Save { timeout_ms, consistency, route })
        });
    prop_oneof![get(), write(), scan(), status, log, change(), transfer, save]
}

fn state() -> impl Strategy<Value = KeyState> {
    any::<(u64, u64, u64)>().prop_map(|(create, modified, version)| KeyState {
        create_revision: Revision(create),
        mod_revision: Revision(modified),
        version,
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let refusal = prop_oneof![
        any::<u64>().prop_map(|it| Refusal::SessionExpired { evicted_start_max: it }),
        any::<(u64, u64)>().prop_map(|(start, index)| Refusal::SessionStart { start, index }),
        any::<u64>().prop_map(|sequence| Refusal::SequenceReused { sequence }),
        any::<(u64, u64)>().prop_map(|(sequence, lowest_unanswered)| {
            Refusal::BelowMark { sequence, lowest_unanswered }
        }),
        any::<(u64, u64, u64)>().prop_map(|(sequence, lowest_unanswered, session_window_max)| {
            Refusal::WindowFull { sequence, lowest_unanswered, session_window_max }
        }),
        any::<(u64, u64)>().prop_map(|(live_bytes, live_bytes_max)| {
            Refusal::Full { live_bytes, live_bytes_max }
        }),
    ];
    prop_oneof![
        state().prop_map(Outcome::Set),
        any::<u64>().prop_map(|keys| Outcome::Deleted { keys }),
        prop::option::of(state()).prop_map(|found| Outcome::ConditionFailed { found }),
        refusal.prop_map(Outcome::Refused),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (bytes(), bytes(), state()).prop_map(|(key, value, state)| Entry { key, value, state })
}

fn error() -> impl Strategy<Value = ErrorReply> {
    let code = prop_oneof![
        Just(ErrorCode::NotLeader),
        Just(ErrorCode::Overloaded),
        Just(ErrorCode::Internal)
    ];
    let outcome = prop_oneof![Just(RequestOutcome::NothingHappened), Just(RequestOutcome::Unknown)];
    let leader = (".{0,9}", ".{0,9}", any::<u64>()).prop_map(|(id, address, term)| LeaderHint {
        id,
        address,
        term,
    });
    let server = any::<u64>().prop_map(|term| ServerState { role: ServerRole::Candidate, term });
    (code, outcome, prop::option::of(server), prop::option::of(leader), ".{0,30}").prop_map(
        |(code, outcome, server, leader, text)| ErrorReply { code, outcome, server, leader, text },
    )
}

fn any_response() -> impl Strategy<Value = Response> {
    let found = (state(), bytes()).prop_map(|(state, value)| Found { state, value });
    let value = (any::<u64>(), prop::option::of(found)).prop_map(|(revision, found)| {
        Response::Value(Value { revision: Revision(revision), found })
    });
    let written = (any::<u64>(), outcome()).prop_map(|(revision, outcome)| {
        Response::Written(Reply { revision: Revision(revision), outcome })
    });
    let end = prop_oneof![
        Just(ChunkEnd::Continues),
        Just(ChunkEnd::Complete),
        Just(ChunkEnd::LimitReached)
    ];
    let chunk = (end, any::<u64>(), any::<Option<u64>>(), prop::collection::vec(entry(), 0..5))
        .prop_map(|(end, revision, count, entries)| {
            Response::ScanChunk(ScanChunk { end, revision: Revision(revision), count, entries })
        });
    let log_entry = (any::<u64>(), any::<u64>(), ".{0,30}")
        .prop_map(|(index, term, text)| LogEntry { index, term, kind: EntryKind::Command, text });
    let log = (any::<(u64, u64, u64)>(), prop::collection::vec(log_entry, 0..5)).prop_map(
        |((first, last, commit), entries)| {
            Response::LogEntries(LogEntries { first, last, commit, entries })
        },
    );
    let part = prop_oneof![
        (any::<u64>(), any::<u64>(), bytes()).prop_map(|(index, term, configuration)| {
            SavedPart::Begin { index, term, configuration }
        }),
        bytes().prop_map(SavedPart::State),
        any::<(u64, [u8; 16])>()
            .prop_map(|(state_bytes, hash)| SavedPart::End { state_bytes, hash }),
    ];
    let part = part.prop_map(Response::SavedPart);
    prop_oneof![value, written, chunk, log, part, error().prop_map(Response::Error)]
}

proptest! {
    #[test]
    fn every_request_arrives_as_it_was_sent(request in any_request(), id in any::<u64>()) {
        let mut out = BytesMut::new();
        request.encode(&mut out, id).unwrap();
        let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
        prop_assert_eq!(frame.request_id, id);
        prop_assert_eq!(Request::decode(&frame), Ok(request));
    }

    #[test]
    fn every_response_arrives_as_it_was_sent(response in any_response(), id in any::<u64>()) {
        let mut out = BytesMut::new();
        response.encode(&mut out, id).unwrap();
        let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
        prop_assert_eq!((frame.request_id, frame.kind), (id, response.kind()));
        prop_assert_eq!(Response::decode(&frame), Ok(response));
    }

    #[test]
    fn a_body_with_a_byte_too_many_is_refused(request in any_request()) {
        prop_assume!(!matches!(request, Request::Write(_)));
        let mut out = BytesMut::new();
        request.encode(&mut out, 1).unwrap();
        let mut frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
        frame.body = [&frame.body[..], b"\0"].concat().into();
        let refused = Request::decode(&frame);
        let trailing = matches!(refused, Err(DecodeError::TrailingBytes { bytes: 1, .. }));
        prop_assert!(trailing, "{:?}", refused);
    }

    #[test]
    fn any_body_is_a_message_or_a_typed_error(
        kind in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let frame = Frame { kind: Kind(kind), request_id: 1, body: Bytes::from(body) };
        let _ = Request::decode(&frame);
        let _ = Response::decode(&frame);
        let _ = Hello::decode_body(&frame.body);
        let _ = Answer::decode(frame.kind, &frame.body);
    }

    #[test]
    fn a_handshake_with_anything_behind_its_magic_is_read_or_refused(
        body in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let body = Bytes::from([&b"KVCT"[..], &body].concat());
        let _ = Hello::decode_body(&body);
        let _ = Welcome::decode_body(&body);
        let _ = Refused::decode_body(&body);
    }
}

const TIMING: Timing =
    Timing { heartbeat_ms: u32::MAX, election_min_ms: u32::MAX, election_max_ms: u32::MAX };

const AGE: handshake::Age = handshake::Age { boot: u64::MAX, nonce: u64::MAX, term: u64::MAX };

#[test]
fn the_largest_handshake_fits_into_its_frame() {
    let peer = PeerHello {
        cluster: "c".repeat(handshake::CLUSTER_NAME_BYTES_MAX),
        cluster_id: Some([0xff; 16]),
        node: "n".repeat(handshake::NODE_ID_BYTES_MAX),
        incarnation: u64::MAX,
        age: AGE,
        timing: TIMING,
        to: "t".repeat(handshake::NODE_ID_BYTES_MAX),
        to_incarnation: Some(u64::MAX),
    };
    let hello = Hello { versions: VersionRange::OURS, role: Role::Peer(peer.clone()) };
    let welcome = Welcome {
        version: u16::MAX,
        node: peer.node,
        cluster: peer.cluster,
        cluster_id: peer.cluster_id,
        incarnation: u64::MAX,
        age: AGE,
        commit: u64::MAX,
        timing: TIMING,
    };
    let reason = RefusedReason::RolledBack { seen: AGE };
    let refused = Refused::new(reason, "é".repeat(1000));
    assert_eq!(refused.text.len(), handshake::REFUSAL_TEXT_BYTES_MAX);
    let limit = frame::HANDSHAKE_FRAME_BYTES_MAX as usize;
    assert!(encoded(0, &hello).len() <= limit);
    assert!(encoded(0, &welcome).len() <= limit);
    assert!(encoded(0, &refused).len() <= limit);
}

#[test]
fn a_handshake_is_checked() {
    let name = |bytes| Hello {
        versions: VersionRange::OURS,
        role: Role::Client(ClusterClaim::Name("c".repeat(bytes))),
    };
    let read = |hello: &Hello| {
        let mut body = BytesMut::new();
        hello.encode_body(&mut body);
        Hello::decode_body(&body.freeze())
    };
    assert_eq!(read(&name(64)), Ok(name(64)));
    let error = read(&name(65)).unwrap_err().to_string();
    assert_eq!(error, "the body of Hello is malformed: a cluster name of 65 bytes, limit 64");
    let wrong = Bytes::from_static(b"GET / HTTP/1.1");
    assert_eq!(Hello::decode_body(&wrong), Err(DecodeError::WrongMagic));
}

#[test]
fn builds_that_share_no_version_can_still_tell() {
    let newer = VersionRange { min: 7, max: 9 };
    assert_eq!(VersionRange::OURS.common(newer), None);
    assert_eq!(newer.common(VersionRange { min: 1, max: 8 }), Some(8));
    let body = Bytes::from_static(b"KVCT\x07\x00\x09\x00what only version 7 knows");
    assert_eq!(Hello::peek_versions(&body), Ok(newer));
}

#[test]
fn a_reason_from_the_future_is_kept() {
    let body = Bytes::from_static(b"KVCT\xc8the moon is wrong");
    let refused = Refused::decode_body(&body).unwrap();
    assert_eq!(refused.reason, RefusedReason::Other(200));
    assert_eq!(refused.to_string(), "the moon is wrong");
}

#[test]
fn a_scan_is_cut_into_chunks_that_fit() {
    let keys: Vec<Vec<u8>> = (0..1000u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let value = vec![7u8; 1000];
    let revision = Revision(5);
    let state = KeyState { create_revision: revision, mod_revision: revision, version: 1 };
    let entries = || keys.iter().map(|key| crate::store::EntryRef { key, value: &value, state });

    let mut received = Vec::new();
    let mut chunks = 0;
    loop {
        let mut out = BytesMut::new();
        let rest = entries().skip(received.len());
        let progress = encode_scan_chunk(&mut out, 3, revision, rest, None).unwrap();
        assert!(out.len() <= SCAN_CHUNK_BYTES_MAX);
        let frame = frame::decode(&mut out, FRAME_BYTES_MAX).unwrap().unwrap();
        let Ok(Response::ScanChunk(chunk)) = Response::decode(&frame) else { panic!("no chunk") };
        assert_eq!((chunk.end, chunk.entries.len() as u64), (progress.end, progress.entries));
        assert_eq!(chunk.entries.last().map(|entry| &entry.key[..]), progress.last_key);
        received.extend(chunk.entries);
        chunks += 1;
        if progress.end != ChunkEnd::Continues {
            break;
        }
    }
    assert_eq!(chunks, 4);
    assert!(received.iter().map(|entry| &entry.key[..]).eq(keys.iter().map(|key| &key[..])));

    let mut out = BytesMut::new();
    let end = |limit, out: &mut BytesMut| {
        encode_scan_chunk(out, 3, revision, entries().take(3), Some(limit)).unwrap().end
    };
    assert_eq!(end(2, &mut out), ChunkEnd::LimitReached);
    assert_eq!(end(3, &mut out), ChunkEnd::Complete, "the limit was just enough");
}

#[test]
fn an_entry_larger_than_a_chunk_has_one_to_itself() {
    let value = vec![7u8; 1 << 20];
    let revision = Revision(5);
    let state = KeyState { create_revision: revision, mod_revision: revision, version: 1 };
    let entry = |key| crate::store::EntryRef { key, value: &value, state };
    let entries = [entry(&b"a"[..]), entry(b"b")];
    let mut out = BytesMut::new();
    let progress = encode_scan_chunk(&mut out, 3, revision, entries.into_iter(), None).unwrap();
    assert_eq!((progress.end, progress.entries), (ChunkEnd::Continues, 1));
}

#[test]
fn a_follower_says_sorry() {
    let server = ServerState { role: ServerRole::Follower, term: 6 };
    let leader = LeaderHint { id: "s1".to_owned(), address: "127.0.0.1:10000".to_owned(), term: 6 };
    assert_eq!(
        ErrorReply::not_leader(server, Some(leader)).to_string(),
        "Sorry, I am not the leader. \
         Last leader I heard from is: s1 (127.0.0.1:10000, term 6)"
    );
    assert_eq!(
        ErrorReply::not_leader(server, None).to_string(),
        "Sorry, I am not the leader. I have heard from none yet."
    );
}
