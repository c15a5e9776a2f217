//! Which segments of the log could not be read while the server ran, so that its next start looks
//! at them.
//!
//! A start believes full segments whose entries a snapshot stands for. A place in one of them that
//! cannot be read ends the server as soon as somebody needs it, and would end every later life of
//! it at the same place. So the segment is noted before the process stops, and the next start reads
//! it in full: then what it lost is known, and is asked of others.
//!
//! ```text
//! suspect, little endian:
//!   0  magic "KVCTLSUS"   8  version u16   10  count u16   12  zero u32
//!  16  count times the number of a segment, u64            crc32 of all bytes before it
//! ```
//!
//! A file that is anything else, an unreadable one too, says that something was wrong: every
//! segment is suspect then. It is never a reason not to start.

use std::io;

use wal::Disk;

use super::directory::replace_file;

const NAME: &str = "suspect";
const MAGIC: &[u8; 8] = b"KVCTLSUS";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;

/// Where more are suspect, all are.
const SUSPECTS_MAX: usize = 64;

/// What the next start reads in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Suspects {
    /// These segments, ascending; usually none.
    Segments(Vec<u64>),
    /// All of them: it is not known which.
    All,
}

impl Suspects {
    pub(super) fn are_none(&self) -> bool {
        matches!(self, Suspects::Segments(segments) if segments.is_empty())
    }

    fn with(self, segment: u64) -> Self {
        let Suspects::Segments(mut segments) = self else { return Suspects::All };
        if let Err(place) = segments.binary_search(&segment) {
            segments.insert(place, segment);
        }
        if segments.len() > SUSPECTS_MAX { Suspects::All } else { Suspects::Segments(segments) }
    }

    fn encode(&self) -> Vec<u8> {
        let (count, segments) = match self {
            Suspects::Segments(segments) => {
                (u16::try_from(segments.len()).unwrap_or(u16::MAX), segments.as_slice())
            }
            Suspects::All => (u16::MAX, [].as_slice()),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        segments.iter().for_each(|segment| bytes.extend_from_slice(&segment.to_le_bytes()));
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` for anything but what [`encode`](Self::encode) writes of some segments.
    fn decode(bytes: &[u8]) -> Option<Vec<u64>> {
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        let (header, segments) = body.split_at_checked(HEADER_BYTES)?;
        let version = u16::from_le_bytes(header.get(8..10)?.try_into().ok()?);
        let count = u16::from_le_bytes(header.get(10..12)?.try_into().ok()?);
        let is_whole = crc32fast::hash(body) == u32::from_le_bytes(*checksum)
            && header.starts_with(MAGIC)
            && version == VERSION
            && segments.len() == usize::from(count) * 8;
        let numbers = segments.chunks_exact(8).filter_map(|it| it.try_into().ok());
        is_whole.then(|| numbers.map(u64::from_le_bytes).collect())
    }
}

/// What was noted in a server's directory.
///
/// # Errors
/// The directory cannot be listed.
pub(super) fn suspects(disk: &dyn Disk) -> io::Result<Suspects> {
    if !disk.list()?.iter().any(|name| name == NAME) {
        return Ok(Suspects::Segments(Vec::new()));
    }
    let read = || -> io::Result<Vec<u8>> {
        let file = disk.open(NAME)?;
        let length = file.len()?.min((HEADER_BYTES + SUSPECTS_MAX * 8 + 5) as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        wal::disk::read_exact_at(file.as_ref(), &mut bytes, 0)?;
        Ok(bytes)
    };
    let segments = read().ok().and_then(|bytes| Suspects::decode(&bytes));
    Ok(segments.map_or(Suspects::All, Suspects::Segments))
}

/// Notes a segment beside those that are noted already, durably.
///
/// # Errors
/// The disk failed.
pub(super) fn note_suspect(disk: &dyn Disk, segment: u64) -> io::Result<()> {
    let known = suspects(disk)?;
    let noted = known.clone().with(segment);
    if noted == known {
        return Ok(());
    }
    replace_file(disk, NAME, |file| wal::disk::write_all_at(file, &noted.encode(), 0)).map(drop)
}

/// Forgets what was noted, durably.
///
/// # Errors
/// The disk failed.
pub(super) fn clear_suspects(disk: &dyn Disk) -> io::Result<()> {
    if disk.list()?.iter().any(|name| name == NAME) {
        disk.remove(NAME)?;
        disk.sync()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::sim_disk::SimDisk;

    #[test]
    fn a_note_has_these_very_bytes_and_survives_a_power_cut() {
        let medium = SimDisk::new();
        for segment in [5, 3, 5] {
            note_suspect(medium.disk().as_ref(), segment).unwrap();
        }
        medium.crash(1);
        let mut expected: Vec<u8> = [
            b"KVCTLSUS".as_slice(),
            &[1, 0, 2, 0, 0, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        expected.extend_from_slice(&0xe8ea_713c_u32.to_le_bytes());
        assert_eq!(medium.contents(NAME).unwrap(), expected);
        let noted = suspects(medium.disk().as_ref()).unwrap();
        assert_eq!(noted, Suspects::Segments(vec![3, 5]));
        clear_suspects(medium.disk().as_ref()).unwrap();
        medium.crash(2);
        assert!(suspects(medium.disk().as_ref()).unwrap().are_none());
    }

    #[test]
    fn whatever_else_the_file_holds_makes_every_segment_suspect() {
        let whole = Suspects::Segments(vec![1, 2]).encode();
        let mut others: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].to_vec()).collect();
        others.extend((0..whole.len() * 8).map(|bit| {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        }));
        others.push([whole.as_slice(), &[0]].concat());
        others.push(vec![b'x'; 100_000]);
        for other in others {
            let medium = SimDisk::new();
            let file = medium.disk().create(NAME).unwrap();
            wal::disk::write_all_at(file.as_ref(), &other, 0).unwrap();
            assert_eq!(suspects(medium.disk().as_ref()).unwrap(), Suspects::All, "{other:?}");
            note_suspect(medium.disk().as_ref(), 9).unwrap();
            assert_eq!(suspects(medium.disk().as_ref()).unwrap(), Suspects::All);
        }
        let medium = SimDisk::new();
        note_suspect(medium.disk().as_ref(), 1).unwrap();
        medium.spoil_sector(NAME, 0);
        assert_eq!(suspects(medium.disk().as_ref()).unwrap(), Suspects::All);
    }

    #[test]
    fn where_many_are_suspect_all_are() {
        let medium = SimDisk::new();
        for segment in 1..=SUSPECTS_MAX as u64 {
            note_suspect(medium.disk().as_ref(), segment).unwrap();
        }
        let noted = suspects(medium.disk().as_ref()).unwrap();
        assert_eq!(noted, Suspects::Segments((1..=SUSPECTS_MAX as u64).collect()));
        note_suspect(medium.disk().as_ref(), 1000).unwrap();
        assert_eq!(suspects(medium.disk().as_ref()).unwrap(), Suspects::All);
    }
}
