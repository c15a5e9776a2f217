//! What each step of the protocol costs a node: taking a batch as the leader, taking it as a
//! follower, acknowledging it, committing it, and confirming a read. Where keeping and handing on
//! entries is the work, a plain list that does just that is the floor; what is beyond it is the
//! protocol's own.
//!
//! Steps are timed one by one within whole batches, so each figure has a look at the clock in it.

#![allow(missing_docs, reason = "criterion's macros make items without documentation")]
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so at once")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::nodes::{OneList, Step, Stopwatch, Trio};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft::node::Payload;

const COMMAND_BYTES: usize = 100;
const BATCHES: [usize; 3] = [1, 16, 64];

/// Of the entries that a step has to hand on, so many copies are the least: one for the own disk,
/// and on the leader one for each follower.
fn copies(step: Step) -> Option<usize> {
    match step {
        Step::LeaderAppend => Some(3),
        Step::FollowerAppend => Some(1),
        Step::Acknowledge | Step::Commit => None,
    }
}

fn steps(criterion: &mut Criterion) {
    for step in Step::ALL {
        let mut group = criterion.benchmark_group(format!("replication/{}", step.name()));
        group.sample_size(30);
        group.warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_millis(1500));
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch as u64));
            if let Some(copies) = copies(step) {
                let mut list = OneList::default();
                let payload = Payload::new(Bytes::from(vec![b'x'; COMMAND_BYTES]));
                let payloads = vec![payload; batch];
                group.bench_function(BenchmarkId::new("floor", batch), |bencher| {
                    bencher.iter_custom(|times| {
                        let mut elapsed = Duration::ZERO;
                        for _ in 0..times {
                            let payloads = payloads.clone();
                            let begin = Instant::now();
                            let handed_on = black_box(list.append(payloads, copies));
                            elapsed += begin.elapsed();
                            drop(handed_on);
                        }
                        elapsed
                    });
                });
            }
            let mut trio = Trio::elect(batch, COMMAND_BYTES).expect("the nodes elect a leader");
            group.bench_function(BenchmarkId::new("node", batch), |bencher| {
                bencher.iter_custom(|times| {
                    let mut stopwatch = Stopwatch::new(step);
                    for _ in 0..times {
                        trio.replicate_in_steps(&mut stopwatch).expect("every batch is committed");
                    }
                    stopwatch.mean() * u32::try_from(times).unwrap_or(u32::MAX)
                });
            });
        }
        group.finish();
    }
}

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replication/read-round");
    group.sample_size(30);
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1500));
    let mut trio = Trio::elect(1, COMMAND_BYTES).expect("the nodes elect a leader");
    trio.replicate().expect("an entry of the leader's own term is committed");
    group.bench_function("node", |bencher| {
        bencher.iter(|| trio.read().expect("nobody else leads"));
    });
    group.finish();
}

criterion_group!(benches, steps, reads);
criterion_main!(benches);
