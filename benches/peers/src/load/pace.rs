//! When requests start. In a closed loop each client starts its next one when the last is answered.
//! In an open loop they are due at a fixed pace, whatever the answers do: a system that stalls must
//! not be asked less, or the stall would hide itself.

use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Says when each request starts. Clones belong to the same measurement.
#[derive(Clone, Debug)]
pub enum Pace {
    /// At once, until then.
    Closed(Instant),
    /// One by one at a fixed rate.
    Open(Rc<Schedule>),
}

/// The requests of an open loop.
#[derive(Debug)]
pub struct Schedule {
    start: Instant,
    gap: Duration,
    total: u64,
    /// One permit for each request that is due and not yet started; closed after the last.
    due: Arc<Semaphore>,
    started: std::cell::Cell<u64>,
}

impl Pace {
    /// A closed loop until then, or an open one of so many requests a second.
    pub fn until(end: Instant, rate: Option<u64>) -> Pace {
        let Some(rate) = rate.filter(|rate| *rate > 0) else { return Pace::Closed(end) };
        let start = Instant::now();
        let gap = Duration::from_secs(1).div_f64(rate as f64);
        let total = (end - start).as_nanos() / gap.as_nanos().max(1);
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        let due = Arc::new(Semaphore::new(0));
        let announced = Arc::clone(&due);
        // The timers of the runtime tick in milliseconds, longer than a fast answer takes.
        thread::spawn(move || announce(&announced, start, gap, total));
        Pace::Open(Rc::new(Schedule { start, gap, total, due, started: Default::default() }))
    }

    /// Waits until the next request is to start. Returns when it was due, which its latency counts
    /// from, or `None` when there are no more.
    pub async fn next(&self) -> Option<Instant> {
        match self {
            Pace::Closed(end) => {
                let now = Instant::now();
                (now < *end).then_some(now)
            }
            Pace::Open(schedule) => {
                schedule.due.acquire().await.ok()?.forget();
                let number = schedule.started.replace(schedule.started.get() + 1);
                let due = schedule.start + schedule.gap.mul_f64(number as f64);
                (number < schedule.total).then_some(due)
            }
        }
    }
}

fn announce(due: &Semaphore, start: Instant, gap: Duration, total: u64) {
    let mut announced = 0;
    while announced < total {
        let elapsed = start.elapsed();
        let ripe = (elapsed.as_nanos() / gap.as_nanos().max(1)) as u64;
        let ripe = ripe.min(total);
        if ripe > announced {
            due.add_permits((ripe - announced) as usize);
            announced = ripe;
        }
        thread::sleep(gap.mul_f64((announced + 1) as f64).saturating_sub(elapsed));
    }
    // Whoever still waits learns that there are no more; what is due is started all the same.
    while due.available_permits() > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    due.close();
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Pace;

    #[tokio::test]
    async fn an_open_loop_starts_what_its_rate_asks_for_however_slow_the_answers_are() {
        let begun = Instant::now();
        let pace = Pace::until(begun + Duration::from_millis(50), Some(2000));
        let mut due = Vec::new();
        while let Some(at) = pace.next().await {
            if due.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            due.push(at);
        }
        assert!((95..=100).contains(&due.len()), "{} were started", due.len());
        let gaps: Vec<Duration> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| gap.as_micros().abs_diff(500) <= 1), "the pace is even");
    }

    #[tokio::test]
    async fn a_closed_loop_ends_with_its_time() {
        assert!(Pace::until(Instant::now(), None).next().await.is_none());
        let later = Instant::now() + Duration::from_secs(3600);
        assert!(Pace::until(later, None).next().await.is_some());
    }
}
