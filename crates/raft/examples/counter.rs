//! A counter that three servers keep, of which any one may die. Here all three live in one loop,
//! and the network is a list. Run it with `cargo run -p raft --example counter`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use raft::founding::Charter;
use raft::node::{Config, Configuration, Envelope, Incarnation, Index, NodeId, Voter};
use raft::node::{Payload, ReadId};
use raft::replica::{Carried, Completion, Replica, SnapshotEnvelope, Token, Transport};
use raft::storage::{Home, Identity, LogOptions, RealDisk};
use raft::{Driver, Input, StateMachine, Undecodable};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is replicated. The outcome of a command may stay unknown to whoever gave it, and it is
/// given again; so commands have numbers, and one counts only if its number is new.
#[derive(Clone, Copy, Default)]
struct Counter {
    value: u64,
    newest: u64,
    applied: Index,
}

impl StateMachine for Counter {
    type Reply = u64;
    type Image = Counter;

    fn apply(&mut self, index: Index, command: &Bytes) -> std::result::Result<u64, Undecodable> {
        let [number, amount] = command.as_ref() else {
            return Err(Undecodable { index, reason: "it is not two bytes long".into() });
        };
        if u64::from(*number) > self.newest {
            self.newest = (*number).into();
            self.value += u64::from(*amount);
        }
        self.applied = index;
        Ok(self.value)
    }

    fn advance(&mut self, index: Index) {
        self.applied = index;
    }

    fn applied(&self) -> Index {
        self.applied
    }

    fn image(&self) -> Counter {
        *self
    }

    fn write(it: Counter, out: &mut dyn Write) -> io::Result<()> {
        let numbers = [it.value, it.newest, it.applied.0];
        numbers.iter().try_for_each(|number| out.write_all(&number.to_be_bytes()))
    }

    fn restore(input: &mut dyn Read) -> io::Result<Counter> {
        let mut bytes = [[0; 8]; 3];
        bytes.iter_mut().try_for_each(|number| input.read_exact(number))?;
        let [value, newest, applied] = bytes.map(u64::from_be_bytes);
        Ok(Counter { value, newest, applied: Index(applied) })
    }
}

/// What is on its way, and to whom.
struct Network(Vec<(NodeId, Input)>);

impl Transport for Network {
    fn send(&mut self, envelope: Envelope) {
        self.0.push((envelope.to.id, Input::Message(envelope)));
    }

    fn send_snapshot(&mut self, envelope: &SnapshotEnvelope) -> Carried {
        self.0.push((envelope.to.id, Input::Snapshot(envelope.clone())));
        Carried::Taken
    }
}

type Servers = BTreeMap<NodeId, Driver<Counter>>;

/// Founds a cluster in three directories that are all at hand and empty: each draws its own
/// incarnation, so that one that is lost never comes back as the same member. `raft::founding` is
/// for servers that must find each other first.
fn found(directory: &Path, options: &LogOptions) -> Result<Vec<Home>> {
    let open = |n: u64| -> Result<Home> {
        let id = NodeId::new(&format!("s{n}"))?;
        let draw = || Incarnation(RandomState::new().hash_one(id));
        Ok(Home::open(RealDisk::open(directory.join(id.as_str()))?, id, "counter", draw)?)
    };
    let mut homes = (1..=3).map(open).collect::<Result<Vec<_>>>()?;
    let members = homes.iter().map(|home| home.identity().member);
    let voters = members.map(|member| Voter { member, address: "nowhere".into() }).collect();
    let charter = Charter { name: "counter".into(), configuration: Configuration::new(voters)? };
    homes.iter_mut().try_for_each(|home| home.found(charter.clone(), options))?;
    Ok(homes)
}

fn start(home: &Home, options: &LogOptions) -> Result<(NodeId, Driver<Counter>)> {
    let &Identity { member, boot, .. } = home.identity();
    let recovered = home.recover(options, Counter::default)?;
    let replica = Replica::new(Config::new(member, boot), recovered, member.incarnation.0)?;
    Ok((member.id, Driver::in_real_time(replica, Duration::from_millis(2))))
}

/// Asks one server after the other until one answers with a value; says which.
fn ask(servers: &mut Servers, request: impl Fn() -> Input) -> Result<(NodeId, u64)> {
    let mut network = Network(Vec::new());
    for asked in servers.keys().copied().collect::<Vec<_>>().into_iter().cycle() {
        network.0.push((asked, request()));
        let mut done = None;
        while done.is_none() {
            let mut arriving = std::mem::take(&mut network.0);
            for (id, server) in servers.iter_mut() {
                let inbox = arriving.extract_if(.., |(to, _)| to == id).map(|(_, input)| input);
                server.turn(inbox, &mut network)?;
                server.run_jobs();
                done = server.take_completions().pop().or(done);
            }
        }
        match done {
            Some(Completion::Applied(_, _, value)) => return Ok((asked, value)),
            Some(Completion::ReadReady(_)) => {
                let machine = servers.get(&asked).and_then(|server| server.replica().machine());
                return Ok((asked, machine.ok_or("the state is damaged")?.value));
            }
            // It does not lead, or not any more.
            _ => {}
        }
    }
    Err("nobody lives".into())
}

pub(crate) fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = LogOptions::with_segment_bytes(1 << 20);
    let homes = found(directory.path(), &options)?;
    let mut servers =
        homes.iter().map(|home| start(home, &options)).collect::<Result<Servers>>()?;
    let add = |command: [u8; 2]| move || Input::Propose(Token(0), Payload::new(command.to_vec()));
    let (leader, value) = ask(&mut servers, add([1, 40]))?;
    println!("{leader} leads, and the counter stands at {value}");

    servers.remove(&leader);
    let (successor, value) = ask(&mut servers, add([2, 2]))?;
    println!("{leader} is dead, {successor} leads, and the counter stands at {value}");

    let (reader, value) = ask(&mut servers, || Input::Read(ReadId(1)))?;
    println!("a linearizable read on {reader} gives {value}");
    assert_eq!(value, 42, "nothing that was acknowledged is lost");
    Ok(())
}
