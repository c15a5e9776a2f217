//! How a server that no cluster lists waits to be taken into one, and how a cluster knows who
//! waits. It connects to every member and announces its pair; members answer on that connection
//! with who belongs to the cluster, and forget it when the connection ends.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use raft::ClusterId;
use raft::driver::Input;
use raft::founding::{Door, Place, Seat, Standing, Step};
use raft::node::{Boot, Envelope, Incarnation, Member, Message, NodeId, Term};
use tokio::time::sleep;

use super::ServeError;
use super::core::{Core, Phase, SharedCore};
use super::event::Event;
use super::links::{self, ConnectError, Purpose, Shaken, Up};
use super::listener;

/// Servers that want to be taken in, as many as are remembered.
const JOINERS_MAX: usize = 64;

/// Between two attempts to reach a member.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Servers that have announced themselves, and wait until somebody names them. Each is remembered
/// for as long as it keeps its connection.
#[derive(Debug, Default)]
pub(super) struct Joiners {
    waiting: BTreeMap<NodeId, Joiner>,
}

/// A server that waits to be taken in.
#[derive(Clone, Debug)]
pub(super) struct Joiner {
    pub(super) member: Member,
    /// Where it listens.
    pub(super) address: String,
    up: Rc<Up>,
}

impl Joiners {
    /// The server of this name, if it waits.
    pub(super) fn find(&self, id: NodeId) -> Option<&Joiner> {
        self.waiting.get(&id)
    }

    /// All that wait, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Joiner> {
        self.waiting.values()
    }

    /// Remembers a server that says that it wants to be taken in.
    pub(super) fn hear(&mut self, up: &Rc<Up>, standing: &Standing) {
        let Standing::Joining { address } = standing else { return };
        let id = up.member.id;
        if self.waiting.len() < JOINERS_MAX || self.waiting.contains_key(&id) {
            let (address, up) = (address.clone(), Rc::clone(up));
            self.waiting.insert(id, Joiner { member: up.member, address, up });
        }
    }

    pub(super) fn lose(&mut self, up: &Rc<Up>) {
        let id = up.member.id;
        if self.waiting.get(&id).is_some_and(|joiner| Rc::ptr_eq(&joiner.up, up)) {
            self.waiting.remove(&id);
        }
    }
}

/// The side of the cluster.
impl Core {
    /// Somebody says what it stands for who is in no cluster. It is told of this one on the same
    /// connection, since there may be no other.
    pub(super) fn on_outsider(&mut self, up: &Rc<Up>, standing: &Standing) {
        if self.is_member(up.member) || matches!(standing, Standing::Founded(_)) {
            return;
        }
        if let Standing::Joining { address } = standing
            && self.joiners.find(up.member.id).is_none_or(|it| it.member != up.member)
        {
            self.tell(&Event::Knocks { server: up.member.id, address: address.clone() });
        }
        self.joiners.hear(up, standing);
        if let Some(standing) = self.standing() {
            up.send_standing(&standing);
        }
    }

    /// The membership has changed: whoever waits to be taken in should know where to ask now.
    pub(super) fn tell_joiners(&mut self) {
        let Some(standing) = self.standing() else { return };
        for joiner in self.joiners.iter() {
            joiner.up.send_standing(&standing);
        }
        let Phase::Running(running) = &self.phase else { return };
        let configuration = running.driver.replica().node().configuration();
        self.joiners.waiting.retain(|_, joiner| !configuration.lists(joiner.member));
    }
}

/// The side of the server that waits.
impl Core {
    /// Announces itself to every server that may be a member.
    pub(super) fn seek_entrance(&mut self, step: &Step) {
        let Step::Join(door) = step else { return };
        if self.settings.cluster.is_empty() {
            self.settings.cluster.clone_from(&door.name);
        }
        if self.doors != door.members {
            self.doors.clone_from(&door.members);
            self.members_changed.notify_one();
        }
    }

    /// A message of Raft came before this server is a member. A part of the log that is addressed
    /// to its very pair makes it one: the sender's configuration lists it.
    pub(super) fn on_admission(
        &mut self,
        from: &Rc<Up>,
        term: Term,
        message: Message,
    ) -> Result<(), ServeError> {
        let Phase::Founding(before) = &mut self.phase else { return Ok(()) };
        let cluster = from.cluster.map(ClusterId);
        let admitted = before.admit(cluster, &message, &self.settings.log)?;
        let Some(charter) = admitted else { return Ok(()) };
        let (cluster, by) = (charter.name, from.member.id);
        self.tell(&Event::Admitted { cluster, by });
        self.found()?;
        self.inbox.push(Input::Message(Envelope { from: from.member, to: self.me, term, message }));
        Ok(())
    }

    fn is_seeking(&self) -> bool {
        matches!(self.phase, Phase::Founding(_))
    }

    /// Why this server serves nobody, if it is none of the cluster's. Whoever asks it must not wait
    /// for it to hear of a leader: other servers know one.
    pub(super) fn takes_no_part(&self) -> Option<String> {
        let id = self.me.id;
        match &self.phase {
            Phase::Founding(before) => match before.step() {
                Step::Seek | Step::Join(_) => {
                    Some(format!("{id} waits to be taken into the cluster"))
                }
                _ => None,
            },
            Phase::Running(running) => {
                let is_alone = running.driver.replica().node().leader().is_none();
                let is_gone = is_alone && self.knows_members() && !self.is_member(self.me);
                is_gone.then(|| format!("{id} is no member of the cluster any more"))
            }
            Phase::Stopped => None,
        }
    }
}

/// Announces this server at the addresses that it was told, if it is to join a cluster. To servers
/// whose names it knows it has links.
pub(super) async fn run(core: SharedCore) {
    let join = core.borrow().settings.join.clone().unwrap_or_default();
    for address in join.into_iter().take(JOINERS_MAX) {
        tokio::task::spawn_local(announce(Rc::clone(&core), address));
    }
}

/// Keeps this server announced at one address until it is a member.
async fn announce(core: SharedCore, address: String) {
    let entered = Rc::clone(&core.borrow().entered);
    let mut complaint = String::new();
    while core.borrow().is_seeking() {
        tokio::select! {
            () = entered.notified() => return,
            refusal = announce_once(&core, &address) => {
                if let Some(refusal) = refusal.filter(|refusal| *refusal != complaint) {
                    let text = format!("{address}: {refusal}");
                    core.borrow().tell(&Event::Warning { text });
                    complaint = refusal;
                }
            }
        }
        sleep(RETRY_AFTER).await;
    }
}

/// Holds one connection for as long as it lasts; returns why there was none, if somebody said so.
async fn announce_once(core: &SharedCore, address: &str) -> Option<String> {
    let Shaken { outbox, welcome, mut input } =
        match links::connect(core, None, address, Purpose::Raft).await {
            Ok(connected) => connected,
            Err(ConnectError::Refused(why) | ConnectError::RolledBack(why)) => return Some(why),
            Err(ConnectError::NobodyListens | ConnectError::Unreachable) => return None,
        };
    let id = NodeId::new(&welcome.node).ok()?;
    let member = Member { id, incarnation: Incarnation(welcome.incarnation) };
    let up = Up::new(outbox, member, Boot(welcome.boot), welcome.cluster_id);
    let standing = core.borrow().standing()?;
    up.send_standing(&standing);
    // However it ends, another attempt follows.
    let _ = listener::read_messages(core, &up, &mut input, &mut None).await;
    up.outbox.close();
    None
}

/// What somebody must do so that a server can join.
pub(super) struct Invitation<'a>(pub(super) &'a Door);

impl Invitation<'_> {
    /// What the cluster knows of the server, in a word for programs.
    pub(super) fn place(&self) -> &'static str {
        match self.0.place {
            Place::NotListed => "not-listed",
            Place::OtherDisk => "other-disk",
            Place::Listed => "listed",
        }
    }
}

impl fmt::Display for Invitation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Door { name, me: Seat { id, address }, place, .. } = self.0;
        match place {
            Place::NotListed => write!(
                f,
                "cluster {name:?} does not list {id}; to take it in: kvctl member add {id} \
                 {address}"
            ),
            Place::OtherDisk => write!(
                f,
                "cluster {name:?} knows {id} by another disk; if that one is lost: kvctl member \
                 replace {id}"
            ),
            Place::Listed => write!(f, "cluster {name:?} lists {id}; its leader will send the log"),
        }
    }
}
