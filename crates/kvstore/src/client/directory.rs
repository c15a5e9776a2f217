//! Which servers there are, which of them have a connection, and which one to ask next. What is
//! decided here is decided under one short lock; connecting happens in tasks of its own, one per
//! server at most, and all callers share the result.

use super::connection::{self, ConnectError, Connection, Expected};
use super::options::Endpoint;
use crate::wire::LeaderHint;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A server that does not accept within this time is taken for absent.
pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// If one server takes longer than this to accept, the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(100);
/// The first pause before a server that could not be reached is tried again.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
/// The pause doubles up to this.
const BACK_OFF_MAX: Duration = Duration::from_millis(200);
/// Servers that were only heard of are remembered up to so many altogether.
const ENDPOINTS_MAX: usize = 64;

/// All servers that a client knows of.
#[derive(Debug)]
pub(super) struct Directory {
    state: Mutex<State>,
    /// Tells everybody who waits that the state of some server has changed.
    changed: Notify,
    cluster: Option<String>,
}

#[derive(Debug)]
struct State {
    servers: Vec<Server>,
    /// Who leads, as far as is known, and the term of that knowledge.
    leader: Option<usize>,
    leader_term: u64,
    /// Who answered last.
    preferred: usize,
    cluster_id: Option<[u8; 16]>,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    link: LinkState,
    /// How many attempts in a row have failed.
    failures: u32,
}

#[derive(Debug)]
enum LinkState {
    Idle,
    Connecting { since: Instant },
    Live(Arc<Connection>),
    Failed { error: ConnectError, at: Instant, retry_at: Instant },
}

/// Which servers a caller can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The leader if it is known, else any.
    Leader,
    /// Any.
    Any,
    /// This one only.
    Only(ServerIndex),
}

/// The place of a server in the directory. Places are never given up.
pub(super) type ServerIndex = usize;

/// A server that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) index: ServerIndex,
    pub(super) connection: Arc<Connection>,
    /// How many servers are known beside it.
    pub(super) others: usize,
}

/// Why no server could be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutOfReach {
    /// Each was tried, and none will accept until somebody changes something.
    ForGood,
    /// The only server that would do could not be reached at the first try.
    TheOnlyOne,
}

/// When to give up on servers that cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not before the caller does.
    Endless,
    /// After one attempt, or at once if one has just failed.
    OneAttempt,
}

/// What to do next.
enum Plan {
    Use(Reached),
    WaitUntil(Instant),
    GiveUp(OutOfReach),
}

/// Whether a hint leads anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// To a server worth asking.
    Followed,
    /// To one that was just found to be gone, or nowhere.
    Stale,
}

impl Directory {
    pub(super) fn new(endpoints: Vec<Endpoint>, cluster: Option<String>) -> Directory {
        let servers = endpoints.into_iter().map(Server::new).collect();
        let state = State { servers, leader: None, leader_term: 0, preferred: 0, cluster_id: None };
        Directory { state: Mutex::new(state), changed: Notify::new(), cluster }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers that are known, in the order in which they were learned of.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        self.state().servers.iter().map(|server| server.endpoint.clone()).collect()
    }

    /// The server at an address, which becomes known if it is not.
    pub(super) fn find_or_add(&self, endpoint: &Endpoint) -> Option<ServerIndex> {
        self.state().find_or_add(endpoint)
    }

    /// Why the server could not be reached the last time.
    pub(super) fn last_failure(&self, index: ServerIndex) -> Option<ConnectError> {
        match &self.state().servers.get(index)?.link {
            LinkState::Failed { error, .. } => Some(error.clone()),
            _ => None,
        }
    }

    /// The address of a server, and what it must be.
    pub(super) fn target(&self, index: ServerIndex) -> Option<(Endpoint, Expected)> {
        let state = self.state();
        let endpoint = state.servers.get(index)?.endpoint.clone();
        let expected = Expected {
            node: endpoint.id.clone(),
            cluster: self.cluster.clone(),
            cluster_id: state.cluster_id,
        };
        Some((endpoint, expected))
    }

    /// A connection to a server that is wanted, as soon as there is one. The server `avoid` comes
    /// last. Waits without end, unless `patience` ends it: the caller has a deadline.
    pub(super) async fn reach(
        self: &Arc<Directory>,
        wanted: Wanted,
        avoid: Option<ServerIndex>,
        patience: Patience,
    ) -> Result<Reached, OutOfReach> {
        if let Some(reached) = self.at_hand(wanted, avoid) {
            return Ok(reached);
        }
        let begun = Instant::now();
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let until = match self.plan(wanted, avoid, patience, begun) {
                Plan::Use(reached) => return Ok(reached),
                Plan::GiveUp(why) => return Err(why),
                Plan::WaitUntil(until) => until,
            };
            // Either wakes us; both mean to plan again.
            let _ = tokio::time::timeout_at(until, changed).await;
        }
    }

    /// The server of first choice, if it has a connection: the common case, without any wait.
    fn at_hand(&self, wanted: Wanted, avoid: Option<ServerIndex>) -> Option<Reached> {
        let state = self.state();
        let index = match wanted {
            Wanted::Only(index) => index,
            Wanted::Leader => state.leader.unwrap_or(state.preferred),
            Wanted::Any => state.preferred,
        };
        match &state.servers.get(index)?.link {
            LinkState::Live(connection) if avoid != Some(index) && connection.is_open() => {
                let others = state.servers.len() - 1;
                Some(Reached { index, connection: Arc::clone(connection), others })
            }
            _ => None,
        }
    }

    fn plan(
        self: &Arc<Directory>,
        wanted: Wanted,
        avoid: Option<ServerIndex>,
        patience: Patience,
        begun: Instant,
    ) -> Plan {
        let now = Instant::now();
        let mut state = self.state();
        let mut wake_at: Option<Instant> = None;
        let mut hopeless = true;
        let others = state.servers.len().saturating_sub(1);
        for index in state.order(wanted, avoid) {
            let Some(server) = state.servers.get_mut(index) else { continue };
            let wait_until = match &server.link {
                LinkState::Live(connection) if connection.is_open() => {
                    let connection = Arc::clone(connection);
                    return Plan::Use(Reached { index, connection, others });
                }
                LinkState::Failed { at, error, .. } if *at >= begun && error.is_permanent() => {
                    continue;
                }
                LinkState::Failed { at, retry_at, .. }
                    if patience == Patience::OneAttempt && (*at >= begun || *retry_at > now) =>
                {
                    continue;
                }
                LinkState::Failed { retry_at, .. } if *retry_at > now => *retry_at,
                LinkState::Connecting { since } => *since + STAGGER,
                LinkState::Idle | LinkState::Live(_) | LinkState::Failed { .. } => {
                    server.link = LinkState::Connecting { since: now };
                    tokio::spawn(Arc::clone(self).connect(index));
                    now + STAGGER
                }
            };
            hopeless = false;
            if wait_until > now {
                wake_at = Some(wake_at.map_or(wait_until, |earlier| earlier.min(wait_until)));
                if matches!(server.link, LinkState::Connecting { .. }) {
                    break;
                }
            }
        }
        match (hopeless, wanted) {
            (false, _) => Plan::WaitUntil(wake_at.unwrap_or(now + CONNECT_PATIENCE)),
            (true, Wanted::Only(_)) => Plan::GiveUp(OutOfReach::TheOnlyOne),
            (true, Wanted::Leader | Wanted::Any) => Plan::GiveUp(OutOfReach::ForGood),
        }
    }

    /// Connects to one server and notes how that went.
    async fn connect(self: Arc<Directory>, index: ServerIndex) {
        let Some((endpoint, expected)) = self.target(index) else { return };
        // If the runtime ends while this waits, the server must not stay *connecting* for ever.
        let mut attempt = Attempt { directory: Arc::downgrade(&self), index, ended: false };
        let result = connection::connect(&endpoint.address, &expected, CONNECT_PATIENCE).await;
        attempt.ended = true;
        let mut state = self.state();
        match result {
            Ok(link) => {
                if let Some(id) = link.welcome.cluster_id {
                    state.cluster_id.get_or_insert(id);
                }
                if let Some(server) = state.servers.get_mut(index) {
                    server.endpoint.id = Some(link.welcome.node.clone());
                    server.failures = 0;
                    server.link = LinkState::Live(Connection::start(link));
                }
            }
            Err(error) => state.failed(index, error),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Notes that a server answered.
    pub(super) fn note_answer(&self, index: ServerIndex) {
        self.state().preferred = index;
    }

    /// Notes that a server could not answer in time: another one is to be asked first.
    pub(super) fn note_late(&self, index: ServerIndex) {
        let mut state = self.state();
        if state.preferred == index {
            state.preferred = (index + 1) % state.servers.len().max(1);
        }
    }

    /// Notes that a server carried out a write, so it leads.
    pub(super) fn note_leader(&self, index: ServerIndex) {
        let mut state = self.state();
        (state.leader, state.preferred) = (Some(index), index);
    }

    /// Notes that a server no longer leads, or cannot be reached.
    pub(super) fn forget_leader(&self, index: ServerIndex) {
        let mut state = self.state();
        if state.leader == Some(index) {
            state.leader = None;
        }
    }

    /// Takes a server's word for who leads.
    pub(super) fn follow(&self, from: ServerIndex, hint: Option<&LeaderHint>) -> Hint {
        let mut state = self.state();
        if state.leader == Some(from) {
            state.leader = None;
        }
        let Some(hint) = hint else { return Hint::Stale };
        if hint.term < state.leader_term {
            return if state.leader.is_some() { Hint::Followed } else { Hint::Stale };
        }
        let endpoint = Endpoint { id: Some(hint.id.clone()), address: hint.address.clone() };
        let Some(index) = state.find_or_add(&endpoint).filter(|index| *index != from) else {
            return Hint::Stale;
        };
        let gone = state.servers.get(index).is_some_and(|server| match &server.link {
            LinkState::Failed { retry_at, .. } => *retry_at > Instant::now(),
            LinkState::Idle | LinkState::Connecting { .. } | LinkState::Live(_) => false,
        });
        if gone {
            return Hint::Stale;
        }
        (state.leader, state.leader_term) = (Some(index), hint.term);
        Hint::Followed
    }
}

impl Drop for Directory {
    /// Connections end with the last of those who use them, once what is queued was sent.
    fn drop(&mut self) {
        for server in &self.state().servers {
            if let LinkState::Live(connection) = &server.link {
                connection.hang_up();
            }
        }
    }
}

impl State {
    /// The servers in the order in which a caller should try them.
    fn order(&self, wanted: Wanted, avoid: Option<ServerIndex>) -> VecDeque<ServerIndex> {
        let count = self.servers.len();
        let leader = match wanted {
            Wanted::Only(index) => return VecDeque::from([index]),
            Wanted::Leader => self.leader,
            Wanted::Any => None,
        };
        let others = (0..count).map(|step| (self.preferred + step) % count);
        let mut order: VecDeque<_> = others.filter(|index| Some(*index) != leader).collect();
        if let Some(leader) = leader {
            order.push_front(leader);
        }
        if let Some(at) = order.iter().position(|index| Some(*index) == avoid) {
            order.remove(at);
            order.extend(avoid);
        }
        order
    }

    /// A server is found by its id, else by its address. The address that the user gave is kept:
    /// the one that servers know each other by may mean nothing here.
    fn find_or_add(&mut self, endpoint: &Endpoint) -> Option<ServerIndex> {
        let by_id = |server: &Server| endpoint.id.is_some() && server.endpoint.id == endpoint.id;
        let by_address = |server: &Server| {
            let contradicts = endpoint.id.is_some()
                && server.endpoint.id.is_some()
                && endpoint.id != server.endpoint.id;
            server.endpoint.address == endpoint.address && !contradicts
        };
        let found = self.servers.iter().position(by_id);
        if let Some(index) = found.or_else(|| self.servers.iter().position(by_address)) {
            return Some(index);
        }
        if self.servers.len() >= ENDPOINTS_MAX {
            return None;
        }
        self.servers.push(Server::new(endpoint.clone()));
        Some(self.servers.len() - 1)
    }

    fn failed(&mut self, index: ServerIndex, error: ConnectError) {
        if self.leader == Some(index) {
            self.leader = None;
        }
        let Some(server) = self.servers.get_mut(index) else { return };
        let pause = BACK_OFF_MIN * 2u32.saturating_pow(server.failures.min(8));
        server.failures = server.failures.saturating_add(1);
        let at = Instant::now();
        let retry_at = at + pause.min(BACK_OFF_MAX);
        server.link = LinkState::Failed { error, at, retry_at };
    }
}

impl Server {
    fn new(endpoint: Endpoint) -> Server {
        Server { endpoint, link: LinkState::Idle, failures: 0 }
    }
}

/// An attempt to connect that tells the directory if it is cut off.
struct Attempt {
    directory: std::sync::Weak<Directory>,
    index: ServerIndex,
    ended: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Some(directory) = self.directory.upgrade() {
            let error = ConnectError::Io("the client's runtime has ended".to_owned());
            directory.state().failed(self.index, error);
            directory.changed.notify_waiters();
        }
    }
}
