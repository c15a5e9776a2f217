//! Counting majorities. Pure arithmetic with no Raft in it, tested exhaustively.

/// How many of `voters` are a majority: more than half, so three of four.
#[must_use]
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The highest value that a majority has reached, where each voter stands at one of `values`.
/// With no voters nothing is ever reached.
///
/// A plain sort: an optimised walk once committed without a quorum (databendlabs/openraft#1802).
/// `values` is reordered.
#[must_use]
pub(super) fn reached_by_majority(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable_by(|left, right| right.cmp(left));
    // In descending order, the value at position `majority - 1` has a majority at or above it.
    values.get(majority(values.len()) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        let expected = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)];
        for (voters, needed) in expected {
            assert_eq!(majority(voters), needed, "of {voters}");
        }
    }

    #[test]
    fn nobody_reaches_nothing() {
        assert_eq!(reached_by_majority(&mut []), None);
    }

    /// Every assignment of small values to up to seven voters, against the definition.
    #[test]
    fn the_reached_value_is_the_largest_that_a_majority_is_at_or_above() {
        for voters in 1..=7_u32 {
            for code in 0..4_u32.pow(voters) {
                let values: Vec<u64> =
                    (0..voters).map(|voter| u64::from(code / 4_u32.pow(voter) % 4)).collect();
                let at_or_above = |value| values.iter().filter(|&&v| v >= value).count();
                let defined = (0..4).rev().find(|&v| 2 * at_or_above(v) > values.len());
                assert_eq!(reached_by_majority(&mut values.clone()), defined, "{values:?}");
            }
        }
    }
}
