//! Searches what stands behind a place where no batch begins: for whole headers, which prove that
//! bytes were durable, and for anything but zeros. It goes over every byte once, whatever is there.

use crate::batch::{ALIGNMENT, BATCH_HEADER_BYTES, BatchHeader, Before};
use crate::error::Failure;
use crate::scan::Source;
use crate::window::Window;

/// What stands behind a place where no batch begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// The offset of a whole header that says that everything before it was synced.
    pub(crate) proof: Option<u64>,
    /// The first whole header behind the place, whatever it says.
    pub(crate) beyond: Option<(u64, BatchHeader)>,
    /// One past the last byte that is not zero; complete only if there is no proof.
    pub(crate) dirty_end: u64,
    pub(crate) unreadable: Option<Failure>,
}

const SEARCH_BLOCK_BYTES: u64 = 4096;
const SECTOR_BYTES: u64 = 512;

/// Searches a segment from `from` on for whole batch headers and for anything but zeros. A header
/// at `from` itself proves nothing about the bytes at `from`, and is passed over.
pub(crate) fn search(source: &Source, window: &mut Window, from: u64) -> Found {
    let mut found = Found::default();
    let mut block = from;
    while block < source.capacity && found.proof.is_none() {
        let left = source.capacity.saturating_sub(block);
        let own = SEARCH_BLOCK_BYTES.min(left);
        // The overlap lets a header be seen that begins in this block and ends in the next.
        let length = own.saturating_add(BATCH_HEADER_BYTES).min(left);
        match source.view(window, block, length) {
            Ok(bytes) => search_block(source, bytes, block, own, from, &mut found),
            Err(_) => search_sectors(source, window, block, own, from, &mut found),
        }
        block = block.saturating_add(own);
    }
    found
}

/// Searches a block that cannot be read as a whole, sector by sector.
fn search_sectors(
    source: &Source,
    window: &mut Window,
    block: u64,
    own: u64,
    from: u64,
    found: &mut Found,
) {
    let end = block.saturating_add(own);
    let mut at = block;
    while at < end {
        let next = at.saturating_add(1).next_multiple_of(SECTOR_BYTES).min(end);
        let sector = next.saturating_sub(at);
        let left = source.capacity.saturating_sub(at);
        let overlapping = sector.saturating_add(BATCH_HEADER_BYTES).min(left);
        for length in [overlapping, sector] {
            match source.view(window, at, length) {
                Ok(bytes) => {
                    search_block(source, bytes, at, sector, from, found);
                    break;
                }
                Err(failure) => found.unreadable = Some(failure),
            }
        }
        at = next;
    }
}

fn search_block(source: &Source, bytes: &[u8], block: u64, own: u64, from: u64, found: &mut Found) {
    let step = ALIGNMENT as usize;
    let own = usize::try_from(own).unwrap_or(usize::MAX);
    let words = bytes.get(..own).unwrap_or(bytes).chunks(step).enumerate();
    for (number, word) in words.filter(|(_, word)| word.iter().any(|byte| *byte != 0)) {
        let at = number.saturating_mul(step);
        let offset = block.saturating_add(at as u64);
        found.dirty_end = offset.saturating_add(word.len() as u64);
        if offset == from || found.proof.is_some() {
            continue;
        }
        let candidate = bytes.get(at..).unwrap_or_default();
        let room = source.capacity.saturating_sub(offset);
        if let Some(header) = BatchHeader::decode(candidate, &source.seed, offset, room) {
            found.beyond.get_or_insert((offset, header));
            if header.before == Before::Synced {
                found.proof = Some(offset);
            }
        }
    }
}
