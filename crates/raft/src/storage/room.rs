//! Room in the log, and the segment that comes next: asked for before anything is written, so that
//! no append that was taken fails for want of it.

use std::sync::mpsc;

use super::log_store::{BATCH_MARGIN_BYTES, LogError, LogStore, Successors};
use crate::node::Entry;

/// Counts down to the next attempt at something that failed, longer after every failure.
#[derive(Debug, Default)]
pub(super) struct Patience {
    left: u32,
    pause: u32,
}

impl Patience {
    /// No longer than some seconds of an idle server.
    const PAUSE_MAX: u32 = 256;

    fn is_over(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    fn fail(&mut self) {
        self.pause = (self.pause * 2).clamp(1, Self::PAUSE_MAX);
        self.left = self.pause;
    }
}

impl LogStore {
    /// Bytes of entries, as [`Entry::bytes`] counts them, that may be submitted before the next
    /// [`complete`](Self::complete) and be sure to find their place. A reserve stays out of it: a
    /// full disk must not keep a server from being elected, since then it could not even be read
    /// from.
    ///
    /// Only what is made already counts, so that nothing which is submitted within it can fail for
    /// want of a segment: of space, of open files. Where little is left, the next segment is
    /// waited for; if it cannot be made, the room shrinks, and it is tried again now and then.
    pub fn room(&mut self) -> u64 {
        let reserve = self.reserve();
        let wanted = reserve + self.options.record_bytes_max + Entry::OVERHEAD_BYTES;
        let wanted = wanted.min(self.options.batch_bytes_max);
        if self.broken.is_none() && self.wal.ready_room() < wanted {
            self.broken = self.await_successor(wanted).err();
        }
        self.wal.ready_room().saturating_sub(reserve + self.queued_bytes)
    }

    /// The largest command, in bytes, that finds its place in an empty log: one record, and no
    /// more than a batch has beside the reserve.
    #[must_use]
    pub fn command_bytes_max(&self) -> u64 {
        let batch = self.options.batch_bytes_max;
        let beside = batch.saturating_sub(self.reserve() + Entry::OVERHEAD_BYTES);
        self.options.record_bytes_max.min(beside)
    }

    /// What [`room`](Self::room) leaves out.
    fn reserve(&self) -> u64 {
        ELECTION_RESERVE_BYTES.min(self.options.segment_bytes / 8) + BATCH_MARGIN_BYTES
    }

    /// Waits for the next segment, or makes it here. What can be tried again is no error.
    fn await_successor(&mut self, wanted: u64) -> Result<(), LogError> {
        if let Some(helper) = self.helper.take()
            && let Ok(done) = helper.recv()
        {
            self.take_over(done)?;
        }
        // A disk that is full is cheap to ask, so that it is noticed at once when it is cleared.
        let is_possible = self.wal.ready_room() < wanted && self.wal.room() >= wanted;
        if !is_possible || !self.patience.is_over() {
            return Ok(());
        }
        match self.wal.prepare(wanted) {
            Ok(()) => self.patience = Patience::default(),
            Err(error @ wal::AppendError::Poisoned(_)) => return Err(error.into()),
            Err(_) => self.patience.fail(),
        }
        Ok(())
    }

    /// Takes over what a job made. One that failed (no more open files, say) left the log unharmed
    /// and is offered again; until one succeeds the room shrinks.
    pub(super) fn take_over(&mut self, done: wal::JobDone) -> Result<(), LogError> {
        match self.wal.finish_job(done) {
            Err(wal::WalError::Job(_)) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Has the next segment made ready, where one is wanted, and takes it over when it is.
    pub(super) fn make_successor(&mut self) -> Result<(), LogError> {
        match self.helper.as_ref().map(mpsc::Receiver::try_recv) {
            Some(Ok(done)) => {
                self.helper = None;
                self.take_over(done)?;
            }
            // The helper ended without a result; the next commit offers the job again.
            Some(Err(mpsc::TryRecvError::Disconnected)) => self.helper = None,
            Some(Err(mpsc::TryRecvError::Empty)) | None => {}
        }
        if self.helper.is_some() {
            return Ok(());
        }
        let Some(job) = self.wal.take_job() else { return Ok(()) };
        match self.successors {
            Successors::Inline => self.take_over(job.run())?,
            Successors::Thread => {
                let (sender, receiver) = mpsc::sync_channel(1);
                let helper = std::thread::Builder::new().name("log-segment".into());
                let spawned = helper.spawn(move || {
                    // A log that is gone by then needs no successor.
                    let _ = sender.send(job.run());
                });
                // Without a thread the job is lost, and offered again.
                self.helper = spawned.ok().map(|_| receiver);
            }
        }
        Ok(())
    }
}

/// Kept free of commands, for the empty entries of new leaders: some two thousand elections.
const ELECTION_RESERVE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use wal::sim_disk::{Fault, OperationKind, SimDisk};

    use super::super::flusher::Flushes;
    use super::super::log_store::{Basis, LogOptions};
    use super::super::snapshot_store::SnapshotOptions;
    use super::super::suspect::Suspects;
    use super::*;
    use crate::node::{
        Append, Configuration, Entries, EntryKind, HardState, Index, Payload, Term, Ticket,
    };

    fn append(index: u64, bytes: usize) -> Append {
        let payload = Payload::new(vec![b'x'; bytes]);
        let (index, term) = (Index(index), Term(1));
        Append {
            ticket: Ticket(index.0),
            hard_state: None,
            reset: None,
            truncate_after: None,
            entries: Entry { index, term, kind: EntryKind::Command, payload }.into(),
            repairs: Vec::new(),
        }
    }

    #[test]
    fn without_open_files_for_the_next_segment_the_room_shrinks_and_comes_back() {
        const TOO_MANY_OPEN_FILES: Fault = Fault::Error(24);
        let medium = SimDisk::new();
        let options = LogOptions {
            wal: wal::Options::with_segment_bytes(64 * 1024),
            recent_bytes_max: 1 << 20,
            successors: Successors::Inline,
            snapshots: SnapshotOptions::default(),
            flushes: Flushes::Inline,
        };
        let none = Suspects::Segments(Vec::new());
        LogStore::found(medium.disk(), &options, &Configuration::default()).unwrap();
        for after in 0..10_000 {
            medium.inject(after, Some(OperationKind::Create), TOO_MANY_OPEN_FILES);
        }
        let (mut store, _) =
            LogStore::open(medium.disk(), &options, Basis::Nothing, &none).unwrap();
        let mut index = 1;
        let bytes = 1000 + Entry::OVERHEAD_BYTES;
        while store.room() >= bytes {
            index += 1;
            store.submit(append(index, 1000)).unwrap();
            assert_eq!(store.complete().unwrap(), [Ticket(index)]);
        }
        assert!(index > 20, "what was made already was used: {index}");
        for term in 2..20 {
            let hard_state = Some(HardState { term: Term(term), vote: None });
            let ticket = Ticket(term);
            let vote = Append { ticket, hard_state, entries: Entries::default(), ..append(1, 0) };
            store.submit(vote).unwrap();
            assert_eq!(store.complete().unwrap(), [ticket], "votes are recorded all the same");
        }
        assert!(store.room() < bytes);
        medium.clear_faults();
        let attempts = (0..=Patience::PAUSE_MAX).take_while(|_| store.room() < bytes).count();
        assert!(store.room() >= bytes, "still none after {attempts} attempts");
        store.submit(append(index + 1, 1000)).unwrap();
        store.complete().unwrap();
        drop(store);
        let (mut store, _) =
            LogStore::open(medium.disk(), &options, Basis::Nothing, &none).unwrap();
        let state = store.durable_state(0, Index(0)).unwrap();
        assert_eq!(state.last.index, Index(index + 1));
    }
}
