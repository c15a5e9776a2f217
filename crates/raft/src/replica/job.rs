//! Long work on snapshots. A replica hands it out; its owner runs it wherever nobody waits for it
//! (a helper thread, or a later step of a simulation) and brings the result back. The replica never
//! depends on when that is.

use bytes::Bytes;

use crate::node::{Configuration, Member, SnapshotId, SnapshotPoint};
use crate::state_machine::StateMachine;
use crate::storage::{SnapshotError, SnapshotStore};

/// Work to be run by the owner of a replica, on any thread, and brought back with
/// [`Replica::finish_job`](super::Replica::finish_job). Until it is run or dropped, the data
/// directory stays locked.
pub struct Job<M: StateMachine> {
    pub(super) store: SnapshotStore,
    pub(super) work: Work<M>,
}

/// A job that was run.
pub struct JobDone<M: StateMachine> {
    pub(super) outcome: Outcome<M>,
}

pub(super) enum Work<M: StateMachine> {
    /// Writes the state as a snapshot.
    Write { point: SnapshotPoint, image: M::Image },
    /// Removes snapshots that nobody needs.
    Prune { needed: Vec<SnapshotId> },
    /// Removes a received snapshot that came too late.
    Discard(SnapshotId),
    /// Reads a snapshot again that somebody found to be damaged.
    Check(SnapshotId),
    /// Reads a part of a snapshot, to be sent.
    ReadChunk { to: Member, snapshot: SnapshotId, offset: u64, bytes: u64 },
    /// Finds out how much of a snapshot is here already.
    BeginReceiving(SnapshotId),
    /// Writes a part of a snapshot that is being received.
    WritePiece { snapshot: SnapshotId, offset: u64, pieces: Vec<Bytes> },
    /// Makes a state machine of a snapshot that was received.
    FinishReceiving(SnapshotId),
    /// Lets go of a state machine, which takes time in proportion to its size.
    Drop(M),
}

pub(super) enum Outcome<M: StateMachine> {
    Written(Result<SnapshotId, SnapshotError>),
    Checked(SnapshotId, Result<(), SnapshotError>),
    ChunkRead(Member, SnapshotId, u64, Result<Vec<u8>, SnapshotError>),
    Begun(SnapshotId, Result<u64, SnapshotError>),
    PieceWritten(SnapshotId, u64, Result<(), SnapshotError>),
    Restored(SnapshotId, Result<(Configuration, M), SnapshotError>),
    Discarded,
    /// Nobody waits for it.
    Tidied,
}

impl<M: StateMachine> Job<M> {
    /// Does the work. It may take as long as reading or writing the whole state.
    #[must_use = "the replica goes on only when the job is brought back"]
    pub fn run(self) -> JobDone<M> {
        let Self { store, work } = self;
        let outcome = match work {
            Work::Write { point, image } => Outcome::Written(store.write::<M>(&point, image)),
            Work::Prune { needed } => {
                // What stays is removed with the next one.
                let _ = store.prune(&needed);
                Outcome::Tidied
            }
            Work::Discard(snapshot) => {
                let _ = store.discard_received(snapshot);
                Outcome::Discarded
            }
            Work::Check(snapshot) => Outcome::Checked(snapshot, store.check(snapshot)),
            Work::ReadChunk { to, snapshot, offset, bytes } => {
                let read = store.read_chunk(snapshot, offset, bytes);
                Outcome::ChunkRead(to, snapshot, offset, read)
            }
            Work::BeginReceiving(snapshot) => {
                Outcome::Begun(snapshot, store.begin_receiving(snapshot))
            }
            Work::WritePiece { snapshot, offset, pieces } => {
                let end = offset + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
                let written = store.write_piece(snapshot, offset, &pieces);
                Outcome::PieceWritten(snapshot, end, written)
            }
            Work::FinishReceiving(snapshot) => {
                Outcome::Restored(snapshot, store.finish_receiving(snapshot))
            }
            Work::Drop(machine) => {
                drop(machine);
                Outcome::Tidied
            }
        };
        JobDone { outcome }
    }
}
