//! Opens arbitrary bytes as a log: raw, or with the checksums put right.

#![no_main]

#[path = "../../crates/wal/tests/fuzzing/mod.rs"]
#[allow(dead_code, reason = "each target uses one of the ways to make a log")]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzzing::open_bytes(data);
});
