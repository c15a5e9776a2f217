//! The way out for the last survivor: out of the directory of a server whose cluster has lost its
//! majority for good, a cluster of this one server is made, with everything that can be served of
//! it. The new cluster has an id of its own and the server another incarnation, so that nobody of
//! the old cluster can ever vote, or count, in the new one.
//!
//! It is made beside what counts and is nothing until it counts itself, by one change of the
//! directory:
//!
//! ```text
//! identity             says that the N-th recovery counts: replaced by one rename, last of all
//! identity.before-N    the identity that it replaced, or a word where that was gone: it is there
//!                      from the moment at which the N-th recovery may count
//! founding, log/, snapshots/    as they were: never written to
//! recovered-N/         founding, log/, snapshots/ of the new cluster
//! recovered-N/scratch/ a copy of the log while it is worked on, empty afterwards
//! ```
//!
//! Whenever the power goes, the directory is the old cluster's or the new one's, whole. What an
//! interrupted attempt left is thrown away by the next, as long as the identity says that it does
//! not count. Where the identity is lost, nothing is thrown away: the latest recovery that may
//! count is what is recovered, beside all that is there.
//!
//! The state is what the newest whole snapshot and the log behind it give, all the log: which of
//! its last entries were committed only the lost servers knew. It becomes a snapshot of the new
//! cluster, whose log begins behind it. So no entry of the old cluster, and no configuration that
//! lists its servers, is in the new one's log.

mod harvest;
mod target;

use std::io;
use std::sync::Arc;

use wal::{BackupError, Disk};

use super::directory::lock_home;
use super::home::{
    BEFORE, CHARTER, HomeError, LOCK, LOG, RECOVERED, find_base, find_charter, identity_before,
    read_charter, recovery_directory,
};
use super::identity::{Identity, IdentityError, IdentityFile, NAME, Stage};
use super::log_store::{LogError, LogOptions};
use super::lost_history::lost_history;
use super::snapshot_file::SnapshotError;
use crate::founding::{Charter, ClusterId};
use crate::node::{
    Boot, Configuration, ConfigurationError, Incarnation, Member, NodeId, Position, Term, Voter,
};
use crate::state_machine::{StateMachine, Undecodable};
use harvest::{Ground, Harvest};
use target::Target;

/// Why a directory was not recovered. Nothing that counts was changed.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// It is no server's.
    #[error("{path}: this is no server's data directory")]
    NoServer {
        /// The directory.
        path: String,
    },
    /// It belongs to another cluster than was said.
    #[error("{path}: this directory belongs to cluster {found:?}, not to {given:?}")]
    OtherCluster {
        /// The directory.
        path: String,
        /// Its cluster.
        found: String,
        /// The one that was named.
        given: String,
    },
    /// Something that the new cluster needs cannot be read in it.
    #[error("{path}: {what} cannot be read in it; say it: {option}")]
    Unknown {
        /// The directory.
        path: String,
        /// What it is.
        what: &'static str,
        /// How it is said.
        option: &'static str,
    },
    /// It never had anything to serve.
    #[error(
        "{path}: {id} was not yet a working member of any cluster, so this directory holds nothing"
    )]
    NeverServed {
        /// The directory.
        path: String,
        /// The server.
        id: NodeId,
    },
    /// All that its cluster needs is in it.
    #[error("{path}: {id} is the only voter of its cluster and its directory is whole")]
    NotNeeded {
        /// The directory.
        path: String,
        /// The server.
        id: NodeId,
    },
    /// Nothing in it can be served.
    #[error("{path}: nothing of it can be served: {why}")]
    Nothing {
        /// The directory.
        path: String,
        /// Why.
        why: String,
    },
    /// It cannot be used or read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// An entry needs another version of this program.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// The server cannot be a cluster as it was described.
    #[error("no cluster can be made of it: {0}")]
    Members(#[from] ConfigurationError),
    /// Its log cannot be copied to be worked on.
    #[error("the log cannot be copied to be read: {0}")]
    Copy(#[from] BackupError),
}

impl From<LogError> for RescueError {
    fn from(error: LogError) -> Self {
        RescueError::Home(error.into())
    }
}

impl From<SnapshotError> for RescueError {
    fn from(error: SnapshotError) -> Self {
        RescueError::Home(error.into())
    }
}

impl From<IdentityError> for RescueError {
    fn from(error: IdentityError) -> Self {
        RescueError::Home(error.into())
    }
}

/// What the person who asks for a recovery says. What the directory says too must be the same.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The name of the cluster.
    pub cluster: Option<String>,
    /// The server, should the directory not say any more whose it is.
    pub id: Option<NodeId>,
    /// Where the server listens, if not where its cluster knew it.
    pub address: Option<String>,
}

/// What becomes of a directory that is recovered: what is there, what is not known, what is lost.
#[derive(Clone, Debug)]
pub struct Account {
    /// The server as it was, if its identity can be read.
    pub before: Option<Member>,
    /// The server as it will be.
    pub server: Member,
    /// Where it listens.
    pub address: String,
    /// The name of the cluster, the old one's and the new one's.
    pub cluster: String,
    /// The id of the old cluster, if it can be read.
    pub old_cluster: Option<ClusterId>,
    /// The id of the new one.
    pub new_cluster: ClusterId,
    /// Who belonged to the old cluster, as far as this directory knows.
    pub members: Configuration,
    /// The newest snapshot that can be read. All it stands for was committed.
    pub snapshot: Option<Position>,
    /// The position before the log and its end, if there is a log.
    pub log: Option<(Position, Position)>,
    /// The highest term that this server took part in, as far as is known.
    pub term: Term,
    /// The last entry of which the effect is kept.
    pub kept: Position,
    /// What of this directory is lost, and why, in words.
    pub losses: Vec<String>,
    /// Where what is replaced stays.
    pub old_path: String,
    /// Where the new one lies.
    pub new_path: String,
}

/// A new cluster that was made and does not count yet. Nobody else can use the directory meanwhile.
#[derive(Debug)]
pub struct Rescue {
    disk: Arc<dyn Disk>,
    target: Target,
    identity: Identity,
    account: Account,
    _lock: Arc<wal::Lock>,
}

impl Rescue {
    /// Makes a cluster of one server out of a directory, as whatever can be served of it, and
    /// changes nothing of what is there. `empty` makes the state machine that the log's first entry
    /// is applied to, and `draw` the server's new incarnation.
    ///
    /// # Errors
    /// The directory is in use or no server's, what was said contradicts it, or nothing in it can
    /// be served. What was made by then is removed.
    pub fn prepare<M: StateMachine>(
        disk: Arc<dyn Disk>,
        wanted: &Wanted,
        options: &LogOptions,
        empty: impl FnOnce() -> M,
        draw: impl FnOnce() -> Incarnation,
    ) -> Result<Self, RescueError> {
        refuse_if_nobodys(disk.as_ref())?;
        let lock = Arc::new(lock_home(disk.as_ref())?);
        let old = Old::find(&disk, wanted)?;
        let target = Target::open(&disk, old.recovery)?;
        let ground =
            Ground { base: Arc::clone(&old.base), scratch: &target.scratch, lock: &lock, options };
        let made = old.make_new(&ground, &target, wanted, empty, draw);
        match made {
            Ok((identity, account)) => {
                Ok(Self { disk: Arc::clone(&disk), target, identity, account, _lock: lock })
            }
            Err(error) => {
                // The error is what counts, and the next attempt clears it as well.
                let _ = target.clear();
                Err(error)
            }
        }
    }

    /// What becomes of the directory if this is carried out.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Makes the new cluster count. From here on the old one has lost this server, for good.
    ///
    /// # Errors
    /// The disk failed. Either the old or the new cluster counts; asking again tells.
    pub fn carry_out(self) -> Result<Account, RescueError> {
        mark_recovery(self.disk.as_ref(), self.identity.recovery)
            .map_err(|source| HomeError::Io { path: self.disk.path(NAME), source })?;
        IdentityFile::put(self.disk.as_ref(), self.identity)?;
        Ok(self.account)
    }

    /// Removes what was made.
    ///
    /// # Errors
    /// The disk failed. What is left is of no harm.
    pub fn abandon(self) -> Result<(), RescueError> {
        Ok(self.target.clear()?)
    }
}

/// Marks that a recovery is about to count, with a copy of the identity that it replaces, as far as
/// that can be read.
fn mark_recovery(disk: &dyn Disk, recovery: u32) -> io::Result<()> {
    let copy = identity_before(recovery);
    if disk.list()?.contains(&copy) {
        disk.remove(&copy)?;
    }
    let mut bytes = Vec::new();
    if IdentityFile::exists(disk)? {
        let old = disk.open(NAME)?;
        bytes.resize(usize::try_from(old.len()?).unwrap_or(0), 0);
        if wal::disk::read_exact_at(old.as_ref(), &mut bytes, 0).is_err() {
            bytes.clear();
        }
    }
    if bytes.is_empty() {
        bytes.extend_from_slice(NO_IDENTITY);
    }
    let new = disk.create(&copy)?;
    wal::disk::write_all_at(new.as_ref(), &bytes, 0)?;
    new.sync_all()?;
    disk.sync()
}

/// What a mark says where there was no identity to keep.
const NO_IDENTITY: &[u8] = b"the identity that this recovery replaced was gone\n";

/// A lock is made where there is none, so this is asked before.
fn refuse_if_nobodys(disk: &dyn Disk) -> Result<(), RescueError> {
    let path = disk.path("");
    let names = disk.list().map_err(|source| HomeError::Io { path: path.clone(), source })?;
    let directories = disk.subdirectories();
    let directories = directories.map_err(|source| HomeError::Io { path: path.clone(), source })?;
    let is_servers =
        |name: &String| [LOCK, NAME, CHARTER].contains(&name.as_str()) || name.starts_with(BEFORE);
    let was_recovered = directories.iter().any(|name| name.starts_with(RECOVERED));
    match was_recovered || names.iter().any(is_servers) {
        true => Ok(()),
        false => Err(RescueError::NoServer { path }),
    }
}

/// What the directory says of its server and its cluster.
struct Old {
    path: String,
    base: Arc<dyn Disk>,
    id: NodeId,
    member: Option<Member>,
    charter: Option<Charter>,
    cluster: String,
    /// The recovery that this is.
    recovery: u32,
    losses: Vec<String>,
}

impl Old {
    fn find(disk: &Arc<dyn Disk>, wanted: &Wanted) -> Result<Self, RescueError> {
        let path = disk.path("");
        let unknown = |what, option| RescueError::Unknown { path: path.clone(), what, option };
        let mut losses = Vec::new();
        let identity = find_identity(disk.as_ref(), &mut losses)?;
        let recoveries = find_recoveries(disk.as_ref())?;
        let base = match &identity {
            Some(_) => find_base(disk.as_ref())?,
            None => recoveries.latest_base(disk, &mut losses)?,
        };
        let base = base.unwrap_or_else(|| Arc::clone(disk));
        let member = identity.as_ref().map(|identity| identity.member);
        let id = match (member, wanted.id) {
            (Some(member), Some(wanted)) if member.id != wanted => {
                let found = member.id;
                return Err(HomeError::OtherServer { path, found, wanted }.into());
            }
            (member, wanted) => member.map(|member| member.id).or(wanted),
        };
        let id = id.ok_or_else(|| unknown("the name of its server", "--id ID"))?;
        let stage = identity.as_ref().map(|identity| identity.stage);
        if stage.is_some_and(|stage| !matches!(stage, Stage::Founded { .. })) {
            return Err(RescueError::NeverServed { path, id });
        }
        let charter = match stage {
            Some(stage) => find_charter(base.as_ref(), stage),
            None => read_charter(base.as_ref()).map(Some),
        };
        let charter = note(charter, &mut losses)?.flatten();
        let cluster = match (&charter, &wanted.cluster) {
            (Some(charter), Some(given)) if charter.name != *given => {
                let (found, given) = (charter.name.clone(), given.clone());
                return Err(RescueError::OtherCluster { path, found, given });
            }
            (Some(charter), _) => Some(charter.name.clone()),
            (None, given) => given.clone(),
        };
        let cluster =
            cluster.ok_or_else(|| unknown("the name of its cluster", "--cluster NAME"))?;
        note_forgotten(base.as_ref(), &mut losses)?;
        // Without an identity nothing says what counts, so nothing that is there is touched.
        let latest = identity.map_or(recoveries.highest, |identity| identity.recovery);
        let recovery = latest.saturating_add(1);
        Ok(Self { path, base, id, member, charter, cluster, recovery, losses })
    }

    /// Makes what the new cluster starts with, all of it durable.
    fn make_new<M: StateMachine>(
        mut self,
        ground: &Ground<'_>,
        target: &Target,
        wanted: &Wanted,
        empty: impl FnOnce() -> M,
        draw: impl FnOnce() -> Incarnation,
    ) -> Result<(Identity, Account), RescueError> {
        target.clear()?;
        let founders = self.charter.as_ref().map(|charter| charter.configuration.clone());
        let founders = founders.unwrap_or_default();
        let why = |why| RescueError::Nothing { path: self.path.clone(), why };
        let harvest: Harvest<M> = ground.harvest(founders, empty, why)?;
        self.losses.extend(harvest.losses.iter().cloned());
        self.refuse_if_not_needed(&harvest.members)?;
        let address = wanted.address.clone();
        let address = address.or_else(|| harvest.members.address_of(self.id).map(str::to_string));
        let address = address.ok_or_else(|| RescueError::Unknown {
            path: self.path.clone(),
            what: "where its server listens",
            option: "--addr HOST:PORT",
        })?;

        let server = Member { id: self.id, incarnation: draw() };
        let voters = vec![Voter { member: server, address: address.clone() }];
        let configuration = Configuration::new(voters)?;
        let charter = Charter { name: self.cluster.clone(), configuration };
        let new_cluster = charter.cluster_id();
        let Harvest { machine, position, snapshot, log, term, members, .. } = harvest;
        let log_id = target.write(&charter, machine, position, term, ground)?;

        let stage = Stage::Founded { cluster: new_cluster, log: log_id };
        let (boot, recovery) = (Boot(0), self.recovery);
        let identity = Identity { member: server, boot, nonce: 0, stage, recovery };
        let account = Account {
            before: self.member,
            server,
            address,
            cluster: self.cluster,
            old_cluster: self.charter.as_ref().map(Charter::cluster_id),
            new_cluster,
            members,
            snapshot,
            log,
            term,
            kept: position,
            losses: self.losses,
            old_path: self.base.path(""),
            new_path: target.path(),
        };
        Ok((identity, account))
    }

    /// A cluster of this very server, and nothing lost: a start serves all that a recovery would.
    fn refuse_if_not_needed(&self, members: &Configuration) -> Result<(), RescueError> {
        let is_alone = !members.is_joint()
            && matches!(members.voters(), [voter] if Some(voter.member) == self.member);
        match is_alone && self.losses.is_empty() {
            true => Err(RescueError::NotNeeded { path: self.path.clone(), id: self.id }),
            false => Ok(()),
        }
    }
}

/// Who the server is, if that can be read.
fn find_identity(
    disk: &dyn Disk,
    losses: &mut Vec<String>,
) -> Result<Option<Identity>, RescueError> {
    let path = disk.path("");
    let io = |source| HomeError::Io { path: path.clone(), source };
    if IdentityFile::exists(disk).map_err(io)? {
        match IdentityFile::open(disk) {
            Ok(file) => return Ok(Some(file.identity().clone())),
            Err(error @ IdentityError::Damaged { .. }) => losses.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
    } else {
        losses.push(format!("{}: its identity is gone", disk.path(NAME)));
    }
    Ok(None)
}

/// What there is of earlier recoveries.
struct Recoveries {
    /// The highest number of any, carried out or not; 0 if there is none.
    highest: u32,
    /// Those that have a directory, in ascending order.
    made: Vec<u32>,
    /// Those that were about to count, in ascending order.
    marked: Vec<u32>,
}

fn find_recoveries(disk: &dyn Disk) -> Result<Recoveries, RescueError> {
    let io = |source| HomeError::Io { path: disk.path(""), source };
    let numbers = |names: Vec<String>, prefix: &str| -> Vec<u32> {
        let number = |name: &String| name.strip_prefix(prefix)?.parse().ok();
        let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    };
    let made = numbers(disk.subdirectories().map_err(io)?, RECOVERED);
    let marked = numbers(disk.list().map_err(io)?, BEFORE);
    let highest = made.iter().chain(&marked).copied().max().unwrap_or_default();
    Ok(Recoveries { highest, made, marked })
}

impl Recoveries {
    /// Where everything lies that counted last, as far as can be told without the identity: in the
    /// latest recovery that was about to count. If no mark is left, the latest that is whole.
    fn latest_base(
        &self,
        disk: &Arc<dyn Disk>,
        losses: &mut Vec<String>,
    ) -> Result<Option<Arc<dyn Disk>>, RescueError> {
        let open = |number: u32| -> Result<Arc<dyn Disk>, HomeError> {
            let name = recovery_directory(number);
            disk.subdirectory(&name)
                .map_err(|source| HomeError::Io { path: disk.path(&name), source })
        };
        let latest = match self.marked.last() {
            Some(marked) if !self.made.contains(marked) => {
                let why = format!("{} is gone", disk.path(&recovery_directory(*marked)));
                return Err(RescueError::Nothing { path: disk.path(""), why });
            }
            Some(marked) => Some((*marked, open(*marked)?)),
            None => {
                let mut whole = None;
                for number in self.made.iter().rev().copied() {
                    let base = open(number)?;
                    let names = base
                        .list()
                        .map_err(|source| HomeError::Io { path: base.path(""), source })?;
                    // It is written last.
                    if names.iter().any(|name| name == CHARTER) {
                        whole = Some((number, base));
                        break;
                    }
                }
                whole
            }
        };
        Ok(latest.map(|(number, base)| {
            losses.push(format!(
                "{}: nothing says any more which recovery counts; the latest is recovered",
                disk.path(&recovery_directory(number))
            ));
            base
        }))
    }
}

/// What an earlier repair gave up.
fn note_forgotten(base: &dyn Disk, losses: &mut Vec<String>) -> Result<(), RescueError> {
    let io = |source| HomeError::Io { path: base.path(LOG), source };
    let log = base.subdirectory(LOG).map_err(io)?;
    for disk in [base, log.as_ref()] {
        if let Some(account) = lost_history(disk).map_err(io)? {
            let account = account.lines().next().unwrap_or_default();
            losses.push(format!("a repair gave up a part of its log ({account})"));
        }
    }
    Ok(())
}

/// Notes what is lost, and goes on; any other error ends the recovery.
fn note<T>(
    found: Result<T, HomeError>,
    losses: &mut Vec<String>,
) -> Result<Option<T>, RescueError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(HomeError::LostHistory { path, what }) => {
            losses.push(format!("{path}: {what}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
