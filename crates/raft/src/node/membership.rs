//! Which configuration is in force: the last one in the log, from the moment it is appended and
//! not only when it is committed (dissertation 4.1). A truncation brings the one before it back.

use std::collections::VecDeque;

use super::configuration::{Configuration, NOBODY};
use super::types::Index;

/// Every configuration that the log still holds, in its order, and two from before it: the one that
/// is in force where it begins, and the one before that, whose members may still have to hear that
/// they are no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Membership {
    /// Never empty; the last is in force.
    configurations: VecDeque<(Index, Configuration)>,
}

impl Membership {
    /// `base` holds before the first of `appended`, which ascend.
    pub(super) fn new(
        base: (Index, Configuration),
        appended: impl IntoIterator<Item = (Index, Configuration)>,
    ) -> Self {
        Self { configurations: std::iter::once(base).chain(appended).collect() }
    }

    /// The configuration in force.
    pub(super) fn current(&self) -> &Configuration {
        self.configurations.back().map_or(&NOBODY, |(_, configuration)| configuration)
    }

    /// Where the configuration in force stands in the log.
    pub(super) fn index(&self) -> Index {
        self.configurations.back().map_or(Index(0), |(index, _)| *index)
    }

    /// The configuration that was in force before the last one, if it is still known.
    pub(super) fn before(&self) -> &Configuration {
        let before = self.configurations.iter().rev().nth(1);
        before.map_or(&NOBODY, |(_, configuration)| configuration)
    }

    /// The places of configurations from `first` to `last`, ascending.
    pub(super) fn indexes_within(
        &self,
        first: Index,
        last: Index,
    ) -> impl Iterator<Item = Index> + '_ {
        let indexes = self.configurations.iter().map(|(index, _)| *index);
        indexes.filter(move |index| first <= *index && *index <= last)
    }

    /// The configuration that was in force at `index`, as far back as is known.
    pub(super) fn at(&self, index: Index) -> &Configuration {
        let after = self.configurations.partition_point(|(at, _)| *at <= index);
        self.configurations.get(after.saturating_sub(1)).map_or(self.current(), |(_, it)| it)
    }

    /// A snapshot at `index` says what was in force there; what the log holds behind it stays.
    pub(super) fn rebase(&mut self, index: Index, configuration: Configuration) {
        self.configurations.retain(|(at, _)| *at > index);
        self.configurations.push_front((index, configuration));
    }

    /// The log now begins behind `index`.
    pub(super) fn compact(&mut self, index: Index) {
        let before = self.configurations.partition_point(|(at, _)| *at <= index);
        self.configurations.drain(..before.saturating_sub(2));
    }

    /// A snapshot at `index` took the place of the whole log.
    pub(super) fn reset(&mut self, index: Index, configuration: Configuration) {
        self.configurations.clear();
        self.configurations.push_back((index, configuration));
    }

    /// A configuration was appended at `index` and is in force from now on.
    pub(super) fn append(&mut self, index: Index, configuration: Configuration) {
        self.configurations.push_back((index, configuration));
    }

    /// The configuration at `index` of the log was lost, and is known again.
    pub(super) fn insert(&mut self, index: Index, configuration: Configuration) {
        let after = self.configurations.partition_point(|(at, _)| *at < index);
        if self.configurations.get(after).is_none_or(|(at, _)| *at != index) {
            self.configurations.insert(after, (index, configuration));
        }
    }

    /// The log now ends at `index`: configurations above it are in force no more. True when there
    /// were any.
    pub(super) fn truncate_after(&mut self, index: Index) -> bool {
        let before = self.configurations.len();
        while self.configurations.len() > 1
            && self.configurations.back().is_some_and(|(at, _)| *at > index)
        {
            self.configurations.pop_back();
        }
        self.configurations.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::configuration::Voter;
    use crate::node::types::{Incarnation, Member, NodeId};

    fn voter(id: &str, incarnation: u64) -> Voter {
        let member = Member { id: NodeId::new(id).unwrap(), incarnation: Incarnation(incarnation) };
        Voter { member, address: format!("{id}:1") }
    }

    #[test]
    fn the_configuration_at_an_index_is_the_last_one_up_to_it() {
        let of = |id| Configuration::new(vec![voter(id, 1)]).unwrap();
        let mut membership = Membership::new((Index(1), of("s1")), [(Index(4), of("s2"))]);
        membership.append(Index(9), of("s3"));
        let names = [(1, "s1"), (3, "s1"), (4, "s2"), (8, "s2"), (9, "s3"), (12, "s3")];
        for (index, name) in names {
            assert_eq!(membership.at(Index(index)), &of(name), "at {index}");
        }
        membership.rebase(Index(6), of("s9"));
        assert_eq!(membership.at(Index(8)), &of("s9"));
        assert_eq!(membership.current(), &of("s3"));
        membership.reset(Index(20), of("s4"));
        assert_eq!(membership.current(), &of("s4"));
    }

    /// They were once kept until the next start, however many there came to be.
    #[test]
    fn a_compaction_lets_go_of_what_the_log_no_longer_holds() {
        let of = |n: u64| Configuration::new(vec![voter(&format!("s{n}"), 1)]).unwrap();
        let mut membership = Membership::new((Index(0), of(0)), []);
        for n in 1..=100 {
            membership.append(Index(n), of(n));
            membership.compact(Index(n.saturating_sub(3)));
            assert!(membership.configurations.len() <= 5);
            assert_eq!(membership.at(Index(n.saturating_sub(3))), &of(n.saturating_sub(3)));
        }
        assert_eq!((membership.current(), membership.before()), (&of(100), &of(99)));
        membership.compact(Index(200));
        assert_eq!((membership.current(), membership.before()), (&of(100), &of(99)));
    }

    #[test]
    fn a_truncation_brings_back_the_configuration_before_it() {
        let of = |id| Configuration::new(vec![voter(id, 1)]).unwrap();
        let mut membership = Membership::new((Index(1), of("s1")), [(Index(4), of("s2"))]);
        membership.append(Index(9), of("s3"));
        membership.truncate_after(Index(8));
        assert_eq!(membership.current(), &of("s2"));
        membership.truncate_after(Index(3));
        assert_eq!(membership.current(), &of("s1"));
    }
}
