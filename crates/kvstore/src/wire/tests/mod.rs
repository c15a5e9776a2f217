//! The protocol: what any bytes do to a decoder, that nothing is lost on the way, and that the
//! examples in the document are what this code says.

mod document;
mod frames;
mod messages;

use super::*;
use crate::wire::frame::FRAME_BYTES_MAX;
use bytes::{Bytes, BytesMut};

fn encoded<M: Message>(request_id: u64, message: &M) -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(&mut out, request_id, message, FRAME_BYTES_MAX).unwrap();
    out
}
