//! Snapshots between real servers: one that was away fetches the state while clients write, over a
//! connection that is cut again and again, and resumes each time. Taking snapshots under load costs
//! no election.
//!
//! The size of the state is 24 MiB, or `SNAPSHOT_TEST_MIB`. The full run, with what the transfer
//! costs those who write printed at its end:
//!
//! ```text
//! SNAPSHOT_TEST_MIB=256 SNAPSHOT_TEST_WRITERS=64 \
//!     cargo test --release -p verify --test snapshot_transfer -- --nocapture
//! ```

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvstore::client::{Client, ClientOptions, Endpoint};
use serde_json::Value;
use verify::cluster::{Cluster, Settings, eventually};
use verify::gap::percentile;

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(300);

/// How often the connection is cut, and once more the receiver is killed.
const CUTS: u64 = 5;

const VALUE_BYTES: usize = 64 << 10;

/// Events of this name that a server told in its present run.
fn told(cluster: &Cluster, id: &str, name: &str) -> Vec<Value> {
    let lines = cluster.server(id).story().lines();
    let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["event"] == name).collect()
}

fn term(cluster: &Cluster) -> Value {
    cluster.status().expect("a cluster that answers")["term"].clone()
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |it| it.parse().expect("a number"))
}

fn endpoints(addresses: &[SocketAddrV4]) -> Vec<Endpoint> {
    addresses.iter().map(|it| Endpoint { id: None, address: it.to_string() }).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(future)
}

/// Fills the state with `count` values, under keys that begin with `prefix`.
fn fill(addresses: &[SocketAddrV4], prefix: &str, count: u64) {
    let options = ClientOptions {
        endpoints: endpoints(addresses),
        timeout: LIMIT,
        ..ClientOptions::default()
    };
    block_on(async {
        let client = Client::new(options).expect("the options make sense");
        let mut writes = tokio::task::JoinSet::new();
        for at in 0..count {
            let (client, key) = (client.clone(), format!("{prefix}/{at:06}"));
            let mut value = vec![b'v'; VALUE_BYTES];
            value[..8].copy_from_slice(&at.to_le_bytes());
            writes.spawn(async move { client.set(key, value).await });
            if writes.len() >= 16 {
                let written = writes.join_next().await.expect("there are some");
                written.expect("a write does not panic").expect("a majority is there");
            }
        }
        for written in writes.join_all().await {
            written.expect("a majority is there");
        }
    });
}

/// Clients that write small values until they are stopped.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Writers {
    fn start(addresses: &[SocketAddrV4], count: u64) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let (seen, endpoints) = (Arc::clone(&stop), endpoints(addresses));
        let counted = Arc::clone(&written);
        let thread = thread::spawn(move || {
            block_on(async {
                let mut writers = tokio::task::JoinSet::new();
                for writer in 0..count {
                    let (stop, endpoints) = (Arc::clone(&seen), endpoints.clone());
                    let written = Arc::clone(&counted);
                    writers.spawn(async move { write(writer, endpoints, &stop, &written).await });
                }
                writers.join_all().await.concat()
            })
        });
        Writers { stop, written, thread }
    }

    fn wait_for(&self, count: u64) {
        eventually("the writers to get on", LIMIT, || {
            (self.written.load(Ordering::Relaxed) >= count).then_some(())
        });
    }

    /// How long each write took, the shortest first.
    fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().expect("a writer does not panic");
        times.sort();
        times
    }
}

async fn write(
    writer: u64,
    endpoints: Vec<Endpoint>,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> Vec<Duration> {
    let options = ClientOptions { endpoints, timeout: LIMIT, ..ClientOptions::default() };
    let client = Client::new(options).expect("the options make sense");
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let written = client.set(format!("load/{writer}"), times.len().to_string()).await;
        written.expect("a majority is there all the time");
        times.push(begun.elapsed());
        count.fetch_add(1, Ordering::Relaxed);
    }
    times
}

/// Cuts the connection `CUTS` times and kills the receiver once, each time after so many bytes
/// more. Returns the offsets at which the receiver began or went on.
fn disturb(cluster: &mut Cluster, receiver: &str, step: u64) -> Vec<u64> {
    let mut offsets = Vec::new();
    let receiving = |cluster: &Cluster| told(cluster, receiver, "receiving");
    for cut in 0..=CUTS {
        let before = cluster.server(receiver).proxy().snapshot_bytes();
        eventually("more of the snapshot to pass", LIMIT, || {
            (cluster.server(receiver).proxy().snapshot_bytes() >= before + step).then_some(())
        });
        let begun = receiving(cluster).len();
        if cut == CUTS / 2 {
            offsets.extend(receiving(cluster).iter().filter_map(|it| it["offset"].as_u64()));
            cluster.server_mut(receiver).kill();
            cluster.start(receiver);
            cluster.server(receiver).story().wait_for_event("receiving", LIMIT);
        } else {
            cluster.server(receiver).proxy().cut_snapshots();
            eventually("the receiver to go on", LIMIT, || {
                (receiving(cluster).len() > begun).then_some(())
            });
        }
    }
    offsets.extend(receiving(cluster).iter().filter_map(|it| it["offset"].as_u64()));
    offsets
}

/// What a server holds, as itself says.
fn state(cluster: &Cluster, id: &str) -> String {
    let address = cluster.server(id).address();
    let arguments = ["get", "--prefix", "state/", "--stale", "-o", "jsonl", "--timeout", "60s"];
    cluster.kvctl_at(address, &arguments).expect_code(0).stdout
}

#[test]
fn a_snapshot_arrives_though_its_connection_is_cut_and_its_receiver_killed() {
    let mib = number("SNAPSHOT_TEST_MIB", 24);
    let extra = "[raft]\nelection = \"1s..2s\"\nsnapshot_every = \"8MiB\"\n\
                 snapshot_rate = \"8MiB\"\n";
    let settings = Settings { servers: 3, extra: extra.to_owned() };
    let mut cluster = Cluster::behind_proxies(KVCTL, &settings);
    let (first, receiver) = (cluster.leader(), cluster.follower());
    let others = cluster.servers().iter().map(|it| it.id().to_owned());
    let leader = { others }.find(|id| *id != first && *id != receiver).expect("a third");
    let addresses = [cluster.server(&first).address()];
    cluster.server_mut(&receiver).stop();
    let values = (mib << 20) / VALUE_BYTES as u64;
    fill(&addresses, "state/first", values);
    // Once more, so that all that the receiver lacks is compacted away.
    fill(&addresses, "state/first", values);
    let snapshot = |cluster: &Cluster| {
        let written = told(cluster, &leader, "snapshot").pop()?;
        (written["log_from"].as_u64()? > 100).then(|| written["bytes"].as_u64())?
    };
    eventually("the log to be let go of", LIMIT, || snapshot(&cluster));
    // A leader keeps what a follower that it has heard of lacks, the next one has let go of it.
    cluster.kvctl(&["leader", "transfer", &leader, "--timeout", "20s"]).expect_code(0);
    eventually("the other to lead", LIMIT, || (cluster.leader() == leader).then_some(()));
    let addresses = [cluster.server(&leader).address()];

    let writers = number("SNAPSHOT_TEST_WRITERS", 4);
    let calm = Writers::start(&addresses, writers);
    calm.wait_for(1000);
    let calm = calm.stop();
    let before = term(&cluster);
    let load = Writers::start(&addresses, writers);
    cluster.start(&receiver);
    let offsets = disturb(&mut cluster, &receiver, (mib << 20) / 16);
    let received = cluster.server(&receiver).story().wait_for_event("received", LIMIT);
    let during = load.stop();

    assert_eq!(term(&cluster), before, "nobody was elected for it");
    let resumed = offsets.iter().filter(|offset| **offset > 0).count() as u64;
    assert!(resumed >= CUTS, "it went on where it was: {offsets:?}");
    let bytes = received["bytes"].as_u64().expect("a size");
    let passed = cluster.server(&receiver).proxy().snapshot_bytes();
    assert!(passed < bytes * 2, "{passed} bytes passed for a file of {bytes}");
    cluster.wait_until_level(LIMIT);
    assert_eq!(state(&cluster, &leader), state(&cluster, &receiver));
    println!("{passed} bytes passed for a file of {bytes}; begun or resumed at {offsets:?}");
    for percent in [50, 99] {
        let (one, other) = (percentile(&calm, percent), percentile(&during, percent));
        let ratio = other.as_secs_f64() / one.as_secs_f64();
        println!("p{percent} of a write: {one:?} without, {other:?} during it, {ratio:.2} times");
    }
}

#[test]
fn snapshots_under_load_cost_no_election() {
    let extra = "[raft]\nelection = \"1s..2s\"\nsnapshot_every = \"256KiB\"\n".to_owned();
    let mut cluster = Cluster::with(KVCTL, &Settings { servers: 3, extra });
    cluster.start_all();
    let leader = cluster.leader();
    let before = term(&cluster);
    let addresses: Vec<SocketAddrV4> = cluster.servers().iter().map(|it| it.address()).collect();
    let load = Writers::start(&addresses, 4);
    // The same keys again and again: the state stays small, and snapshots are due often.
    for _ in 0..6 {
        fill(&addresses, "state", 8);
    }
    for server in cluster.servers() {
        eventually("several snapshots", LIMIT, || {
            (told(&cluster, server.id(), "snapshot").len() >= 3).then_some(())
        });
    }
    load.stop();
    assert_eq!((cluster.leader(), term(&cluster)), (leader, before));
}
