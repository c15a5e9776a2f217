//! Waiting with an end. Nothing in a suite waits for a time; it waits for something to be true, and
//! fails with what it waited for.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at something that cannot announce itself.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Looks until there is something, for `limit` at most.
///
/// # Panics
/// When the time is over; the message says what was waited for.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        thread::sleep(POLL_INTERVAL);
    }
}
