//! What servers check when they meet: who they are, which cluster, which start, and whom a message
//! is for. Pure: what both sides say goes in, the verdict comes out.

use std::io;

use raft::node::{Boot, Configuration, Incarnation, Member, NodeId};
use raft::storage::{Boots, Sighting};

use crate::wire::frame::{Frame, Kind, Message};
use crate::wire::handshake::{
    Hello, PeerHello, Refused, RefusedReason, Role, Timing, VersionRange, Welcome,
};
use crate::wire::peer::Addressee;

/// A server, as it shows itself to others.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Who it is.
    pub me: Member,
    /// Which of its starts this is.
    pub boot: Boot,
    /// The name of its cluster; empty as long as a server that joins has not been told.
    pub cluster: &'a str,
    /// The id of its cluster; `None` before it belongs to one.
    pub cluster_id: Option<[u8; 16]>,
    /// Where it listens.
    pub address: &'a str,
    /// How it counts time.
    pub timing: Timing,
}

/// The version that both sides speak, and what the side that connected says of itself.
///
/// # Errors
/// What to answer if that was no handshake, or one of another version.
pub fn read_hello(frame: &Frame) -> Result<(u16, Role), Refused> {
    if frame.kind != Kind::HELLO {
        let text = "the first frame of a connection must be a handshake";
        return Err(Refused::new(RefusedReason::WrongMagic, text));
    }
    let theirs = Hello::peek_versions(&frame.body)
        .map_err(|error| Refused::new(RefusedReason::WrongMagic, error.to_string()))?;
    let version = VersionRange::OURS.common(theirs).ok_or_else(|| {
        let ours = VersionRange::OURS;
        let text = format!("this server speaks protocol versions {ours}, you speak {theirs}");
        Refused::new(RefusedReason::Version, text)
    })?;
    let hello = Hello::decode_body(&frame.body)
        .map_err(|error| Refused::new(RefusedReason::Malformed, error.to_string()))?;
    Ok((version, hello.role))
}

/// Compares another server's boot with the latest that was ever seen, and notes it, durably if it
/// is later: before anything that comes over its connection is read.
///
/// Only servers of this cluster are noted, or those that may become one: what others say is never
/// counted. That the configuration lists it is not asked, since this server may have been away when
/// it became a member. `members` are those of the cluster, once there is one, and `seats` the
/// servers of the file.
///
/// # Errors
/// The disk failed; nothing that comes over that connection may be acted upon.
pub fn sight(
    boots: &mut Boots,
    (ours, theirs): (Option<[u8; 16]>, Option<[u8; 16]>),
    (members, seats): (Option<&Configuration>, &[NodeId]),
    (member, boot): (Member, Boot),
) -> io::Result<Sighting> {
    if ours.is_some() && theirs != ours {
        return Ok(Sighting::Current);
    }
    let is_known = |member: Member| match members {
        Some(members) => members.lists(member),
        None => seats.contains(&member.id),
    };
    boots.see(member, boot, is_known)
}

impl Host<'_> {
    /// The addressee that messages to this server must name.
    #[must_use]
    pub fn addressee(&self) -> Addressee {
        Addressee { incarnation: self.me.incarnation, boot: self.boot }
    }

    /// Whether a message that is written for `to` and comes from a server of the cluster `theirs`
    /// is for this server. One that belongs to no cluster yet listens to any.
    #[must_use]
    pub fn is_for_me(&self, to: Addressee, theirs: Option<[u8; 16]>) -> bool {
        to == self.addressee() && (self.cluster_id.is_none() || theirs == self.cluster_id)
    }

    /// How this server introduces itself to `to`.
    #[must_use]
    pub fn hello_to(&self, to: Option<NodeId>) -> PeerHello {
        PeerHello {
            cluster: self.cluster.to_string(),
            cluster_id: self.cluster_id,
            node: self.me.id.to_string(),
            incarnation: self.me.incarnation.0,
            boot: self.boot.0,
            timing: self.timing,
            to: to.map(|to| to.to_string()).unwrap_or_default(),
        }
    }

    /// How this server, which knows the log to be committed up to `commit`, answers whoever
    /// connects.
    #[must_use]
    pub fn welcome(&self, version: u16, commit: u64) -> Welcome {
        Welcome {
            version,
            node: self.me.id.to_string(),
            cluster: self.cluster.to_string(),
            cluster_id: self.cluster_id,
            incarnation: self.me.incarnation.0,
            boot: self.boot.0,
            commit,
            timing: self.timing,
        }
    }

    /// Whether a server that connected means this one and may be of its cluster. Who it is, then;
    /// its boot is still to be compared, by [`sight`].
    ///
    /// # Errors
    /// What to answer if not.
    pub fn check_peer(&self, peer: &PeerHello) -> Result<Member, Refused> {
        let me = self.me.id;
        // A server that joins may know nothing but an address.
        if !peer.to.is_empty() && peer.to != me.as_str() {
            let text = format!("this is {me}, not {}; check the addresses in your file", peer.to);
            return Err(Refused::new(RefusedReason::Identity, text));
        }
        let ours = self.cluster;
        if !peer.cluster.is_empty() && !ours.is_empty() && peer.cluster != ours {
            let text = format!("this is a server of cluster {ours:?}, not of {:?}", peer.cluster);
            return Err(Refused::new(RefusedReason::Cluster, text));
        }
        if let (Some(mine), Some(theirs)) = (self.cluster_id, peer.cluster_id)
            && mine != theirs
        {
            let text = format!(
                "this is another cluster {ours:?}, perhaps recovered from yours; to join, start {} \
                 with an empty directory and --join {}",
                peer.node, self.address
            );
            return Err(Refused::new(RefusedReason::Cluster, text));
        }
        let id = NodeId::new(&peer.node)
            .map_err(|error| Refused::new(RefusedReason::Identity, error.to_string()))?;
        if id == me {
            let text = format!("two servers are called {me}; each needs an id of its own");
            return Err(Refused::new(RefusedReason::Identity, text));
        }
        Ok(Member { id, incarnation: Incarnation(peer.incarnation) })
    }

    /// What a server is told of which a later start than `boot` was seen.
    #[must_use]
    pub fn refuse_rolled_back(&self, id: NodeId, boot: Boot, seen: Boot) -> Refused {
        let me = self.me.id;
        let text = format!(
            "{id} was rolled back: this is start {boot} of its directory, {me} has seen start \
             {seen}; put its newest directory back, or empty it, then: kvctl member replace {id}"
        );
        Refused::new(RefusedReason::RolledBack, text)
    }

    /// Why the server that answered at `address` is not the one that was meant, which is `id` if
    /// that is known; `None` if it is.
    #[must_use]
    pub fn check_welcome(
        &self,
        id: Option<NodeId>,
        address: &str,
        welcome: &Welcome,
    ) -> Option<String> {
        if id.is_some_and(|id| welcome.node != id.as_str()) || NodeId::new(&welcome.node).is_err() {
            return Some(format!("{} answers at its address {address}", welcome.node));
        }
        let (ours, theirs) = (self.cluster, &welcome.cluster);
        // A server that joins may not know the name of its cluster yet.
        if !ours.is_empty() && !theirs.is_empty() && ours != theirs {
            return Some(format!("it belongs to cluster {:?}", welcome.cluster));
        }
        match (self.cluster_id, welcome.cluster_id) {
            (Some(ours), Some(theirs)) if ours != theirs => Some(format!(
                "it belongs to another cluster of the same name; to bring it into this one, start \
                 {} with an empty directory and --join {}",
                welcome.node, self.address
            )),
            _ => None,
        }
    }
}
