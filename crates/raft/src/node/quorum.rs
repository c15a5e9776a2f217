//! Counting majorities, in one group of voters or, while the voters change, in two at once
//! (dissertation 4.3). Pure arithmetic with no Raft in it, tested exhaustively.

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
fn reached_by_majority(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable_by(|left, right| right.cmp(left));
    // In descending order, the value at position `majority - 1` has a majority at or above it.
    values.get(majority(values.len()) - 1).copied()
}

/// How a ballot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A majority of each group has said yes.
    Won,
    /// Some group cannot give a majority any more.
    Lost,
    /// It depends on who has not answered.
    Pending,
}

/// One group of voters, or two of which each must agree: the majorities of the two are counted
/// apart, never one of the union. A voter in both counts in both.
#[derive(Clone, Copy, Debug)]
pub struct Quorum<'a, V> {
    group: &'a [V],
    /// Empty unless there are two.
    second: &'a [V],
}

impl<'a, V> Quorum<'a, V> {
    /// The voters of `group` decide, together with those of `second` unless that is empty.
    #[must_use]
    pub fn new(group: &'a [V], second: &'a [V]) -> Self {
        Self { group, second }
    }

    /// The groups that must agree.
    fn groups(&self) -> impl Iterator<Item = &'a [V]> + use<'a, V> {
        let second = (!self.second.is_empty()).then_some(self.second);
        std::iter::once(self.group).chain(second)
    }

    /// The highest value that a majority of each group has reached, where each voter stands at
    /// `at`. With no voters nothing is ever reached.
    #[must_use]
    pub fn reached(&self, at: impl Fn(&V) -> u64) -> Option<u64> {
        let in_group = |group: &[V]| {
            let mut values: Vec<u64> = group.iter().map(&at).collect();
            reached_by_majority(&mut values)
        };
        // `None` is less than any value.
        self.groups().map(in_group).min().flatten()
    }

    /// Whether those that are `in_it` are a quorum: a majority of each group.
    #[must_use]
    pub fn has(&self, in_it: impl Fn(&V) -> bool) -> bool {
        self.groups()
            .all(|group| group.iter().filter(|voter| in_it(voter)).count() >= majority(group.len()))
    }

    /// How a ballot stands in which each voter has said yes, no, or nothing yet.
    #[must_use]
    pub fn outcome(&self, vote: impl Fn(&V) -> Option<bool>) -> Outcome {
        if self.has(|voter| vote(voter) == Some(true)) {
            Outcome::Won
        } else if self.has(|voter| vote(voter) != Some(false)) {
            Outcome::Pending
        } else {
            Outcome::Lost
        }
    }
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
    fn nobody_reaches_nothing_and_wins_nothing() {
        let nobody = Quorum::<u32>::new(&[], &[]);
        assert_eq!(nobody.reached(|_| 1), None);
        assert!(!nobody.has(|_| true));
        assert_eq!(nobody.outcome(|_| Some(true)), Outcome::Lost);
        assert_eq!(Quorum::new(&[], &[1]).reached(|_| 1), None);
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
                let members: Vec<usize> = (0..values.len()).collect();
                let quorum = Quorum::new(&members, &[]);
                assert_eq!(quorum.reached(|&voter| values[voter]), defined, "{values:?}");
            }
        }
    }

    /// One group of up to seven voters, and every pair of groups among so many: each voter is in
    /// the first, in the second, or in both. (Which of them is called what makes no difference, so
    /// the sizes say it all.)
    fn pairs_of_groups(check: impl Fn(&[usize], &[usize], usize)) {
        for voters in 1..=7_usize {
            let all: Vec<usize> = (0..voters).collect();
            check(&all, &[], voters);
            for only_first in 0..=voters {
                for both in 0..=voters - only_first {
                    let first: Vec<usize> = (0..only_first + both).collect();
                    let second: Vec<usize> = (only_first..voters).collect();
                    if !first.is_empty() && !second.is_empty() {
                        check(&first, &second, voters);
                    }
                }
            }
        }
    }

    /// Whether more than half of a group, if there is one, is in a set of bits.
    fn more_than_half(group: &[usize], set: u32) -> bool {
        group.is_empty()
            || 2 * group.iter().filter(|&&voter| set & (1 << voter) != 0).count() > group.len()
    }

    #[test]
    fn a_quorum_of_two_groups_has_a_majority_of_each() {
        pairs_of_groups(|first, second, voters| {
            for set in 0..1_u32 << voters {
                let defined = more_than_half(first, set) && more_than_half(second, set);
                let quorum = Quorum::new(first, second);
                let has = quorum.has(|&voter| set & (1 << voter) != 0);
                assert_eq!(has, defined, "{first:?} {second:?} {set:b}");
            }
        });
    }

    #[test]
    fn what_two_groups_reached_is_the_largest_value_that_a_majority_of_each_is_at_or_above() {
        pairs_of_groups(|first, second, voters| {
            let count = u32::try_from(voters).unwrap();
            for code in 0..3_u32.pow(count) {
                let at = |voter: usize| code / 3_u32.pow(u32::try_from(voter).unwrap()) % 3;
                let reached_by = |value: u32| {
                    let set = (0..voters).filter(|&voter| at(voter) >= value);
                    let set = set.fold(0, |set, voter| set | 1 << voter);
                    more_than_half(first, set) && more_than_half(second, set)
                };
                let defined = (0..3).rev().find(|&value| reached_by(value)).map(u64::from);
                let reached = Quorum::new(first, second).reached(|&voter| at(voter).into());
                assert_eq!(reached, defined, "{first:?} {second:?} {code}");
            }
        });
    }

    #[test]
    fn a_ballot_is_won_or_lost_when_no_further_answer_can_change_it() {
        pairs_of_groups(|first, second, voters| {
            let count = u32::try_from(voters).unwrap();
            for code in 0..3_u32.pow(count) {
                let vote = |voter: usize| match code / 3_u32.pow(u32::try_from(voter).unwrap()) % 3
                {
                    0 => Some(false),
                    1 => Some(true),
                    _ => None,
                };
                let set_of = |said: &dyn Fn(Option<bool>) -> bool| {
                    let set = (0..voters).filter(|&voter| said(vote(voter)));
                    set.fold(0_u32, |set, voter| set | 1 << voter)
                };
                let wins = |set| more_than_half(first, set) && more_than_half(second, set);
                let (yes, open) = (set_of(&|it| it == Some(true)), set_of(&|it| it.is_none()));
                // Every way in which the others might still answer.
                let endings = (0..1_u32 << voters).filter(|set| set & !open == 0);
                let won: Vec<bool> = endings.map(|set| wins(yes | set)).collect();
                let defined = match (won.contains(&true), won.contains(&false)) {
                    (true, false) => Outcome::Won,
                    (false, _) => Outcome::Lost,
                    (true, true) => Outcome::Pending,
                };
                let outcome = Quorum::new(first, second).outcome(|&voter| vote(voter));
                assert_eq!(outcome, defined, "{first:?} {second:?} {code}");
            }
        });
    }
}
