//! Where the disk is waited for: on the log's own thread, on another, or whenever its owner says.
//! It is the same contract each time: an append that was submitted completes at once or later.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};

use wal::{Flush, FlushDone};

/// Where a log waits for its disk.
#[derive(Clone, Debug)]
pub enum Flushes {
    /// On its own thread, which stands still meanwhile. There is no hand-over between threads in
    /// the way of a write, and what comes while the disk works shares the next write.
    Inline,
    /// On a thread of its own, which wakes the log's owner when a write is done.
    Thread(Waker),
    /// Nowhere, until the owner runs them: a simulation decides how late a disk is.
    ByOwner,
}

/// Has the owner of a log look after it soon. May be called on any thread.
#[derive(Clone)]
pub struct Waker {
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { wake: Arc::new(wake) }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// Takes one write at a time to the disk.
#[derive(Debug)]
pub(super) struct Flusher {
    way: Way,
    /// A write was taken away and not brought back.
    is_out: bool,
}

#[derive(Debug)]
enum Way {
    Thread { orders: mpsc::Sender<Flush>, done: Arc<Slot> },
    ByOwner { waiting: Option<Flush>, done: Option<FlushDone> },
}

/// A write that is done, until its log takes it.
#[derive(Debug, Default)]
struct Slot {
    state: Mutex<SlotState>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct SlotState {
    done: Option<FlushDone>,
    /// The thread has ended; nothing more will be done.
    is_deserted: bool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the log if its thread ends, by a panic too: it must not wait for ever.
struct Desertion {
    slot: Arc<Slot>,
    waker: Waker,
}

impl Drop for Desertion {
    fn drop(&mut self) {
        self.slot.lock().is_deserted = true;
        self.slot.filled.notify_all();
        (self.waker.wake)();
    }
}

impl Flusher {
    /// A flusher that works this way; none for a log that waits in place, or where there can be no
    /// thread.
    pub(super) fn start(flushes: &Flushes) -> Option<Self> {
        let way = match flushes {
            Flushes::Inline => None,
            Flushes::ByOwner => Some(Way::ByOwner { waiting: None, done: None }),
            Flushes::Thread(waker) => start_thread(waker.clone()),
        };
        way.map(|way| Self { way, is_out: false })
    }

    /// Whether a write is on its way, or done and not yet taken back.
    pub(super) fn is_out(&self) -> bool {
        self.is_out
    }

    /// Takes a write to the disk.
    pub(super) fn run(&mut self, flush: Flush) {
        assert!(!self.is_out, "one write is under way at a time");
        self.is_out = true;
        match &mut self.way {
            // A thread that is gone has marked the slot; the log finds that.
            Way::Thread { orders, .. } => drop(orders.send(flush)),
            Way::ByOwner { waiting, .. } => *waiting = Some(flush),
        }
    }

    /// Whether a write is done, or never will be.
    pub(super) fn is_done(&self) -> bool {
        self.is_out
            && match &self.way {
                Way::Thread { done, .. } => {
                    let state = done.lock();
                    state.done.is_some() || state.is_deserted
                }
                Way::ByOwner { done, .. } => done.is_some(),
            }
    }

    /// Takes back a write that is done. `None` while there is none, or if its thread is gone.
    pub(super) fn take_done(&mut self) -> Option<FlushDone> {
        let taken = match &mut self.way {
            Way::Thread { done, .. } => done.lock().done.take(),
            Way::ByOwner { done, .. } => done.take(),
        };
        self.is_out &= taken.is_none();
        taken
    }

    /// Waits for the write that is out, if any, and takes it back.
    pub(super) fn wait(&mut self) -> Option<FlushDone> {
        self.run_waiting();
        if let Way::Thread { done, .. } = &self.way
            && self.is_out
        {
            let mut state = done.lock();
            while state.done.is_none() && !state.is_deserted {
                state = done.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        self.take_done()
    }

    /// Runs the write that waits for its owner to say so.
    pub(super) fn run_waiting(&mut self) {
        if let Way::ByOwner { waiting, done } = &mut self.way
            && let Some(flush) = waiting.take()
        {
            *done = Some(flush.run());
        }
    }
}

fn start_thread(waker: Waker) -> Option<Way> {
    let (orders, taken) = mpsc::channel::<Flush>();
    let done = Arc::new(Slot::default());
    let slot = Arc::clone(&done);
    let thread = std::thread::Builder::new().name("log-disk".into()).spawn(move || {
        let Desertion { slot, waker } = &Desertion { slot, waker };
        // It ends when the log is closed.
        for flush in taken {
            let result = flush.run();
            slot.lock().done = Some(result);
            slot.filled.notify_all();
            (waker.wake)();
        }
    });
    thread.ok().map(|_| Way::Thread { orders, done })
}
