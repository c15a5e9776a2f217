//! Sizes and durations as people write them: `64MiB`, `50ms`, `500ms..1s`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Bytes in a kibibyte.
pub(super) const KIBIBYTE: u64 = 1024;
/// Bytes in a mebibyte.
pub(super) const MEBIBYTE: u64 = 1024 * KIBIBYTE;
/// Bytes in a gibibyte.
pub(super) const GIBIBYTE: u64 = 1024 * MEBIBYTE;

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", GIBIBYTE), ("MiB", MEBIBYTE), ("KiB", KIBIBYTE), ("B", 1)];
const DURATION_UNITS_MS: [(&str, u64); 4] =
    [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000)];

/// How sizes are to be written.
pub(super) const SIZE_REMEDY: &str =
    "write a whole number with B, KiB, MiB or GiB, such as \"64MiB\"";
/// How durations are to be written.
pub(super) const DURATION_REMEDY: &str =
    "write a whole number with ms, s, m or h, such as \"50ms\"";
/// How ranges of durations are to be written.
pub(super) const RANGE_REMEDY: &str = "write the shortest and the longest, such as \"500ms..1s\"";

/// The bytes that `text` stands for.
pub(super) fn size(text: &str) -> Option<u64> {
    quantity(text, &SIZE_UNITS)
}

/// The duration that `text` stands for.
pub(super) fn duration(text: &str) -> Option<Duration> {
    quantity(text, &DURATION_UNITS_MS).map(Duration::from_millis)
}

/// The range of durations that `text` stands for.
pub(super) fn duration_range(text: &str) -> Option<RangeInclusive<Duration>> {
    let (shortest, longest) = text.split_once("..")?;
    Some(duration(shortest)?..=duration(longest)?)
}

/// A whole number, and directly or after a space one of the units.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A size in the largest unit that leaves no remainder.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match SIZE_UNITS.iter().find(fits) {
            Some((unit, factor)) => write!(formatter, "{}{unit}", self.0 / factor),
            None => write!(formatter, "{}B", self.0),
        }
    }
}
