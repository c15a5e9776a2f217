//! What the server's tasks share: the replica (or, before there is one, the founding of the
//! cluster), the requests under way and the links to the other servers. Tasks read sockets and
//! put what they read into the inbox; one task calls [`Core::turn`], which hands the whole inbox
//! to the replica at once. So everything that arrives while a disk write runs shares the next.
//!
//! Nothing in here waits: every method returns at once, but for the disk in a turn.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use raft::driver::{Clock, Driver, Input};
use raft::founding::{Charter, Founded, Founding, Seat, Standing, Step};
use raft::node::{self, Boot, Config as NodeConfig, Envelope, Index, Member, NodeId};
use raft::replica::{Carried, Replica, SnapshotEnvelope, Transport};
use raft::storage::{Home, LogOptions, Stage};
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::Connection;
use super::event::Event;
use super::gather::Gathered;
use super::joining::Joiners;
use super::links::Links;
use super::proof::Met;
use super::requests::Pending;
use super::saves::Saves;
use super::warnings::Warnings;
use super::{Failures, ServeError};
use crate::store::command::CommandLimits;
use crate::store::{Store, StoreLimits};
use crate::wire::handshake::Timing;

/// The core, as tasks hold it. No task keeps it borrowed over an await.
pub(super) type SharedCore = Rc<RefCell<Core>>;

/// Where events go.
pub(super) type Story = Arc<dyn Fn(&Event) + Send + Sync>;

/// What a server was started with, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) id: NodeId,
    pub(super) address: String,
    /// The name of the cluster; empty as long as a server that joins has not been told.
    pub(super) cluster: String,
    /// The servers of the configuration file, which found the cluster.
    pub(super) seats: Vec<Seat>,
    /// Where a server that only joins announces itself.
    pub(super) join: Option<Vec<String>>,
    pub(super) data: PathBuf,
    pub(super) tick: Duration,
    pub(super) timing: Timing,
    /// The shortest and the longest election timeout.
    pub(super) election_ticks: (u32, u32),
    /// A snapshot is written when the log has grown by so much.
    pub(super) snapshot_every_bytes: u64,
    pub(super) limits: CommandLimits,
    pub(super) log: LogOptions,
    /// What is odd about them.
    pub(super) warnings: Vec<String>,
}

pub(super) enum Phase {
    /// The cluster does not exist yet.
    Founding(Box<BeforeFounding>),
    /// A member of a founded cluster.
    Running(Box<Running>),
    /// The log is closed.
    Stopped,
}

pub(super) struct BeforeFounding {
    pub(super) founding: Founding,
    pub(super) home: Home,
}

pub(super) struct Running {
    pub(super) driver: Driver<Store>,
    pub(super) charter: Charter,
    /// What was known to be committed when this server started: what its snapshot stands for.
    commit_at_start: Index,
    /// Keeps the directory locked.
    home: Home,
}

pub(super) struct Core {
    pub(super) settings: Settings,
    pub(super) phase: Phase,
    pub(super) me: Member,
    pub(super) boot: Boot,
    /// Whether this server's cluster was recovered from another.
    pub(super) was_recovered: bool,
    /// What was drawn for this start.
    pub(super) nonce: u64,
    pub(super) started: Instant,
    pub(super) links: Links,
    /// Servers that want to be taken into the cluster.
    pub(super) joiners: Joiners,
    /// The members of the cluster that may take this server in.
    pub(super) doors: Vec<Seat>,
    /// This server has become a member.
    pub(super) entered: Rc<Notify>,
    pub(super) failures: Failures,
    pub(super) inbox: Vec<Input>,
    pub(super) pending: Slab<Pending>,
    /// Requests that wait for a leader, by the time at which they have waited enough.
    pub(super) held: BTreeSet<(Instant, usize)>,
    /// What the pending requests take in memory.
    pub(super) pending_bytes: u64,
    /// Where commands are kept.
    pub(super) gathered: Gathered,
    /// All clients' connections that are open, and some that are not any more.
    connections: Vec<Weak<Connection>>,
    /// Connections with answers to flush.
    pub(super) dirty: Vec<Rc<Connection>>,
    /// Where servers listen that the configuration does not list, as they say themselves.
    pub(super) introduced: BTreeMap<Member, String>,
    /// How far the directory of every other server is that this process has met.
    pub(super) met: BTreeMap<Member, Met>,
    /// Links are to be made or ended.
    pub(super) members_changed: Rc<Notify>,
    /// What a status warns of.
    pub(super) warnings: Warnings,
    /// When each server was last heard from.
    pub(super) heard: BTreeMap<NodeId, Instant>,
    /// Connections that others have made to speak of snapshots.
    pub(super) snapshot_ways: u32,
    /// Whoever knows this server has had time to say so.
    pub(super) has_listened: bool,
    /// This very process has founded its cluster, alone.
    pub(super) has_founded_alone: bool,
    pub(super) stopping: bool,
    /// Snapshots that are being sent to clients.
    pub(super) saves: Saves,
    /// When requests were last looked through for those that take too long.
    pub(super) looked_through: Instant,
    story: Story,
    wake: Arc<Notify>,
    /// What the last unfinished step of the founding was, so that it is told once.
    told: Option<Step>,
    told_accused: bool,
}

impl Running {
    /// The last entry of the log, if this server has not heard since its start that anything
    /// behind its snapshot is committed. Then its state lacks all of that, acknowledged or not.
    pub(super) fn unheard_to(&self) -> Option<Index> {
        let node = self.driver.replica().node();
        let has_heard = node.commit() > self.commit_at_start;
        let last = node.last().index;
        (!has_heard && last > self.commit_at_start).then_some(last)
    }
}

impl Core {
    pub(super) fn new(
        mut settings: Settings,
        home: Home,
        story: Story,
        wake: Arc<Notify>,
        failures: Failures,
    ) -> Self {
        let identity = home.identity().clone();
        let charter = home.charter().cloned();
        if let Some(charter) = &charter {
            settings.cluster.clone_from(&charter.name);
        }
        let name = settings.cluster.clone();
        let founding = match &settings.join {
            None => Founding::new(identity.member, name, settings.seats.clone(), charter),
            Some(_) => {
                let name = Some(name).filter(|name| !name.is_empty());
                let address = settings.address.clone();
                Founding::joining(identity.member, address, name, charter)
            }
        };
        Self {
            links: Links::default(),
            joiners: Joiners::default(),
            doors: Vec::new(),
            entered: Rc::default(),
            failures,
            phase: Phase::Founding(Box::new(BeforeFounding { founding, home })),
            me: identity.member,
            boot: identity.boot,
            was_recovered: identity.recovery > 0,
            has_listened: false,
            has_founded_alone: false,
            nonce: identity.nonce,
            started: Instant::now(),
            inbox: Vec::new(),
            pending: Slab::new(),
            held: BTreeSet::new(),
            pending_bytes: 0,
            gathered: Gathered::default(),
            connections: Vec::new(),
            dirty: Vec::new(),
            introduced: BTreeMap::new(),
            met: BTreeMap::new(),
            members_changed: Rc::default(),
            warnings: Warnings::default(),
            heard: BTreeMap::new(),
            snapshot_ways: 0,
            stopping: false,
            saves: Saves::default(),
            looked_through: Instant::now(),
            settings,
            story,
            wake,
            told: None,
            told_accused: false,
        }
    }

    /// Has a turn taken soon.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn tell(&self, event: &Event) {
        (self.story)(event);
    }

    pub(super) fn tell_listening(&self) {
        let address = self.settings.address.clone();
        let data = self.settings.data.display().to_string();
        self.tell(&Event::Listening { address, data });
    }

    /// The replica's clock, from the start of this server on.
    fn clock(&self) -> Clock {
        let started = self.started.into_std();
        Arc::new(move || started.elapsed())
    }

    // ------------------------------------------------------------------ founding

    /// Takes the next steps towards a founded cluster, as far as they go without news.
    pub(super) fn found(&mut self) -> Result<(), ServeError> {
        loop {
            if let Some(text) = self.accused() {
                if !std::mem::replace(&mut self.told_accused, true) {
                    self.tell(&Event::Warning { text });
                }
                return Ok(());
            }
            let Phase::Founding(before) = &mut self.phase else { return Ok(()) };
            let BeforeFounding { founding, home } = before.as_mut();
            match home.identity().stage {
                Stage::Founded { .. } => return self.start_replica(),
                Stage::Admitted(_) => {
                    if let Some(charter) = home.charter().cloned() {
                        home.join(charter, &self.settings.log)?;
                    }
                    continue;
                }
                Stage::Drawn | Stage::Agreed(_) => {}
            }
            let step = founding.step();
            // This server, and all of those that are to found a cluster with it, may be ones that
            // have lost their disks, while others of their cluster live on that no file lists.
            // Whoever knows this one must have had time to say so.
            if matches!(step, Step::Agree(_) | Step::Found(_)) && !self.has_listened {
                return Ok(());
            }
            match &step {
                Step::Agree(charter) => {
                    home.agree(charter.clone())?;
                    founding.on_agreed(charter.clone());
                    self.send_standing();
                }
                Step::Found(charter) => {
                    home.found(charter.clone(), &self.settings.log)?;
                    self.has_founded_alone = charter.configuration.voters().len() == 1;
                    let members = charter.configuration.members().map(|it| it.id).collect();
                    let cluster = charter.cluster_id().to_string();
                    self.tell(&Event::Founded { cluster, members });
                }
                Step::Wait(_) | Step::Stuck(_) => {
                    self.tell_step(step);
                    return Ok(());
                }
                Step::Seek | Step::Join(_) => {
                    self.seek_entrance(&step);
                    self.tell_step(step);
                    return Ok(());
                }
            }
        }
    }

    fn tell_step(&mut self, step: Step) {
        if self.told.as_ref() == Some(&step) {
            return;
        }
        match &step {
            Step::Wait(missing) => self.tell(&Event::Waiting { missing: missing.clone() }),
            Step::Stuck(obstacle) => self.tell(&Event::Stuck { obstacle: obstacle.to_string() }),
            Step::Join(door) => {
                self.tell(&Event::Joining { door: door.clone() });
                // Servers that the configuration names have links of their own.
                self.send_standing();
            }
            Step::Seek => self.tell(&Event::Seeking { join: self.settings.join.clone() }),
            Step::Agree(_) | Step::Found(_) => {}
        }
        self.told = Some(step);
    }

    /// Opens the log and begins to take part.
    fn start_replica(&mut self) -> Result<(), ServeError> {
        let Phase::Founding(before) = std::mem::replace(&mut self.phase, Phase::Stopped) else {
            return Ok(());
        };
        let home = before.home;
        let Some(charter) = home.charter().cloned() else { return Ok(()) };
        if home.identity_was_mended() {
            self.warn_of_start(
                "one of the two copies of this server's identity was damaged; it was written again"
                    .into(),
            );
        }
        if let Some(trouble) = home.boots().trouble() {
            self.warn_of_start(trouble.to_string());
        }
        let start = Instant::now();
        let recovered = home.recover(&self.settings.log, || Store::new(StoreLimits::default()))?;
        self.tell(&Event::Recovered {
            term: recovered.state.hard_state.term.0,
            entries: recovered.opened.entries,
            snapshot: recovered.state.snapshot.map_or(0, |snapshot| snapshot.position.index.0),
            took: start.elapsed(),
        });
        let state = match recovered.machine {
            Some(_) => node::MachineState::Whole,
            None => node::MachineState::Lost,
        };
        self.tell_snapshots(&recovered.found, state);
        if let Some(torn) = recovered.opened.torn_tail.clone() {
            let raft::storage::TornTail { segment, offset, bytes } = torn;
            self.tell(&Event::TornTail { segment, offset, bytes });
        }
        if let Some(damage) = &recovered.opened.let_go {
            self.warn_of_start(format!(
                "the oldest part of the log was damaged ({damage}); a snapshot stands for it, so \
                 it was let go of"
            ));
        }
        let mut config = NodeConfig::new(self.me, self.boot);
        (config.election_ticks_min, config.election_ticks_max) = self.settings.election_ticks;
        config.snapshot_every_bytes = self.settings.snapshot_every_bytes;
        config.tail_bytes = config.tail_bytes.min(config.snapshot_every_bytes / 4);
        // What one message, and one follower's share of a batch, may bring must fit the log.
        let wal = &self.settings.log.wal;
        config.command_bytes_max = wal.record_bytes_max;
        config.in_flight_bytes_max = config.in_flight_bytes_max.min(wal.batch_bytes_max / 2);
        let seed = getrandom::u64().map_err(|error| ServeError::Random(error.to_string()))?;
        let replica = Replica::new(config, recovered, seed)?;
        let commit_at_start = replica.node().commit();
        let driver = Driver::new(replica, self.settings.tick, self.clock());
        let running = Running { driver, charter, commit_at_start, home };
        self.phase = Phase::Running(Box::new(running));
        if let Some(text) = self.other_members() {
            self.tell(&Event::Warning { text });
        }
        self.members_changed.notify_one();
        // Connections made before have not said which cluster this server belongs to.
        self.links.reconnect();
        self.entered.notify_waiters();
        self.release_held();
        self.wake();
        Ok(())
    }

    /// Whether this server's cluster exists already.
    pub(super) fn is_founded(&self) -> bool {
        match &self.phase {
            Phase::Founding(before) => {
                matches!(before.home.identity().stage, Stage::Founded { .. })
            }
            Phase::Running(_) | Phase::Stopped => true,
        }
    }

    /// The data directory; `None` once it is closed.
    pub(super) fn home(&self) -> Option<&Home> {
        match &self.phase {
            Phase::Founding(before) => Some(&before.home),
            Phase::Running(running) => Some(&running.home),
            Phase::Stopped => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn home_mut(&mut self) -> Option<&mut Home> {
        match &mut self.phase {
            Phase::Founding(before) => Some(&mut before.home),
            Phase::Running(running) => Some(&mut running.home),
            Phase::Stopped => None,
        }
    }

    /// What this server says of itself to servers that are not in a cluster yet.
    pub(super) fn standing(&self) -> Option<Standing> {
        match &self.phase {
            Phase::Founding(before) => Some(before.founding.standing()),
            Phase::Running(running) => {
                let node = running.driver.replica().node();
                let (members, index) = (node.configuration().clone(), node.configuration_index());
                let since = Some(index).filter(|index| *index <= node.commit());
                let charter = running.charter.clone();
                Some(Standing::Founded(Founded { charter, members, since }))
            }
            Phase::Stopped => None,
        }
    }

    pub(super) fn send_standing(&self) {
        if let Some(standing) = self.standing() {
            self.links.send_standing(&standing);
        }
    }

    // ------------------------------------------------------------------ reading the disk again

    /// The next part of the log to be read again, if there is a log and one is full.
    pub(super) fn scrub(&mut self) -> Option<wal::Scrub> {
        match &mut self.phase {
            Phase::Running(running) => running.driver.replica_mut().scrub(),
            _ => None,
        }
    }

    pub(super) fn on_scrubbed(&mut self, scrubbed: wal::Scrubbed) -> Result<(), ServeError> {
        if let Phase::Running(running) = &mut self.phase {
            running.driver.replica_mut().on_scrubbed(scrubbed)?;
            self.wake();
        }
        Ok(())
    }

    // ------------------------------------------------------------------ turns

    /// Hands everything that came to the replica, answers what completed, and says when to call
    /// again at the latest.
    pub(super) fn turn(&mut self) -> Result<Instant, ServeError> {
        let mut deadline;
        loop {
            let inbox = std::mem::take(&mut self.inbox);
            // What is said to be an older copy neither hears nor says anything any more.
            if self.is_accused() {
                deadline = Instant::now() + Duration::from_secs(1);
                break;
            }
            let Phase::Running(running) = &mut self.phase else {
                deadline = Instant::now() + Duration::from_secs(3600);
                break;
            };
            let before = leadership(running.driver.replica().node());
            let lacked_room = running.driver.replica().node().lacks_room();
            let mut transport = PeerTransport { links: &mut self.links };
            let next = running.driver.turn(inbox, &mut transport)?;
            deadline = self.started + next;
            let after = leadership(running.driver.replica().node());
            let is_short = !lacked_room && running.driver.replica().node().lacks_room();
            let completions = running.driver.take_completions();
            let events = running.driver.take_events();
            let have_changed =
                events.iter().any(|event| matches!(event, node::Event::MembersChanged { .. }));
            let snapshot_events = running.driver.take_snapshot_events();
            for event in events {
                self.tell(&Event::Raft { event, tick: self.settings.tick });
            }
            if is_short {
                self.tell(&Event::Warning { text: self.no_space() });
            }
            if have_changed {
                self.members_changed.notify_one();
                self.tell_joiners();
                self.forget_oddities();
            }
            for event in snapshot_events {
                self.tell(&Event::Snapshot { event });
            }
            for completion in completions {
                self.on_completion(completion);
            }
            if before != after {
                self.release_held();
            }
            if self.inbox.is_empty() {
                break;
            }
        }
        self.expire_held();
        self.expire_overdue();
        self.flush();
        if let Some((first, _)) = self.held.first() {
            deadline = deadline.min(*first);
        }
        Ok(deadline)
    }

    /// Sends all answers that were given.
    pub(super) fn flush(&mut self) {
        for connection in self.dirty.drain(..) {
            connection.dirty.set(false);
            connection.outbox.flush();
            if connection.has_confirmed() {
                // Its task goes on with them as the client takes what is queued.
                connection.outbox.nudge();
            }
        }
    }

    /// Gives up reads that wait for their client to take answers and have no time left.
    pub(super) fn give_up_confirmed(&mut self) {
        for connection in self.connections.iter().filter_map(Weak::upgrade) {
            connection.retain_confirmed(|key| {
                let is_waited_for =
                    self.pending.get(*key).is_some_and(|pending| pending.connection.is_some());
                if !is_waited_for && let Some(given_up) = self.pending.try_remove(*key) {
                    self.pending_bytes -= given_up.bytes;
                }
                is_waited_for
            });
        }
    }

    /// A client was let in.
    pub(super) fn on_connected(&mut self, connection: &Rc<Connection>) {
        self.connections.retain(|other| other.strong_count() > 0);
        self.connections.push(Rc::downgrade(connection));
    }

    /// Whether every client has every answer that it waits for.
    pub(super) fn is_idle(&self) -> bool {
        self.connections.iter().filter_map(Weak::upgrade).all(|client| client.is_served())
    }

    /// Takes no more requests, and ends those that only wait for a leader.
    pub(super) fn begin_stop(&mut self) {
        self.stopping = true;
        self.release_held();
        self.flush();
    }

    /// Closes the log.
    pub(super) fn stop(&mut self) -> Result<(), ServeError> {
        if let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Stopped) {
            let Running { driver, home, .. } = *running;
            driver.stop().close().map_err(raft::replica::Fatal::from)?;
            drop(home);
        }
        Ok(())
    }
}

/// What decides whether waiting requests can go on.
fn leadership(node: &node::Node) -> (node::RoleName, Option<NodeId>, Option<NodeId>) {
    (node.role(), node.leader(), node.transferring_to())
}

/// Hands the replica's messages to the links.
struct PeerTransport<'a> {
    links: &'a mut Links,
}

impl Transport for PeerTransport<'_> {
    fn send(&mut self, envelope: Envelope) {
        self.links.send(&envelope);
    }

    fn send_snapshot(&mut self, envelope: &SnapshotEnvelope) -> Carried {
        self.links.send_snapshot(envelope)
    }

    fn flush(&mut self) {
        self.links.flush();
    }
}
