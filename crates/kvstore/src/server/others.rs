//! What a server knows of the others of its cluster: who belongs to it, where they listen, and what
//! their messages are taken for.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use raft::driver::Input;
use raft::founding::{Founded, Seat, Standing};
use raft::node::{Configuration, Envelope, Member, NodeId, SnapshotId, Term};
use raft::replica::{SnapshotEnvelope, SnapshotMessage};

use super::ServeError;
use super::core::{Core, Phase};
use super::event::Event;
use super::links::{Suspicion, Up};
use crate::wire::handshake::{Age, PeerHello, Welcome};
use crate::wire::peer::{Addressee, PeerMessage};

/// Servers that are believed where they listen though the configuration does not list them.
const INTRODUCED_MAX: usize = 64;

/// A server that has not been heard for so long need not be answered.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

impl Core {
    pub(super) fn cluster_id(&self) -> Option<[u8; 16]> {
        match &self.phase {
            Phase::Running(running) => Some(running.charter.cluster_id().0),
            Phase::Founding(before) if before.home.is_founded() => {
                before.home.charter().map(|charter| charter.cluster_id().0)
            }
            _ => None,
        }
    }

    /// The addressee that messages to this server must name.
    fn addressee(&self) -> Addressee {
        Addressee { incarnation: self.me.incarnation, boot: self.boot }
    }

    /// How far this server's own directory has come.
    pub(super) fn age(&self) -> Age {
        let term = match &self.phase {
            Phase::Running(running) => running.driver.replica().node().durable_term().0,
            Phase::Founding(before) => {
                let noted = before.home.accused().and_then(|accused| accused.term);
                noted.map_or(0, |term| term.0)
            }
            Phase::Stopped => 0,
        };
        Age { boot: self.boot.0, nonce: self.nonce, term }
    }

    /// How this server introduces itself to `to`.
    pub(super) fn hello_to(&self, to: Option<&Seat>) -> PeerHello {
        let mut members = self.members().into_iter().flat_map(Configuration::addresses);
        let listed = to.and_then(|seat| {
            members.find(|(member, address)| member.id == seat.id && *address == seat.address)
        });
        PeerHello {
            cluster: self.settings.cluster.clone(),
            cluster_id: self.cluster_id(),
            node: self.me.id.to_string(),
            incarnation: self.me.incarnation.0,
            age: self.age(),
            timing: self.settings.timing,
            to: to.map(|to| to.id.to_string()).unwrap_or_default(),
            to_incarnation: listed.map(|(member, _)| member.incarnation.0),
        }
    }

    /// How this server answers whoever connects.
    pub(super) fn welcome(&self, version: u16) -> Welcome {
        let commit = match &self.phase {
            Phase::Running(running) => running.driver.replica().node().commit().0,
            _ => 0,
        };
        Welcome {
            version,
            node: self.me.id.to_string(),
            cluster: self.settings.cluster.clone(),
            cluster_id: self.cluster_id(),
            incarnation: self.me.incarnation.0,
            age: self.age(),
            commit,
            timing: self.settings.timing,
        }
    }

    /// Who belongs to the cluster, as far as this server's log says; `None` before there is one.
    pub(super) fn members(&self) -> Option<&Configuration> {
        match &self.phase {
            Phase::Running(running) => Some(running.driver.replica().node().configuration()),
            _ => None,
        }
    }

    /// Whether the configuration in force lists this very member.
    pub(super) fn is_member(&self, member: Member) -> bool {
        self.members().is_some_and(|members| members.lists(member))
    }

    /// Whether a list names this server: that of the members, or that of the configuration file.
    pub(super) fn is_listed(&self, id: NodeId) -> bool {
        self.members().is_some_and(|members| members.members().any(|member| member.id == id))
            || self.settings.seats.iter().any(|seat| seat.id == id)
    }

    /// Where a member listens: as the cluster says, or as it said itself if the cluster's word has
    /// not come here yet.
    pub(super) fn address_of(&self, member: Member) -> Option<&str> {
        let listed = self.members().and_then(|members| members.address_of_member(member));
        listed.or_else(|| self.introduced.get(&member).map(String::as_str))
    }

    /// Whether the log says who belongs to the cluster. Not before there is a log, not while it is
    /// empty, and not while a configuration in it is damaged.
    pub(super) fn knows_members(&self) -> bool {
        match &self.phase {
            Phase::Running(running) => {
                let node = running.driver.replica().node();
                node.knows_configuration() && node.configuration().members().next().is_some()
            }
            _ => false,
        }
    }

    /// Whom this server may have something to say to, and where: the members of the cluster, or
    /// the servers of the file while it does not know them. A server that was away may have to
    /// answer a leader of which it has not heard, so it believes where that says it listens.
    ///
    /// Two lives of one server may be members at the same time, each at an address of its own, and
    /// this server may be one of them: until the change in which one replaces the other is
    /// finished, both are needed.
    pub(super) fn peers(&self) -> BTreeSet<Seat> {
        if let Some(witnesses) = self.witnesses() {
            return witnesses;
        }
        let me = self.me;
        let seat = |(member, address): (Member, &str)| Seat {
            id: member.id,
            address: address.to_string(),
        };
        let members = self.members().into_iter().flat_map(Configuration::addresses);
        let introduced = self.introduced.iter().map(|(member, at)| (*member, at.as_str()));
        let known = members.chain(introduced);
        let mut peers: BTreeSet<Seat> =
            known.filter(|(member, _)| *member != me).map(seat).collect();
        if !self.knows_members() {
            let named: Vec<NodeId> = peers.iter().map(|peer| peer.id).collect();
            let seats = self.settings.seats.iter().chain(&self.doors);
            let others = seats.filter(|seat| seat.id != me.id && !named.contains(&seat.id));
            peers.extend(others.cloned());
        }
        peers
    }

    /// Whom a server may ask that is said to run on an older copy, and that has opened no log for
    /// that. Where it cannot tell how far its directory has come, it asks nobody, since it would be
    /// refused for that.
    fn witnesses(&self) -> Option<BTreeSet<Seat>> {
        let Phase::Founding(before) = &self.phase else { return None };
        let is_known = before.home.accused()?.term.is_some();
        Some(if is_known { self.judges() } else { BTreeSet::new() })
    }

    /// Forgets where servers said they listen once the cluster's own list says it, or when they
    /// are not heard any more.
    pub(super) fn forget_introductions(&mut self) {
        let listed: Vec<Member> = match self.members() {
            Some(members) => members.members().collect(),
            None => Vec::new(),
        };
        let heard = |id: &NodeId| self.heard.get(id).is_some_and(|at| at.elapsed() < SILENCE_MAX);
        self.introduced.retain(|member, _| !listed.contains(member) && heard(&member.id));
    }

    /// A server of this cluster says who belongs to it, and so where it listens itself.
    fn on_introduction(&mut self, from: Member, members: &Configuration) {
        let Some(address) = members.address_of_member(from) else { return };
        let known = self.introduced.get(&from).is_some_and(|known| known == address);
        if !known && self.introduced.len() < INTRODUCED_MAX {
            self.introduced.insert(from, address.to_string());
            self.members_changed.notify_one();
        }
    }

    /// Somebody says that another cluster of this name knows this server by another disk. If this
    /// process has just founded its cluster, alone, it had lost that disk and heard nobody who
    /// remembered; it serves no longer. At any other time that is told, and nothing more: a cluster
    /// that goes on is not ended by somebody's word, which may also be that of a server that was
    /// forgotten when its cluster was given up.
    pub(super) fn on_other_cluster(&mut self, from: NodeId, peer: &PeerHello) {
        let Phase::Running(running) = &self.phase else { return };
        let knows_another = peer.to_incarnation.is_some_and(|it| it != self.me.incarnation.0);
        if !knows_another || self.was_recovered || peer.cluster != running.charter.name {
            return;
        }
        if !self.has_founded_alone {
            self.note_other_cluster(from);
        } else {
            self.failures.report(ServeError::FoundedAgain {
                id: self.me.id,
                cluster: peer.cluster.clone(),
                peer: from,
                path: self.settings.data.clone(),
            });
        }
    }

    /// A server that was away while it was removed hears nothing of it from the log: nobody sends
    /// it any more. Only a configuration that is committed, and later than its own, says so.
    fn notice_removal(&mut self, founded: &Founded) {
        let Phase::Running(running) = &self.phase else { return };
        let known = running.driver.replica().node().configuration_index();
        let Some(since) = founded.since.filter(|since| *since > known) else { return };
        if !founded.members.lists(self.me) && self.warnings.removed_since.is_none() {
            self.warnings.removed_since = Some(since);
            if let Some(text) = self.removed() {
                self.tell(&Event::Warning { text });
            }
        }
    }

    /// A message of another server came.
    pub(super) fn on_peer_message(
        &mut self,
        peer: &Rc<Up>,
        message: PeerMessage,
    ) -> Result<(), ServeError> {
        let from = peer.member;
        if self.is_accused() || !self.is_latest(peer) {
            return Ok(());
        }
        self.note_heard(from.id);
        let (me, ours) = (self.addressee(), self.cluster_id());
        let may_count = self.may_count(peer);
        let is_seat = self.settings.seats.iter().any(|seat| seat.id == from.id);
        match (message, &mut self.phase) {
            // It is to say so again when it answers where it listens. A cluster that is there may
            // know another life of that server, at another address.
            (PeerMessage::Standing(standing), Phase::Founding(_))
                if is_seat && !may_count && !matches!(standing, Standing::Founded(_)) =>
            {
                peer.outbox.close();
            }
            (PeerMessage::Standing(standing), Phase::Founding(before)) => {
                before.founding.hear(from, standing.clone());
                self.joiners.hear(peer, &standing);
                if let Standing::Founded(founded) = standing {
                    self.on_introduction(from, &founded.members);
                }
                self.found()?;
            }
            (PeerMessage::Standing(Standing::Founded(founded)), Phase::Running(running))
                if founded.charter == running.charter =>
            {
                self.on_introduction(from, &founded.members);
                if may_count {
                    self.notice_removal(&founded);
                }
            }
            (PeerMessage::Standing(standing), Phase::Running(_)) => {
                self.on_outsider(peer, &standing);
            }
            (PeerMessage::Raft { .. }, _) if !may_count => {}
            (PeerMessage::Raft { to, term, message }, Phase::Founding(_)) if to == me => {
                self.on_admission(peer, term, message)?;
            }
            // Whether the configuration lists the sender is not asked: this server may have been
            // away while it became a member, or the leader.
            (PeerMessage::Raft { to, term, message }, Phase::Running(_))
                if to == me && peer.cluster == ours =>
            {
                if !self.note_term(peer, term) {
                    return Ok(());
                }
                let envelope = Envelope { from, to: self.me, term, message };
                self.inbox.push(Input::Message(envelope));
            }
            _ => {}
        }
        Ok(())
    }

    /// Something is said about a snapshot, to this start of this server or to an earlier one.
    pub(super) fn on_snapshot_message(
        &mut self,
        peer: &Up,
        to: Addressee,
        snapshot: SnapshotId,
        message: SnapshotMessage,
    ) {
        let is_ours = to == self.addressee() && peer.cluster == self.cluster_id();
        if is_ours && self.may_count(peer) && matches!(self.phase, Phase::Running(_)) {
            let envelope = SnapshotEnvelope { from: peer.member, to: self.me, snapshot, message };
            self.inbox.push(Input::Snapshot(envelope));
        }
    }

    /// The other side closed a connection over which it had sent appends. Unless its term is over,
    /// a dial is to tell whether it still leads.
    pub(super) fn suspect(&self, suspicion: Suspicion) {
        let Phase::Running(running) = &self.phase else { return };
        // Its last appends may still be in the inbox, so what the replica knows is not asked.
        if running.driver.replica().node().term() <= suspicion.term {
            let address = self.address_of(suspicion.leader).map(str::to_string);
            self.links.suspect(suspicion, address);
        }
    }

    /// A dial has told: the process that led that term is gone.
    pub(super) fn on_leader_gone(&mut self, leader: Member, term: Term) {
        self.inbox.push(Input::LeaderGone(leader, term));
        self.wake();
    }
}
