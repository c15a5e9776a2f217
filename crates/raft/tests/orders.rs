//! Changes of the membership and transfers of leadership end exactly once for whoever asked, also
//! where the next one begins before anybody was told of the end of the one before.

#![allow(clippy::expect_used, reason = "a broken harness should say so at once")]
#![allow(clippy::indexing_slicing, reason = "there are two servers, and both are always there")]

mod nothing;

use std::collections::{BTreeMap, VecDeque};

use nothing::Nothing;
use raft::founding::Charter;
use raft::node::{
    Change, Config, Configuration, Envelope, Incarnation, Member, Message, NodeId, RoleName, Voter,
};
use raft::replica::{Carried, Completion, Replica, SnapshotEnvelope, Token, Transport, Work};
use raft::storage::{Flushes, Home, LogOptions, SnapshotOptions, Successors};
use wal::sim_disk::SimDisk;

/// What is on its way, in order.
#[derive(Default)]
struct Network(VecDeque<Envelope>);

impl Transport for Network {
    fn send(&mut self, envelope: Envelope) {
        self.0.push_back(envelope);
    }

    fn send_snapshot(&mut self, _: &SnapshotEnvelope) -> Carried {
        Carried::Taken
    }
}

fn member(n: u64) -> Member {
    let id = NodeId::new(&format!("s{n}")).expect("a letter and a number");
    Member { id, incarnation: Incarnation(n) }
}

fn address(n: u64) -> String {
    format!("127.0.0.1:{n}")
}

fn options() -> LogOptions {
    let mut wal = wal::Options::with_segment_bytes(16 << 10);
    wal.log_id = Some(wal::LogId(7));
    let (successors, snapshots) = (Successors::Inline, SnapshotOptions::default());
    LogOptions { wal, recent_bytes_max: 1000, successors, snapshots, flushes: Flushes::Inline }
}

/// Two servers that vote, and what was told of what the first was asked for.
struct Pair {
    homes: Vec<Home>,
    replicas: Vec<Replica<Nothing>>,
    network: Network,
    /// Nobody hears that it should take over.
    drops_handing_over: bool,
    ends: BTreeMap<Token, u32>,
}

impl Pair {
    /// The first one leads.
    fn start() -> Pair {
        let voter = |n| Voter { member: member(n), address: address(n) };
        let configuration = Configuration::new(vec![voter(1), voter(2)]).expect("names differ");
        let charter = Charter { name: "demo".into(), configuration };
        let network = Network::default();
        let (homes, replicas) = (Vec::new(), Vec::new());
        let drops_handing_over = false;
        let ends = BTreeMap::new();
        let mut pair = Pair { homes, replicas, network, drops_handing_over, ends };
        for n in 1..=2 {
            let disk = SimDisk::new();
            let mut home = Home::open(disk.disk(), member(n).id, "demo", || Incarnation(n))
                .expect("an empty disk");
            home.agree(charter.clone()).expect("a disk that works");
            home.found(charter.clone(), &options()).expect("a disk that works");
            let recovered = home.recover(&options(), Nothing::default).expect("a whole log");
            let config = Config::new(member(n), home.identity().boot);
            pair.replicas.push(Replica::new(config, recovered, n).expect("a sound log"));
            pair.homes.push(home);
        }
        while pair.replicas[0].node().role() != RoleName::Leader {
            pair.replicas[0].tick();
            pair.settle();
        }
        pair
    }

    fn advance(&mut self, number: usize) {
        while self.replicas[number].advance(&mut self.network).expect("nothing fatal") == Work::More
        {
        }
        for completion in self.replicas[number].take_completions() {
            let (Completion::Changed(token, _)
            | Completion::Transferred(token, _)
            | Completion::Refused(token, _)
            | Completion::TransferRefused(token, _)) = completion
            else {
                continue;
            };
            *self.ends.entry(token).or_default() += 1;
        }
    }

    /// Hands over the next message. Its receiver has not acted on it yet.
    fn deliver(&mut self) -> Option<usize> {
        let envelope = self.network.0.pop_front()?;
        let number = usize::from(envelope.to == member(2));
        let is_dropped =
            self.drops_handing_over && matches!(envelope.message, Message::TimeoutNow { .. });
        if !is_dropped && envelope.to.incarnation.0 <= 2 {
            self.replicas[number].step(envelope);
        }
        Some(number)
    }

    /// Until nothing is on its way.
    fn settle(&mut self) {
        (0..2).for_each(|number| self.advance(number));
        while let Some(number) = self.deliver() {
            self.advance(number);
        }
    }
}

#[test]
fn a_change_ends_for_whoever_asked_though_the_next_begins_in_the_same_turn() {
    let mut pair = Pair::start();
    let new = member(3);
    let add = Change::AddLearner { member: new, address: address(3) };
    pair.replicas[0].change_membership(Token(1), &add);
    pair.advance(0);
    loop {
        let number = pair.deliver().expect("the change goes on");
        let node = pair.replicas[0].node();
        let configuration = node.configuration();
        let is_added = configuration.lists(new) && !configuration.is_joint();
        if is_added && node.commit() >= node.configuration_index() {
            break;
        }
        pair.advance(number);
    }
    pair.replicas[0].change_membership(Token(2), &Change::Remove(new.id));
    pair.settle();
    assert_eq!(pair.ends, BTreeMap::from([(Token(1), 1), (Token(2), 1)]));
}

#[test]
fn a_transfer_ends_for_whoever_asked_though_the_next_begins_in_the_same_turn() {
    let mut pair = Pair::start();
    pair.drops_handing_over = true;
    let asked = 1000;
    for token in 1..=asked {
        (0..2).for_each(|number| pair.replicas[number].tick());
        pair.replicas[0].transfer_leadership(Token(token), member(2).id);
        pair.settle();
    }
    for _ in 0..asked {
        (0..2).for_each(|number| pair.replicas[number].tick());
        pair.settle();
    }
    let once = (1..=asked).map(|token| (Token(token), 1));
    assert_eq!(pair.ends, once.collect());
}
