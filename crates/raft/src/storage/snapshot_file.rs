//! A snapshot as a file: what it stands for, then the state in checksummed blocks, then once more
//! what it stands for. Written and read as a stream, in pieces, so that neither takes memory in
//! proportion to the state, nor makes anybody else's sync wait behind a large flush.
//!
//! ```text
//! header, one sector of 512 bytes, little endian:
//!   0  magic "KVCTLSNP"      8  version u16       10  zero u16       12  configuration bytes u32
//!  16  index u64            24  term u64          32  file bytes u64
//!  40  state bytes u64      48  hash [u8; 16]     64  block bytes u32   68  zeros
//! 508  crc32 of the 508 before it
//! configuration: its bytes, zeros up to a multiple of 512 less 4, crc32 of all before it
//! blocks, all but the last of the same size: crc32 over (u64 number from 0, content), content
//! the configuration again, the header again
//! ```
//!
//! The hash is the first half of the SHA-256 over index, term, the configuration with its length,
//! and the state. Equal states make equal files. The header comes last, when all else is synced; a
//! file is a snapshot once it has its name.

use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use wal::File;
use wal::disk::{read_exact_at, uninterrupted, write_all_at};

use crate::node::{Configuration, Index, Position, SnapshotId, Term};

const MAGIC: &[u8; 8] = b"KVCTLSNP";
const VERSION: u16 = 1;
pub(super) const SECTOR: u64 = 512;
/// The sizes that a block may have, with its checksum.
const BLOCK_BYTES: RangeInclusive<u32> = 64..=1 << 20;
/// Configurations are small; a longer one is none.
const CONFIGURATION_BYTES_MAX: u32 = 1 << 20;

/// Why a snapshot cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is damaged, or cannot be read.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A newer program wrote it.
    #[error("{path}: version {version} of snapshots is unknown; a newer program wrote it")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        version: u16,
    },
    /// It could not be written. Nothing rests on it.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// Its server stops.
    #[error("the server stops")]
    Stopped,
}

/// Tells long work that nobody waits for it any more. Clones are one flag.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Raises the flag, for good.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match self.is_raised() {
            true => Err(io::Error::other("the server stops")),
            false => Ok(()),
        }
    }
}

/// What a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: SnapshotId,
    pub(crate) configuration: Configuration,
    pub(super) state_bytes: u64,
    pub(super) block_bytes: u32,
}

impl Head {
    /// Header and configuration, as they stand at the beginning.
    fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut configuration = self.configuration.encode().to_vec();
        let configuration_bytes = u32::try_from(configuration.len()).unwrap_or(u32::MAX);
        configuration.resize(to_size(padded(configuration_bytes) - 4), 0);
        let checksum = crc32fast::hash(&configuration);
        configuration.extend_from_slice(&checksum.to_le_bytes());

        let SnapshotId { position, bytes, hash } = self.id;
        let mut header = Vec::with_capacity(to_size(SECTOR));
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&0_u16.to_le_bytes());
        header.extend_from_slice(&configuration_bytes.to_le_bytes());
        for number in [position.index.0, position.term.0, bytes, self.state_bytes] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.extend_from_slice(&hash);
        header.extend_from_slice(&self.block_bytes.to_le_bytes());
        header.resize(to_size(SECTOR) - 4, 0);
        let checksum = crc32fast::hash(&header);
        header.extend_from_slice(&checksum.to_le_bytes());
        (header, configuration)
    }

    /// What a block holds of the state.
    pub(super) fn content_bytes(&self) -> u64 {
        u64::from(self.block_bytes) - 4
    }

    /// The length of the whole file.
    fn file_bytes(&self) -> Option<u64> {
        let blocks = self.state_bytes.div_ceil(self.content_bytes());
        let both = self.state_offset().checked_mul(2)?;
        both.checked_add(self.state_bytes)?.checked_add(blocks.checked_mul(4)?)
    }

    /// Where the blocks begin.
    pub(super) fn state_offset(&self) -> u64 {
        let configuration_bytes = self.configuration.encode().len();
        SECTOR + padded(u32::try_from(configuration_bytes).unwrap_or(u32::MAX))
    }

    /// Reads the copy at the beginning or, if that is rotten, the one at the end.
    pub(crate) fn read(file: &dyn File, path: &str) -> Result<Self, SnapshotError> {
        let damaged = |what: String| SnapshotError::Damaged { path: path.to_string(), what };
        let bytes = file.len().map_err(|error| damaged(error.to_string()))?;
        let mut complaint = None;
        for place in [Some(0), bytes.checked_sub(SECTOR)].into_iter().flatten() {
            match Self::read_at(file, place, bytes) {
                Ok(Reading::Whole(head)) => return Ok(head),
                Ok(Reading::Version(version)) => {
                    return Err(SnapshotError::Version { path: path.to_string(), version });
                }
                Err(what) => complaint = complaint.or(Some(what)),
            }
        }
        Err(damaged(complaint.unwrap_or_default()))
    }

    /// Reads the header at `place`, and the configuration behind or before it.
    pub(super) fn read_at(file: &dyn File, place: u64, bytes: u64) -> Result<Reading, String> {
        let mut header = [0; 512];
        read_exact_at(file, &mut header, place).map_err(|error| error.to_string())?;
        let raw = decode_header(&header).ok_or("its header is damaged")?;
        if raw.version != VERSION {
            return Ok(Reading::Version(raw.version));
        }
        if raw.id.bytes != bytes {
            return Err(format!("it has {bytes} bytes and should have {}", raw.id.bytes));
        }
        let is_sound = raw.configuration_bytes <= CONFIGURATION_BYTES_MAX
            && BLOCK_BYTES.contains(&raw.block_bytes);
        if !is_sound {
            return Err("its header makes no sense".into());
        }
        let padded = padded(raw.configuration_bytes);
        let place = match place {
            0 => SECTOR,
            end => end.checked_sub(padded).ok_or("it is too short")?,
        };
        let mut block = vec![0; to_size(padded)];
        read_exact_at(file, &mut block, place).map_err(|error| error.to_string())?;
        let (body, checksum) = block.split_last_chunk::<4>().ok_or("it is too short")?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err("its configuration is damaged".into());
        }
        let encoded = body.get(..to_size(raw.configuration_bytes.into())).unwrap_or_default();
        let configuration = Configuration::decode(encoded).map_err(|error| error.to_string())?;
        let RawHeader { id, state_bytes, block_bytes, .. } = raw;
        let head = Self { id, configuration, state_bytes, block_bytes };
        match head.file_bytes() == Some(bytes) {
            true => Ok(Reading::Whole(head)),
            false => Err("its lengths contradict each other".into()),
        }
    }
}

pub(super) enum Reading {
    Whole(Head),
    Version(u16),
}

struct RawHeader {
    version: u16,
    configuration_bytes: u32,
    id: SnapshotId,
    state_bytes: u64,
    block_bytes: u32,
}

fn decode_header(header: &[u8; 512]) -> Option<RawHeader> {
    let (body, checksum) = header.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) || !body.starts_with(MAGIC) {
        return None;
    }
    let number = |offset: usize| -> Option<u64> {
        Some(u64::from_le_bytes(body.get(offset..offset + 8)?.try_into().ok()?))
    };
    let position = Position { index: Index(number(16)?), term: Term(number(24)?) };
    Some(RawHeader {
        version: u16::from_le_bytes(body.get(8..10)?.try_into().ok()?),
        configuration_bytes: u32::from_le_bytes(body.get(12..16)?.try_into().ok()?),
        id: SnapshotId { position, bytes: number(32)?, hash: body.get(48..64)?.try_into().ok()? },
        state_bytes: number(40)?,
        block_bytes: u32::from_le_bytes(body.get(64..68)?.try_into().ok()?),
    })
}

/// What a configuration takes in the file.
fn padded(configuration_bytes: u32) -> u64 {
    (u64::from(configuration_bytes) + 4).next_multiple_of(SECTOR)
}

pub(super) fn to_size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn block_checksum(number: u64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

/// The hash of a snapshot in the making.
#[derive(Clone, Debug, Default)]
pub struct StateHasher(Sha256);

impl StateHasher {
    /// That of a state at this position, with this configuration in force there.
    #[must_use]
    pub fn new(position: Position, configuration: &Configuration) -> Self {
        let configuration = configuration.encode();
        let hash = Sha256::new()
            .chain_update(position.index.0.to_le_bytes())
            .chain_update(position.term.0.to_le_bytes())
            .chain_update((configuration.len() as u64).to_le_bytes())
            .chain_update(&configuration);
        Self(hash)
    }

    /// The next part of the state.
    pub fn update(&mut self, state: &[u8]) {
        self.0.update(state);
    }

    /// The hash of all of it.
    #[must_use]
    pub fn finish(self) -> [u8; 16] {
        let mut half = [0; 16];
        half.iter_mut().zip(self.0.finalize().iter()).for_each(|(to, from)| *to = *from);
        half
    }
}

/// In what portions a snapshot is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct PieceSizes {
    /// What one checksum covers.
    pub(super) block_bytes: u32,
    /// What is written between two syncs.
    pub(super) piece_bytes_max: u64,
}

/// Takes a state as a stream and writes it behind the place of the header.
#[derive(Debug)]
pub(super) struct StateWriter {
    file: Box<dyn File>,
    stop: StopFlag,
    hash: StateHasher,
    /// What is known of it so far.
    head: Head,
    /// Blocks that were finished.
    blocks: u64,
    content: Vec<u8>,
    /// What was not written yet, and where it goes.
    piece: Vec<u8>,
    piece_offset: u64,
    piece_bytes_max: usize,
}

impl StateWriter {
    pub(super) fn new(
        file: Box<dyn File>,
        position: Position,
        configuration: Configuration,
        sizes: PieceSizes,
        stop: StopFlag,
    ) -> Self {
        let id = SnapshotId { position, bytes: 0, hash: [0; 16] };
        let block_bytes = sizes.block_bytes.clamp(*BLOCK_BYTES.start(), *BLOCK_BYTES.end());
        let head = Head { id, configuration, state_bytes: 0, block_bytes };
        Self {
            file,
            stop,
            hash: StateHasher::new(position, &head.configuration),
            blocks: 0,
            content: Vec::with_capacity(to_size(head.content_bytes())),
            piece: Vec::new(),
            piece_offset: head.state_offset(),
            piece_bytes_max: to_size(sizes.piece_bytes_max),
            head,
        }
    }

    /// Ends the file, durably; it has no name that counts yet.
    pub(super) fn finish(mut self) -> io::Result<SnapshotId> {
        self.end_block()?;
        let too_large = || io::Error::other("the state is too large");
        self.head.id.bytes = self.head.file_bytes().ok_or_else(too_large)?;
        self.head.id.hash = std::mem::take(&mut self.hash).finish();
        let (header, configuration) = self.head.encode();
        self.piece.extend_from_slice(&configuration);
        self.piece.extend_from_slice(&header);
        self.end_piece()?;
        write_all_at(self.file.as_ref(), &configuration, SECTOR)?;
        write_all_at(self.file.as_ref(), &header, 0)?;
        uninterrupted(|| self.file.sync_all())?;
        Ok(self.head.id)
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.content.is_empty() {
            return Ok(());
        }
        let checksum = block_checksum(self.blocks, &self.content);
        self.blocks += 1;
        self.piece.extend_from_slice(&checksum.to_le_bytes());
        self.piece.append(&mut self.content);
        if self.piece.len() >= self.piece_bytes_max { self.end_piece() } else { Ok(()) }
    }

    /// Writes a piece and waits for the disk to have it: many small flushes leave room for the
    /// log's own between them, where one large one would not.
    fn end_piece(&mut self) -> io::Result<()> {
        self.stop.check()?;
        write_all_at(self.file.as_ref(), &self.piece, self.piece_offset)?;
        uninterrupted(|| self.file.sync_data())?;
        self.piece_offset += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}

impl Write for StateWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let content_bytes = to_size(self.head.content_bytes());
        if self.content.len() >= content_bytes {
            self.end_block()?;
        }
        let taken = bytes.len().min(content_bytes - self.content.len());
        let taken_bytes = bytes.get(..taken).unwrap_or_default();
        self.hash.update(taken_bytes);
        self.content.extend_from_slice(taken_bytes);
        self.head.state_bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the state of a snapshot as a stream, every byte of it checked.
pub(super) struct StateReader<'a> {
    file: &'a dyn File,
    stop: &'a StopFlag,
    head: Head,
    hash: StateHasher,
    offset: u64,
    blocks: u64,
    /// State bytes behind the present block.
    left: u64,
    block: Vec<u8>,
    /// What was given of it, checksum included.
    given: usize,
}

impl<'a> StateReader<'a> {
    /// Begins to read the file at `path`, from the medium and not from the cache.
    pub(super) fn open(
        file: &'a dyn File,
        path: &str,
        stop: &'a StopFlag,
    ) -> Result<Self, SnapshotError> {
        // Nothing is lost if the cache stays.
        let _ = file.drop_cache();
        let head = Head::read(file, path)?;
        let hash = StateHasher::new(head.id.position, &head.configuration);
        let (offset, left) = (head.state_offset(), head.state_bytes);
        Ok(Self { file, stop, head, hash, offset, blocks: 0, left, block: Vec::new(), given: 0 })
    }

    /// What was read, if it was all of it and is what the header says.
    pub(super) fn finish(mut self) -> io::Result<Head> {
        let rest = io::copy(&mut self, &mut io::sink())?;
        if rest > 0 {
            return Err(damage(format!("{rest} bytes are left over behind the state")));
        }
        let hash = std::mem::take(&mut self.hash).finish();
        match hash == self.head.id.hash {
            true => Ok(self.head),
            false => Err(damage("its hash is wrong".into())),
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        self.stop.check()?;
        let content = self.left.min(self.head.content_bytes());
        self.block.resize(to_size(content) + 4, 0);
        read_exact_at(self.file, &mut self.block, self.offset)?;
        let intact = check_block(self.blocks, &self.block);
        let content_bytes = self.block.get(4..).unwrap_or_default();
        if !intact {
            return Err(damage(format!("block {} is damaged", self.blocks)));
        }
        self.hash.update(content_bytes);
        self.offset += self.block.len() as u64;
        self.left -= content;
        self.blocks += 1;
        self.given = 4;
        Ok(())
    }
}

impl Read for StateReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given >= self.block.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.next_block()?;
        }
        let mut rest = self.block.get(self.given..).unwrap_or_default();
        let given = rest.read(buffer)?;
        self.given += given;
        Ok(given)
    }
}

fn damage(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether a block, checksum first, is whole.
pub(super) fn check_block(number: u64, block: &[u8]) -> bool {
    block.split_first_chunk::<4>().is_some_and(|(checksum, content)| {
        block_checksum(number, content) == u32::from_le_bytes(*checksum)
    })
}

/// How much of a file that is being received is whole from its beginning on, and need not be sent
/// again. What the power left of the rest is unknown.
pub(super) fn whole_prefix(file: &dyn File, id: SnapshotId, stop: &StopFlag) -> u64 {
    let Ok(bytes) = file.len() else { return 0 };
    let Ok(Reading::Whole(head)) = Head::read_at(file, 0, id.bytes) else { return 0 };
    if head.id != id {
        return 0;
    }
    let (mut offset, mut number, mut left) = (head.state_offset(), 0, head.state_bytes);
    let mut block = Vec::new();
    while left > 0 && stop.check().is_ok() {
        let content = left.min(head.content_bytes());
        block.resize(to_size(content) + 4, 0);
        let end = offset + block.len() as u64;
        let whole = end <= bytes && read_exact_at(file, &mut block, offset).is_ok();
        if !whole || !check_block(number, &block) {
            return offset;
        }
        (offset, number, left) = (end, number + 1, left - content);
    }
    offset
}
