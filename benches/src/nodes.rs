//! Three nodes of the protocol on one thread: no disk, no network, no clock. What remains is what
//! the protocol itself costs, as a whole or step by step.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::node::{
    Actions, Boot, Config, Configuration, DurableState, Envelope, Incarnation, Index, Member, Node,
    NodeId, Payload, ReadId, RoleName, Voter,
};

use crate::Result;
use crate::measure::{Side, Slice};

/// Three nodes that have elected a leader. Every write is durable at once, every message arrives.
#[derive(Debug)]
pub struct Trio {
    nodes: Vec<Node>,
    members: Vec<Member>,
    flight: VecDeque<Envelope>,
    leader: usize,
    batch: Vec<Payload>,
    reads: u64,
}

/// A part of the way of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The leader takes it: one write for its own disk, a message for each follower.
    LeaderAppend,
    /// One follower takes the message: one write for its disk. It applies what is committed.
    FollowerAppend,
    /// The disk of one follower is done, and the follower says so.
    Acknowledge,
    /// Both followers have said so, and the leader's disk is done: the leader commits and applies.
    Commit,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Step; 4] =
        [Step::LeaderAppend, Step::FollowerAppend, Step::Acknowledge, Step::Commit];

    /// How it is called in figures.
    pub fn name(self) -> &'static str {
        match self {
            Step::LeaderAppend => "leader-append",
            Step::FollowerAppend => "follower-append",
            Step::Acknowledge => "acknowledge",
            Step::Commit => "commit",
        }
    }
}

/// Whoever wants to know what the steps of a batch cost.
pub trait Observer {
    /// Does the work of a step, and takes note of what it cost.
    fn observe<T>(&mut self, step: Step, work: impl FnOnce() -> T) -> T;
}

/// Adds up how long one kind of step takes.
#[derive(Debug)]
pub struct Stopwatch {
    step: Step,
    elapsed: Duration,
    times: u64,
}

impl Stopwatch {
    /// Watches this step.
    pub fn new(step: Step) -> Self {
        Self { step, elapsed: Duration::ZERO, times: 0 }
    }

    /// How often it was seen, and how long it took in all.
    pub fn slice(&self) -> Slice {
        Slice::whole(self.times, self.elapsed)
    }

    /// How long the step took, on average.
    pub fn mean(&self) -> Duration {
        self.elapsed / u32::try_from(self.times.max(1)).unwrap_or(u32::MAX)
    }
}

impl Observer for Stopwatch {
    fn observe<T>(&mut self, step: Step, work: impl FnOnce() -> T) -> T {
        if step != self.step {
            return work();
        }
        let begin = Instant::now();
        let done = work();
        self.elapsed += begin.elapsed();
        self.times += 1;
        done
    }
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
        let mut trio = Self { nodes, members, flight: VecDeque::new(), leader: 0, batch, reads: 0 };
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

    /// Replicates one batch like [`replicate`](Self::replicate), with `observer` around every step
    /// of it. What carries things between the steps is not observed: the disk and the network.
    ///
    /// # Errors
    /// The nodes did not do what they are asked for.
    pub fn replicate_in_steps(&mut self, observer: &mut impl Observer) -> Result<()> {
        let batch = self.batch.clone();
        let leader = self.nodes.get_mut(self.leader).ok_or("there is no leader")?;
        let (proposed, appended) = observer.observe(Step::LeaderAppend, || {
            let proposed = leader.propose(batch);
            (proposed, leader.drain())
        });
        let proposed = proposed?;
        let mut answers = Vec::with_capacity(appended.send.len());
        for envelope in appended.send {
            let place = self.members.iter().position(|member| *member == envelope.to);
            let follower = place.and_then(|place| self.nodes.get_mut(place));
            let follower = follower.ok_or("a message for nobody")?;
            let Actions { append, apply, .. } = observer.observe(Step::FollowerAppend, || {
                follower.step(envelope);
                let actions = follower.drain();
                if let Some(last) = actions.apply.last() {
                    follower.on_applied(last.index);
                }
                actions
            });
            drop(apply);
            let ticket = append.ok_or("a follower did not append")?.ticket;
            let answer = observer.observe(Step::Acknowledge, || {
                follower.on_durable(ticket, 0);
                follower.drain()
            });
            answers.extend(answer.send);
        }
        let ticket = appended.append.ok_or("the leader did not append")?.ticket;
        let leader = self.nodes.get_mut(self.leader).ok_or("there is no leader")?;
        let committed = observer.observe(Step::Commit, || {
            answers.drain(..).for_each(|answer| leader.step(answer));
            leader.on_durable(ticket, 0);
            let actions = leader.drain();
            if let Some(last) = actions.apply.last() {
                leader.on_applied(last.index);
            }
            actions
        });
        match committed.apply.last() {
            Some(last) if last.index.next() == proposed.end => Ok(()),
            _ => Err("a batch was not committed".into()),
        }
    }

    /// Confirms a linearizable read: asked, carried to the followers, echoed.
    ///
    /// # Errors
    /// It was not confirmed.
    pub fn read(&mut self) -> Result<()> {
        self.reads += 1;
        let id = ReadId(self.reads);
        let Self { nodes, members, flight, leader, .. } = self;
        let reader = nodes.get_mut(*leader).ok_or("there is no leader")?;
        reader.request_read(id)?;
        flight.extend(reader.drain().send);
        let mut confirmed = false;
        while let Some(envelope) = flight.pop_front() {
            let place = members.iter().position(|member| *member == envelope.to);
            let Some(node) = place.and_then(|place| nodes.get_mut(place)) else { continue };
            node.step(envelope);
            let actions = node.drain();
            confirmed |= actions.reads.iter().any(|read| read.id == id && read.outcome.is_ok());
            carry_out(node, actions, flight);
        }
        if confirmed { Ok(()) } else { Err("a read was not confirmed".into()) }
    }

    /// Carries out what the nodes ask for until they ask for nothing more. Only a node to which
    /// something has happened is asked.
    fn settle(&mut self) {
        let Self { nodes, members, flight, .. } = self;
        let mut touched = [true; 3];
        while touched.contains(&true) {
            for (node, touched) in nodes.iter_mut().zip(&mut touched) {
                while std::mem::take(touched) {
                    let actions = node.drain();
                    if !actions.is_empty() {
                        *touched = true;
                        carry_out(node, actions, flight);
                    }
                }
            }
            while let Some(envelope) = flight.pop_front() {
                let place = members.iter().position(|member| *member == envelope.to);
                let Some(place) = place else { continue };
                if let (Some(node), Some(touched)) = (nodes.get_mut(place), touched.get_mut(place))
                {
                    *touched = true;
                    node.step(envelope);
                }
            }
        }
    }
}

/// A [`Trio`] as one side of a comparison.
#[derive(Debug)]
pub struct TrioSide {
    trio: Trio,
    batch: u64,
}

impl TrioSide {
    /// One that replicates batches of `batch` commands of `bytes` bytes each.
    ///
    /// # Errors
    /// The nodes elect nobody.
    pub fn elect(batch: usize, bytes: usize) -> Result<Self> {
        Ok(Self { trio: Trio::elect(batch, bytes)?, batch: batch as u64 })
    }
}

impl Side for TrioSide {
    fn work(&mut self, length: Duration) -> Result<Slice> {
        let begin = Instant::now();
        let mut batches = 0;
        while begin.elapsed() < length {
            for _ in 0..16 {
                self.trio.replicate()?;
            }
            batches += 16;
        }
        Ok(Slice::whole(batches * self.batch, begin.elapsed()))
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

/// The least that one server must do for a batch: keep it, and hand it on.
#[derive(Debug, Default)]
pub struct OneList {
    list: VecDeque<(u64, u64, Payload)>,
    last: u64,
}

impl OneList {
    /// Appends a batch and makes `copies` of it, for the disk and for whom it is sent to.
    pub fn append(&mut self, batch: Vec<Payload>, copies: usize) -> Vec<Vec<(u64, u64, Payload)>> {
        let entries = batch.len();
        self.list.extend((self.last + 1..).zip(batch).map(|(index, payload)| (index, 1, payload)));
        self.last += entries as u64;
        while self.list.len() > LIST_ENTRIES {
            self.list.pop_front();
        }
        let newest = self.list.len() - entries;
        (0..copies).map(|_| self.list.range(newest..).cloned().collect()).collect()
    }
}

/// As many entries of 100 bytes as a megabyte holds.
const LIST_ENTRIES: usize = 8192;
