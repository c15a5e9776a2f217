//! What lies in a log's directory: one look at the head of every segment, before anything is
//! judged.

use std::sync::Arc;

use crate::batch::{BatchHeader, Before, Place, encode_control};
use crate::disk::{Disk, File, uninterrupted};
use crate::error::{Damage, Failure, OpenError};
use crate::options::LogId;
use crate::record::{Link, Row};
use crate::scan::{Source, read_control};
use crate::segment::{
    HeaderReading, SEGMENT_HEADER_BYTES, Seed, SegmentHeader, parse_segment_name, segment_name,
};
use crate::window::Window;

/// The head of one segment file.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) source: Source,
    /// What makes the file unusable as a whole.
    pub(crate) problem: Option<Damage>,
    /// The link, if it is whole.
    pub(crate) link: Option<WholeLink>,
}

/// A link that was read whole, or made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WholeLink {
    pub(crate) link: Link,
    pub(crate) is_reset: bool,
    pub(crate) crc: u32,
    pub(crate) previous_crc: u32,
    pub(crate) before: Before,
}

impl WholeLink {
    /// Whether it says enough of the segment before, which is durable and has nothing that is to
    /// be verified if everything from `verify_from` on is.
    pub(crate) fn is_enough_for(&self, verify_from: u64) -> bool {
        let ends_below = self.link.boundary.last.index < verify_from;
        self.before == Before::Synced && !self.is_reset && ends_below
    }
}

/// Heads of all segments, ascending. They belong to one log, as far as they can be read.
#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) log_id: LogId,
    pub(crate) heads: Vec<Head>,
}

/// The sequences of all segments in a directory, ascending.
pub(crate) fn sequences(disk: &dyn Disk) -> Result<Vec<u64>, Failure> {
    let names = disk.list().map_err(|error| Failure::new("list", disk.path(""), error))?;
    let mut sequences: Vec<u64> =
        names.iter().filter_map(|name| parse_segment_name(name)).collect();
    sequences.sort_unstable();
    Ok(sequences)
}

struct Opened {
    sequence: u64,
    file: Arc<dyn File>,
    path: String,
    length: u64,
    reading: HeaderReading,
    is_unreadable: bool,
}

fn open_one(disk: &dyn Disk, sequence: u64, window: &mut Window) -> Result<Opened, Failure> {
    let name = segment_name(sequence);
    let path = disk.path(&name);
    let failed = |operation, error| Failure::new(operation, &path, error);
    let file: Arc<dyn File> = disk.open(&name).map_err(|error| failed("open", error))?.into();
    let length = file.len().map_err(|error| failed("stat", error))?;
    let mut is_unreadable = false;
    let reading = if length < SEGMENT_HEADER_BYTES {
        HeaderReading::Rotten
    } else {
        match window.view(&file, length, 0, SEGMENT_HEADER_BYTES) {
            Ok(bytes) => SegmentHeader::decode(bytes),
            Err(_) => {
                is_unreadable = true;
                HeaderReading::Rotten
            }
        }
    };
    Ok(Opened { sequence, file, path, length, reading, is_unreadable })
}

/// Reads the heads of all segments.
pub(crate) fn take_inventory(
    disk: &dyn Disk,
    window: &mut Window,
) -> Result<Option<Inventory>, OpenError> {
    let mut opened = Vec::new();
    for sequence in sequences(disk)? {
        opened.push(open_one(disk, sequence, window)?);
    }
    for segment in &opened {
        if let HeaderReading::Unsupported { version, features } = segment.reading {
            let segment = segment.path.clone();
            return Err(OpenError::Unsupported { segment, version, features });
        }
    }
    if opened.is_empty() {
        return Ok(None);
    }
    // Without any whole header nothing can be read, and every head becomes a problem of its own.
    let log_id = only_log(&opened)?.unwrap_or(LogId::NONE);
    let heads = opened.into_iter().map(|segment| judge(segment, log_id, window)).collect();
    Ok(Some(Inventory { log_id, heads }))
}

/// The log that the whole headers name. Nothing may be said, and nothing removed, of a directory
/// into which somebody has put a segment of another log: which of them is the stranger is for
/// people to say.
fn only_log(opened: &[Opened]) -> Result<Option<LogId>, OpenError> {
    let mut log_id = None;
    for segment in opened {
        let HeaderReading::Whole(header) = segment.reading else { continue };
        match log_id {
            None => log_id = Some(header.log_id),
            Some(expected) if expected == header.log_id => {}
            Some(expected) => {
                let (path, found) = (segment.path.clone(), header.log_id);
                return Err(OpenError::OtherLog { path, found, expected });
            }
        }
    }
    Ok(log_id)
}

fn judge(segment: Opened, log_id: LogId, window: &mut Window) -> Head {
    let problem = match segment.reading {
        _ if segment.length < SEGMENT_HEADER_BYTES => Some(Damage::Length),
        HeaderReading::Whole(header) if header.sequence != segment.sequence => {
            Some(Damage::SegmentHeader)
        }
        HeaderReading::Whole(header) if header.capacity != segment.length => Some(Damage::Length),
        HeaderReading::Whole(_) => None,
        _ if segment.is_unreadable => Some(Damage::Unreadable),
        _ => Some(Damage::SegmentHeader),
    };
    let source = Source {
        sequence: segment.sequence,
        file: segment.file,
        path: segment.path.into(),
        capacity: segment.length,
        seed: Seed::new(log_id, segment.sequence),
    };
    let link = if problem.is_none() { read_link(&source, window) } else { None };
    Head { source, problem, link }
}

/// The link of a segment, if it is whole.
fn read_link(source: &Source, window: &mut Window) -> Option<WholeLink> {
    let (header, row) = read_control(source, window, SEGMENT_HEADER_BYTES).ok()?;
    let (link, is_reset) = match row {
        Row::Link(link) => (link, false),
        Row::Reset(link) => (link, true),
        _ => return None,
    };
    let BatchHeader { crc, previous_crc, before, .. } = header;
    Some(WholeLink { link, is_reset, crc, previous_crc, before })
}

/// The bytes of the link that continues a sealed segment, and the crc of its header.
pub(crate) fn encode_link(
    seed: &Seed,
    link: Link,
    previous_crc: u32,
    before: Before,
    buffer: &mut Vec<u8>,
) -> u32 {
    let place = Place { seed, offset: SEGMENT_HEADER_BYTES, previous_crc, before };
    let next_index = link.boundary.last.index.saturating_add(1);
    encode_control(buffer, place, &Row::Link(link), next_index)
}

/// Syncs the directory and every segment, and forgets what is cached of them, so that what is read
/// afterwards is what a power cut would leave. Also a segment that will be believed by its ends may
/// have been mended, or repaired, by a life that ended before it had synced that.
pub(crate) fn settle_medium(disk: &dyn Disk) -> Result<(), Failure> {
    uninterrupted(|| disk.sync())
        .map_err(|error| Failure::new("sync directory", disk.path(""), error))?;
    for sequence in sequences(disk)? {
        let name = segment_name(sequence);
        let failed = |operation, error| Failure::new(operation, disk.path(&name), error);
        let file = disk.open(&name).map_err(|error| failed("open", error))?;
        uninterrupted(|| file.sync_all()).map_err(|error| failed("sync", error))?;
        file.drop_cache().map_err(|error| failed("drop the cache of", error))?;
    }
    Ok(())
}
