//! One simulated server: a disk that outlives it, a clock of its own, and, while it runs, the
//! production driver with everything below it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kvstore::store::StoreLimits;
use kvstore::wire::peer::Addressee;
use raft::driver::{Driver, Input};
use raft::founding::Charter;
use raft::node::{Config, Incarnation, Member, Node, NodeId, ReadId, RoleName};
use raft::replica::{Fatal, Job, Replica, Stopwatch, Token};
use raft::storage::{Flushes, Home, HomeError, LogOptions, Successors};
use wal::sim_disk::{OperationKind, SimDisk};

use super::agenda::{MILLISECOND, Moment};
use super::clock::ServerClock;
use super::network::Outbox;
use super::plan::Plan;
use super::witness::Witness;

/// A tick: a tenth of a heartbeat of 50 ms.
const TICK: Duration = Duration::from_micros(TICK_MICROS);
const TICK_MICROS: u64 = 5 * MILLISECOND;

/// What takes a disk its time.
const WRITE: Option<OperationKind> = Some(OperationKind::Write);

/// A server, running or not.
pub(super) struct Server {
    pub(super) number: usize,
    pub(super) disk: SimDisk,
    pub(super) clock: ServerClock,
    pub(super) process: Option<Process>,
    /// Counts its processes: what was planned for an earlier one does not concern a later one.
    pub(super) life: u64,
    /// Its process stands still until then, whatever comes.
    pub(super) busy_until: Moment,
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
    pub(super) named: u64,
}

impl Process {
    pub(super) fn node(&self) -> &Node {
        self.driver.replica().node()
    }

    pub(super) fn leads(&self) -> bool {
        self.node().role() == RoleName::Leader
    }

    pub(super) fn addressee(&self) -> Addressee {
        let identity = self.home.identity();
        Addressee { incarnation: identity.member.incarnation, boot: identity.boot }
    }

    pub(super) fn next_name(&mut self) -> u64 {
        self.named += 1;
        self.named
    }
}

/// Why a start came to nothing.
#[derive(Debug)]
pub(super) enum StartError {
    /// The power went meanwhile.
    PowerOff,
    /// The directory cannot be used.
    Home(HomeError),
    /// What was read does not hang together.
    Restore(String),
}

impl Server {
    pub(super) fn new(number: usize, clock: ServerClock) -> Server {
        Server {
            number,
            disk: SimDisk::new(),
            clock,
            process: None,
            life: 0,
            busy_until: Moment(0),
            write_micros: Arc::default(),
            slow: None,
        }
    }

    pub(super) fn member(&self) -> Member {
        member(self.number)
    }

    /// Starts a process on the disk. The first start founds the cluster together with the others.
    pub(super) fn start(
        &mut self,
        plan: &Plan,
        charter: &Charter,
        now: Moment,
        seed: u64,
    ) -> Result<(), StartError> {
        assert!(self.process.is_none(), "a server runs once");
        self.life += 1;
        self.busy_until = now;
        self.clock.show(now);
        let started = self.boot(plan, charter, seed);
        match started {
            Ok(process) => self.process = Some(process),
            Err(_) if self.disk.disk().list().is_err() => return Err(StartError::PowerOff),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn boot(&self, plan: &Plan, charter: &Charter, seed: u64) -> Result<Process, StartError> {
        let Member { id, incarnation } = self.member();
        let options = log_options(plan);
        let home = Home::open(self.disk.disk(), id, charter.name.as_str(), || incarnation);
        let mut home = home.map_err(StartError::Home)?;
        if home.charter().is_none() {
            home.agree(charter.clone()).map_err(StartError::Home)?;
        }
        if !matches!(home.identity().stage, raft::storage::Stage::Founded { .. }) {
            home.found(charter.clone(), &options).map_err(StartError::Home)?;
        }
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
        Ok(Process {
            home,
            driver,
            inbox: Vec::new(),
            jobs: BTreeMap::new(),
            jobs_begun: 0,
            flush_planned: false,
            wake_at: None,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            named: 0,
        })
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
        let slow = self.slow.filter(|(_, until)| *until > now);
        let micros = slow.map_or(micros, |(slow, _)| slow);
        self.write_micros.store(micros, Ordering::Relaxed);
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
}

/// A server in its first life.
pub(super) fn member(number: usize) -> Member {
    let id = NodeId::new(&format!("s{}", number + 1)).expect("a letter and a number");
    Member { id, incarnation: Incarnation(number as u64 + 1) }
}

/// Which server a name belongs to.
pub(super) fn number_of(id: NodeId) -> usize {
    let number: usize = id.as_str()[1..].parse().expect("a name that was given here");
    number - 1
}

fn log_options(plan: &Plan) -> LogOptions {
    let mut wal = wal::Options::with_segment_bytes(plan.limits.segment_bytes);
    wal.log_id = Some(wal::LogId(7));
    wal.cache_bytes = plan.limits.cache_bytes;
    LogOptions {
        wal,
        recent_bytes_max: plan.limits.cache_bytes,
        successors: Successors::Inline,
        snapshots: plan.limits.snapshots,
        flushes: if plan.disk.is_beside { Flushes::ByOwner } else { Flushes::Inline },
    }
}

/// How long a process that died takes to come back, at least.
pub(super) const RESTART_MICROS: u64 = 20 * MILLISECOND;
