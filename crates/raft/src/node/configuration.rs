//! Who belongs to the cluster: who votes, who voted before the change that is under way, and who
//! only learns. Its bytes stand in the log, in snapshots and in the founding charter.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::quorum::Quorum;
use super::types::{Member, NodeId};

/// A voter and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// The server and the life of its directory.
    pub member: Member,
    /// Where the others reach it, as `host:port`.
    pub address: String,
}

/// A server that receives the log and does not vote (4.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Learner {
    /// The server and the life of its directory.
    pub member: Member,
    /// Where the others reach it, as `host:port`.
    pub address: String,
    /// What is to become of it.
    pub intent: Intent,
}

/// What is to become of a learner. It stands in the configuration, so that whoever leads can do
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Intent {
    /// It stays one until somebody says otherwise.
    Stay,
    /// It votes as soon as it has caught up.
    Promote {
        /// The voter that goes in the same change.
        replaces: Option<Member>,
    },
}

/// The lists that make up a configuration, as they are encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lists {
    /// Who votes; while the configuration changes, who will.
    pub voters: Vec<Voter>,
    /// Who voted before a change that is not finished.
    pub outgoing: Vec<Voter>,
    /// Who only learns.
    pub learners: Vec<Learner>,
}

/// The members of a cluster, as an entry of the log carries them. With outgoing voters it is
/// *joint* (4.3): then a decision needs a majority of the voters and one of the outgoing voters.
///
/// Invariants:
/// - each list is sorted by member and names no server twice, in no two of its lives;
/// - no learner votes, in either half. Another life of the same server may: a server that lost
///   its disk learns under its new life until that replaces the old one;
/// - it lists no more members, and no longer addresses, than a cluster may have. So it is with one
///   that comes from the network or the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    lists: Lists,
}

/// Why lists or bytes are not a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// A version that this program does not know.
    #[error("configuration version {0} is unknown; a newer program wrote it")]
    Version(u8),
    /// Not a configuration at all.
    #[error("not a configuration: {0}")]
    Malformed(String),
    /// The same server stands in one of its lists twice.
    #[error("server {0} stands in the configuration twice")]
    Twice(Member),
    /// The same member votes and only learns.
    #[error("server {0} is both a voter and a learner of the configuration")]
    VoterAndLearner(Member),
    /// A limit.
    #[error("a cluster has at most {members_max} members")]
    TooMany {
        /// The limit.
        members_max: u32,
    },
    /// A limit.
    #[error("{member} listens at an address of {bytes} bytes; it may have {bytes_max}")]
    Address {
        /// Whose address it is.
        member: Member,
        /// How long it is.
        bytes: u64,
        /// The limit.
        bytes_max: u32,
    },
}

/// The one empty configuration, of a server that was never told of any.
pub(super) static NOBODY: Configuration = Configuration {
    lists: Lists { voters: Vec::new(), outgoing: Vec::new(), learners: Vec::new() },
};

impl Configuration {
    /// As many members as a cluster may have, learners included. Every commit counts them.
    pub const MEMBERS_MAX: u32 = 64;
    /// The longest address of a member, in bytes: a host name of 253, a colon and a port.
    pub const ADDRESS_BYTES_MAX: u32 = 259;

    /// Voters alone. Whatever it can say is written in it, so that the hash of a founding charter
    /// does not depend on the program's version.
    const VOTERS_ONLY: u8 = 1;
    /// All lists.
    const ALL_LISTS: u8 = 2;

    /// A configuration of these voters alone, in any order.
    ///
    /// # Errors
    /// A server is named twice, or a limit is passed.
    pub fn new(voters: Vec<Voter>) -> Result<Self, ConfigurationError> {
        Self::from_lists(Lists { voters, ..Lists::default() })
    }

    /// A configuration of these lists, each in any order.
    ///
    /// # Errors
    /// They contradict each other, or pass a limit.
    pub fn from_lists(mut lists: Lists) -> Result<Self, ConfigurationError> {
        lists.voters.sort_by_key(|voter| voter.member);
        lists.outgoing.sort_by_key(|voter| voter.member);
        lists.learners.sort_by_key(|learner| learner.member);
        check_once(lists.voters.iter().map(|voter| voter.member))?;
        check_once(lists.outgoing.iter().map(|voter| voter.member))?;
        check_once(lists.learners.iter().map(|learner| learner.member))?;
        let configuration = Self { lists };
        let voting = |member: &Member| configuration.is_voter(*member);
        if let Some(member) =
            configuration.learners().iter().map(|learner| learner.member).find(voting)
        {
            return Err(ConfigurationError::VoterAndLearner(member));
        }
        configuration.check_limits()?;
        Ok(configuration)
    }

    fn check_limits(&self) -> Result<(), ConfigurationError> {
        let (members_max, bytes_max) = (Self::MEMBERS_MAX, Self::ADDRESS_BYTES_MAX);
        if self.members().nth(members_max as usize).is_some() {
            return Err(ConfigurationError::TooMany { members_max });
        }
        // Not `addresses`, which lists a voter of both halves once: the halves may differ.
        let outgoing = self.outgoing().iter().map(|voter| (voter.member, voter.address.as_str()));
        let too_long = |(_, address): &(Member, &str)| address.len() > bytes_max as usize;
        match self.addresses().chain(outgoing).find(too_long) {
            Some((member, address)) => {
                let bytes = address.len() as u64;
                Err(ConfigurationError::Address { member, bytes, bytes_max })
            }
            None => Ok(()),
        }
    }

    /// Its lists, to make another one of.
    #[must_use]
    pub fn into_lists(self) -> Lists {
        self.lists
    }

    /// The voters, sorted; while it is joint, those that will vote.
    #[must_use]
    pub fn voters(&self) -> &[Voter] {
        &self.lists.voters
    }

    /// Those that voted before the change that is under way, sorted. None when there is none.
    #[must_use]
    pub fn outgoing(&self) -> &[Voter] {
        &self.lists.outgoing
    }

    /// Those that only learn, sorted.
    #[must_use]
    pub fn learners(&self) -> &[Learner] {
        &self.lists.learners
    }

    /// Whether a change is under way, so that both halves must agree.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.lists.outgoing.is_empty()
    }

    /// Whose agreement decides.
    #[must_use]
    pub fn quorum(&self) -> Quorum<'_, Voter> {
        Quorum::new(&self.lists.voters, &self.lists.outgoing)
    }

    /// Those who vote in either half, each once.
    pub fn voting(&self) -> impl Iterator<Item = &Voter> + '_ {
        let only_before = |voter: &&Voter| find(self.voters(), voter.member).is_none();
        self.voters().iter().chain(self.outgoing().iter().filter(only_before))
    }

    /// Every member that it lists, each once: voters first, then outgoing ones, then learners.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let learners = self.learners().iter().map(|learner| learner.member);
        self.voting().map(|voter| voter.member).chain(learners)
    }

    /// Every member that it lists and where it listens, each once, in the order of
    /// [`members`](Self::members).
    pub fn addresses(&self) -> impl Iterator<Item = (Member, &str)> + '_ {
        let learners = self.learners().iter();
        let learners = learners.map(|learner| (learner.member, learner.address.as_str()));
        self.voting().map(|voter| (voter.member, voter.address.as_str())).chain(learners)
    }

    /// Where this server listens, in the life that it was last given: a learner's life is later
    /// than the voter's that it replaces, and a voter's later than the one that goes.
    #[must_use]
    pub fn address_of(&self, id: NodeId) -> Option<&str> {
        let learner = self.learners().iter().find(|learner| learner.member.id == id);
        let learner = learner.map(|learner| learner.address.as_str());
        let voter = || self.voting().find(|voter| voter.member.id == id);
        learner.or_else(|| voter().map(|voter| voter.address.as_str()))
    }

    /// Where this very member listens.
    #[must_use]
    pub fn address_of_member(&self, member: Member) -> Option<&str> {
        self.addresses().find(|(listed, _)| *listed == member).map(|(_, address)| address)
    }

    /// Whether this very member is listed, voting or not.
    #[must_use]
    pub fn lists(&self, member: Member) -> bool {
        self.is_voter(member) || self.learner(member).is_some()
    }

    /// Whether this very member votes, in either half.
    #[must_use]
    pub fn is_voter(&self, member: Member) -> bool {
        find(self.voters(), member).or_else(|| find(self.outgoing(), member)).is_some()
    }

    /// Whether this very member votes once the change that is under way is finished.
    #[must_use]
    pub fn will_vote(&self, member: Member) -> bool {
        find(self.voters(), member).is_some()
    }

    /// This very member, if it only learns.
    #[must_use]
    pub fn learner(&self, member: Member) -> Option<&Learner> {
        let at = self.learners().binary_search_by_key(&member, |learner| learner.member).ok()?;
        self.learners().get(at)
    }

    /// Ends the change that is under way: from here on the voters alone decide.
    pub(super) fn drop_outgoing(&mut self) {
        self.lists.outgoing.clear();
    }

    /// Its bytes: a version, then the lists in postcard's encoding.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Lists { voters, outgoing, learners } = &self.lists;
        let encoded = if outgoing.is_empty() && learners.is_empty() {
            postcard::to_extend(voters, vec![Self::VOTERS_ONLY])
        } else {
            postcard::to_extend(&self.lists, vec![Self::ALL_LISTS])
        };
        // Writing plain data to a vector has no way to fail.
        encoded.unwrap_or_default().into()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// The bytes are not a configuration that this program understands.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigurationError> {
        let malformed = |error: postcard::Error| ConfigurationError::Malformed(error.to_string());
        let Some((&version, body)) = bytes.split_first() else {
            return Err(ConfigurationError::Malformed("no bytes".into()));
        };
        let (lists, rest) = match version {
            Self::VOTERS_ONLY => {
                let (voters, rest) = postcard::take_from_bytes(body).map_err(malformed)?;
                (Lists { voters, ..Lists::default() }, rest)
            }
            Self::ALL_LISTS => postcard::take_from_bytes(body).map_err(malformed)?,
            version => return Err(ConfigurationError::Version(version)),
        };
        if !rest.is_empty() {
            return Err(ConfigurationError::Malformed("bytes follow it".into()));
        }
        Self::from_lists(lists)
    }
}

fn find(voters: &[Voter], member: Member) -> Option<&Voter> {
    voters.get(voters.binary_search_by_key(&member, |voter| voter.member).ok()?)
}

/// Whether no server is named twice in a sorted list.
fn check_once(members: impl Iterator<Item = Member> + Clone) -> Result<(), ConfigurationError> {
    let mut pairs = members.clone().zip(members.skip(1));
    match pairs.find(|(member, next)| member.id == next.id) {
        Some((_, twice)) => Err(ConfigurationError::Twice(twice)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::Incarnation;

    fn member(id: &str, incarnation: u64) -> Member {
        Member { id: NodeId::new(id).unwrap(), incarnation: Incarnation(incarnation) }
    }

    fn voter(id: &str, incarnation: u64) -> Voter {
        Voter { member: member(id, incarnation), address: format!("{id}:1") }
    }

    fn learner(id: &str, incarnation: u64, intent: Intent) -> Learner {
        Learner { member: member(id, incarnation), address: format!("{id}:2"), intent }
    }

    #[test]
    fn voters_alone_survive_their_encoding_in_these_very_bytes() {
        let configuration = Configuration::new(vec![voter("s2", 300), voter("s1", 7)]).unwrap();
        let bytes = configuration.encode();
        assert_eq!(&bytes[..], b"\x01\x02\x02s1\x07\x04s1:1\x02s2\xac\x02\x04s2:1");
        assert_eq!(Configuration::decode(&bytes), Ok(configuration));
    }

    #[test]
    fn all_lists_survive_their_encoding_in_these_very_bytes() {
        let replaces = Some(member("s1", 7));
        let configuration = Configuration::from_lists(Lists {
            voters: vec![voter("s2", 300)],
            outgoing: vec![voter("s2", 300), voter("s1", 7)],
            learners: vec![
                learner("s4", 5, Intent::Stay),
                learner("s3", 4, Intent::Promote { replaces: None }),
                learner("s1", 8, Intent::Promote { replaces }),
            ],
        })
        .unwrap();
        let bytes = configuration.encode();
        let golden = b"\x02\
            \x01\x02s2\xac\x02\x04s2:1\
            \x02\x02s1\x07\x04s1:1\x02s2\xac\x02\x04s2:1\
            \x03\x02s1\x08\x04s1:2\x01\x01\x02s1\x07\x02s3\x04\x04s3:2\x01\x00\
            \x02s4\x05\x04s4:2\x00";
        assert_eq!(&bytes[..], golden);
        assert_eq!(Configuration::decode(&bytes), Ok(configuration));
    }

    #[test]
    fn bytes_that_are_no_configuration_are_refused() {
        assert_eq!(Configuration::decode(b"\x03\x00"), Err(ConfigurationError::Version(3)));
        for bytes in [b"".as_slice(), b"\x01", b"\x01\x00\x00", b"\x02\x00\x00"] {
            let refused = Configuration::decode(bytes);
            assert!(matches!(refused, Err(ConfigurationError::Malformed(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_server_stands_in_no_list_twice_and_no_learner_votes() {
        let twice = Configuration::new(vec![voter("s1", 1), voter("s1", 2)]);
        assert_eq!(twice, Err(ConfigurationError::Twice(member("s1", 2))));
        let with = |outgoing: Vec<Voter>, learners: Vec<Learner>| {
            let voters = vec![voter("s1", 1)];
            Configuration::from_lists(Lists { voters, outgoing, learners })
        };
        let both = vec![learner("s2", 1, Intent::Stay)];
        let refused = ConfigurationError::VoterAndLearner(member("s2", 1));
        assert_eq!(with(vec![voter("s2", 1)], both), Err(refused));
        let next_life = vec![learner("s1", 2, Intent::Stay)];
        assert!(with(Vec::new(), next_life).is_ok(), "another life of a voter may learn");
    }

    #[test]
    fn neither_lists_nor_bytes_pass_the_limits() {
        let voters = |count: u32| (0..count).map(|n| voter(&format!("s{n}"), 1)).collect();
        let (members_max, bytes_max) =
            (Configuration::MEMBERS_MAX, Configuration::ADDRESS_BYTES_MAX);
        let full = Configuration::new(voters(members_max)).unwrap();
        assert_eq!(Configuration::decode(&full.encode()), Ok(full));
        let too_many = ConfigurationError::TooMany { members_max };
        assert_eq!(Configuration::new(voters(members_max + 1)), Err(too_many.clone()));
        let crowd: Vec<Voter> = voters(members_max + 1);
        let bytes = postcard::to_extend(&crowd, vec![Configuration::VOTERS_ONLY]).unwrap();
        assert_eq!(Configuration::decode(&bytes), Err(too_many));

        let at =
            |bytes: u32| Voter { member: member("s1", 1), address: "x".repeat(bytes as usize) };
        assert!(Configuration::new(vec![at(bytes_max)]).is_ok());
        let lists = Lists {
            voters: vec![at(bytes_max)],
            outgoing: vec![at(bytes_max + 1)],
            learners: Vec::new(),
        };
        let (member, bytes) = (member("s1", 1), u64::from(bytes_max) + 1);
        let too_long = ConfigurationError::Address { member, bytes, bytes_max };
        assert_eq!(Configuration::from_lists(lists.clone()), Err(too_long.clone()));
        let bytes = postcard::to_extend(&lists, vec![Configuration::ALL_LISTS]).unwrap();
        assert_eq!(Configuration::decode(&bytes), Err(too_long));
    }

    #[test]
    fn everybody_is_listed_once_and_a_server_is_found_where_its_latest_life_listens() {
        let configuration = Configuration::from_lists(Lists {
            voters: vec![voter("s1", 1), voter("s2", 2)],
            outgoing: vec![voter("s1", 1), voter("s3", 3)],
            learners: vec![learner("s2", 9, Intent::Stay)],
        })
        .unwrap();
        let listed = [member("s1", 1), member("s2", 2), member("s3", 3), member("s2", 9)];
        assert_eq!(configuration.members().collect::<Vec<_>>(), listed);
        assert!(listed.into_iter().all(|member| configuration.lists(member)));
        assert!(!configuration.lists(member("s3", 4)));
        let voting = listed.into_iter().filter(|member| configuration.is_voter(*member));
        assert_eq!(voting.count(), 3);
        assert!(!configuration.will_vote(member("s3", 3)));
        let s2 = configuration.address_of(NodeId::new("s2").unwrap());
        assert_eq!(s2, Some("s2:2"));
        assert_eq!(configuration.address_of_member(member("s2", 2)), Some("s2:1"));
    }

    #[test]
    fn while_a_life_replaces_another_the_later_one_is_found_and_each_by_itself() {
        let at = |incarnation, address: &str| Voter {
            member: member("s2", incarnation),
            address: address.to_string(),
        };
        // Which of the two numbers is larger means nothing: they are drawn.
        for (old, new) in [(2, 9), (9, 2)] {
            let configuration = Configuration::from_lists(Lists {
                voters: vec![at(new, "new:1")],
                outgoing: vec![at(old, "old:1")],
                learners: Vec::new(),
            })
            .unwrap();
            assert_eq!(configuration.address_of(member("s2", 0).id), Some("new:1"));
            assert_eq!(configuration.address_of_member(member("s2", new)), Some("new:1"));
            assert_eq!(configuration.address_of_member(member("s2", old)), Some("old:1"));
        }
    }
}
