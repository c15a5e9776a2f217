//! What may change in a cluster's membership, and the configurations that lead there. Every change
//! takes the same way: a joint configuration, in which the voters before and after must both
//! agree, then the new one alone (dissertation 4.3). Pure: no node, no log.

use super::configuration::{Configuration, ConfigurationError, Intent, Learner, Lists, Voter};
use super::types::{Member, NodeId};

/// A change of the membership that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new server receives the log, and votes as soon as it has caught up.
    AddVoter {
        /// The server and the life of its directory.
        member: Member,
        /// Where it listens, as `host:port`.
        address: String,
    },
    /// A new server receives the log and does not vote until it is promoted.
    AddLearner {
        /// The server and the life of its directory.
        member: Member,
        /// Where it listens, as `host:port`.
        address: String,
    },
    /// A learner votes as soon as it has caught up.
    Promote(NodeId),
    /// A server goes, in every life that is listed.
    Remove(NodeId),
    /// A new server takes the place of an old one: it learns first, and the old one goes in the
    /// very change that lets it vote. The new one may be a later life of the old one, whose
    /// directory was lost.
    Replace {
        /// Who goes. Of a server that learns in one life and votes in another, the learner.
        old: NodeId,
        /// Who comes.
        member: Member,
        /// Where it listens, as `host:port`.
        address: String,
    },
}

/// Why a membership cannot be changed so, or not now. Nothing was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// One change at a time.
    #[error("another change of the membership is under way; wait until it is finished")]
    Pending,
    /// Until a leader has committed an entry of its own term, an earlier leader's change that it
    /// has not heard of may be under way (Ongaro, raft-dev, 2015-07-10).
    #[error("this leader has just been elected and has committed nothing yet; try again")]
    TermNotCommitted,
    /// No such server.
    #[error("{0} is no member of this cluster")]
    Unknown(NodeId),
    /// It is what it shall become.
    #[error("{0} is a member of this cluster already")]
    AlreadyThere(NodeId),
    /// Its promotion needs nothing but time.
    #[error("{0} will vote as soon as it has caught up")]
    PromotionPending(NodeId),
    /// The cluster knows this server by another directory.
    #[error("this cluster knows {0} by another disk; replace that one")]
    OtherLife(NodeId),
    /// Another server is about to take its place.
    #[error("{by} is about to replace {old}; replace or remove {by} instead")]
    BeingReplaced {
        /// Who is to go.
        old: NodeId,
        /// Who is to come.
        by: NodeId,
    },
    /// A cluster without voters could never decide anything again.
    #[error("nobody would be left to vote")]
    NobodyLeft,
    /// A limit.
    #[error("a cluster has at most {members_max} members")]
    TooMany {
        /// The limit.
        members_max: u32,
    },
    /// A limit.
    #[error("an address has 1 to {bytes_max} bytes")]
    Address {
        /// The limit.
        bytes_max: u32,
    },
    /// The lists would contradict each other.
    #[error("impossible: {0}")]
    Contradiction(ConfigurationError),
}

impl Configuration {
    /// The joint configuration that begins `change`.
    ///
    /// # Errors
    /// It makes no sense in this configuration.
    pub(super) fn joint_by(&self, change: &Change) -> Result<Self, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::Pending);
        }
        let mut lists = self.clone().into_lists();
        match change {
            Change::AddVoter { member, address } => {
                self.check_new(*member)?;
                let intent = Intent::Promote { replaces: None };
                lists.learners.push(learner(*member, address, intent)?);
            }
            Change::AddLearner { member, address } => {
                self.check_new(*member)?;
                lists.learners.push(learner(*member, address, Intent::Stay)?);
            }
            Change::Promote(id) => promote(&mut lists, *id)?,
            Change::Remove(id) => remove(&mut lists, *id)?,
            Change::Replace { old, member, address } => {
                replace(&mut lists, *old, *member, address)?;
            }
        }
        self.joint_with(lists)
    }

    /// The joint configuration in which `member`, which has caught up, becomes a voter, and
    /// whoever it replaces goes.
    pub(super) fn joint_promoting(&self, member: Member) -> Result<Self, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::Pending);
        }
        let learner = self.learner(member).ok_or(ChangeError::Unknown(member.id))?;
        let mut lists = self.clone().into_lists();
        if let Intent::Promote { replaces: Some(old) } = learner.intent {
            lists.voters.retain(|voter| voter.member != old);
            forget_replaced(&mut lists, |replaced| replaced == old);
        }
        lists.learners.retain(|other| other.member != member);
        lists.voters.push(Voter { member, address: learner.address.clone() });
        self.joint_with(lists)
    }

    /// What a joint configuration leads to: its voters and learners, without the outgoing half.
    pub(super) fn settled(&self) -> Self {
        let mut settled = self.clone();
        settled.drop_outgoing();
        settled
    }

    fn joint_with(&self, lists: Lists) -> Result<Self, ChangeError> {
        if lists.voters.is_empty() {
            return Err(ChangeError::NobodyLeft);
        }
        let joint = Self::from_lists(Lists { outgoing: self.voters().to_vec(), ..lists });
        joint.map_err(|error| match error {
            ConfigurationError::TooMany { members_max } => ChangeError::TooMany { members_max },
            error => ChangeError::Contradiction(error),
        })
    }

    fn check_new(&self, member: Member) -> Result<(), ChangeError> {
        if self.lists(member) {
            return Err(ChangeError::AlreadyThere(member.id));
        }
        if self.members().any(|other| other.id == member.id) {
            return Err(ChangeError::OtherLife(member.id));
        }
        Ok(())
    }
}

fn learner(member: Member, address: &str, intent: Intent) -> Result<Learner, ChangeError> {
    let bytes_max = Configuration::ADDRESS_BYTES_MAX;
    if address.is_empty() || address.len() > bytes_max as usize {
        return Err(ChangeError::Address { bytes_max });
    }
    Ok(Learner { member, address: address.to_string(), intent })
}

fn promote(lists: &mut Lists, id: NodeId) -> Result<(), ChangeError> {
    match lists.learners.iter_mut().find(|learner| learner.member.id == id) {
        Some(learner) if learner.intent == Intent::Stay => {
            learner.intent = Intent::Promote { replaces: None };
            Ok(())
        }
        Some(_) => Err(ChangeError::PromotionPending(id)),
        None if lists.voters.iter().any(|voter| voter.member.id == id) => {
            Err(ChangeError::AlreadyThere(id))
        }
        None => Err(ChangeError::Unknown(id)),
    }
}

fn remove(lists: &mut Lists, id: NodeId) -> Result<(), ChangeError> {
    let listed = lists.voters.len() + lists.learners.len();
    lists.voters.retain(|voter| voter.member.id != id);
    lists.learners.retain(|learner| learner.member.id != id);
    if lists.voters.len() + lists.learners.len() == listed {
        return Err(ChangeError::Unknown(id));
    }
    forget_replaced(lists, |replaced| replaced.id == id);
    Ok(())
}

/// Those who would have replaced somebody who is gone now replace nobody.
fn forget_replaced(lists: &mut Lists, is_gone: impl Fn(Member) -> bool) {
    for learner in &mut lists.learners {
        if let Intent::Promote { replaces } = &mut learner.intent {
            *replaces = replaces.filter(|member| !is_gone(*member));
        }
    }
}

fn replace(
    lists: &mut Lists,
    old: NodeId,
    member: Member,
    address: &str,
) -> Result<(), ChangeError> {
    let id = member.id;
    if lists.voters.iter().any(|voter| voter.member == member) {
        return Err(ChangeError::AlreadyThere(id));
    }
    // A learner of that name hands on what was meant for it: a voter that was wiped twice is
    // still to be replaced, though not by its second life.
    let place = lists.learners.iter().position(|learner| learner.member.id == old);
    let (gone, intent) = match place.map(|at| lists.learners.remove(at)) {
        Some(gone) => (gone.member, gone.intent),
        None => {
            let voter = lists.voters.iter().find(|voter| voter.member.id == old);
            let gone = voter.ok_or(ChangeError::Unknown(old))?.member;
            (gone, Intent::Promote { replaces: Some(gone) })
        }
    };
    if gone == member {
        return Err(ChangeError::AlreadyThere(id));
    }
    if let Intent::Promote { replaces: Some(_) } = intent
        && let Some(heir) = lists.learners.iter().find(|learner| learner.intent == intent)
    {
        let by = heir.member.id;
        let asked_twice = heir.member == member;
        return Err(if asked_twice {
            ChangeError::PromotionPending(id)
        } else {
            ChangeError::BeingReplaced { old, by }
        });
    }
    // Whoever learns already may be given the place; its other lives may not be there, but for
    // the one whose place it takes.
    lists.learners.retain(|learner| learner.member != member);
    let replaced = match intent {
        Intent::Promote { replaces } => replaces,
        Intent::Stay => None,
    };
    let voting = lists.voters.iter().map(|voter| voter.member);
    let mut listed = voting.chain(lists.learners.iter().map(|learner| learner.member));
    if listed.any(|other| other.id == id && Some(other) != replaced) {
        return Err(ChangeError::OtherLife(id));
    }
    lists.learners.push(learner(member, address, intent)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::Incarnation;

    const NOBODY: Intent = Intent::Promote { replaces: None };

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    /// A server in its first life, or, as `s1'`, in its second.
    fn member(name: &str) -> Member {
        let bare = name.trim_end_matches('\'');
        Member { id: id(bare), incarnation: Incarnation((name.len() - bare.len()) as u64) }
    }

    fn voter(name: &str) -> Voter {
        Voter { member: member(name), address: "a:1".into() }
    }

    fn configuration(voters: &[&str], learners: &[(&str, Intent)]) -> Configuration {
        let learner = |(name, intent): &(&str, Intent)| Learner {
            member: member(name),
            address: "a:1".into(),
            intent: *intent,
        };
        Configuration::from_lists(Lists {
            voters: voters.iter().map(|name| voter(name)).collect(),
            outgoing: Vec::new(),
            learners: learners.iter().map(learner).collect(),
        })
        .unwrap()
    }

    fn replace(old: &str, new: &str) -> Change {
        Change::Replace { old: id(old), member: member(new), address: "a:1".into() }
    }

    fn add(name: &str) -> Change {
        Change::AddVoter { member: member(name), address: "a:1".into() }
    }

    /// Where a change leads, once it is finished.
    fn after(before: &Configuration, change: &Change) -> Result<Configuration, ChangeError> {
        let joint = before.joint_by(change)?;
        assert_eq!(joint.outgoing(), before.voters(), "the outgoing half are the voters before");
        Ok(joint.settled())
    }

    #[test]
    fn a_new_server_learns_and_is_meant_to_vote_or_not() {
        let two = configuration(&["s1", "s2"], &[]);
        assert_eq!(after(&two, &add("s3")), Ok(configuration(&["s1", "s2"], &[("s3", NOBODY)])));
        let learner = Change::AddLearner { member: member("s3"), address: "a:1".into() };
        let learns = configuration(&["s1", "s2"], &[("s3", Intent::Stay)]);
        assert_eq!(after(&two, &learner), Ok(learns.clone()));
        let promoted = configuration(&["s1", "s2"], &[("s3", NOBODY)]);
        assert_eq!(after(&learns, &Change::Promote(id("s3"))), Ok(promoted.clone()));
        let joint = promoted.joint_promoting(member("s3")).unwrap();
        assert_eq!(joint.settled(), configuration(&["s1", "s2", "s3"], &[]));
    }

    #[test]
    fn what_is_there_is_not_added_again() {
        let three = configuration(&["s1", "s2"], &[("s3", NOBODY)]);
        assert_eq!(after(&three, &add("s1")), Err(ChangeError::AlreadyThere(id("s1"))));
        assert_eq!(after(&three, &add("s3")), Err(ChangeError::AlreadyThere(id("s3"))));
        assert_eq!(after(&three, &add("s1'")), Err(ChangeError::OtherLife(id("s1"))));
        let promote = |name| after(&three, &Change::Promote(id(name)));
        assert_eq!(promote("s3"), Err(ChangeError::PromotionPending(id("s3"))));
        assert_eq!(promote("s1"), Err(ChangeError::AlreadyThere(id("s1"))));
        assert_eq!(promote("s9"), Err(ChangeError::Unknown(id("s9"))));
    }

    #[test]
    fn a_removed_server_leaves_all_its_places() {
        let replaces = Intent::Promote { replaces: Some(member("s2")) };
        let before = configuration(&["s1", "s2"], &[("s2'", replaces)]);
        let alone = configuration(&["s1"], &[]);
        assert_eq!(after(&before, &Change::Remove(id("s2"))), Ok(alone.clone()));
        assert_eq!(after(&alone, &Change::Remove(id("s1"))), Err(ChangeError::NobodyLeft));
        assert_eq!(after(&alone, &Change::Remove(id("s2"))), Err(ChangeError::Unknown(id("s2"))));
        let heir = configuration(&["s1", "s2"], &[("s3", replaces)]);
        let expected = configuration(&["s1"], &[("s3", NOBODY)]);
        assert_eq!(after(&heir, &Change::Remove(id("s2"))), Ok(expected));
    }

    #[test]
    fn the_new_server_comes_in_the_change_in_which_the_old_one_goes() {
        let replaces = Intent::Promote { replaces: Some(member("s2")) };
        for new in ["s3", "s2'"] {
            let before = configuration(&["s1", "s2"], &[]);
            let learns = after(&before, &replace("s2", new)).unwrap();
            assert_eq!(learns, configuration(&["s1", "s2"], &[(new, replaces)]));
            let joint = learns.joint_promoting(member(new)).unwrap();
            assert_eq!(joint.outgoing(), before.voters());
            assert_eq!(joint.settled(), configuration(&["s1", new], &[]));
        }
    }

    #[test]
    fn a_server_that_was_wiped_twice_is_replaced_by_its_third_life() {
        let replaces = Intent::Promote { replaces: Some(member("s2")) };
        let twice = configuration(&["s1", "s2"], &[("s2'", replaces)]);
        let third = configuration(&["s1", "s2"], &[("s2''", replaces)]);
        assert_eq!(after(&twice, &replace("s2", "s2''")), Ok(third));
        assert_eq!(
            after(&twice, &replace("s2", "s2'")),
            Err(ChangeError::AlreadyThere(id("s2"))),
            "what was asked for twice is there once"
        );
        assert_eq!(
            after(&twice, &replace("s1", "s2''")),
            Err(ChangeError::OtherLife(id("s2"))),
            "a later life takes no other server's place"
        );
    }

    #[test]
    fn a_place_has_one_heir() {
        let replaces = Intent::Promote { replaces: Some(member("s2")) };
        let heir = configuration(&["s1", "s2"], &[("s3", replaces)]);
        let refused = ChangeError::BeingReplaced { old: id("s2"), by: id("s3") };
        assert_eq!(after(&heir, &replace("s2", "s4")), Err(refused));
        let again = after(&heir, &replace("s2", "s3"));
        assert_eq!(again, Err(ChangeError::PromotionPending(id("s3"))));
        let other = configuration(&["s1", "s2"], &[("s4", replaces)]);
        assert_eq!(after(&heir, &replace("s3", "s4")), Ok(other));
    }

    #[test]
    fn a_learner_can_take_a_voters_place() {
        let replaces = Intent::Promote { replaces: Some(member("s2")) };
        let learns = configuration(&["s1", "s2"], &[("s3", Intent::Stay)]);
        let heir = configuration(&["s1", "s2"], &[("s3", replaces)]);
        assert_eq!(after(&learns, &replace("s2", "s3")), Ok(heir));
        assert_eq!(
            after(&learns, &replace("s3", "s3'")),
            Ok(configuration(&["s1", "s2"], &[("s3'", Intent::Stay)])),
            "a learner that was wiped goes on learning"
        );
    }

    #[test]
    fn one_change_follows_another() {
        let joint = configuration(&["s1"], &[]).joint_by(&add("s2")).unwrap();
        assert_eq!(joint.joint_by(&add("s3")), Err(ChangeError::Pending));
        assert_eq!(joint.joint_promoting(member("s2")), Err(ChangeError::Pending));
    }

    #[test]
    fn members_and_addresses_have_limits() {
        let names: Vec<String> = (0..Configuration::MEMBERS_MAX).map(|n| format!("s{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let full = configuration(&names, &[]);
        assert!(matches!(full.joint_by(&add("extra")), Err(ChangeError::TooMany { .. })));
        let address = "x".repeat(Configuration::ADDRESS_BYTES_MAX as usize + 1);
        let long = Change::AddVoter { member: member("s2"), address };
        let one = configuration(&["s1"], &[]);
        assert!(matches!(one.joint_by(&long), Err(ChangeError::Address { .. })));
    }
}
