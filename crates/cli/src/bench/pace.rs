//! When requests start. In a closed loop each worker starts its next one when the last is answered.
//! In an open loop they are due at a fixed pace, whatever the answers do: a slow answer must not
//! make the bench ask less, or it would hide just what it is to find.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Says when each request of a bench starts. Clones belong to the same bench.
#[derive(Clone)]
pub(super) enum Pace {
    /// At once, until the time is over.
    Closed {
        /// When no more requests start.
        end: Instant,
    },
    /// One by one at a fixed rate.
    Open(Arc<Schedule>),
}

/// The requests of an open loop.
pub(super) struct Schedule {
    start: Instant,
    per_second: u64,
    total: u64,
    /// One permit for each request that is due and not yet started.
    due: Semaphore,
    started: AtomicU64,
}

impl Pace {
    /// A closed loop that starts now.
    pub(super) fn closed(duration: Duration) -> Pace {
        Pace::Closed { end: Instant::now() + duration }
    }

    /// An open loop that starts now, for this many workers.
    ///
    /// The timers of the runtime tick in milliseconds, which is longer than a fast answer takes, so
    /// a thread of its own announces what is due.
    pub(super) fn open(duration: Duration, per_second: u64, workers: usize) -> Pace {
        let total = u128::from(per_second) * duration.as_nanos() / 1_000_000_000;
        let schedule = Arc::new(Schedule {
            start: Instant::now(),
            per_second,
            total: u64::try_from(total).unwrap_or(u64::MAX),
            due: Semaphore::new(0),
            started: AtomicU64::new(0),
        });
        let announced = Arc::clone(&schedule);
        thread::spawn(move || announced.announce(workers));
        Pace::Open(schedule)
    }

    /// Waits until the next request is to start. Returns the moment at which it was due, which its
    /// latency counts from, or `None` when there are no more.
    pub(super) async fn next(&self) -> Option<Instant> {
        match self {
            Pace::Closed { end } => {
                let now = Instant::now();
                (now < *end).then_some(now)
            }
            Pace::Open(schedule) => schedule.next().await,
        }
    }
}

impl Schedule {
    async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then(|| self.due_at(number))
    }

    fn due_at(&self, number: u64) -> Instant {
        let nanoseconds = u128::from(number) * 1_000_000_000 / u128::from(self.per_second);
        self.start + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Announces every request when it is due, then lets each worker find out that there are no
    /// more.
    fn announce(&self, workers: usize) {
        let mut announced = 0;
        while announced < self.total {
            let now = Instant::now();
            let mut ripe = 0;
            while announced < self.total && self.due_at(announced) <= now {
                announced += 1;
                ripe += 1;
            }
            self.due.add_permits(ripe);
            if announced < self.total {
                thread::sleep(self.due_at(announced).saturating_duration_since(Instant::now()));
            }
        }
        self.due.add_permits(workers);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Pace;

    #[tokio::test]
    async fn an_open_loop_starts_exactly_what_its_rate_asks_for() {
        let pace = Pace::open(Duration::from_millis(50), 2000, 1);
        let mut due = Vec::new();
        while let Some(at) = pace.next().await {
            assert!(at <= Instant::now(), "nothing starts before it is due");
            due.push(at);
        }
        assert_eq!(due.len(), 100);
        let gaps: Vec<Duration> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap == Duration::from_micros(500)), "the pace is even");
    }

    #[tokio::test]
    async fn a_slow_worker_does_not_slow_the_schedule() {
        let pace = Pace::open(Duration::from_millis(20), 1000, 1);
        let first = pace.next().await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let second = pace.next().await.unwrap();
        assert_eq!(second - first, Duration::from_millis(1), "it is late, and that will show");
    }

    #[tokio::test]
    async fn a_closed_loop_ends_with_its_time() {
        let pace = Pace::closed(Duration::ZERO);
        assert!(pace.next().await.is_none());
        let pace = Pace::closed(Duration::from_secs(3600));
        assert!(pace.next().await.is_some());
    }
}
