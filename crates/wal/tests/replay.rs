//! Replays the corpora that fuzzing has left behind, on a stable compiler: what must hold for any
//! input holds for each of these, and none makes the log ask for much memory at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs, unreachable_pub, reason = "shared with the fuzz targets, as public modules")]

mod counting;
mod fuzzing;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use counting::allocations;
use fuzzing::check::Seen;

/// More than any one record here can be, and far less than a length made of garbage would ask for.
const ALLOCATION_BYTES_MAX: usize = 1024 * 1024;

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|item| item.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// How often each answer was given.
fn replay(target: &str, run: fn(&[u8]) -> Seen) -> BTreeMap<Seen, u64> {
    let inputs = inputs(target);
    assert!(inputs.len() >= 50, "{target} has a corpus of {} inputs", inputs.len());
    // What is made once for all inputs shall not be counted against the first.
    fuzzing::lives::lives();
    let mut seen = BTreeMap::new();
    for (name, input) in &inputs {
        let mut answer = None;
        let (_, largest) = allocations(|| answer = Some(run(input)));
        assert!(largest <= ALLOCATION_BYTES_MAX, "{name}: {largest} bytes at once");
        *seen.entry(answer.unwrap()).or_default() += 1;
    }
    println!("tried {} inputs of {target}: {seen:?}", inputs.len());
    seen
}

#[test]
fn arbitrary_segments_of_the_corpus_get_an_answer() {
    let seen = replay("wal_open_bytes", fuzzing::open_bytes);
    for answer in [Seen::Refused, Seen::Torn, Seen::Whole] {
        assert!(seen.contains_key(&answer), "no input ends as {answer:?}: {seen:?}");
    }
}

#[test]
fn damaged_logs_of_the_corpus_hold_nothing_that_was_not_submitted() {
    let seen = replay("wal_open_mutated", fuzzing::open_mutated);
    for answer in [Seen::Refused, Seen::Lost, Seen::Mended, Seen::Torn, Seen::Whole] {
        assert!(seen.contains_key(&answer), "no input ends as {answer:?}: {seen:?}");
    }
}

#[test]
fn what_the_tools_say_of_the_corpus_is_what_opening_says() {
    let seen = replay("wal_inspect", fuzzing::inspect);
    for answer in [Seen::Lost, Seen::Salvaged, Seen::Torn, Seen::Whole] {
        assert!(seen.contains_key(&answer), "no input ends as {answer:?}: {seen:?}");
    }
}

#[test]
fn one_flipped_bit_is_told_wherever_it_is() {
    let files = fuzzing::lives::lives().one.medium.files().len();
    let mut seen: BTreeMap<Seen, u64> = BTreeMap::new();
    for file in 0..files as u8 {
        for at in (0..fuzzing::lives::SEGMENT_BYTES as u16).step_by(3) {
            let [low, high] = at.to_le_bytes();
            let input = [0, 0, file, 0, low, high, (at % 8) as u8];
            *seen.entry(fuzzing::open_mutated(&input)).or_default() += 1;
        }
    }
    println!("tried {} flips: {seen:?}", seen.values().sum::<u64>());
    for answer in [Seen::Refused, Seen::Lost, Seen::Mended, Seen::Torn, Seen::Whole] {
        assert!(seen.contains_key(&answer), "no flip ends as {answer:?}: {seen:?}");
    }
}
