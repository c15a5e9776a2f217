//! A note in a server's directory that says that its log has forgotten things: left when a damaged
//! log is made to open again without the part that cannot be accounted for. The log itself looks
//! whole afterwards, so nothing else would keep the server from voting twice.
//!
//! ```text
//! lost-history    text for people: a line with the version, then what was given up, the most
//!                 important first
//! ```
//!
//! That the file is there is all that counts; one that rotted says the same.

use std::io;

use thiserror::Error;
use wal::{Disk, Inspector, OpenError, Plan, Salvage};

use super::directory::{read_note, replace_file};

/// The file's name, in the server's directory or in that of its log.
const NAME: &str = "lost-history";
const FIRST_LINE: &str = "lost history, version 1\n";

/// Why history was not given up.
#[derive(Debug, Error)]
pub enum GiveUpError {
    /// The note could not be left; the log was not touched.
    #[error("cannot note that history was lost in {path}: {source}")]
    Note {
        /// The directory.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The note is there, and the log was not salvaged, or is to be salvaged again.
    #[error(transparent)]
    Log(#[from] OpenError),
}

/// Gives up what a plan says, and has the server of this directory never start with what is left.
/// May be called again when it was interrupted, wherever that was.
///
/// The note is durable before anything is given up: no crash leaves a log that opens and whose
/// server does not know what it has forgotten.
///
/// # Errors
/// The disk failed, or the log cannot be salvaged in this way.
pub fn give_up_history(
    home: &dyn Disk,
    log: &Inspector,
    plan: &Plan,
    account: &str,
) -> Result<Salvage, GiveUpError> {
    note_lost_history(home, account)
        .map_err(|source| GiveUpError::Note { path: home.path(""), source })?;
    Ok(log.carry_out(plan)?)
}

/// Notes in a directory, durably, that the log in it has lost history. Every later start of the
/// server refuses. An earlier note stays, above the new account, unless it says the same.
///
/// To be called *before* the log is changed.
///
/// # Errors
/// The disk failed.
pub fn note_lost_history(disk: &dyn Disk, account: &str) -> io::Result<()> {
    let earlier = lost_history(disk)?.unwrap_or_default();
    if !account.trim().is_empty() && earlier.contains(account.trim_end()) {
        // It was written whole; that it is found after a power cut is not known.
        return disk.sync();
    }
    let text = format!("{FIRST_LINE}{earlier}{}\n", account.trim_end());
    replace_file(disk, NAME, |file| wal::disk::write_all_at(file, text.as_bytes(), 0)).map(drop)
}

/// What the note in a directory says, if there is one.
///
/// # Errors
/// The directory cannot be listed.
pub fn lost_history(disk: &dyn Disk) -> io::Result<Option<String>> {
    let Some(text) = read_note(disk, NAME)? else { return Ok(None) };
    let text = text.unwrap_or_else(|error| format!("{error}\n"));
    Ok(Some(text.strip_prefix(FIRST_LINE).unwrap_or(&text).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::directory::NOTE_BYTES_MAX;
    use wal::sim_disk::SimDisk;

    #[test]
    fn a_note_survives_a_power_cut_in_these_very_bytes() {
        let medium = SimDisk::new();
        assert_eq!(lost_history(medium.disk().as_ref()).unwrap(), None);
        note_lost_history(medium.disk().as_ref(), "entries 4..=7 were given up").unwrap();
        medium.crash(1);
        assert_eq!(
            medium.contents(NAME).unwrap(),
            b"lost history, version 1\nentries 4..=7 were given up\n"
        );
    }

    #[test]
    fn a_second_note_keeps_the_first() {
        let medium = SimDisk::new();
        for account in ["first", "second\n"] {
            note_lost_history(medium.disk().as_ref(), account).unwrap();
        }
        let text = lost_history(medium.disk().as_ref()).unwrap();
        assert_eq!(text.as_deref(), Some("first\nsecond\n"));
    }

    #[test]
    fn a_note_that_rotted_is_one_all_the_same() {
        for rotten in [&b""[..], b"\xff\xfe", &[b'x'; 100_000]] {
            let medium = SimDisk::new();
            let disk = medium.disk();
            let file = disk.create(NAME).unwrap();
            wal::disk::write_all_at(file.as_ref(), rotten, 0).unwrap();
            let text = lost_history(disk.as_ref()).unwrap().expect("it is there");
            assert!(text.len() as u64 <= 2 * NOTE_BYTES_MAX);
        }
        let medium = SimDisk::new();
        note_lost_history(medium.disk().as_ref(), "gone").unwrap();
        medium.spoil_sector(NAME, 0);
        assert!(lost_history(medium.disk().as_ref()).unwrap().is_some());
    }
}
