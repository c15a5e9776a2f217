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
//! server in it, and a server agrees once in the life of its directory.
//!
//! This file is pure: what was heard goes in, the next step comes out.
//! [`Home`](crate::storage::Home) makes the steps durable.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::node::{Configuration, Member, NodeId, Voter};

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

/// What a server says of itself to the other servers of its file.
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
    /// Its cluster was founded with this.
    Founded(Charter),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait until these have answered, or agreed.
    Wait(Vec<NodeId>),
    /// Make durable that this server agrees to this, then say so.
    Agree(Charter),
    /// Write the log's first entry.
    Found(Charter),
    /// It cannot go on without a person.
    Stuck(Obstacle),
}

/// Why a server cannot take part in founding its cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The other server's file differs.
    #[error(
        "{peer} has another server list or cluster name in its configuration file; all servers \
         must start with the same file"
    )]
    OtherList {
        /// The other server.
        peer: NodeId,
    },
    /// The founded cluster has another name.
    #[error(
        "{peer} belongs to cluster {found:?}, but this server's configuration names {wanted:?}; \
         start it with the configuration of its own cluster"
    )]
    OtherName {
        /// The other server.
        peer: NodeId,
        /// Its cluster.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// The founded cluster knows this server by another incarnation.
    #[error(
        "this cluster knows {me} by another disk: it lost its data directory, or has two; only its \
         own directory lets it take part, and the other servers go on without it"
    )]
    OtherDisk {
        /// This server.
        me: NodeId,
    },
    /// The founded cluster does not know this server.
    #[error(
        "{peer} belongs to a cluster that was founded without {me}; take {me} out of the \
         configuration, or start it with the configuration of its own cluster"
    )]
    NotListed {
        /// The other server.
        peer: NodeId,
        /// This server.
        me: NodeId,
    },
    /// A server changed its incarnation after pairs were agreed on.
    #[error(
        "{wiped} lost its data directory while the cluster was being founded; nothing is stored \
         yet, so remove the data directories of all its servers and start them again"
    )]
    Wiped {
        /// The server that did.
        wiped: NodeId,
    },
}

/// A server that has not founded its cluster yet.
#[derive(Clone, Debug)]
pub struct Founding {
    me: Member,
    name: String,
    /// All servers of the file, this one too, sorted.
    seats: Vec<Seat>,
    agreed: Option<Charter>,
    heard: BTreeMap<NodeId, (Member, Standing)>,
}

impl Founding {
    /// A server whose disk says that it has agreed to `agreed`, if to anything.
    #[must_use]
    pub fn new(me: Member, name: String, mut seats: Vec<Seat>, agreed: Option<Charter>) -> Self {
        seats.sort();
        Self { me, name, seats, agreed, heard: BTreeMap::new() }
    }

    /// What this server says of itself.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match &self.agreed {
            Some(charter) => Standing::Agreed(charter.clone()),
            None => Standing::Empty { name: self.name.clone(), seats: self.seats.clone() },
        }
    }

    /// Another server said this of itself. The latest word counts.
    pub fn hear(&mut self, from: Member, standing: Standing) {
        self.heard.insert(from.id, (from, standing));
    }

    /// This server's agreement is durable.
    pub fn on_agreed(&mut self, charter: Charter) {
        self.agreed = Some(charter);
    }

    /// What to do now.
    #[must_use]
    pub fn step(&self) -> Step {
        let founded = self.heard.values().find_map(|(from, standing)| match standing {
            Standing::Founded(charter) => Some((from, charter)),
            _ => None,
        });
        if let Some((from, charter)) = founded {
            return self.step_by_founded(*from, charter);
        }
        match self.gather() {
            Err(obstacle) => Step::Stuck(obstacle),
            Ok(Gathered::Missing(missing)) => Step::Wait(missing),
            Ok(Gathered::All(charter)) => self.step_by_charter(charter),
        }
    }

    fn step_by_founded(&self, from: Member, charter: &Charter) -> Step {
        let (me, peer) = (self.me.id, from.id);
        if charter.name != self.name {
            let (found, wanted) = (charter.name.clone(), self.name.clone());
            return Step::Stuck(Obstacle::OtherName { peer, found, wanted });
        }
        if self.agreed.as_ref().is_some_and(|agreed| agreed != charter) {
            return Step::Stuck(Obstacle::OtherList { peer });
        }
        match charter.incarnation_of(me) {
            // That the cluster is founded with this very incarnation proves that it agreed.
            Some(member) if member == self.me => Step::Found(charter.clone()),
            Some(_) => Step::Stuck(Obstacle::OtherDisk { me }),
            None => Step::Stuck(Obstacle::NotListed { peer, me }),
        }
    }

    /// The charter that everybody's present incarnation makes, once all have been heard.
    fn gather(&self) -> Result<Gathered, Obstacle> {
        let mut missing = Vec::new();
        let mut voters = Vec::new();
        for Seat { id, address } in &self.seats {
            let member = match self.heard.get(id) {
                _ if *id == self.me.id => self.me,
                None => {
                    missing.push(*id);
                    continue;
                }
                Some((member, Standing::Empty { name, seats })) => {
                    if (name, seats) != (&self.name, &self.seats) {
                        return Err(Obstacle::OtherList { peer: *id });
                    }
                    *member
                }
                Some((member, Standing::Agreed(charter) | Standing::Founded(charter))) => {
                    self.check_agreement(*id, charter)?;
                    *member
                }
            };
            voters.push(Voter { member, address: address.clone() });
        }
        if !missing.is_empty() {
            return Ok(Gathered::Missing(missing));
        }
        let configuration = Configuration::new(voters).unwrap_or_default();
        Ok(Gathered::All(Charter { name: self.name.clone(), configuration }))
    }

    /// Whether another server's agreement is one that this server can join.
    fn check_agreement(&self, peer: NodeId, charter: &Charter) -> Result<(), Obstacle> {
        let seats: Vec<Seat> = charter
            .configuration
            .voters()
            .iter()
            .map(|voter| Seat { id: voter.member.id, address: voter.address.clone() })
            .collect();
        if charter.name != self.name || seats != self.seats {
            return Err(Obstacle::OtherList { peer });
        }
        if charter.incarnation_of(self.me.id) != Some(self.me) {
            return Err(Obstacle::Wiped { wiped: self.me.id });
        }
        Ok(())
    }

    fn step_by_charter(&self, charter: Charter) -> Step {
        let Some(agreed) = &self.agreed else { return Step::Agree(charter) };
        let changed = charter.configuration.members().zip(agreed.configuration.members());
        if let Some((now, _)) = changed.into_iter().find(|(now, then)| now != then) {
            return Step::Stuck(Obstacle::Wiped { wiped: now.id });
        }
        if *agreed != charter {
            return Step::Stuck(Obstacle::OtherList { peer: self.me.id });
        }
        let disagrees = |seat: &&Seat| {
            let said = self.heard.get(&seat.id).map(|(_, standing)| standing);
            seat.id != self.me.id && said != Some(&Standing::Agreed(charter.clone()))
        };
        let waiting: Vec<NodeId> =
            self.seats.iter().filter(disagrees).map(|seat| seat.id).collect();
        if waiting.is_empty() { Step::Found(charter) } else { Step::Wait(waiting) }
    }
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

enum Gathered {
    Missing(Vec<NodeId>),
    All(Charter),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Incarnation;

    fn seats(count: u64) -> Vec<Seat> {
        let seat = |n| Seat { id: id(n), address: format!("127.0.0.1:{n}") };
        (1..=count).map(seat).collect()
    }

    fn id(n: u64) -> NodeId {
        NodeId::new(&format!("s{n}")).unwrap()
    }

    fn member(n: u64, incarnation: u64) -> Member {
        Member { id: id(n), incarnation: Incarnation(incarnation) }
    }

    fn founding(n: u64, incarnation: u64, count: u64) -> Founding {
        Founding::new(member(n, incarnation), "demo".into(), seats(count), None)
    }

    /// Tells everybody everything, and lets everybody that can agree.
    fn gossip(servers: &mut [Founding]) {
        let said: Vec<_> = servers.iter().map(|server| (server.me, server.standing())).collect();
        for server in servers {
            for (from, standing) in &said {
                if *from != server.me {
                    server.hear(*from, standing.clone());
                }
            }
            if let Step::Agree(charter) = server.step() {
                server.on_agreed(charter);
            }
        }
    }

    #[test]
    fn servers_agree_to_the_same_pairs_and_found_the_same_cluster() {
        let mut servers: Vec<_> = (1..=3).map(|n| founding(n, 10 + n, 3)).collect();
        assert_eq!(servers[0].step(), Step::Wait(vec![id(2), id(3)]));
        gossip(&mut servers);
        gossip(&mut servers);
        let founded: Vec<_> = servers
            .iter()
            .map(|server| match server.step() {
                Step::Found(charter) => charter.cluster_id(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(founded.iter().all(|cluster| *cluster == founded[0]));
    }

    #[test]
    fn a_cluster_of_one_founds_itself_at_once() {
        let mut alone = founding(1, 7, 1);
        let Step::Agree(charter) = alone.step() else { panic!("{:?}", alone.step()) };
        alone.on_agreed(charter.clone());
        assert_eq!(alone.step(), Step::Found(charter));
    }

    #[test]
    fn nobody_founds_before_all_have_agreed() {
        let mut servers: Vec<_> = (1..=3).map(|n| founding(n, 10 + n, 3)).collect();
        gossip(&mut servers);
        // Everybody agreed in that round, but nobody has heard so of the others.
        assert!(servers.iter().all(|server| matches!(server.step(), Step::Wait(_))));
    }

    #[test]
    fn a_server_that_was_wiped_after_agreeing_stops_the_founding() {
        let mut servers: Vec<_> = (1..=2).map(|n| founding(n, 10 + n, 2)).collect();
        gossip(&mut servers);
        servers[1] = founding(2, 99, 2);
        gossip(&mut servers);
        let wiped = Step::Stuck(Obstacle::Wiped { wiped: id(2) });
        assert_eq!(servers[0].step(), wiped);
        assert_eq!(servers[1].step(), wiped);
    }

    #[test]
    fn a_late_server_adopts_a_founding_only_of_its_very_incarnation() {
        let mut servers: Vec<_> = (1..=2).map(|n| founding(n, 10 + n, 2)).collect();
        gossip(&mut servers);
        gossip(&mut servers);
        let Step::Found(charter) = servers[0].step() else { panic!("{:?}", servers[0].step()) };
        let mut late = founding(2, 12, 2);
        late.hear(member(1, 11), Standing::Founded(charter.clone()));
        assert_eq!(late.step(), Step::Found(charter.clone()));
        let mut wiped = founding(2, 13, 2);
        wiped.hear(member(1, 11), Standing::Founded(charter.clone()));
        assert_eq!(wiped.step(), Step::Stuck(Obstacle::OtherDisk { me: id(2) }));
        let mut stranger = founding(3, 14, 3);
        stranger.hear(member(1, 11), Standing::Founded(charter));
        assert!(matches!(stranger.step(), Step::Stuck(Obstacle::NotListed { .. })));
    }

    #[test]
    fn servers_with_different_files_do_not_found() {
        let mut one = founding(1, 11, 2);
        one.hear(member(2, 12), founding(2, 12, 3).standing());
        assert_eq!(one.step(), Step::Stuck(Obstacle::OtherList { peer: id(2) }));
    }
}
