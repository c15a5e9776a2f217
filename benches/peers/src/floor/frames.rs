//! Our frames, patched in place: what differs from one to the next is the request's id, the key and
//! the checksum.

use bytes::{Bytes, BytesMut};
use kvstore::store::command::Command;
use kvstore::store::{Condition, KeyState, Operation as StoreOperation, Outcome, Reply, Revision};
use kvstore::wire::frame::{self, HANDSHAKE_FRAME_BYTES_MAX, HEADER_BYTES, Kind};
use kvstore::wire::handshake::{Age, ClusterClaim, Hello, Role, Timing, VersionRange, Welcome};
use kvstore::wire::request::{Get, Write};
use kvstore::wire::response::{Found, Value};
use kvstore::wire::{Consistency, Request, Response, Route};
use load::{Result, value};

/// What a frame is, for those that pass here.
pub(crate) const HELLO: u8 = Kind::HELLO.0;
/// The answer to it.
pub(crate) const WELCOME: u8 = Kind::WELCOME.0;
/// A write.
pub(crate) const WRITE: u8 = Kind::WRITE.0;
/// A read of one key.
pub(crate) const GET: u8 = Kind::GET.0;
/// An answer to either.
pub(crate) const ANSWERS: [u8; 2] = [Kind::WRITTEN.0, Kind::VALUE.0];

/// Where the checksum of a frame is.
const CHECKSUM: std::ops::Range<usize> = 4..8;
/// Where its request id is.
const ID: std::ops::Range<usize> = 9..17;
/// How many digits a key has.
const KEY_DIGITS: usize = 10;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The size of the whole frame.
    pub(crate) bytes: usize,
    pub(crate) kind: u8,
    pub(crate) id: u64,
}

/// The head of the frame at the beginning of `input`, if the whole frame is there. Nothing of it is
/// checked: that would not be the least.
pub(crate) fn head(input: &[u8]) -> Option<Head> {
    let head = input.first_chunk::<HEADER_BYTES>()?;
    let [a, b, c, d, .., id0, id1, id2, id3, id4, id5, id6, id7] = *head;
    let bytes = 4 + u32::from_le_bytes([a, b, c, d]) as usize;
    let id = u64::from_le_bytes([id0, id1, id2, id3, id4, id5, id6, id7]);
    (input.len() >= bytes).then_some(Head { bytes, kind: head[8], id })
}

/// A frame that is sent again and again.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the digits of the key are: in the key itself and in its value.
    keys: Vec<usize>,
}

impl Template {
    fn of(frame: &[u8]) -> Template {
        let windows = frame.windows(KEY_DIGITS).enumerate();
        let keys = windows.filter(|(_, window)| window == KEY).map(|(at, _)| at).collect();
        Template { bytes: frame.to_vec(), keys }
    }

    /// Appends the frame under this id, for this key.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, id: u64, key: u64) {
        self.bytes[ID].copy_from_slice(&id.to_le_bytes());
        for at in &self.keys {
            let mut rest = key;
            for digit in self.bytes[*at..at + KEY_DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&self.bytes[..CHECKSUM.start]);
        checksum.update(&self.bytes[CHECKSUM.end..]);
        self.bytes[CHECKSUM].copy_from_slice(&checksum.finalize().to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }
}

/// The key in a template, before it is patched.
const KEY: &[u8; KEY_DIGITS] = b"0123456789";

/// The same as a number.
const KEY_NUMBER: u64 = 123_456_789;

/// The key that a read asks for: its digits are the last of the frame.
pub(crate) fn key_of(get: &[u8]) -> u64 {
    let digits = get.last_chunk::<KEY_DIGITS>().map_or(&[][..], |digits| digits);
    digits.iter().fold(0, |key, digit| key * 10 + u64::from(digit.wrapping_sub(b'0')))
}

fn key_in_full() -> Bytes {
    [&b"bench/"[..], KEY].concat().into()
}

/// A request to write.
pub(crate) fn write() -> Result<Template> {
    let (key, value) = (key_in_full(), value(KEY_NUMBER, 0));
    let condition = Condition::None;
    let operation = StoreOperation::Set { key: &key, value: &value, condition };
    let command = Command { session: None, operation }.to_bytes();
    let mut frame = BytesMut::new();
    let write = Write { timeout_ms: 5000, route: Route::Any, command };
    Request::Write(write).encode(&mut frame, 0)?;
    Ok(Template::of(&frame))
}

/// A request to read.
pub(crate) fn get() -> Result<Template> {
    let (consistency, route) = (Consistency::Linearizable, Route::Any);
    let get = Get { timeout_ms: 5000, consistency, route, key: key_in_full() };
    let mut frame = BytesMut::new();
    Request::Get(get).encode(&mut frame, 0)?;
    Ok(Template::of(&frame))
}

/// A state of a key whose numbers are as long as they get in a run.
fn state() -> KeyState {
    let (create_revision, mod_revision) = (Revision(50_000), Revision(1_000_000));
    KeyState { create_revision, mod_revision, version: 10 }
}

/// The answer to a write.
pub(crate) fn written() -> Result<Template> {
    let mut frame = BytesMut::new();
    let reply = Reply { revision: Revision(1_000_000), outcome: Outcome::Set(state()) };
    Response::Written(reply).encode(&mut frame, 0)?;
    Ok(Template::of(&frame))
}

/// The answer to a read: the key has the value that it was given first.
pub(crate) fn found() -> Result<Template> {
    let value = Bytes::copy_from_slice(&value(KEY_NUMBER, 0));
    let found = Some(Found { state: state(), value });
    let mut frame = BytesMut::new();
    Response::Value(Value { revision: Revision(1_000_000), found }).encode(&mut frame, 0)?;
    Ok(Template::of(&frame))
}

/// The first frame of a client.
pub(crate) fn hello() -> Result<BytesMut> {
    let hello = Hello { versions: VersionRange::OURS, role: Role::Client(ClusterClaim::Any) };
    let mut frame = BytesMut::new();
    frame::encode(&mut frame, 0, &hello, HANDSHAKE_FRAME_BYTES_MAX)?;
    Ok(frame)
}

/// The first frame of a server.
pub(crate) fn welcome() -> Result<BytesMut> {
    let welcome = Welcome {
        version: VersionRange::OURS.max,
        node: "floor".into(),
        cluster: "floor".into(),
        cluster_id: None,
        incarnation: 1,
        age: Age { boot: 1, nonce: 1, term: 1 },
        commit: 1,
        timing: Timing { heartbeat_ms: 50, election_min_ms: 500, election_max_ms: 1000 },
    };
    let mut frame = BytesMut::new();
    frame::encode(&mut frame, 0, &welcome, HANDSHAKE_FRAME_BYTES_MAX)?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kvstore::wire::frame;
    use kvstore::wire::{Request, Response};

    use super::{GET, WRITE, found, get, head, key_of, write, written};

    #[test]
    fn patched_frames_are_valid() {
        let mut out = Vec::new();
        write().unwrap().append(&mut out, 7, 42);
        get().unwrap().append(&mut out, 8, 43);
        let first = head(&out).unwrap();
        assert_eq!((first.kind, first.id), (WRITE, 7));
        let second = head(&out[first.bytes..]).unwrap();
        assert_eq!((second.kind, second.id), (GET, 8));

        let written = &out[..first.bytes];
        let mut values = written.windows(load::VALUE_BYTES);
        assert!(values.any(|value| load::is_value_of(42, value)), "a write tells its key twice");

        let mut input = BytesMut::from(&out[..]);
        for key in ["bench/0000000042", "bench/0000000043"] {
            let frame = frame::decode(&mut input, frame::FRAME_BYTES_MAX).unwrap().unwrap();
            let request = Request::decode(&frame).unwrap();
            assert!(format!("{request:?}").contains(key), "{request:?}");
        }
    }

    #[test]
    fn a_read_is_answered_with_a_value_of_its_key() {
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        get().unwrap().append(&mut asked, 8, 43);
        found().unwrap().append(&mut answered, 8, key_of(&asked));
        let value = answered.last_chunk::<{ load::VALUE_BYTES }>().unwrap();
        assert!(load::is_value_of(43, value));
    }

    #[test]
    fn answers_are_valid() {
        for mut template in [written().unwrap(), found().unwrap()] {
            let mut out = Vec::new();
            template.append(&mut out, 7, 0);
            assert_eq!(head(&out).map(|head| (head.bytes, head.id)), Some((out.len(), 7)));
            let mut input = BytesMut::from(&out[..]);
            let frame = frame::decode(&mut input, frame::FRAME_BYTES_MAX).unwrap().unwrap();
            Response::decode(&frame).unwrap();
        }
    }
}
