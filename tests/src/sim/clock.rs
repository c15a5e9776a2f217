//! A server's own time: it runs a little too fast or too slow, and begins anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raft::driver::Clock;

use super::agenda::Moment;

const MILLION: i128 = 1_000_000;

/// Converts between the world's time and a server's, and shows the server its own.
#[derive(Clone, Debug)]
pub(super) struct ServerClock {
    /// Parts per million by which it is too fast.
    drift_ppm: i64,
    /// Since when it runs at this pace.
    since: Moment,
    /// What it showed then, in microseconds.
    offset: u64,
    shown: Arc<AtomicU64>,
}

impl ServerClock {
    pub(super) fn new(drift_ppm: i64, offset: u64) -> ServerClock {
        ServerClock { drift_ppm, since: Moment(0), offset, shown: Arc::default() }
    }

    fn local(&self, now: Moment) -> u64 {
        let passed = i128::from(now.0.saturating_sub(self.since.0));
        let passed = passed * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        self.offset + u64::try_from(passed).unwrap_or_default()
    }

    /// When it will show `local`, in the world's time, or a moment later.
    pub(super) fn moment(&self, local: Duration) -> Moment {
        let micros = i128::try_from(local.as_micros()).unwrap_or(i128::MAX);
        let passed = (micros - i128::from(self.offset)).max(0);
        let world = passed * MILLION / (MILLION + i128::from(self.drift_ppm)) + 1;
        Moment(u64::try_from(world).unwrap_or(u64::MAX).saturating_add(self.since.0))
    }

    /// From now on it runs at this pace, and shows so much more than it would.
    pub(super) fn adjust(&mut self, now: Moment, drift_ppm: i64, ahead: u64) {
        (self.since, self.offset) = (now, self.local(now) + ahead);
        self.drift_ppm = drift_ppm;
    }

    /// The server looks at it at this moment.
    pub(super) fn show(&self, now: Moment) {
        self.shown.store(self.local(now), Ordering::Relaxed);
    }

    /// So much passes while the server stands still.
    pub(super) fn stand_still(&self, micros: u64) {
        self.shown.fetch_add(micros, Ordering::Relaxed);
    }

    /// What the server saw last, in microseconds.
    pub(super) fn shown(&self) -> u64 {
        self.shown.load(Ordering::Relaxed)
    }

    /// The server's view of it.
    pub(super) fn view(&self) -> Clock {
        let shown = Arc::clone(&self.shown);
        Arc::new(move || Duration::from_micros(shown.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_its_pace_a_clock_has_shown_a_time_at_its_moment() {
        for drift_ppm in [-50_000, -1, 0, 7, 50_000] {
            let clock = ServerClock::new(drift_ppm, 123_456);
            for micros in [123_456, 130_000, 5_000_000, 86_400_000_000] {
                let moment = clock.moment(Duration::from_micros(micros));
                assert!(clock.local(moment) >= micros, "{drift_ppm} {micros}");
                assert!(clock.local(moment) <= micros + 3, "{drift_ppm} {micros}");
            }
        }
    }

    #[test]
    fn a_clock_that_is_adjusted_jumps_ahead_and_never_goes_back() {
        let mut clock = ServerClock::new(50_000, 1_000_000);
        let before = clock.local(Moment(2_000_000));
        clock.adjust(Moment(2_000_000), -50_000, 300);
        assert_eq!(clock.local(Moment(2_000_000)), before + 300);
        let later = clock.moment(Duration::from_micros(before + 950_300));
        assert!(later.0.abs_diff(3_000_000) <= 2, "{later:?}");
    }
}
