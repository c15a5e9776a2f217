//! Connections to the other servers, one to each, made by this server and used to send. Only what
//! the other side stands for is ever said to this one on them. A link that is down loses what is
//! sent over it: the protocol asks again.
//!
//! A link leads to a name at an address, and which life of that server answers there is known once
//! it has. Two lives of one server that listen at two addresses have a link each.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use raft::founding::{Seat, Standing};
use raft::node::{Boot, Envelope, Incarnation, Member, NodeId, Term};
use raft::replica::{Carried, SnapshotEnvelope};
use raft::storage::Start;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::core::SharedCore;
use super::event::Event;
use super::listener;
use super::outbox::Outbox;
use super::proof::{Seen, evidence, start_of};
use super::snapshot_link::{self, SnapshotLink};
use super::warnings::Oddity;
use crate::wire::frame::{self, FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX};
use crate::wire::handshake::{Answer, Hello, Refused, RefusedReason, Role, VersionRange, Welcome};
use crate::wire::peer::{self, Addressee};

/// How long a server may take to accept a connection and to answer its handshake.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two attempts to connect.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The same while a leader is suspected to be gone: a process that is about to die may still have
/// a dial accepted, and the next one tells.
const SUSPECT_RETRY_AFTER: Duration = Duration::from_millis(5);

/// A suspicion that no dial has confirmed for so long is dropped.
const SUSPICION_MAX: Duration = Duration::from_secs(1);

/// How long a link is kept that is needed no more.
const UNNEEDED_MAX: Duration = Duration::from_secs(5);

/// Messages for one server that wait for its socket, in bytes; more are lost.
const QUEUED_BYTES_MAX: usize = 32 << 20;

/// All links.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<Seat, Rc<Link>>,
    /// Links that nobody needs any more, and since when.
    unneeded: BTreeMap<Seat, Instant>,
}

/// The way to one other server.
#[derive(Debug)]
pub(super) struct Link {
    to: Seat,
    up: RefCell<Option<Rc<Up>>>,
    /// Ends a connection, or the wait for the next attempt.
    reconnect: Notify,
    /// What the next attempt to connect is to find out.
    suspicion: Cell<Option<Suspicion>>,
    /// The last complaint, so that it is told once.
    complaint: RefCell<String>,
    /// It is not needed any more.
    ended: Cell<bool>,
    /// The way for snapshots beside this one.
    pub(super) snapshots: SnapshotLink,
}

impl Link {
    /// Where it leads.
    pub(super) fn seat(&self) -> &Seat {
        &self.to
    }

    pub(super) fn id(&self) -> NodeId {
        self.to.id
    }

    pub(super) fn address(&self) -> &str {
        &self.to.address
    }

    /// Whether this very member is on its other side.
    fn leads_to(&self, member: Member) -> bool {
        self.up.borrow().as_ref().is_some_and(|up| up.member == member)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.get()
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Raft's messages, and what servers stand for.
    Raft,
    /// Snapshots.
    Snapshots,
}

/// The connection over which a leader's appends came was closed by its other side. Its process may
/// be gone, or may have had another reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// Who led.
    pub(super) leader: Member,
    /// The start of it that did.
    pub(super) boot: Boot,
    /// The term of its appends.
    pub(super) term: Term,
    /// When the connection was closed.
    pub(super) since: Instant,
}

impl Suspicion {
    /// What an attempt to connect says about it. A refusal by the machine means that no process
    /// listens there; one that cannot be reached may be anywhere, and leading.
    fn judge(self, result: &Result<Shaken, ConnectError>) -> Verdict {
        match result {
            Err(ConnectError::NobodyListens) => Verdict::Gone,
            Ok(Shaken { welcome, .. }) => {
                let same = welcome.age.boot == self.boot.0
                    && welcome.incarnation == self.leader.incarnation.0;
                if same { Verdict::Unfounded } else { Verdict::Gone }
            }
            Err(ConnectError::Refused(_) | ConnectError::RolledBack(_)) => Verdict::Unfounded,
            Err(ConnectError::Unreachable) if self.since.elapsed() > SUSPICION_MAX => {
                Verdict::Unfounded
            }
            Err(ConnectError::Unreachable) => Verdict::Open,
        }
    }
}

/// What became of a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// That process leads no more.
    Gone,
    /// It is there, or nothing can be said.
    Unfounded,
    /// The next attempt tells.
    Open,
}

/// A connection that both sides have accepted.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) outbox: Rc<Outbox>,
    /// Who is on the other side.
    pub(super) member: Member,
    pub(super) start: Start,
    /// The cluster that the other side says it belongs to.
    pub(super) cluster: Option<[u8; 16]>,
    /// A dial of this server's own has met the other side, by that start.
    pub(super) proven: Cell<bool>,
    /// It is durable here that this start has been a member.
    pub(super) is_noted_as_member: Cell<bool>,
    dirty: Cell<bool>,
}

impl Up {
    pub(super) fn new(
        outbox: Rc<Outbox>,
        member: Member,
        start: Start,
        cluster: Option<[u8; 16]>,
    ) -> Rc<Self> {
        let no = || Cell::new(false);
        let (proven, is_noted_as_member, dirty) = (no(), no(), no());
        Rc::new(Self { outbox, member, start, cluster, proven, is_noted_as_member, dirty })
    }

    /// Tells the other side what this one stands for.
    pub(super) fn send_standing(&self, standing: &Standing) {
        if self.outbox.append(|out| peer::encode_standing(out, standing)).is_ok() {
            self.outbox.flush();
        }
    }

    /// Lets `fill` queue something that is to leave with the next flush. What it cannot encode is
    /// not sent.
    pub(super) fn queue(&self, fill: impl FnOnce(&mut BytesMut) -> Result<(), frame::FrameError>) {
        if self.outbox.append(fill).is_ok() {
            self.dirty.set(true);
        }
    }

    pub(super) fn flush(&self) {
        if self.dirty.replace(false) {
            self.outbox.flush();
        }
    }
}

impl Links {
    /// Makes the links fit the servers that there are, by id and address; returns those that are
    /// new and are to be [`run`]. One that is needed no more stays for a while: a server that was
    /// removed is told so.
    fn follow(&mut self, peers: &BTreeSet<Seat>) -> Vec<Rc<Link>> {
        let now = Instant::now();
        let unneeded: Vec<Seat> =
            self.links.keys().filter(|seat| !peers.contains(seat)).cloned().collect();
        self.unneeded.retain(|seat, _| unneeded.contains(seat));
        for seat in unneeded {
            let since = *self.unneeded.entry(seat.clone()).or_insert(now);
            if now.duration_since(since) > UNNEEDED_MAX {
                self.unneeded.remove(&seat);
                self.end(&seat);
            }
        }
        let missing: Vec<&Seat> =
            peers.iter().filter(|seat| !self.links.contains_key(seat)).collect();
        missing.into_iter().map(|seat| self.add(seat.clone())).collect()
    }

    fn end(&mut self, seat: &Seat) {
        if let Some(link) = self.links.remove(seat) {
            link.ended.set(true);
            link.reconnect.notify_one();
            link.snapshots.end();
        }
    }

    fn add(&mut self, to: Seat) -> Rc<Link> {
        let link = Rc::new(Link {
            to: to.clone(),
            up: RefCell::new(None),
            reconnect: Notify::new(),
            suspicion: Cell::new(None),
            complaint: RefCell::default(),
            ended: Cell::new(false),
            snapshots: SnapshotLink::default(),
        });
        self.links.insert(to, Rc::clone(&link));
        link
    }

    /// The link that is up and leads to this very member.
    fn to(&self, member: Member) -> Option<&Rc<Link>> {
        self.links.values().find(|link| link.leads_to(member))
    }

    /// Queues a message, unless the link is down or leads to another life of its receiver.
    pub(super) fn send(&self, envelope: &Envelope) {
        let Some(link) = self.to(envelope.to) else { return };
        let up = link.up.borrow();
        let Some(up) = up.as_ref() else { return };
        if up.outbox.queued_bytes() > QUEUED_BYTES_MAX {
            return;
        }
        let to = Addressee { incarnation: up.member.incarnation, boot: up.start.boot };
        // A message too long for a frame cannot be sent at all; limits in bytes keep appends far
        // below it.
        up.queue(|out| peer::encode_raft(out, to, envelope.term, &envelope.message));
    }

    /// Queues a message about a snapshot on the connection that is for them.
    pub(super) fn send_snapshot(&self, envelope: &SnapshotEnvelope) -> Carried {
        match self.to(envelope.to) {
            Some(link) => link.snapshots.send(envelope),
            None => Carried::NotNow,
        }
    }

    /// Sends what is queued.
    pub(super) fn flush(&self) {
        for link in self.links.values() {
            if let Some(up) = link.up.borrow().as_ref() {
                up.flush();
            }
            link.snapshots.flush();
        }
    }

    /// Tells every connected server what this one stands for.
    pub(super) fn send_standing(&self, standing: &Standing) {
        for link in self.links.values() {
            if let Some(up) = link.up.borrow().as_ref() {
                up.send_standing(standing);
            }
        }
    }

    /// Finds out at once, by a dial to where it listens, whether a leader is gone.
    pub(super) fn suspect(&self, suspicion: Suspicion, address: Option<String>) {
        let leader = suspicion.leader;
        let seat = address.map(|address| Seat { id: leader.id, address });
        let link = seat.and_then(|seat| self.links.get(&seat)).or_else(|| self.to(leader));
        if let Some(link) = link {
            link.suspicion.set(Some(suspicion));
            link.reconnect.notify_one();
        }
    }

    /// Makes every connection anew, at once.
    pub(super) fn reconnect(&self) {
        for link in self.links.values() {
            link.reconnect.notify_one();
        }
    }
}

/// Keeps links to all servers that this one may have something to say to.
pub(super) async fn follow_members(core: SharedCore) {
    let changed = Rc::clone(&core.borrow().members_changed);
    loop {
        core.borrow_mut().forget_introductions();
        let peers = core.borrow().peers();
        let new = core.borrow_mut().links.follow(&peers);
        for link in new {
            tokio::task::spawn_local(snapshot_link::run(Rc::clone(&core), Rc::clone(&link)));
            tokio::task::spawn_local(run(Rc::clone(&core), link));
        }
        let passing = {
            let core = core.borrow();
            !core.links.unneeded.is_empty() || !core.introduced.is_empty()
        };
        tokio::select! {
            () = changed.notified() => {}
            () = sleep(UNNEEDED_MAX), if passing => {}
        }
    }
}

/// Keeps a link up for as long as it is needed.
async fn run(core: SharedCore, link: Rc<Link>) {
    while !link.ended.get() {
        // Only a dial that began after the suspicion says anything about it.
        let suspicion = link.suspicion.take();
        let result = connect(&core, Some(&link.to), link.address(), Purpose::Raft).await;
        let verdict = suspicion.map(|it| it.judge(&result));
        match (verdict, suspicion) {
            (Some(Verdict::Gone), Some(it)) => core.borrow_mut().on_leader_gone(it.leader, it.term),
            (Some(Verdict::Open), Some(it)) if link.suspicion.get().is_none() => {
                link.suspicion.set(Some(it));
            }
            _ => {}
        }
        let ended = match result {
            Ok(shaken) => carry(&core, &link, shaken).await,
            Err(error) => {
                complain(&core, &link, &error);
                Ended::Lost
            }
        };
        if ended == Ended::Lost {
            let pause =
                if verdict == Some(Verdict::Open) { SUSPECT_RETRY_AFTER } else { RETRY_AFTER };
            tokio::select! {
                () = sleep(pause) => {}
                () = link.reconnect.notified() => {}
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The other side, or the network, ended it.
    Lost,
    /// This side wants a new one.
    Renewed,
}

/// A server that is down is no news; one that answers and refuses is.
fn complain(core: &SharedCore, link: &Link, error: &ConnectError) {
    let reason = match error {
        ConnectError::NobodyListens | ConnectError::Unreachable => return,
        ConnectError::Refused(reason) | ConnectError::RolledBack(reason) => reason,
    };
    if *link.complaint.borrow() != *reason {
        link.complaint.replace(reason.clone());
        let event = Event::PeerRefused { peer: link.id(), reason: reason.clone() };
        core.borrow().tell(&event);
    }
    if let ConnectError::RolledBack(reason) = error {
        core.borrow_mut().on_rolled_back(link.seat(), reason);
    }
}

pub(super) enum ConnectError {
    /// The machine is there, and no process listens at the address.
    NobodyListens,
    /// Nobody answers, for whatever reason.
    Unreachable,
    /// Somebody who does not want us, or whom we do not want.
    Refused(String),
    /// Somebody who knows that this server's directory is an older copy of what it was.
    RolledBack(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::NobodyListens,
            _ => ConnectError::Unreachable,
        }
    }
}

/// A connection after its handshake.
pub(super) struct Shaken {
    pub(super) outbox: Rc<Outbox>,
    pub(super) welcome: Welcome,
    /// What was read beyond the handshake.
    pub(super) input: BytesMut,
}

/// Connects and shakes hands with the server at an address, which is that of `to` if it is known
/// who listens there.
pub(super) async fn connect(
    core: &SharedCore,
    to: Option<&Seat>,
    address: &str,
    purpose: Purpose,
) -> Result<Shaken, ConnectError> {
    let id = to.map(|seat| seat.id);
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    let socket =
        timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.map_err(timed_out)??;
    socket.set_nodelay(true)?;
    // What the other side does not acknowledge for so long is lost with the connection: after a
    // partition a new one works at once, where the old one would wait for its own timers.
    let patience = core.borrow().settings.timing.election_max_ms;
    rustix::net::sockopt::set_tcp_user_timeout(&socket, patience).map_err(io::Error::from)?;
    let outbox = Rc::new(Outbox::new(socket));
    let hello = core.borrow().hello_to(to);
    let age = hello.age;
    let role = match purpose {
        Purpose::Raft => Role::Peer(hello),
        Purpose::Snapshots => Role::Snapshots(hello),
    };
    let hello = Hello { versions: VersionRange::OURS, role };
    outbox
        .append(|out| frame::encode(out, 0, &hello, HANDSHAKE_FRAME_BYTES_MAX))
        .map_err(io::Error::other)?;
    outbox.flush();
    let mut input = BytesMut::new();
    let answer = read_answer(&outbox, &mut input);
    let answer = timeout(CONNECT_TIMEOUT, answer).await.map_err(timed_out)??;
    match answer {
        // Whoever has seen nothing later than what this server just said is mistaken.
        Answer::Refused(Refused { reason: RefusedReason::RolledBack { seen }, text })
            if age.is_turned_back_from(seen) =>
        {
            Err(ConnectError::RolledBack(text))
        }
        Answer::Refused(refused) => Err(ConnectError::Refused(refused.text)),
        Answer::Welcome(welcome) => match check_welcome(core, id, address, &welcome) {
            None => Ok(Shaken { outbox, welcome, input }),
            Some(objection) => Err(ConnectError::Refused(objection)),
        },
    }
}

async fn read_answer(outbox: &Outbox, input: &mut BytesMut) -> io::Result<Answer> {
    let frame = outbox.first_frame(input).await?.map_err(io::Error::other)?;
    Answer::decode(frame.kind, &frame.body).map_err(io::Error::other)
}

/// Why the server that answered is not the one that was meant.
fn check_welcome(
    core: &SharedCore,
    id: Option<NodeId>,
    address: &str,
    welcome: &Welcome,
) -> Option<String> {
    let core = core.borrow();
    if id.is_some_and(|id| welcome.node != id.as_str()) || NodeId::new(&welcome.node).is_err() {
        return Some(format!("{} answers at its address {address}", welcome.node));
    }
    let (ours, theirs) = (&core.settings.cluster, &welcome.cluster);
    // A server that joins may not know the name of its cluster yet.
    if !ours.is_empty() && !theirs.is_empty() && ours != theirs {
        return Some(format!("it belongs to cluster {:?}", welcome.cluster));
    }
    match (core.cluster_id(), welcome.cluster_id) {
        (Some(ours), Some(theirs)) if ours != theirs => Some(
            "it belongs to another cluster of the same name; keep the directories of both until \
             it is known which one counts"
                .to_owned(),
        ),
        _ => None,
    }
}

/// Uses a connection until it ends.
async fn carry(core: &SharedCore, link: &Link, shaken: Shaken) -> Ended {
    let Shaken { outbox, welcome, mut input } = shaken;
    let id = link.id();
    let member = Member { id, incarnation: Incarnation(welcome.incarnation) };
    let seen = core.borrow_mut().note_boot(member, welcome.age, welcome.cluster_id);
    let Some(seen) = seen else { return Ended::Lost };
    if let Seen::Absurd(seen) = seen {
        let text = format!(
            "what answers for {id} at {} says that this is its start {}, where {} was the last; \
             it is not listened to",
            link.address(),
            welcome.age.boot,
            seen.boot
        );
        core.borrow_mut().note_oddity(member, Oddity::RolledBack, text);
        return Ended::Lost;
    }
    if let Seen::Later(seen) = seen {
        let evidence = evidence(welcome.age, seen);
        let text = format!(
            "{id} runs on a data directory that was rolled back: {evidence}; nothing is sent to \
             it. Put its newest directory back, or start it with an empty one and --join, then: \
             kvctl member replace {id}"
        );
        core.borrow_mut().note_oddity(member, Oddity::RolledBack, text);
        return Ended::Lost;
    }
    note_ways(core, member, &welcome);
    link.complaint.borrow_mut().clear();
    let up = Up::new(outbox, member, start_of(welcome.age), welcome.cluster_id);
    link.up.replace(Some(Rc::clone(&up)));
    // A server that is in no cluster yet needs to know, and so does one that was away while this
    // one became a member.
    if let Some(standing) = core.borrow().standing() {
        up.send_standing(&standing);
    }
    let mut led = None;
    let ended = tokio::select! {
        _ = listener::read_messages(core, &up, &mut input, &mut led) => Ended::Lost,
        () = link.reconnect.notified() => Ended::Renewed,
    };
    link.up.replace(None);
    up.outbox.close();
    ended
}

/// What is usual or odd about a server that answers where the cluster says it listens.
fn note_ways(core: &SharedCore, member: Member, welcome: &Welcome) {
    let mut core = core.borrow_mut();
    core.note_usual(member, Oddity::RolledBack);
    core.note_usual(member, Oddity::Unmet);
    if welcome.timing == core.settings.timing {
        core.note_usual(member, Oddity::Times);
    } else {
        let id = member.id;
        let text = format!("{id} has other times for heartbeat or election than this server");
        core.note_oddity(member, Oddity::Times, text);
    }
}

/// The longest frame that is read from another server.
pub(super) const PEER_FRAME_BYTES_MAX: u32 = FRAME_BYTES_MAX;
