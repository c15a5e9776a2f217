//! What a power cut may do, and dice that decide it from a seed.

use super::inode::SECTOR_BYTES;
use super::random::Random;

/// Something that is not durable when the power goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// The length of a file.
    Length {
        /// The file.
        path: String,
        /// Its durable length.
        before: u64,
        /// Its length now.
        after: u64,
    },
    /// A sector of a file.
    Sector {
        /// The file.
        path: String,
        /// Counted from the beginning of the file.
        number: u64,
        /// It held only zeros, so it may be torn or garbled.
        is_blank: bool,
    },
    /// A created, renamed or removed file.
    Name {
        /// The file; its new name if it was renamed.
        path: String,
    },
}

/// What becomes of something pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It reached the medium.
    Keep,
    /// The medium has what it had before.
    Lose,
    /// Only the first bytes of the sector reached the medium. Counts as lost if it was not blank.
    Tear {
        /// How many.
        bytes: u16,
    },
    /// The sector holds something else. Counts as lost if it was not blank.
    Garble {
        /// What.
        seed: u64,
    },
}

/// What a crash did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crash {
    /// Pending things that reached the medium.
    pub kept: u64,
    /// Pending things that did not.
    pub lost: u64,
    /// Sectors that were torn or garbled.
    pub mangled: u64,
}

/// A sector of garbage.
pub(super) fn garbage(seed: u64) -> [u8; SECTOR_BYTES as usize] {
    let mut random = Random::new(seed);
    let mut sector = [0; SECTOR_BYTES as usize];
    for bytes in sector.chunks_mut(8) {
        for (target, byte) in bytes.iter_mut().zip(random.draw().to_le_bytes()) {
            *target = byte;
        }
    }
    sector
}

/// How one power cut treats what is pending. A mix of all at once would rarely lose everything or
/// nothing, and those are the cases that find most.
#[derive(Clone, Copy, Debug)]
enum Temper {
    LoseAll,
    KeepAll,
    /// Each thing on its own.
    Mix,
    /// Each on its own, and sectors may be torn or garbled.
    Mangle,
    /// All up to some point, and nothing behind it.
    Prefix,
}

/// Decides fates from a seed.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    random: Random,
    temper: Temper,
    left_to_keep: u64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        let mut random = Random::new(seed);
        let temper = match random.draw() % 8 {
            0 => Temper::LoseAll,
            1 => Temper::KeepAll,
            2 | 3 => Temper::Mix,
            4 | 5 => Temper::Mangle,
            _ => Temper::Prefix,
        };
        let left_to_keep = random.draw() % 8;
        Dice { random, temper, left_to_keep }
    }

    pub(super) fn fate(&mut self, pending: &Pending) -> Fate {
        let roll = self.random.draw();
        let coin = if roll & 1 == 0 { Fate::Keep } else { Fate::Lose };
        match self.temper {
            Temper::LoseAll => Fate::Lose,
            Temper::KeepAll => Fate::Keep,
            Temper::Mix => coin,
            Temper::Mangle => match (pending, roll >> 1 & 3) {
                (Pending::Sector { is_blank: true, .. }, 0) => {
                    Fate::Tear { bytes: (roll >> 8 & 0x1ff) as u16 }
                }
                (Pending::Sector { is_blank: true, .. }, 1) => Fate::Garble { seed: roll },
                _ => coin,
            },
            Temper::Prefix if self.left_to_keep > 0 => {
                self.left_to_keep = self.left_to_keep.saturating_sub(1);
                Fate::Keep
            }
            Temper::Prefix => Fate::Lose,
        }
    }
}
