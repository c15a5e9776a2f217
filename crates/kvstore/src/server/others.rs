//! What a server knows of the others of its cluster: who belongs to it, where they listen, which
//! start of them was seen last, and what their messages are taken for.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use raft::driver::Input;
use raft::founding::{Founded, Seat, Standing};
use raft::node::{Boot, Configuration, Envelope, Member, NodeId, SnapshotId, Term};
use raft::replica::{SnapshotEnvelope, SnapshotMessage};
use raft::storage::{HomeError, Sighting};
use tokio::time::Instant;

use super::ServeError;
use super::core::{Core, Phase};
use super::links::{Suspicion, Up};
use super::meeting::{self, Host};
use crate::wire::handshake::Welcome;
use crate::wire::peer::{Addressee, PeerMessage};

/// Servers that are believed where they listen though the configuration does not list them.
const INTRODUCED_MAX: usize = 64;

/// A server that has not been heard for so long need not be answered.
const SILENCE_MAX: Duration = Duration::from_secs(10);

impl Core {
    pub(super) fn cluster_id(&self) -> Option<[u8; 16]> {
        match &self.phase {
            Phase::Running(running) => Some(running.charter.cluster_id().0),
            _ => None,
        }
    }

    /// This server, as it shows itself to others.
    pub(super) fn host(&self) -> Host<'_> {
        Host {
            me: self.me,
            boot: self.boot,
            cluster: &self.settings.cluster,
            cluster_id: self.cluster_id(),
            address: &self.settings.address,
            timing: self.settings.timing,
        }
    }

    /// How this server answers whoever connects.
    pub(super) fn welcome(&self, version: u16) -> Welcome {
        let commit = match &self.phase {
            Phase::Running(running) => running.driver.replica().node().commit().0,
            _ => 0,
        };
        self.host().welcome(version, commit)
    }

    /// Who belongs to the cluster, as far as this server's log says; `None` before there is one.
    fn members(&self) -> Option<&Configuration> {
        match &self.phase {
            Phase::Running(running) => Some(running.driver.replica().node().configuration()),
            _ => None,
        }
    }

    /// Whether the configuration in force lists this very member.
    pub(super) fn is_member(&self, member: Member) -> bool {
        self.members().is_some_and(|members| members.lists(member))
    }

    /// Where a server listens: as the cluster says, or as it said itself if the cluster's word has
    /// not come here yet.
    pub(super) fn address_of(&self, id: NodeId) -> Option<&str> {
        let listed = self.members().and_then(|members| members.address_of(id));
        listed.or_else(|| self.introduced.get(&id).map(String::as_str))
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
    pub(super) fn peers(&self) -> BTreeMap<NodeId, String> {
        let members = self.members().into_iter().flat_map(Configuration::addresses);
        let mut peers: BTreeMap<NodeId, String> =
            members.map(|(member, address)| (member.id, address.to_string())).collect();
        if !self.knows_members() {
            for seat in self.settings.seats.iter().chain(&self.doors) {
                peers.entry(seat.id).or_insert_with(|| seat.address.clone());
            }
        }
        for (id, address) in &self.introduced {
            peers.entry(*id).or_insert_with(|| address.clone());
        }
        peers.remove(&self.me.id);
        peers
    }

    /// Forgets where servers said they listen once the cluster's own list says it, or when they
    /// are not heard any more.
    pub(super) fn forget_introductions(&mut self) {
        let listed: Vec<NodeId> = match self.members() {
            Some(members) => members.members().map(|member| member.id).collect(),
            None => Vec::new(),
        };
        let heard = |id: &NodeId| self.heard.get(id).is_some_and(|at| at.elapsed() < SILENCE_MAX);
        self.introduced.retain(|id, _| !listed.contains(id) && heard(id));
    }

    /// A server of this cluster says who belongs to it, and so where it listens itself.
    fn on_introduction(&mut self, from: NodeId, members: &Configuration) {
        let Some(address) = members.address_of(from) else { return };
        let known = self.introduced.get(&from).is_some_and(|known| known == address);
        if !known && self.introduced.len() < INTRODUCED_MAX {
            self.introduced.insert(from, address.to_string());
            self.members_changed.notify_one();
        }
    }

    /// A server that was away while it was removed hears nothing of it from the log: nobody sends
    /// it any more. Only a configuration that is committed, and later than its own, says so.
    fn notice_removal(&mut self, founded: &Founded) {
        let Phase::Running(running) = &self.phase else { return };
        let known = running.driver.replica().node().configuration_index();
        let Some(since) = founded.since.filter(|since| *since > known) else { return };
        if !founded.members.lists(self.me) {
            self.warn(format!(
                "{} is no member of the cluster since entry {since}: stop it; to bring it back, \
                 start it with an empty directory and --join, then: kvctl member add {} {}",
                self.me.id, self.me.id, self.settings.address
            ));
        }
    }

    /// The configuration file's list of servers is for founding the cluster; afterwards the
    /// cluster's own counts, and a difference is rarely meant.
    pub(super) fn compare_members(&mut self) {
        let Some(members) = self.members() else { return };
        let mut listed: Vec<Seat> = members
            .addresses()
            .map(|(member, address)| Seat { id: member.id, address: address.to_string() })
            .collect();
        listed.sort();
        let seats = &self.settings.seats;
        if !listed.is_empty() && !seats.is_empty() && listed != *seats {
            let list = |seats: &[Seat]| {
                let seat = |seat: &Seat| format!("{} {}", seat.id, seat.address);
                seats.iter().map(seat).collect::<Vec<_>>().join(", ")
            };
            self.warn(format!(
                "the configuration lists {}, but the members of the cluster are {}; the cluster's \
                 own list counts",
                list(&self.settings.seats),
                list(&listed)
            ));
        }
    }

    /// Compares another server's boot with the latest that was ever seen; see [`meeting::sight`].
    pub(super) fn note_boot(
        &mut self,
        member: Member,
        boot: Boot,
        cluster: Option<[u8; 16]>,
    ) -> Sighting {
        let clusters = (self.cluster_id(), cluster);
        let members = self.members().cloned();
        let seats: Vec<NodeId> = self.settings.seats.iter().map(|seat| seat.id).collect();
        let Some(home) = self.home_mut() else { return Sighting::Current };
        let known = (members.as_ref(), seats.as_slice());
        match meeting::sight(home.boots_mut(), clusters, known, (member, boot)) {
            Ok(sighting) => sighting,
            Err(source) => {
                let path = self.settings.data.display().to_string();
                self.failures.report(HomeError::Io { path, source }.into());
                // The connection ends with the server.
                Sighting::RolledBack { seen: boot }
            }
        }
    }

    /// Another server has seen a later start of this one: its directory is an older copy. It stops,
    /// and does not start again.
    pub(super) fn on_rolled_back(&mut self, by: NodeId, text: &str) {
        let Some(home) = self.home_mut() else { return };
        let noted = home.note_rolled_back(&format!("{by} says: {text}"));
        self.failures.report(noted.unwrap_or_else(|failed| failed).into());
    }

    /// A message of another server came.
    pub(super) fn on_peer_message(
        &mut self,
        peer: &Rc<Up>,
        message: PeerMessage,
    ) -> Result<(), ServeError> {
        let from = peer.member;
        self.heard.insert(from.id, Instant::now());
        // Whether the configuration lists the sender is not asked: this server may have been away
        // while it became a member, or the leader.
        let is_for_me = match &message {
            PeerMessage::Raft { to, .. } => self.host().is_for_me(*to, peer.cluster),
            PeerMessage::Standing(_) => true,
            PeerMessage::Snapshot { .. } => false,
        };
        if !is_for_me {
            return Ok(());
        }
        match (message, &mut self.phase) {
            (PeerMessage::Standing(standing), Phase::Founding(before)) => {
                before.hear(from, standing.clone());
                self.joiners.hear(peer, &standing);
                if let Standing::Founded(founded) = standing {
                    self.on_introduction(from.id, &founded.members);
                }
                self.found()?;
            }
            (PeerMessage::Standing(Standing::Founded(founded)), Phase::Running(running))
                if founded.charter == running.charter =>
            {
                self.on_introduction(from.id, &founded.members);
                self.notice_removal(&founded);
            }
            (PeerMessage::Standing(standing), Phase::Running(_)) => {
                self.on_outsider(peer, &standing);
            }
            (PeerMessage::Raft { term, message, .. }, Phase::Founding(_)) => {
                self.on_admission(peer, term, message)?;
            }
            (PeerMessage::Raft { term, message, .. }, Phase::Running(_)) => {
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
        if self.host().is_for_me(to, peer.cluster) && matches!(self.phase, Phase::Running(_)) {
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
            self.links.suspect(suspicion);
        }
    }

    /// A dial has told: the process that led that term is gone.
    pub(super) fn on_leader_gone(&mut self, leader: Member, term: Term) {
        self.inbox.push(Input::LeaderGone(leader, term));
        self.wake();
    }
}
