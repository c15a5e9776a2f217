//! All invariants together, and what each of them is shown.

use kvstore::store::Reply;
use raft::node::{Envelope, Index, Member, Message, Node, Term};
use wal::sim_disk::SimDisk;

use crate::check::Broken;
use crate::check::agreement::Agreement;
use crate::check::committed::Committed;
use crate::check::configurations::Configurations;
use crate::check::durability::Durability;
use crate::check::durable_prefix::DurablePrefix;
use crate::check::elections::Elections;
use crate::check::leaders::Leaders;
use crate::check::log_matching::LogMatching;
use crate::check::progress::Progress;

use super::server::Process;

/// A state is hashed at every so many entries: it takes time in proportion to its size.
const HASH_EVERY: u64 = 64;

#[derive(Default)]
pub(super) struct Checks {
    elections: Elections,
    leaders: Leaders,
    log_matching: LogMatching,
    configurations: Configurations,
    committed: Committed,
    durable_prefix: DurablePrefix,
    pub(super) agreement: Agreement,
    progress: Progress,
    durability: Durability,
    /// How often all machines were started again and had the same state.
    pub(super) cold_restarts: u64,
    /// How often a random quorum alone was found to make progress.
    pub(super) quorums: u64,
}

impl Checks {
    pub(super) fn on_started(&mut self, member: Member, node: &Node) -> Result<(), Broken> {
        self.progress.on_started(member, node)?;
        self.durable_prefix.on_started(member, node, &self.committed)
    }

    pub(super) fn on_leader(
        &mut self,
        term: Term,
        member: Member,
        node: &Node,
    ) -> Result<(), Broken> {
        self.elections.on_leader(term, member)?;
        if node.term() != term {
            // It led for less than a turn.
            return Ok(());
        }
        self.leaders.on_elected(member, node, self.committed.last_position())
    }

    /// A server's turn is over.
    pub(super) fn on_turn(&mut self, member: Member, process: &Process) -> Result<(), Broken> {
        let node = process.node();
        let before = self.progress.on_seen(member, node)?;
        self.committed.on_seen(member, node, before)?;
        self.leaders.on_seen(member, node)?;
        self.configurations.on_seen(member, node)?;
        self.durable_prefix.on_seen(member, node)?;
        let Some(machine) = process.driver.replica().machine() else { return Ok(()) };
        let news = machine.take_news();
        for applied in &news {
            self.agreement.on_applied(applied.index, &applied.command, applied.reply)?;
        }
        let at = Index(machine.store.applied());
        match news.is_empty() {
            false if at.0.is_multiple_of(HASH_EVERY) => {
                self.agreement.on_state(at, machine.store.hash())
            }
            _ => Ok(()),
        }
    }

    /// A message leaves a server.
    pub(super) fn on_spoken(&mut self, envelope: &Envelope) -> Result<(), Broken> {
        self.progress.on_spoken(envelope.from, envelope.term);
        match &envelope.message {
            Message::VoteGranted => {
                self.progress.on_vote(envelope.from, envelope.term, envelope.to)
            }
            Message::Append { previous, entries, .. } => {
                self.configurations.on_sent(entries);
                self.log_matching.on_sent(*previous, entries)
            }
            _ => Ok(()),
        }
    }

    /// A client is told that its command was applied.
    pub(super) fn on_acknowledged(
        &mut self,
        index: Index,
        reply: Reply,
        disks: Option<&[Vec<Option<&SimDisk>>]>,
    ) -> Result<(), Broken> {
        let checksum = self.agreement.on_acknowledged(index, reply)?;
        match disks {
            Some(halves) => self.durability.on_acknowledged(index, checksum, halves),
            None => Ok(()),
        }
    }

    /// The last index that anybody takes for committed.
    pub(super) fn committed(&self) -> Index {
        self.committed.last()
    }

    /// How often each was checked.
    pub(super) fn counts(&self) -> [(&'static str, u64); 13] {
        [
            ("election_safety", self.elections.checked),
            ("leader_append_only", self.leaders.append_only_checked),
            ("leader_completeness", self.leaders.completeness_checked),
            ("log_matching", self.log_matching.checked),
            ("committed_is_immutable", self.committed.checked),
            ("state_machine_safety", self.agreement.checked),
            ("monotonic_progress", self.progress.checked),
            ("last_configuration_counts", self.configurations.checked),
            ("match_within_durable_prefix", self.durable_prefix.checked),
            ("durable_stays", self.durable_prefix.starts_checked),
            ("acknowledged_is_durable", self.durability.checked),
            ("quorum_makes_progress", self.quorums),
            ("cold_restart", self.cold_restarts),
        ]
    }
}
