//! How far the reading of a log has come: a bar on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use wal::ReadOnlyDisk;

use crate::args::Global;

/// Between two looks at how far it has come.
const INTERVAL: Duration = Duration::from_millis(80);

/// Does something that reads about `bytes` through a disk, and shows how far it has come.
pub(super) fn shown<T>(
    global: &Global,
    disk: &ReadOnlyDisk,
    bytes: u64,
    work: impl FnOnce() -> T,
) -> T {
    if global.quiet || !io::stderr().is_terminal() {
        return work();
    }
    let bar = ProgressBar::new(bytes);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {percent:>3} %  {binary_bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let before = disk.bytes_read();
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let bar = &bar;
        scope.spawn(move || {
            // It ends when the sender goes, in whatever way the work ended.
            while is_done.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Some bytes are read twice.
                bar.set_position(disk.bytes_read().saturating_sub(before).min(bytes));
            }
            bar.finish_and_clear();
        });
        let result = work();
        drop(done);
        result
    })
}
