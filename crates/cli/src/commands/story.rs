//! The story of a server on its way to stderr. Whoever reads it may stall: a full pipe, a terminal
//! that was stopped. The server must not wait for that, so a thread of its own writes what a
//! bounded queue holds. What finds no place there is dropped, and counted.

use std::io::Write;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines that wait to be written.
const LINES_MAX: usize = 1024;

/// How long the end of a story is waited for, in case nobody reads it.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes lines, without ever waiting.
pub(super) struct Narrator {
    queue: Mutex<Queue>,
    written: Mutex<Receiver<()>>,
}

struct Queue {
    /// `None` once the story has ended.
    lines: Option<SyncSender<String>>,
    /// Lines that were dropped since the last one that was not.
    dropped: u64,
}

impl Narrator {
    /// Writes to `out`, on a thread of its own.
    pub(super) fn new(mut out: impl Write + Send + 'static) -> Narrator {
        let (lines, queued) = mpsc::sync_channel::<String>(LINES_MAX);
        let (end, written) = mpsc::channel();
        thread::spawn(move || {
            for line in queued {
                // A server goes on when nobody listens to its story any more.
                let _ = out.write_all(line.as_bytes());
            }
            let _ = out.flush();
            // Whoever waits for the end may have given up.
            let _ = end.send(());
        });
        let queue = Mutex::new(Queue { lines: Some(lines), dropped: 0 });
        Narrator { queue, written: Mutex::new(written) }
    }

    /// Has a line written. If lines were dropped before it, `missing` says so in a line of its own.
    pub(super) fn tell(&self, line: String, missing: impl FnOnce(u64) -> String) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Queue { lines: Some(lines), dropped } = &mut *queue else { return };
        if *dropped > 0 {
            match lines.try_send(missing(*dropped)) {
                Ok(()) => *dropped = 0,
                Err(_) => {
                    *dropped += 1;
                    return;
                }
            }
        }
        if let Err(TrySendError::Full(_)) = lines.try_send(line) {
            *dropped += 1;
        }
    }

    /// Ends the story, and waits until it is written, but not for long.
    pub(super) fn end(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).lines = None;
        // Whether it was in time makes no difference.
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = written.recv_timeout(END_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::Sender;

    use super::*;

    /// Lets nothing through before it may, and says when it is asked to for the first time.
    struct Stalled {
        asked: Sender<()>,
        may_go_on: Receiver<()>,
        out: Sender<String>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Only the first time does anybody listen.
            let _ = self.asked.send(());
            // Once nobody stalls it any more, it goes on.
            let _ = self.may_go_on.recv();
            self.out.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_holds_up_nobody_and_is_told_how_much_it_missed() {
        let (go_on, may_go_on) = mpsc::channel();
        let (asked, is_asked) = mpsc::channel();
        let (out, told) = mpsc::channel();
        let narrator = Narrator::new(Stalled { asked, may_go_on, out });
        let missing = |lines| format!("{lines} dropped");
        // The first line is with the reader, the others fill the queue, and seven are too many.
        narrator.tell("0".to_owned(), missing);
        is_asked.recv().unwrap();
        for number in 1..=LINES_MAX + 7 {
            narrator.tell(number.to_string(), missing);
        }
        drop(go_on);
        let first: Vec<String> = told.iter().take(LINES_MAX + 1).collect();
        assert!(first.iter().zip(0..).all(|(line, number)| *line == number.to_string()));
        narrator.tell("after".to_owned(), missing);
        assert_eq!(told.recv().unwrap(), "7 dropped");
        assert_eq!(told.recv().unwrap(), "after");
        narrator.end();
        narrator.tell("too late".to_owned(), missing);
    }
}
