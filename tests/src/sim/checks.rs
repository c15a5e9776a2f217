//! All invariants together, and what each of them is shown.

use kvstore::store::Reply;
use raft::node::{Envelope, Index, Member, Node, Term};
use wal::sim_disk::SimDisk;

use crate::check::agreement::Agreement;
use crate::check::durability::Durability;
use crate::check::elections::Elections;
use crate::check::progress::Progress;
use crate::check::{Broken, Switches};

use super::server::Process;
use super::world::vote_in;

/// A state is hashed at every so many entries: it takes time in proportion to its size.
const HASH_EVERY: u64 = 64;

#[derive(Default)]
pub(super) struct Checks {
    pub(super) switches: Switches,
    elections: Elections,
    pub(super) agreement: Agreement,
    progress: Progress,
    durability: Durability,
}

impl Checks {
    pub(super) fn on_started(&mut self, member: Member, node: &Node) -> Result<(), Broken> {
        self.switches.judge(self.progress.on_started(member, node))
    }

    pub(super) fn on_leader(&mut self, term: Term, member: Member) -> Result<(), Broken> {
        self.switches.judge(self.elections.on_leader(term, member))
    }

    /// A server's turn is over.
    pub(super) fn on_turn(&mut self, member: Member, process: &Process) -> Result<(), Broken> {
        self.switches.judge(self.progress.on_seen(member, process.node()))?;
        let Some(machine) = process.driver.replica().machine() else { return Ok(()) };
        let news = machine.take_news();
        for applied in &news {
            let agrees = self.agreement.on_applied(applied.index, &applied.command, applied.reply);
            self.switches.judge(agrees)?;
        }
        let at = Index(machine.store.applied());
        match news.is_empty() {
            false if at.0.is_multiple_of(HASH_EVERY) => self.on_state(at, machine.store.hash()),
            _ => Ok(()),
        }
    }

    /// Somebody who has applied everything up to `index` is in a state with this hash.
    pub(super) fn on_state(&mut self, index: Index, hash: u64) -> Result<(), Broken> {
        self.switches.judge(self.agreement.on_state(index, hash))
    }

    /// A message leaves a server.
    pub(super) fn on_spoken(&mut self, envelope: &Envelope) -> Result<(), Broken> {
        self.progress.on_spoken(envelope.from, envelope.term);
        match vote_in(envelope) {
            Some((term, to)) => self.switches.judge(self.progress.on_vote(envelope.from, term, to)),
            None => Ok(()),
        }
    }

    /// A client is told that its command was applied.
    pub(super) fn on_acknowledged(
        &mut self,
        index: Index,
        reply: Reply,
        disks: Option<&[Vec<&SimDisk>]>,
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

    /// How often each was checked.
    pub(super) fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("election_safety", self.elections.checked),
            ("state_machine_safety", self.agreement.checked),
            ("monotonic_progress", self.progress.checked),
            ("acknowledged_is_durable", self.durability.checked),
        ]
    }
}
