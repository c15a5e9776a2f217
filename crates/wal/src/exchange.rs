//! Files that change places all at once, though each has to be renamed by itself.
//!
//! ```text
//! SALVAGE     two copies of the same text, each filled up with zeros to a multiple of 512 bytes:
//!             a line with the version, a line for each file to be put aside, a line for each file
//!             to be put in place, a line with the CRC-32 of the lines before
//! ```
//!
//! While that file is there the log does not open. It says what to do, and doing it twice, or half
//! and then again, changes nothing: a file is put aside if it is not there yet, and put in place if
//! it still has its temporary name.

use std::io;

use crate::disk::{Disk, read_exact_at, uninterrupted, write_all_at};
use crate::error::{Failure, OpenError};
use crate::segment::{parse_segment_name, segment_name};

const NAME: &str = "SALVAGE";

/// It is removed like any file that is still being made.
const UNFINISHED: &str = "SALVAGE.wal.tmp";

const FIRST_WORD: &str = "salvage";
const VERSION: u32 = 1;
const SECTOR_BYTES: usize = 512;

/// No list is longer; a log of a TiB in the smallest usual segments stays far below.
const LIST_BYTES_MAX: u64 = 64 << 20;

const PREPARED_SUFFIX: &str = "-salvage.wal.tmp";

/// The name of a segment that was made to take the place of another.
pub(crate) fn prepared_name(sequence: u64) -> String {
    let name = segment_name(sequence);
    format!("{}{PREPARED_SUFFIX}", name.split('.').next().unwrap_or_default())
}

/// Files to be put aside, and files to be put in their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Names, and the names that they get.
    aside: Vec<(String, String)>,
    /// Temporary names, and the names that they get.
    put: Vec<(String, String)>,
}

/// Whether an exchange is under way, so that the files are neither the old log nor the new one.
pub(crate) fn is_under_way(names: &[String]) -> bool {
    names.iter().any(|name| name == NAME)
}

fn names(disk: &dyn Disk) -> Result<Vec<String>, Failure> {
    disk.list().map_err(|error| Failure::new("list", disk.path(""), error))
}

fn sync(disk: &dyn Disk) -> Result<(), Failure> {
    uninterrupted(|| disk.sync())
        .map_err(|error| Failure::new("sync directory", disk.path(""), error))
}

fn rename(disk: &dyn Disk, from: &str, to: &str) -> Result<(), Failure> {
    disk.rename(from, to).map_err(|error| Failure::new("rename", disk.path(from), error))
}

impl Exchange {
    /// Has a file put aside under a name that is free among `names` and that no log looks at.
    pub(crate) fn put_aside(&mut self, name: &str, names: &[String]) {
        let aside = |number: u64| format!("{name}.lost.{number}");
        let number = (0..).find(|number| !names.contains(&aside(*number))).unwrap_or_default();
        self.aside.push((name.to_owned(), aside(number)));
    }

    pub(crate) fn put(&mut self, prepared: &str, name: &str) {
        self.put.push((prepared.to_owned(), name.to_owned()));
    }

    pub(crate) fn names_aside(&self) -> impl Iterator<Item = &str> {
        self.aside.iter().map(|(_, aside)| aside.as_str())
    }

    /// Whether a file was made for an exchange that may never have been written down.
    pub(crate) fn has_prepared(name: &str) -> bool {
        name == UNFINISHED || name.ends_with(PREPARED_SUFFIX)
    }

    /// The exchange that is under way in a directory.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Exchange>, OpenError> {
        if !is_under_way(&names(disk)?) {
            return Ok(None);
        }
        let path = disk.path(NAME);
        let bytes = read_file(disk).map_err(|error| Failure::new("read", &path, error))?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        match decode(first).or_else(|| decode(second)) {
            Some((VERSION, exchange)) => Ok(Some(exchange)),
            Some((version, _)) => {
                Err(OpenError::Unsupported { segment: path, version, features: 0 })
            }
            None => {
                let what = "neither copy of the list in it is whole; the files *.lost.* beside it \
                            are those that were to be put aside";
                let error = io::Error::new(io::ErrorKind::InvalidData, what);
                Err(Failure::new("read", &path, error).into())
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_WORD} {VERSION}\n");
        let lines = self.aside.iter().map(|names| ("aside", names));
        for (word, (from, to)) in lines.chain(self.put.iter().map(|names| ("put", names))) {
            text.push_str(&format!("{word} {from} {to}\n"));
        }
        let crc = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("crc {crc:08x}\n"));
        let mut copy = text.into_bytes();
        copy.resize(copy.len().next_multiple_of(SECTOR_BYTES), 0);
        copy.repeat(2)
    }

    /// Writes the list down, durably, where it does not count yet.
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), Failure> {
        let path = disk.path(UNFINISHED);
        if names(disk)?.iter().any(|name| name == UNFINISHED) {
            disk.remove(UNFINISHED).map_err(|error| Failure::new("remove", &path, error))?;
        }
        let written = || {
            let file = disk.create(UNFINISHED)?;
            write_all_at(&*file, &self.encode(), 0)?;
            uninterrupted(|| file.sync_all())
        };
        written().map_err(|error| Failure::new("write", &path, error))
    }

    /// Lets the list that was just [written](Exchange::write) count, durably. One that counts
    /// already is never touched again: half of a new one in its place would leave no way on.
    pub(crate) fn commit(disk: &dyn Disk) -> Result<(), Failure> {
        rename(disk, UNFINISHED, NAME)?;
        sync(disk)
    }

    /// Carries out what is left to be carried out, and ends the exchange.
    pub(crate) fn finish(&self, disk: &dyn Disk) -> Result<(), Failure> {
        let before = names(disk)?;
        for (from, to) in self.aside.iter().filter(|names| self.is_to_be_put_aside(names, &before))
        {
            rename(disk, from, to)?;
        }
        // Were a file in its new place before the old one has left it, the old one would be gone.
        sync(disk)?;
        for (from, to) in self.put.iter().filter(|(from, _)| before.contains(from)) {
            rename(disk, from, to)?;
        }
        sync(disk)?;
        if is_under_way(&before) {
            disk.remove(NAME).map_err(|error| Failure::new("remove", disk.path(NAME), error))?;
            sync(disk)?;
        }
        Ok(())
    }

    /// A file in the place of an old one is the new one if that has left its temporary name.
    fn is_to_be_put_aside(&self, (from, to): &(String, String), names: &[String]) -> bool {
        let mut new = self.put.iter().filter(|(_, name)| name == from);
        let is_old = new.all(|(prepared, _)| names.contains(prepared));
        is_old && names.contains(from) && !names.contains(to)
    }

    /// Gives every file back the name that it had, and ends the exchange. Interrupted, it leaves
    /// one that is under way still, and less far.
    pub(crate) fn undo(&self, disk: &dyn Disk) -> Result<(), Failure> {
        let names = names(disk)?;
        for (prepared, name) in &self.put {
            if !names.contains(prepared) && names.contains(name) {
                rename(disk, name, prepared)?;
            }
        }
        // The new file must have left its place before the old one comes back to it.
        sync(disk)?;
        for (name, aside) in self.aside.iter().filter(|(_, aside)| names.contains(aside)) {
            rename(disk, aside, name)?;
        }
        sync(disk)?;
        disk.remove(NAME).map_err(|error| Failure::new("remove", disk.path(NAME), error))?;
        sync(disk)
    }
}

fn read_file(disk: &dyn Disk) -> io::Result<Vec<u8>> {
    let file = disk.open(NAME)?;
    let length = file.len()?;
    if length > LIST_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let half = bytes.len() / 2;
    let (first, second) = bytes.split_at_mut(half);
    let failed = read_exact_at(&*file, first, 0).err();
    match (failed, read_exact_at(&*file, second, half as u64)) {
        (Some(error), Err(_)) => Err(error),
        // What cannot be read is zeros, and so no list.
        (Some(_), Ok(())) => {
            first.fill(0);
            Ok(bytes)
        }
        (None, Err(_)) => {
            second.fill(0);
            Ok(bytes)
        }
        (None, Ok(())) => Ok(bytes),
    }
}

/// The version and the list in one copy, if that is whole.
fn decode(copy: &[u8]) -> Option<(u32, Exchange)> {
    let length = copy.iter().rposition(|byte| *byte != 0)?.saturating_add(1);
    let text = std::str::from_utf8(copy.get(..length)?).ok()?;
    let (lines, crc) = text.strip_suffix('\n')?.rsplit_once("\ncrc ")?;
    let covered = text.get(..lines.len().saturating_add(1))?;
    if format!("{:08x}", crc32fast::hash(covered.as_bytes())) != crc {
        return None;
    }
    let mut lines = lines.lines();
    let version = lines.next()?.strip_prefix(FIRST_WORD)?.trim().parse().ok()?;
    let mut exchange = Exchange::default();
    if version != VERSION {
        return Some((version, exchange));
    }
    for line in lines {
        let mut words = line.split(' ');
        let (word, from, to) = (words.next()?, words.next()?, words.next()?);
        let names = (from.to_owned(), to.to_owned());
        match word {
            "aside" if is_aside(from, to) => exchange.aside.push(names),
            "put" if prepared_name(parse_segment_name(to)?) == from => exchange.put.push(names),
            _ => return None,
        }
    }
    Some((version, exchange))
}

fn is_aside(name: &str, aside: &str) -> bool {
    let number = aside.strip_prefix(name).and_then(|rest| rest.strip_prefix(".lost."));
    parse_segment_name(name).is_some() && number.is_some_and(|it| it.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange() -> Exchange {
        let mut exchange = Exchange::default();
        let taken = [format!("{}.lost.0", segment_name(2))];
        exchange.put_aside(&segment_name(1), &taken);
        exchange.put_aside(&segment_name(2), &taken);
        exchange.put(&prepared_name(2), &segment_name(2));
        exchange
    }

    #[test]
    fn a_list_is_written_in_these_very_bytes() {
        let bytes = exchange().encode();
        assert_eq!(bytes.len(), 1024);
        let text = "salvage 1\n\
             aside 0000000000000001.wal 0000000000000001.wal.lost.0\n\
             aside 0000000000000002.wal 0000000000000002.wal.lost.1\n\
             put 0000000000000002-salvage.wal.tmp 0000000000000002.wal\n\
             crc d2c03384\n";
        assert_eq!(String::from_utf8_lossy(&bytes[..text.len()]), text);
        assert_eq!(bytes[..512], bytes[512..]);
        assert!(bytes[text.len()..512].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_list_is_read_if_one_of_its_copies_is_whole_and_never_read_wrongly() {
        let bytes = exchange().encode();
        let (first, second) = bytes.split_at(512);
        assert_eq!(decode(first), Some((VERSION, exchange())));
        for at in 0..bytes.len() / 2 {
            let mut changed = first.to_vec();
            changed[at] ^= 1 << (at % 8);
            let read = decode(&changed);
            assert!(read.is_none(), "byte {at}: {read:?}");
        }
        assert_eq!(decode(second), Some((VERSION, exchange())));
        assert_eq!(decode(&[0; 512]), None);
        assert_eq!(decode(b""), None);
    }
}
