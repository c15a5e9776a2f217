//! One register that one writer counts up, and a reader at every server, while servers are made to
//! fail. Whatever a read returns must not be older than what was acknowledged before it began: with
//! a single writer that is all that linearizability asks.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvstore::client::{Client, ClientError, ClientOptions, Endpoint, Redirect, WriteOptions};
use kvstore::store::{Condition, Operation};

use crate::cluster::eventually;

const KEY: &str = "register";

/// How long any wait for progress may last.
const LIMIT: Duration = Duration::from_secs(30);

/// A register under test.
pub struct Register {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    stop: AtomicBool,
    /// The highest value whose write was acknowledged.
    acknowledged: AtomicU64,
    /// The highest value whose write was begun.
    begun: AtomicU64,
    /// Reads that each server has answered.
    reads: Vec<AtomicU64>,
}

impl Register {
    /// Starts the writer, which may ask any of the servers, and one reader for each of them.
    pub fn start(servers: &[SocketAddrV4]) -> Register {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            reads: servers.iter().map(|_| AtomicU64::new(0)).collect(),
        });
        let (seen, servers) = (Arc::clone(&shared), servers.to_vec());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be built");
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                tasks.spawn(write(Arc::clone(&seen), servers.clone()));
                for (number, server) in servers.into_iter().enumerate() {
                    tasks.spawn(read(Arc::clone(&seen), number, server));
                }
                // One that found a stale value has panicked, and says so here.
                tasks.join_all().await;
            });
        });
        let register = Register { shared, thread };
        register.wait_for_write();
        register
    }

    /// Waits for a write that was begun after this call to be acknowledged.
    pub fn wait_for_write(&self) {
        let begun = self.shared.begun.load(Ordering::SeqCst);
        eventually("a write to be acknowledged", LIMIT, || {
            (self.shared.acknowledged.load(Ordering::SeqCst) > begun).then_some(())
        });
    }

    /// Waits for two more reads from this server, of which the second began after this call.
    pub fn wait_for_read(&self, server: usize) {
        let reads = &self.shared.reads[server];
        let before = reads.load(Ordering::SeqCst);
        eventually("a read to be answered", LIMIT, || {
            (reads.load(Ordering::SeqCst) >= before + 2).then_some(())
        });
    }

    /// Ends the writer and the readers.
    ///
    /// # Panics
    /// If any read was stale.
    pub fn stop(self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("no read was stale");
    }
}

fn client(servers: &[SocketAddrV4]) -> Client {
    let endpoint = |it: &SocketAddrV4| Endpoint { id: None, address: it.to_string() };
    let endpoints = servers.iter().map(endpoint).collect();
    let (timeout, redirect) = (Duration::from_secs(10), Redirect::Follow);
    let options = ClientOptions { endpoints, cluster: None, timeout, redirect };
    Client::new(options).expect("the options make sense")
}

async fn write(shared: Arc<Shared>, servers: Vec<SocketAddrV4>) {
    let client = client(&servers);
    let mut value = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        value += 1;
        shared.begun.store(value, Ordering::SeqCst);
        let text = value.to_string();
        let (key, condition) = (KEY.as_bytes(), Condition::None);
        let mut options = WriteOptions::default();
        // A write of unknown end may yet happen, so the same one is tried until it has.
        loop {
            let operation = Operation::Set { key, value: text.as_bytes(), condition };
            match client.write(operation, options).await {
                Ok(_) => break,
                Err(ClientError::Unknown { request, .. }) => options.request = Some(request),
                Err(_) => {}
            }
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
        }
        shared.acknowledged.store(value, Ordering::SeqCst);
    }
}

async fn read(shared: Arc<Shared>, number: usize, server: SocketAddrV4) {
    let client = client(&[server]);
    while !shared.stop.load(Ordering::SeqCst) {
        let acknowledged = shared.acknowledged.load(Ordering::SeqCst);
        if let Ok(value) = client.get(KEY).await {
            let text = value.found.map(|found| found.value).unwrap_or_default();
            let value = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
            let value: u64 = value.unwrap_or(0);
            assert!(
                value >= acknowledged,
                "a stale read at {server}: {value}, but {acknowledged} was acknowledged before"
            );
            shared.reads[number].fetch_add(1, Ordering::SeqCst);
        }
        // Readers must not keep the writer from the processor.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
