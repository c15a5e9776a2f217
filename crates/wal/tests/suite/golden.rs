//! The format does not change by accident: a log written long ago opens, and writing the same log
//! again gives the same bytes. `WAL_UPDATE_GOLDEN=1` writes the golden files anew.

use std::fs;
use std::path::{Path, PathBuf};

use wal::sim_disk::SimDisk;
use wal::{Append, Check, Ending, Entry, Metadata, Options, Position, RealDisk, Wal};

use crate::harness::{observe, options};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn append(entries: Vec<Entry>) -> Append {
    Append { entries, ..Append::default() }
}

/// One of everything: entries of two terms, metadata, a truncation, a rotation, a dropped prefix,
/// and a close. The log whose first batches docs/WAL_FORMAT.md shows.
fn write(medium: &SimDisk, options: &Options) -> Wal {
    let mut wal = Wal::create(medium.disk(), options.clone()).unwrap();
    let vote = Some(Metadata::new(b"vote").unwrap());
    let entries = vec![Entry::new(1, 1, 7, b"one".to_vec()), Entry::new(2, 1, 7, b"two".to_vec())];
    wal.stage(Append { metadata: vote, ..append(entries) }).unwrap();
    wal.commit().unwrap();
    let entries = vec![Entry::new(2, 2, 8, b"zwei".to_vec())];
    wal.stage(Append { truncate_after: Some(1), ..append(entries) }).unwrap();
    wal.commit().unwrap();
    for index in 3..=7 {
        wal.stage(append(vec![Entry::new(index, 3, 0, vec![index as u8; 700])])).unwrap();
        wal.commit().unwrap();
    }
    wal.drop_prefix(3).unwrap();
    wal.commit().unwrap();
    wal
}

fn expected() -> Vec<(String, Vec<u8>)> {
    let medium = SimDisk::new();
    let wal = write(&medium, &options(4096));
    wal.close().unwrap();
    let files = medium.files();
    files.into_iter().map(|file| (file.clone(), medium.contents(&file).unwrap())).collect()
}

#[test]
fn the_same_log_is_written_with_the_same_bytes_as_ever() {
    let expected = expected();
    assert_eq!(expected.len(), 2, "the golden log has rotated once");
    if std::env::var_os("WAL_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(golden()).unwrap();
        for (name, contents) in &expected {
            fs::write(golden().join(name), contents).unwrap();
        }
    }
    for (name, contents) in expected {
        let held = fs::read(golden().join(&name)).unwrap();
        assert!(held == contents, "{name} is written differently now");
    }
}

#[test]
fn a_log_that_was_written_long_ago_opens() {
    let directory = tempfile::tempdir().unwrap();
    for item in fs::read_dir(golden()).unwrap() {
        let item = item.unwrap();
        fs::copy(item.path(), directory.path().join(item.file_name())).unwrap();
    }
    let disk = RealDisk::open(directory.path()).unwrap();
    let (wal, recovery) = Wal::open(disk, options(4096), Check::default()).unwrap();
    assert_eq!(recovery.ending, Ending::Closed);
    assert_eq!((wal.log_start(), wal.last()), (Position::new(3, 3), Position::new(7, 3)));
    assert_eq!(wal.metadata(), Some(Metadata::new(b"vote").unwrap()));
    let model = observe(&wal);
    for index in 4..=7 {
        assert_eq!(model.entries[&index], Entry::new(index, 3, 0, vec![index as u8; 700]));
    }
}

#[test]
fn the_documentation_shows_the_bytes_that_are_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/WAL_FORMAT.md");
    let text = fs::read_to_string(path).unwrap();
    let block = text.split("```hexdump\n").nth(1).unwrap().split("```").next().unwrap();
    let (_, contents) = &expected()[0];
    let mut shown = 0;
    for line in block.lines().filter(|line| !line.is_empty()) {
        let (offset, rest) = line.split_once("  ").unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        let bytes: Vec<u8> = rest
            .split("  ")
            .next()
            .unwrap()
            .split(' ')
            .map(|digits| u8::from_str_radix(digits, 16).unwrap())
            .collect();
        assert_eq!(contents[offset..offset + bytes.len()], bytes, "at {offset:#x}");
        shown += bytes.len();
    }
    assert!(shown > 300, "only {shown} bytes are shown");
}
