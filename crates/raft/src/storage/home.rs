//! A server's data directory: whose it is, and the durable steps from an empty directory to a
//! member of a founded cluster. Opening never creates what should be there: a founded server
//! without a log, or a log without an identity, lost something and must not pretend otherwise.

use std::io;
use std::sync::Arc;

use wal::{Disk, File, LogId};

use super::accused::{self, Accused};
use super::boots::{self, Boots};
use super::directory::{lock_home, replace_file};
use super::identity::{Identity, IdentityError, IdentityFile, Stage};
use super::log_store::{LogError, LogOptions, LogStore};
use super::lost_history::{lost_history, note_lost_history};
use super::snapshot_file::SnapshotError;
use super::suspect::{Suspects, clear_suspects, suspects};
use crate::founding::Charter;
use crate::node::{Incarnation, Member, NodeId, Term};

pub(super) const LOCK: &str = "LOCK";
pub(super) const CHARTER: &str = "founding";
/// What the names of identities begin with that a recovery has replaced.
pub(super) const BEFORE: &str = "identity.before-";
/// What the names of directories begin with that hold what counts since a recovery.
pub(super) const RECOVERED: &str = "recovered-";
pub(super) const LOG: &str = "log";
pub(super) const SNAPSHOTS: &str = "snapshots";

/// Charters are small; a longer file is not one.
const CHARTER_BYTES_MAX: u64 = 1 << 20;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// Another process runs on it.
    #[error(
        "{path}: another server runs on this data directory, or a tool reads it; stop that first"
    )]
    InUse {
        /// The lock.
        path: String,
    },
    /// It belongs to another server.
    #[error(
        "{path}: this data directory belongs to server {found}, not {wanted}; start it as \
         {found}, or give {wanted} a directory of its own"
    )]
    OtherServer {
        /// The directory.
        path: String,
        /// Whose it is.
        found: NodeId,
        /// Who wanted it.
        wanted: NodeId,
    },
    /// It belongs to another cluster.
    #[error(
        "{path}: this data directory belongs to cluster {found:?}, but the configuration names \
         {wanted:?}; use that cluster's configuration, or another directory"
    )]
    OtherCluster {
        /// The directory.
        path: String,
        /// Its cluster.
        found: String,
        /// The cluster in the file.
        wanted: String,
    },
    /// Who this server is cannot be read or written.
    #[error(transparent)]
    Identity(IdentityError),
    /// Something that a promise may rest on is gone: who this server is, what it agreed to, or a
    /// part of its log. However far it caught up, it could still vote twice in one term, or deny
    /// an entry that it acknowledged. So it is as if wiped, and comes back only as another member.
    #[error(
        "{path}: {what}; what this server promised is not known, so it must neither vote nor \
         acknowledge, and does not start: it has lost history, and comes back only as a new \
         member with an empty directory"
    )]
    LostHistory {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// Another server takes the directory for an older copy, and nobody else has said so yet.
    #[error(
        "{what}; no second member says so yet. Until one does, this server serves nobody and does \
         not vote: start it to have the others asked. If the directory was never put back from a \
         copy, find out who answers there, and remove {path}"
    )]
    Accused {
        /// The file that keeps it from taking part.
        path: String,
        /// Who says what.
        what: String,
    },
    /// The log cannot be used.
    #[error(transparent)]
    Log(LogError),
    /// The snapshots cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl From<IdentityError> for HomeError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Damaged { path } => {
                let what = "both copies of this server's identity are damaged".to_string();
                HomeError::LostHistory { path, what }
            }
            error => HomeError::Identity(error),
        }
    }
}

impl From<LogError> for HomeError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Open(wal::OpenError::Corrupt {
                segment: path, offset, damage, lost, ..
            }) => {
                let what = format!("damaged at offset {offset}: {damage}; lost: {lost}");
                HomeError::LostHistory { path, what }
            }
            LogError::Open(wal::OpenError::HalfSalvaged { path }) => {
                let what = "a repair that gives up a part of its log was interrupted".to_string();
                HomeError::LostHistory { path, what }
            }
            LogError::Open(wal::OpenError::NoLog { path }) => {
                let what = "there is an identity, but the log is gone".to_string();
                HomeError::LostHistory { path, what }
            }
            LogError::Open(wal::OpenError::OtherLog { path, found, expected }) => {
                HomeError::LostHistory { path, what: other_log(found, expected) }
            }
            error => HomeError::Log(error),
        }
    }
}

/// What to say of a log that is not the server's own.
pub(super) fn other_log(found: LogId, expected: LogId) -> String {
    format!(
        "it holds the log {found}, but this server's own is {expected}: the directory was \
         exchanged, or copied from another server; put the right one back, if there is one"
    )
}

impl HomeError {
    /// Whether this is damage to the data, rather than a mistake or a failure of the machine.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            HomeError::LostHistory { .. } | HomeError::Accused { .. } => true,
            HomeError::Log(error) => error.is_damage(),
            _ => false,
        }
    }
}

/// An open data directory; nobody else can open it meanwhile.
#[derive(Debug)]
pub struct Home {
    /// Where everything but lock and identity lies.
    base: Arc<dyn Disk>,
    identity: IdentityFile,
    /// What the identity's stage speaks of.
    charter: Option<Charter>,
    boots: Boots,
    /// Who takes this directory for an older copy; `None` if nobody does.
    accused: Option<Accused>,
    lock: Arc<wal::Lock>,
}

impl Home {
    /// Opens the directory of server `id` in the cluster called `name`, or in whichever it belongs
    /// to. An empty one becomes that server's, with the incarnation that `draw` gives. Each opening
    /// that succeeds counts as a boot, with another number that `draw` gives, by which it is told
    /// from one of an older copy; one that fails leaves the directory as it was.
    ///
    /// # Errors
    /// The directory is in use, belongs to another server or cluster, or is damaged.
    pub fn open<'a>(
        disk: Arc<dyn Disk>,
        id: NodeId,
        name: impl Into<Option<&'a str>>,
        mut draw: impl FnMut() -> Incarnation,
    ) -> Result<Self, HomeError> {
        let lock = lock_home(disk.as_ref())?;
        let base = find_base(disk.as_ref())?.unwrap_or_else(|| Arc::clone(&disk));
        let log = base.subdirectory(LOG);
        let log = log.map_err(|source| HomeError::Io { path: base.path(LOG), source })?;
        refuse_if_noted(base.as_ref(), Some(log.as_ref()))?;
        let mut identity = match find_identity(disk.as_ref(), Some(log.as_ref()))? {
            Some(identity) => identity,
            None => IdentityFile::create(disk.as_ref(), Member { id, incarnation: draw() })?,
        };
        let found = identity.identity().member.id;
        if found != id {
            return Err(HomeError::OtherServer { path: disk.path(""), found, wanted: id });
        }
        let charter = find_charter(base.as_ref(), identity.identity().stage)?;
        if let (Some(charter), Some(wanted)) = (&charter, name.into())
            && charter.name != wanted
        {
            let (found, wanted) = (charter.name.clone(), wanted.to_string());
            return Err(HomeError::OtherCluster { path: disk.path(""), found, wanted });
        }
        let accused = accused::read(base.as_ref())
            .map_err(|source| HomeError::Io { path: base.path(accused::NAME), source })?;
        // From here on it is the right directory: this start counts.
        identity.count_start(draw().0)?;
        forget_unfinished_recovery(disk.as_ref(), identity.identity().recovery)?;
        let boots = Boots::open(base.as_ref());
        Ok(Self { base, identity, charter, boots, accused, lock: Arc::new(lock) })
    }

    /// Who this server is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.identity.identity()
    }

    /// Whether this server is a member of a cluster that exists, and has a log.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        matches!(self.identity().stage, Stage::Founded { .. })
    }

    /// Whether one of the two copies of the identity was damaged when it was opened. Nothing was
    /// lost with it, and both are whole again.
    #[must_use]
    pub fn identity_was_mended(&self) -> bool {
        self.identity.was_mended()
    }

    /// Which starts of other servers were seen.
    #[must_use]
    pub fn boots(&self) -> &Boots {
        &self.boots
    }

    /// Which starts of other servers were seen, to note another.
    pub fn boots_mut(&mut self) -> &mut Boots {
        &mut self.boots
    }

    /// Makes durable that this directory is an older copy of what it was: others have seen a later
    /// start. No later start of it takes part; what it promised in between is not known.
    ///
    /// # Errors
    /// The disk failed.
    pub fn note_rolled_back(&self, account: &str) -> Result<HomeError, HomeError> {
        let path = self.base.path("");
        let io = |source| HomeError::Io { path: path.clone(), source };
        note_lost_history(self.base.as_ref(), account).map_err(io)?;
        Ok(HomeError::LostHistory { path: self.base.path(""), what: account.to_string() })
    }

    /// Who takes this directory for an older copy of what it was, though no second member has said
    /// so yet. As long as somebody does, its server takes no part.
    #[must_use]
    pub fn accused(&self) -> Option<&Accused> {
        self.accused.as_ref()
    }

    /// Another server says that this directory, in which `term` is durable, is an older copy. The
    /// word of two members settles it, see [`note_rolled_back`](Self::note_rolled_back), and that
    /// of one where there is no other; before that it is noted, durably, and this server takes no
    /// part.
    ///
    /// # Errors
    /// The disk failed.
    pub fn note_accusation(
        &mut self,
        by: NodeId,
        account: &str,
        term: Term,
        others: usize,
    ) -> Result<HomeError, HomeError> {
        let found = Accused { term: Some(term), ..Accused::default() };
        let accused = self.accused.get_or_insert(found);
        accused.hear(by, account);
        let path = self.base.path(accused::NAME);
        let io = |source| HomeError::Io { path: path.clone(), source };
        accused::write(self.base.as_ref(), accused).map_err(io)?;
        let what = format!("{by} says: {account}");
        if accused.accusations.len() >= others.min(2) {
            return self.note_rolled_back(&what);
        }
        Ok(HomeError::Accused { path, what })
    }

    /// What the cluster was founded with that this server agreed to, belongs to, or was taken into.
    #[must_use]
    pub fn charter(&self) -> Option<&Charter> {
        self.charter.as_ref()
    }

    /// Makes durable that this server agrees to `charter`, and to no other, ever.
    ///
    /// # Errors
    /// The disk failed.
    ///
    /// # Panics
    /// It has agreed to one, or belongs to a cluster.
    pub fn agree(&mut self, charter: Charter) -> Result<(), HomeError> {
        assert!(
            self.identity().stage == Stage::Drawn,
            "a server agrees to one charter in the life of its directory"
        );
        write_charter(self.base.as_ref(), &charter)?;
        self.identity.set_stage(Stage::Agreed(charter.cluster_id()))?;
        self.charter = Some(charter);
        Ok(())
    }

    /// Writes the first entry of the log and then, durably, that there is a log.
    ///
    /// # Errors
    /// The disk failed.
    pub fn found(&mut self, charter: Charter, options: &LogOptions) -> Result<(), HomeError> {
        let cluster = charter.cluster_id();
        if self.charter.as_ref() != Some(&charter) {
            write_charter(self.base.as_ref(), &charter)?;
        }
        let log = self.clear_log(options)?;
        self.clear_snapshots()?;
        let log = LogStore::found(log, options, &charter.configuration)?;
        self.identity.set_stage(Stage::Founded { cluster, log })?;
        self.charter = Some(charter);
        Ok(())
    }

    /// Makes durable that this server belongs to the cluster of `charter`, whose configuration
    /// lists it, and then that it has a log, an empty one. Wherever this is interrupted, it is
    /// begun again: nothing was promised before the log is there.
    ///
    /// # Errors
    /// The disk failed.
    ///
    /// # Panics
    /// It has agreed to the charter of another cluster, or belongs to one.
    pub fn join(&mut self, charter: Charter, options: &LogOptions) -> Result<(), HomeError> {
        let cluster = charter.cluster_id();
        let is_free = match self.identity().stage {
            Stage::Drawn => true,
            Stage::Agreed(agreed) | Stage::Admitted(agreed) => agreed == cluster,
            Stage::Founded { .. } => false,
        };
        assert!(is_free, "a directory belongs to one cluster for its whole life");
        if self.identity().stage != Stage::Admitted(cluster) {
            if self.charter.as_ref() != Some(&charter) {
                write_charter(self.base.as_ref(), &charter)?;
            }
            self.identity.set_stage(Stage::Admitted(cluster))?;
            self.charter = Some(charter);
        }
        let log = self.clear_log(options)?;
        self.clear_snapshots()?;
        let log = LogStore::create(log, options)?;
        self.identity.set_stage(Stage::Founded { cluster, log })?;
        Ok(())
    }

    /// The identity says that there is no log yet. What a crash left of making one goes; a log
    /// that was used says that the identity is wrong.
    fn clear_log(&self, options: &LogOptions) -> Result<Arc<dyn Disk>, HomeError> {
        let log = self.log_disk()?;
        let path = self.base.path(LOG);
        let io = |source| HomeError::Io { path: path.clone(), source };
        if wal::Wal::exists(log.as_ref()).map_err(io)? && LogStore::was_used(&log, options)? {
            let what = "there is a log, but the identity file says that none was made".to_string();
            return Err(HomeError::LostHistory { path, what });
        }
        for leftover in log.list().map_err(io)? {
            log.remove(&leftover).map_err(io)?;
        }
        log.sync().map_err(io)?;
        Ok(log)
    }

    /// Before there is a log nothing rests on a snapshot: one that is there belongs to another life
    /// of this server, or to another server, and the next start would take it for this one's.
    fn clear_snapshots(&self) -> Result<(), HomeError> {
        let snapshots = self.snapshot_disk()?;
        let clear = || -> io::Result<()> {
            let names = snapshots.list()?;
            names.iter().try_for_each(|name| snapshots.remove(name))?;
            if names.is_empty() { Ok(()) } else { snapshots.sync() }
        };
        clear().map_err(|source| HomeError::Io { path: self.base.path(SNAPSHOTS), source })
    }

    pub(super) fn log_disk(&self) -> Result<Arc<dyn Disk>, HomeError> {
        let io = |source| HomeError::Io { path: self.base.path(LOG), source };
        self.base.subdirectory(LOG).map_err(io)
    }

    pub(super) fn snapshot_disk(&self) -> Result<Arc<dyn Disk>, HomeError> {
        let io = |source| HomeError::Io { path: self.base.path(SNAPSHOTS), source };
        self.base.subdirectory(SNAPSHOTS).map_err(io)
    }

    /// Where it is noted what could not be read.
    pub(super) fn notes(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.base)
    }

    /// What the last life of this server could not read.
    pub(super) fn suspects(&self) -> Result<Suspects, HomeError> {
        let io = |source| HomeError::Io { path: self.base.path(""), source };
        suspects(self.base.as_ref()).map_err(io)
    }

    pub(super) fn clear_suspects(&self) -> Result<(), HomeError> {
        let io = |source| HomeError::Io { path: self.base.path(""), source };
        clear_suspects(self.base.as_ref()).map_err(io)
    }

    /// The path of something in the directory.
    pub(super) fn path(&self, name: &str) -> String {
        self.base.path(name)
    }

    /// Held while anything may still touch the directory.
    pub(super) fn lock(&self) -> &Arc<wal::Lock> {
        &self.lock
    }
}

/// Writes a charter, replacing the file whole.
pub(super) fn write_charter(disk: &dyn Disk, charter: &Charter) -> Result<(), HomeError> {
    let written = replace_file(disk, CHARTER, |file| {
        let mut bytes = postcard::to_stdvec(charter).map_err(io::Error::other)?;
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        if bytes.len() as u64 > CHARTER_BYTES_MAX {
            let why = "what the cluster is said to have been founded with is too long to be true";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        wal::disk::write_all_at(file, &bytes, 0)
    });
    written.map(drop).map_err(|source| HomeError::Io { path: disk.path(CHARTER), source })
}

/// The name of the directory that holds what counts since a recovery.
pub(super) fn recovery_directory(recovery: u32) -> String {
    format!("{RECOVERED}{recovery}")
}

/// A recovery that was marked as one that may count, and then interrupted, does not: what it was
/// made of goes on from here.
fn forget_unfinished_recovery(disk: &dyn Disk, recovery: u32) -> Result<(), HomeError> {
    let forget = || -> io::Result<()> {
        let unfinished = identity_before(recovery.saturating_add(1));
        if disk.list()?.contains(&unfinished) {
            disk.remove(&unfinished)?;
            disk.sync()?;
        }
        Ok(())
    };
    forget().map_err(|source| HomeError::Io { path: disk.path(""), source })
}

/// The name under which the identity is kept that a recovery replaces.
pub(super) fn identity_before(recovery: u32) -> String {
    format!("{BEFORE}{recovery}")
}

/// Where everything but lock and identity lies: `None` if beside them, as in every directory that
/// was never recovered. Where the identity cannot be read, nothing says otherwise.
pub(super) fn find_base(disk: &dyn Disk) -> Result<Option<Arc<dyn Disk>>, HomeError> {
    let io = |path: &str| {
        let path = disk.path(path);
        move |source| HomeError::Io { path, source }
    };
    if !IdentityFile::exists(disk).map_err(io(""))? {
        return Ok(None);
    }
    let recovery = match IdentityFile::open(disk) {
        Ok(file) => file.identity().recovery,
        Err(IdentityError::Damaged { .. }) => 0,
        Err(error) => return Err(error.into()),
    };
    if recovery == 0 {
        return Ok(None);
    }
    let name = recovery_directory(recovery);
    match disk.subdirectory(&name) {
        Ok(base) => Ok(Some(base)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = "the identity says that this directory counts, and it is gone".to_string();
            Err(HomeError::LostHistory { path: disk.path(&name), what })
        }
        Err(source) => Err(io(&name)(source)),
    }
}

/// A directory whose log was made to open again without what it lost looks whole, but for a note,
/// in it or in that of its log.
///
/// # Errors
/// [`HomeError::LostHistory`] if it is there; or the disk failed.
pub fn refuse_if_noted(disk: &dyn Disk, log: Option<&dyn Disk>) -> Result<(), HomeError> {
    for disk in [Some(disk), log].into_iter().flatten() {
        let path = disk.path("");
        let note =
            lost_history(disk).map_err(|source| HomeError::Io { path: path.clone(), source })?;
        if let Some(account) = note {
            let account = account.lines().next().unwrap_or_default();
            let what = format!(
                "a repair gave up a part of its log, or it was found to be rolled back ({account})"
            );
            return Err(HomeError::LostHistory { path, what });
        }
    }
    Ok(())
}

/// Who the server is whose directory this is; `None` if nothing in it says that it is anybody's.
pub(super) fn find_identity(
    disk: &dyn Disk,
    log: Option<&dyn Disk>,
) -> Result<Option<IdentityFile>, HomeError> {
    let io = |source| HomeError::Io { path: disk.path(""), source };
    if IdentityFile::exists(disk).map_err(io)? {
        return Ok(Some(IdentityFile::open(disk)?));
    }
    let names = disk.list().map_err(io)?;
    let directories = disk.subdirectories().map_err(io)?;
    let has_file = |is_it: fn(&str) -> bool| names.iter().any(|name| is_it(name));
    let has_snapshots = || -> io::Result<bool> {
        let is_there = directories.iter().any(|name| name == SNAPSHOTS);
        Ok(is_there && !disk.subdirectory(SNAPSHOTS)?.list()?.is_empty())
    };
    // Each is made after the identity, so it has been there.
    let what = if log.map_or(Ok(false), wal::Wal::exists).map_err(io)? {
        "a log"
    } else if has_file(|name| name == CHARTER) {
        "a founding charter"
    } else if has_file(|name| name == boots::NAME) {
        "a file of what was seen of other servers"
    } else if has_file(|name| name.starts_with(BEFORE))
        || directories.iter().any(|name| name.starts_with(RECOVERED))
    {
        "a recovery"
    } else if has_snapshots().map_err(io)? {
        "a snapshot"
    } else {
        return Ok(None);
    };
    let what = format!("there is {what} but no identity file");
    Err(HomeError::LostHistory { path: disk.path(""), what })
}

/// What a server agreed to, which must be what its identity says that it agreed to.
pub(super) fn find_charter(disk: &dyn Disk, stage: Stage) -> Result<Option<Charter>, HomeError> {
    let cluster = match stage {
        Stage::Drawn => return Ok(None),
        Stage::Agreed(cluster) | Stage::Admitted(cluster) => cluster,
        Stage::Founded { cluster, .. } => cluster,
    };
    let charter = read_charter(disk)?;
    if charter.cluster_id() != cluster {
        let what = "it is not what this server agreed to".to_string();
        return Err(HomeError::LostHistory { path: disk.path(CHARTER), what });
    }
    Ok(Some(charter))
}

pub(super) fn read_charter(disk: &dyn Disk) -> Result<Charter, HomeError> {
    let path = disk.path(CHARTER);
    let damaged =
        |what: &str| HomeError::LostHistory { path: path.clone(), what: what.to_string() };
    let file = disk.open(CHARTER).map_err(|error| damaged(&error.to_string()))?;
    let read = |file: &dyn File| -> io::Result<Vec<u8>> {
        let length = file.len()?.min(CHARTER_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        wal::disk::read_exact_at(file, &mut bytes, 0)?;
        Ok(bytes)
    };
    let bytes = read(file.as_ref()).map_err(|error| damaged(&error.to_string()))?;
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("it is empty"))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(damaged("its checksum is wrong"));
    }
    postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))
}
