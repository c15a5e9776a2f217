//! Opens a log to which flips, cuts, exchanges and pieces of another life have happened.

#![no_main]

#[path = "../../crates/wal/tests/fuzzing/mod.rs"]
#[allow(dead_code, reason = "each target uses one of the ways to make a log")]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzzing::open_mutated(data);
});
