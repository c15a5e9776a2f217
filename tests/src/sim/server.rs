//! One simulated server: a disk that outlives it, a clock of its own, and, while it runs, the
//! production driver with everything below it; or, as long as it belongs to no cluster, its way
//! into one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kvstore::store::StoreLimits;
use kvstore::wire::handshake::Age;
use raft::driver::{Driver, Input};
use raft::founding::{Charter, Founding, Seat};
use raft::node::{Config, Incarnation, Index, Member, Node, NodeId, ReadId, RoleName};
use raft::replica::{Fatal, Job, Replica, Stopwatch, Token};
use raft::storage::{Flushes, Home, HomeError, LogError, LogOptions, Successors};
use wal::sim_disk::{OperationKind, SimDisk};

use super::agenda::{MILLISECOND, Moment};
use super::clock::ServerClock;
use super::entrance::{Entrance, Progress};
use super::meeting::{Acquaintances, Host};
use super::network::Outbox;
use super::plan::Plan;
use super::witness::Witness;

/// A tick: a tenth of a heartbeat of 50 ms.
const TICK: Duration = Duration::from_micros(TICK_MICROS);
const TICK_MICROS: u64 = 5 * MILLISECOND;

/// What takes a disk its time.
const WRITE: Option<OperationKind> = Some(OperationKind::Write);

/// The name of the cluster.
pub(super) const CLUSTER: &str = "simulated";

/// A server, running or not.
pub(super) struct Server {
    pub(super) number: usize,
    /// The life of its directory.
    incarnation: Incarnation,
    /// Its directory belongs to a member of the cluster.
    pub(super) has_entered: bool,
    /// It founds nothing: its directory is empty while its cluster may exist.
    joins: bool,
    address: String,
    pub(super) disk: SimDisk,
    pub(super) clock: ServerClock,
    /// What runs, of a member of a cluster.
    pub(super) process: Option<Process>,
    /// What runs, of a server that is in no cluster.
    pub(super) entrance: Option<Box<Entrance>>,
    /// What this process knows of the starts of others.
    pub(super) met: Acquaintances,
    /// Counts its processes: what was planned for an earlier one does not concern a later one.
    pub(super) life: u64,
    /// Its process stands still until then, whatever comes.
    pub(super) busy_until: Moment,
    /// It is not to be started.
    pub(super) is_held_down: bool,
    /// Its disk has as little room as that, until it is cleared.
    pub(super) is_short_of_room: bool,
    /// How long each of its writes takes at the moment, in microseconds.
    write_micros: Arc<AtomicU64>,
    /// Its disk is slow: how long a write takes, and until when that lasts.
    slow: Option<(u64, Moment)>,
}

/// A request of a client that this process has to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) client: usize,
    /// Which of the client's attempts it is.
    pub(super) attempt: u64,
}

/// What runs.
pub(super) struct Process {
    home: Home,
    cluster_id: [u8; 16],
    pub(super) driver: Driver<Witness>,
    pub(super) inbox: Vec<Input>,
    /// Long work that is under way, by number.
    pub(super) jobs: BTreeMap<u64, Job<Witness>>,
    pub(super) jobs_begun: u64,
    /// The end of a write is planned.
    pub(super) flush_planned: bool,
    /// The next turn is planned for this moment.
    pub(super) wake_at: Option<Moment>,
    pub(super) writes: BTreeMap<Token, Asked>,
    pub(super) reads: BTreeMap<ReadId, (Asked, u64)>,
    /// Changes and transfers that somebody waits for, and commands of no client.
    pub(super) orders: BTreeMap<Token, Option<Bytes>>,
    /// What it took for committed when it was last seen, and which configuration was in force.
    pub(super) seen: (Index, Index),
    /// Servers outside that have announced themselves to this one.
    pub(super) joiners: BTreeMap<NodeId, Member>,
    pub(super) named: u64,
}

impl Process {
    pub(super) fn node(&self) -> &Node {
        self.driver.replica().node()
    }

    /// What its cluster was founded with.
    pub(super) fn charter(&self) -> Option<&Charter> {
        self.home.charter()
    }

    pub(super) fn leads(&self) -> bool {
        self.node().role() == RoleName::Leader
    }

    pub(super) fn next_name(&mut self) -> u64 {
        self.named += 1;
        self.named
    }

    /// Whether somebody waits for it.
    pub(super) fn owes_answers(&self) -> bool {
        !(self.writes.is_empty() && self.reads.is_empty() && self.orders.is_empty())
    }

    fn new(home: Home, driver: Driver<Witness>) -> Process {
        let cluster_id = home.charter().map(|charter| charter.cluster_id().0).unwrap_or_default();
        let node = driver.replica().node();
        let seen = (node.commit(), node.configuration_index());
        Process {
            home,
            cluster_id,
            driver,
            inbox: Vec::new(),
            jobs: BTreeMap::new(),
            jobs_begun: 0,
            flush_planned: false,
            wake_at: None,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            orders: BTreeMap::new(),
            seen,
            joiners: BTreeMap::new(),
            named: 0,
        }
    }
}

/// Why a start came to nothing.
#[derive(Debug)]
pub(super) enum StartError {
    /// The directory cannot be used.
    Home(HomeError),
    /// What was read does not hang together.
    Restore(String),
}

impl StartError {
    /// The directory is damaged, and the server refuses to run on it.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, StartError::Home(error) if error.is_damage())
    }

    /// The disk failed.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, StartError::Home(HomeError::Io { .. } | HomeError::Log(LogError::Open(_))))
            || matches!(self, StartError::Home(HomeError::Log(_) | HomeError::Snapshot(_)))
            || matches!(self, StartError::Home(HomeError::Identity(_)))
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Home(error) => write!(formatter, "{error}"),
            StartError::Restore(error) => write!(formatter, "{error}"),
        }
    }
}

/// How far a server came in one go.
pub(super) enum Came {
    /// It has agreed, or not even that, and waits.
    Waits { has_agreed: bool },
    /// It runs as a member of its cluster.
    Entered,
}

impl Server {
    /// A server with an empty directory, which founds the cluster with the others or joins one.
    pub(super) fn new(number: usize, clock: ServerClock, joins: bool) -> Server {
        Server {
            number,
            incarnation: Incarnation(number as u64 + 1),
            has_entered: false,
            joins,
            address: address(number),
            disk: SimDisk::new(),
            clock,
            process: None,
            entrance: None,
            met: Acquaintances::default(),
            life: 0,
            busy_until: Moment(0),
            is_held_down: false,
            is_short_of_room: false,
            write_micros: Arc::default(),
            slow: None,
        }
    }

    pub(super) fn member(&self) -> Member {
        Member { id: name_of(self.number), incarnation: self.incarnation }
    }

    /// Whether anything runs.
    pub(super) fn is_up(&self) -> bool {
        self.process.is_some() || self.entrance.is_some()
    }

    /// A new disk takes the place of the old one; the server is to join its cluster again.
    pub(super) fn wipe(&mut self) {
        assert!(!self.is_up(), "a disk is not exchanged while its server runs");
        self.disk = SimDisk::new();
        self.incarnation.0 += 16;
        (self.joins, self.has_entered) = (true, false);
        self.is_short_of_room = false;
    }

    /// How it shows itself to others; `None` while it is down.
    pub(super) fn host(&self) -> Option<Host<'_>> {
        let (home, cluster_id, node) = match (&self.process, &self.entrance) {
            (Some(process), _) => (&process.home, Some(process.cluster_id), Some(process.node())),
            (_, Some(entrance)) => (entrance.home(), None, None),
            _ => return None,
        };
        let identity = home.identity();
        let term = node.map_or(0, |node| node.durable_term().0);
        Some(Host {
            me: identity.member,
            age: Age { boot: identity.boot.0, nonce: identity.nonce, term },
            cluster_id,
            members: node.map(Node::configuration),
        })
    }

    /// Whom it has met, and its directory, where it notes that; `None` while it is down.
    pub(super) fn accounts(&mut self) -> Option<(&mut Acquaintances, &mut Home)> {
        match (&mut self.process, &mut self.entrance) {
            (Some(process), _) => Some((&mut self.met, &mut process.home)),
            (_, Some(entrance)) => Some((&mut self.met, entrance.home_mut())),
            _ => None,
        }
    }

    /// Opens its directory. What it is to do next, [`advance`](Self::advance) does.
    pub(super) fn open(&mut self, seats: &[Seat], now: Moment) -> Result<(), StartError> {
        assert!(!self.is_up(), "a server runs once");
        self.life += 1;
        self.busy_until = now;
        self.clock.show(now);
        let Member { id, incarnation } = self.member();
        self.met = Acquaintances::default();
        // An empty directory draws who it is, and every one a nonce for this start.
        let is_new = self.disk.contents("identity").is_none();
        let mut drawn = is_new.then_some(incarnation);
        let nonce = Incarnation(u64::MAX - self.life);
        let draw = || drawn.take().unwrap_or(nonce);
        let home = Home::open(self.disk.disk(), id, CLUSTER, draw);
        let home = home.map_err(StartError::Home)?;
        let (me, charter) = (home.identity().member, home.charter().cloned());
        let founding = if self.joins {
            Founding::joining(me, self.address.clone(), Some(CLUSTER.into()), charter)
        } else {
            Founding::new(me, CLUSTER.into(), seats.to_vec(), charter)
        };
        self.entrance = Some(Box::new(Entrance::new(founding, home)));
        Ok(())
    }

    /// Goes on as far as it can without news.
    pub(super) fn advance(&mut self, plan: &Plan, seed: u64) -> Result<Came, StartError> {
        let options = self.log_options(plan);
        let mut has_agreed = false;
        loop {
            let Some(entrance) = &mut self.entrance else { return Ok(Came::Waits { has_agreed }) };
            match entrance.advance(&options).map_err(StartError::Home)? {
                Progress::Agreed => has_agreed = true,
                Progress::Founded(_) => {}
                Progress::Waits(_) => return Ok(Came::Waits { has_agreed }),
                Progress::Entered => break,
            }
        }
        if let Some(entrance) = self.entrance.take() {
            self.process = Some(self.boot(plan, entrance.into_home(), seed)?);
        }
        Ok(Came::Entered)
    }

    fn boot(&self, plan: &Plan, home: Home, seed: u64) -> Result<Process, StartError> {
        let options = self.log_options(plan);
        let recovered = home.recover(&options, || Witness::new(StoreLimits::default()));
        let recovered = recovered.map_err(StartError::Home)?;
        let mut config = Config::new(home.identity().member, home.identity().boot);
        plan.limits.apply_to(&mut config);
        let replica = Replica::new(config, recovered, seed);
        let replica = replica.map_err(|error| StartError::Restore(error.to_string()))?;
        let mut driver = Driver::new(replica, TICK, self.clock.view());
        if !plan.disk.is_beside {
            driver.replica_mut().measure_with(self.stopwatch());
        }
        Ok(Process::new(home, driver))
    }

    /// The loop stands still for as long as its disk writes. It looks at the watch before anything
    /// that may write and after it.
    fn stopwatch(&self) -> Stopwatch {
        let (clock, micros) = (self.clock.clone(), Arc::clone(&self.write_micros));
        let (disk, seen) = (self.disk.clone(), AtomicU64::new(0));
        let is_at_work = AtomicBool::new(false);
        Box::new(move || {
            let written = disk.count(WRITE);
            let has_written = seen.swap(written, Ordering::Relaxed) < written;
            if is_at_work.fetch_xor(true, Ordering::Relaxed) && has_written {
                clock.stand_still(micros.load(Ordering::Relaxed));
            }
            clock.shown() / TICK_MICROS
        })
    }

    /// One turn of its loop: everything that came, and the time that passed. The clock shows the
    /// moment at which it begins.
    pub(super) fn turn(&mut self, outbox: &mut Outbox) -> Result<Moment, Fatal> {
        let process = self.process.as_mut().expect("only a running server takes a turn");
        let inbox = std::mem::take(&mut process.inbox);
        let deadline = process.driver.turn(inbox, outbox)?;
        Ok(self.clock.moment(deadline))
    }

    /// Each write takes so long, unless the disk is slow.
    pub(super) fn set_base_write_micros(&mut self, micros: u64, now: Moment) {
        let micros = if self.is_slow(now) { self.slow.map_or(0, |(slow, _)| slow) } else { micros };
        self.write_micros.store(micros, Ordering::Relaxed);
    }

    /// Whether its writes take long at the moment.
    pub(super) fn is_slow(&self, now: Moment) -> bool {
        self.slow.is_some_and(|(_, until)| until > now)
    }

    /// Until then each write takes so long.
    pub(super) fn slow_down(&mut self, micros: u64, until: Moment) {
        self.slow = Some((micros, until));
    }

    pub(super) fn speed_up(&mut self) {
        self.slow = None;
    }

    pub(super) fn write_micros(&self) -> u64 {
        self.write_micros.load(Ordering::Relaxed)
    }

    pub(super) fn log_options(&self, plan: &Plan) -> LogOptions {
        let mut wal = wal::Options::with_segment_bytes(plan.limits.segment_bytes);
        wal.log_id = Some(wal::LogId(7 + u128::from(self.incarnation.0)));
        wal.cache_bytes = plan.limits.cache_bytes;
        LogOptions {
            wal,
            recent_bytes_max: plan.limits.cache_bytes,
            successors: Successors::Inline,
            snapshots: plan.limits.snapshots,
            flushes: if plan.disk.is_beside { Flushes::ByOwner } else { Flushes::Inline },
        }
    }
}

/// Where a server listens.
pub(super) fn address(number: usize) -> String {
    format!("127.0.0.1:{}", number + 1)
}

/// What a server is called.
pub(super) fn name_of(number: usize) -> NodeId {
    NodeId::new(&format!("s{}", number + 1)).expect("a letter and a number")
}

/// Which server a name belongs to.
pub(super) fn number_of(id: NodeId) -> usize {
    let number: usize = id.as_str()[1..].parse().expect("a name that was given here");
    number - 1
}

/// How long a process that died takes to come back, at least.
pub(super) const RESTART_MICROS: u64 = 20 * MILLISECOND;
