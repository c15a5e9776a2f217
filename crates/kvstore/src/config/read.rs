//! Reads the file by hand, key by key, because the errors are the point: each names the file and
//! the line, says what is wrong, and what to write instead.

use super::units::{self, GIBIBYTE, KIBIBYTE, Size};
use super::{
    Config, ConfigError, DataTemplate, Disk, ELECTION_HEARTBEATS_MIN, Fsync, Limits, Place,
    RaftConfig, SERVERS_MAX, ServerEntry, Source, WalConfig,
};
use crate::wire::handshake::{CLUSTER_NAME_BYTES_MAX, NODE_ID_BYTES_MAX};
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Value<'a> = Spanned<DeValue<'a>>;

/// The shortest and the longest pause between heartbeats that make sense.
const HEARTBEATS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
/// The longest time without a leader that anybody waits for one.
const ELECTION_MAX: Duration = Duration::from_secs(3600);
// What stands in the file outside of tables, and in each of its tables.
const ROOT_KEYS: [&str; 6] = ["cluster", "server", "node", "raft", "wal", "limits"];
const SERVER_KEYS: [&str; 2] = ["id", "addr"];
const NODE_KEYS: [&str; 1] = ["data"];
const RAFT_KEYS: [&str; 5] = ["heartbeat", "election", "snapshot_every", "snapshot_rate", "fsync"];
const WAL_KEYS: [&str; 2] = ["segment", "disk"];
const LIMITS_KEYS: [&str; 4] = ["key", "value", "request", "connections"];

/// Every key that a configuration may hold, tables among them.
pub fn keys() -> impl Iterator<Item = &'static str> {
    let tables = [SERVER_KEYS.as_slice(), &NODE_KEYS, &RAFT_KEYS, &WAL_KEYS, &LIMITS_KEYS];
    ROOT_KEYS.into_iter().chain(tables.into_iter().flatten().copied())
}

/// By how much the log may grow between two snapshots. A smaller one would be written all the time.
const SNAPSHOT_EVERY_BYTES: RangeInclusive<u64> = 64 * KIBIBYTE..=1024 * GIBIBYTE;
/// How much of snapshots may be sent in a second. With less a large one would never arrive.
const SNAPSHOT_RATE_BYTES: RangeInclusive<u64> = 64 * KIBIBYTE..=1024 * GIBIBYTE;
/// The sizes that a segment can have.
const SEGMENT_BYTES: RangeInclusive<u64> = 64 * KIBIBYTE..=GIBIBYTE;
/// The most connections that a server can be allowed.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// The file that is being read, to say where things are.
#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

/// One table of it: its name and what it says.
struct Table<'a> {
    file: File<'a>,
    name: &'a str,
    entries: BTreeMap<&'a str, (Range<usize>, &'a Value<'a>)>,
}

/// Reads the whole file.
pub(super) fn config(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let file = File { path, text };
    let root = DeTable::parse(text).map_err(|error| {
        let problem = error.message().lines().collect::<Vec<_>>().join(", ");
        file.error(error.span(), problem, "the file is in the TOML format, see https://toml.io")
    })?;
    let root = Table::new(file, "the file", root.get_ref(), &ROOT_KEYS)?;
    let defaults = Config::default();

    let cluster = root.name("cluster", CLUSTER_NAME_BYTES_MAX)?.ok_or_else(|| {
        file.error(None, "the cluster has no name", "begin the file with: cluster = \"demo\"")
    })?;
    let servers = servers(&root)?;
    let data = match root.table("node", &NODE_KEYS)? {
        None => defaults.data,
        Some(node) => data(&node)?.unwrap_or(defaults.data),
    };
    let raft = match root.table("raft", &RAFT_KEYS)? {
        None => defaults.raft,
        Some(raft) => raft_config(&raft, defaults.raft)?,
    };
    let wal = match root.table("wal", &WAL_KEYS)? {
        None => defaults.wal,
        Some(wal) => wal_config(&wal, defaults.wal)?,
    };
    let limits = match root.table("limits", &LIMITS_KEYS)? {
        None => defaults.limits,
        Some(limits) => limits_config(&limits, defaults.limits)?,
    };
    Ok(Config { source: Source::File(path.to_owned()), cluster, servers, data, raft, wal, limits })
}

/// The list of servers. Ids and addresses must differ, or servers would take each other's place.
fn servers(root: &Table<'_>) -> Result<Vec<ServerEntry>, ConfigError> {
    let remedy = "add for each server:\n[[server]]\nid = \"s1\"\naddr = \"127.0.0.1:10000\"";
    let Some((span, value)) = root.entries.get("server") else {
        return Err(root.file.error(None, "no servers are listed", remedy));
    };
    let listed = value.get_ref().as_array();
    let listed = listed.ok_or_else(|| {
        root.file.error(Some(span.clone()), "the servers are not a list of tables", remedy)
    })?;
    if listed.len() > SERVERS_MAX {
        let problem = format!("{} servers are listed", listed.len());
        let remedy = format!("a cluster has at most {SERVERS_MAX}, and three or five serve best");
        return Err(root.file.error(Some(span.clone()), problem, remedy));
    }
    let mut servers: Vec<ServerEntry> = Vec::new();
    for value in listed {
        let Some(table) = value.get_ref().as_table() else {
            return Err(root.file.error(Some(value.span()), "a server is not a table", remedy));
        };
        let server = Table::new(root.file, "[[server]]", table, &SERVER_KEYS)?;
        let place = || Some(value.span());
        let id = server.name("id", NODE_ID_BYTES_MAX)?.ok_or_else(|| {
            root.file.error(place(), "a server has no id", "add for example: id = \"s1\"")
        })?;
        let address = address(&server)?.ok_or_else(|| {
            let problem = format!("server {id} has no address");
            root.file.error(place(), problem, "add for example: addr = \"127.0.0.1:10000\"")
        })?;
        if servers.iter().any(|other| other.id == id) {
            let problem = format!("the id {id} is given to two servers");
            return Err(server.error("id", problem, "give every server an id of its own"));
        }
        if let Some(other) = servers.iter().find(|other| other.address == address) {
            let problem = format!("{id} and {} have the same address {address}", other.id);
            return Err(server.error("addr", problem, "give every server an address of its own"));
        }
        servers.push(ServerEntry { id, address });
    }
    if servers.is_empty() {
        return Err(root.file.error(Some(span.clone()), "no servers are listed", remedy));
    }
    Ok(servers)
}

/// The address of a server: a name or an IP address, and a port.
fn address(server: &Table<'_>) -> Result<Option<String>, ConfigError> {
    let Some(text) = server.text("addr")? else { return Ok(None) };
    let problem = format!("\"{text}\" is not an address");
    let remedy = "write host:port, such as \"127.0.0.1:10000\" or \"[::1]:10000\"";
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && host.len() <= 253 && port.len() <= 5 => {
            (host, port)
        }
        _ => return Err(server.error("addr", problem, remedy)),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_right = match bracketed {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(|it| it.is_ascii_alphanumeric() || it == '.' || it == '-'),
    };
    match port.parse::<u16>() {
        Ok(0) => Err(server.error("addr", problem, "name the port; 0 would be another each time")),
        Ok(_) if host_is_right => Ok(Some(text.to_owned())),
        _ => Err(server.error("addr", problem, remedy)),
    }
}

fn data(node: &Table<'_>) -> Result<Option<DataTemplate>, ConfigError> {
    let remedy = "write a directory, such as \"./data/{id}\"";
    match node.text("data")? {
        None => Ok(None),
        Some("") => Err(node.error("data", "the data directory is empty", remedy)),
        Some(path) => Ok(Some(DataTemplate(path.to_owned()))),
    }
}

fn raft_config(raft: &Table<'_>, defaults: RaftConfig) -> Result<RaftConfig, ConfigError> {
    let heartbeat = raft.quantity("heartbeat", units::duration, units::DURATION_REMEDY)?;
    let heartbeat = heartbeat.unwrap_or(defaults.heartbeat);
    if !HEARTBEATS.contains(&heartbeat) {
        let problem = format!("a heartbeat of {heartbeat:?} makes no sense");
        let remedy = format!("use {:?} to {:?}", HEARTBEATS.start(), HEARTBEATS.end());
        return Err(raft.error("heartbeat", problem, remedy));
    }

    let election = raft.quantity("election", units::duration_range, units::RANGE_REMEDY)?;
    let election = election.unwrap_or(defaults.election);
    let shortest = heartbeat * ELECTION_HEARTBEATS_MIN;
    if *election.start() < shortest {
        let key = if raft.entries.contains_key("election") { "election" } else { "heartbeat" };
        let problem = format!(
            "an election timeout of {:?} is too short for a heartbeat of {heartbeat:?}",
            election.start()
        );
        let remedy = format!("begin the range of `election` at {shortest:?} or above");
        return Err(raft.error(key, problem, remedy));
    }
    if *election.end() > ELECTION_MAX {
        let problem = format!("an election timeout of {:?} makes no sense", election.end());
        let remedy = format!("end the range at {ELECTION_MAX:?} or below");
        return Err(raft.error("election", problem, remedy));
    }
    // Servers that time out together split the vote; the wider the range, the rarer that is.
    let widest = *election.start() + *election.start() / 4;
    if *election.end() < widest {
        let problem = "the range of election timeouts is too narrow, votes would split";
        let remedy = format!("end it at {widest:?} or above, twice its beginning is usual");
        return Err(raft.error("election", problem, remedy));
    }

    let fsync = match raft.text("fsync")? {
        None => defaults.fsync,
        Some("always") => Fsync::Always,
        Some("unsafe-never") => Fsync::UnsafeNever,
        Some(other) => {
            let problem = format!("fsync cannot be \"{other}\"");
            let remedy = "write \"always\", or \"unsafe-never\" where losing data is no loss";
            return Err(raft.error("fsync", problem, remedy));
        }
    };
    let every = raft.size("snapshot_every", SNAPSHOT_EVERY_BYTES)?;
    let rate = raft.size("snapshot_rate", SNAPSHOT_RATE_BYTES)?;
    Ok(RaftConfig {
        heartbeat,
        election,
        snapshot_every_bytes: every.unwrap_or(defaults.snapshot_every_bytes),
        snapshot_rate_bytes: rate.unwrap_or(defaults.snapshot_rate_bytes),
        fsync,
    })
}

fn wal_config(wal: &Table<'_>, defaults: WalConfig) -> Result<WalConfig, ConfigError> {
    let segment_bytes = wal.size("segment", SEGMENT_BYTES)?.unwrap_or(defaults.segment_bytes);
    let disk = match wal.text("disk")? {
        None => defaults.disk,
        Some("inline") => Disk::Inline,
        Some("thread") => Disk::Thread,
        Some(other) => {
            let problem = format!("disk cannot be \"{other}\"");
            let remedy = "write \"inline\", or \"thread\" where the disk is sometimes slow";
            return Err(wal.error("disk", problem, remedy));
        }
    };
    Ok(WalConfig { segment_bytes, disk })
}

/// Limits can only be made stricter: what one server accepts, all must be able to carry.
fn limits_config(limits: &Table<'_>, mut config: Limits) -> Result<Limits, ConfigError> {
    let command = &mut config.command;
    for (key, limit) in [
        ("key", &mut command.key_bytes_max),
        ("value", &mut command.value_bytes_max),
        ("request", &mut command.command_bytes_max),
    ] {
        if let Some(bytes) = limits.size(key, 1..=u64::from(*limit))? {
            *limit = u32::try_from(bytes).unwrap_or(*limit);
        }
    }
    if let Some(connections) = limits.number("connections", 1..=CONNECTIONS_MAX)? {
        config.connections_max = u32::try_from(connections).unwrap_or(u32::MAX);
    }
    Ok(config)
}

impl<'a> Table<'a> {
    /// Takes the entries of a table, and none but the known ones.
    fn new(
        file: File<'a>,
        name: &'a str,
        table: &'a DeTable<'a>,
        known: &[&str],
    ) -> Result<Table<'a>, ConfigError> {
        let mut entries = BTreeMap::new();
        for (key, value) in table.iter() {
            let (span, key): (_, &str) = (key.span(), key.get_ref());
            if !known.contains(&key) {
                let problem = format!("unknown key \"{key}\" in {name}");
                let remedy = match closest(key, known) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => format!("there are: {}", known.join(", ")),
                };
                return Err(file.error(Some(span), problem, remedy));
            }
            entries.insert(key, (span, value));
        }
        Ok(Table { file, name, entries })
    }

    /// The table inside this one.
    fn table(&self, key: &'a str, known: &[&str]) -> Result<Option<Table<'a>>, ConfigError> {
        let Some((_, value)) = self.entries.get(key) else { return Ok(None) };
        match value.get_ref().as_table() {
            Some(table) => Table::new(self.file, key, table, known).map(Some),
            None => {
                let remedy = format!("write [{key}] on a line of its own, its keys below");
                Err(self.error(key, format!("\"{key}\" is a table"), remedy))
            }
        }
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some((_, value)) = self.entries.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some(text)),
            None => {
                let problem = format!("\"{key}\" is not a text");
                Err(self.error(key, problem, "write it in quotation marks"))
            }
        }
    }

    /// A name that fits on a line, into a path and into a shell.
    fn name(&self, key: &str, bytes_max: usize) -> Result<Option<String>, ConfigError> {
        let Some(name) = self.text(key)? else { return Ok(None) };
        let allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
        let begins_well = name.starts_with(|it: char| it.is_ascii_alphanumeric());
        if begins_well && name.len() <= bytes_max && name.chars().all(allowed) {
            return Ok(Some(name.to_owned()));
        }
        let problem = format!("\"{name}\" cannot be the {key} of anything");
        let remedy = format!(
            "use 1 to {bytes_max} letters, digits, '-', '_' and '.', \
             and begin with a letter or digit"
        );
        Err(self.error(key, problem, remedy))
    }

    /// A text with a unit, or what else `read` understands.
    fn quantity<T>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Option<T>,
        remedy: &str,
    ) -> Result<Option<T>, ConfigError> {
        let Some((_, value)) = self.entries.get(key) else { return Ok(None) };
        let text = value.get_ref().as_str();
        match text.and_then(read) {
            Some(quantity) => Ok(Some(quantity)),
            None => {
                let written = match text {
                    Some(text) => format!("\"{text}\""),
                    None => self.file.text.get(value.span()).unwrap_or_default().to_owned(),
                };
                let problem = format!("\"{key}\" in {} cannot be {written}", self.name);
                Err(self.error(key, problem, remedy))
            }
        }
    }

    /// A size, also as a plain number of bytes.
    fn size(&self, key: &str, allowed: RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let number = match self.entries.get(key) {
            Some((_, value)) => integer(value),
            None => return Ok(None),
        };
        let size = match number {
            Some(bytes) => Some(bytes),
            None => self.quantity(key, units::size, units::SIZE_REMEDY)?,
        };
        self.within(key, size, allowed, |bytes| Size(bytes).to_string())
    }

    fn number(&self, key: &str, allowed: RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let Some((_, value)) = self.entries.get(key) else { return Ok(None) };
        let Some(number) = integer(value) else {
            let problem = format!("\"{key}\" in {} is not a whole number", self.name);
            return Err(self.error(key, problem, "write digits, without quotation marks"));
        };
        self.within(key, Some(number), allowed, |number| number.to_string())
    }

    fn within(
        &self,
        key: &str,
        number: Option<u64>,
        allowed: RangeInclusive<u64>,
        show: impl Fn(u64) -> String,
    ) -> Result<Option<u64>, ConfigError> {
        match number {
            Some(number) if !allowed.contains(&number) => {
                let problem = format!("\"{key}\" in {} cannot be {}", self.name, show(number));
                let (least, most) = (show(*allowed.start()), *allowed.end());
                let remedy = match most {
                    u64::MAX => format!("it must be at least {least}"),
                    most => format!("it must be from {least} to {}", show(most)),
                };
                Err(self.error(key, problem, remedy))
            }
            number => Ok(number),
        }
    }

    fn error(
        &self,
        key: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        let span = self.entries.get(key).map(|(span, _)| span.clone());
        self.file.error(span, problem, remedy)
    }
}

impl File<'_> {
    fn error(
        &self,
        span: Option<Range<usize>>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        let before = span.and_then(|span| self.text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() as u64 + 1);
        let place = Place { path: self.path.to_owned(), line };
        ConfigError::Invalid { place, problem: problem.into(), remedy: remedy.into() }
    }
}

/// A number without a unit. Negative ones are none.
fn integer(value: &Value<'_>) -> Option<u64> {
    let integer = value.get_ref().as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// The name among `known` that `written` was most likely meant to be.
pub(super) fn closest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let similar = |name: &&'a str| strsim::normalized_damerau_levenshtein(written, name);
    let best =
        known.iter().copied().max_by(|one, other| similar(one).total_cmp(&similar(other)))?;
    (similar(&best) >= 0.5).then_some(best)
}
