//! Who votes. The configuration in force is the last one in the log, from the moment it is
//! appended and not only when it is committed (dissertation 4.1); a truncation brings the one
//! before it back.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::types::{Index, Member};

/// A voter and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// The server and the life of its directory.
    pub member: Member,
    /// Where the others reach it, as `host:port`.
    pub address: String,
}

/// The members of a cluster, as an entry of the log carries them.
///
/// Invariant: voters are sorted by member, and no server is in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Configuration {
    voters: Vec<Voter>,
}

/// What somebody claims to be a configuration.
#[derive(Deserialize)]
struct Unchecked {
    voters: Vec<Voter>,
}

impl TryFrom<Unchecked> for Configuration {
    type Error = ConfigurationError;

    fn try_from(unchecked: Unchecked) -> Result<Self, ConfigurationError> {
        Self::new(unchecked.voters)
    }
}

/// Why bytes are not a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// A version that this program does not know.
    #[error("configuration version {0} is unknown; a newer program wrote it")]
    Version(u8),
    /// Not a configuration at all.
    #[error("not a configuration: {0}")]
    Malformed(String),
    /// The same server stands in it twice.
    #[error("server {0} stands in the configuration twice")]
    Twice(Member),
}

impl Configuration {
    const VERSION: u8 = 1;

    /// A configuration of these voters, in any order.
    ///
    /// # Errors
    /// A server is named twice.
    pub fn new(mut voters: Vec<Voter>) -> Result<Self, ConfigurationError> {
        voters.sort_by_key(|voter| voter.member);
        for (voter, next) in voters.iter().zip(voters.iter().skip(1)) {
            if voter.member.id == next.member.id {
                return Err(ConfigurationError::Twice(voter.member));
            }
        }
        Ok(Self { voters })
    }

    /// The voters, sorted.
    #[must_use]
    pub fn voters(&self) -> &[Voter] {
        &self.voters
    }

    /// The members that vote, sorted.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Member> + '_ {
        self.voters.iter().map(|voter| voter.member)
    }

    /// Whether this very member votes.
    #[must_use]
    pub fn is_voter(&self, member: Member) -> bool {
        self.voters.binary_search_by_key(&member, |voter| voter.member).is_ok()
    }

    /// Its bytes: a version, then the voters in postcard's encoding.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let encoded = postcard::to_extend(self, vec![Self::VERSION]);
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
        if version != Self::VERSION {
            return Err(ConfigurationError::Version(version));
        }
        postcard::from_bytes(body).map_err(malformed)
    }
}

/// Every configuration that the log still holds, in its order, and the one before the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Membership {
    /// Never empty; the last is in force.
    configurations: VecDeque<(Index, Configuration)>,
}

impl Membership {
    /// `base` holds before the first of `appended`, which ascend.
    pub(super) fn new(
        base: (Index, Configuration),
        appended: impl IntoIterator<Item = (Index, Configuration)>,
    ) -> Self {
        Self { configurations: std::iter::once(base).chain(appended).collect() }
    }

    /// The configuration in force.
    pub(super) fn current(&self) -> &Configuration {
        static NOBODY: Configuration = Configuration { voters: Vec::new() };
        self.configurations.back().map_or(&NOBODY, |(_, configuration)| configuration)
    }

    /// A configuration was appended at `index` and is in force from now on.
    pub(super) fn append(&mut self, index: Index, configuration: Configuration) {
        self.configurations.push_back((index, configuration));
    }

    /// The log now ends at `index`: configurations above it were never in force.
    pub(super) fn truncate_after(&mut self, index: Index) {
        while self.configurations.len() > 1
            && self.configurations.back().is_some_and(|(at, _)| *at > index)
        {
            self.configurations.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::types::{Incarnation, NodeId};

    fn voter(id: &str, incarnation: u64) -> Voter {
        let member = Member { id: NodeId::new(id).unwrap(), incarnation: Incarnation(incarnation) };
        Voter { member, address: format!("{id}:1") }
    }

    #[test]
    fn a_configuration_survives_its_encoding_in_these_very_bytes() {
        let configuration = Configuration::new(vec![voter("s2", 300), voter("s1", 7)]).unwrap();
        let bytes = configuration.encode();
        assert_eq!(&bytes[..], b"\x01\x02\x02s1\x07\x04s1:1\x02s2\xac\x02\x04s2:1");
        assert_eq!(Configuration::decode(&bytes), Ok(configuration));
    }

    #[test]
    fn a_configuration_of_another_version_or_with_a_server_twice_is_refused() {
        assert_eq!(Configuration::decode(b"\x02\x00"), Err(ConfigurationError::Version(2)));
        assert!(matches!(Configuration::decode(b""), Err(ConfigurationError::Malformed(_))));
        let twice = Configuration::new(vec![voter("s1", 1), voter("s1", 2)]);
        assert!(matches!(twice, Err(ConfigurationError::Twice(_))));
    }

    #[test]
    fn a_truncation_brings_back_the_configuration_before_it() {
        let of = |id| Configuration::new(vec![voter(id, 1)]).unwrap();
        let mut membership = Membership::new((Index(1), of("s1")), [(Index(4), of("s2"))]);
        membership.append(Index(9), of("s3"));
        membership.truncate_after(Index(8));
        assert_eq!(membership.current(), &of("s2"));
        membership.truncate_after(Index(3));
        assert_eq!(membership.current(), &of("s1"));
    }
}
