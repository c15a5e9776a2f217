//! What may still be harmed. A cluster survives only what its promise covers: members whose
//! directory is damaged, wiped or of lost history must at any time be together a minority of
//! every set of voters that is in force. Then every committed entry has an undamaged copy, on a
//! voter that comes back: a quorum holds it, and the undamaged voters are more than half.

use std::collections::{BTreeMap, BTreeSet};

use raft::node::{Configuration, Index, Intent, Member};
use wal::sim_disk::SimDisk;

/// Bytes of a file that are not what was written.
#[derive(Clone, Debug)]
pub(super) struct Scar {
    pub(super) file: String,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

impl Scar {
    /// Whether they are still there.
    fn is_on(&self, disk: &SimDisk) -> bool {
        let Some(contents) = disk.contents(&self.file) else { return false };
        let begin = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(self.bytes.len());
        contents.get(begin..end) == Some(self.bytes.as_slice())
    }
}

/// Whom harm has come to, and which configurations may be in force.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Everything that was seen in force from the last committed one on.
    configurations: Vec<(Index, Configuration)>,
    /// An index below which all configurations are superseded.
    settled: Index,
    /// Members whose promises are forgotten.
    lost: BTreeSet<Member>,
    /// Members whose directories are damaged, and where.
    damaged: BTreeMap<Member, Vec<Scar>>,
}

impl Budget {
    /// A server has this configuration in force.
    pub(super) fn note(&mut self, index: Index, configuration: &Configuration) {
        let is_new = |(at, known): &(Index, Configuration)| *at != index || known != configuration;
        if index >= self.settled && self.configurations.iter().all(is_new) {
            self.configurations.push((index, configuration.clone()));
        }
    }

    /// Everything up to `commit` is committed: what came before the last configuration in it is
    /// in force nowhere, or on servers that cannot decide anything.
    pub(super) fn settle(&mut self, commit: Index) {
        let indexes = self.configurations.iter().map(|(index, _)| *index);
        if let Some(last) = indexes.filter(|index| *index <= commit).max()
            && last > self.settled
        {
            self.settled = last;
            self.configurations.retain(|(index, _)| *index >= last);
        }
    }

    /// The configurations that may be in force.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &Configuration> {
        self.configurations.iter().map(|(_, configuration)| configuration)
    }

    /// Whether any configuration that may be in force lists this member.
    pub(super) fn lists(&self, member: Member) -> bool {
        self.in_force().any(|configuration| configuration.lists(member))
    }

    pub(super) fn is_lost(&self, member: Member) -> bool {
        self.lost.contains(&member)
    }

    pub(super) fn is_harmed(&self, member: Member) -> bool {
        self.is_lost(member) || self.damaged.contains_key(&member)
    }

    /// Whether harm has come to anybody whom a configuration in force lists.
    pub(super) fn damaged(&self) -> impl Iterator<Item = Member> + '_ {
        self.damaged.keys().copied()
    }

    /// Whether most of some voters stay unharmed, if `victim` is harmed too.
    pub(super) fn leaves_most_of(
        &self,
        voters: impl Iterator<Item = Member>,
        victim: Option<Member>,
    ) -> bool {
        let (mut all, mut harmed) = (0, 0);
        for voter in voters {
            all += 1;
            harmed += usize::from(self.is_harmed(voter) || victim == Some(voter));
        }
        all == 0 || 2 * harmed < all
    }

    /// Whether harm may come to this member.
    pub(super) fn allows(&self, victim: Member) -> bool {
        // Whoever learns may vote at any moment.
        let will_vote = |configuration: &Configuration| {
            let learner = configuration.learner(victim);
            learner.is_some_and(|learner| learner.intent != Intent::Stay)
        };
        let members = |voters: &[raft::node::Voter]| -> Vec<Member> {
            voters.iter().map(|voter| voter.member).collect()
        };
        self.in_force().all(|configuration| {
            let (voters, outgoing) =
                (members(configuration.voters()), members(configuration.outgoing()));
            !will_vote(configuration)
                && self.leaves_most_of(voters.into_iter(), Some(victim))
                && self.leaves_most_of(outgoing.into_iter(), Some(victim))
        })
    }

    /// A member's directory is damaged.
    pub(super) fn damage(&mut self, member: Member, scars: Vec<Scar>) {
        self.damaged.entry(member).or_default().extend(scars);
    }

    /// A member has forgotten what it promised.
    pub(super) fn lose(&mut self, member: Member) {
        self.damaged.remove(&member);
        self.lost.insert(member);
    }

    /// What was written again, or is gone with its file, is damaged no more. A member is whole
    /// again when that is so of everything, and it runs and lacks nothing.
    pub(super) fn look_at(&mut self, member: Member, disk: &SimDisk, lacks_nothing: bool) {
        if let Some(scars) = self.damaged.get_mut(&member) {
            scars.retain(|scar| scar.is_on(disk));
            if scars.is_empty() && lacks_nothing {
                self.damaged.remove(&member);
            }
        }
    }
}
