//! The node's only source of chance: a small generator whose seed is handed in, so that the same
//! seed gives the same elections. It need not be unpredictable, only evenly spread.

/// `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        if low >= high {
            return low;
        }
        let span = u64::from(high.saturating_sub(low)) + 1;
        // The bias of a 64-bit remainder over a span of 32 bits is far below what matters here.
        low + u32::try_from(self.next() % span).unwrap_or(0)
    }
}
