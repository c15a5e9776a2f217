//! What can befall the files of a log: flips, cuts, exchanges, pieces of another life, batches
//! written twice.

use wal::sim_disk::SimDisk;

use super::Choices;
use super::lives::{Life, lives};

const MUTATIONS_MAX: usize = 6;

/// A log to which something happened.
pub struct Mutated {
    pub medium: SimDisk,
    /// All that happened is that one bit was flipped.
    pub is_one_flip: bool,
}

fn contents(medium: &SimDisk, file: usize) -> Vec<u8> {
    medium.files().get(file).and_then(|path| medium.contents(path)).unwrap_or_default()
}

fn change(medium: &SimDisk, file: usize, change: impl FnOnce(&mut Vec<u8>)) {
    if let Some(path) = medium.files().get(file) {
        medium.corrupt(path, change);
    }
}

/// Puts bytes over a file, as far as it goes.
fn put(medium: &SimDisk, file: usize, at: usize, bytes: &[u8]) {
    change(medium, file, |contents| {
        let target = contents.iter_mut().skip(at);
        target.zip(bytes).for_each(|(target, byte)| *target = *byte);
    });
}

fn piece(bytes: &[u8], from: usize, length: usize) -> Vec<u8> {
    bytes.iter().skip(from).take(length).copied().collect()
}

/// One of the places where something was written.
fn batch(life: &Life, choices: &mut Choices<'_>) -> (usize, usize, usize) {
    life.batches[choices.below(life.batches.len())]
}

/// Does to one life what the input says.
pub fn mutated(choices: &mut Choices<'_>) -> Mutated {
    let medium = lives().one.medium.fork();
    let mut flips = 0;
    let mut others = 0;
    for _ in 0..MUTATIONS_MAX {
        if choices.is_over() || medium.files().is_empty() {
            break;
        }
        let kind = choices.byte() % 12;
        let file = choices.below(medium.files().len());
        if kind <= 1 {
            flips += 1;
        } else {
            others += 1;
        }
        match kind {
            0..=3 => rot(&medium, kind, file, choices),
            4 | 5 | 10 | 11 => transplant(&medium, kind, file, choices),
            _ => displace(&medium, kind, file, choices),
        }
    }
    Mutated { medium, is_one_flip: flips == 1 && others == 0 }
}

/// A flipped bit, another length, zeros.
fn rot(medium: &SimDisk, kind: u8, file: usize, choices: &mut Choices<'_>) {
    let length = contents(medium, file).len();
    match kind {
        0 | 1 => {
            let (at, bit) = (choices.below(length), choices.byte() % 8);
            change(medium, file, |bytes| {
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
            });
        }
        2 => {
            let length = choices.below(length + 64);
            change(medium, file, |bytes| bytes.resize(length, 0));
        }
        _ => {
            let (at, count) = (choices.below(length), choices.below(1200));
            put(medium, file, at, &vec![0; count]);
        }
    }
}

/// Whole pieces in places where they were not written, or were in another life.
fn transplant(medium: &SimDisk, kind: u8, file: usize, choices: &mut Choices<'_>) {
    let lives = lives();
    let length = contents(medium, file).len();
    match kind {
        4 => {
            let (from, to) = (choices.below(length) & !7, choices.below(length) & !7);
            let bytes = piece(&contents(medium, file), from, choices.below(1200));
            put(medium, file, to, &bytes);
        }
        5 => {
            let (at, count) = (choices.below(length), choices.below(2000));
            put(medium, file, at, &piece(&contents(&lives.other.medium, file), at, count));
        }
        10 => {
            let (source, from, count) = batch(&lives.one, choices);
            let (target, to, _) = batch(&lives.one, choices);
            put(medium, target, to, &piece(&contents(medium, source), from, count));
        }
        _ => {
            let (file, at, count) = batch(&lives.other, choices);
            put(medium, file, at, &piece(&contents(&lives.other.medium, file), at, count));
        }
    }
}

/// Files exchanged or gone, and bytes of the input's own.
fn displace(medium: &SimDisk, kind: u8, file: usize, choices: &mut Choices<'_>) {
    match kind {
        6 => {
            let theirs = contents(&lives().other.medium, file);
            change(medium, file, |bytes| *bytes = theirs);
        }
        7 => {
            let second = choices.below(medium.files().len());
            let (mine, theirs) = (contents(medium, file), contents(medium, second));
            change(medium, file, |bytes| *bytes = theirs);
            change(medium, second, |bytes| *bytes = mine);
        }
        8 => {
            if let Some(path) = medium.files().get(file) {
                medium.destroy(path);
            }
        }
        _ => {
            let count = 1 + usize::from(choices.byte() % 32);
            let at = choices.below(contents(medium, file).len());
            put(medium, file, at, choices.bytes(count));
        }
    }
}
