//! The receiving half of a snapshot's way: says what is wanted, gathers what comes into pieces, and
//! has each piece on the disk before it makes room for more. What is on the disk need not be sent
//! again, whatever happens to either side.

use bytes::Bytes;

use super::stream::SnapshotMessage;
use crate::node::{Member, Payload, SnapshotId};

/// After so many offers without a chunk the sender is asked again: what was on its way is lost.
const OFFERS_MAX: u32 = 20;

/// After a failure offers are not taken up for so many ticks.
const PAUSE_TICKS: u32 = 200;

/// A transfer that nothing was heard of for so long lets go of its memory.
const IDLE_TICKS_MAX: u32 = 6000;

/// What the receiver wants done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Find out how much is here, and answer with [`Receiver::on_begun`].
    Begin(SnapshotId),
    /// Say this.
    Say(Member, SnapshotId, SnapshotMessage),
    /// Tell that it goes on (or begins) here.
    Began { from: Member, snapshot: SnapshotId, offset: u64 },
    /// Write this, and answer with [`Receiver::on_piece_written`].
    Write { snapshot: SnapshotId, offset: u64, pieces: Vec<Bytes> },
    /// All is here: check it and make a state machine of it. Ends with [`Receiver::end`].
    Finish(SnapshotId),
}

/// At most one snapshot is received at a time.
#[derive(Debug)]
pub(super) struct Receiver {
    piece_bytes_max: u64,
    transfer: Option<Transfer>,
    pause_ticks: u32,
}

#[derive(Debug)]
struct Transfer {
    from: Member,
    snapshot: SnapshotId,
    phase: Phase,
    /// Offers since something came.
    offers: u32,
    idle_ticks: u32,
}

/// Invariant of fetching: `written <= received <= allowed`, and what lies between the first two is
/// being written or in `gathered`.
#[derive(Debug)]
enum Phase {
    /// What is here already is being looked at.
    Beginning,
    Fetching {
        written: u64,
        received: u64,
        allowed: u64,
        gathered: Vec<Bytes>,
        /// The end of the piece that is being written.
        writing: Option<u64>,
    },
    /// All is on the disk.
    Finishing,
}

impl Receiver {
    pub(super) fn new(piece_bytes_max: u64) -> Self {
        Self { piece_bytes_max: piece_bytes_max.max(1), transfer: None, pause_ticks: 0 }
    }

    /// How far it has come, in bytes on the disk or on the way there.
    pub(super) fn progress(&self) -> Option<(Member, SnapshotId, u64)> {
        let transfer = self.transfer.as_ref()?;
        let received = match transfer.phase {
            Phase::Beginning => 0,
            Phase::Fetching { received, .. } => received,
            Phase::Finishing => transfer.snapshot.bytes,
        };
        Some((transfer.from, transfer.snapshot, received))
    }

    pub(super) fn tick(&mut self) {
        self.pause_ticks = self.pause_ticks.saturating_sub(1);
        if let Some(transfer) = &mut self.transfer {
            transfer.idle_ticks += 1;
        }
        let is_over = |transfer: &mut Transfer| {
            transfer.idle_ticks > IDLE_TICKS_MAX && !matches!(transfer.phase, Phase::Finishing)
        };
        self.transfer.take_if(is_over);
    }

    /// A leader offers a snapshot that is needed. It says so with every heartbeat.
    pub(super) fn on_offer(&mut self, from: Member, snapshot: SnapshotId) -> Vec<Step> {
        if self.pause_ticks > 0 {
            return Vec::new();
        }
        match &mut self.transfer {
            Some(transfer) if transfer.snapshot == snapshot => {
                let same_sender = std::mem::replace(&mut transfer.from, from) == from;
                transfer.offers += 1;
                transfer.idle_ticks = 0;
                match same_sender && transfer.offers < OFFERS_MAX {
                    true => Vec::new(),
                    false => self.want(),
                }
            }
            // What is being finished ends first; it may make this one needless.
            Some(Transfer { phase: Phase::Finishing, .. }) => Vec::new(),
            _ => {
                let phase = Phase::Beginning;
                self.transfer = Some(Transfer { from, snapshot, phase, offers: 0, idle_ticks: 0 });
                vec![Step::Begin(snapshot)]
            }
        }
    }

    /// So much of it is on the disk.
    pub(super) fn on_begun(&mut self, snapshot: SnapshotId, have: u64) -> Vec<Step> {
        let is_it =
            |it: &&mut Transfer| it.snapshot == snapshot && matches!(it.phase, Phase::Beginning);
        let Some(transfer) = self.transfer.as_mut().filter(is_it) else { return Vec::new() };
        let (written, received, allowed) = (have, have, have);
        let (gathered, writing) = (Vec::new(), None);
        transfer.phase = Phase::Fetching { written, received, allowed, gathered, writing };
        self.want()
    }

    /// The connection over which it came is gone, with whatever was on its way.
    pub(super) fn on_stream_lost(&mut self, from: Member) -> Vec<Step> {
        match &self.transfer {
            Some(transfer) if transfer.from == from => self.want(),
            _ => Vec::new(),
        }
    }

    /// Asks for what follows, from the last byte that came.
    fn want(&mut self) -> Vec<Step> {
        let window = self.window_bytes();
        let Some(transfer) = &mut self.transfer else { return Vec::new() };
        let (from, snapshot) = (transfer.from, transfer.snapshot);
        let Phase::Fetching { written, received, allowed, .. } = &mut transfer.phase else {
            return Vec::new();
        };
        transfer.offers = 0;
        *allowed = (*written + window).min(snapshot.bytes);
        let (offset, until) = (*received, *allowed);
        if offset == snapshot.bytes {
            // What is missing is on its way to the disk.
            return Vec::new();
        }
        let want = Step::Say(from, snapshot, SnapshotMessage::Want { offset, until });
        vec![Step::Began { from, snapshot, offset }, want]
    }

    /// Memory that chunks may take: one piece that is being written, and one that gathers.
    fn window_bytes(&self) -> u64 {
        self.piece_bytes_max * 2
    }

    /// A chunk came. Only the one that follows what came before counts.
    pub(super) fn on_chunk(
        &mut self,
        snapshot: SnapshotId,
        offset: u64,
        content: Payload,
    ) -> Option<Step> {
        let transfer = self.transfer.as_mut().filter(|it| it.snapshot == snapshot)?;
        let Phase::Fetching { received, allowed, gathered, .. } = &mut transfer.phase else {
            return None;
        };
        let end = offset.checked_add(content.bytes.len() as u64)?;
        if offset != *received || end > *allowed || content.bytes.is_empty() {
            return None;
        }
        (transfer.offers, transfer.idle_ticks) = (0, 0);
        *received = end;
        gathered.push(content.bytes);
        self.write_if_due()
    }

    fn write_if_due(&mut self) -> Option<Step> {
        let piece_bytes_max = self.piece_bytes_max;
        let Transfer { snapshot, phase, .. } = self.transfer.as_mut()?;
        let Phase::Fetching { written, received, gathered, writing, .. } = phase else {
            return None;
        };
        let gathered_bytes = *received - *written;
        let due = gathered_bytes >= piece_bytes_max || *received == snapshot.bytes;
        if writing.is_some() || gathered.is_empty() || !due {
            return None;
        }
        *writing = Some(*received);
        let (snapshot, offset) = (*snapshot, *written);
        Some(Step::Write { snapshot, offset, pieces: std::mem::take(gathered) })
    }

    /// A piece that ends at `end` is on the disk.
    pub(super) fn on_piece_written(&mut self, snapshot: SnapshotId, end: u64) -> Vec<Step> {
        let window = self.window_bytes();
        let Some(transfer) = self.transfer.as_mut().filter(|it| it.snapshot == snapshot) else {
            return Vec::new();
        };
        let from = transfer.from;
        let Phase::Fetching { written, allowed, writing, .. } = &mut transfer.phase else {
            return Vec::new();
        };
        if *writing != Some(end) {
            return Vec::new();
        }
        (*written, *writing) = (end, None);
        if end == snapshot.bytes {
            transfer.phase = Phase::Finishing;
            return vec![Step::Finish(snapshot)];
        }
        *allowed = (end + window).min(snapshot.bytes);
        let message = SnapshotMessage::Allow { until: *allowed };
        let allow = Step::Say(from, snapshot, message);
        std::iter::once(allow).chain(self.write_if_due()).collect()
    }

    /// The transfer is over, well or not.
    pub(super) fn end(&mut self, snapshot: SnapshotId) -> Option<Member> {
        let ended = self.transfer.take_if(|transfer| transfer.snapshot == snapshot);
        ended.map(|transfer| transfer.from)
    }

    /// Something failed here. It is tried again after a while.
    pub(super) fn pause(&mut self) {
        self.pause_ticks = PAUSE_TICKS;
    }
}
