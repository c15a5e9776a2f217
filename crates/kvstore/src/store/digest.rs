//! A 64-bit digest with a fixed definition, so that replicas of different builds agree on it. It
//! guards against bugs and mix-ups, not against an adversary.

/// Numbers with well spread bits: the fractions of the golden ratio and of pi.
const STATE_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const WORD_KEY: u64 = 0x243f_6a88_85a3_08d3;

/// A digest in the making. What is fed in is framed by its length, so that `ab`, `c` and `a`, `bc`
/// differ.
#[derive(Clone, Debug)]
pub(crate) struct Digest {
    state: u64,
}

impl Digest {
    pub(crate) fn new() -> Digest {
        Digest { state: STATE_SEED }
    }

    /// Digests one byte string alone.
    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut digest = Digest::new();
        digest.bytes(bytes);
        digest.finish()
    }

    /// Feeds a number.
    pub(crate) fn word(&mut self, word: u64) {
        // A folded multiplication: every bit of the input reaches every bit of the state.
        let product = u128::from(self.state ^ word) * u128::from(WORD_KEY ^ word.rotate_left(32));
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.state = folded.wrapping_add(STATE_SEED).rotate_left(23) ^ word;
    }

    /// Feeds a byte string and its length.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0u8; 8];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        self.word(u64::from_le_bytes(last));
    }

    /// The digest of all that was fed.
    pub(crate) fn finish(mut self) -> u64 {
        self.word(STATE_SEED);
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;
    use std::collections::BTreeSet;

    #[test]
    fn the_definition_does_not_change() {
        assert_eq!(
            (Digest::of(b""), Digest::of(b"set ana 4")),
            (16_580_898_715_867_598_542, 15_057_489_505_074_403_892)
        );
    }

    #[test]
    fn neighbours_do_not_collide() {
        let mut seen = BTreeSet::new();
        let mut inputs = 0;
        for length in 0..40 {
            for position in 0..length.max(1) {
                for bit in 0..8 {
                    let mut bytes = vec![0u8; length];
                    if let Some(byte) = bytes.get_mut(position) {
                        *byte = 1 << bit;
                    } else if bit > 0 {
                        continue;
                    }
                    inputs += 1;
                    assert!(seen.insert(Digest::of(&bytes)), "{bytes:?} collides");
                }
            }
        }
        assert_eq!(seen.len(), inputs);
    }

    #[test]
    fn the_same_bytes_in_other_pieces_differ() {
        let mut one = Digest::new();
        one.bytes(b"ab");
        one.bytes(b"c");
        let mut other = Digest::new();
        other.bytes(b"a");
        other.bytes(b"bc");
        assert_ne!(one.finish(), other.finish());
    }
}
