//! Durable appends to the log, by how many entries share a sync, beside a bare write and sync of
//! as many bytes in the same directory.

#![allow(missing_docs, reason = "criterion's macros make items without documentation")]
#![allow(clippy::expect_used, reason = "a bench that cannot run should say so at once")]

use benches::floor::RawLog;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use wal::{Append, Entry, Options, RealDisk, Wal};

const PAYLOAD_BYTES: usize = 100;
const SEGMENT_BYTES: u64 = 16 << 20;

fn appends(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = RealDisk::open(directory.path().join("log")).expect("a directory");
    let options = Options::with_segment_bytes(SEGMENT_BYTES);
    let mut wal = Wal::create(disk, options).expect("a new log");
    let mut floor =
        RawLog::create(&directory.path().join("floor"), SEGMENT_BYTES).expect("a new file");
    let mut group = criterion.benchmark_group("append");
    for batch in [1_u64, 16, 256] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("floor", batch), |bencher| {
            let bytes = vec![b'x'; PAYLOAD_BYTES * usize::try_from(batch).expect("small")];
            bencher.iter(|| floor.append(&bytes).expect("the disk works"));
        });
        group.bench_function(BenchmarkId::new("wal", batch), |bencher| {
            let payload = Entry::new(1, 1, 0, vec![b'x'; PAYLOAD_BYTES]);
            bencher.iter(|| append(&mut wal, &payload, batch));
        });
    }
    group.finish();
}

/// Appends `batch` entries and makes them durable; makes the next segment where one is due.
fn append(wal: &mut Wal, like: &Entry, batch: u64) {
    let first = wal.last().index + 1;
    let entries = (first..first + batch).map(|index| Entry { index, ..like.clone() });
    wal.stage(Append { metadata: None, reset: None, truncate_after: None, entries })
        .expect("there is room");
    wal.commit().expect("the disk works");
    if let Some(job) = wal.take_job() {
        wal.finish_job(job.run()).expect("the disk works");
    }
    // Keep the disk from filling up: only the last segments matter here.
    if first % 100_000 < batch {
        wal.drop_prefix(first.saturating_sub(1)).expect("the disk works");
    }
}

criterion_group!(benches, appends);
criterion_main!(benches);
