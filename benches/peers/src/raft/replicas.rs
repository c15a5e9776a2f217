//! Ours: three replicas, each with its driver, log, snapshots and state machine, in one process.
//!
//! The log is the real one, with its records and checksums, on a disk in memory. Everything runs on
//! one thread, as a server does: the loops of the three servers and the clients are tasks of one
//! event loop, what a client asks for goes into its server's inbox, and a turn takes the whole
//! inbox. More threads have nothing to do here that would pay for waking them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use benches::measure::{Side, Slice};
use benches::memory::MemoryDisk;
use benches::{Error, Result};
use bytes::Bytes;
use raft_ours::founding::Charter;
use raft_ours::node::{
    Config, Configuration, Envelope, Incarnation, Index, Member, NodeId, Payload, RoleName, Voter,
};
use raft_ours::replica::{Carried, Completion, Replica, SnapshotEnvelope, Token, Transport};
use raft_ours::storage::{Home, LogOptions};
use raft_ours::{Driver, Input, StateMachine, Undecodable};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

const SEGMENT_BYTES: u64 = 16 << 20;
const TICK: Duration = Duration::from_millis(5);

/// A cluster that has elected a leader.
pub(super) struct Replicas {
    runtime: Runtime,
    tasks: LocalSet,
    cluster: Rc<Cluster>,
    command: Bytes,
}

struct Cluster {
    servers: Vec<Server>,
    clients: Vec<Client>,
    failure: RefCell<Option<Error>>,
}

struct Server {
    id: NodeId,
    driver: RefCell<Driver<Machine>>,
    begun: Instant,
    inbox: RefCell<Vec<Input>>,
    wake: Notify,
}

/// A client that waits for an answer, or has one.
#[derive(Default)]
struct Client {
    is_answered: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Client {
    fn answer(&self) {
        self.is_answered.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn answered(&self) {
        poll_fn(|context| match self.is_answered.replace(false) {
            true => Poll::Ready(()),
            false => {
                self.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await;
    }
}

impl Replicas {
    /// A cluster for so many clients in a closed loop, with commands of so many bytes.
    pub(super) fn start(count: usize, bytes: usize) -> Result<Replicas> {
        let voter = |n: u64| -> Result<Voter> {
            let member = Member { id: NodeId::new(&format!("s{n}"))?, incarnation: Incarnation(n) };
            Ok(Voter { member, address: "127.0.0.1:1".into() })
        };
        let voters = (1..=3).map(voter).collect::<Result<Vec<_>>>()?;
        let configuration = Configuration::new(voters)?;
        let charter = Charter { name: "bench".into(), configuration };
        let members = charter.configuration.members();
        let servers = members.map(|me| Server::start(me, &charter)).collect::<Result<_>>()?;
        let clients = (0..count).map(|_| Client::default()).collect();
        let cluster = Rc::new(Cluster { servers, clients, failure: RefCell::default() });
        let (runtime, tasks) =
            (Builder::new_current_thread().enable_all().build()?, LocalSet::new());
        for place in 0..cluster.servers.len() {
            tasks.spawn_local(run(Rc::clone(&cluster), place));
        }
        let begun = Instant::now();
        while cluster.leader().is_none() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("the servers elected nobody".into());
            }
            tasks.block_on(&runtime, async { tokio::time::sleep(TICK).await });
            cluster.check()?;
        }
        Ok(Replicas { runtime, tasks, cluster, command: vec![b'x'; bytes].into() })
    }
}

impl Server {
    fn start(me: Member, charter: &Charter) -> Result<Server> {
        let options = LogOptions::with_segment_bytes(SEGMENT_BYTES);
        let disk = MemoryDisk::empty();
        let mut home = Home::open(disk, me.id, charter.name.as_str(), || me.incarnation)?;
        home.found(charter.clone(), &options)?;
        let config = Config::new(me, home.identity().boot);
        let recovered = home.recover(&options, Machine::default)?;
        let replica = Replica::new(config, recovered, me.incarnation.0)?;
        let begun = Instant::now();
        let driver = Driver::in_real_time(replica, TICK);
        let (driver, inbox, wake) = (RefCell::new(driver), RefCell::default(), Notify::new());
        Ok(Server { id: me.id, driver, begun, inbox, wake })
    }

    fn put(&self, input: Input) {
        let mut inbox = self.inbox.borrow_mut();
        if inbox.is_empty() {
            self.wake.notify_one();
        }
        inbox.push(input);
    }
}

/// The life of a server.
async fn run(cluster: Rc<Cluster>, place: usize) {
    let Some(server) = cluster.servers.get(place) else { return };
    loop {
        match cluster.turn(server) {
            Ok(next) => {
                let sleep = next.saturating_sub(server.begun.elapsed());
                // Time is up, or something came.
                let _ = timeout(sleep, server.wake.notified()).await;
            }
            Err(error) => return cluster.fail(error),
        }
    }
}

impl Cluster {
    fn turn(&self, server: &Server) -> Result<Duration> {
        let mut driver = server.driver.borrow_mut();
        let inbox = server.inbox.take();
        let next = driver.turn(inbox, &mut Links(self))?;
        driver.run_jobs();
        for completion in driver.take_completions() {
            match completion {
                Completion::Applied(Token(client), ..) => {
                    let client = usize::try_from(client).ok().and_then(|it| self.clients.get(it));
                    client.ok_or("an answer for nobody")?.answer();
                }
                other => return Err(format!("a command was not applied: {other:?}").into()),
            }
        }
        driver.take_events();
        Ok(next)
    }

    fn leader(&self) -> Option<&Server> {
        let leads =
            |server: &&Server| server.driver.borrow().replica().node().role() == RoleName::Leader;
        self.servers.iter().find(leads)
    }

    fn fail(&self, error: Error) {
        self.failure.borrow_mut().get_or_insert(error);
        // They look at the failure.
        self.clients.iter().for_each(Client::answer);
    }

    fn check(&self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

/// Puts what one server says into the inbox of another.
struct Links<'a>(&'a Cluster);

impl Links<'_> {
    fn put(&self, to: NodeId, input: Input) {
        if let Some(server) = self.0.servers.iter().find(|server| server.id == to) {
            server.put(input);
        }
    }
}

impl Transport for Links<'_> {
    fn send(&mut self, envelope: Envelope) {
        self.put(envelope.to.id, Input::Message(envelope));
    }

    fn send_snapshot(&mut self, envelope: &SnapshotEnvelope) -> Carried {
        self.put(envelope.to.id, Input::Snapshot(envelope.clone()));
        Carried::Taken
    }
}

/// Asks, waits for the answer, and asks again for a while; says how often.
async fn ask(cluster: Rc<Cluster>, number: usize, command: Bytes, length: Duration) -> Result<u64> {
    let begin = Instant::now();
    let client = cluster.clients.get(number).ok_or("there is no such client")?;
    let leader = cluster.leader().ok_or("there is no leader")?;
    let token = Token(number as u64);
    let mut done = 0;
    while begin.elapsed() < length && cluster.failure.borrow().is_none() {
        leader.put(Input::Propose(token, Payload::new(command.clone())));
        client.answered().await;
        done += 1;
    }
    Ok(done)
}

impl Side for Replicas {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let Replicas { runtime, tasks, cluster, command } = self;
        let (done, elapsed) = tasks.block_on(runtime, async {
            let begin = Instant::now();
            let mut clients = JoinSet::new();
            for number in 0..cluster.clients.len() {
                clients.spawn_local(ask(Rc::clone(cluster), number, command.clone(), length));
            }
            let mut done = 0;
            while let Some(client) = clients.join_next().await {
                done += client??;
            }
            Ok::<_, Error>((done, begin.elapsed()))
        })?;
        cluster.check()?;
        Ok(Slice::whole(done, elapsed))
    }
}

/// A state machine that remembers only what it must.
#[derive(Clone, Copy, Default)]
struct Machine(Index);

impl StateMachine for Machine {
    type Reply = ();
    type Image = Machine;

    fn apply(&mut self, index: Index, _: &Bytes) -> std::result::Result<(), Undecodable> {
        self.0 = index;
        Ok(())
    }

    fn advance(&mut self, index: Index) {
        self.0 = index;
    }

    fn applied(&self) -> Index {
        self.0
    }

    fn image(&self) -> Machine {
        *self
    }

    fn write(image: Machine, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&image.0.0.to_be_bytes())
    }

    fn restore(input: &mut dyn Read) -> io::Result<Machine> {
        let mut applied = [0; 8];
        input.read_exact(&mut applied)?;
        Ok(Machine(Index(u64::from_be_bytes(applied))))
    }
}
