//! What servers check when they meet, as the server does around its sockets: who they are, which
//! cluster, which start of which directory, and whom a message is for. What both sides say goes
//! in, the verdict comes out; what is kept on a disk is kept by production code.

use std::collections::BTreeMap;
use std::io;

use kvstore::wire::frame::{Frame, Kind, Message};
use kvstore::wire::handshake::{Age, Hello, PeerHello, Role, Timing, VersionRange, Welcome};
use kvstore::wire::peer::Addressee;
use raft::founding::Seat;
use raft::node::{Boot, Configuration, Incarnation, Member, NodeId, Term};
use raft::storage::{Boots, Seen, Sighting, Start};

use super::server::CLUSTER;

/// How all servers count time.
const TIMING: Timing = Timing { heartbeat_ms: 50, election_min_ms: 500, election_max_ms: 1000 };

/// A server, as it shows itself to others.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    /// Who it is.
    pub(super) me: Member,
    /// How far its directory has come.
    pub(super) age: Age,
    /// The id of its cluster; `None` before it belongs to one.
    pub(super) cluster_id: Option<[u8; 16]>,
    /// Who belongs to the cluster, as far as it knows.
    pub(super) members: Option<&'a Configuration>,
}

/// The version that both sides speak, and what the side that connected says of itself. `None` if
/// that was no handshake.
pub(super) fn read_hello(frame: &Frame) -> Option<(u16, Role)> {
    let theirs = Hello::peek_versions(&frame.body).ok()?;
    let version = VersionRange::OURS.common(theirs)?;
    let hello = Hello::decode_body(&frame.body).ok()?;
    (frame.kind == Kind::HELLO).then_some((version, hello.role))
}

impl Host<'_> {
    /// The addressee that messages to this server must name.
    pub(super) fn addressee(&self) -> Addressee {
        Addressee { incarnation: self.me.incarnation, boot: Boot(self.age.boot) }
    }

    /// Whether a message that is written for `to` and comes from a server of the cluster `theirs`
    /// is for this server. One that belongs to no cluster yet listens to any.
    pub(super) fn is_for_me(&self, to: Addressee, theirs: Option<[u8; 16]>) -> bool {
        to == self.addressee() && (self.cluster_id.is_none() || theirs == self.cluster_id)
    }

    /// How this server introduces itself to the one that is to be at `to`.
    pub(super) fn hello_to(&self, to: &Seat) -> PeerHello {
        let mut members = self.members.into_iter().flat_map(Configuration::addresses);
        let listed = members.find(|(member, at)| member.id == to.id && *at == to.address);
        PeerHello {
            cluster: CLUSTER.to_string(),
            cluster_id: self.cluster_id,
            node: self.me.id.to_string(),
            incarnation: self.me.incarnation.0,
            age: self.age,
            timing: TIMING,
            to: to.id.to_string(),
            to_incarnation: listed.map(|(member, _)| member.incarnation.0),
        }
    }

    /// How this server, which knows the log to be committed up to `commit`, answers whoever
    /// connects.
    pub(super) fn welcome(&self, version: u16, commit: u64) -> Welcome {
        Welcome {
            version,
            node: self.me.id.to_string(),
            cluster: CLUSTER.to_string(),
            cluster_id: self.cluster_id,
            incarnation: self.me.incarnation.0,
            age: self.age,
            commit,
            timing: TIMING,
        }
    }

    /// Who a server that connected is, if it means this one and may be of its cluster.
    pub(super) fn check_peer(&self, peer: &PeerHello) -> Option<Member> {
        let id = NodeId::new(&peer.node).ok()?;
        let member = Member { id, incarnation: Incarnation(peer.incarnation) };
        let means_me = peer.to == self.me.id.as_str() && member != self.me;
        (means_me && self.may_share(peer.cluster_id)).then_some(member)
    }

    /// Who a server that answered is, if it is the one that was meant and may be of this cluster.
    pub(super) fn check_welcome(&self, id: NodeId, welcome: &Welcome) -> Option<Member> {
        let member = Member { id, incarnation: Incarnation(welcome.incarnation) };
        let is_meant = welcome.node == id.as_str() && self.may_share(welcome.cluster_id);
        is_meant.then_some(member)
    }

    fn may_share(&self, theirs: Option<[u8; 16]>) -> bool {
        self.cluster_id.is_none() || theirs.is_none() || self.cluster_id == theirs
    }
}

/// What a process knows of another server's directory.
struct Met {
    /// Its latest start, and the latest term in which it was heard.
    age: Age,
    /// The start that was found to be one of an older copy.
    turned_back: Option<Start>,
}

/// How another server's directory compares with what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is as far as it was ever seen to be, or further.
    Current {
        /// This process has met an earlier start of it.
        has_restarted: bool,
    },
    /// It was replaced by an older copy of what was seen.
    RolledBack,
}

/// The others that a process has met.
#[derive(Default)]
pub(super) struct Acquaintances {
    met: BTreeMap<Member, Met>,
}

impl Acquaintances {
    /// Compares how far another server's directory has come with how far it was ever seen to be,
    /// and notes it. `ours` and `theirs` are the clusters of both, and `is_known` knows whom this
    /// one counts on.
    ///
    /// # Errors
    /// The disk failed; nothing that comes over that connection may be acted upon.
    pub(super) fn note(
        &mut self,
        boots: &mut Boots,
        (member, age): (Member, Age),
        (ours, theirs): (Option<[u8; 16]>, Option<[u8; 16]>),
        is_known: impl Fn(Member) -> bool,
    ) -> io::Result<Noted> {
        // One that says that it is a member of no cluster may have forgotten.
        let is_ours = ours.is_none() || theirs == ours;
        if !is_ours && theirs.is_some() {
            return Ok(Noted::Current { has_restarted: false });
        }
        let start = Start { boot: Boot(age.boot), nonce: age.nonce };
        if let Some(Met { age: seen, turned_back }) = self.met.get_mut(&member)
            && (age.is_turned_back_from(*seen) || *turned_back == Some(start))
        {
            *turned_back = Some(start);
            return Ok(Noted::RolledBack);
        }
        let now = Seen { start, term: Term(age.term) };
        let sighting = match is_ours {
            true => boots.see(member, now, is_known)?,
            false => boots.compare(member, now),
        };
        match sighting {
            Sighting::Current => {
                let has_restarted = is_ours && self.meet(member, age);
                Ok(Noted::Current { has_restarted })
            }
            Sighting::RolledBack { .. } | Sighting::Absurd { .. } => Ok(Noted::RolledBack),
        }
    }

    /// A start of another server is there. True if an earlier one was met.
    fn meet(&mut self, member: Member, age: Age) -> bool {
        let earlier = self.met.get(&member).map(|met| met.age);
        let term = earlier.map_or(0, |earlier| earlier.term).max(age.term);
        self.met.insert(member, Met { age: Age { term, ..age }, turned_back: None });
        earlier.is_some_and(|earlier| earlier.boot != age.boot)
    }

    /// Whether no later start of this server was met.
    pub(super) fn is_latest(&self, member: Member, boot: Boot) -> bool {
        self.met.get(&member).is_none_or(|met| met.age.boot == boot.0)
    }

    /// A server of this cluster has spoken in a term.
    pub(super) fn hear(&mut self, member: Member, term: Term) {
        if let Some(met) = self.met.get_mut(&member) {
            met.age.term = met.age.term.max(term.0);
        }
    }
}
