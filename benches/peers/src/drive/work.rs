//! What a system is asked to do: to get ready, to be measured, to show what it was given.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use load::{Checked, KEYS, Load, Pace, Report, Result, SplitMix, Tally, is_value_of, value};
use serde::Serialize;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::sleep;

use crate::system::{System, Target};

/// How long a system may take to start and to elect a leader.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take for anything before the measurement.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections, and requests on each, while all keys are written or read.
const WIDTH: (usize, usize) = (64, 16);
/// One of so many keys is written and read back in the end.
const REWRITTEN: usize = 100;
/// One of so many keys is looked at in the end.
const LOOKED_AT: usize = 10;

/// A system that is ready.
#[derive(Debug, Serialize)]
pub(crate) struct Prepared {
    /// Who is asked from here on.
    endpoints: Vec<String>,
    keys: u64,
}

/// Connections to these endpoints, in turn.
async fn connect<S: System>(endpoints: &[String], count: usize) -> Result<Vec<Rc<S>>> {
    let mut connecting = Vec::new();
    for endpoint in endpoints.iter().cycle().take(count) {
        let endpoint = endpoint.clone();
        connecting.push(spawn_local(async move { S::connect(&endpoint).await }));
    }
    let mut connections = Vec::new();
    for connection in connecting {
        connections.push(Rc::new(connection.await??));
    }
    if connections.is_empty() {
        return Err("nobody leads".into());
    }
    Ok(connections)
}

/// Waits until the system works, and gives every key a value.
pub(crate) async fn prepare<S: System>(endpoints: &[String], to: Target) -> Result<Prepared> {
    let begun = Instant::now();
    let chosen = loop {
        let attempt = async {
            let chosen = to.find::<S>(endpoints).await?;
            connect::<S>(&chosen, 1).await?[0].found().await?;
            Ok::<_, load::Error>(chosen)
        };
        let why = match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(Ok(chosen)) => break chosen,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if begun.elapsed() > START_LIMIT {
            return Err(format!("not ready after {} s: {why}", START_LIMIT.as_secs()).into());
        }
        sleep(Duration::from_millis(100)).await;
    };
    let connections = connect::<S>(&chosen, WIDTH.0).await?;
    let keys: Vec<u64> = (0..KEYS).collect();
    for_each(
        &connections,
        &keys,
        |system, key| async move { system.create(key, &value(key, 0)).await },
    )
    .await?;
    Ok(Prepared { endpoints: chosen, keys: KEYS })
}

/// Asks for each of these keys, many at a time; the first failure ends it.
async fn for_each<S: System, F: Future<Output = Result<()>>>(
    connections: &[Rc<S>],
    keys: &[u64],
    ask: impl Fn(Rc<S>, u64) -> F + Clone + 'static,
) -> Result<()> {
    let workers = WIDTH.0 * WIDTH.1;
    let mut running = JoinSet::new();
    for (worker, connection) in (0..workers).zip(connections.iter().cycle()) {
        let keys: Vec<u64> = keys.iter().copied().skip(worker).step_by(workers).collect();
        let (connection, ask) = (Rc::clone(connection), ask.clone());
        running.spawn_local(async move {
            for key in keys {
                ask(Rc::clone(&connection), key).await?;
            }
            Ok::<_, load::Error>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Measures.
pub(crate) async fn run<S: System>(
    endpoints: &[String],
    to: Target,
    load: &Load,
) -> Result<Report> {
    let chosen = to.find::<S>(endpoints).await?;
    let connections = connect::<S>(&chosen, load.clients).await?;
    let tally = Rc::new(RefCell::new(Tally::begin(load.warm_up(), load.duration())?));
    let pace = Pace::until(tally.borrow().until(), load.rate);
    let mut running = JoinSet::new();
    for (connection, number) in connections.iter().zip(0..) {
        for slot in 0..load.pipeline as u64 {
            let seed = number * load.pipeline as u64 + slot;
            running.spawn_local(worker(
                Rc::clone(connection),
                *load,
                pace.clone(),
                SplitMix(seed),
                Rc::clone(&tally),
            ));
        }
    }
    while let Some(ended) = running.join_next().await {
        ended?;
    }
    let report = tally.borrow().report();
    Ok(report)
}

/// One request at a time, until there are no more.
async fn worker<S: System>(
    system: Rc<S>,
    load: Load,
    pace: Pace,
    mut random: SplitMix,
    tally: Rc<RefCell<Tally>>,
) {
    while let Some(due) = pace.next().await {
        let key = random.next() % KEYS;
        let answer = if load.operation.writes(&mut random) {
            system.put(key, &value(key, random.0)).await
        } else {
            match system.get(key).await {
                Ok(Some(found)) if is_value_of(key, &found) => Ok(()),
                Ok(Some(_)) => Err("a value that was never written to the key".into()),
                Ok(None) => Err("the key is missing".into()),
                Err(error) => Err(error),
            }
        };
        let mut tally = tally.borrow_mut();
        match answer {
            Ok(()) => tally.answered(due, Instant::now()),
            Err(error) => tally.failed(|| error.to_string()),
        }
    }
}

/// Writes some keys and reads them back, and looks at a tenth of all.
pub(crate) async fn check<S: System>(endpoints: &[String], to: Target) -> Result<Checked> {
    let chosen = to.find::<S>(endpoints).await?;
    let connections = connect::<S>(&chosen, WIDTH.0).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let stamp = u64::try_from(now.as_nanos())?;
    let rewritten: Vec<u64> = (0..KEYS).step_by(REWRITTEN).collect();
    for_each(&connections, &rewritten, move |system, key| async move {
        system.put(key, &value(key, stamp)).await
    })
    .await?;

    let checked = Rc::new(RefCell::new(Checked::default()));
    let counted = Rc::clone(&checked);
    let looked_at: Vec<u64> = (0..KEYS).step_by(LOOKED_AT).collect();
    for_each(&connections, &looked_at, move |system, key| {
        let checked = Rc::clone(&counted);
        async move {
            let found = system.get(key).await?;
            let is_right = |found: &[u8]| match key % REWRITTEN as u64 {
                0 => found == value(key, stamp),
                _ => is_value_of(key, found),
            };
            let mut checked = checked.borrow_mut();
            checked.read += 1;
            match found {
                None => checked.missing += 1,
                Some(found) if !is_right(&found) => checked.wrong += 1,
                Some(_) => {}
            }
            Ok(())
        }
    })
    .await?;
    Ok(checked.take())
}
