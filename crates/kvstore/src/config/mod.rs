//! The configuration: one file, the same on every server and for every client. It is read and
//! checked once; what comes out can be used without a second look.
//!
//! ```toml
//! cluster = "demo"
//!
//! [[server]]
//! id = "s1"
//! addr = "127.0.0.1:10000"
//!
//! [node]
//! data = "./data/{id}"
//!
//! [raft]
//! heartbeat = "50ms"
//! election = "500ms..1s"
//! snapshot_every = "64MiB"
//! snapshot_rate = "20MiB"
//! fsync = "always"
//!
//! [wal]
//! segment = "64MiB"
//! disk = "inline"
//!
//! [limits]
//! key = "4KiB"
//! value = "1MiB"
//! request = "2MiB"
//! connections = 4096
//! ```
//! Only `cluster` and the servers are required. An unknown key is an error with a suggestion, so
//! that a misspelt setting is noticed when it is written and not when it is missed.

mod read;
#[cfg(test)]
mod tests;
mod units;

pub use read::keys;

use crate::store::command::CommandLimits;
use std::ffi::OsString;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "KVCTL_CONFIG";
/// The file that is looked for where none is named.
pub const CONFIG_FILE: &str = "kv.toml";
/// The most servers that a cluster can be founded with.
pub const SERVERS_MAX: usize = 15;
/// Where the single server listens if there is no configuration.
const DEFAULT_ADDRESS: &str = "127.0.0.1:10000";
/// An election timeout below so many heartbeats would hold elections for one lost message.
const ELECTION_HEARTBEATS_MIN: u32 = 5;

/// A configuration that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it came from.
    pub source: Source,
    /// The name of the cluster.
    pub cluster: String,
    /// The servers that the cluster is founded with, in the order of the file.
    pub servers: Vec<ServerEntry>,
    /// Where each server keeps its data; `{id}` stands for its id.
    pub data: DataTemplate,
    /// Settings of the replication.
    pub raft: RaftConfig,
    /// Settings of the log.
    pub wal: WalConfig,
    /// What is refused at the door.
    pub limits: Limits,
}

/// Where a configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Nowhere: it is the cluster of one that runs without any configuration.
    Default,
}

/// One server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEntry {
    /// Its id, at most 32 bytes.
    pub id: String,
    /// Where it listens for clients and servers alike, as `host:port`.
    pub address: String,
}

/// The path of a data directory with a hole for the server's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataTemplate(String);

impl DataTemplate {
    /// The directory of the server with this id. A relative path is relative to the working
    /// directory.
    pub fn directory(&self, id: &str) -> PathBuf {
        PathBuf::from(self.0.replace("{id}", id))
    }
}

/// Settings of the replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    /// Between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// Each election timeout is drawn from this range.
    pub election: RangeInclusive<Duration>,
    /// A snapshot is written when the log has grown by so many bytes since the last one.
    pub snapshot_every_bytes: u64,
    /// How many bytes of snapshots are sent in a second, to all servers together.
    pub snapshot_rate_bytes: u64,
    /// Whether acknowledged means durable.
    pub fsync: Fsync,
}

/// When the log is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before anything that depends on it leaves the server.
    Always,
    /// Never. A power failure loses acknowledged writes, and can bring servers to disagree.
    UnsafeNever,
}

/// Settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalConfig {
    /// The size of one segment file.
    pub segment_bytes: u64,
    /// Where the disk is waited for.
    pub disk: Disk,
}

/// Where a server waits for its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// On the thread that does everything else, which is the quickest where a sync is short.
    Inline,
    /// On a thread of its own, so that a slow disk does not keep heartbeats from leaving.
    Thread,
}

/// What a server refuses at its door. A file can make these stricter than the defaults, which are
/// the limits of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The parts of a command, and the whole.
    pub command: CommandLimits,
    /// How many connections a server accepts.
    pub connections_max: u32,
}

/// Why there is no configuration to go by.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read the configuration {}: {source}; name another with --config",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file says something that cannot be.
    #[error("{place}: {problem}; {remedy}")]
    Invalid {
        /// Where it says so.
        place: Place,
        /// What is wrong.
        problem: String,
        /// What to write instead.
        remedy: String,
    },
    /// There is no server with this id.
    #[error("no server has the id \"{id}\" in {origin}; {remedy}")]
    UnknownServer {
        /// The id that was asked for.
        id: String,
        /// Which configuration was searched.
        origin: String,
        /// Which ids there are.
        remedy: String,
    },
}

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; `None` if the problem is what the file does not say.
    pub line: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}", self.path.display()),
            None => write!(formatter, "{}", self.path.display()),
        }
    }
}

impl Config {
    /// Finds and reads the configuration: the named file, else the one that `KVCTL_CONFIG` names,
    /// else `./kv.toml` if there is one, else a cluster of the single server s1.
    pub fn discover(named: Option<&Path>) -> Result<Config, ConfigError> {
        Config::discover_from(named, std::env::var_os(CONFIG_VARIABLE), Path::new(""))
    }

    fn discover_from(
        named: Option<&Path>,
        variable: Option<OsString>,
        directory: &Path,
    ) -> Result<Config, ConfigError> {
        if let Some(path) = named {
            return Config::load(path);
        }
        if let Some(path) = variable.filter(|path| !path.is_empty()) {
            return Config::load(Path::new(&path));
        }
        let beside = directory.join(CONFIG_FILE);
        match std::fs::exists(&beside) {
            Ok(true) => Config::load(&beside),
            Ok(false) => Ok(Config::default()),
            Err(source) => Err(ConfigError::Unreadable { path: beside, source }),
        }
    }

    /// Reads the configuration in a file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Config::parse(path, &text)
    }

    /// Reads the configuration in `text`, which errors speak of as the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        read::config(path, text)
    }

    /// The server with this id.
    pub fn server(&self, id: &str) -> Result<&ServerEntry, ConfigError> {
        if let Some(server) = self.servers.iter().find(|server| server.id == id) {
            return Ok(server);
        }
        let ids: Vec<&str> = self.servers.iter().map(|server| server.id.as_str()).collect();
        let (origin, remedy) = match &self.source {
            Source::File(path) => {
                let meant = read::closest(id, &ids);
                let meant = meant.map_or(String::new(), |id| format!("did you mean {id}? "));
                (path.display().to_string(), format!("{meant}it lists {}", ids.join(", ")))
            }
            Source::Default => (
                "the cluster of one that runs without a configuration".to_owned(),
                format!("use s1, or write the servers into {CONFIG_FILE}"),
            ),
        };
        Err(ConfigError::UnknownServer { id: id.to_owned(), origin, remedy })
    }
}

impl Default for Config {
    /// A cluster of one, s1, on 127.0.0.1:10000.
    fn default() -> Config {
        let server = ServerEntry { id: "s1".to_owned(), address: DEFAULT_ADDRESS.to_owned() };
        Config {
            source: Source::Default,
            cluster: "default".to_owned(),
            servers: vec![server],
            data: DataTemplate::default(),
            raft: RaftConfig::default(),
            wal: WalConfig::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for DataTemplate {
    fn default() -> DataTemplate {
        DataTemplate("./data/{id}".to_owned())
    }
}

impl Default for RaftConfig {
    fn default() -> RaftConfig {
        RaftConfig {
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(500)..=Duration::from_secs(1),
            snapshot_every_bytes: 64 * units::MEBIBYTE,
            snapshot_rate_bytes: 20 * units::MEBIBYTE,
            fsync: Fsync::Always,
        }
    }
}

impl Default for WalConfig {
    fn default() -> WalConfig {
        WalConfig { segment_bytes: 64 * units::MEBIBYTE, disk: Disk::Inline }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { command: CommandLimits::default(), connections_max: 4096 }
    }
}
