//! Frames: whole, in pieces, damaged and made up.

use super::*;
use crate::wire::frame::{HANDSHAKE_FRAME_BYTES_MAX, HEADER_BYTES};
use proptest::prelude::*;

fn arbitrary_frame() -> impl Strategy<Value = (u8, u64, Vec<u8>)> {
    (any::<u8>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..200))
}

fn append(out: &mut BytesMut, kind: u8, request_id: u64, body: &[u8]) {
    let fill = |out: &mut BytesMut| out.extend_from_slice(body);
    frame::encode_with(out, Kind(kind), request_id, FRAME_BYTES_MAX, fill).unwrap();
}

proptest! {
    #[test]
    fn frames_survive_any_fragmentation(
        frames in prop::collection::vec(arbitrary_frame(), 1..6),
        pieces in prop::collection::vec(1usize..40, 1..20),
    ) {
        let mut stream = BytesMut::new();
        for (kind, request_id, body) in &frames {
            append(&mut stream, *kind, *request_id, body);
        }
        let mut received = Vec::new();
        let mut input = BytesMut::new();
        let mut pieces = pieces.iter().cycle();
        while !stream.is_empty() {
            let piece = stream.split_to((*pieces.next().unwrap()).min(stream.len()));
            input.extend_from_slice(&piece);
            while let Some(frame) = frame::decode(&mut input, FRAME_BYTES_MAX).unwrap() {
                received.push((frame.kind.0, frame.request_id, frame.body.to_vec()));
            }
        }
        prop_assert_eq!(received, frames);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed((kind, id, body) in arbitrary_frame(), at in any::<usize>()) {
        let mut stream = BytesMut::new();
        append(&mut stream, kind, id, &body);
        let bit = at % (stream.len() * 8);
        stream[bit / 8] ^= 1 << (bit % 8);
        // A longer length waits for bytes that will not come; everything else is an error.
        let decoded = frame::decode(&mut stream, FRAME_BYTES_MAX);
        prop_assert!(!matches!(decoded, Ok(Some(_))), "bit {} of {:?}", bit, decoded);
    }

    #[test]
    fn any_bytes_are_frames_or_a_typed_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut input = BytesMut::from(&bytes[..]);
        let before = input.len();
        match frame::decode(&mut input, HANDSHAKE_FRAME_BYTES_MAX) {
            Ok(Some(frame)) => {
                prop_assert_eq!(frame.body.len() + HEADER_BYTES + input.len(), before);
            }
            Ok(None) | Err(_) => prop_assert_eq!(input.len(), before, "nothing is consumed"),
        }
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_by_its_first_four_bytes() {
    let mut input = BytesMut::from(&253u32.to_le_bytes()[..]);
    let capacity = input.capacity();
    assert_eq!(
        frame::decode(&mut input, HANDSHAKE_FRAME_BYTES_MAX),
        Err(FrameError::TooLong { frame_bytes: 257, frame_bytes_max: 256 })
    );
    let mut input_at_limit = BytesMut::from(&252u32.to_le_bytes()[..]);
    assert_eq!(frame::decode(&mut input_at_limit, HANDSHAKE_FRAME_BYTES_MAX), Ok(None));
    assert_eq!(input.capacity(), capacity, "nothing was allocated for what was announced");

    let mut input = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
    let error = frame::decode(&mut input, FRAME_BYTES_MAX).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a frame of 4294967299 bytes, where at most 2101248 are accepted"
    );
}

#[test]
fn a_length_that_does_not_cover_the_header_is_refused() {
    for length in 0..13u32 {
        let mut input = BytesMut::from(&length.to_le_bytes()[..]);
        let error = frame::decode(&mut input, FRAME_BYTES_MAX);
        assert_eq!(error, Err(FrameError::TooShort { length }));
    }
}

#[test]
fn a_body_that_does_not_fit_leaves_the_buffer_as_it_was() {
    let mut out = encoded(7, &request::Status { timeout_ms: 5 });
    let before = out.clone();
    let fill = |out: &mut BytesMut| out.extend_from_slice(&[0; 240]);
    let error = frame::encode_with(&mut out, Kind::GET, 8, HANDSHAKE_FRAME_BYTES_MAX, fill);
    let too_long = FrameError::TooLong { frame_bytes: 257, frame_bytes_max: 256 };
    assert_eq!(error, Err(too_long));
    assert_eq!(out, before);
}

#[test]
fn bodies_share_the_buffer_they_were_read_into() {
    let get = request::Get {
        timeout_ms: 1,
        consistency: Consistency::Stale,
        route: Route::Any,
        key: Bytes::from_static(b"ana"),
    };
    let mut input = encoded(1, &get);
    let buffer = input.as_ptr_range();
    let frame = frame::decode(&mut input, FRAME_BYTES_MAX).unwrap().unwrap();
    let Ok(Request::Get(read)) = Request::decode(&frame) else { panic!("not a get") };
    assert_eq!(read, get);
    assert!(buffer.contains(&read.key.as_ptr()), "the key was copied");
}

#[test]
fn kinds_between_servers_have_numbers_of_their_own() {
    let ours = [
        Kind::HELLO,
        Kind::WELCOME,
        Kind::REFUSED,
        Kind::GET,
        Kind::WRITE,
        Kind::SCAN,
        Kind::STATUS,
        Kind::LOG,
        Kind::VALUE,
        Kind::WRITTEN,
        Kind::SCAN_CHUNK,
        Kind::STATUS_REPORT,
        Kind::LOG_ENTRIES,
        Kind::ERROR,
    ];
    assert!(ours.iter().all(|kind| !kind.is_peer()));
    assert!(ours.windows(2).all(|pair| pair[0] < pair[1]), "no number twice");
    assert!(Kind(0x40).is_peer() && Kind(0x5f).is_peer() && !Kind(0x60).is_peer());
}
