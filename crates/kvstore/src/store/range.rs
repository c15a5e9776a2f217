//! Ranges of keys: what scans and prefix deletes are about. Keys are compared as byte strings.

use bytes::Bytes;
use std::ops::Bound;

/// The ends of a range as ordered maps take them.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A range of keys. It may be empty, also by having its ends the wrong way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    from: Bound<Bytes>,
    to: Bound<Bytes>,
}

impl KeyRange {
    /// All keys there are.
    pub fn all() -> KeyRange {
        KeyRange { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: Bytes) -> KeyRange {
        // The first key behind all of them: the prefix with its last byte that can be raised
        // raised, and what follows cut off. A prefix of 0xff bytes has no such key.
        let end = prefix.iter().rposition(|byte| *byte < u8::MAX).and_then(|position| {
            let mut end = prefix.get(..=position)?.to_vec();
            *end.last_mut()? += 1;
            Some(Bytes::from(end))
        });
        KeyRange {
            from: Bound::Included(prefix),
            to: end.map_or(Bound::Unbounded, Bound::Excluded),
        }
    }

    /// All keys from `from` on, up to but without `to`.
    pub fn between(from: Bytes, to: Option<Bytes>) -> KeyRange {
        KeyRange { from: Bound::Included(from), to: to.map_or(Bound::Unbounded, Bound::Excluded) }
    }

    /// The part of the range above `key`.
    pub fn above(self, key: Bytes) -> KeyRange {
        let raise = match &self.from {
            Bound::Unbounded => true,
            Bound::Included(from) | Bound::Excluded(from) => *from <= key,
        };
        let from = if raise { Bound::Excluded(key) } else { self.from };
        KeyRange { from, to: self.to }
    }

    /// The part of the range below `key`.
    pub fn below(self, key: Bytes) -> KeyRange {
        let lower = match &self.to {
            Bound::Unbounded => true,
            Bound::Included(to) | Bound::Excluded(to) => *to >= key,
        };
        let to = if lower { Bound::Excluded(key) } else { self.to };
        KeyRange { from: self.from, to }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        let above = match &self.from {
            Bound::Unbounded => true,
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
        };
        let below = match &self.to {
            Bound::Unbounded => true,
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
        };
        above && below
    }

    /// The range as ordered maps take it; `None` if no key can lie in it. Ordered maps may panic
    /// on ends that are the wrong way round, and these ends come from the network.
    pub(super) fn bounds(&self) -> Option<Bounds<'_>> {
        let from = self.from.as_ref().map(|from| &from[..]);
        let to = self.to.as_ref().map(|to| &to[..]);
        let possible = match (from, to) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
            (Bound::Included(from), Bound::Included(to)) => from <= to,
            (
                Bound::Included(from) | Bound::Excluded(from),
                Bound::Included(to) | Bound::Excluded(to),
            ) => from < to,
        };
        possible.then_some((from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static [u8]) -> Bytes {
        Bytes::from_static(text)
    }

    #[test]
    fn a_prefix_holds_exactly_the_keys_that_begin_with_it() {
        let keys: [&[u8]; 9] =
            [b"", b"a", b"a\x00", b"a\xfe", b"a\xff", b"a\xff\xff", b"a\xff\xffz", b"b", b"\xff"];
        for prefix in keys {
            let range = KeyRange::prefix(Bytes::copy_from_slice(prefix));
            for key in keys {
                assert_eq!(range.contains(key), key.starts_with(prefix), "{prefix:?} of {key:?}");
            }
        }
    }

    #[test]
    fn going_on_behind_a_key_never_widens_a_range() {
        let range = KeyRange::between(bytes(b"c"), Some(bytes(b"m")));
        assert_eq!(range.clone().above(bytes(b"a")), range);
        assert_eq!(range.clone().below(bytes(b"z")), range);
        assert!(!range.clone().above(bytes(b"c")).contains(b"c"));
        assert!(range.clone().above(bytes(b"c")).contains(b"c\x00"));
        assert!(!range.clone().below(bytes(b"l")).contains(b"l"));
        assert!(range.below(bytes(b"l")).contains(b"kz"));
    }

    #[test]
    fn a_range_with_its_ends_the_wrong_way_round_is_empty() {
        assert_eq!(KeyRange::between(bytes(b"m"), Some(bytes(b"c"))).bounds(), None);
        assert_eq!(KeyRange::between(bytes(b"m"), Some(bytes(b"m"))).bounds(), None);
        assert_eq!(KeyRange::all().above(bytes(b"m")).below(bytes(b"m")).bounds(), None);
        assert!(KeyRange::all().bounds().is_some());
    }
}
