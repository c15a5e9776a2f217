//! A cluster of real server processes on a loopback address of its own, with its data in a
//! temporary directory. Whatever happens to a test, the processes end and the directory goes.
//!
//! Nothing here looks into a server: it is started, killed, paused and asked over the same command
//! line that a user has.

mod address;
mod proxy;
mod raw;
mod run;
mod server;
mod story;
mod terminal;
mod wait;

use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub use address::free_addresses;
pub use proxy::Proxy;
pub use raw::Raw;
pub use run::{Run, clean_command, run};
pub use server::Server;
pub use story::Story;
pub use terminal::terminal;
pub use wait::eventually;

/// How long a healthy cluster may take to elect a leader on a busy machine.
const ELECTION_LIMIT: Duration = Duration::from_secs(20);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many servers.
    pub servers: u16,
    /// Lines for the configuration, behind the list of servers.
    pub extra: String,
}

impl Default for Settings {
    /// Three servers that elect a leader fast enough for a test and slowly enough for a busy
    /// machine.
    fn default() -> Settings {
        let extra = "[raft]\nheartbeat = \"50ms\"\nelection = \"500ms..1s\"\n".to_owned();
        Settings { servers: 3, extra }
    }
}

/// A cluster under test.
#[derive(Debug)]
pub struct Cluster {
    program: String,
    config: PathBuf,
    // Declared before the directory: the processes end before their data goes.
    servers: Vec<Server>,
    directory: TempDir,
}

impl Cluster {
    /// A cluster of `servers` servers, named s1, s2, and so on. None of them runs yet.
    pub fn new(program: &str, servers: u16) -> Cluster {
        Cluster::with(program, &Settings { servers, ..Settings::default() })
    }

    /// A cluster that is running and has a leader.
    pub fn started(program: &str, servers: u16) -> Cluster {
        let mut cluster = Cluster::new(program, servers);
        cluster.start_all();
        cluster.leader();
        cluster
    }

    /// A cluster with settings of its own. None of its servers runs yet.
    pub fn with(program: &str, settings: &Settings) -> Cluster {
        let directory = TempDir::with_prefix("kvctl-test-").expect("a directory can be made");
        let addresses = free_addresses(settings.servers);
        let config = directory.path().join("kv.toml");
        let text = config_text(directory.path(), &addresses, &settings.extra);
        std::fs::write(&config, text).expect("a configuration can be written");
        let servers = addresses.into_iter().zip(1..).map(|(address, number)| {
            let id = format!("s{number}");
            let data = directory.path().join(&id);
            Server::new(id, address, data)
        });
        Cluster { program: program.to_owned(), config, servers: servers.collect(), directory }
    }

    /// A running cluster with a relay in front of each server: each listens elsewhere than the
    /// others and the clients that go by the configuration believe.
    pub fn behind_proxies(program: &str, settings: &Settings) -> Cluster {
        let mut cluster = Cluster::with(program, settings);
        cluster.start_all();
        cluster.leader();
        let listed: Vec<SocketAddrV4> = cluster.servers.iter().map(Server::address).collect();
        let directory = cluster.directory().to_owned();
        for (at, server) in cluster.servers.iter_mut().enumerate() {
            server.stop();
            let own = SocketAddrV4::new(*listed[at].ip(), listed[at].port() + 1000);
            let mut addresses = listed.clone();
            addresses[at] = own;
            let config = directory.join(format!("{}.toml", server.id()));
            let text = config_text(&directory, &addresses, &settings.extra);
            std::fs::write(&config, text).expect("a configuration can be written");
            server.move_behind(own, config);
        }
        cluster.start_all();
        cluster
    }

    /// The configuration file that servers and clients share.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The directory that goes away with the cluster.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// All servers, in the order of their numbers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server of this id.
    pub fn server(&self, id: &str) -> &Server {
        let found = self.servers.iter().find(|server| server.id() == id);
        found.unwrap_or_else(|| panic!("there is no server {id}"))
    }

    /// The server of this id, to do something to it.
    pub fn server_mut(&mut self, id: &str) -> &mut Server {
        let found = self.servers.iter_mut().find(|server| server.id() == id);
        found.unwrap_or_else(|| panic!("there is no server {id}"))
    }

    /// Starts one server. It may not yet listen when this returns.
    pub fn start(&mut self, id: &str) {
        let (program, config) = (self.program.clone(), self.config.clone());
        self.server_mut(id).start(&program, &config);
    }

    /// Starts one more server, beyond those of the configuration, that waits to be taken in by
    /// those that run. Returns its id.
    ///
    /// # Panics
    /// If the cluster has no server at all.
    pub fn start_joining(&mut self) -> String {
        let last = self.servers.last().expect("a cluster has a server").address();
        let address = SocketAddrV4::new(*last.ip(), last.port() + 1);
        let id = format!("s{}", self.servers.len() + 1);
        let running = self.servers.iter().filter(|server| server.is_running());
        let join = running.map(Server::address).collect();
        let data = self.directory.path().join(&id);
        let mut server = Server::new(id.clone(), address, data).joining(join);
        server.start(&self.program, &self.config);
        self.servers.push(server);
        id
    }

    /// Starts every server that does not run.
    pub fn start_all(&mut self) {
        for server in &mut self.servers {
            if !server.is_running() {
                server.start(&self.program, &self.config);
            }
        }
    }

    /// Kills every server that runs, as a power failure would.
    pub fn kill_all(&mut self) {
        for server in &mut self.servers {
            if server.is_running() {
                server.kill();
            }
        }
    }

    /// Runs `kvctl` against this cluster.
    pub fn kvctl(&self, arguments: &[&str]) -> Run {
        self.kvctl_with_input(arguments, b"")
    }

    /// Runs `kvctl` against this cluster, with something on its standard input.
    pub fn kvctl_with_input(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut command = clean_command(&self.program);
        command.env("KVCTL_CONFIG", &self.config).current_dir(self.directory.path());
        if self.servers.iter().any(Server::has_joined) {
            // The configuration does not know where the cluster is by now.
            let running = self.servers.iter().filter(|server| server.is_running());
            let addresses: Vec<String> = running.map(|it| it.address().to_string()).collect();
            command.env("KVCTL_ENDPOINTS", addresses.join(","));
        }
        run(command, arguments, input)
    }

    /// Runs `kvctl` against one address, knowing nothing else of the cluster.
    pub fn kvctl_at(&self, address: SocketAddrV4, arguments: &[&str]) -> Run {
        let mut command = clean_command(&self.program);
        command.env("KVCTL_ENDPOINTS", address.to_string()).current_dir(self.directory.path());
        run(command, arguments, b"")
    }

    /// What `kvctl status` says at this moment.
    pub fn status(&self) -> Option<Value> {
        let run = self.kvctl(&["status", "-o", "json"]);
        (run.code == Some(0)).then(|| run.json())
    }

    /// The id of the leader; waits until there is one that a majority follows.
    ///
    /// # Panics
    /// If no leader is elected in time.
    pub fn leader(&self) -> String {
        eventually("a leader", ELECTION_LIMIT, || {
            let status = self.status()?;
            let leader = status["leader"].as_str()?;
            let term = &status["term"];
            let members = status["members"].as_array()?;
            let together = members.iter().filter(|member| member["term"] == *term).count();
            (together * 2 > members.len()).then(|| leader.to_owned())
        })
    }

    /// The id of some running server that does not lead.
    ///
    /// # Panics
    /// If there is none.
    pub fn follower(&self) -> String {
        let leader = self.leader();
        let others = self.servers.iter().filter(|server| server.id() != leader);
        let running = { others }.find(|server| server.is_running());
        running.expect("a server that does not lead").id().to_owned()
    }

    /// Waits until every running server has applied the same log.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn wait_until_level(&self, limit: Duration) {
        let running = self.servers.iter().filter(|server| server.is_running()).count();
        eventually("every running server to have applied the same log", limit, || {
            let status = self.status()?;
            let members = status["members"].as_array()?;
            let reachable: Vec<&Value> =
                members.iter().filter(|member| member["reachable"] == true).collect();
            let first = reachable.first()?;
            let level = reachable.iter().all(|member| {
                member["applied"] == first["applied"]
                    && member["last"] == first["last"]
                    && member["applied"] == member["last"]
            });
            (reachable.len() == running && level).then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for server in &self.servers {
                eprintln!("{}", server.chronicle());
            }
        }
    }
}

/// A configuration for these addresses, with the data below `directory`.
pub fn config_text(directory: &Path, addresses: &[SocketAddrV4], extra: &str) -> String {
    let mut text = "cluster = \"test\"\n".to_owned();
    for (address, number) in addresses.iter().zip(1..) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n[[server]]\nid = \"s{number}\"\naddr = \"{address}\"\n");
    }
    let _ = write!(text, "\n[node]\ndata = \"{}/{{id}}\"\n\n{extra}", directory.display());
    text
}
