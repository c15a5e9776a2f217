//! Snapshots for clients. The state is written down on a helper thread, as a stream, and goes out a
//! part at a time, each when the client has taken the one before: what a client can make this
//! server hold is a version of the store and a few parts, and not for longer than it goes on taking
//! them.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use raft::StateMachine;
use raft::node::SnapshotPoint;
use raft::storage::StateHasher;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::core::{Core, Phase};
use crate::store::Store;
use crate::wire::frame::{self, FRAME_BYTES_MAX};
use crate::wire::response::{ErrorCode, ErrorReply};
use crate::wire::save::{SAVED_PART_BYTES_MAX, SavedPart};

/// Snapshots that are sent at once, to all clients together.
const SAVES_MAX: u32 = 4;

/// How many snapshots are being sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Saves(Rc<Cell<u32>>);

impl Saves {
    /// A permit to send one more, unless too many are under way.
    fn begin(&self) -> Option<Permit> {
        let fits = self.0.get() < SAVES_MAX;
        fits.then(|| {
            self.0.set(self.0.get() + 1);
            Permit(Rc::clone(&self.0))
        })
    }
}

/// Lets one snapshot be sent, for as long as it is held.
struct Permit(Rc<Cell<u32>>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Core {
    /// Begins to send the state as it is now.
    pub(super) fn save(&mut self, connection: &Rc<Connection>, request_id: u64) {
        let image = match &self.phase {
            Phase::Running(running) => running.driver.replica().image(),
            _ => None,
        };
        let image = image.filter(|(point, _)| point.position.index.0 > 0);
        let Some((point, image)) = image else {
            let text = "this server has no state yet that could be saved";
            let refusal = ErrorReply::nothing_happened(ErrorCode::NotReady, text);
            return self.answer(connection, request_id, &refusal);
        };
        let Some(permit) = self.saves.begin().filter(|_| connection.begin_stream()) else {
            let text = "too many snapshots are being sent by this server; try again";
            let refusal = ErrorReply::nothing_happened(ErrorCode::Overloaded, text);
            return self.answer(connection, request_id, &refusal);
        };
        let connection = Rc::clone(connection);
        tokio::task::spawn_local(async move {
            send(&connection, request_id, point, image).await;
            connection.end_stream();
            drop(permit);
        });
    }
}

async fn send(connection: &Connection, request_id: u64, point: SnapshotPoint, image: Store) {
    let begin = SavedPart::Begin {
        index: point.position.index.0,
        term: point.position.term.0,
        configuration: point.configuration.encode(),
    };
    // Its writer waits for room, so no more than two parts wait for the client.
    let (sender, mut parts) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || write(&point, image, sender));
    let mut next = Some(Ok(begin));
    while let Some(part) = next {
        let is_last = !matches!(part, Ok(SavedPart::Begin { .. } | SavedPart::State(_)));
        let encoded = connection.outbox.append(|out| match &part {
            Ok(part) => part.encode(out, request_id),
            Err(refusal) => frame::encode(out, request_id, refusal, FRAME_BYTES_MAX),
        });
        match encoded {
            Ok(()) => connection.outbox.flush(),
            Err(_) => connection.outbox.close(),
        }
        if is_last {
            return;
        }
        connection.emptied().await;
        if connection.outbox.is_closed() {
            // The writer finds nobody who takes its parts, and ends.
            return;
        }
        next = parts.recv().await;
    }
    // The writer ended without a word; neither may its client wait.
    connection.outbox.close();
}

/// Writes a state as parts.
fn write(point: &SnapshotPoint, image: Store, parts: mpsc::Sender<Result<SavedPart, ErrorReply>>) {
    let hash = StateHasher::new(point.position, &point.configuration);
    let buffer = BytesMut::new();
    let mut out = PartWriter { parts, hash, state_bytes: 0, buffer };
    let written = <Store as StateMachine>::write(image, &mut out).and_then(|()| out.flush());
    let last = match written {
        Ok(()) => {
            let (state_bytes, hash) = (out.state_bytes, out.hash.finish());
            Ok(SavedPart::End { state_bytes, hash })
        }
        Err(error) => Err(ErrorReply::nothing_happened(ErrorCode::Internal, error.to_string())),
    };
    // A client that has left needs no end.
    let _ = out.parts.blocking_send(last);
}

/// Gathers a stream into parts and waits until each is wanted.
struct PartWriter {
    parts: mpsc::Sender<Result<SavedPart, ErrorReply>>,
    hash: StateHasher,
    state_bytes: u64,
    buffer: BytesMut,
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(SAVED_PART_BYTES_MAX - self.buffer.len());
        let taken_bytes = bytes.get(..taken).unwrap_or_default();
        self.hash.update(taken_bytes);
        self.state_bytes += taken as u64;
        self.buffer.extend_from_slice(taken_bytes);
        if self.buffer.len() >= SAVED_PART_BYTES_MAX {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part: Bytes = std::mem::take(&mut self.buffer).freeze();
        let sent = self.parts.blocking_send(Ok(SavedPart::State(part)));
        sent.map_err(|_| io::Error::other("the client has left"))
    }
}
