//! The protocol that clients and servers speak, as pure encoding and decoding: nothing here owns
//! a socket, a clock or a task.
//!
//! Bytes travel in frames ([`frame`]). The first frame in each direction is the [`handshake`];
//! after it a client sends [`request`]s and a server answers with [`response`]s, in any order,
//! matched by request id. Bodies are postcard, little endian, without padding.
//!
//! What holds for every decoder here, whatever bytes it is given:
//! - it returns a typed error and never panics;
//! - it allocates no more than a small multiple of the bytes that are already there;
//! - keys, values and commands are slices of the frame, never copies;
//! - bytes left over after a message are an error, so that two implementations cannot disagree
//!   about what was said.
//!
//! Everything is written down byte by byte in `docs/WIRE_PROTOCOL.md`, whose examples a test reads.

pub mod admin;
pub mod frame;
pub mod handshake;
pub mod peer;
pub mod request;
pub mod response;
pub mod save;
#[cfg(test)]
mod tests;

pub use crate::codec::DecodeError;
pub use frame::{Frame, FrameError, Kind, Message};
pub use handshake::{
    Answer, ClusterClaim, Hello, PeerHello, Refused, RefusedReason, Role, Welcome,
};
pub use request::{Consistency, Request, Route};
pub use response::{ErrorCode, LeaderHint, RequestOutcome, Response};

/// The first version of the protocol that this build speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 2;
/// The latest version of the protocol that this build speaks.
pub const PROTOCOL_VERSION_MAX: u16 = 2;
