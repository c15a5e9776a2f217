//! The first frame in each direction: who is there, which cluster, and which version of the
//! protocol both speak. Nothing else is read before it was accepted.
//!
//! The first bytes of these three messages are the same in every version of the protocol, so that
//! two builds that share no version can still tell each other so.

use super::frame::{Kind, Message};
use crate::codec::{self, DecodeError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft::node::Configuration;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The first bytes of every handshake.
pub const MAGIC: [u8; 4] = *b"KVCT";
/// The longest id of a server.
pub const NODE_ID_BYTES_MAX: usize = 32;
/// The longest address: a host name of 253 bytes, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = Configuration::ADDRESS_BYTES_MAX as usize;
/// The longest name of a cluster.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// The longest explanation in a refusal; longer ones are cut.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 200;

/// The versions of the protocol that a side can speak, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest one.
    pub min: u16,
    /// The newest one.
    pub max: u16,
}

impl VersionRange {
    /// What this build speaks.
    pub const OURS: VersionRange =
        VersionRange { min: super::PROTOCOL_VERSION_MIN, max: super::PROTOCOL_VERSION_MAX };

    /// The newest version that both sides speak, if there is one.
    pub fn common(self, other: VersionRange) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}..{}", self.min, self.max)
    }
}

/// What the side that connected says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions it can speak.
    pub versions: VersionRange,
    /// What it wants to be to the server.
    pub role: Role,
}

/// What the side that connected is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A client, with what it knows of the cluster.
    Client(ClusterClaim),
    /// Another server, for Raft's messages.
    Peer(PeerHello),
    /// Another server, for snapshots, which must not hold up Raft's messages.
    Snapshots(PeerHello),
}

/// What a client knows of the cluster that it wants to talk to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterClaim {
    /// Nothing: any cluster will do.
    Any,
    /// Its name, from the configuration.
    Name(String),
    /// Its id, learned from an earlier connection.
    Id([u8; 16]),
}

/// The timing settings of a server, in milliseconds. Servers compare them to warn of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat_ms: u32,
    /// The shortest election timeout.
    pub election_min_ms: u32,
    /// The longest election timeout.
    pub election_max_ms: u32,
}

/// How far a server's directory had come at some time. One that was replaced by an older copy is
/// known by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age {
    /// How many times a server was started on it.
    pub boot: u64,
    /// A number that was drawn for the latest of these starts.
    pub nonce: u64,
    /// The latest term that is durable in it.
    pub term: u64,
}

impl Age {
    /// Whether a directory of this age can be none that was `seen` before.
    pub fn is_turned_back_from(self, seen: Age) -> bool {
        match (self.boot, self.nonce) == (seen.boot, seen.nonce) {
            // What one start said earlier may be heard later.
            true => false,
            false => self.boot <= seen.boot || self.term < seen.term,
        }
    }
}

/// What a server says of itself to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// The name of its cluster.
    pub cluster: String,
    /// The id of its cluster; `None` before the cluster is founded.
    pub cluster_id: Option<[u8; 16]>,
    /// Its own id, at most 32 bytes.
    pub node: String,
    /// Which of the disks that ever carried this id it is.
    pub incarnation: u64,
    /// How far that disk has come.
    pub age: Age,
    /// How it counts time.
    pub timing: Timing,
    /// The id of the server that it believes to be talking to.
    pub to: String,
    /// Which of the disks that ever carried that id its cluster lists at this address.
    pub to_incarnation: Option<u64>,
}

/// What the server answers to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Requests may follow.
    Welcome(Welcome),
    /// The connection ends here.
    Refused(Refused),
}

/// The server accepts, and says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that both sides speak from here on.
    pub version: u16,
    /// Its id.
    pub node: String,
    /// The name of its cluster.
    pub cluster: String,
    /// The id of its cluster; `None` before the cluster is founded.
    pub cluster_id: Option<[u8; 16]>,
    /// Which of the disks that ever carried this id it is.
    pub incarnation: u64,
    /// How far that disk has come.
    pub age: Age,
    /// The index up to which it knows the log to be committed. A client's session starts here.
    pub commit: u64,
    /// How it counts time.
    pub timing: Timing,
}

/// The part of a [`Welcome`] behind magic and version.
#[derive(Serialize, Deserialize)]
struct WelcomeBody {
    node: String,
    cluster: String,
    cluster_id: Option<[u8; 16]>,
    incarnation: u64,
    age: Age,
    commit: u64,
    timing: Timing,
}

/// The server does not accept, and says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The kind of reason.
    pub reason: RefusedReason,
    /// The reason in words, for a human.
    pub text: String,
}

/// Why a server refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// The first frame was not a handshake of this protocol.
    WrongMagic,
    /// The handshake began well but could not be read.
    Malformed,
    /// The two sides share no version of the protocol.
    Version,
    /// This is a server of another cluster.
    Cluster,
    /// The peer takes this server for another one, or is not who it says.
    Identity,
    /// The peer's directory is older than one that was seen before under the same identity.
    RolledBack {
        /// How far it had come when it was seen last.
        seen: Age,
    },
    /// The server has as many connections as it may have.
    TooManyConnections,
    /// The server is about to stop.
    ShuttingDown,
    /// A reason that this build does not know.
    Other(u8),
}

impl RefusedReason {
    const NUMBERED: [(u8, RefusedReason); 7] = [
        (1, RefusedReason::WrongMagic),
        (2, RefusedReason::Malformed),
        (3, RefusedReason::Version),
        (4, RefusedReason::Cluster),
        (5, RefusedReason::Identity),
        (7, RefusedReason::TooManyConnections),
        (8, RefusedReason::ShuttingDown),
    ];

    /// The one reason that says more than its number.
    const ROLLED_BACK: u8 = 6;

    fn from_number(number: u8) -> RefusedReason {
        let known = Self::NUMBERED.iter().find(|(known, _)| *known == number);
        known.map_or(RefusedReason::Other(number), |(_, reason)| *reason)
    }

    fn number(self) -> u8 {
        match self {
            RefusedReason::Other(number) => number,
            RefusedReason::RolledBack { .. } => Self::ROLLED_BACK,
            known => Self::NUMBERED.iter().find(|(_, it)| *it == known).map_or(0, |(n, _)| *n),
        }
    }
}

impl Refused {
    /// A refusal with its text cut to what fits into a handshake.
    pub fn new(reason: RefusedReason, text: impl Into<String>) -> Refused {
        let mut text = text.into();
        let end = text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX);
        text.truncate(end);
        Refused { reason, text }
    }
}

impl Message for Hello {
    const KIND: Kind = Kind::HELLO;

    fn encode_body(&self, out: &mut BytesMut) {
        out.put_slice(&MAGIC);
        out.put_u16_le(self.versions.min);
        out.put_u16_le(self.versions.max);
        codec::append(out, &self.role);
    }

    fn decode_body(body: &Bytes) -> Result<Hello, DecodeError> {
        let mut rest = &body[..];
        let versions = take_versions(&mut rest)?;
        let role = codec::exact("Hello", rest)?;
        match &role {
            Role::Client(ClusterClaim::Name(name)) => check_cluster_name("Hello", name)?,
            Role::Client(ClusterClaim::Any | ClusterClaim::Id(_)) => {}
            Role::Peer(peer) | Role::Snapshots(peer) => {
                check_cluster_name("Hello", &peer.cluster)?;
                check_node_id("Hello", &peer.node)?;
                check_node_id("Hello", &peer.to)?;
            }
        }
        Ok(Hello { versions, role })
    }
}

impl Hello {
    /// Only the version range, which can be read whatever version the other side speaks.
    pub fn peek_versions(body: &Bytes) -> Result<VersionRange, DecodeError> {
        take_versions(&mut &body[..])
    }
}

impl Message for Welcome {
    const KIND: Kind = Kind::WELCOME;

    fn encode_body(&self, out: &mut BytesMut) {
        out.put_slice(&MAGIC);
        out.put_u16_le(self.version);
        let body = WelcomeBody {
            node: self.node.clone(),
            cluster: self.cluster.clone(),
            cluster_id: self.cluster_id,
            incarnation: self.incarnation,
            age: self.age,
            commit: self.commit,
            timing: self.timing,
        };
        codec::append(out, &body);
    }

    fn decode_body(body: &Bytes) -> Result<Welcome, DecodeError> {
        let mut rest = &body[..];
        take_magic(&mut rest)?;
        let version =
            rest.try_get_u16_le().map_err(|error| DecodeError::malformed("Welcome", error))?;
        let body: WelcomeBody = codec::exact("Welcome", rest)?;
        check_cluster_name("Welcome", &body.cluster)?;
        check_node_id("Welcome", &body.node)?;
        Ok(Welcome {
            version,
            node: body.node,
            cluster: body.cluster,
            cluster_id: body.cluster_id,
            incarnation: body.incarnation,
            age: body.age,
            commit: body.commit,
            timing: body.timing,
        })
    }
}

impl Message for Refused {
    const KIND: Kind = Kind::REFUSED;

    fn encode_body(&self, out: &mut BytesMut) {
        out.put_slice(&MAGIC);
        out.put_u8(self.reason.number());
        if let RefusedReason::RolledBack { seen } = self.reason {
            let Age { boot, nonce, term } = seen;
            [boot, nonce, term].into_iter().for_each(|number| out.put_u64_le(number));
        }
        out.put_slice(self.text.as_bytes());
    }

    fn decode_body(body: &Bytes) -> Result<Refused, DecodeError> {
        let mut rest = &body[..];
        take_magic(&mut rest)?;
        let number = rest.try_get_u8().map_err(|error| DecodeError::malformed("Refused", error))?;
        let reason = match number {
            RefusedReason::ROLLED_BACK => {
                let mut number = || {
                    let number = rest.try_get_u64_le();
                    number.map_err(|error| DecodeError::malformed("Refused", error))
                };
                let seen = Age { boot: number()?, nonce: number()?, term: number()? };
                RefusedReason::RolledBack { seen }
            }
            number => RefusedReason::from_number(number),
        };
        let text = std::str::from_utf8(rest)
            .map_err(|error| DecodeError::malformed("Refused", error))?
            .to_owned();
        Ok(Refused { reason, text })
    }
}

impl Answer {
    /// Reads the first frame that a server sent.
    pub fn decode(kind: Kind, body: &Bytes) -> Result<Answer, DecodeError> {
        match kind {
            Kind::WELCOME => Welcome::decode_body(body).map(Answer::Welcome),
            Kind::REFUSED => Refused::decode_body(body).map(Answer::Refused),
            Kind(kind) => Err(DecodeError::UnknownKind { kind }),
        }
    }
}

fn take_magic(rest: &mut &[u8]) -> Result<(), DecodeError> {
    match rest.split_at_checked(MAGIC.len()) {
        Some((magic, after)) if magic == MAGIC => {
            *rest = after;
            Ok(())
        }
        _ => Err(DecodeError::WrongMagic),
    }
}

fn take_versions(rest: &mut &[u8]) -> Result<VersionRange, DecodeError> {
    take_magic(rest)?;
    let mut number =
        || rest.try_get_u16_le().map_err(|error| DecodeError::malformed("Hello", error));
    Ok(VersionRange { min: number()?, max: number()? })
}

fn check_node_id(what: &'static str, id: &str) -> Result<(), DecodeError> {
    if id.len() > NODE_ID_BYTES_MAX {
        let why = format!("a server id of {} bytes, limit {NODE_ID_BYTES_MAX}", id.len());
        return Err(DecodeError::Malformed { what, why });
    }
    Ok(())
}

/// Refuses the id of a server that is longer than one can be.
pub(crate) fn check_id(id: &str) -> Result<(), DecodeError> {
    codec::within("id of a server", id.as_bytes(), NODE_ID_BYTES_MAX as u32)
}

/// Refuses an address that is longer than one can be.
pub(crate) fn check_address(address: &str) -> Result<(), DecodeError> {
    codec::within("address", address.as_bytes(), ADDRESS_BYTES_MAX as u32)
}

/// Refuses the name of a cluster that is longer than one can be.
pub(super) fn check_cluster_name(what: &'static str, name: &str) -> Result<(), DecodeError> {
    if name.len() > CLUSTER_NAME_BYTES_MAX {
        let why = format!("a cluster name of {} bytes, limit {CLUSTER_NAME_BYTES_MAX}", name.len());
        return Err(DecodeError::Malformed { what, why });
    }
    Ok(())
}
