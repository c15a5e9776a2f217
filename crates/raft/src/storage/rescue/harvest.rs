//! What can be served of a directory: the newest whole snapshot and the log behind it. The log is
//! copied and the copy is worked on, so that the directory stays as it is.

use std::sync::Arc;

use wal::{Disk, Health, Inspector, OpenError, Plan};

use super::super::damaged::ReadBack;
use super::super::flusher::Flushes;
use super::super::home::{HomeError, LOG, SNAPSHOTS};
use super::super::log_store::{Basis, LogError, LogOptions, LogStore, Successors};
use super::super::snapshot_file::SnapshotError;
use super::super::snapshot_store::SnapshotStore;
use super::super::suspect::Suspects;
use super::RescueError;
use crate::node::{
    Configuration, Entry, EntryKind, Fetch, FetchId, Index, LostEntry, Position, Term,
};
use crate::state_machine::StateMachine;

/// Entries that are read at once.
const PORTION_BYTES: u64 = 4 << 20;

/// Where a recovery finds and puts things.
pub(super) struct Ground<'a> {
    /// What is recovered.
    pub(super) base: Arc<dyn Disk>,
    /// Where the log is copied to.
    pub(super) scratch: &'a Arc<dyn Disk>,
    pub(super) lock: &'a Arc<wal::Lock>,
    pub(super) options: &'a LogOptions,
}

/// All that a directory gives.
pub(super) struct Harvest<M> {
    pub(super) machine: M,
    /// The last entry that it has applied.
    pub(super) position: Position,
    pub(super) snapshot: Option<Position>,
    pub(super) log: Option<(Position, Position)>,
    /// The highest term that it knows of.
    pub(super) term: Term,
    /// The newest configuration that it knows of, committed or not.
    pub(super) members: Configuration,
    pub(super) losses: Vec<String>,
}

impl<M: StateMachine> Harvest<M> {
    fn of(machine: M, position: Position, members: Configuration) -> Self {
        let (term, losses) = (position.term, Vec::new());
        Self { machine, position, snapshot: None, log: None, term, members, losses }
    }

    /// Applies the log behind the position, as far as it goes.
    fn apply(&mut self, log: &mut LogStore) -> Result<(), RescueError> {
        let last = log.last().index;
        while self.position.index < last {
            let from = self.position.index.next();
            let fetch = Fetch { id: FetchId(0), from, to: last, bytes_max: PORTION_BYTES };
            match log.read(&fetch)? {
                ReadBack::Entries(entries) if entries.is_empty() => {
                    let what = format!("entry {from} is nowhere in it");
                    return Err(LogError::Meaning(what).into());
                }
                ReadBack::Entries(entries) => {
                    entries.into_iter().try_for_each(|entry| self.apply_entry(&entry))?;
                }
                ReadBack::Lost(LostEntry { position, kind: EntryKind::Configuration, .. }) => {
                    // The state does not depend on who the members were.
                    let what = format!("entry {position}, a list of members, is damaged");
                    self.losses.push(what);
                    self.machine.advance(position.index);
                    self.position = position;
                }
                ReadBack::Lost(LostEntry { position, .. }) => {
                    self.losses.push(format!(
                        "the command of entry {position} is damaged, so it and what lies behind \
                         it, up to entry {last}, cannot be applied"
                    ));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn apply_entry(&mut self, entry: &Entry) -> Result<(), RescueError> {
        let Entry { index, term, kind, payload } = entry;
        match kind {
            EntryKind::Command => {
                self.machine.apply(*index, &payload.bytes)?;
            }
            EntryKind::Empty => self.machine.advance(*index),
            EntryKind::Configuration => {
                self.machine.advance(*index);
                self.members = Configuration::decode(&payload.bytes)
                    .map_err(|error| LogError::Meaning(error.to_string()))?;
            }
        }
        self.position = Position { index: *index, term: *term };
        Ok(())
    }
}

impl Ground<'_> {
    /// Reads everything. `nothing` makes the error of a directory that gives nothing.
    pub(super) fn harvest<M: StateMachine>(
        &self,
        founders: Configuration,
        empty: impl FnOnce() -> M,
        nothing: impl Fn(String) -> RescueError,
    ) -> Result<Harvest<M>, RescueError> {
        let mut losses = Vec::new();
        let snapshot = self.newest_snapshot::<M>(&mut losses)?;
        let mut log = self.open_copy(&mut losses)?;
        let start = log.as_ref().map(LogStore::start);
        let mut harvest = match (snapshot, start) {
            (Some(harvest), _) => harvest,
            (None, Some(start)) if start.index == Index(0) => {
                Harvest::of(empty(), Position::default(), founders)
            }
            (None, Some(start)) => {
                let snapshots = "no snapshot that it goes on from can be read";
                let why = format!("its log begins behind entry {start}, and {snapshots}");
                return Err(nothing(explained(why, &losses)));
            }
            (None, None) => {
                let why = "neither its log nor a snapshot can be read".to_string();
                return Err(nothing(explained(why, &losses)));
            }
        };
        harvest.losses = losses;
        if let Some(log) = &mut log {
            let (start, last) = (log.start(), log.last());
            harvest.log = Some((start, last));
            if harvest.position == start || log.holds(harvest.position) {
                harvest.apply(log)?;
            } else if last.index > harvest.position.index {
                harvest.losses.push(format!(
                    "the log, which has the entries behind {start} up to {last}, does not go on \
                     from the newest snapshot that can be read, which ends at entry {}",
                    harvest.position
                ));
            }
            let promised = log.hard_state().map_or(Term(0), |promised| promised.term);
            harvest.term = promised.max(last.term).max(harvest.position.term);
        }
        match harvest.position.index {
            Index(0) => Err(nothing(explained("it holds no entry".to_string(), &harvest.losses))),
            _ => Ok(harvest),
        }
    }

    /// The newest snapshot that is whole.
    fn newest_snapshot<M: StateMachine>(
        &self,
        losses: &mut Vec<String>,
    ) -> Result<Option<Harvest<M>>, RescueError> {
        let io = |source| HomeError::Io { path: self.base.path(SNAPSHOTS), source };
        let disk = self.base.subdirectory(SNAPSHOTS).map_err(io)?;
        let store = SnapshotStore::new(disk, Arc::clone(self.lock), self.options.snapshots);
        for stored in store.list().map_err(io)?.into_iter().rev() {
            match store.restore::<M>(stored) {
                Ok((head, machine)) => {
                    let position = head.id.position;
                    let found = Harvest::of(machine, position, head.configuration);
                    return Ok(Some(Harvest { snapshot: Some(position), ..found }));
                }
                Err(error @ SnapshotError::Damaged { .. }) => {
                    losses.push(format!("a snapshot is damaged: {error}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Copies the log and opens the copy, after giving up what keeps it from being opened.
    fn open_copy(&self, losses: &mut Vec<String>) -> Result<Option<LogStore>, RescueError> {
        let io = |source| HomeError::Io { path: self.base.path(LOG), source };
        let log = self.base.subdirectory(LOG).map_err(io)?;
        let original = match Inspector::open(log) {
            Ok(original) => original,
            Err(OpenError::NoLog { path }) => {
                losses.push(format!("{path}: the log is gone"));
                return Ok(None);
            }
            Err(OpenError::Locked { path }) => return Err(HomeError::InUse { path }.into()),
            Err(error) => return Err(LogError::Open(error).into()),
        };
        original.back_up(self.scratch.as_ref())?;
        drop(original);
        let copy = Inspector::open(Arc::clone(self.scratch)).map_err(LogError::Open)?;
        if let Health::Lost(damage) = copy.verify().map_err(LogError::Open)? {
            match copy.plan_salvage() {
                Ok(plan) => losses.extend(plan.as_ref().map(|plan| self.described(plan))),
                Err(_) => {
                    losses.push(format!("nothing of the log can be read: {damage}"));
                    return Ok(None);
                }
            }
            copy.salvage().map_err(LogError::Open)?;
            copy.mend().map_err(LogError::Open)?;
        }
        drop(copy);
        // One thread suffices for what nobody waits for.
        let mut options = self.options.clone();
        (options.successors, options.flushes) = (Successors::Inline, Flushes::Inline);
        let scratch = Arc::clone(self.scratch);
        let (log, _) = LogStore::open(scratch, &options, Basis::Nothing, &Suspects::All)?;
        Ok(Some(log))
    }

    /// What is lost of a damaged log.
    fn described(&self, plan: &Plan) -> String {
        let Plan { damage, start, last, given_up, .. } = plan;
        let damage = damage.to_string();
        // It is the copy that was looked at, but nobody will find that.
        let damage = damage.replace(&self.scratch.path(""), &self.base.path(&format!("{LOG}/")));
        let mut text = format!(
            "its log is damaged: {damage}; what is left of it is the entries behind {} up to {}",
            start.index, last.index
        );
        for (first, last) in given_up {
            let (first, last) = (first.index, last.index);
            text.push_str(&format!(
                "; entries {first} to {last} are there, but not what leads to them"
            ));
        }
        text
    }
}

/// Why nothing can be served, with what is damaged.
fn explained(why: String, losses: &[String]) -> String {
    losses.iter().fold(why, |text, loss| format!("{text}\n{loss}"))
}
