//! Three nodes of the protocol on one thread: no disk, no network, no clock. What remains is what
//! the protocol itself costs.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::node::{
    Actions, Boot, Config, Configuration, DurableState, Envelope, Incarnation, Index, Member, Node,
    NodeId, Payload, RoleName, Voter,
};

use crate::Result;

/// Three nodes that have elected a leader. Every write is durable at once, every message arrives.
#[derive(Debug)]
pub struct Trio {
    nodes: Vec<Node>,
    members: Vec<Member>,
    flight: VecDeque<Envelope>,
    leader: usize,
    batch: Vec<Payload>,
}

impl Trio {
    /// Elects the first of three nodes, which then takes batches of `batch` commands of `bytes`
    /// bytes each.
    ///
    /// # Errors
    /// The nodes elect nobody.
    pub fn elect(batch: usize, bytes: usize) -> Result<Self> {
        let member = |n: u64| -> Result<Member> {
            Ok(Member { id: NodeId::new(&format!("s{n}"))?, incarnation: Incarnation(n) })
        };
        let members = (1..=3).map(member).collect::<Result<Vec<_>>>()?;
        let voter = |member: &Member| Voter { member: *member, address: "127.0.0.1:1".into() };
        let configuration = Configuration::new(members.iter().map(voter).collect())?;
        let node = |(seed, &member): (u64, &Member)| -> Result<Node> {
            let state = DurableState::new(configuration.clone());
            let mut config = Config::new(member, Boot(1));
            // Nothing can be read back here, so all that may be wanted stays in memory.
            config.window_bytes_max = 1 << 20;
            Ok(Node::restore(config, state, seed)?)
        };
        let nodes = (1..).zip(&members).map(node).collect::<Result<Vec<_>>>()?;
        let payload = Payload::new(Bytes::from(vec![b'x'; bytes]));
        let batch = vec![payload; batch];
        let mut trio = Self { nodes, members, flight: VecDeque::new(), leader: 0, batch };
        for _ in 0..10 * Config::TICKS_PER_HEARTBEAT * 10 {
            if let Some(first) = trio.nodes.first_mut() {
                first.tick();
            }
            trio.settle();
            if trio.nodes.first().is_some_and(|node| node.role() == RoleName::Leader) {
                return Ok(trio);
            }
        }
        Err("the nodes elected nobody".into())
    }

    /// Replicates one batch: proposed, sent, acknowledged, committed and applied by the leader.
    ///
    /// # Errors
    /// The leader refused it.
    pub fn replicate(&mut self) -> Result<()> {
        let batch = self.batch.clone();
        let leader = self.nodes.get_mut(self.leader).ok_or("there is no leader")?;
        let proposed = leader.propose(batch)?;
        self.settle();
        let applied = self.nodes.get(self.leader).map_or(Index(0), Node::applied);
        if applied.next() != proposed.end {
            return Err("a batch was not committed".into());
        }
        Ok(())
    }

    /// Carries out what the nodes ask for until they ask for nothing more.
    fn settle(&mut self) {
        let Self { nodes, members, flight, .. } = self;
        loop {
            let mut is_quiet = true;
            for node in nodes.iter_mut() {
                let actions = node.drain();
                if !actions.is_empty() {
                    is_quiet = false;
                    carry_out(node, actions, flight);
                }
            }
            while let Some(envelope) = flight.pop_front() {
                is_quiet = false;
                let place = members.iter().position(|member| *member == envelope.to);
                if let Some(node) = place.and_then(|place| nodes.get_mut(place)) {
                    node.step(envelope);
                }
            }
            if is_quiet {
                return;
            }
        }
    }
}

fn carry_out(node: &mut Node, actions: Actions, flight: &mut VecDeque<Envelope>) {
    let Actions { append, send, apply, .. } = actions;
    flight.extend(send);
    if let Some(last) = apply.last() {
        node.on_applied(last.index);
    }
    if let Some(append) = append {
        node.on_durable(append.ticket, 0);
    }
}

/// The least that replication in memory must do: three logs that take the same payloads, with a
/// count of who holds what.
#[derive(Debug, Default)]
pub struct ThreeLists {
    lists: [VecDeque<(u64, u64, Payload)>; 3],
    last: u64,
}

impl ThreeLists {
    /// Appends a batch to all three, keeping as much of the past as [`Trio`] does.
    pub fn replicate(&mut self, batch: &[Payload]) {
        for list in &mut self.lists {
            for (payload, index) in batch.iter().zip(self.last + 1..) {
                list.push_back((index, 1, payload.clone()));
            }
            while list.len() > LIST_ENTRIES {
                list.pop_front();
            }
        }
        self.last += batch.len() as u64;
    }
}

/// As many entries of 100 bytes as a megabyte holds.
const LIST_ENTRIES: usize = 8192;
