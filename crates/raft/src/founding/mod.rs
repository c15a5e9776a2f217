//! How a cluster begins. Servers with empty directories must agree on who they are *before* any of
//! them votes: a server that lost its disk between two starts would otherwise vote twice.
//!
//! Each server draws an incarnation, makes it durable and tells every other server of the
//! configuration file what it stands for (its [`Standing`]). When all have answered that they are
//! empty, with the same list, each durably agrees to exactly these pairs of server and
//! incarnation, once and never to others. When all have agreed to the same pairs, each writes them
//! as the first entry of its log: the cluster is founded, and its id is their hash. A server that
//! was away when the others finished finds a founded peer whose pairs list its very incarnation,
//! and finishes too.
//!
//! Two different sets of pairs can never both be founded: each would need the agreement of every
//! server in it, and a server agrees once in the life of its directory. Servers that have *all*
//! lost their directories do not know that they founded a cluster before; whoever calls these steps
//! waits before the first agreement until those that do know have had time to say so.
//!
//! Later servers join. One with an empty directory that its cluster does not list stays up and
//! announces its pair; it neither votes nor campaigns. Once an operator has named it, the first
//! part of the log that is addressed to that very pair makes it a member. So does a server that
//! lost its directory: whatever it promised before, it promised under another incarnation.
//!
//! All of this is pure: what was heard goes in, the next step comes out.
//! [`Home`](crate::storage::Home) makes the steps durable. Here stands what servers say to each
//! other; what follows from it is decided in `steps`.

mod steps;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use steps::{Door, Founding, Obstacle, Place, Step};

use crate::node::{Configuration, Index, Member, NodeId, Voter};

/// What tells one cluster from every other: a hash of what it was founded with.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One server of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seat {
    /// Its name.
    pub id: NodeId,
    /// Where it listens, as `host:port`.
    pub address: String,
}

/// What a cluster is founded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charter {
    /// The cluster's name, as the configuration file gives it.
    pub name: String,
    /// Its first members, all of them voters.
    #[serde(with = "founders")]
    pub configuration: Configuration,
}

impl Charter {
    /// The id of a cluster that is founded with this.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        let digest = Sha256::new()
            .chain_update((self.name.len() as u64).to_le_bytes())
            .chain_update(self.name.as_bytes())
            .chain_update(self.configuration.encode())
            .finalize();
        let mut id = ClusterId::default();
        id.0.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
        id
    }

    fn incarnation_of(&self, id: NodeId) -> Option<Member> {
        self.configuration.members().find(|member| member.id == id)
    }
}

/// What a server says of itself to servers that are in no cluster yet, or while it is in none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It has agreed to nothing and knows this list.
    Empty {
        /// The cluster's name in its file.
        name: String,
        /// The servers in its file, sorted.
        seats: Vec<Seat>,
    },
    /// It has durably agreed to found its cluster with this.
    Agreed(Charter),
    /// Its cluster is founded.
    Founded(Founded),
    /// It belongs to no cluster and waits to be taken into one.
    Joining {
        /// Where it listens, as `host:port`.
        address: String,
    },
}

/// A cluster, as one of its servers knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founded {
    /// What it was founded with.
    pub charter: Charter,
    /// Who belongs to it now.
    #[serde(with = "encoded")]
    pub members: Configuration,
    /// The index of that configuration, once it is committed.
    pub since: Option<Index>,
}

/// A charter's configuration as it is stored and sent: its voters, since it has nothing else.
mod founders {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    use super::{Configuration, Voter};

    pub(super) fn serialize<S: Serializer>(
        configuration: &Configuration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if configuration.is_joint() || !configuration.learners().is_empty() {
            return Err(ser::Error::custom("a cluster is founded with voters alone"));
        }
        configuration.voters().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Configuration, D::Error> {
        let voters = Vec::<Voter>::deserialize(deserializer)?;
        Configuration::new(voters).map_err(de::Error::custom)
    }
}

/// A configuration in its own encoding.
mod encoded {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Configuration;

    pub(super) fn serialize<S: Serializer>(
        configuration: &Configuration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&configuration.encode())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Configuration, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Configuration::decode(bytes).map_err(de::Error::custom)
    }
}
