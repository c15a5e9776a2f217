//! Durable appends by the one owner of a log, of several sizes and with several entries to a sync,
//! each beside a bare write and sync of the same payloads in the same directory.

#![allow(missing_docs, reason = "criterion's macros make items without documentation")]
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so at once")]

use std::path::Path;
use std::time::Duration;

use benches::floor::RawLog;
use benches::log::{Checksum, OwnedLog, SEGMENT_BYTES, Syncs};
use benches::place::Place;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// The bytes of a payload, and how many of them share a sync.
const WORK: [(usize, &[u64]); 4] =
    [(100, &[1, 16, 256]), (1024, &[1, 16, 256]), (16 << 10, &[1, 16]), (64 << 10, &[1, 16])];

fn appends(criterion: &mut Criterion) {
    let place = Place::make(None).expect("a directory on a real file system");
    for (bytes, batches) in WORK {
        let mut group = criterion.benchmark_group(format!("append/{bytes}"));
        group.sample_size(30);
        group.warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        let payload = Bytes::from(vec![b'x'; bytes]);
        for entries in batches {
            let corner = place.corner().expect("a directory");
            group.throughput(Throughput::Elements(*entries));
            let mut floor = floor(corner.path());
            let all = payload.repeat(usize::try_from(*entries).expect("a small batch"));
            group.bench_function(BenchmarkId::new("floor", entries), |bencher| {
                bencher.iter(|| floor.append(&all).expect("the disk works"));
            });
            let mut log = log(corner.path(), *entries, payload.clone());
            group.bench_function(BenchmarkId::new("wal", entries), |bencher| {
                bencher.iter(|| log.append().expect("the disk works"));
            });
        }
        group.finish();
    }
}

fn floor(directory: &Path) -> RawLog {
    RawLog::create(&directory.join("floor"), SEGMENT_BYTES).expect("a new file")
}

fn log(directory: &Path, entries: u64, payload: Bytes) -> OwnedLog {
    let directory = directory.join("log");
    OwnedLog::start(&directory, entries, payload, Checksum::Computed, Syncs::Always)
        .expect("a new log")
}

criterion_group!(benches, appends);
criterion_main!(benches);
