//! Runs a replica in real time. The loop around it is its caller's: it gathers what came, hands it
//! to [`Driver::turn`] and sleeps until the deadline that comes back or until more comes. The
//! loop can be a thread of its own or a server's one event loop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node::{Change, Envelope, Event, Member, NodeId, Payload, ReadId, Term};
use crate::replica::{
    Completion, Fatal, Job, JobDone, Replica, SnapshotEnvelope, SnapshotEvent, Token, Transport,
    Work,
};
use crate::state_machine::StateMachine;

/// Something for the replica.
#[derive(Debug)]
pub enum Input {
    /// A message from another server.
    Message(Envelope),
    /// A message about a snapshot from another server.
    Snapshot(SnapshotEnvelope),
    /// The connection over which snapshots came from this server is gone.
    SnapshotStreamLost(Member),
    /// A command to replicate.
    Propose(Token, Payload),
    /// A read to confirm.
    Read(ReadId),
    /// A change of the membership.
    Change(Token, Change),
    /// Leadership is to go to this voter.
    Transfer(Token, NodeId),
    /// Leadership is to go to whichever voter holds most of the log.
    HandOver(Token),
    /// The process that led this term as this member is known to be gone; see
    /// [`Node::on_disconnected`](crate::node::Node::on_disconnected).
    LeaderGone(Member, Term),
    /// Another start of this server answers than before, and nothing of the earlier one comes any
    /// more; see [`Node::on_restarted`](crate::node::Node::on_restarted).
    Restarted(Member),
}

/// The time that has passed since any fixed moment; it never goes back.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// A replica and the time it lives in. All times are those of one clock.
///
/// # Example
///
/// A cluster of one, on the disk. What comes from sockets in a server is put into the inbox by
/// hand here.
///
/// ```
/// use std::hash::{BuildHasher, RandomState};
/// use std::time::Duration;
///
/// use raft::founding::Charter;
/// use raft::node::{Config, Configuration, Incarnation, NodeId, Payload, Voter};
/// use raft::replica::{Completion, Replica, Token};
/// use raft::storage::{Home, LogOptions, RealDisk};
/// use raft::{Driver, Input};
/// # use raft::node::{Envelope, Index};
/// # use raft::replica::{Carried, SnapshotEnvelope};
/// # #[derive(Default)]
/// # struct Length(u64, Index);
/// # impl raft::StateMachine for Length {
/// #     type Reply = u64;
/// #     type Image = ();
/// #     fn apply(&mut self, at: Index, it: &bytes::Bytes) -> Result<u64, raft::Undecodable> {
/// #         (self.0, self.1) = (self.0 + it.len() as u64, at);
/// #         Ok(self.0)
/// #     }
/// #     fn advance(&mut self, index: Index) {
/// #         self.1 = index;
/// #     }
/// #     fn applied(&self) -> Index {
/// #         self.1
/// #     }
/// #     fn image(&self) {}
/// #     fn write(_: (), _: &mut dyn std::io::Write) -> std::io::Result<()> {
/// #         Ok(())
/// #     }
/// #     fn restore(_: &mut dyn std::io::Read) -> std::io::Result<Self> {
/// #         Ok(Self::default())
/// #     }
/// # }
/// # struct Nowhere;
/// # impl raft::Transport for Nowhere {
/// #     fn send(&mut self, _: Envelope) {}
/// #     fn send_snapshot(&mut self, _: &SnapshotEnvelope) -> Carried {
/// #         Carried::NotNow
/// #     }
/// # }
///
/// let directory = tempfile::tempdir()?;
/// let options = LogOptions::with_segment_bytes(1 << 20);
/// let disk = RealDisk::open(directory.path())?;
/// // A directory that was lost comes back as another life of its server, never as the same.
/// let draw = || Incarnation(RandomState::new().hash_one(()));
/// let mut home = Home::open(disk, NodeId::new("s1")?, "demo", draw)?;
/// let me = home.identity().member;
/// let voter = Voter { member: me, address: "127.0.0.1:7001".into() };
/// let configuration = Configuration::new(vec![voter])?;
/// home.found(Charter { name: "demo".into(), configuration }, &options)?;
///
/// // `Length` is a state machine that counts the bytes of its commands.
/// let recovered = home.recover(&options, Length::default)?;
/// let replica = Replica::new(Config::new(me, home.identity().boot), recovered, 1)?;
/// let tick = Duration::from_millis(1);
/// let mut driver = Driver::in_real_time(replica, tick);
///
/// let mut inbox = vec![Input::Propose(Token(7), Payload::new("four"))];
/// let length = loop {
///     // `Nowhere` is a transport without anybody to talk to.
///     driver.turn(inbox.drain(..), &mut Nowhere)?;
///     match driver.take_completions().pop() {
///         Some(Completion::Applied(Token(7), _, length)) => break length,
///         // It has not elected itself yet.
///         Some(_) => inbox.push(Input::Propose(Token(7), Payload::new("four"))),
///         None => {}
///     }
/// };
/// assert_eq!(length, 4);
/// driver.stop().close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Driver<M: StateMachine> {
    replica: Replica<M>,
    clock: Clock,
    tick: Duration,
    /// The time up to which ticks were given.
    ticked: Duration,
    ticks_per_turn_max: u32,
}

impl<M: StateMachine> Driver<M> {
    /// Drives `replica` from now on. A `tick` is a heartbeat divided by
    /// [`heartbeat_ticks`](crate::node::Config::heartbeat_ticks), of which there are
    /// [ten](crate::node::Config::TICKS_PER_HEARTBEAT) unless it was set otherwise: all times of
    /// the node, the election timeout among them, are multiples of it.
    pub fn new(mut replica: Replica<M>, tick: Duration, clock: Clock) -> Self {
        let ticks_per_turn_max = replica.node().heartbeat_ticks();
        let ticked = clock();
        let watched = Arc::clone(&clock);
        let tick_nanos = tick.as_nanos().max(1);
        replica.measure_with(Box::new(move || {
            u64::try_from(watched().as_nanos() / tick_nanos).unwrap_or(u64::MAX)
        }));
        Self { replica, clock, tick, ticked, ticks_per_turn_max }
    }

    /// Drives `replica` from now on, by the clock of the operating system; see [`new`](Self::new).
    pub fn in_real_time(replica: Replica<M>, tick: Duration) -> Self {
        let begun = Instant::now();
        Self::new(replica, tick, Arc::new(move || begun.elapsed()))
    }

    /// Takes everything in `inbox`, carries out what follows from it, and lets the time pass that
    /// had passed when it was called. Returns when to call again at the latest.
    ///
    /// What came counts before the time that passed: after a pause (a stopped process, a slow
    /// disk) the heartbeats that waited in the sockets are seen first, and of the time that was
    /// missed at most one heartbeat passes. Time may run late, but never early. The time that the
    /// disk takes within a turn is left to the next, before which the sockets are read again.
    ///
    /// # Errors
    /// The replica must stop; see [`Fatal`].
    pub fn turn(
        &mut self,
        inbox: impl IntoIterator<Item = Input>,
        transport: &mut dyn Transport,
    ) -> Result<Duration, Fatal> {
        let now = (self.clock)();
        for input in inbox {
            match input {
                Input::Message(envelope) => self.replica.step(envelope),
                Input::Snapshot(envelope) => self.replica.step_snapshot(envelope),
                Input::SnapshotStreamLost(from) => self.replica.on_snapshot_stream_lost(from),
                Input::Propose(token, command) => self.replica.propose(token, command),
                Input::Read(id) => self.replica.read(id),
                Input::Change(token, change) => self.replica.change_membership(token, &change),
                Input::Transfer(token, to) => self.replica.transfer_leadership(token, to),
                Input::HandOver(token) => self.replica.hand_over(token),
                Input::LeaderGone(leader, term) => self.replica.on_disconnected(leader, term),
                Input::Restarted(member) => self.replica.on_restarted(member),
            }
        }
        let mut work = self.replica.advance(transport)?;
        if self.pass_time(now) {
            work = self.replica.advance(transport)?;
        }
        Ok(match work {
            Work::More => now,
            // Never later than what one turn can make up for: time that a turn cannot give is
            // taken for a pause, and lost.
            Work::Done => {
                let ticks = self.replica.ticks_until_due().min(self.ticks_per_turn_max);
                self.ticked + self.tick * ticks
            }
        })
    }

    /// Gives the ticks that are due; true when there were any.
    fn pass_time(&mut self, now: Duration) -> bool {
        let mut ticks = 0;
        while self.ticked + self.tick <= now && ticks < self.ticks_per_turn_max {
            self.ticked += self.tick;
            self.replica.tick();
            ticks += 1;
        }
        if self.ticked + self.tick <= now {
            self.ticked = now;
        }
        ticks > 0
    }

    /// Work that takes long, to be run anywhere and brought back; see [`Replica::take_job`].
    pub fn take_job(&mut self) -> Option<Job<M>> {
        self.replica.take_job()
    }

    /// A job was run; it took this long. A turn should follow.
    pub fn finish_job(&mut self, done: JobDone<M>, took: Duration) {
        self.replica.finish_job(done, took);
    }

    /// Runs all the work that takes long here and now. That is simple, and fits where the state is
    /// small; meanwhile this server hears nobody. A turn should follow.
    pub fn run_jobs(&mut self) {
        while let Some(job) = self.take_job() {
            let begun = (self.clock)();
            let done = job.run();
            self.finish_job(done, (self.clock)().saturating_sub(begun));
        }
    }

    /// Takes what has happened to snapshots, for people.
    pub fn take_snapshot_events(&mut self) -> Vec<SnapshotEvent> {
        self.replica.take_snapshot_events()
    }

    /// Takes what has completed.
    pub fn take_completions(&mut self) -> Vec<Completion<M::Reply>> {
        self.replica.take_completions()
    }

    /// Takes what has happened, for people.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.replica.take_events()
    }

    /// The replica.
    pub fn replica(&self) -> &Replica<M> {
        &self.replica
    }

    /// The replica, for what has no part in the turns; whatever follows from it is carried out in
    /// the next one.
    pub fn replica_mut(&mut self) -> &mut Replica<M> {
        &mut self.replica
    }

    /// Stops, giving the replica back.
    pub fn stop(self) -> Replica<M> {
        self.replica
    }
}
