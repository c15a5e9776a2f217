//! Looks at damaged logs with every tool, and compares what they say with what opening says.

#![no_main]

#[path = "../../crates/wal/tests/fuzzing/mod.rs"]
#[allow(dead_code, reason = "each target uses one of the ways to make a log")]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzzing::inspect(data);
});
