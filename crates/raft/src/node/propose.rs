//! What enters the log of a leader and what leaves it for the state machine: proposals, with every
//! reason for which one is refused, and the portions in which committed entries are applied.

use std::ops::Range;

use super::change::ChangeError;
use super::entries::Entries;
use super::role::Role;
use super::types::{Entry, EntryKind, Index, NodeId, Payload};
use super::{FetchPurpose, Node};

/// Why a batch of proposals was refused. Nothing of it entered the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only a leader takes proposals.
    #[error("not the leader{}", .leader.map(|id| format!("; {id} is")).unwrap_or_default())]
    NotLeader {
        /// The leader of this term, as far as it is known.
        leader: Option<NodeId>,
    },
    /// A command is larger than the log takes.
    #[error("too large: a command has {bytes} bytes, at most {bytes_max} are taken")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// What the log takes.
        bytes_max: u64,
    },
    /// The disk has no room for it.
    #[error("no space: the batch takes {bytes} bytes, the disk has room for {room}")]
    NoSpace {
        /// What the batch takes.
        bytes: u64,
        /// What there is.
        room: u64,
    },
    /// So much is waiting to be committed that this batch does not fit beside it.
    #[error("overloaded: {bytes} bytes wait to be committed, {bytes_max} may")]
    Overloaded {
        /// What waits.
        bytes: u64,
        /// What may.
        bytes_max: u64,
    },
    /// Leadership is being handed over, for an election timeout at most.
    #[error("leadership is being handed to {to}; try again in a moment")]
    Transferring {
        /// Who is about to lead.
        to: NodeId,
    },
    /// The membership cannot be changed so, or not now.
    #[error(transparent)]
    Membership(#[from] ChangeError),
}

impl Node {
    /// Appends a batch of commands to the log, if this node leads. Each ends exactly once, in
    /// [`Actions::ended`](super::Actions::ended).
    ///
    /// # Errors
    /// The whole batch was refused and nothing of it entered the log.
    pub fn propose(&mut self, batch: Vec<Payload>) -> Result<Range<Index>, ProposeError> {
        self.check_takes_proposals()?;
        let Role::Leader(leader) = &mut self.role else {
            return Err(ProposeError::NotLeader { leader: None });
        };
        let first = self.log.last().index.next();
        let overhead = Entry::OVERHEAD_BYTES;
        let bytes = batch.iter().map(|payload| payload.bytes.len() as u64 + overhead).sum::<u64>();
        let bytes_max = self.config.command_bytes_max;
        let largest = batch.iter().map(|payload| payload.bytes.len() as u64).max().unwrap_or(0);
        if largest > bytes_max {
            return Err(ProposeError::TooLarge { bytes: largest, bytes_max });
        }
        let bytes_max = self.config.uncommitted_bytes_max;
        // A batch may pass the limit only alone, so that no batch is too large for ever.
        if leader.uncommitted_bytes > 0 && leader.uncommitted_bytes + bytes > bytes_max {
            let bytes = leader.uncommitted_bytes;
            return Err(ProposeError::Overloaded { bytes, bytes_max });
        }
        if bytes > self.room {
            let room = self.room;
            self.on_no_space(bytes);
            return Err(ProposeError::NoSpace { bytes, room });
        }
        if batch.is_empty() {
            return Ok(first..first);
        }
        let end = Index(first.0 + batch.len() as u64);
        self.room -= bytes;
        leader.uncommitted_bytes += bytes;
        leader.uncommitted.push_back((end.previous(), bytes));
        let (term, kind) = (self.hard_state.term, EntryKind::Command);
        let entry = |(index, payload)| Entry { index: Index(index), term, kind, payload };
        self.log.append((first.0..).zip(batch).map(entry).collect());
        self.assert_invariants();
        Ok(first..end)
    }

    /// The largest command that is taken, in bytes.
    #[must_use]
    pub fn command_bytes_max(&self) -> u64 {
        self.config.command_bytes_max
    }

    /// Bytes of entries that may be proposed beside what waits to be committed. Without anything
    /// waiting, one command may be larger.
    #[must_use]
    pub fn uncommitted_room(&self) -> u64 {
        let waiting = match &self.role {
            Role::Leader(leader) => leader.uncommitted_bytes,
            _ => 0,
        };
        self.config.uncommitted_bytes_max.saturating_sub(waiting)
    }

    /// Whether this node leads and is not about to hand over.
    pub(super) fn check_takes_proposals(&self) -> Result<(), ProposeError> {
        let Role::Leader(leader) = &self.role else {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        };
        match &leader.transfer {
            Some(transfer) => Err(ProposeError::Transferring { to: transfer.to() }),
            None => Ok(()),
        }
    }

    /// The state machine has applied everything up to `index`, which was the last one handed out.
    ///
    /// # Panics
    /// It was not: to say that more or less was applied than was handed out loses or repeats
    /// entries.
    pub fn on_applied(&mut self, index: Index) {
        assert!(index == self.applying, "all that was handed out is applied, to {}", self.applying);
        self.applied = index;
        self.assert_invariants();
    }

    /// Committed and durable entries that the state machine has not been given, one portion at a
    /// time. Nothing that is not whole on the own disk is applied, committed or not.
    pub(super) fn take_apply(&mut self) -> Entries {
        let to = self.commit.min(self.proven());
        let may_apply = self.snapshots.may_apply() && self.applying == self.applied;
        if !may_apply || self.applying >= to {
            return Entries::default();
        }
        let (from, bytes_max) = (self.applying.next(), self.config.apply_bytes_max);
        let mut entries = Entries::from(std::mem::take(&mut self.fetched));
        if entries.first().is_none_or(|first| first.index != from) {
            match self.log.slice(from, to, bytes_max) {
                Some(slice) => entries = slice,
                None if self.fetching.values().any(|purpose| *purpose == FetchPurpose::Apply) => {
                    return Entries::default();
                }
                None => {
                    let to = to.min(self.log.window_first().previous());
                    let id = self.new_fetch(from, to, bytes_max);
                    self.fetching.insert(id, FetchPurpose::Apply);
                    return Entries::default();
                }
            }
        }
        self.applying = entries.last().map_or(self.applying, |last| last.index);
        self.count_applied(&entries);
        entries
    }
}
