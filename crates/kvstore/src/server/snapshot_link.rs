//! The second way to another server, for snapshots alone: what is large must not hold up what is
//! urgent. It is connected when there is something to send, and hung up when there has been nothing
//! for a while. Each server has one of its own to every other, used only to send; losing it says
//! nothing about the process on its other side, and costs what was on its way.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use raft::driver::Input;
use raft::node::{Incarnation, Member};
use raft::replica::{Carried, SnapshotEnvelope};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::core::{Core, Phase, SharedCore};
use super::links::{Link, Purpose, RETRY_AFTER, Shaken, Up, connect};
use super::listener;
use super::proof::{Seen, start_of};
use crate::wire::peer::{self, Addressee};

/// With more than that queued no further part of a snapshot is added.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// Connections for snapshots that others may have to this server: far more than members.
const WAYS_IN_MAX: u32 = 64;

/// How long the connection is kept with nothing to carry.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The way for snapshots to one other server.
#[derive(Debug, Default)]
pub(super) struct SnapshotLink {
    up: RefCell<Option<Rc<Up>>>,
    /// There is something to send, and no connection.
    wanted: Notify,
    /// When something was sent last.
    used: Cell<Option<Instant>>,
}

impl SnapshotLink {
    /// Queues a message, unless there is no connection, which is then made, or it has much to
    /// carry already.
    pub(super) fn send(&self, envelope: &SnapshotEnvelope) -> Carried {
        let up = self.up.borrow();
        let Some(up) = up.as_ref().filter(|up| up.member == envelope.to) else {
            self.wanted.notify_one();
            return Carried::NotNow;
        };
        if up.outbox.queued_bytes() > QUEUED_BYTES_MAX {
            return Carried::NotNow;
        }
        self.used.set(Some(Instant::now()));
        let to = Addressee { incarnation: up.member.incarnation, boot: up.start.boot };
        let SnapshotEnvelope { snapshot, message, .. } = envelope;
        up.queue(|out| peer::encode_snapshot(out, to, *snapshot, message));
        Carried::Taken
    }

    pub(super) fn flush(&self) {
        if let Some(up) = self.up.borrow().as_ref() {
            up.flush();
        }
    }

    /// Nobody needs it any more.
    pub(super) fn end(&self) {
        if let Some(up) = self.up.borrow().as_ref() {
            up.outbox.close();
        }
        self.wanted.notify_one();
    }

    /// Hangs up when nothing was sent for long.
    async fn idle(&self) {
        loop {
            let used = self.used.get().unwrap_or_else(Instant::now);
            let left = IDLE_MAX.saturating_sub(used.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

/// Connects whenever there is something to send, for as long as the link is needed.
pub(super) async fn run(core: SharedCore, link: Rc<Link>) {
    loop {
        link.snapshots.wanted.notified().await;
        if link.is_ended() {
            return;
        }
        // Why it does not come about is told by the link for Raft's messages.
        if let Ok(shaken) =
            connect(&core, Some(link.seat()), link.address(), Purpose::Snapshots).await
        {
            let _ = carry(&core, &link, shaken).await;
        }
        sleep(RETRY_AFTER).await;
    }
}

/// Uses a connection until it ends or is needed no more.
async fn carry(core: &SharedCore, link: &Link, shaken: Shaken) -> io::Result<()> {
    let Shaken { outbox, welcome, mut input } = shaken;
    let member = Member { id: link.id(), incarnation: Incarnation(welcome.incarnation) };
    let seen = core.borrow_mut().note_boot(member, welcome.age, welcome.cluster_id);
    if seen != Some(Seen::Current) {
        return Ok(());
    }
    let up = Up::new(outbox, member, start_of(welcome.age), welcome.cluster_id);
    let snapshots = &link.snapshots;
    snapshots.used.set(Some(Instant::now()));
    snapshots.up.replace(Some(Rc::clone(&up)));
    core.borrow().wake();
    let ended = tokio::select! {
        ended = listener::read_snapshots(core, &up, &mut input) => ended,
        () = snapshots.idle() => Ok(()),
    };
    snapshots.up.replace(None);
    up.outbox.close();
    core.borrow_mut().on_snapshot_way_lost(member, WayIn::Ours);
    ended
}

/// Who made a connection for snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WayIn {
    /// This server, to say what it has to say.
    Ours,
    /// The other one.
    Theirs,
}

impl Core {
    /// Whether another server may connect to speak of snapshots.
    pub(super) fn has_room_for_snapshots(&self) -> bool {
        self.snapshot_ways < WAYS_IN_MAX
    }

    /// A connection for snapshots is gone, and with it what was on its way: it is asked for again
    /// at once.
    pub(super) fn on_snapshot_way_lost(&mut self, other: Member, way: WayIn) {
        if way == WayIn::Theirs {
            self.snapshot_ways = self.snapshot_ways.saturating_sub(1);
        }
        if matches!(self.phase, Phase::Running(_)) {
            self.inbox.push(Input::SnapshotStreamLost(other));
            self.wake();
        }
    }
}
