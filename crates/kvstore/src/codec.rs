//! The glue between postcard and our buffers: encoding straight into a `BytesMut`, decoding that
//! borrows from the input, and the one error that the decoders of commands and messages share.

use bytes::{BufMut, Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

/// Why the body of a frame is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No message of this direction has this kind number.
    #[error("no message has the kind {kind:#04x} here")]
    UnknownKind {
        /// The kind byte of the frame.
        kind: u8,
    },
    /// The body of a known kind does not have the shape of that kind.
    #[error("the body of {what} is malformed: {why}")]
    Malformed {
        /// Which message it was meant to be.
        what: &'static str,
        /// What the decoder stumbled over.
        why: String,
    },
    /// The message ended before its body did.
    #[error("{bytes} bytes are left over after {what}")]
    TrailingBytes {
        /// Which message it was.
        what: &'static str,
        /// How many bytes nobody read.
        bytes: u64,
    },
    /// A text or byte string is longer than any that this build lets in.
    #[error("the {part} is too large: {bytes} bytes, limit {bytes_max}")]
    TooLarge {
        /// Which part of the message.
        part: &'static str,
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        bytes_max: u32,
    },
    /// The first bytes of a handshake are not `KVCT`: the other side speaks something else.
    #[error("the other side does not speak this protocol: it does not begin with KVCT")]
    WrongMagic,
}

impl DecodeError {
    pub(crate) fn malformed(what: &'static str, why: impl ToString) -> DecodeError {
        DecodeError::Malformed { what, why: why.to_string() }
    }
}

/// Refuses a part of a message that is longer than it may be.
pub(crate) fn within(part: &'static str, bytes: &[u8], bytes_max: u32) -> Result<(), DecodeError> {
    let bytes = bytes.len() as u64;
    match bytes > u64::from(bytes_max) {
        true => Err(DecodeError::TooLarge { part, bytes, bytes_max }),
        false => Ok(()),
    }
}

/// Lets postcard write at the end of a buffer that already holds other frames.
struct Appending<'a>(&'a mut BytesMut);

impl Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends `value` to `out`.
pub(crate) fn append<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    let written = postcard::serialize_with_flavor(value, Appending(out));
    // Postcard fails only on sequences of unknown length, which none of our types has.
    assert!(written.is_ok(), "a message type must be encodable by postcard: {written:?}");
}

/// Reads a `T` from the start of `input` and returns it with the bytes that follow it.
pub(crate) fn take<'a, T: Deserialize<'a>>(
    what: &'static str,
    input: &'a [u8],
) -> Result<(T, &'a [u8]), DecodeError> {
    postcard::take_from_bytes(input).map_err(|error| DecodeError::malformed(what, error))
}

/// Reads a `T` that must fill `input` to its last byte.
pub(crate) fn exact<'a, T: Deserialize<'a>>(
    what: &'static str,
    input: &'a [u8],
) -> Result<T, DecodeError> {
    let (value, rest) = take(what, input)?;
    match rest.len() {
        0 => Ok(value),
        left => Err(DecodeError::TrailingBytes { what, bytes: left as u64 }),
    }
}

/// A byte string that is written in one piece and read without a copy.
///
/// A plain slice is written byte by byte, as serde takes it for a sequence of numbers. The encoding
/// is the same: a varint length, then the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl Raw<'_> {
    /// The same bytes as a share of `body`, which they must lie in.
    pub(crate) fn share(&self, body: &Bytes) -> Bytes {
        body.slice_ref(self.0)
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Raw<'a>, D::Error> {
        <&'a [u8]>::deserialize(deserializer).map(Raw)
    }
}

/// The same for fields of type `&[u8]`: `#[serde(borrow, with = "codec::raw")]`.
pub(crate) mod raw {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de: 'a, 'a, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<&'a [u8], D::Error> {
        <&'a [u8]>::deserialize(deserializer)
    }
}
