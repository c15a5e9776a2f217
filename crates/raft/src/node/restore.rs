//! Starting from what is on the disk, after checking that it hangs together.

use std::collections::BTreeMap;

use super::actions::Event;
use super::config::Config;
use super::configuration::Configuration;
use super::durability::Durability;
use super::former::Former;
use super::invariants::LastSeen;
use super::log::Log;
use super::membership::Membership;
use super::random::Random;
use super::read::FollowerReads;
use super::repair::Repair;
use super::role::{ElectionTimer, Follower, Role};
use super::slow_disk::DiskPace;
use super::snapshot::{MachineState, Snapshots};
use super::types::{
    Boot, Entry, FetchId, HardState, Index, LostEntry, Member, Position, SnapshotId, Term,
};
use super::{Node, TICKS_ALONE};

/// What a server finds on its disk when it starts.
#[derive(Clone, Debug)]
pub struct DurableState {
    /// Its promises.
    pub hard_state: HardState,
    /// The position before the first entry of the log.
    pub start: Position,
    /// The first position of each run of equal terms in the log, ascending.
    pub runs: Vec<Position>,
    /// The end of the log.
    pub last: Position,
    /// The newest entries, as many as are worth keeping in memory.
    pub recent: Vec<Entry>,
    /// The snapshot that the state machine starts from, if there is one.
    pub snapshot: Option<SnapshotId>,
    /// Whether the state machine could be read back from it.
    pub machine: MachineState,
    /// The configuration at the snapshot; without one that at `start`, or the empty one.
    pub configuration: Configuration,
    /// Every configuration in the log behind the snapshot, with its index, ascending.
    pub configurations: Vec<(Index, Configuration)>,
    /// The entries of the log whose payloads are damaged, ascending.
    pub lost: Vec<LostEntry>,
}

impl DurableState {
    /// That of a server of `configuration` which holds no entry and has promised nothing: what
    /// nodes start from that live in memory alone.
    #[must_use]
    pub fn new(configuration: Configuration) -> Self {
        Self {
            hard_state: HardState::default(),
            start: Position::default(),
            runs: Vec::new(),
            last: Position::default(),
            recent: Vec::new(),
            snapshot: None,
            machine: MachineState::Whole,
            configuration,
            configurations: Vec::new(),
            lost: Vec::new(),
        }
    }
}

/// Why a node cannot start from what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The log does not hang together.
    #[error("the log cannot be right: {0}")]
    Log(String),
    /// The hard state is older than the log.
    #[error("the hard state is of term {term}, but the log ends at {last}: its promises are lost")]
    TermLost {
        /// The term of the hard state.
        term: Term,
        /// The end of the log.
        last: Position,
    },
    /// The log does not go on where the snapshot ends.
    #[error("the log, from {start} to {last}, does not hold the end of the snapshot, {snapshot}")]
    Snapshot {
        /// The end of the snapshot.
        snapshot: Position,
        /// The position before the log.
        start: Position,
        /// The end of the log.
        last: Position,
    },
    /// The settings name another member, or another start of it, than the directory belongs to. A
    /// server that speaks as what it is not can vote twice.
    #[error("the directory is that of {found} in its start {found_boot}, not of {wanted}, {boot}")]
    OtherMember {
        /// Whose directory it is.
        found: Member,
        /// Which start of it this is.
        found_boot: Boot,
        /// Whom the settings name.
        wanted: Member,
        /// Which start of it.
        boot: Boot,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
}

impl Node {
    /// A node that continues from what its server finds on the disk, as a follower. `seed`
    /// decides its election timeouts.
    ///
    /// # Errors
    /// What was found does not hang together, or a setting makes no sense.
    pub fn restore(config: Config, state: DurableState, seed: u64) -> Result<Self, RestoreError> {
        config.check().map_err(RestoreError::Config)?;
        let DurableState { hard_state, start, runs, last, recent, .. } = state;
        let DurableState { snapshot, machine, configuration, configurations, lost, .. } = state;
        let log = Log::restore(start, runs, last, recent);
        log.check().map_err(RestoreError::Log)?;
        if let Some(stray) = lost.iter().find(|lost| !log.holds(lost.position)) {
            let what = format!("{} is damaged, but the log does not hold it", stray.position);
            return Err(RestoreError::Log(what));
        }
        if hard_state.term < last.term {
            return Err(RestoreError::TermLost { term: hard_state.term, last });
        }
        let base = match machine {
            MachineState::Whole => snapshot.map(|snapshot| snapshot.position).unwrap_or_default(),
            MachineState::Lost => start,
        };
        if !log.holds(base) {
            return Err(RestoreError::Snapshot { snapshot: base, start, last });
        }
        let applied = if machine == MachineState::Whole { base.index } else { Index(0) };
        let mut node = Self {
            snapshots: Snapshots::restore(&config, snapshot, machine),
            config,
            random: Random::new(seed),
            hard_state,
            log,
            disk: DiskPace::default(),
            membership: Membership::new((base.index, configuration), configurations),
            durability: Durability::restore(last.index, hard_state),
            role: Role::Follower(follower_of_nobody()),
            repair: Repair::new(lost),
            commit: base.index,
            applying: applied,
            applied,
            last_leader: None,
            room: u64::MAX,
            lacking: None,
            turned_away: None,
            former: Former::default(),
            read_counter: 0,
            next_fetch: FetchId(1),
            fetching: BTreeMap::new(),
            fetched: Vec::new(),
            last_seen: LastSeen::new(hard_state, base.index, applied),
            outbox: Vec::new(),
            fetches: Vec::new(),
            ended: Vec::new(),
            reads: Vec::new(),
            changes: Vec::new(),
            transfers: Vec::new(),
            events: Vec::new(),
        };
        let timer = node.new_timer();
        if let Role::Follower(follower) = &mut node.role {
            follower.timer = timer;
        }
        let (term, timeout_ticks) = (hard_state.term, timer.timeout);
        node.events.push(Event::BecameFollower { term, leader: None, timeout_ticks });
        node.let_go_of_damage();
        node.tell_damage();
        node.assert_invariants();
        Ok(node)
    }
}

/// A follower that has heard nobody, until its timer is drawn.
fn follower_of_nobody() -> Follower {
    Follower {
        leader: None,
        verified: Index(0),
        lagging_to: None,
        round_echoed: 0,
        told_bar: false,
        timer: ElectionTimer { elapsed: 0, timeout: TICKS_ALONE, haste: 0 },
        reads: FollowerReads::default(),
    }
}
