//! What is to happen in a run, as data: the faults with their times, what clients want and when,
//! and the frames that meet with a mishap. It is drawn from the seed before or while the run goes
//! on; what was drawn can be written down, and run again without some of it.

use std::collections::{BTreeSet, VecDeque};

use wal::sim_disk::Random;

use super::agenda::{MILLISECOND, Moment};
use super::diagram::What;
use super::dice::{Chance, Dice, Single};
use super::history::Ask;
use super::network::Path;
use super::onlooker::words;
use super::plan::{FaultKind, NetworkPlan, Plan, SERVERS_MAX};
use super::world::World;

/// One fault. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strike {
    pub(super) at: u64,
    pub(super) kind: FaultKind,
    pub(super) server: usize,
    pub(super) lasts: u64,
    /// Everything else about it follows from this number.
    pub(super) chance: u64,
}

/// What a client wants. It begins then, or as soon as it has what it wanted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) at: u64,
    pub(super) client: usize,
    pub(super) key: u64,
    pub(super) ask: Ask,
}

/// Which frame it is: the path, and how many went along it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FrameName {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) number: u64,
}

/// A frame is lost, late, changed, repeated, or outlives its connection: what exactly, follows
/// from the seed and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mishap {
    /// When that made a difference.
    pub(super) at: u64,
    pub(super) frame: FrameName,
}

impl Strike {
    /// All faults of a run, in the order of their times.
    pub(super) fn draw_all(plan: &Plan, dice: &mut Dice) -> Vec<Strike> {
        let mut strikes = Vec::new();
        for kind in FaultKind::ALL {
            let Some(every) = plan.faults.every(kind) else { continue };
            let dice = dice.fault(kind);
            let mut at = dice.below(2 * every);
            while at < plan.length {
                let server = dice.place(plan.servers);
                let lasts = dice.between(MILLISECOND, plan.faults.lasts_max);
                let chance = dice.draw() >> 32;
                strikes.push(Strike { at, kind, server, lasts, chance });
                at += dice.between(every / 4, every * 7 / 4).max(1);
            }
        }
        strikes.sort_by_key(|strike| strike.at);
        strikes
    }
}

/// What happened in a run, as far as chance decided it.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) wishes: Vec<Wish>,
    pub(super) mishaps: Vec<Mishap>,
}

/// What is to happen.
pub(super) struct Course {
    /// What each client wants; `None` if that is drawn while it goes on.
    wishes: Option<Vec<VecDeque<Wish>>>,
    /// The frames that may meet with a mishap; `None` if all may.
    mishaps: Option<BTreeSet<FrameName>>,
    /// How many frames went along each path.
    sent: [[u64; SERVERS_MAX]; SERVERS_MAX],
    /// What may happen to the frame that is being sent, and its name.
    pub(super) network: NetworkPlan,
    frame: FrameName,
    /// What happens, if somebody wants to know.
    pub(super) record: Option<Record>,
}

impl Course {
    pub(super) fn new(
        plan: &Plan,
        wishes: Option<&[Wish]>,
        mishaps: Option<&[Mishap]>,
        is_recorded: bool,
    ) -> Course {
        let of = |wishes: &[Wish], client: usize| {
            wishes.iter().filter(|it| it.client == client).copied().collect()
        };
        let queues = |all: &[Wish]| (0..plan.clients).map(|client| of(all, client)).collect();
        Course {
            wishes: wishes.map(queues),
            mishaps: mishaps.map(|all| all.iter().map(|it| it.frame).collect()),
            sent: Default::default(),
            network: plan.network,
            frame: FrameName { from: 0, to: 0, number: 0 },
            record: is_recorded.then(Record::default),
        }
    }

    /// When a client that is free now begins its next request, if it has any.
    pub(super) fn next_wish_at(
        &self,
        client: usize,
        now: Moment,
        dice: &mut Random,
        pause_max: u64,
    ) -> Option<Moment> {
        match &self.wishes {
            None => Some(now + dice.below(pause_max)),
            Some(queues) => queues[client].front().map(|wish| Moment(wish.at).max(now)),
        }
    }

    /// Takes what a client wants next, unless that is to be drawn.
    fn take_wish(&mut self, client: usize) -> Option<Option<(u64, Ask)>> {
        let queues = self.wishes.as_mut()?;
        Some(queues[client].pop_front().map(|wish| (wish.key, wish.ask)))
    }
}

impl World {
    /// What a client wants next, if anything.
    pub(super) fn next_wish(&mut self, client: usize) -> Option<(u64, Ask)> {
        let wish = self.course.take_wish(client).unwrap_or_else(|| Some(self.choose()));
        let (key, ask) = wish?;
        let at = self.now().0;
        if let Some(record) = &mut self.course.record {
            record.wishes.push(Wish { at, client, key, ask });
        }
        let note = || format!("client {client} wants: {}", words(key, ask));
        self.trace.mark(Moment(at), || What::World { is_grave: false, note: note() });
        Some((key, ask))
    }

    /// A frame is to be sent. Until the next one, `dice.frame` and `course.network` say what
    /// happens to it.
    pub(super) fn begin_frame(&mut self, (from, to): Path) -> FrameName {
        let sent = &mut self.course.sent[from][to];
        *sent += 1;
        let frame = FrameName { from, to, number: *sent };
        self.dice.frame = self.dice.single(Single::Frame, frame.words());
        self.course.frame = frame;
        let plan = self.plan.network;
        self.course.network = if self.may_meet_mishap(frame) { plan } else { plan.calm() };
        frame
    }

    /// Whether something may happen to a frame.
    pub(super) fn may_meet_mishap(&self, frame: FrameName) -> bool {
        self.course.mishaps.as_ref().is_none_or(|mishaps| mishaps.contains(&frame))
    }

    /// Something happened to the frame that is being sent.
    pub(super) fn note_mishap_now(&mut self) {
        self.note_mishap(self.course.frame);
    }

    /// Something happened to a frame, and that made a difference.
    pub(super) fn note_mishap(&mut self, frame: FrameName) {
        let at = self.now().0;
        if let Some(record) = &mut self.course.record {
            record.mishaps.push(Mishap { at, frame });
        }
    }

    /// Whether the transfer that a frame is a part of is interrupted at it, and how.
    pub(super) fn snapshot_cut(&self, frame: FrameName) -> Option<SnapshotCut> {
        let mut dice = self.dice.single(Single::SnapshotCut, frame.words());
        let is_cut = !self.is_calm
            && self.may_meet_mishap(frame)
            && dice.permille(self.plan.faults.snapshot_cut_permille);
        is_cut.then(|| match dice.below(4) {
            0 => SnapshotCut::SenderDies,
            1 | 2 => SnapshotCut::HandOver { heir: dice.place(self.servers.len()) },
            _ => SnapshotCut::ConnectionLost,
        })
    }
}

/// How the transfer of a snapshot is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotCut {
    /// The connection that carries it is lost.
    ConnectionLost,
    /// The process that sends it dies.
    SenderDies,
    /// The server that sends it is to hand over to another one, which may have what the receiver
    /// lacks.
    HandOver {
        /// Which one.
        heir: usize,
    },
}

impl FrameName {
    fn words(self) -> [u64; 3] {
        [self.from as u64, self.to as u64, self.number]
    }
}
