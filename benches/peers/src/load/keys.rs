//! The keys and values of every measurement.

use std::io::Write;

/// How many keys there are.
pub const KEYS: u64 = 100_000;

/// The size of every value.
pub const VALUE_BYTES: usize = 100;

/// The value that a key gets from a write with this stamp: its key, its stamp and filling.
pub fn value(key: u64, stamp: u64) -> [u8; VALUE_BYTES] {
    let mut value = [b'x'; VALUE_BYTES];
    // What is written is shorter than the value.
    let _ = write!(&mut value[..], "{key:010} {stamp:016x} ");
    value
}

/// Whether somebody has written this value to this key.
pub fn is_value_of(key: u64, found: &[u8]) -> bool {
    found.len() == VALUE_BYTES && found.starts_with(format!("{key:010} ").as_bytes())
}

/// Numbers without a pattern, the same in every run: <https://prng.di.unimi.it/splitmix64.c>.
#[derive(Clone, Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::{VALUE_BYTES, is_value_of, value};

    #[test]
    fn a_value_tells_its_key() {
        let written = value(17, u64::MAX);
        assert!(is_value_of(17, &written));
        assert!(!is_value_of(1, &written), "a value of another key is wrong");
        assert!(!is_value_of(17, &written[..VALUE_BYTES - 1]), "a value that was cut is wrong");
    }
}
