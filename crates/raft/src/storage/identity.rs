//! Who a server is, on its disk: a file of two sectors that are written in turn, so that a power
//! cut in the middle of one leaves the other. They lie a page apart, since a disk or a file system
//! may lose a whole page at once. The file is preallocated and never grows.
//!
//! ```text
//! one sector, 512 bytes, little endian:
//!   0  magic "KVCTLID1"      8  version u16        10  stage u8       11  length of the name u8
//!  12  recovery u32         16  sequence u64       24  incarnation u64
//!  32  boot u64             40  founding [u8; 16]  56  name [u8; 32]
//!  88  log u128, zero if there is none yet                            104  nonce u64
//! 112  zeros
//! 508  crc32 of the 508 bytes before it
//! ```
//!
//! The sector with the higher sequence is the current one. A new stage is written to both before
//! anything rests on it, so if one of the two is rotten at most the last boot number is unknown:
//! the next one is raised by two. If both are, nobody knows what this server promised.
//!
//! The log is named by its own identity, so that another in its place (of another server, or of an
//! earlier life of this one) is not taken for it.
//!
//! The nonce is drawn for the start that the boot number counts. An older copy of the directory
//! counts to the same number again, with another nonce.
//!
//! The version is 4 in a directory that was never recovered, and 5 in one that was: what counts
//! lies elsewhere then, and a program that does not know that must not take the rest for it.

use std::io;

use wal::{Disk, File, LogId};

use super::directory::replace_file;
use crate::ClusterId;
use crate::node::{Boot, Incarnation, Member, NodeId};

/// The file's name.
pub(super) const NAME: &str = "identity";
const SECTOR: usize = 512;
/// Where in a sector the log is named.
const LOG_AT: usize = 88;
/// Where the nonce of this start is.
const NONCE_AT: usize = 104;
/// Where the two sectors are.
const PLACES: [u64; 2] = [0, 4096];
const MAGIC: &[u8; 8] = b"KVCTLID1";
/// The versions of a directory that was never recovered, and of one that was.
const VERSION: u16 = 4;
const VERSION_RECOVERED: u16 = 5;

/// How far a server has come in founding its cluster, or in joining it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has drawn an incarnation and agreed to nothing. It has no log yet.
    Drawn,
    /// It has agreed to found a cluster with exactly the pairs whose hash this is. It has no log
    /// yet, and will never agree to others.
    Agreed(ClusterId),
    /// Its cluster is founded and it has a log.
    Founded {
        /// The cluster.
        cluster: ClusterId,
        /// Which log is this server's.
        log: LogId,
    },
    /// It was taken into this cluster, for good. It has no log yet.
    Admitted(ClusterId),
}

/// One start of a server on its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// How many there were, this one included.
    pub boot: Boot,
    /// Drawn for it. A directory that was turned back counts to the same boot again.
    pub nonce: u64,
}

impl Start {
    /// Whether a directory in this start can be none that was in `seen` before.
    #[must_use]
    pub fn is_turned_back_from(self, seen: Start) -> bool {
        self.boot < seen.boot || self.boot == seen.boot && self.nonce != seen.nonce
    }
}

/// Who a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name and the life of its directory.
    pub member: Member,
    /// This start.
    pub boot: Boot,
    /// What tells this start from one of an older copy of the directory.
    pub nonce: u64,
    /// How far it has come.
    pub stage: Stage,
    /// The last recovery of this directory, counted from 1; 0 if there was none.
    pub recovery: u32,
}

impl Identity {
    /// This start.
    #[must_use]
    pub fn start(&self) -> Start {
        Start { boot: self.boot, nonce: self.nonce }
    }
}

/// Why the identity of a directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// Both copies are unreadable.
    #[error("{path}: both copies of this server's identity are damaged")]
    Damaged {
        /// The file.
        path: String,
    },
    /// Another version of the program wrote it.
    #[error(
        "{path}: the identity file has version {version}, this program knows version {VERSION}; \
         use the one that wrote it"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        version: u16,
    },
}

/// The file, open.
#[derive(Debug)]
pub(super) struct IdentityFile {
    file: Box<dyn File>,
    path: String,
    sequence: u64,
    /// One of the sectors could not be read when the file was opened.
    is_rotten: bool,
    identity: Identity,
}

enum Sector {
    Valid(u64, Identity),
    Rotten,
    Version(u16),
}

impl IdentityFile {
    /// Whether a directory has one.
    pub(super) fn exists(disk: &dyn Disk) -> io::Result<bool> {
        Ok(disk.list()?.iter().any(|name| name == NAME))
    }

    /// Makes the file of a new server; durable, name included, before this returns.
    pub(super) fn create(disk: &dyn Disk, member: Member) -> Result<Self, IdentityError> {
        let (boot, stage) = (Boot(0), Stage::Drawn);
        Self::put(disk, Identity { member, boot, nonce: 0, stage, recovery: 0 })
    }

    /// Makes the file, in place of an earlier one if there is one; durable before this returns. A
    /// power cut leaves the one or the other, whole.
    pub(super) fn put(disk: &dyn Disk, identity: Identity) -> Result<Self, IdentityError> {
        let path = disk.path(NAME);
        let io = |source| IdentityError::Io { path: path.clone(), source };
        let sectors = PLACES.into_iter().zip(1..);
        let file = replace_file(disk, NAME, |file| {
            let mut sectors = sectors.map(|(place, sequence)| (place, encode(sequence, &identity)));
            sectors.try_for_each(|(place, sector)| wal::disk::write_all_at(file, &sector, place))
        });
        let file = file.map_err(io)?;
        Ok(Self { file, path, sequence: 2, is_rotten: false, identity })
    }

    /// Reads the file and changes nothing in it.
    pub(super) fn open(disk: &dyn Disk) -> Result<Self, IdentityError> {
        let path = disk.path(NAME);
        let io = |source| IdentityError::Io { path: path.clone(), source };
        let file = disk.open(NAME).map_err(io)?;
        // What the cache holds may never have reached the disk.
        file.sync_all().map_err(io)?;
        file.drop_cache().map_err(io)?;
        let sectors = PLACES.map(|place| read_sector(file.as_ref(), place));
        if let [Sector::Version(version), _] | [_, Sector::Version(version)] = sectors {
            return Err(IdentityError::Version { path, version });
        }
        let rotten = sectors.iter().any(|sector| matches!(sector, Sector::Rotten));
        let newest = sectors
            .into_iter()
            .filter_map(|sector| match sector {
                Sector::Valid(sequence, identity) => Some((sequence, identity)),
                _ => None,
            })
            .max_by_key(|(sequence, _)| *sequence);
        let Some((sequence, identity)) = newest else {
            return Err(IdentityError::Damaged { path });
        };
        Ok(Self { file, path, sequence, is_rotten: rotten, identity })
    }

    /// Counts this start, durably, with what was drawn for it. Both sectors are whole again
    /// afterwards.
    pub(super) fn count_start(&mut self, nonce: u64) -> Result<(), IdentityError> {
        let raise = if self.is_rotten { 2 } else { 1 };
        let boot = Boot(self.identity.boot.0 + raise);
        let identity = Identity { boot, nonce, ..self.identity.clone() };
        self.write(identity.clone())?;
        if self.is_rotten {
            self.write(identity)?;
        }
        Ok(())
    }

    /// Whether one of the sectors was rotten and was written again.
    pub(super) fn was_mended(&self) -> bool {
        self.is_rotten
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Enters a stage, in both sectors: none may be left that knows less, since the other could
    /// rot.
    pub(super) fn set_stage(&mut self, stage: Stage) -> Result<(), IdentityError> {
        let identity = Identity { stage, ..self.identity.clone() };
        self.write(identity.clone())?;
        self.write(identity)
    }

    /// Writes over the older of the two sectors.
    fn write(&mut self, identity: Identity) -> Result<(), IdentityError> {
        let io = |source| IdentityError::Io { path: self.path.clone(), source };
        let sequence = self.sequence + 1;
        let [odd, even] = PLACES;
        let place = if sequence % 2 == 1 { odd } else { even };
        wal::disk::write_all_at(self.file.as_ref(), &encode(sequence, &identity), place)
            .map_err(io)?;
        self.file.sync_data().map_err(io)?;
        self.sequence = sequence;
        self.identity = identity;
        Ok(())
    }
}

fn encode(sequence: u64, identity: &Identity) -> [u8; SECTOR] {
    let (stage, founding) = match identity.stage {
        Stage::Drawn => (0, ClusterId::default()),
        Stage::Agreed(founding) => (1, founding),
        Stage::Founded { cluster, .. } => (2, cluster),
        Stage::Admitted(founding) => (3, founding),
    };
    let name = identity.member.id.as_str();
    let name_length = u8::try_from(name.len()).unwrap_or(0);
    let mut sector = Vec::with_capacity(SECTOR);
    sector.extend_from_slice(MAGIC);
    let version = if identity.recovery == 0 { VERSION } else { VERSION_RECOVERED };
    sector.extend_from_slice(&version.to_le_bytes());
    sector.extend_from_slice(&[stage, name_length]);
    sector.extend_from_slice(&identity.recovery.to_le_bytes());
    for number in [sequence, identity.member.incarnation.0, identity.boot.0] {
        sector.extend_from_slice(&number.to_le_bytes());
    }
    sector.extend_from_slice(&founding.0);
    sector.extend_from_slice(name.as_bytes());
    sector.resize(LOG_AT, 0);
    if let Stage::Founded { log, .. } = identity.stage {
        sector.extend_from_slice(&log.0.to_le_bytes());
    }
    sector.resize(NONCE_AT, 0);
    sector.extend_from_slice(&identity.nonce.to_le_bytes());
    sector.resize(SECTOR - 4, 0);
    let checksum = crc32fast::hash(&sector);
    sector.extend_from_slice(&checksum.to_le_bytes());
    sector.try_into().unwrap_or([0; SECTOR])
}

fn read_sector(file: &dyn File, place: u64) -> Sector {
    let mut sector = [0; SECTOR];
    match wal::disk::read_exact_at(file, &mut sector, place) {
        // An unreadable sector is a rotten one: the other copy may be whole.
        Err(_) => Sector::Rotten,
        Ok(()) => decode(&sector).unwrap_or(Sector::Rotten),
    }
}

fn decode(sector: &[u8; SECTOR]) -> Option<Sector> {
    let (body, checksum) = sector.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) || !body.starts_with(MAGIC) {
        return None;
    }
    let number = |offset: usize| -> Option<u64> {
        Some(u64::from_le_bytes(body.get(offset..offset + 8)?.try_into().ok()?))
    };
    let version = u16::from_le_bytes(body.get(8..10)?.try_into().ok()?);
    let recovery = match version {
        VERSION => 0,
        VERSION_RECOVERED => u32::from_le_bytes(body.get(12..16)?.try_into().ok()?),
        version => return Some(Sector::Version(version)),
    };
    let founding = ClusterId(body.get(40..56)?.try_into().ok()?);
    let stage = match body.get(10)? {
        0 => Stage::Drawn,
        1 => Stage::Agreed(founding),
        2 => {
            let log = body.get(LOG_AT..LOG_AT + 16)?.try_into().ok()?;
            Stage::Founded { cluster: founding, log: LogId(u128::from_le_bytes(log)) }
        }
        3 => Stage::Admitted(founding),
        _ => return None,
    };
    let name = body.get(56..56 + usize::from(*body.get(11)?))?;
    let id = NodeId::new(std::str::from_utf8(name).ok()?).ok()?;
    let member = Member { id, incarnation: Incarnation(number(24)?) };
    let (boot, nonce) = (Boot(number(32)?), number(NONCE_AT)?);
    Some(Sector::Valid(number(16)?, Identity { member, boot, nonce, stage, recovery }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage::Founded { cluster: ClusterId([9; 16]), log: LogId(0x0001_0203_0405_0607) }
    }

    fn identity() -> Identity {
        let member = Member { id: NodeId::new("s1").unwrap(), incarnation: Incarnation(77) };
        Identity { member, boot: Boot(5), nonce: 0x0203, stage: stage(), recovery: 0 }
    }

    #[test]
    fn a_sector_has_these_very_bytes() {
        let sector = encode(3, &identity());
        let expected: Vec<u8> = [
            b"KVCTLID1".as_slice(),
            &[4, 0, 2, 2, 0, 0, 0, 0],
            &[3, 0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            &[9; 16],
            b"s1",
            &[0; 30],
            &[7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[3, 2, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(&sector[..expected.len()], expected);
        assert!(sector[expected.len()..508].iter().all(|&byte| byte == 0));
        assert!(matches!(decode(&sector), Some(Sector::Valid(3, read)) if read == identity()));
    }

    #[test]
    fn a_recovered_directory_has_another_version_and_says_which_recovery_counts() {
        let recovered = Identity { recovery: 3, ..identity() };
        let sector = encode(3, &recovered);
        assert_eq!(&sector[8..16], [5, 0, 2, 2, 3, 0, 0, 0]);
        assert!(matches!(decode(&sector), Some(Sector::Valid(3, read)) if read == recovered));
    }

    #[test]
    fn every_flipped_bit_of_a_sector_is_noticed() {
        let sector = encode(3, &identity());
        for bit in 0..SECTOR * 8 {
            let mut flipped = sector;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_start_counts_and_a_rotten_sector_makes_it_count_by_two() {
        let directory = tempfile::tempdir().unwrap();
        let disk = wal::RealDisk::open(directory.path()).unwrap();
        let member = identity().member;
        IdentityFile::create(disk.as_ref(), member).unwrap();
        let start = || {
            let mut opened = IdentityFile::open(disk.as_ref()).unwrap();
            opened.count_start(8).unwrap();
            opened.identity().clone()
        };
        assert_eq!(start().boot, Boot(1));
        assert_eq!(start().boot, Boot(2));
        let mut last = Boot(2);
        for rotten in [0, 1, 0] {
            let file = disk.open(NAME).unwrap();
            let place = PLACES[rotten] + 30;
            wal::disk::write_all_at(file.as_ref(), &[0xff; 8], place).unwrap();
            let started = start();
            assert!(started.boot > last, "rotten sector {rotten}");
            assert_eq!(started.member, member);
            last = started.boot;
        }
    }

    #[test]
    fn a_stage_survives_the_rot_of_either_sector() {
        for rotten in PLACES {
            let directory = tempfile::tempdir().unwrap();
            let disk = wal::RealDisk::open(directory.path()).unwrap();
            let mut file = IdentityFile::create(disk.as_ref(), identity().member).unwrap();
            file.set_stage(stage()).unwrap();
            drop(file);
            let file = disk.open(NAME).unwrap();
            wal::disk::write_all_at(file.as_ref(), &[0xff; 8], rotten + 30).unwrap();
            let opened = IdentityFile::open(disk.as_ref()).unwrap();
            assert_eq!(opened.identity().stage, stage(), "with the sector at {rotten} rotten");
        }
    }

    #[test]
    fn an_identity_with_both_sectors_rotten_is_refused_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let disk = wal::RealDisk::open(directory.path()).unwrap();
        IdentityFile::create(disk.as_ref(), identity().member).unwrap();
        let file = disk.open(NAME).unwrap();
        wal::disk::write_all_at(file.as_ref(), &[0; 4096 + SECTOR], 0).unwrap();
        let error = IdentityFile::open(disk.as_ref()).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
    }
}
