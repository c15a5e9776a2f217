//! What an unfounded server does next, given what it has heard: it waits, agrees, founds, or waits
//! to be taken in.

use std::collections::BTreeMap;

use super::{Charter, ClusterId, Founded, Seat, Standing};
use crate::node::{Configuration, ConfigurationError, Member, NodeId, Voter};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait until these have answered, or agreed.
    Wait(Vec<NodeId>),
    /// Make durable that this server agrees to this, then say so.
    Agree(Charter),
    /// Write the log's first entry.
    Found(Charter),
    /// Wait until a member of a founded cluster answers.
    Seek,
    /// Announce itself to the members of a cluster until they take it in.
    Join(Door),
    /// It cannot go on without a person.
    Stuck(Obstacle),
}

/// A cluster that may take this server in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Which one.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// The server that wants in.
    pub me: Seat,
    /// What the cluster knows of it.
    pub place: Place,
    /// The members, to whom it announces itself.
    pub members: Vec<Seat>,
}

/// What a cluster knows of a server that is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nothing.
    NotListed,
    /// It lists a server of that name that has another directory.
    OtherDisk,
    /// It lists this very server, and will send it the log.
    Listed,
}

/// Why a server cannot take part in founding its cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The servers of the file cannot be the members of a cluster.
    #[error("the servers of the configuration file cannot found a cluster: {0}")]
    NoConfiguration(ConfigurationError),
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
    /// Its directory is from before it agreed.
    #[error(
        "the cluster of {peer} was founded with this very directory of {me}, and it does not know \
         of it: it is an older copy, and what {me} promised since is lost; put its newest \
         directory back, or move this one away, start {me} with --join, then: kvctl member \
         replace {me}"
    )]
    Forgotten {
        /// The other server.
        peer: NodeId,
        /// This server.
        me: NodeId,
    },
    /// A server changed its incarnation after pairs were agreed on.
    #[error(
        "{wiped} lost its data directory while the cluster was being founded. {me} has stored \
         nothing yet: remove its data directory, and start it again. Do the same with every other \
         server that says this of itself; one that says that the cluster is founded keeps its own, \
         and the others then say how they come in"
    )]
    Wiped {
        /// The server that did.
        wiped: NodeId,
        /// This server.
        me: NodeId,
    },
}

/// How a server comes into a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It founds one together with the servers of its file, unless that exists already.
    Found,
    /// It only joins one that exists.
    Join,
}

/// Servers outside the file whose word is remembered.
pub(super) const STRANGERS_HEARD_MAX: usize = 16;

/// A server that belongs to no cluster yet.
#[derive(Clone, Debug)]
pub struct Founding {
    pub(super) me: Member,
    /// Where this server listens.
    address: String,
    way: Way,
    /// The name of its cluster, if somebody has told.
    name: Option<String>,
    /// All servers of the file, this one too, sorted.
    seats: Vec<Seat>,
    agreed: Option<Charter>,
    pub(super) heard: BTreeMap<NodeId, (Member, Standing)>,
}

impl Founding {
    /// A server of a configuration file, whose disk says that it has agreed to `agreed`, if to
    /// anything.
    #[must_use]
    pub fn new(me: Member, name: String, mut seats: Vec<Seat>, agreed: Option<Charter>) -> Self {
        seats.sort();
        let own = seats.iter().find(|seat| seat.id == me.id);
        let address = own.map(|seat| seat.address.clone()).unwrap_or_default();
        let (name, heard) = (Some(name), BTreeMap::new());
        Self { me, address, way: Way::Found, name, seats, agreed, heard }
    }

    /// A server that founds nothing: it joins the cluster of that name, or whichever it is told of.
    #[must_use]
    pub fn joining(
        me: Member,
        address: String,
        name: Option<String>,
        agreed: Option<Charter>,
    ) -> Self {
        let (seats, heard) = (Vec::new(), BTreeMap::new());
        Self { me, address, way: Way::Join, name, seats, agreed, heard }
    }

    /// What this server says of itself.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if let Step::Seek | Step::Join(_) = self.step() {
            return Standing::Joining { address: self.address.clone() };
        }
        match &self.agreed {
            Some(charter) => Standing::Agreed(charter.clone()),
            None => Standing::Empty {
                name: self.name.clone().unwrap_or_default(),
                seats: self.seats.clone(),
            },
        }
    }

    /// Another server said this of itself. The latest word counts. Of servers that the file does
    /// not list only those are remembered that have a cluster, and only some of them: who they are
    /// nobody knows, and each takes memory.
    pub fn hear(&mut self, from: Member, standing: Standing) {
        let is_seat = |id: NodeId| self.seats.iter().any(|seat| seat.id == id);
        if !is_seat(from.id) && !self.heard.contains_key(&from.id) {
            let strangers = self.heard.keys().filter(|id| !is_seat(**id)).count();
            if !matches!(standing, Standing::Founded(_)) || strangers >= STRANGERS_HEARD_MAX {
                return;
            }
        }
        self.heard.insert(from.id, (from, standing));
    }

    /// This server's agreement is durable.
    pub fn on_agreed(&mut self, charter: Charter) {
        self.agreed = Some(charter);
    }

    /// What to do now.
    #[must_use]
    pub fn step(&self) -> Step {
        if let Some((peer, founded)) = self.founded() {
            return self.step_by_founded(peer, founded);
        }
        if self.way == Way::Join {
            return Step::Seek;
        }
        match self.gather() {
            Err(obstacle) => Step::Stuck(obstacle),
            Ok(Gathered::Missing(missing)) => Step::Wait(missing),
            Ok(Gathered::All(charter)) => self.step_by_charter(charter),
        }
    }

    /// The founded cluster that was heard of, from whoever knows best of this server. Members may
    /// lag behind each other, but they do not disagree about what their cluster was founded with.
    fn founded(&self) -> Option<(NodeId, &Founded)> {
        let heard = self.heard.iter().filter_map(|(peer, (_, standing))| match standing {
            Standing::Founded(founded) => Some((*peer, founded)),
            _ => None,
        });
        heard.max_by_key(|(_, founded)| self.place_in(&founded.members))
    }

    fn place_in(&self, members: &Configuration) -> Place {
        if members.lists(self.me) {
            Place::Listed
        } else if members.members().any(|member| member.id == self.me.id) {
            Place::OtherDisk
        } else {
            Place::NotListed
        }
    }

    fn step_by_founded(&self, peer: NodeId, founded: &Founded) -> Step {
        let Founded { charter, members, .. } = founded;
        if let Some(wanted) = self.name.as_ref().filter(|name| **name != charter.name) {
            let (found, wanted) = (charter.name.clone(), wanted.clone());
            return Step::Stuck(Obstacle::OtherName { peer, found, wanted });
        }
        if self.agreed.as_ref().is_some_and(|agreed| agreed != charter) {
            return Step::Stuck(Obstacle::OtherList { peer });
        }
        let place = self.place_in(members);
        // That the cluster is founded with this very incarnation proves that it agreed. A directory
        // that does not know of it is older than that, and its server may have voted since.
        if charter.configuration.lists(self.me) && self.agreed.is_none() {
            return Step::Stuck(Obstacle::Forgotten { peer, me: self.me.id });
        }
        // If it was removed since, it must be taken in again like anybody else.
        if place == Place::Listed && charter.configuration.lists(self.me) {
            return Step::Found(charter.clone());
        }
        let seat = |(member, address): (Member, &str)| Seat {
            id: member.id,
            address: address.to_string(),
        };
        Step::Join(Door {
            cluster: charter.cluster_id(),
            name: charter.name.clone(),
            me: Seat { id: self.me.id, address: self.address.clone() },
            place,
            members: members.addresses().map(seat).filter(|seat| seat.id != self.me.id).collect(),
        })
    }

    /// A member of this cluster has sent this very server a part of its log, so the cluster's
    /// configuration lists it. Returns what to join, unless that is not known for certain yet or
    /// is not the cluster that was meant; then the member will send again.
    #[must_use]
    pub fn admitted_to(&self, cluster: ClusterId) -> Option<Charter> {
        let mut heard = self.heard.values().filter_map(|(_, standing)| match standing {
            Standing::Founded(founded) => Some(&founded.charter),
            _ => None,
        });
        let charter = heard.find(|charter| charter.cluster_id() == cluster)?;
        let is_meant = self.name.as_ref().is_none_or(|name| *name == charter.name)
            && self.agreed.as_ref().is_none_or(|agreed| agreed == charter);
        is_meant.then(|| charter.clone())
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
                    if (Some(name), seats) != (self.name.as_ref(), &self.seats) {
                        return Err(Obstacle::OtherList { peer: *id });
                    }
                    *member
                }
                Some((member, Standing::Agreed(charter))) => {
                    self.check_agreement(*id, charter)?;
                    *member
                }
                // One that only joins founds nothing; it says otherwise once it was started so.
                Some((_, Standing::Joining { .. } | Standing::Founded(_))) => {
                    missing.push(*id);
                    continue;
                }
            };
            voters.push(Voter { member, address: address.clone() });
        }
        if !missing.is_empty() {
            return Ok(Gathered::Missing(missing));
        }
        let configuration = Configuration::new(voters).map_err(Obstacle::NoConfiguration)?;
        let name = self.name.clone().unwrap_or_default();
        Ok(Gathered::All(Charter { name, configuration }))
    }

    /// Whether another server's agreement is one that this server can join.
    fn check_agreement(&self, peer: NodeId, charter: &Charter) -> Result<(), Obstacle> {
        let seats: Vec<Seat> = charter
            .configuration
            .voters()
            .iter()
            .map(|voter| Seat { id: voter.member.id, address: voter.address.clone() })
            .collect();
        if Some(&charter.name) != self.name.as_ref() || seats != self.seats {
            return Err(Obstacle::OtherList { peer });
        }
        if charter.incarnation_of(self.me.id) != Some(self.me) {
            return Err(Obstacle::Wiped { wiped: self.me.id, me: self.me.id });
        }
        Ok(())
    }

    fn step_by_charter(&self, charter: Charter) -> Step {
        let Some(agreed) = &self.agreed else { return Step::Agree(charter) };
        let changed = charter.configuration.members().zip(agreed.configuration.members());
        if let Some((now, _)) = changed.into_iter().find(|(now, then)| now != then) {
            return Step::Stuck(Obstacle::Wiped { wiped: now.id, me: self.me.id });
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

enum Gathered {
    Missing(Vec<NodeId>),
    All(Charter),
}
