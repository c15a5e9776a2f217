//! What the fuzz targets do with their input, and what must hold whatever the input is. The
//! targets and the test that replays their corpora share it, so it needs no fuzzer.
//!
//! Three ways to make a medium out of bytes: [`forge::raw`] takes them for a segment,
//! [`forge::forged`] for records whose checksums are put right, [`mutation::mutated`] for damage
//! to a log that was whole.

pub mod check;
pub mod forge;
pub mod lives;
pub mod mutation;
pub mod tools;

use check::Seen;

/// Bytes of a fuzzer, taken off one by one; zeros follow when there are none left.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// All of the input.
    pub fn new(rest: &'a [u8]) -> Choices<'a> {
        Choices { rest }
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// As many bytes as are there, up to `count`.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A number below `limit`, from two bytes.
    pub fn below(&mut self, limit: usize) -> usize {
        let number = usize::from(self.byte()) | usize::from(self.byte()) << 8;
        number % limit.max(1)
    }
}

/// Opens a segment of arbitrary bytes, with or without checksums put right.
pub fn open_bytes(data: &[u8]) -> Seen {
    let mut choices = Choices::new(data);
    let is_raw = choices.byte().is_multiple_of(2);
    let verify_from = u64::from(choices.byte());
    let medium = if is_raw { forge::raw(&mut choices) } else { forge::forged(&mut choices) };
    check::open(&medium, verify_from, None)
}

/// Opens a log that was whole before something befell it.
pub fn open_mutated(data: &[u8]) -> Seen {
    let mut choices = Choices::new(data);
    let verify_from = u64::from(choices.byte());
    let mutated = mutation::mutated(&mut choices);
    check::open(&mutated.medium, verify_from, Some(&mutated))
}

/// Looks at either of them with the tools, and salvages it if it does not open.
pub fn inspect(data: &[u8]) -> Seen {
    let mut choices = Choices::new(data);
    let medium = match choices.byte() % 4 {
        0 => forge::raw(&mut choices),
        1 => forge::forged(&mut choices),
        _ => mutation::mutated(&mut choices).medium,
    };
    check::inspect(&medium)
}
