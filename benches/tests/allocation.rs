//! What the protocol asks of the allocator: the same for a batch of any size, on the leader and on
//! its followers. Payloads are shared, so an entry itself costs nothing.
//!
//! A binary of its own, because the allocator counts for a whole process.

// Counting allocations takes a global allocator, and that takes unsafe.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a broken bench should say so at once")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

use benches::nodes::{Observer, Step, Trio};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    COUNT.with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations by step.
#[derive(Debug, Default)]
struct Counts(BTreeMap<Step, u64>);

impl Observer for Counts {
    fn observe<T>(&mut self, step: Step, work: impl FnOnce() -> T) -> T {
        let before = COUNT.with(Cell::get);
        let done = work();
        let after = COUNT.with(Cell::get);
        *self.0.entry(step).or_default() += after - before;
        done
    }
}

const BATCHES: u64 = 200;

/// What batches of so many entries allocate once everything has found its size.
fn allocations(batch: usize) -> BTreeMap<Step, u64> {
    let mut trio = Trio::elect(batch, 100).unwrap();
    let warm = 20_000 / batch as u64;
    for _ in 0..warm {
        trio.replicate_in_steps(&mut Counts::default()).unwrap();
    }
    let mut counts = Counts::default();
    for _ in 0..BATCHES {
        trio.replicate_in_steps(&mut counts).unwrap();
    }
    counts.0
}

/// A few are allowed beside: what is remembered of the log's size grows now and then.
const SPARE: u64 = 20;

#[test]
fn an_entry_costs_no_allocation_once_the_nodes_run() {
    let single = allocations(1);
    for batch in [16, 64, 1000] {
        let many = allocations(batch);
        for step in Step::ALL {
            let (one, all) = (single[&step], many[&step]);
            assert!(
                all <= one + SPARE,
                "{}: {one} for {BATCHES} entries, {all} for {BATCHES} batches of {batch}",
                step.name()
            );
        }
    }
}

#[test]
fn a_batch_costs_a_handful_of_allocations() {
    for (step, count) in allocations(64) {
        // Both followers take part in their steps.
        let most = match step {
            Step::LeaderAppend | Step::FollowerAppend => 6,
            Step::Acknowledge => 5,
            Step::Commit => 7,
        };
        assert!(count <= most * BATCHES + SPARE, "{}: {count} for {BATCHES} batches", step.name());
    }
}
