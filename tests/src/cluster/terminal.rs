//! A terminal for programs that ask whether they have one.

use std::fs::File;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A terminal: this end of it, and the end that a program takes for one.
///
/// # Panics
/// If the machine has no more of them.
pub fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal can be had");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it is ours");
    let name = ptsname(&ours, Vec::new()).expect("it has a name");
    let name = name.to_str().expect("a name in UTF-8");
    let theirs = File::options().read(true).write(true).open(name).expect("it can be opened");
    (ours.into(), theirs)
}
