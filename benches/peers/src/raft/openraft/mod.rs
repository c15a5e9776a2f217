//! openraft: three of its nodes in one process, with logs in memory.
//!
//! Settings, stores and clients are those of its own benchmark (a map for the log, a state machine
//! without a state, messages as function calls, client tasks on a runtime of their own), with what
//! serves it better here: followers get their entries as its pipelined stream instead of one
//! request at a time, and answers come through its cheapest responder. The servers have a
//! worker for each processor, the clients one.

mod network;
mod store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use benches::measure::{Side, Slice};
use benches::{Error, Result};
use bytes::Bytes;
use openraft::{Config, Raft};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use self::network::Router;
use self::store::{Command, Log, Machine, Types};

type Node = Raft<Types, Machine>;

/// A cluster that has elected the first of its nodes.
pub(super) struct OpenRaft {
    servers: Runtime,
    clients: Runtime,
    nodes: Vec<Node>,
    count: usize,
    command: Bytes,
}

impl OpenRaft {
    /// A cluster for so many clients in a closed loop, with commands of so many bytes.
    pub(super) fn start(count: usize, bytes: usize) -> Result<OpenRaft> {
        let processors = available_parallelism()?.get();
        let runtime = |workers: usize| {
            Builder::new_multi_thread().worker_threads(workers.max(1)).enable_all().build()
        };
        let (servers, clients) = (runtime(processors)?, runtime(1)?);
        let nodes = servers.block_on(elect())?;
        Ok(OpenRaft { servers, clients, nodes, count, command: vec![b'x'; bytes].into() })
    }
}

async fn elect() -> Result<Vec<Node>> {
    let config = Config {
        election_timeout_min: 200,
        election_timeout_max: 2000,
        purge_batch_size: 1024,
        max_payload_entries: 1024,
        ..Config::default()
    };
    let config = Arc::new(config.validate()?);
    let router = Router::default();
    let members: BTreeSet<u64> = (0..3).collect();
    let mut nodes = Vec::new();
    for id in &members {
        let (log, machine) = (Log::default(), Machine::default());
        let node = Raft::new(*id, Arc::clone(&config), router.clone(), log, machine).await?;
        router.add(*id, node.clone());
        nodes.push(node);
    }
    let first = nodes.first().ok_or("there are no nodes")?;
    first.initialize(members).await?;
    for node in &nodes {
        let wait = node.wait(Some(Duration::from_secs(10)));
        wait.applied_index_at_least(Some(1), "the first of them leads").await?;
    }
    Ok(nodes)
}

impl Side for OpenRaft {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let leader = self.nodes.first().ok_or("there is no leader")?;
        self.clients.block_on(async {
            let begin = Instant::now();
            let mut clients = JoinSet::new();
            for _ in 0..self.count {
                let (leader, command) = (leader.clone(), self.command.clone());
                clients.spawn(async move {
                    let mut done = 0_u64;
                    while begin.elapsed() < length {
                        leader.client_write(Command(command.clone())).await?;
                        done += 1;
                    }
                    Ok::<u64, Error>(done)
                });
            }
            let mut done = 0;
            while let Some(client) = clients.join_next().await {
                done += client??;
            }
            Ok(Slice::whole(done, begin.elapsed()))
        })
    }
}

impl Drop for OpenRaft {
    fn drop(&mut self) {
        for node in &self.nodes {
            // A node that does not end by itself ends with its runtime.
            let _ = self.servers.block_on(node.shutdown());
        }
    }
}
