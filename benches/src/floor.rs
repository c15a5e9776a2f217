//! The least that the machine must do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;

use crate::log::Syncs;
use crate::measure::{Side, Slice, alone, closed_loop, counted};
use crate::{Error, Result};

/// Writes bytes one after another into a file of zeros: what any log must do at the very least.
/// It knows no format, no checksum and no recovery, and uses its one file over and over.
#[derive(Debug)]
pub struct RawLog {
    file: File,
    offset: u64,
    capacity: u64,
}

impl RawLog {
    /// A file of `capacity` bytes, all zeros and durable, so that no write changes its size.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, capacity: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        let mut filled = 0;
        while filled < capacity {
            let portion = zeros.get(..usize::try_from(capacity - filled).unwrap_or(zeros.len()));
            let portion = portion.unwrap_or(&zeros);
            file.write_all_at(portion, filled)?;
            filled += portion.len() as u64;
        }
        file.sync_all()?;
        Ok(Self { file, offset: 0, capacity })
    }

    /// Writes `bytes` and waits until they are durable. At the end of the file it begins anew.
    ///
    /// # Errors
    /// The write or the sync failed.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)?;
        self.sync()
    }

    /// Writes `bytes` and leaves them to the operating system.
    ///
    /// # Errors
    /// The write failed.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        if self.offset + length > self.capacity {
            self.offset = 0;
        }
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += length;
        Ok(())
    }

    /// Waits until everything that was written is durable.
    ///
    /// # Errors
    /// The sync failed.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }
}

/// Many writers on a [`RawLog`]: each hands its bytes to one thread, which writes and syncs
/// everything that was handed to it while it was busy. A mutex, condition variables, no format.
#[derive(Debug)]
pub struct Handoff {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Those of even and of odd batches wait apart, so that nobody is woken for nothing.
    done: [Condvar; 2],
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<u8>,
    /// The batch that is being filled; those before it are written or being written.
    batch: u64,
    durable: u64,
    /// The writing thread waits for work, and nobody has called it yet.
    is_idle: bool,
    is_stopping: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, batch: u64) -> &Condvar {
        let [even, odd] = &self.done;
        if batch.is_multiple_of(2) { even } else { odd }
    }
}

impl Handoff {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(log: RawLog) -> io::Result<Handoff> {
        let state = State { batch: 1, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), ..Shared::default() });
        let writer = Arc::clone(&shared);
        let thread = thread::Builder::new().spawn(move || write_all(&writer, log))?;
        Ok(Handoff { shared, thread: Some(thread) })
    }

    /// Hands over `bytes` and waits until they are durable.
    ///
    /// # Errors
    /// The writing thread has failed.
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.shared.lock();
        let batch = state.batch;
        state.queue.extend_from_slice(bytes);
        if std::mem::take(&mut state.is_idle) {
            // Whoever is woken must not find the mutex taken: that costs another switch.
            drop(state);
            self.shared.work.notify_one();
            state = self.shared.lock();
        }
        while state.durable < batch {
            if state.is_stopping {
                return Err(io::Error::other("the writing thread has ended"));
            }
            state = wait(self.shared.done(batch), state);
        }
        Ok(())
    }
}

impl Drop for Handoff {
    fn drop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.work.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn wait<'s>(on: &Condvar, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
    on.wait(state).unwrap_or_else(PoisonError::into_inner)
}

fn write_all(shared: &Shared, mut log: RawLog) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut state = shared.lock();
    loop {
        if !state.queue.is_empty() {
            std::mem::swap(&mut buffer, &mut state.queue);
            let batch = state.batch;
            state.batch += 1;
            drop(state);
            let written = log.append(&buffer);
            buffer.clear();
            state = shared.lock();
            if let Err(error) = written {
                state.is_stopping = true;
                shared.done.iter().for_each(Condvar::notify_all);
                return Err(error);
            }
            state.durable = batch;
            // Those who are woken get the mutex first and hand over their next bytes, which makes
            // the next batch larger. Calling them with the mutex held halves the throughput.
            drop(state);
            shared.done(batch).notify_all();
            state = shared.lock();
        } else if state.is_stopping {
            return Ok(());
        } else {
            state.is_idle = true;
            state = wait(&shared.work, state);
            state.is_idle = false;
        }
    }
}

/// The floor of synced appends by many writers.
#[derive(Debug)]
pub struct SyncedFloor {
    handoff: Handoff,
    writers: usize,
    payload: Bytes,
}

impl SyncedFloor {
    /// Starts on a file of `capacity` bytes that is made here.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn start(path: &Path, capacity: u64, writers: usize, payload: Bytes) -> Result<Self> {
        let handoff = Handoff::start(RawLog::create(path, capacity)?)?;
        Ok(SyncedFloor { handoff, writers, payload })
    }
}

impl Side for SyncedFloor {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let SyncedFloor { handoff, writers, payload } = self;
        closed_loop(*writers, length, |_| handoff.append(payload).map_err(Error::from))
    }
}

/// The floor of appends by one thread that owns the log.
#[derive(Debug)]
pub struct OwnedFloor {
    log: RawLog,
    bytes: Vec<u8>,
    entries: u64,
    syncs: Syncs,
}

impl OwnedFloor {
    /// Makes a file of `capacity` bytes, to append to it `entries` payloads at a time.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn make(
        path: &Path,
        capacity: u64,
        entries: u64,
        payload: &Bytes,
        syncs: Syncs,
    ) -> Result<Self> {
        let bytes = payload.repeat(usize::try_from(entries)?);
        Ok(OwnedFloor { log: RawLog::create(path, capacity)?, bytes, entries, syncs })
    }
}

impl Side for OwnedFloor {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let OwnedFloor { log, bytes, entries, syncs } = self;
        let slice = match *syncs {
            Syncs::Always => alone(length, || Ok(log.append(bytes)?)),
            Syncs::Never { batches } => counted(batches, || Ok(log.write(bytes)?)),
        };
        Ok(slice?.times(*entries))
    }

    /// Leaves clean pages behind, so that the next slice dirties them anew.
    fn settle(&mut self) -> Result<()> {
        Ok(self.log.sync()?)
    }
}
