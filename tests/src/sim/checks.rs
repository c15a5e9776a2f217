//! All invariants together, and what each of them is shown.

use kvstore::store::Reply;
use raft::node::{Envelope, Index, Member, Message, Node, Position, Term};

use crate::check::agreement::Agreement;
use crate::check::committed::Committed;
use crate::check::configurations::Configurations;
use crate::check::damage::Damage;
use crate::check::durability::{Durability, Halves};
use crate::check::durable_prefix::DurablePrefix;
use crate::check::elections::Elections;
use crate::check::leaders::Leaders;
use crate::check::log_matching::LogMatching;
use crate::check::progress::Progress;
use crate::check::refusals::Refusals;
use crate::check::retirement::Retirement;
use crate::check::transfers::Transfers;
use crate::check::{Broken, Switches};

use super::server::Process;

/// A state is hashed at every so many entries: it takes time in proportion to its size.
const HASH_EVERY: u64 = 64;

#[derive(Default)]
pub(super) struct Checks {
    pub(super) switches: Switches,
    /// Everything is looked at every time.
    pub(super) looks_closely: bool,
    elections: Elections,
    leaders: Leaders,
    log_matching: LogMatching,
    configurations: Configurations,
    committed: Committed,
    durable_prefix: DurablePrefix,
    pub(super) agreement: Agreement,
    progress: Progress,
    durability: Durability,
    damage: Damage,
    pub(super) refusals: Refusals,
    retirement: Retirement,
    transfers: Transfers,
    /// How often all machines were started again and had the same state.
    pub(super) cold_restarts: u64,
    /// How often a cluster without its leader was found to have another one in time.
    pub(super) elections_timed: u64,
    /// How often a random quorum alone was found to make progress.
    pub(super) quorums: u64,
}

impl Checks {
    pub(super) fn on_started(&mut self, member: Member, node: &Node) -> Result<(), Broken> {
        let switches = &self.switches;
        switches.judge(self.progress.on_started(member, node))?;
        self.damage.on_started(member, node);
        switches.judge(self.durable_prefix.on_started(member, node, &self.committed))
    }

    pub(super) fn on_leader(
        &mut self,
        term: Term,
        member: Member,
        node: &Node,
    ) -> Result<(), Broken> {
        self.switches.judge(self.elections.on_leader(term, member))?;
        if node.term() != term {
            // It led for less than a turn.
            return Ok(());
        }
        let index = node.configuration_index();
        if node.term_at(index) != Some(term) {
            let configuration = node.configuration();
            let votes = |voter| self.progress.has_voted(voter, term, member);
            let elected = self.elections.on_elected(term, member, configuration, votes);
            self.switches.judge(elected)?;
        }
        let committed = self.committed.last_position();
        self.switches.judge(self.leaders.on_elected(member, node, committed))
    }

    /// A server's turn is over.
    pub(super) fn on_turn(&mut self, member: Member, process: &Process) -> Result<(), Broken> {
        let node = process.node();
        let switches = &self.switches;
        match self.progress.on_seen(member, node) {
            Ok(before) => switches.judge(self.committed.on_seen(member, node, before))?,
            Err(broken) => switches.judge(Err(broken))?,
        }
        switches.judge(self.leaders.on_seen(member, node))?;
        switches.judge(self.configurations.on_seen(member, node))?;
        switches.judge(self.durable_prefix.on_seen(member, node))?;
        switches.judge(self.retirement.on_seen(node))?;
        self.damage.on_seen(member, node);
        let Some(machine) = process.driver.replica().machine() else { return Ok(()) };
        let news = machine.take_news();
        for applied in &news {
            let agrees = self.agreement.on_applied(applied.index, &applied.command, applied.reply);
            self.switches.judge(agrees)?;
        }
        let at = Index(machine.store.applied());
        match news.is_empty() {
            false if self.looks_closely || at.0.is_multiple_of(HASH_EVERY) => {
                self.on_state(at, machine.store.hash())
            }
            _ => Ok(()),
        }
    }

    /// Somebody who has applied everything up to `index` is in a state with this hash.
    pub(super) fn on_state(&mut self, index: Index, hash: u64) -> Result<(), Broken> {
        self.switches.judge(self.agreement.on_state(index, hash))
    }

    /// A message leaves a server.
    pub(super) fn on_spoken(&mut self, envelope: &Envelope, node: &Node) -> Result<(), Broken> {
        let Envelope { from, to, term, message } = envelope;
        self.progress.on_spoken(*from, *term);
        self.switches.judge(self.transfers.on_spoken(*from, *to, message))?;
        self.switches.judge(self.damage.on_spoken(*from, message, node))?;
        let result = match message {
            Message::VoteGranted => self.progress.on_vote(*from, *term, *to),
            // Its own vote is told with the request for those of others.
            Message::VoteRequest { .. } => self.progress.on_vote(*from, *term, *from),
            Message::Append { previous, entries, .. } => {
                self.configurations.on_sent(entries);
                self.log_matching.on_sent(*previous, entries)
            }
            _ => Ok(()),
        };
        self.switches.judge(result)
    }

    /// A client is told that its command was applied.
    pub(super) fn on_acknowledged(
        &mut self,
        index: Index,
        reply: Reply,
        disks: Option<&Halves<'_>>,
    ) -> Result<(), Broken> {
        let checksum = match self.agreement.on_acknowledged(index, reply) {
            Ok(checksum) => checksum,
            Err(broken) => return self.switches.judge(Err(broken)),
        };
        match disks {
            Some(halves) => {
                self.switches.judge(self.durability.on_acknowledged(index, checksum, halves))
            }
            None => Ok(()),
        }
    }

    /// A leader has committed this entry of its term.
    pub(super) fn on_committed(
        &mut self,
        position: Position,
        halves: &Halves<'_>,
    ) -> Result<(), Broken> {
        self.switches.judge(self.durability.on_committed(position, halves))
    }

    /// The last index that anybody takes for committed.
    pub(super) fn committed(&self) -> Index {
        self.committed.last()
    }

    /// How often each was checked.
    pub(super) fn counts(&self) -> [(&'static str, u64); 18] {
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
            ("damaged_is_not_acknowledged", self.damage.checked),
            ("refused_does_not_happen", self.refusals.count()),
            ("leader_votes", self.retirement.checked),
            ("transfer_to_the_whole_log", self.transfers.checked),
            ("elections_end", self.elections_timed),
            ("quorum_makes_progress", self.quorums),
            ("cold_restart", self.cold_restarts),
        ]
    }
}
