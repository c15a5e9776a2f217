//! How long writes stand still when a leader dies, as clients see it.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvstore::client::{Client, ClientOptions, Endpoint, Redirect};

use crate::cluster::{Cluster, eventually};

/// Writers of one measurement. Each writes one key after another.
const WRITERS: u32 = 8;

/// Writes that are acknowledged before the leader dies, and after it.
const WRITES: u64 = 400;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How long writes stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The longest time in which no write at all was acknowledged.
    pub cluster: Duration,
    /// The longest time that any one writer waited for an answer.
    pub writer: Duration,
    /// Writes that ended with an error.
    pub failed: u64,
}

/// Kills the leader of a running cluster while clients write, measures, and starts it again.
///
/// # Panics
/// If writes do not go on.
pub fn measure(cluster: &mut Cluster) -> Gap {
    let leader = cluster.leader();
    let addresses: Vec<_> = cluster.servers().iter().map(|server| server.address()).collect();
    let writers = Writers::start(&addresses);
    let begun = writers.wait_for(WRITES);
    cluster.server_mut(&leader).kill();
    writers.wait_for(begun + WRITES);
    let gap = writers.stop();
    cluster.start(&leader);
    cluster.wait_until_level(LIMIT);
    gap
}

/// The same while something else is done to a running cluster.
///
/// # Panics
/// If writes do not go on.
pub fn measure_during(cluster: &mut Cluster, disturb: impl FnOnce(&mut Cluster)) -> Gap {
    let addresses: Vec<_> = cluster.servers().iter().map(|server| server.address()).collect();
    let writers = Writers::start(&addresses);
    let begun = writers.wait_for(WRITES);
    disturb(cluster);
    writers.wait_for(begun + WRITES);
    writers.stop()
}

/// The same while nobody dies.
///
/// # Panics
/// If writes do not go on.
pub fn measure_calm(cluster: &Cluster) -> Gap {
    let addresses: Vec<_> = cluster.servers().iter().map(|server| server.address()).collect();
    let writers = Writers::start(&addresses);
    writers.wait_for(2 * WRITES);
    writers.stop()
}

/// The value below which `percent` of a hundred lie.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Clients that write until they are told to stop.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<Gap>,
}

#[derive(Debug)]
struct Seen {
    last: Instant,
    cluster: Duration,
    writer: Duration,
    failed: u64,
}

impl Writers {
    fn start(servers: &[SocketAddrV4]) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let endpoints: Vec<Endpoint> =
            servers.iter().map(|it| Endpoint { id: None, address: it.to_string() }).collect();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be built");
            runtime.block_on(write_all(&endpoints, &stopped, &count))
        });
        Writers { stop, acknowledged, thread }
    }

    /// Waits until so many writes were acknowledged, and returns how many were.
    fn wait_for(&self, writes: u64) -> u64 {
        eventually("writes to be acknowledged", LIMIT, || {
            let count = self.acknowledged.load(Ordering::Relaxed);
            (count >= writes).then_some(count)
        })
    }

    fn stop(self) -> Gap {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writers do not panic")
    }
}

async fn write_all(
    endpoints: &[Endpoint],
    stop: &Arc<AtomicBool>,
    acknowledged: &Arc<AtomicU64>,
) -> Gap {
    let nothing = Duration::ZERO;
    let seen = Seen { last: Instant::now(), cluster: nothing, writer: nothing, failed: 0 };
    let seen = Arc::new(Mutex::new(seen));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let options = ClientOptions {
            endpoints: endpoints.to_vec(),
            cluster: None,
            timeout: LIMIT,
            redirect: Redirect::Follow,
        };
        let client = Client::new(options).expect("the options make sense");
        let (stop, count, seen) = (Arc::clone(stop), Arc::clone(acknowledged), Arc::clone(&seen));
        writers.spawn(async move {
            let key = format!("gap/{writer}");
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let result = client.set(key.as_bytes(), b"1").await;
                let now = Instant::now();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                // The first writes wait for connections, which is another story.
                if count.fetch_add(1, Ordering::Relaxed) > u64::from(WRITERS) {
                    seen.cluster = seen.cluster.max(now - seen.last);
                    seen.writer = seen.writer.max(now - begun);
                }
                seen.last = now;
                seen.failed += u64::from(result.is_err());
            }
        });
    }
    writers.join_all().await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    Gap { cluster: seen.cluster, writer: seen.writer, failed: seen.failed }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::percentile;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<_> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50), Duration::from_millis(10));
        assert_eq!(percentile(&values, 99), Duration::from_millis(20));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
