//! What a server tells while it runs: its recovery, its elections, who catches up, who leads. The
//! words are for people; names and fields are for programs that read the same story as JSON.

mod damage;
mod raft;
mod snapshot;

use std::fmt;
use std::time::Duration;

use ::raft::founding::Door;
use ::raft::node::{self, NodeId};
use ::raft::replica::SnapshotEvent;

pub(super) use self::raft::Members;

use super::joining::Invitation;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The log was read.
    Recovered {
        /// The term that the server remembers.
        term: u64,
        /// Entries in the log.
        entries: u64,
        /// The index that a snapshot stands for.
        snapshot: u64,
        /// How long it took.
        took: Duration,
    },
    /// The last write had not finished when the server stopped; nobody was told that it had.
    TornTail {
        /// The number of the segment.
        segment: u64,
        /// Where in it.
        offset: u64,
        /// How many bytes of it were written.
        bytes: u64,
    },
    /// The port is open.
    Listening {
        /// The address.
        address: String,
        /// The data directory.
        data: String,
    },
    /// The cluster is not founded yet; these are waited for.
    Waiting {
        /// The servers.
        missing: Vec<NodeId>,
    },
    /// The cluster is not founded yet, and a person must help.
    Stuck {
        /// Why.
        obstacle: String,
    },
    /// This server was started to join a cluster, and no member has answered yet.
    Seeking {
        /// Where it asks.
        join: Option<Vec<String>>,
    },
    /// A cluster exists that does not list this server, which waits to be taken in.
    Joining {
        /// The cluster, and what it knows of this server.
        door: Door,
    },
    /// A member of a cluster has sent this server a part of its log: it belongs to that cluster
    /// now, for as long as its directory lives.
    Admitted {
        /// The name of the cluster.
        cluster: String,
        /// The member.
        by: NodeId,
    },
    /// A server that no list names wants to be taken into this cluster.
    Knocks {
        /// The server.
        server: NodeId,
        /// Where it listens.
        address: String,
    },
    /// All agreed: the cluster exists.
    Founded {
        /// Its id.
        cluster: String,
        /// Its members.
        members: Vec<NodeId>,
    },
    /// Something that the replica did. Ticks are told as times.
    Raft {
        /// What.
        event: node::Event,
        /// The length of a tick.
        tick: Duration,
    },
    /// Something happened to a snapshot.
    Snapshot {
        /// What.
        event: SnapshotEvent,
    },
    /// Another server does not take this one's connection.
    PeerRefused {
        /// The other server.
        peer: NodeId,
        /// What it said.
        reason: String,
    },
    /// Settings of this server and another differ, which is allowed but rarely meant.
    Warning {
        /// What is odd.
        text: String,
    },
    /// The server stops because it was asked to.
    Stopping,
    /// The log is closed.
    Stopped,
}

impl Event {
    /// The event's name: one word, the first column of the story.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::Recovered { .. } => "recovered",
            Event::TornTail { .. } => "torn-tail",
            Event::Listening { .. } => "listening",
            Event::Waiting { .. } => "waiting",
            Event::Stuck { .. } => "stuck",
            Event::Seeking { .. } => "seeking",
            Event::Joining { .. } => "joining",
            Event::Admitted { .. } => "admitted",
            Event::Knocks { .. } => "knocks",
            Event::Founded { .. } => "founded",
            Event::PeerRefused { .. } => "refused",
            Event::Warning { .. } => "warning",
            Event::Stopping => "stopping",
            Event::Stopped => "stopped",
            Event::Raft { event, .. } => raft::name(event),
            Event::Snapshot { event } => snapshot::name(event),
        }
    }

    /// The event's details, for programs.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, Field)> {
        match self {
            Event::Recovered { term, entries, snapshot, took } => vec![
                ("term", (*term).into()),
                ("entries", (*entries).into()),
                ("snapshot", (*snapshot).into()),
                ("took_ms", milliseconds(*took).into()),
            ],
            Event::TornTail { segment, offset, bytes } => vec![
                ("segment", (*segment).into()),
                ("offset", (*offset).into()),
                ("bytes", (*bytes).into()),
            ],
            Event::Listening { address, data } => {
                vec![("address", address.clone().into()), ("data", data.clone().into())]
            }
            Event::Waiting { missing } => vec![("missing", missing.as_slice().into())],
            Event::Stuck { obstacle } => vec![("reason", obstacle.clone().into())],
            Event::Seeking { join } => {
                vec![("join", join.clone().unwrap_or_default().join(",").into())]
            }
            Event::Joining { door } => vec![
                ("cluster", door.name.clone().into()),
                ("place", Invitation(door).place().to_string().into()),
            ],
            Event::Admitted { cluster, by } => {
                vec![("cluster", cluster.clone().into()), ("by", (*by).into())]
            }
            Event::Knocks { server, address } => {
                vec![("waiting", (*server).into()), ("address", address.clone().into())]
            }
            Event::Founded { cluster, members } => {
                vec![("cluster", cluster.clone().into()), ("members", members.as_slice().into())]
            }
            Event::PeerRefused { peer, reason } => {
                vec![("peer", (*peer).into()), ("reason", reason.clone().into())]
            }
            Event::Warning { text } => vec![("text", text.clone().into())],
            Event::Stopping | Event::Stopped => Vec::new(),
            Event::Raft { event, tick } => raft::fields(event, *tick),
            Event::Snapshot { event } => snapshot::fields(event),
        }
    }
}

/// A detail of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Number(u64),
    /// A yes or no.
    Flag(bool),
    /// A text.
    Text(String),
    /// The names of servers.
    Servers(Vec<NodeId>),
}

impl From<u64> for Field {
    fn from(number: u64) -> Self {
        Field::Number(number)
    }
}

impl From<bool> for Field {
    fn from(flag: bool) -> Self {
        Field::Flag(flag)
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Field::Text(text)
    }
}

impl From<NodeId> for Field {
    fn from(id: NodeId) -> Self {
        Field::Text(id.to_string())
    }
}

impl From<&[NodeId]> for Field {
    fn from(ids: &[NodeId]) -> Self {
        Field::Servers(ids.to_vec())
    }
}

impl fmt::Display for Event {
    /// The story's line without the server's own name: a column of one or two words, then the
    /// details.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Recovered { term, entries, snapshot, took } => write!(
                f,
                "recovered   term {term}, {entries} entries, snapshot at {snapshot}, in {} ms",
                milliseconds(*took)
            ),
            Event::TornTail { segment, offset, bytes } => write!(
                f,
                "torn tail   segment {segment} at {offset}, {bytes} bytes: the last write is \
                 not whole, cut short or damaged since; it is discarded"
            ),
            Event::Listening { address, data } => {
                write!(f, "listening   {address}   data {data}")
            }
            Event::Waiting { missing } => {
                write!(f, "waiting     for {} to found the cluster with", Names(missing))
            }
            Event::Stuck { obstacle } => write!(f, "stuck       {obstacle}"),
            Event::Seeking { join } => write!(
                f,
                "seeking     a member of the cluster at {}",
                join.clone().unwrap_or_default().join(" ")
            ),
            Event::Joining { door } => write!(f, "joining     {}", Invitation(door)),
            Event::Admitted { cluster, by } => {
                write!(
                    f,
                    "admitted    to cluster {cluster:?} by {by}; it belongs to it from now on"
                )
            }
            Event::Knocks { server, address } => {
                write!(f, "knocks      {server} at {address} waits to be taken into the cluster")
            }
            Event::Founded { cluster, members } => {
                write!(f, "founded     cluster {cluster} of {}", Names(members))
            }
            Event::PeerRefused { peer, reason } => write!(f, "refused     by {peer}: {reason}"),
            Event::Warning { text } => write!(f, "warning     {text}"),
            Event::Stopping => write!(f, "stopping    asked to; finishing what is in flight"),
            Event::Stopped => write!(f, "stopped     the log is closed"),
            Event::Raft { event, tick } => raft::fmt_event(f, event, *tick),
            Event::Snapshot { event } => snapshot::fmt(f, event),
        }
    }
}

/// Names with spaces between them.
struct Names<'a>(&'a [NodeId]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody");
        }
        for (number, id) in self.0.iter().enumerate() {
            write!(f, "{}{id}", if number == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::raft::node::{Cause, DamageEvent, Index, Term};

    fn raft(event: node::Event) -> String {
        Event::Raft { event, tick: Duration::from_millis(5) }.to_string()
    }

    #[test]
    fn the_story_reads_like_this() {
        let id = |name| NodeId::new(name).unwrap();
        let took = Duration::from_millis(2);
        let recovered = Event::Recovered { term: 6, entries: 9, snapshot: 0, took };
        let address = "127.0.0.1:10000".to_string();
        let listening = Event::Listening { address, data: "./data/s1".into() };
        let asked = vec![id("s2"), id("s3"), id("s4")];
        let lines = [
            recovered.to_string(),
            listening.to_string(),
            raft(node::Event::BecameFollower { term: Term(6), leader: None, timeout_ticks: 146 }),
            raft(node::Event::Campaigning {
                term: Term(7),
                silent_ticks: 147,
                cause: Cause::Silence,
                asked,
            }),
            raft(node::Event::BecameLeader {
                term: Term(7),
                votes: vec![id("s1"), id("s2"), id("s3")],
                voters: 4,
            }),
            raft(node::Event::CatchingUp { leader: id("s1"), from: Index(2), to: Index(9) }),
            raft(node::Event::Damage(DamageEvent::Found {
                entries: 12,
                first: Index(100),
                last: Index(111),
                asked: vec![id("s2"), id("s3")],
            })),
            raft(node::Event::Damage(DamageEvent::Repaired {
                entries: 12,
                from: id("s2"),
                left: 0,
                ticks: 2,
            })),
        ];
        let expected = [
            "recovered   term 6, 9 entries, snapshot at 0, in 2 ms",
            "listening   127.0.0.1:10000   data ./data/s1",
            "follower    term 6   election timeout 730 ms",
            "candidate   term 7   no leader for 735 ms, asking s2 s3 s4",
            "LEADER      term 7   3 of 4 votes (s1 s2 s3)",
            "catches up  entries 2..9 from s1",
            "damaged     12 of entries 100..111; asking s2 s3 for them",
            "repaired    12 entries from s2 in 10 ms",
        ];
        assert_eq!(lines, expected);
    }
}
