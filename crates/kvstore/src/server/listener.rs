//! Takes connections, of clients and of other servers alike, and learns from the first frame which
//! they are. Nobody is listened to for long, or at length, before that.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use raft::node::{self, Boot, Member, Term};
use raft::storage::Sighting;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::connection::{self, Connection, make_room};
use super::core::SharedCore;
use super::event::Event;
use super::links::{PEER_FRAME_BYTES_MAX, Suspicion, Up};
use super::meeting;
use super::outbox::{Outbox, Reading};
use super::snapshot_link::WayIn;
use crate::wire::frame::{self, Frame, HANDSHAKE_FRAME_BYTES_MAX};
use crate::wire::handshake::{ClusterClaim, PeerHello, Refused, RefusedReason, Role};
use crate::wire::peer::{self, PeerMessage};

/// How long a connection may take to say what it is.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Wait after a failed accept, when there are too many open files for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for as long as the server runs.
pub(super) async fn run(core: SharedCore, listener: TcpListener, connections_max: u32) {
    let open = Rc::new(Cell::new(0_u32));
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Nothing is wrong with the listener itself: wait for files to be closed.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let permit = Permit::new(&open);
        // Somebody who has not said yet whether it is a client must be let in to say so.
        if open.get() > connections_max + GREETINGS_MAX {
            continue;
        }
        let full = open.get() > connections_max;
        let core = Rc::clone(&core);
        tokio::task::spawn_local(async move {
            // A connection that ends badly concerns nobody but its other end.
            let _ = greet(core, socket, full).await;
            drop(permit);
        });
    }
}

/// Connections beyond the clients': other servers, and those that have not said what they are.
const GREETINGS_MAX: u32 = 32;

/// One of the connections that a server may have.
struct Permit {
    open: Rc<Cell<u32>>,
}

impl Permit {
    fn new(open: &Rc<Cell<u32>>) -> Self {
        open.set(open.get() + 1);
        Self { open: Rc::clone(open) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
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
async fn greet(core: SharedCore, socket: TcpStream, full: bool) -> io::Result<()> {
    socket.set_nodelay(true)?;
    notice_vanished(&socket)?;
    let outbox = Outbox::new(socket);
    let mut input = BytesMut::with_capacity(HANDSHAKE_FRAME_BYTES_MAX as usize);
    let first = timeout(HANDSHAKE_TIMEOUT, outbox.first_frame(&mut input)).await;
    let first = first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let accepted = match first {
        Ok(frame) => match check_hello(&core, &frame) {
            Ok((_, Accepted::Client)) if full => Err(Refused::new(
                RefusedReason::TooManyConnections,
                "this server has as many clients as it may have; close some, or raise the limit",
            )),
            checked => checked,
        },
        Err(error) => Err(Refused::new(
            RefusedReason::WrongMagic,
            format!("this is a kvctl server, and that was no kvctl handshake: {error}"),
        )),
    };
    match accepted {
        Err(refused) => {
            let _ = outbox.append(|out| frame::encode(out, 0, &refused, HANDSHAKE_FRAME_BYTES_MAX));
            outbox.flush();
            Ok(())
        }
        Ok((version, role)) => {
            let welcome = core.borrow().welcome(version);
            outbox
                .append(|out| frame::encode(out, 0, &welcome, HANDSHAKE_FRAME_BYTES_MAX))
                .map_err(io::Error::other)?;
            outbox.flush();
            match role {
                Accepted::Client => {
                    connection::serve(core, Connection::new(outbox), input).await;
                    Ok(())
                }
                Accepted::Peer { from, boot, cluster } => {
                    let up = Up::new(Rc::new(outbox), from, boot, cluster);
                    let result = read_peer(&core, &up, &mut input).await;
                    core.borrow_mut().joiners.lose(&up);
                    result
                }
                Accepted::Snapshots { from, boot, cluster } => {
                    let up = Up::new(Rc::new(outbox), from, boot, cluster);
                    core.borrow_mut().snapshot_ways += 1;
                    let result = read_snapshots(&core, &up, &mut input).await;
                    core.borrow_mut().on_snapshot_way_lost(from, WayIn::Theirs);
                    result
                }
            }
        }
    }
}

/// Who was let in.
enum Accepted {
    Client,
    /// Another server, as its handshake named it.
    Peer {
        from: Member,
        boot: Boot,
        /// The cluster that it says it belongs to.
        cluster: Option<[u8; 16]>,
    },
    /// The same, on a connection that carries nothing but snapshots.
    Snapshots {
        from: Member,
        boot: Boot,
        cluster: Option<[u8; 16]>,
    },
}

fn check_hello(core: &SharedCore, frame: &Frame) -> Result<(u16, Accepted), Refused> {
    let (version, role) = meeting::read_hello(frame)?;
    if core.borrow().stopping {
        let text = "this server is about to stop";
        return Err(Refused::new(RefusedReason::ShuttingDown, text));
    }
    match role {
        Role::Client(claim) => {
            check_claim(core, &claim)?;
            Ok((version, Accepted::Client))
        }
        Role::Peer(peer) => {
            let from = check_peer(core, &peer)?;
            let (boot, cluster) = (Boot(peer.boot), peer.cluster_id);
            Ok((version, Accepted::Peer { from, boot, cluster }))
        }
        Role::Snapshots(peer) => {
            let from = check_peer(core, &peer)?;
            if !core.borrow().has_room_for_snapshots() {
                let text = "this server has as many connections for snapshots as it may have";
                return Err(Refused::new(RefusedReason::TooManyConnections, text));
            }
            let (boot, cluster) = (Boot(peer.boot), peer.cluster_id);
            Ok((version, Accepted::Snapshots { from, boot, cluster }))
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
    let member = core.host().check_peer(peer)?;
    let (id, boot) = (member.id, Boot(peer.boot));
    if let Sighting::RolledBack { seen } = core.note_boot(member, boot, peer.cluster_id) {
        let refused = core.host().refuse_rolled_back(id, boot, seen);
        core.warn(refused.text.clone());
        return Err(refused);
    }
    if peer.timing != core.settings.timing {
        let text = format!("{id} has other times for heartbeat or election than this server");
        core.warn(text);
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
    if let Some(term) = led.filter(|_| closed_there) {
        let (leader, boot, since) = (peer.member, peer.boot, Instant::now());
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
    loop {
        let mut taken = false;
        while let Some(frame) =
            frame::decode(input, PEER_FRAME_BYTES_MAX).map_err(io::Error::other)?
        {
            match peer::decode(&frame).map_err(io::Error::other)? {
                PeerMessage::Snapshot { to, snapshot, message } => {
                    core.borrow_mut().on_snapshot_message(peer, to, snapshot, message);
                }
                PeerMessage::Raft { .. } | PeerMessage::Standing(_) => {
                    let text = "only snapshots are spoken of on this connection";
                    return Err(io::Error::other(text));
                }
            }
            taken = true;
        }
        if taken {
            core.borrow().wake();
        }
        if peer.outbox.is_closed() {
            return Ok(());
        }
        if peer.outbox.ready(Reading::Wanted).await? {
            make_room(input);
            if peer.outbox.try_read(input)? == Some(0) {
                return Ok(());
            }
        }
    }
}

/// Why no more messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    ByTheOtherSide,
    ByThisSide,
}

/// Hands messages in until the connection ends; `led` is the term of the last append among them.
pub(super) async fn read_messages(
    core: &SharedCore,
    peer: &Rc<Up>,
    input: &mut BytesMut,
    led: &mut Option<Term>,
) -> io::Result<Ended> {
    loop {
        let mut taken = false;
        while let Some(frame) =
            frame::decode(input, PEER_FRAME_BYTES_MAX).map_err(io::Error::other)?
        {
            let message = peer::decode(&frame).map_err(|error| {
                let text = format!("{} sent a message that cannot be read: {error}", peer.member);
                core.borrow().tell(&Event::Warning { text });
                io::Error::other(error)
            })?;
            if let PeerMessage::Raft { term, message: node::Message::Append { .. }, .. } = &message
            {
                *led = Some(*term);
            }
            let result = core.borrow_mut().on_peer_message(peer, message);
            if let Err(error) = result {
                core.borrow().failures.report(error);
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
