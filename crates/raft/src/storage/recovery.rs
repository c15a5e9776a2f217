//! A start: snapshot and log are read and put together, so that the server goes on exactly where
//! its disk says that it stopped.
//!
//! The newest snapshot that is whole gives the state, and the log behind it is verified entry by
//! entry. A received snapshot may be ahead of the log, or contradict it: the server stopped between
//! taking the file in and telling its log. That install is finished here. A log that begins behind
//! every snapshot that can be read has lost the state it stands on, and nothing else.

use std::sync::Arc;

use super::home::{Home, HomeError};
use super::identity::{Identity, Stage};
use super::log_store::{Basis, LogError, LogOptions, LogStore, Opened};
use super::snapshot_file::{Head, SnapshotError};
use super::snapshot_store::{Origin, SnapshotStore, Stored};
use super::suspect::Suspects;
use crate::node::{Boot, Configuration, DurableState, Index, MachineState, Member, SnapshotId};
use crate::state_machine::StateMachine;

/// What a founded server starts from.
pub struct Recovered<M> {
    /// Whose it is.
    pub member: Member,
    /// The start that this is.
    pub boot: Boot,
    /// Its log.
    pub log: LogStore,
    /// Its snapshots.
    pub snapshots: SnapshotStore,
    /// What the node starts from.
    pub state: DurableState,
    /// The state machine; `None` if no snapshot that the log continues can be read.
    pub machine: Option<M>,
    /// What was found.
    pub opened: Opened,
    /// What was found of snapshots.
    pub found: FoundSnapshots,
}

/// What a start found of snapshots, for the people who watch.
#[derive(Clone, Debug, Default)]
pub struct FoundSnapshots {
    /// The one that the state comes from.
    pub used: Option<SnapshotId>,
    /// Those that are damaged, in words.
    pub damaged: Vec<String>,
    /// A received snapshot was ahead of the log or contradicted it: its install was finished.
    pub finished_install: bool,
}

struct Chosen<M> {
    stored: Stored,
    head: Head,
    machine: M,
}

impl Home {
    /// Reads what a founded server has on its disk, and finishes what a crash interrupted. `empty`
    /// makes the state machine that the log's first entry is applied to.
    ///
    /// # Errors
    /// There is no log, it is damaged, a newer program wrote something, or the disk failed.
    pub fn recover<M: StateMachine>(
        &self,
        options: &LogOptions,
        empty: impl FnOnce() -> M,
    ) -> Result<Recovered<M>, HomeError> {
        let snapshots = self.snapshots(options)?;
        let mut found = FoundSnapshots::default();
        let listed = self.list_snapshots(&snapshots)?;
        let chosen = choose::<M>(&snapshots, &listed, &mut found)?;
        let basis = match &chosen {
            None => Basis::Nothing,
            Some(Chosen { stored, .. }) => match stored.origin {
                Origin::Own => Basis::Own(stored.position.index),
                Origin::Received => Basis::Received(stored.position.index),
            },
        };
        let (mut log, opened) = self.open_log(options, basis)?;
        let start = log.start();
        let usable = chosen.filter(|chosen| chosen.head.id.position.index >= start.index);
        let mut state = match &usable {
            Some(chosen) => {
                let position = chosen.head.id.position;
                if !log.holds(position) {
                    self.check_ahead(chosen, options)?;
                    log.reset(position)?;
                    found.finished_install = true;
                }
                log.durable_state(options.recent_bytes_max, position.index)?
            }
            None => log.durable_state(options.recent_bytes_max, start.index)?,
        };
        self.forget_suspects(&log)?;
        found.used = usable.as_ref().map(|chosen| chosen.head.id);
        state.snapshot = found.used;
        let machine = match usable {
            Some(chosen) => {
                state.configuration = chosen.head.configuration;
                Some(chosen.machine)
            }
            None if start.index == Index(0) => {
                // The log begins with the same; should that entry be damaged, whom to ask for it
                // is still known.
                state.configuration = self.founders();
                Some(empty())
            }
            None => {
                state.machine = MachineState::Lost;
                state.configuration = self.last_known(&snapshots, &listed);
                None
            }
        };
        let Identity { member, boot, .. } = *self.identity();
        Ok(Recovered { member, boot, log, snapshots, state, machine, opened, found })
    }

    /// Opens this server's own log. Segments that could not be read before are read in full. If
    /// more than payloads of one is damaged, and a snapshot stands for all that it held, it is let
    /// go of: nothing else needs it.
    fn open_log(
        &self,
        options: &LogOptions,
        basis: Basis,
    ) -> Result<(LogStore, Opened), HomeError> {
        let mut options = options.clone();
        if let Stage::Founded { log, .. } = self.identity().stage {
            options.wal.log_id = Some(log);
        }
        let noted = self.suspects()?;
        let disk = self.log_disk()?;
        let (mut log, opened) = match LogStore::open(Arc::clone(&disk), &options, basis, &noted) {
            Err(error) if !noted.are_none() => self.open_without(&options, basis, error)?,
            opened => opened?,
        };
        log.note_suspects_in(self.notes());
        Ok((log, opened))
    }

    /// Opens the log as if nothing were suspect, and lets go of everything that the snapshot stands
    /// for. Fails with `error` if that does not help.
    fn open_without(
        &self,
        options: &LogOptions,
        basis: Basis,
        error: LogError,
    ) -> Result<(LogStore, Opened), HomeError> {
        let (Basis::Own(index) | Basis::Received(index)) = basis else { return Err(error.into()) };
        let LogError::Open(wal::OpenError::Corrupt { segment, damage, .. }) = &error else {
            return Err(error.into());
        };
        let let_go = format!("{segment}: {damage}");
        let nothing = Suspects::Segments(Vec::new());
        let (mut log, mut opened) = match LogStore::open(self.log_disk()?, options, basis, &nothing)
        {
            Ok(opened) => opened,
            // It is damaged where no snapshot helps.
            Err(_) => return Err(error.into()),
        };
        if log.start().index > index || log.last().index < index {
            return Err(error.into());
        }
        log.compact(index)?;
        log.complete()?;
        opened.let_go = Some(let_go);
        Ok((log, opened))
    }

    /// What was suspect was looked at. The note stays for as long as anything is damaged: it is put
    /// back only after this start, and another must know of it too.
    fn forget_suspects(&self, log: &LogStore) -> Result<(), HomeError> {
        if log.is_damaged() { Ok(()) } else { self.clear_suspects() }
    }

    fn snapshots(&self, options: &LogOptions) -> Result<SnapshotStore, HomeError> {
        let lock = Arc::clone(self.lock());
        Ok(SnapshotStore::new(self.snapshot_disk()?, lock, options.snapshots))
    }

    fn list_snapshots(&self, snapshots: &SnapshotStore) -> Result<Vec<Stored>, HomeError> {
        let io = |source| HomeError::Io { path: self.path(super::home::SNAPSHOTS), source };
        snapshots.tidy().map_err(io)?;
        snapshots.list().map_err(io)
    }

    /// Only a received snapshot, or one of a server that never syncs its log, may be ahead of the
    /// log: an own one was written out of it.
    fn check_ahead<M>(&self, chosen: &Chosen<M>, options: &LogOptions) -> Result<(), HomeError> {
        let position = chosen.head.id.position;
        let never_synced = options.wal.fsync == wal::Fsync::UnsafeNever;
        if chosen.stored.origin == Origin::Received || never_synced {
            return Ok(());
        }
        let what = format!("it lacks the entry {position}, which a snapshot was made of");
        Err(HomeError::Log(LogError::Meaning(what)))
    }

    /// The members, as far as a damaged snapshot or the founding still tells. What the log says
    /// of them comes on top.
    fn last_known(&self, snapshots: &SnapshotStore, listed: &[Stored]) -> Configuration {
        let readable = |stored: &Stored| snapshots.head(*stored).ok();
        let head = listed.iter().rev().find_map(readable);
        head.map(|head| head.configuration).unwrap_or_else(|| self.founders())
    }

    fn founders(&self) -> Configuration {
        self.charter().map(|charter| charter.configuration.clone()).unwrap_or_default()
    }
}

/// The newest snapshot that is whole.
fn choose<M: StateMachine>(
    snapshots: &SnapshotStore,
    listed: &[Stored],
    found: &mut FoundSnapshots,
) -> Result<Option<Chosen<M>>, HomeError> {
    for stored in listed.iter().rev() {
        match snapshots.restore::<M>(*stored) {
            Ok((head, machine)) => return Ok(Some(Chosen { stored: *stored, head, machine })),
            Err(error @ SnapshotError::Damaged { .. }) => found.damaged.push(error.to_string()),
            Err(error) => return Err(HomeError::Snapshot(error)),
        }
    }
    Ok(None)
}
