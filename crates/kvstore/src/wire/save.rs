//! A snapshot of the whole state, as a client asks for it and gets it: what it stands for, the
//! state in parts, and a hash that tells whether all of it came. All parts are of one moment.

use super::frame::{self, FRAME_BYTES_MAX, FrameError, Kind, Message};
use super::request::{Consistency, Route};
use crate::codec::{self, DecodeError, Raw};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// No part holds more of the state.
pub const SAVED_PART_BYTES_MAX: usize = 256 * 1024;

/// Asks for the whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Save {
    /// How much longer the client waits for the first part of the answer, in milliseconds.
    pub timeout_ms: u32,
    /// How fresh the state must be.
    pub consistency: Consistency,
    /// Who may answer.
    pub route: Route,
}

impl Message for Save {
    const KIND: Kind = Kind::SAVE;

    fn encode_body(&self, out: &mut BytesMut) {
        codec::append(out, self);
    }

    fn decode_body(body: &Bytes) -> Result<Save, DecodeError> {
        codec::exact("Save", body)
    }
}

/// One part of the answer: a beginning, parts of the state, an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SavedPart {
    /// What the state stands for.
    Begin {
        /// The last entry that it has applied.
        index: u64,
        /// The term of that entry.
        term: u64,
        /// The members at that entry, in the encoding of snapshots.
        configuration: Bytes,
    },
    /// The next bytes of the state.
    State(Bytes),
    /// There is no more.
    End {
        /// How many bytes the state has.
        state_bytes: u64,
        /// The first half of the SHA-256 over index, term and length of the configuration (eight
        /// bytes each, little endian), the configuration, and the state.
        hash: [u8; 16],
    },
}

#[derive(Serialize, Deserialize)]
enum PartBody<'a> {
    Begin {
        index: u64,
        term: u64,
        #[serde(borrow)]
        configuration: Raw<'a>,
    },
    State(#[serde(borrow)] Raw<'a>),
    End {
        state_bytes: u64,
        hash: [u8; 16],
    },
}

impl Message for SavedPart {
    const KIND: Kind = Kind::SAVED_PART;

    fn encode_body(&self, out: &mut BytesMut) {
        let body = match self {
            SavedPart::Begin { index, term, configuration } => {
                let configuration = Raw(configuration);
                PartBody::Begin { index: *index, term: *term, configuration }
            }
            SavedPart::State(state) => PartBody::State(Raw(state)),
            SavedPart::End { state_bytes, hash } => {
                PartBody::End { state_bytes: *state_bytes, hash: *hash }
            }
        };
        codec::append(out, &body);
    }

    fn decode_body(body: &Bytes) -> Result<SavedPart, DecodeError> {
        Ok(match codec::exact("SavedPart", body)? {
            PartBody::Begin { index, term, configuration } => {
                SavedPart::Begin { index, term, configuration: configuration.share(body) }
            }
            PartBody::State(state) => SavedPart::State(state.share(body)),
            PartBody::End { state_bytes, hash } => SavedPart::End { state_bytes, hash },
        })
    }
}

impl SavedPart {
    /// Appends the part as a frame.
    ///
    /// # Errors
    /// The frame would be longer than frames may be.
    pub fn encode(&self, out: &mut BytesMut, request_id: u64) -> Result<(), FrameError> {
        frame::encode(out, request_id, self, FRAME_BYTES_MAX)
    }
}
