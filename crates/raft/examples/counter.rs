//! A counter that three servers keep, of which any one may die. Here all three live in one loop,
//! and the network is a list. Run it with `cargo run -p raft --example counter`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use raft::founding::Charter;
use raft::node::{Config, Configuration, Envelope, Incarnation, Index, Member, NodeId, Voter};
use raft::node::{Payload, ReadId};
use raft::replica::{Carried, Completion, Replica, SnapshotEnvelope, Token, Transport};
use raft::storage::{Home, LogOptions, RealDisk};
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

/// Opens a server's directory and, the first time, founds the cluster in it. That is right only for
/// servers that never lose it; `raft::founding` is for all others.
fn start(me: Member, charter: &Charter, directory: &Path) -> Result<Driver<Counter>> {
    let options = LogOptions::with_segment_bytes(1 << 20);
    let disk = RealDisk::open(directory.join(me.id.as_str()))?;
    let mut home = Home::open(disk, me.id, charter.name.as_str(), || me.incarnation)?;
    if !home.is_founded() {
        home.found(charter.clone(), &options)?;
    }
    let (config, seed) = (Config::new(me, home.identity().boot), me.incarnation.0);
    let replica = Replica::new(config, home.recover(&options, Counter::default)?, seed)?;
    Ok(Driver::in_real_time(replica, Duration::from_millis(2), Config::TICKS_PER_HEARTBEAT))
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
    let voter = |n: u64| -> Result<Voter> {
        let member = Member { id: NodeId::new(&format!("s{n}"))?, incarnation: Incarnation(n) };
        Ok(Voter { member, address: "nowhere".into() })
    };
    let configuration = Configuration::new((1..=3).map(voter).collect::<Result<_>>()?)?;
    let charter = Charter { name: "counter".into(), configuration };
    let start = |me: Member| Ok((me.id, start(me, &charter, directory.path())?));
    let mut servers = charter.configuration.members().map(start).collect::<Result<Servers>>()?;
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
