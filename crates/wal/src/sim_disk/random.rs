//! The one source of chance of this crate's simulations and tests: small, fast, and the same
//! everywhere, so that a seed stands for one story.

/// A generator of numbers that all follow from its seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator for one story.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, or zero if the limit is.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw().checked_rem(limit).unwrap_or(0)
    }

    /// A number of `0..=last`, with the ends more likely than the middle.
    pub fn edge(&mut self, last: u64) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => last,
            _ => self.below(last.saturating_add(1)),
        }
    }
}
