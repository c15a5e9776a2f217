//! The signals by which a user or a system ends a command.

use std::io;

use nix::sys::signal::{SIGHUP, SIGINT, SIGTERM, SigSet, SigmaskHow};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;
use crate::failure::Failure;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Ctrl-C: leave what is being done.
    Interrupt,
    /// SIGTERM, or the end of the terminal: leave altogether.
    End,
}

/// Listens for the signals that end a process. While it exists they no longer do so by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Signals, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Exit::Unexpected, format!("cannot listen for signals: {error}"))
        };
        // The library sets its handler before it notes whom to tell. A signal between the two would
        // neither end the process nor be heard, so signals wait until everything is in place.
        let wanted = [SIGINT, SIGTERM, SIGHUP];
        let held = Held::hold(wanted.into_iter().collect()).map_err(failed)?;
        let signals = Signals {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            hang_up: signal(SignalKind::hangup()).map_err(failed)?,
        };
        drop(held);
        Ok(signals)
    }

    /// Waits for one of them.
    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Interrupt,
            _ = self.terminate.recv() => Wish::End,
            _ = self.hang_up.recv() => Wish::End,
        }
    }
}

/// Signals that this thread does not take for as long as this value exists.
struct Held {
    before: SigSet,
}

impl Held {
    fn hold(signals: SigSet) -> io::Result<Held> {
        let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Held { before })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It fails on a mask that the system did not make; this one it made.
        let _ = self.before.thread_set_mask();
    }
}
