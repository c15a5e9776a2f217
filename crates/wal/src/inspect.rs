//! Looking at a log that nobody is using: what is there, whether it is whole, and every record.
//!
//! Nothing here writes but [`Inspector::mend`], which is asked to. What opening a log would mend or
//! remove is reported and left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::{Disk, Lock};
use crate::entry::{Metadata, Position};
use crate::error::{Failure, OpenError};
use crate::inventory::{Inventory, sequences, settle_medium, take_inventory};
use crate::open::{Examined, examine, put_in_order};
use crate::options::LogId;
use crate::pool::Pool;
use crate::segment::segment_name;
use crate::survey::{Check, Content};
use crate::verdict::{TornTail, Verdict};
use crate::wal::{Wal, remove_temporaries, take_lock};
use crate::window::Window;

/// A log that is looked at while nobody else has it.
#[derive(Debug)]
pub struct Inspector {
    pub(crate) disk: Arc<dyn Disk>,
    floor: Option<u64>,
    _lock: Lock,
}

/// The condition of a log.
#[derive(Debug)]
pub enum Health {
    /// Every byte that is needed is as it was written.
    Clean,
    /// Whole up to a last write that was cut short, which opening removes.
    Torn(TornTail),
    /// Payloads are lost, or links, seals and padding can be made again; no history is lost.
    Damaged(Vec<Finding>),
    /// History is lost; opening refuses with this error.
    Lost(OpenError),
}

/// Damage that takes no history along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The payload of an entry is gone; another replica may have it.
    LostPayload {
        /// The sequence of the segment.
        segment: u64,
        /// Where the batch that holds the entry begins.
        offset: u64,
        /// The entry.
        position: Position,
    },
    /// Bytes that can be made again from what surrounds them; opening does that.
    Mendable {
        /// The sequence of the segment.
        segment: u64,
        /// Where they stand.
        offset: u64,
    },
}

/// What was put in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// A last write that was cut short, and was removed.
    pub torn: Option<TornTail>,
    /// Links, seals and padding that were made again, by segment and offset.
    pub places: Vec<(u64, u64)>,
    /// Segments that the log did not need any more, by sequence, and that were removed.
    pub removed: Vec<u64>,
}

/// A log at a glance, from the heads and the ends of its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which log this is.
    pub log_id: LogId,
    /// The position before the first entry.
    pub start: Position,
    /// The last entry.
    pub last: Position,
    /// The newest metadata.
    pub metadata: Option<Metadata>,
    /// The first index of each term, ascending.
    pub terms: Vec<Position>,
    /// All segment files, oldest first.
    pub segments: Vec<SegmentSummary>,
}

/// One segment file at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Its number.
    pub sequence: u64,
    /// Where it is.
    pub path: String,
    /// How long the file is.
    pub bytes: u64,
    /// How far it is used.
    pub used_bytes: u64,
    /// What it is to the log.
    pub role: Role,
}

/// What a segment file is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The log needs nothing of it; it is about to be removed.
    Obsolete,
    /// Full and ended by a seal.
    Sealed,
    /// Being written.
    Active,
    /// Empty, made ahead.
    Spare,
}

impl Inspector {
    /// Takes the lock of a log's directory, so that what is seen stands still.
    ///
    /// A directory without a log is left as it is. Where nothing at all may be made, not even a
    /// missing lock file, the disk must be a [`ReadOnlyDisk`](crate::ReadOnlyDisk).
    pub fn open(disk: Arc<dyn Disk>) -> Result<Inspector, OpenError> {
        let exists = Wal::exists(&*disk);
        if !exists.map_err(|error| Failure::new("list", disk.path(""), error))? {
            return Err(OpenError::NoLog { path: disk.path("") });
        }
        let lock =
            take_lock(&*disk)?.ok_or_else(|| OpenError::Locked { path: disk.path("LOCK") })?;
        Ok(Inspector { disk: Arc::new(Pool::new(disk)), floor: None, _lock: lock })
    }

    /// Holds the log to an index that is known to have been durable in it: what opening it with
    /// that [floor](Check::floor) refuses is damage here too, and is not mended.
    #[must_use]
    pub fn with_floor(self, floor: Option<u64>) -> Inspector {
        Inspector { floor, ..self }
    }

    /// How opening the log would check it, reading everything.
    pub(crate) fn check(&self) -> Check<'static> {
        Check { floor: self.floor, ..Check::default() }
    }

    pub(crate) fn inventory(&self, window: &mut Window) -> Result<Inventory, OpenError> {
        let inventory = take_inventory(&*self.disk, window)?;
        inventory.ok_or_else(|| OpenError::NoLog { path: self.disk.path("") })
    }

    pub(crate) fn examine(
        &self,
        check: Check<'_>,
        window: &mut Window,
    ) -> Result<Examined, OpenError> {
        let examined = examine(&*self.disk, check, window)?;
        examined.ok_or_else(|| OpenError::NoLog { path: self.disk.path("") })
    }

    /// Forgets what the operating system has cached of the log, so that what is looked at next is
    /// what the medium has. Bytes that were never synced stay cached.
    pub fn forget_cached(&self) -> Result<(), OpenError> {
        for sequence in sequences(&*self.disk)? {
            let name = segment_name(sequence);
            let forgotten = self.disk.open(&name).and_then(|file| file.drop_cache());
            forgotten
                .map_err(|error| Failure::new("drop the cache of", self.disk.path(&name), error))?;
        }
        Ok(())
    }

    /// Reads everything that the log needs and says in what condition it is.
    ///
    /// Fails only if that cannot be said: no log, a newer format, a disk that does not answer.
    pub fn verify(&self) -> Result<Health, OpenError> {
        let verdict = match self.examine(self.check(), &mut Window::default()) {
            Ok(examined) => examined.verdict,
            Err(error @ (OpenError::Corrupt { .. } | OpenError::HalfSalvaged { .. })) => {
                return Ok(Health::Lost(error));
            }
            Err(error) => return Err(error),
        };
        let findings = findings(&verdict);
        if !findings.is_empty() {
            return Ok(Health::Damaged(findings));
        }
        Ok(match verdict.torn {
            Some(torn) => Health::Torn(torn),
            None => Health::Clean,
        })
    }

    /// Puts in order what opening the log would put in order, and nothing else: removes the torn
    /// end, makes links, seals and padding again, and removes files that nothing needs.
    ///
    /// Lost payloads stay lost. A log with lost history is left alone and gives the error of
    /// opening it.
    pub fn mend(&self) -> Result<Mended, OpenError> {
        let mut window = Window::default();
        settle_medium(&*self.disk)?;
        let verdict = self.examine(self.check(), &mut window)?.verdict;
        put_in_order(&*self.disk, &verdict)?;
        remove_temporaries(&*self.disk)?;
        let places = verdict.mends.iter().map(|mend| (mend.source.sequence, mend.offset)).collect();
        Ok(Mended { torn: verdict.torn, places, removed: verdict.remove })
    }

    /// The log at a glance. Reads full segments only by their ends; fails if history is lost.
    pub fn summarize(&self) -> Result<Summary, OpenError> {
        let mut window = Window::default();
        let check = Check { verify_from: u64::MAX, ..Check::default() };
        let Examined { verdict, runs, .. } = self.examine(check, &mut window)?;
        let inventory = self.inventory(&mut window)?;
        let newest = verdict.parts.last();
        let boundary = newest.map(|newest| newest.boundary()).unwrap_or_default();
        let segments = inventory.heads.iter().map(|head| {
            let sequence = head.source.sequence;
            let part = verdict.parts.iter().find(|part| part.source.sequence == sequence);
            let oldest = verdict.parts.first().map_or(0, |part| part.source.sequence);
            let (used_bytes, role) = match part.map(|part| &part.content) {
                Some(Content::Scanned(scan)) if scan.seal_offset.is_none() => {
                    (scan.end, Role::Active)
                }
                Some(Content::Scanned(scan)) => (scan.end, Role::Sealed),
                Some(Content::Sealed(sealed)) => (sealed.end, Role::Sealed),
                None if sequence < oldest => (0, Role::Obsolete),
                None => (0, Role::Spare),
            };
            let path = head.source.path.to_string();
            SegmentSummary { sequence, path, bytes: head.source.capacity, used_bytes, role }
        });
        Ok(Summary {
            log_id: verdict.log_id,
            start: boundary.start,
            last: boundary.last,
            metadata: boundary.metadata,
            terms: runs.iter().collect(),
            segments: segments.collect(),
        })
    }
}

/// Everything that is damaged in a log whose history is whole.
fn findings(verdict: &Verdict) -> Vec<Finding> {
    let mut offsets = BTreeMap::new();
    for part in &verdict.parts {
        let Content::Scanned(scan) = &part.content else { continue };
        for batch in &scan.damaged {
            let lost = batch.lost.iter().map(|lost| ((part.source.sequence, *lost), batch.offset));
            offsets.extend(lost);
        }
    }
    let lost = verdict.lost.iter().map(|(segment, position)| Finding::LostPayload {
        segment: *segment,
        offset: offsets.get(&(*segment, *position)).copied().unwrap_or_default(),
        position: *position,
    });
    let mends = verdict
        .mends
        .iter()
        .map(|mend| Finding::Mendable { segment: mend.source.sequence, offset: mend.offset });
    lost.chain(mends).collect()
}
