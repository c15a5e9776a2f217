//! A log shared by many threads: one thread commits, and takes along everything that was appended
//! while its last fdatasync ran. There is no timer: an idle log commits at once, a busy one groups
//! by itself.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, Builder, JoinHandle};

use crate::entry::{Append, Entry, Position, Ticket};
use crate::error::{AppendError, Failure, WalError};
use crate::locked::{locked, wait};
use crate::staged::bytes_max;
use crate::successor::Job;
use crate::wal::Wal;

/// An append that comes this near to the end of a segment waits for the successor that is being
/// made. It is what the log keeps for records without entries while it has no successor; in small
/// segments that is a sixteenth.
const NEAR_END_BYTES: u64 = 64 * 1024;

/// Owns a [`Wal`] together with a thread that commits it and one that makes segments ahead.
///
/// A ticket completes only when a sync that *started* after its bytes were written has returned.
/// After a failure every waiter, present and future, is told the same cause.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The committing thread waits here for something to commit.
    work: Condvar,
    /// Callers wait here for their batch, those of even and of odd ones apart, so that a batch
    /// that completes does not wake those of the next.
    done: [Condvar; 2],
    /// Callers whose append belongs into the next segment wait here until it is made.
    made: Condvar,
}

#[derive(Debug)]
struct State {
    wal: Option<Wal>,
    /// The number of the batch that is being staged.
    batch: u64,
    /// The newest ticket in the batch that is being written.
    writing: Option<Ticket>,
    /// The committing thread sleeps, and nobody has called it yet.
    is_idle: bool,
    is_stopping: bool,
}

/// What the committing thread tells its observer.
pub type CommitOutcome = Result<Ticket, WalError>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn done(&self, batch: u64) -> &Condvar {
        let [even, odd] = &self.done;
        if batch.is_multiple_of(2) { even } else { odd }
    }

    /// Lets `act` do something to the log, and wakes whoever waits for what came of it.
    ///
    /// Not only the committing thread makes tickets durable: staging commits in place when a batch
    /// is full, and what cuts away everything staged leaves nothing to be written.
    fn act<T>(&self, state: &mut State, act: impl FnOnce(&mut Wal) -> T) -> Option<T> {
        let wal = state.wal.as_mut()?;
        let before = (wal.durable_ticket(), wal.poison.is_some());
        let result = act(wal);
        if before != (wal.durable_ticket(), wal.poison.is_some()) {
            self.done.iter().for_each(Condvar::notify_all);
            self.made.notify_all();
        }
        Some(result)
    }

    /// Lets go of the state and calls the committing thread, in this order: called while the
    /// mutex is taken, it would wake only to sleep again. One caller calls for all.
    fn release(&self, mut state: MutexGuard<'_, State>) {
        let is_idle = std::mem::take(&mut state.is_idle);
        drop(state);
        if is_idle {
            self.work.notify_one();
        }
    }

    fn wake_everyone(&self) {
        self.work.notify_all();
        self.done.iter().for_each(Condvar::notify_all);
        self.made.notify_all();
    }
}

impl Wal {
    /// Whether an append should wait for the segment that a job is making, or will be as soon as
    /// the flush that is out has returned.
    ///
    /// Without waiting the log would take the claim from the job and make the segment itself: all
    /// that the job has written would be written again, and everyone would stand still meanwhile.
    fn awaits_successor(&self, append: &Append) -> bool {
        let is_coming = match &self.making {
            Some(claim) => claim.is_shared(),
            None => self.in_flight.is_some() && !self.is_making_paused,
        };
        if self.spare.is_some() || !is_coming {
            return false;
        }
        let count = self.staged.count(self.last.index).saturating_add(append.entries.len() as u64);
        let added: u64 = append.entries.iter().map(Entry::payload_bytes).sum();
        let bytes = bytes_max(count, self.staged.payload_bytes.saturating_add(added));
        let near = NEAR_END_BYTES.min(self.active.capacity / 16);
        let kept = if append.entries.is_empty() { 0 } else { near };
        append.reset.is_some() || bytes.saturating_add(kept) > self.active.left()
    }
}

impl Committer {
    /// Takes over a log. `observer` is called on the committing thread after every commit, for
    /// callers that do not wait but want to be told; it must not call back into the committer.
    pub fn start(
        wal: Wal,
        observer: impl FnMut(CommitOutcome) + Send + 'static,
    ) -> io::Result<Committer> {
        let state =
            State { wal: Some(wal), batch: 0, writing: None, is_idle: false, is_stopping: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: [Condvar::new(), Condvar::new()],
            made: Condvar::new(),
        });
        let (jobs, orders) = channel();
        let mut committer = Committer { shared: Arc::clone(&shared), threads: Vec::new() };
        let maker = Arc::clone(&shared);
        let make = Builder::new().name("wal-segments".into()).spawn(move || {
            let _last_words = LastWords { shared: &maker };
            run_jobs(&maker, &orders);
        });
        committer.threads.push(make?);
        let commit = Builder::new().name("wal-commit".into()).spawn(move || {
            let _last_words = LastWords { shared: &shared };
            commit_all(&shared, observer, &jobs);
        });
        committer.threads.push(commit?);
        Ok(committer)
    }

    /// Stages what `build` makes of the last position in the log, which no other caller can move
    /// meanwhile. If it has to wait, for the disk to catch up or for the next segment, `build` is
    /// called again.
    pub fn append(&self, mut build: impl FnMut(Position) -> Append) -> Result<Ticket, AppendError> {
        let mut state = self.shared.lock();
        loop {
            let Some(wal) = &state.wal else {
                return Err(AppendError::Stopped);
            };
            let append = build(wal.last());
            // A poisoned log refuses at once; what it waits for may never come back.
            let is_poisoned = wal.poison.is_some();
            if !is_poisoned && wal.awaits_successor(&append) {
                state = wait(&self.shared.made, state);
                continue;
            }
            if is_poisoned || wal.fits_behind_flush(&append) {
                let staged = self.shared.act(&mut state, |wal| wal.stage(append));
                self.shared.release(state);
                return staged.unwrap_or(Err(AppendError::Stopped));
            }
            // The batch that is being staged is full, so the one before it must complete first.
            let before = state.batch.saturating_sub(1);
            state = wait(self.shared.done(before), state);
        }
    }

    /// Waits until everything up to a ticket is durable.
    pub fn wait(&self, ticket: Ticket) -> Result<(), WalError> {
        let mut state = self.shared.lock();
        loop {
            let Some(wal) = &state.wal else { return Err(WalError::Stopped) };
            if wal.durable_ticket() >= ticket {
                return Ok(());
            }
            wal.check_poison()?;
            let is_writing = state.writing.is_some_and(|writing| ticket <= writing);
            let batch = if is_writing { state.batch.saturating_sub(1) } else { state.batch };
            state = wait(self.shared.done(batch), state);
        }
    }

    /// Looks at the log, or stages more than [`append`](Committer::append) can: a prefix removal,
    /// whose ticket can be [waited](Committer::wait) for. Everyone else waits meanwhile. `None` if
    /// the committer was stopped.
    pub fn with<T>(&self, look: impl FnOnce(&mut Wal) -> T) -> Option<T> {
        let mut state = self.shared.lock();
        let seen = self.shared.act(&mut state, look);
        self.shared.release(state);
        seen
    }

    /// Commits what is staged, ends the threads, and gives the log back.
    pub fn stop(mut self) -> Result<Wal, WalError> {
        self.join();
        let wal = self.shared.lock().wal.take().ok_or(WalError::Stopped)?;
        wal.check_poison()?;
        Ok(wal)
    }

    fn join(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.wake_everyone();
        // The committing thread ends first: it holds the other one's orders.
        while let Some(thread) = self.threads.pop() {
            // A thread that panicked has printed why, and has left the log as after a crash.
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.join();
        self.shared.lock().wal = None;
        self.shared.wake_everyone();
    }
}

/// Poisons the log if the thread that holds it panics: nobody would ever wake those who wait, and
/// what the log has in memory may be half done.
struct LastWords<'s> {
    shared: &'s Shared,
}

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        if let Some(wal) = &mut self.shared.lock().wal {
            let cause = io::Error::other("a thread that serves the log panicked");
            let failure = Failure::new("serve", wal.path(), cause);
            wal.poison.get_or_insert(failure);
        }
        self.shared.wake_everyone();
    }
}

/// The committing thread.
fn commit_all(shared: &Shared, mut observer: impl FnMut(CommitOutcome), jobs: &Sender<Job>) {
    let mut state = shared.lock();
    loop {
        let begun = shared.act(&mut state, |wal| {
            if let Some(job) = wal.take_job() {
                // Nobody receives only when everything is about to end.
                let _ = jobs.send(job);
            }
            wal.begin_commit()
        });
        let Some(begun) = begun else { return };
        let flush = match begun {
            Ok(Some(flush)) => flush,
            Ok(None) if state.is_stopping => return,
            Ok(None) => {
                state.is_idle = true;
                state = wait(&shared.work, state);
                state.is_idle = false;
                continue;
            }
            Err(error) => {
                drop(state);
                observer(Err(error));
                shared.wake_everyone();
                return;
            }
        };
        let batch = state.batch;
        state.batch = batch.saturating_add(1);
        state.writing = state.wal.as_ref().map(Wal::newest_ticket);
        drop(state);
        let done = flush.run();
        state = shared.lock();
        state.writing = None;
        let Some(wal) = &mut state.wal else { return };
        let outcome = wal.finish_commit(done);
        drop(state);
        shared.done(batch).notify_all();
        let is_over = outcome.is_err();
        observer(outcome);
        if is_over {
            shared.wake_everyone();
            return;
        }
        state = shared.lock();
    }
}

/// The thread that makes segments ahead and removes old ones.
fn run_jobs(shared: &Shared, orders: &Receiver<Job>) {
    for job in orders {
        let done = job.run();
        let mut state = shared.lock();
        // A poisoned log has told everyone by itself. Any other failure costs time only: the log
        // makes its segment itself, and what was not removed goes at the next opening.
        if shared.act(&mut state, |wal| wal.finish_job(done)).is_none() {
            return;
        }
        shared.release(state);
        shared.made.notify_all();
    }
}
