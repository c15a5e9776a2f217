//! What becomes of bytes on a disk that ages.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Turns one bit of a file round.
pub fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("it is that long");
    byte[0] ^= 1;
    file.write_all_at(&byte, offset).expect("it can be written");
}
