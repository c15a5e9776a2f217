//! The server: one process, one thread, one port. Clients and other servers connect to the same
//! address and say in their first frame which they are.
//!
//! The thread runs one event loop. Tasks read sockets and fill an inbox; the driver's task hands
//! the whole inbox to the replica in one turn, in which messages for followers leave first, then
//! the disk writes, then everything that this made true is answered, each connection's answers in
//! one write. No task, channel or wake-up exists per request.
//!
//! Read `core` first, then `requests`, which is the way of a request; `links` and `listener` are
//! the two ends of what servers say to each other.

mod admin;
mod answers;
mod connection;
mod core;
mod entrance;
mod event;
mod gather;
mod joining;
mod links;
mod listener;
mod others;
mod outbox;
mod pause;
mod proof;
mod recovery;
mod requests;
mod saves;
mod scrub;
mod snapshot_link;
mod snapshots;
mod warnings;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use raft::founding::Seat;
use raft::node::{Config as NodeConfig, Incarnation, InvalidNodeId, NodeId, RestoreError};
use raft::replica::Fatal;
use raft::storage::{
    Flushes, Home, HomeError, LogOptions, RescueError, SnapshotOptions, Successors, Waker,
};
use tokio::net::TcpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

pub use event::{Event, Field};
pub use recovery::{Recovery, prepare_recovery};

use self::core::{Core, Settings, SharedCore};
use self::pause::until_next_turn;
use crate::config::{Config, ConfigError, Disk, Fsync, RaftConfig, Source};
use crate::wire::handshake::Timing;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Which server of the configuration file this is.
    pub id: String,
    /// The configuration.
    pub config: Config,
    /// A data directory that is not the one in the configuration.
    pub data: Option<PathBuf>,
    /// Where it listens, if not as the configuration says.
    pub address: Option<String>,
    /// Addresses of a cluster's servers: it waits to be taken into that cluster, and founds none.
    pub join: Option<Vec<String>>,
    /// Who may reach it.
    pub exposure: Exposure,
}

/// Who may reach a server, which neither encrypts nor asks for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Only this machine: any other address is refused.
    LoopbackOnly,
    /// Whoever reaches the address; its owner has been warned.
    Insecure,
}

/// Why a server did not start, or stopped without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration does not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A server's name cannot be one.
    #[error(transparent)]
    Id(#[from] InvalidNodeId),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}{}", hint(.source))]
    Listen {
        /// The address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// A server that joins must say where the others reach it.
    #[error(
        "where does {id} listen? The configuration does not list it, so say at which address the \
         other servers reach it: --addr HOST:PORT"
    )]
    NoAddress {
        /// The server.
        id: String,
    },
    /// The address is open to others, and nobody said that this is meant.
    #[error(
        "{address} can be reached from other machines, and this server neither encrypts nor asks \
         who is there; listen on 127.0.0.1, or say --insecure if the network is yours alone"
    )]
    Exposed {
        /// The address.
        address: String,
    },
    /// This server had lost its directory and founded its cluster a second time.
    #[error(
        "{peer} belongs to another cluster {cluster:?}, which knows {id} by another disk: {id} \
         lost its directory, and founded a cluster anew before it heard of the other one. Nothing \
         that it acknowledged since is known there. Move {} away and start {id} with --join and \
         the address of {peer}, then: kvctl member replace {id}",
        .path.display()
    )]
    FoundedAgain {
        /// This server.
        id: NodeId,
        /// The name of both clusters.
        cluster: String,
        /// A server of the other one.
        peer: NodeId,
        /// The directory.
        path: PathBuf,
    },
    /// A command that is let in would not fit into the log.
    #[error(
        "[wal] segment is {segment_bytes} bytes, but requests may have {command_bytes_max}; make \
         it more than twice that, or lower [limits] request"
    )]
    SegmentTooSmall {
        /// The size of a segment.
        segment_bytes: u64,
        /// The largest command.
        command_bytes_max: u64,
    },
    /// The data directory cannot be made or opened.
    #[error("cannot use the data directory {path}: {source}")]
    Data {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The data directory is not usable.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The data directory was not recovered.
    #[error(transparent)]
    Rescue(#[from] RescueError),
    /// What is on the disk does not hang together.
    #[error("the data directory cannot be right: {0}")]
    Restore(#[from] RestoreError),
    /// The replica had to stop.
    #[error("stopped, to be safe: {0}")]
    Fatal(#[from] Fatal),
    /// The operating system gave no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(String),
    /// The event loop could not be made.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl ServeError {
    /// Whether the data on the disk is damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            ServeError::Home(error) | ServeError::Rescue(RescueError::Home(error)) => {
                error.is_damage()
            }
            ServeError::Rescue(error) => matches!(error, RescueError::Nothing { .. }),
            ServeError::Restore(RestoreError::Log(_) | RestoreError::TermLost { .. }) => true,
            ServeError::Fatal(Fatal::Log(error)) => error.is_damage(),
            _ => false,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program, or this server already, uses the port",
        io::ErrorKind::AddrNotAvailable => "; no network interface of this machine has it",
        _ => "",
    }
}

/// Requests under way have so long to end once the server is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs a server on this thread until `shutdown` completes, telling what happens to `story`.
///
/// # Errors
/// It could not start, or the disk or a committed command made it stop.
pub fn serve(
    options: ServeOptions,
    story: Arc<dyn Fn(&Event) + Send + Sync>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    LocalSet::new().block_on(&runtime, run(options, story, shutdown))
}

async fn run(
    options: ServeOptions,
    story: Arc<dyn Fn(&Event) + Send + Sync>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let connections_max = clients_max(options.config.limits.connections_max);
    let wake = Arc::new(Notify::new());
    let settings = settings(&options, &wake)?;
    let socket = bind(&settings.address, options.exposure).await?;
    let home = open_home(&settings)?;
    let (failures, mut failed) = Failures::new();
    let told = settings.warnings.clone();
    let mut core = Core::new(settings, home, story, Arc::clone(&wake), failures.clone());
    told.into_iter().for_each(|text| core.warn_of_start(text));
    let core = Rc::new(RefCell::new(core));
    // While a log is being opened, dials are refused: whoever asks whether this server's last
    // process is gone is not kept waiting for its answer.
    if core.borrow().is_founded() {
        core.borrow_mut().found()?;
    }
    let refused =
        |source| ServeError::Listen { address: core.borrow().settings.address.clone(), source };
    let dialled = Dialled::of(socket.local_addr().map_err(refused)?);
    let listener = socket.listen(BACKLOG).map_err(refused)?;
    core.borrow().tell_listening();
    core.borrow_mut().found()?;
    tokio::task::spawn_local(links::follow_members(Rc::clone(&core)));
    tokio::task::spawn_local(joining::run(Rc::clone(&core)));
    let accepting =
        tokio::task::spawn_local(listener::run(Rc::clone(&core), listener, connections_max));
    tokio::task::spawn_local(found_after_listening(Rc::clone(&core), dialled, failures.clone()));
    let scrubbing = tokio::task::spawn_local(scrub::run(Rc::clone(&core), failures));
    tokio::select! {
        error = drive(&core, &wake) => return Err(error),
        Some(error) = failed.recv() => return Err(error),
        () = shutdown => {}
    }
    accepting.abort();
    scrubbing.abort();
    core.borrow().tell(&Event::Stopping);
    hand_over(&core, &wake).await?;
    core.borrow_mut().begin_stop();
    let drained = async {
        while !core.borrow().is_idle() {
            let turn = core.borrow_mut().turn();
            let deadline = turn?;
            until_next_turn(&wake, deadline).await;
        }
        Ok::<(), ServeError>(())
    };
    // What has not ended by then is unknown to whoever asked, as after any lost connection.
    if let Ok(result) = timeout(STOP_TIMEOUT, drained).await {
        result?;
    }
    core.borrow_mut().stop()?;
    core.borrow().tell(&Event::Stopped);
    Ok(())
}

/// A server founds a cluster when those that know it from another one, if there are any, have
/// dialled it: they try again and again for as long as it is away.
async fn found_after_listening(core: SharedCore, dialled: Dialled, failures: Failures) {
    sleep(dialled.listening_time()).await;
    core.borrow_mut().has_listened = true;
    let founded = core.borrow_mut().found();
    if let Err(error) = founded {
        failures.report(error);
    }
}

/// From where a server is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialled {
    /// From its own machine only.
    Here,
    /// From other machines as well.
    Anywhere,
}

impl Dialled {
    fn of(address: SocketAddr) -> Self {
        if address.ip().is_loopback() { Self::Here } else { Self::Anywhere }
    }

    /// In this time everybody who dials begins to do so twice and is through with it once, with
    /// what machines need to wake up. While this server was away a dial may have hung to its end;
    /// on its own machine every dial was refused at once.
    const fn listening_time(self) -> Duration {
        let dial = match self {
            Self::Here => links::RETRY_AFTER,
            Self::Anywhere => links::CONNECT_TIMEOUT.saturating_add(links::RETRY_AFTER),
        };
        dial.saturating_mul(2).saturating_add(links::RETRY_AFTER)
    }
}

/// Hands leadership over before the server stops serving. Writes that come meanwhile wait, and are
/// sent on to the new leader.
async fn hand_over(core: &SharedCore, wake: &Notify) -> Result<(), ServeError> {
    if !core.borrow_mut().begin_hand_over() {
        return Ok(());
    }
    let patience = core.borrow().settings.timing.election_max_ms;
    let over = Instant::now() + Duration::from_millis(patience.into()).min(HAND_OVER_TIMEOUT);
    loop {
        let turn = core.borrow_mut().turn();
        let deadline = turn?;
        if core.borrow().has_handed_over() || Instant::now() >= over {
            return Ok(());
        }
        until_next_turn(wake, deadline.min(over)).await;
    }
}

/// The longest that a server that stops waits for another one to lead.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// How many clients may be connected, given how many files this process may open. The log, the
/// links to other servers and their connections to us need some too: running out of them must not
/// stop the log.
fn clients_max(wanted: u32) -> u32 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // A refusal leaves the limit as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = getrlimit(Resource::Nofile).current.or(current).unwrap_or(u64::MAX);
    let left = allowed.saturating_sub(RESERVED_FILES);
    wanted.min(u32::try_from(left).unwrap_or(u32::MAX)).max(1)
}

/// Files that no client's connection may take: those of the log and of the links, and the places
/// of other connections.
const RESERVED_FILES: u64 = 64 + entrance::FILES_MAX as u64;

/// Takes turns for as long as the server runs.
async fn drive(core: &SharedCore, wake: &Notify) -> ServeError {
    loop {
        let turn = core.borrow_mut().turn();
        snapshots::run_jobs(core);
        let deadline = match turn {
            Ok(deadline) => deadline,
            Err(error) => return error,
        };
        until_next_turn(wake, deadline).await;
    }
}

/// Where tasks report an error that ends the server.
#[derive(Clone, Debug)]
struct Failures {
    sender: mpsc::UnboundedSender<ServeError>,
}

impl Failures {
    fn new() -> (Self, mpsc::UnboundedReceiver<ServeError>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, receiver)
    }

    fn report(&self, error: ServeError) {
        // Nobody listens once the server is about to end anyway.
        let _ = self.sender.send(error);
    }
}

fn settings(options: &ServeOptions, wake: &Arc<Notify>) -> Result<Settings, ServeError> {
    let config = &options.config;
    let id = NodeId::new(&options.id)?;
    let seat = |server: &crate::config::ServerEntry| -> Result<Seat, InvalidNodeId> {
        Ok(Seat { id: NodeId::new(&server.id)?, address: server.address.clone() })
    };
    let mut seats = config.servers.iter().map(seat).collect::<Result<Vec<_>, _>>()?;
    seats.sort();
    let own = seats.iter().find(|seat| seat.id == id && config.source != Source::Default);
    let own = options.address.clone().or_else(|| own.map(|seat| seat.address.clone()));
    let (cluster, address) = match (&options.join, own) {
        (None, own) => {
            let listed = config.server(&options.id)?.address.clone();
            (config.cluster.clone(), own.unwrap_or(listed))
        }
        (Some(_), None) => return Err(ServeError::NoAddress { id: options.id.clone() }),
        (Some(_), Some(address)) => {
            seats.clear();
            let name = match config.source {
                Source::File(_) => config.cluster.clone(),
                Source::Default => String::new(),
            };
            (name, address)
        }
    };
    let raft = &config.raft;
    let tick = raft.heartbeat / NodeConfig::TICKS_PER_HEARTBEAT;
    let ticks = |time: Duration| {
        u32::try_from(time.as_nanos().div_ceil(tick.as_nanos().max(1))).unwrap_or(u32::MAX)
    };
    let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let (election_min, election_max) = (*raft.election.start(), *raft.election.end());
    let wal = log_options(config)?;
    let mut warnings = Vec::new();
    if raft.fsync == Fsync::UnsafeNever {
        warnings.push(
            "fsync is \"unsafe-never\": a power cut loses writes that were acknowledged".into(),
        );
    }
    if options.exposure == Exposure::Insecure {
        warnings.push("--insecure: whoever reaches the port can read and write everything".into());
    }
    Ok(Settings {
        id,
        address,
        cluster,
        seats,
        join: options.join.clone(),
        data: options.data.clone().unwrap_or_else(|| config.data.directory(&options.id)),
        tick,
        timing: Timing {
            heartbeat_ms: ms(raft.heartbeat),
            election_min_ms: ms(election_min),
            election_max_ms: ms(election_max),
        },
        election_ticks: (ticks(election_min), ticks(election_max)),
        snapshot_every_bytes: raft.snapshot_every_bytes,
        limits: config.limits.command,
        log: LogOptions {
            wal,
            recent_bytes_max: 16 << 20,
            successors: Successors::Thread,
            snapshots: snapshot_options(raft),
            flushes: flushes(config.wal.disk, wake),
        },
        warnings,
    })
}

/// How snapshots are written and sent, at the pace that is asked for.
fn snapshot_options(raft: &RaftConfig) -> SnapshotOptions {
    let bytes = u128::from(raft.snapshot_rate_bytes) * raft.heartbeat.as_nanos() / 1_000_000_000;
    let bytes_per_heartbeat = u64::try_from(bytes).unwrap_or(u64::MAX).max(1);
    SnapshotOptions { bytes_per_heartbeat, ..SnapshotOptions::default() }
}

/// Where the log waits for its disk; from a thread of its own it wakes the loop.
fn flushes(disk: Disk, wake: &Arc<Notify>) -> Flushes {
    match disk {
        Disk::Inline => Flushes::Inline,
        Disk::Thread => {
            let wake = Arc::clone(wake);
            Flushes::Thread(Waker::new(move || wake.notify_one()))
        }
    }
}

/// Settings of a log that can hold every command that this server lets in.
fn log_options(config: &Config) -> Result<wal::Options, ServeError> {
    let mut options = wal::Options::with_segment_bytes(config.wal.segment_bytes);
    let command_bytes_max = u64::from(config.limits.command.command_bytes_max);
    options.record_bytes_max = options.record_bytes_max.max(command_bytes_max);
    options.batch_bytes_max =
        options.batch_bytes_max.max(options.record_bytes_max + LOG_BATCH_MARGIN_BYTES);
    if config.raft.fsync == Fsync::UnsafeNever {
        options.fsync = wal::Fsync::UnsafeNever;
    }
    options.validate().map_err(|_| ServeError::SegmentTooSmall {
        segment_bytes: config.wal.segment_bytes,
        command_bytes_max,
    })?;
    Ok(options)
}

/// A batch of the log takes less than this beside its records.
const LOG_BATCH_MARGIN_BYTES: u64 = 4096;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Takes the address, so that nobody else can; nobody is let in before the socket listens.
async fn bind(address: &str, exposure: Exposure) -> Result<TcpSocket, ServeError> {
    let failed = |source| ServeError::Listen { address: address.to_string(), source };
    let resolved: Vec<SocketAddr> =
        tokio::net::lookup_host(address).await.map_err(failed)?.collect();
    if exposure == Exposure::LoopbackOnly && resolved.iter().any(|it| !it.ip().is_loopback()) {
        return Err(ServeError::Exposed { address: address.to_string() });
    }
    let mut result = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for address in resolved {
        result = bind_to(address);
        if result.is_ok() {
            break;
        }
    }
    result.map_err(failed)
}

fn bind_to(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What the last process left in the kernel keeps nobody from starting again.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn open_home(settings: &Settings) -> Result<Home, ServeError> {
    let failed = |source| ServeError::Data { path: settings.data.clone(), source };
    let disk = wal::RealDisk::open(&settings.data).map_err(failed)?;
    let draw = || getrandom::u64().map_err(|error| ServeError::Random(error.to_string()));
    let mut drawn = [draw()?, draw()?].into_iter();
    let name = Some(settings.cluster.as_str()).filter(|name| !name.is_empty());
    Ok(Home::open(disk, settings.id, name, || Incarnation(drawn.next().unwrap_or_default()))?)
}
