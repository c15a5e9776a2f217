//! `bench`: measures what a cluster can do, with as many clients as asked for in one process.

mod pace;
mod report;

use std::time::{Duration, Instant};

use bytes::Bytes;
use kvstore::client::{Client, Redirect};
use kvstore::wire::response::ServerRole;
use tokio::task::JoinSet;

use crate::args::{BenchArgs, BenchOperation, BenchTarget};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::{ServerAddress, Session};
use pace::Pace;
use report::{Report, Tally};

/// Where the keys of a bench lie.
const KEY_PREFIX: &str = "bench/";
/// The most connections that are opened without being asked for.
const CONNECTIONS_DEFAULT_MAX: u32 = 64;
/// The most requests that a bench keeps in flight: each of them takes memory here and there.
const IN_FLIGHT_MAX: u64 = 1_000_000;

/// `kvctl bench`.
pub(crate) async fn run(session: &Session, args: BenchArgs) -> Result<(), Failure> {
    let connections = args.connections.unwrap_or(CONNECTIONS_DEFAULT_MAX).min(args.clients);
    check(&args)?;
    let clients = connect(session, args.to, connections).await?;
    session.note(&format!("the keys lie under {KEY_PREFIX} and stay"));
    let (elapsed, tally) = measure(&args, &clients).await?;
    if let Some(error) = &tally.first_error {
        session.note(&format!("the first error was: {error}"));
    }
    let nothing_worked = tally.ops() == 0 && tally.first_error.is_some();
    session.answer(&Report::new(&args, connections, elapsed, tally))?;
    if nothing_worked {
        return Err(Failure::new(Exit::Unexpected, "no request was answered"));
    }
    Ok(())
}

fn check(args: &BenchArgs) -> Result<(), Failure> {
    if u64::from(args.clients) * u64::from(args.pipeline) > IN_FLIGHT_MAX {
        let what = format!("clients times pipeline is more than {IN_FLIGHT_MAX}");
        return Err(Failure::usage(what));
    }
    if args.to == BenchTarget::Follower && args.operation != BenchOperation::Get {
        return Err(Failure::usage("a follower takes no writes: --to follower is for `get`"));
    }
    Ok(())
}

/// One client for each connection, since a client has one connection to each server.
async fn connect(
    session: &Session,
    to: BenchTarget,
    connections: u32,
) -> Result<Vec<Client>, Failure> {
    let (servers, redirect) = match to {
        BenchTarget::Any => (session.servers().to_vec(), Redirect::Follow),
        BenchTarget::Leader => (find(session, ServerRole::Leader).await?, Redirect::Never),
        BenchTarget::Follower => (find(session, ServerRole::Follower).await?, Redirect::Follow),
    };
    (0..connections).map(|_| session.another_client(&servers, redirect)).collect()
}

/// A server that plays a part.
async fn find(session: &Session, role: ServerRole) -> Result<Vec<ServerAddress>, Failure> {
    let status = session.client().cluster_status().await;
    let server = status.find(role).ok_or_else(|| {
        Failure::new(Exit::NoLeader, format!("no server that can be reached is a {role}"))
    })?;
    Ok(vec![server.clone()])
}

/// Sends requests for as long as asked, waits for all answers, and adds up.
async fn measure(args: &BenchArgs, clients: &[Client]) -> Result<(Duration, Tally), Failure> {
    let workers = u64::from(args.clients) * u64::from(args.pipeline);
    let value = Bytes::from(vec![b'x'; args.value_size as usize]);
    let start = Instant::now();
    let pace = match args.rate {
        None => Pace::closed(args.duration),
        Some(rate) => Pace::open(args.duration, rate, workers as usize),
    };
    let mut running = JoinSet::new();
    for (number, client) in (0..workers).zip(clients.iter().cycle()) {
        let worker = Worker {
            client: client.clone(),
            operation: args.operation,
            keys: args.keys,
            value: value.clone(),
            random: SplitMix(number),
            tally: Tally::new()?,
        };
        running.spawn(worker.run(pace.clone()));
    }
    let mut whole = Tally::new()?;
    for part in running.join_all().await {
        whole.add(part)?;
    }
    Ok((start.elapsed(), whole))
}

/// One of the requests that are in flight at the same time.
struct Worker {
    client: Client,
    operation: BenchOperation,
    keys: u64,
    value: Bytes,
    random: SplitMix,
    tally: Tally,
}

impl Worker {
    async fn run(mut self, pace: Pace) -> Tally {
        while let Some(due) = pace.next().await {
            self.request(due).await;
        }
        self.tally
    }

    async fn request(&mut self, due: Instant) {
        let key = format!("{KEY_PREFIX}{:010}", self.random.next() % self.keys);
        let writes = match self.operation {
            BenchOperation::Put => true,
            BenchOperation::Get => false,
            BenchOperation::Mixed => self.random.next().is_multiple_of(2),
        };
        let result = if writes {
            self.client.set(&key, &self.value).await.map(drop)
        } else {
            self.client.get(&key).await.map(drop)
        };
        match result {
            Ok(()) => self.tally.answered(due.elapsed()),
            Err(error) => {
                if error.is_definite() {
                    self.tally.errors += 1;
                } else {
                    self.tally.unknown += 1;
                }
                self.tally.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Numbers without a pattern, the same in every run: <https://prng.di.unimi.it/splitmix64.c>.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
