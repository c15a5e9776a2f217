//! What a load program has seen, and how it says so.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{Result, cpu_time};

/// What a measurement came to, as its program prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests that were answered well while it was measured.
    pub ops: u64,
    /// All that were answered well, those of the warm-up included: what the servers worked for.
    pub answered: u64,
    /// Requests that failed, at any time.
    pub failed: u64,
    /// Why the first of them failed.
    pub first_error: Option<String>,
    /// How long it was measured.
    pub seconds: f64,
    /// The processor time of the load program itself, the warm-up included.
    pub load_cpu_seconds: f64,
    /// The latency of the requests that were measured, in microseconds.
    pub p50_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// The 99.9th percentile.
    pub p999_us: u64,
}

impl Report {
    /// Requests in a second.
    pub fn rate(&self) -> f64 {
        self.ops as f64 / self.seconds
    }
}

/// What came of reading keys back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Keys that were read.
    pub read: u64,
    /// Keys that are not there.
    pub missing: u64,
    /// Keys with a value that was not written to them last, as far as that is known.
    pub wrong: u64,
}

/// Counts while requests run.
#[derive(Debug)]
pub struct Tally {
    from: Instant,
    until: Instant,
    latency_us: Histogram<u64>,
    answered: u64,
    failed: u64,
    first_error: Option<String>,
}

impl Tally {
    /// Counts what is answered within `duration` after `warm_up`, both from now on.
    ///
    /// # Errors
    /// There is no histogram of this size.
    pub fn begin(warm_up: Duration, duration: Duration) -> Result<Tally> {
        let from = Instant::now() + warm_up;
        Ok(Tally {
            from,
            until: from + duration,
            // A minute is longer than any request may take.
            latency_us: Histogram::new_with_max(60_000_000, 3)?,
            answered: 0,
            failed: 0,
            first_error: None,
        })
    }

    /// When the measurement is over.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Counts an answer that came at `now` to a request that was due at `due`.
    pub fn answered(&mut self, due: Instant, now: Instant) {
        self.answered += 1;
        if now >= self.from && now < self.until {
            let latency_us = now.saturating_duration_since(due).as_micros();
            self.latency_us.saturating_record(u64::try_from(latency_us).unwrap_or(u64::MAX));
        }
    }

    /// Counts a request that failed.
    pub fn failed(&mut self, why: impl FnOnce() -> String) {
        self.failed += 1;
        self.first_error.get_or_insert_with(why);
    }

    /// What it came to.
    pub fn report(&self) -> Report {
        let at = |quantile| self.latency_us.value_at_quantile(quantile);
        Report {
            ops: self.latency_us.len(),
            answered: self.answered,
            failed: self.failed,
            first_error: self.first_error.clone(),
            load_cpu_seconds: cpu_time("self").map_or(0.0, |time| time.as_secs_f64()),
            seconds: (self.until - self.from).as_secs_f64(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Tally;

    #[test]
    fn only_what_is_answered_after_the_warm_up_is_measured() {
        let second = Duration::from_secs(1);
        let mut tally = Tally::begin(second, second).unwrap();
        let end = tally.until();
        for half_seconds_before in [4, 1, 0] {
            let now = end - half_seconds_before * second / 2;
            tally.answered(now - Duration::from_micros(70), now);
        }
        tally.failed(|| "no".to_owned());
        let report = tally.report();
        assert_eq!((report.ops, report.answered, report.failed), (1, 3, 1));
        assert_eq!((report.p50_us, report.seconds), (70, 1.0));
        assert_eq!(report.first_error.as_deref(), Some("no"));
    }
}
