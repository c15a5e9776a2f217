//! Takes connections, of clients and of other servers alike, and learns from the first frame which
//! they are. Nobody is listened to for long, or at length, before that.

use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use raft::node::{self, Incarnation, Member, NodeId, Term};
use raft::storage::Start;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::connection::{self, Connection, make_room};
use super::core::{Core, SharedCore};
use super::entrance::{Entrance, Guest, Permit, Silent};
use super::event::Event;
use super::links::{PEER_FRAME_BYTES_MAX, Suspicion, Up};
use super::outbox::{Outbox, Reading};
use super::proof::{evidence, start_of};
use super::snapshot_link::WayIn;
use super::warnings::Oddity;
use crate::wire::frame::{self, Frame, HANDSHAKE_FRAME_BYTES_MAX, Kind, Message};
use crate::wire::handshake::{
    ClusterClaim, Hello, PeerHello, Refused, RefusedReason, Role, VersionRange,
};
use crate::wire::peer::{self, PeerMessage};

/// How long a connection may take to say what it is.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Wait after a failed accept, when there are too many open files for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for as long as the server runs.
pub(super) async fn run(core: SharedCore, listener: TcpListener, connections_max: u32) {
    let entrance = Rc::new(Entrance::new(connections_max));
    loop {
        let Ok((socket, address)) = listener.accept().await else {
            // Nothing is wrong with the listener itself: wait for files to be closed.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let silent = entrance.enter(address.ip());
        let (core, entrance) = (Rc::clone(&core), Rc::clone(&entrance));
        tokio::task::spawn_local(async move {
            // A connection that ends badly concerns nobody but its other end.
            let _ = greet(&core, socket, &entrance, &silent).await;
            entrance.settle(&silent);
        });
    }
}

/// Has the kernel ask a silent other side from time to time whether it is still there: a machine
/// that vanished says no goodbye, and would keep its connection for ever.
fn notice_vanished(socket: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_AFTER / 2)?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    Ok(())
}

/// Silence after which the kernel asks.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// Reads the first frame, answers it, and serves whoever is there.
async fn greet(
    core: &SharedCore,
    socket: TcpStream,
    entrance: &Entrance,
    silent: &Rc<Silent>,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    notice_vanished(&socket)?;
    let outbox = Outbox::new(socket);
    let mut input = BytesMut::with_capacity(HANDSHAKE_FRAME_BYTES_MAX as usize);
    let first = tokio::select! {
        first = timeout(HANDSHAKE_TIMEOUT, outbox.first_frame(&mut input)) => first,
        () = silent.leave.notified() => return Ok(()),
    };
    entrance.settle(silent);
    let first = first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let accepted = match first {
        Ok(frame) => check_hello(core, &frame).and_then(|(version, accepted)| {
            let permit = admit(core, entrance, &accepted)?;
            Ok((version, accepted, permit))
        }),
        Err(error) => Err(Refused::new(
            RefusedReason::WrongMagic,
            format!("this is a kvctl server, and that was no kvctl handshake: {error}"),
        )),
    };
    let (version, accepted, _permit) = match accepted {
        Ok(accepted) => accepted,
        Err(refused) => {
            let _ = outbox.append(|out| frame::encode(out, 0, &refused, HANDSHAKE_FRAME_BYTES_MAX));
            outbox.flush();
            return Ok(());
        }
    };
    let welcome = core.borrow().welcome(version);
    outbox
        .append(|out| frame::encode(out, 0, &welcome, HANDSHAKE_FRAME_BYTES_MAX))
        .map_err(io::Error::other)?;
    outbox.flush();
    serve(core, accepted, outbox, input).await
}

/// A place for whoever was accepted.
fn admit(core: &SharedCore, entrance: &Entrance, who: &Accepted) -> Result<Permit, Refused> {
    let (guest, text) = match who {
        Accepted::Client => (
            Guest::Client,
            "this server has as many clients as it may have; close some, or raise the limit",
        ),
        Accepted::Peer { from, .. } | Accepted::Snapshots { from, .. } => {
            let guest =
                if core.borrow().is_listed(from.id) { Guest::Member } else { Guest::Stranger };
            (guest, "this server has as many connections of other servers as it may have")
        }
    };
    let refused = || Refused::new(RefusedReason::TooManyConnections, text);
    entrance.admit(guest).ok_or_else(refused)
}

/// Serves whoever was let in, until that ends.
async fn serve(
    core: &SharedCore,
    who: Accepted,
    outbox: Outbox,
    mut input: BytesMut,
) -> io::Result<()> {
    match who {
        Accepted::Client => {
            connection::serve(Rc::clone(core), Connection::new(outbox), input).await;
            Ok(())
        }
        Accepted::Peer { from, start, cluster } => {
            let up = Up::new(Rc::new(outbox), from, start, cluster);
            if !Core::prove(core, &up).await {
                return Ok(());
            }
            let result = read_peer(core, &up, &mut input).await;
            core.borrow_mut().joiners.lose(&up);
            result
        }
        Accepted::Snapshots { from, start, cluster } => {
            let up = Up::new(Rc::new(outbox), from, start, cluster);
            if !Core::prove(core, &up).await {
                return Ok(());
            }
            core.borrow_mut().snapshot_ways += 1;
            let result = read_snapshots(core, &up, &mut input).await;
            core.borrow_mut().on_snapshot_way_lost(from, WayIn::Theirs);
            result
        }
    }
}

/// Who was let in.
enum Accepted {
    Client,
    /// Another server, as its handshake named it.
    Peer {
        from: Member,
        start: Start,
        /// The cluster that it says it belongs to.
        cluster: Option<[u8; 16]>,
    },
    /// The same, on a connection that carries nothing but snapshots.
    Snapshots {
        from: Member,
        start: Start,
        cluster: Option<[u8; 16]>,
    },
}

fn check_hello(core: &SharedCore, frame: &Frame) -> Result<(u16, Accepted), Refused> {
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
    if core.borrow().stopping {
        let text = "this server is about to stop";
        return Err(Refused::new(RefusedReason::ShuttingDown, text));
    }
    match hello.role {
        Role::Client(claim) => {
            check_claim(core, &claim)?;
            Ok((version, Accepted::Client))
        }
        Role::Peer(peer) => {
            let from = check_peer(core, &peer)?;
            let (start, cluster) = (start_of(peer.age), peer.cluster_id);
            Ok((version, Accepted::Peer { from, start, cluster }))
        }
        Role::Snapshots(peer) => {
            let from = check_peer(core, &peer)?;
            if !core.borrow().has_room_for_snapshots() {
                let text = "this server has as many connections for snapshots as it may have";
                return Err(Refused::new(RefusedReason::TooManyConnections, text));
            }
            let (start, cluster) = (start_of(peer.age), peer.cluster_id);
            Ok((version, Accepted::Snapshots { from, start, cluster }))
        }
    }
}

fn check_claim(core: &SharedCore, claim: &ClusterClaim) -> Result<(), Refused> {
    let core = core.borrow();
    let ours = &core.settings.cluster;
    let wrong = |text| Err(Refused::new(RefusedReason::Cluster, text));
    match claim {
        ClusterClaim::Name(name) if name != ours => {
            wrong(format!("this is a server of cluster {ours:?}, not of {name:?}"))
        }
        ClusterClaim::Id(id) if core.cluster_id() != Some(*id) => {
            wrong(format!("this is a server of another cluster, called {ours:?}"))
        }
        _ => Ok(()),
    }
}

fn check_peer(core: &SharedCore, peer: &PeerHello) -> Result<Member, Refused> {
    let mut core = core.borrow_mut();
    let me = core.me.id;
    // A server that joins may know nothing but an address.
    if !peer.to.is_empty() && peer.to != me.as_str() {
        let text = format!("this is {me}, not {}; check the addresses in your file", peer.to);
        return Err(Refused::new(RefusedReason::Identity, text));
    }
    let ours = core.settings.cluster.clone();
    if !peer.cluster.is_empty() && !ours.is_empty() && peer.cluster != ours {
        let text = format!("this is a server of cluster {ours:?}, not of {:?}", peer.cluster);
        return Err(Refused::new(RefusedReason::Cluster, text));
    }
    let id = NodeId::new(&peer.node)
        .map_err(|error| Refused::new(RefusedReason::Identity, error.to_string()))?;
    if let (Some(mine), Some(theirs)) = (core.cluster_id(), peer.cluster_id)
        && mine != theirs
    {
        core.on_other_cluster(id, peer);
        let (node, address) = (id, &core.settings.address);
        let text = match core.was_recovered {
            true => format!(
                "this is a cluster {ours:?} that was recovered from another; if that has lost its \
                 majority for good, move the directory of {node} away and start it with --join \
                 {address}"
            ),
            false => format!(
                "this is another cluster {ours:?} than that of {node}; keep the directories of \
                 both until it is known which one counts"
            ),
        };
        return Err(Refused::new(RefusedReason::Cluster, text));
    }
    let member = Member { id, incarnation: Incarnation(peer.incarnation) };
    // Another life of this server may be about to replace it, or to be replaced by it.
    if member == core.me || id == me && core.cluster_id().or(peer.cluster_id).is_none() {
        let text = format!("two servers are called {me}; each needs an id of its own");
        return Err(Refused::new(RefusedReason::Identity, text));
    }
    if let Some(seen) = core.seen_later(member, peer.age) {
        let evidence = evidence(peer.age, seen);
        let text = format!(
            "{id} was rolled back: {evidence}; put its newest directory back, or empty it, then: \
             kvctl member replace {id}"
        );
        core.note_oddity(member, Oddity::RolledBack, text.clone());
        return Err(Refused::new(RefusedReason::RolledBack { seen }, text));
    }
    Ok(member)
}

/// Reads another server's messages until it hangs up. If it was the other side that did, and it
/// led, it may be gone.
async fn read_peer(core: &SharedCore, peer: &Rc<Up>, input: &mut BytesMut) -> io::Result<()> {
    let mut led = None;
    let result = read_messages(core, peer, input, &mut led).await;
    let closed_there = match &result {
        Ok(ended) => *ended == Ended::ByTheOtherSide,
        // A connection that times out was not closed by anybody.
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    };
    if let Some(term) = led.filter(|_| closed_there && core.borrow().may_count(peer)) {
        let (leader, boot, since) = (peer.member, peer.start.boot, Instant::now());
        core.borrow().suspect(Suspicion { leader, boot, term, since });
    }
    result.map(|_| ())
}

/// Reads what another server says about snapshots until either side has had enough. That such a
/// connection ends says nothing about the process on its other side.
pub(super) async fn read_snapshots(
    core: &SharedCore,
    peer: &Rc<Up>,
    input: &mut BytesMut,
) -> io::Result<()> {
    let take = |message| match message {
        PeerMessage::Snapshot { to, snapshot, message } => {
            core.borrow_mut().on_snapshot_message(peer, to, snapshot, message);
            Ok(ControlFlow::Continue(()))
        }
        PeerMessage::Raft { .. } | PeerMessage::Standing(_) => {
            Err(io::Error::other("only snapshots are spoken of on this connection"))
        }
    };
    each_message(core, peer, input, take).await.map(|_| ())
}

/// Hands messages in until the connection ends; `led` is the term of the last append among them.
pub(super) async fn read_messages(
    core: &SharedCore,
    peer: &Rc<Up>,
    input: &mut BytesMut,
    led: &mut Option<Term>,
) -> io::Result<Ended> {
    let take = |message| {
        if let PeerMessage::Raft { term, message: node::Message::Append { .. }, .. } = &message {
            *led = Some(*term);
        }
        let result = core.borrow_mut().on_peer_message(peer, message);
        Ok(match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                core.borrow().failures.report(error);
                ControlFlow::Break(())
            }
        })
    };
    each_message(core, peer, input, take).await
}

/// Why no more messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    ByTheOtherSide,
    ByThisSide,
}

/// Gives every message of a connection to `take`, until that or either side has had enough. The
/// driver is woken once for all that one read brought.
async fn each_message(
    core: &SharedCore,
    peer: &Rc<Up>,
    input: &mut BytesMut,
    mut take: impl FnMut(PeerMessage) -> io::Result<ControlFlow<()>>,
) -> io::Result<Ended> {
    loop {
        let mut taken = false;
        while let Some(frame) =
            frame::decode(input, PEER_FRAME_BYTES_MAX).map_err(io::Error::other)?
        {
            let decoded = peer::decode_keeping(&frame, &mut |payload| {
                core.borrow_mut().gathered.keep(&frame.body, payload)
            });
            let message = decoded.map_err(|error| {
                let text = format!("{} sent a message that cannot be read: {error}", peer.member);
                core.borrow().tell(&Event::Warning { text });
                io::Error::other(error)
            })?;
            if take(message)?.is_break() {
                return Ok(Ended::ByThisSide);
            }
            taken = true;
        }
        if taken {
            core.borrow().wake();
        }
        if peer.outbox.is_closed() {
            return Ok(Ended::ByThisSide);
        }
        if peer.outbox.ready(Reading::Wanted).await? {
            make_room(input);
            if peer.outbox.try_read(input)? == Some(0) {
                return Ok(Ended::ByTheOtherSide);
            }
        }
    }
}

#[cfg(test)]
mod tests;
