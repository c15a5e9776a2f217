//! How far the directories of the other servers have come, and what proves it. In a handshake
//! anybody can call itself anything, so what another server says counts only once a dial of this
//! server's own, to the address that the cluster has for it, has met the very same start. A start
//! that was met is noted durably, and an older one is not listened to again. What another server
//! says of this one, that it runs on an older copy, is not the last word either.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use raft::driver::Input;
use raft::founding::Seat;
use raft::node::{Boot, COUNTER_MAX, Configuration, Incarnation, Member, NodeId, Term};
use raft::storage::{self, Home, HomeError, Sighting, Start};
use tokio::time::{sleep, timeout};

use super::core::{Core, Phase, SharedCore};
use super::links::{self, Purpose, RETRY_AFTER, Up};
use super::warnings::Oddity;
use crate::wire::handshake::Age;

/// With so many servers met, those that are no members are forgotten.
const MET_MAX: usize = 128;

/// How long a server that is said to be rolled back waits for a second member to say so.
const SECOND_VOICE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a server that has introduced itself is looked for where it is said to listen.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);

/// What this process knows of another server's directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    /// How far it was seen to be: its latest start, and the latest term in which it was heard.
    age: Age,
    /// The cluster that it said it belongs to when a dial met that start.
    cluster: Option<[u8; 16]>,
    /// The start that was found to be one of an older copy.
    turned_back: Option<Start>,
}

/// How another server's directory compares with what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is as far as it was ever seen to be, or further, and that it is is noted.
    Current,
    /// It was seen further: it was replaced by an older copy.
    Later(Age),
    /// It was seen so far back that nobody can have started it so often since: it makes up numbers.
    Absurd(Age),
}

/// The start of a directory that is so old.
pub(super) fn start_of(age: Age) -> Start {
    Start { boot: Boot(age.boot), nonce: age.nonce }
}

fn age_of(seen: storage::Seen) -> Age {
    let storage::Seen { start: Start { boot, nonce }, term } = seen;
    Age { boot: boot.0, nonce, term: term.0 }
}

/// By what it is known that a directory has been further.
pub(super) fn evidence(age: Age, seen: Age) -> String {
    let Age { boot, term, .. } = age;
    match boot.cmp(&seen.boot) {
        Ordering::Less => format!("this is its start {boot}, and its start {} was seen", seen.boot),
        Ordering::Equal if age.nonce != seen.nonce => {
            format!("this is its start {boot}, and another start {boot} was seen")
        }
        _ => format!("it knows of term {term}, and was heard in term {}", seen.term),
    }
}

/// What the others have shown.
impl Core {
    /// How far a directory was seen, if it was replaced by an older copy of what it was then.
    ///
    /// A copy that was made while its server ran may have counted no start less. But no term leaves
    /// a server before it is durable, so one in which it was heard must be in its directory.
    pub(super) fn seen_later(&mut self, member: Member, age: Age) -> Option<Age> {
        let start = start_of(age);
        if let Some(Met { age: seen, turned_back, .. }) = self.met.get_mut(&member) {
            // Its term may have grown since, and changes nothing.
            if age.is_turned_back_from(*seen) || *turned_back == Some(start) {
                *turned_back = Some(start);
                return Some(*seen);
            }
        }
        let now = storage::Seen { start, term: Term(age.term) };
        match self.home()?.boots().compare(member, now) {
            Sighting::RolledBack { seen } => Some(age_of(seen)),
            Sighting::Current | Sighting::Absurd { .. } => None,
        }
    }

    /// Compares how far the directory of a server that a dial has met has come with how far it was
    /// ever seen to be, and notes it, a later start durably: before anything that the server says
    /// under it counts.
    ///
    /// Only servers of this cluster are noted, or those that may become one: what others say is
    /// never counted. That the configuration lists it is not asked, since this server may have been
    /// away when it became a member.
    ///
    /// `None` if the own disk failed. That says nothing of the other server: this one stops, and
    /// acts on nothing that comes over the connection.
    pub(super) fn note_boot(
        &mut self,
        member: Member,
        age: Age,
        cluster: Option<[u8; 16]>,
    ) -> Option<Seen> {
        // Whoever says that it is a member of another cluster is none of this one's. One that says
        // that it is a member of none may have forgotten.
        let is_ours = self.cluster_id().is_none() || cluster == self.cluster_id();
        if !is_ours && cluster.is_some() {
            return Some(Seen::Current);
        }
        if let Some(seen) = self.seen_later(member, age) {
            return Some(Seen::Later(seen));
        }
        if !is_ours {
            return Some(Seen::Current);
        }
        let members = self.members().cloned();
        let seats: Vec<NodeId> = self.settings.seats.iter().map(|seat| seat.id).collect();
        let is_known = |member: Member| match &members {
            Some(members) => members.lists(member),
            None => seats.contains(&member.id),
        };
        let now = storage::Seen { start: start_of(age), term: Term(age.term) };
        match self.home_mut()?.boots_mut().see(member, now, is_known) {
            Ok(Sighting::Current) => {
                self.meet(member, age, cluster);
                Some(Seen::Current)
            }
            Ok(Sighting::RolledBack { seen }) => Some(Seen::Later(age_of(seen))),
            Ok(Sighting::Absurd { seen }) => Some(Seen::Absurd(age_of(seen))),
            Err(source) => {
                let path = self.settings.data.display().to_string();
                self.failures.report(HomeError::Io { path, source }.into());
                None
            }
        }
    }

    /// A start of another server is there. If this process has met an earlier one, what that had
    /// acknowledged may be lost.
    fn meet(&mut self, member: Member, age: Age, cluster: Option<[u8; 16]>) {
        if self.met.len() >= MET_MAX {
            let members = self.members().cloned().unwrap_or_default();
            self.met.retain(|met, _| members.lists(*met));
        }
        let earlier = self.met.get(&member).map(|met| met.age);
        let is_another = earlier.is_some_and(|earlier| earlier.boot != age.boot);
        let term = earlier.map_or(0, |earlier| earlier.term).max(age.term);
        let age = Age { term, ..age };
        self.met.insert(member, Met { age, cluster, turned_back: None });
        if is_another && matches!(self.phase, Phase::Running(_)) {
            self.inbox.push(Input::Restarted(member));
            self.wake();
        }
    }

    /// Whether a connection may lead to the latest start of its server. What an earlier one said
    /// may still come out of a socket when a later one has been met.
    pub(super) fn is_latest(&self, peer: &Up) -> bool {
        let latest = self.met.get(&peer.member).map(|met| start_of(met.age));
        latest.is_none_or(|latest| !peer.start.is_turned_back_from(latest))
    }

    /// A server of this cluster has spoken in a term; false if nothing that it says may count. One
    /// that a dial has met before it was a member is noted again, durably, as one that is: a copy
    /// of its directory from before that has forgotten its votes.
    pub(super) fn note_term(&mut self, peer: &Up, term: Term) -> bool {
        // A term that no election can have reached is made up. The message is refused for it.
        if term.0 > COUNTER_MAX {
            return true;
        }
        let Some(met) = self.met.get_mut(&peer.member) else { return true };
        met.age.term = met.age.term.max(term.0);
        if term == Term(0) || peer.is_noted_as_member.get() {
            return true;
        }
        let (age, cluster) = (met.age, met.cluster);
        let noted = self.note_boot(peer.member, age, cluster) == Some(Seen::Current);
        peer.is_noted_as_member.set(noted);
        noted
    }
}

/// What a dial has to prove.
impl Core {
    /// Whether what comes over a connection may count: a dial of this server's own has met that
    /// very start of the server that has introduced itself, as one of this cluster.
    pub(super) fn may_count(&self, up: &Up) -> bool {
        let ours = self.cluster_id();
        if !up.proven.get()
            && let Some(met) = self.met.get(&up.member)
        {
            let is_ours = ours.is_none() || met.cluster == ours;
            up.proven.set(is_ours && start_of(met.age) == up.start);
        }
        up.proven.get()
    }

    /// Where a server is to be met that has introduced itself. Before it is known who belongs to
    /// the cluster that is where the server of its name listens, which may be another life of it.
    fn meeting_place(&self, member: Member) -> Option<Seat> {
        let id = member.id;
        match self.address_of(member) {
            Some(address) => Some(Seat { id, address: address.to_string() }),
            None if self.knows_members() => None,
            None => self.peers().into_iter().find(|seat| seat.id == id),
        }
    }

    /// Waits until a dial has met the start of a server that has introduced itself. False if that
    /// does not happen, and the connection is to end.
    ///
    /// One that is to be met nowhere is heard at once: nothing that it says counts, until it has
    /// said where it listens. So is another life of a server, at another address, in the end.
    pub(super) async fn prove(core: &SharedCore, up: &Up) -> bool {
        let ours = core.borrow().cluster_id();
        let is_foreign = ours.is_some() && up.cluster != ours;
        // Whoever refuses this server cannot be met, and is not listened to either.
        let is_moot = is_foreign || core.borrow().is_accused();
        let Some(seat) = core.borrow().meeting_place(up.member).filter(|_| !is_moot) else {
            return true;
        };
        let wait = async {
            while !core.borrow().may_count(up) {
                dial(core, &seat).await;
                if core.borrow().may_count(up) {
                    return;
                }
                sleep(RETRY_AFTER).await;
            }
        };
        if timeout(PROOF_TIMEOUT, wait).await.is_ok() {
            return true;
        }
        let is_certain = core.borrow().address_of(up.member).is_some();
        core.borrow_mut().note_unmet(up, &seat);
        !is_certain
    }

    fn note_unmet(&mut self, up: &Up, seat: &Seat) {
        let (Seat { id, address }, boot) = (seat, up.start.boot);
        let text = format!(
            "{id} connects and says that it is its start {boot}, but does not answer as such at \
             {address}, where the cluster says that it listens; nothing that it says counts"
        );
        self.note_oddity(up.member, Oddity::Unmet, text);
    }
}

/// Finds out who answers at an address. The link there may not have noticed yet that the start to
/// which it led is gone, so it is a connection of its own.
async fn dial(core: &SharedCore, seat: &Seat) {
    if let Ok(shaken) = links::connect(core, Some(seat), &seat.address, Purpose::Raft).await {
        let welcome = &shaken.welcome;
        let member = Member { id: seat.id, incarnation: Incarnation(welcome.incarnation) };
        core.borrow_mut().note_boot(member, welcome.age, welcome.cluster_id);
        shaken.outbox.close();
    }
}

/// What the others say of this server.
impl Core {
    /// The servers that may say of this one that it runs on an older copy.
    pub(super) fn judges(&self) -> BTreeSet<Seat> {
        let charter = self.home().and_then(Home::charter).map(|charter| &charter.configuration);
        let members = match self.knows_members() {
            true => self.members(),
            false => charter,
        };
        let listed = |members: &Configuration| {
            let others = members.addresses().filter(|(member, _)| *member != self.me);
            others.map(|(member, at)| Seat { id: member.id, address: at.to_string() }).collect()
        };
        let seats = || {
            let seats = self.settings.seats.iter();
            seats.filter(|seat| seat.id != self.me.id).cloned().collect()
        };
        members.map_or_else(seats, listed)
    }

    /// Another server has seen a later start of this one: its directory is an older copy, or that
    /// is not that server. Either way this one stops; see [`Home::note_accusation`].
    pub(super) fn on_rolled_back(&mut self, by: &Seat, text: &str) {
        let judges = self.judges();
        if !judges.contains(by) {
            return;
        }
        let others = judges.iter().map(|seat| seat.id).collect::<BTreeSet<_>>().len();
        let term = Term(self.age().term);
        let Some(home) = self.home_mut() else { return };
        let was_accused = home.accused().is_some();
        let said = home.accused().into_iter().flat_map(|accused| &accused.accusations);
        if said.into_iter().any(|it| it.by == by.id.as_str()) {
            return;
        }
        let noted = home.note_accusation(by.id, text, term, others);
        match noted.unwrap_or_else(|failed| failed) {
            // It takes no part already, and goes on asking the others.
            HomeError::Accused { .. } if was_accused => {}
            error @ HomeError::Accused { .. } => {
                self.links.reconnect();
                let failures = self.failures.clone();
                tokio::task::spawn_local(async move {
                    sleep(SECOND_VOICE_TIMEOUT).await;
                    failures.report(error.into());
                });
            }
            error => self.failures.report(error.into()),
        }
    }

    /// Whether another server has said that this one runs on an older copy. Then it neither hears
    /// nor says anything.
    pub(super) fn is_accused(&self) -> bool {
        self.home().is_some_and(|home| home.accused().is_some())
    }

    /// Why this server takes no part though it has a log: who says that its directory is old.
    pub(super) fn accused(&self) -> Option<String> {
        let accusations = &self.home()?.accused()?.accusations;
        let by: Vec<&str> = accusations.iter().map(|it| it.by.as_str()).collect();
        let by = if by.is_empty() { "somebody".to_owned() } else { by.join(" and ") };
        Some(format!(
            "{by} took the directory of {} for an older copy of what it was: it serves nobody and \
             does not vote; see {}/accused",
            self.me.id,
            self.settings.data.display()
        ))
    }
}
