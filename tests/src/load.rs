//! Writes that go on while servers die, and an exact account of what was acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvstore::client::{Client, ClientOptions, Endpoint, Redirect};
use serde_json::Value;

use crate::cluster::Cluster;

/// Keys of the load lie under this prefix.
const LOAD_PREFIX: &str = "load/";

/// What became of the writes of a load.
#[derive(Debug, Default)]
pub struct Account {
    /// Keys and values that were acknowledged: they must be there for ever.
    pub acknowledged: BTreeMap<String, String>,
    /// Writes whose outcome is unknown: they may be there.
    pub unknown: BTreeMap<String, String>,
    /// Writes that were refused: they must not be there.
    pub refused: BTreeMap<String, String>,
}

impl Account {
    /// Compares with what a cluster holds now.
    ///
    /// # Panics
    /// If anything acknowledged is missing or changed, or anything refused is there.
    pub fn check(&self, found: &BTreeMap<String, String>) {
        for (key, value) in &self.acknowledged {
            assert_eq!(found.get(key), Some(value), "{key} was acknowledged and then lost");
        }
        for key in self.refused.keys() {
            assert!(!found.contains_key(key), "{key} was refused and is there all the same");
        }
        for key in found.keys() {
            let known = self.acknowledged.contains_key(key) || self.unknown.contains_key(key);
            assert!(known, "{key} was never written");
        }
    }
}

/// A load that is running on a thread of its own.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Account>,
}

impl Load {
    /// Starts `writers` clients that each write one new key after another, until told to stop.
    pub fn start(servers: &[SocketAddrV4], writers: u32, timeout: Duration) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let endpoints: Vec<Endpoint> =
            servers.iter().map(|it| Endpoint { id: None, address: it.to_string() }).collect();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be built");
            runtime.block_on(async {
                let mut running = tokio::task::JoinSet::new();
                for writer in 0..writers {
                    let (stop, endpoints) = (Arc::clone(&seen), endpoints.clone());
                    running.spawn(async move { write(writer, endpoints, timeout, &stop).await });
                }
                let mut whole = Account::default();
                for part in running.join_all().await {
                    whole.acknowledged.extend(part.acknowledged);
                    whole.unknown.extend(part.unknown);
                    whole.refused.extend(part.refused);
                }
                whole
            })
        });
        Load { stop, thread }
    }

    /// Starts no more writes, waits for those in flight, and gives the account.
    ///
    /// # Panics
    /// If the load itself panicked.
    pub fn stop(self) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load does not panic")
    }
}

/// What a cluster holds of a load.
///
/// # Panics
/// If it does not answer.
pub fn found(cluster: &Cluster) -> BTreeMap<String, String> {
    let arguments = ["get", "--prefix", LOAD_PREFIX, "-o", "jsonl", "--timeout", "20s"];
    let run = cluster.kvctl(&arguments).expect_code(0);
    let lines = run.stdout.lines().map(|line| {
        let entry: Value = serde_json::from_str(line).expect("a line of JSON");
        let text = |name: &str| entry[name].as_str().expect("a key and a value").to_owned();
        (text("key"), text("value"))
    });
    lines.collect()
}

async fn write(
    writer: u32,
    endpoints: Vec<Endpoint>,
    timeout: Duration,
    stop: &AtomicBool,
) -> Account {
    let options = ClientOptions { endpoints, cluster: None, timeout, redirect: Redirect::Follow };
    let client = Client::new(options).expect("the options of a load make sense");
    let mut account = Account::default();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("{LOAD_PREFIX}{writer}/{number:06}"), number.to_string());
        match client.set(key.as_bytes(), value.as_bytes()).await {
            Ok(_) => account.acknowledged.insert(key, value),
            Err(error) if error.is_definite() => account.refused.insert(key, value),
            Err(_) => account.unknown.insert(key, value),
        };
    }
    account
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Account;

    fn keys(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect()
    }

    fn account() -> Account {
        Account {
            acknowledged: keys(&["acked"]),
            unknown: keys(&["unknown"]),
            refused: keys(&["refused"]),
        }
    }

    #[test]
    fn what_is_unknown_may_be_there_or_not() {
        account().check(&keys(&["acked"]));
        account().check(&keys(&["acked", "unknown"]));
    }

    #[test]
    #[should_panic(expected = "acknowledged and then lost")]
    fn a_lost_write_is_noticed() {
        account().check(&keys(&["unknown"]));
    }

    #[test]
    #[should_panic(expected = "refused and is there all the same")]
    fn a_refused_write_that_took_effect_is_noticed() {
        account().check(&keys(&["acked", "refused"]));
    }

    #[test]
    #[should_panic(expected = "was never written")]
    fn a_write_out_of_nowhere_is_noticed() {
        account().check(&keys(&["acked", "ghost"]));
    }
}
