//! A cluster of nodes for golden scripts: their disks, their network and the little language that
//! drives them. Everything happens when a command says so, in one order.
//!
//! ```text
//! cluster nodes=3             three servers that share a founding configuration
//! tick 1 [100]                time passes at s1
//! due 1                       says how much time must pass until s1 does something by itself
//! campaign 1                  time passes at s1 until it asks for votes
//! elect 1                     the other followers forget their leader, s1 campaigns, all settles
//! deliver [2->1] [count=1]    delivers what is in flight now (only on that path, only so much)
//! settle                      delivers until nothing is in flight
//! drop 2->1 / duplicate 2->1  what is in flight on that path
//! delay 2->1 / arrive         what is in flight on that path comes only then
//! hold 2->1 / release 2->1    that path delays everything / no more
//! partition 3 / partition 1 2 | 3 / heal
//! propose 1 a=1 b=2           one batch
//! read 1 [times=2]            linearizable reads
//! disk 1 stall / disk 1 go    appends wait / complete, while time passes
//! disk 1 stops 200            the next write keeps s1 from everything else for so many ticks
//! room 1 BYTES                what the disk can take
//! gone 1 [2] [term=2]         the others (or s2) find that s1, leader of their term, is gone
//! crash 1 / restart 1         what was not durable is lost
//! lose 1 5                    its disk has lost the end of its log, from entry 5 on
//! restarted 1                 the others find that another start of s1 answers
//! rot 1 5 6                   these entries' payloads are damaged on the disk of s1
//! scrub 1                     s1 reads its disk again
//! forge 2->1                  what is in flight there says something else of lost entries
//! snapshot 1                  its state machine is written down now
//! snapshots 1 hold / snapshots 1 go     what is being written stays unfinished / is finished
//! land 1 [2->1]               s1's snapshot is finished as messages come, all in one turn of it
//! fetch 3                     s3 has fetched the snapshot that its leader offers
//! damage 3                    nothing can be read of s3's snapshots any more
//! log 1 / status [1] / flight
//! trace on / trace off        show every message that is delivered
//! limit window=64 ...         settings for the cluster that comes next
//! quietly COMMAND             without its output
//! ```
//!
//! `membership` has the commands that change members and leaders.

mod membership;
mod render;
mod server;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bytes::Bytes;
use raft::node::{
    Boot, Config, Configuration, Envelope, Incarnation, Member, Message, NodeId, Payload, ReadId,
    RoleName, Term, Voter,
};

use server::Server;

#[derive(Default)]
pub struct Cluster {
    servers: BTreeMap<NodeId, Server>,
    /// Messages on their way, oldest first.
    flight: Vec<Envelope>,
    /// Paths that carry nothing.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Paths that delay everything.
    held: BTreeSet<(NodeId, NodeId)>,
    /// Messages that come when they are told to.
    delayed: Vec<Envelope>,
    trace: bool,
    next_read: u64,
    limits: BTreeMap<String, u64>,
}

type Outcome = Result<(), String>;

impl Cluster {
    /// Runs one command, writing what came of it.
    pub fn run(&mut self, line: &str, output: &mut String) -> Outcome {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, arguments) = words.split_first().ok_or("an empty command")?;
        match *command {
            "cluster" => self.found(arguments)?,
            "limit" => self.limit(arguments)?,
            "trace" => self.trace = arguments == ["on"],
            "tick" => self.tick(arguments)?,
            "due" => {
                let id = server_id(arguments.first())?;
                let ticks = self.server(id)?.node()?.ticks_until_due();
                let _ = writeln!(output, "{id} is due in {ticks} ticks");
            }
            "campaign" => self.campaign(server_id(arguments.first())?)?,
            "quietly" => return self.run(&arguments.join(" "), &mut String::new()),
            "elect" => {
                let id = server_id(arguments.first())?;
                self.forget_leaders(id);
                self.campaign(id)?;
                self.carry_out(output);
                self.settle(output)?;
            }
            "propose" => self.propose(arguments, output)?,
            "read" => {
                for _ in 0..number(arguments, "times")?.unwrap_or(1) {
                    self.read(server_id(arguments.first())?, output)?;
                }
            }
            "disk" => self.disk(arguments)?,
            "gone" => self.gone(arguments)?,
            "join" => self.join(arguments)?,
            "wipe" => self.wipe(arguments)?,
            "change" => self.change(arguments, output)?,
            "transfer" => self.transfer(arguments, output)?,
            "handover" => self.hand_over(arguments, output)?,
            "members" => self.members(arguments, output)?,
            "room" => self.room(arguments)?,
            "snapshot" => self.server(server_id(arguments.first())?)?.node()?.want_snapshot(),
            "snapshots" => self.hold_snapshots(arguments)?,
            "land" => self.land(arguments, output)?,
            "fetch" => self.fetch_snapshot(server_id(arguments.first())?, output)?,
            "damage" => self.damage_snapshots(server_id(arguments.first())?)?,
            "crash" => self.server(server_id(arguments.first())?)?.crash(),
            "restart" => self.server(server_id(arguments.first())?)?.restart(),
            "lose" => self.lose(arguments)?,
            "restarted" => self.restarted(server_id(arguments.first())?)?,
            "rot" => self.rot(arguments)?,
            "scrub" => self.server(server_id(arguments.first())?)?.scrub()?,
            "log" => {
                let text = self.server(server_id(arguments.first())?)?.log_text();
                output.push_str(&text);
            }
            "status" => self.status(arguments, output)?,
            "flight" => {
                for envelope in &self.flight {
                    let _ = writeln!(output, "{}", render::envelope(envelope));
                }
            }
            other => self.run_on_network(other, arguments, output)?,
        }
        self.carry_out(output);
        Ok(())
    }

    /// What becomes of messages.
    fn run_on_network(
        &mut self,
        command: &str,
        arguments: &[&str],
        output: &mut String,
    ) -> Outcome {
        match command {
            "deliver" => self.deliver(arguments, output)?,
            "settle" => self.settle(output)?,
            "drop" => {
                let path = path(arguments.first())?;
                self.flight.retain(|envelope| path_of(envelope) != path);
            }
            "duplicate" => {
                let path = path(arguments.first())?;
                let again: Vec<Envelope> =
                    self.flight.iter().filter(|it| path_of(it) == path).cloned().collect();
                self.flight.extend(again);
            }
            "delay" => self.delay(path(arguments.first())?),
            "arrive" => self.flight.append(&mut self.delayed),
            "hold" => drop(self.held.insert(path(arguments.first())?)),
            "release" => drop(self.held.remove(&path(arguments.first())?)),
            "partition" => self.partition(arguments)?,
            "heal" => self.cut.clear(),
            "forge" => {
                let path = path(arguments.first())?;
                self.flight.iter_mut().filter(|it| path_of(it) == path).for_each(forge);
            }
            other => return Err(format!("no command is called {other}")),
        }
        Ok(())
    }

    fn delay(&mut self, path: (NodeId, NodeId)) {
        let flight = std::mem::take(&mut self.flight).into_iter();
        (self.delayed, self.flight) = flight.partition(|envelope| path_of(envelope) == path);
    }

    fn found(&mut self, arguments: &[&str]) -> Outcome {
        let count = number(arguments, "nodes")?.unwrap_or(3);
        let voter = |n: u64| Voter { member: member(n), address: format!("127.0.0.1:{n}") };
        let configuration =
            Configuration::new((1..=count).map(voter).collect()).map_err(|it| it.to_string())?;
        for n in 1..=count {
            let mut config = Config::new(member(n), Boot(1));
            self.apply_limits(&mut config)?;
            self.servers.insert(member(n).id, Server::new(config, &configuration, n));
        }
        Ok(())
    }

    fn apply_limits(&self, config: &mut Config) -> Outcome {
        for (name, value) in &self.limits {
            match name.as_str() {
                "window" => config.window_bytes_max = *value,
                "message" => config.message_bytes_max = *value,
                "flight" => config.in_flight_bytes_max = *value,
                "total" => config.in_flight_total_bytes_max = *value,
                "uncommitted" => config.uncommitted_bytes_max = *value,
                "apply" => config.apply_bytes_max = *value,
                "snapshot" => config.snapshot_every_bytes = *value,
                "tail" => config.tail_bytes = *value,
                "pinned" => config.pinned_bytes_max = *value,
                other => return Err(format!("no limit is called {other}")),
            }
        }
        Ok(())
    }

    fn limit(&mut self, arguments: &[&str]) -> Outcome {
        for argument in arguments {
            let (name, value) = argument.split_once('=').ok_or("a limit is name=bytes")?;
            self.limits.insert(name.into(), value.parse().map_err(|_| "not a number")?);
        }
        Ok(())
    }

    fn server(&mut self, id: NodeId) -> Result<&mut Server, String> {
        self.servers.get_mut(&id).ok_or_else(|| format!("there is no {id}"))
    }

    fn tick(&mut self, arguments: &[&str]) -> Outcome {
        let count = match arguments.get(1) {
            Some(count) => count.parse().map_err(|_| "not a number of ticks")?,
            None => 1,
        };
        let server = self.server(server_id(arguments.first())?)?;
        for _ in 0..count {
            server.node()?.tick();
        }
        Ok(())
    }

    fn campaign(&mut self, id: NodeId) -> Outcome {
        let node = self.server(id)?.node()?;
        if node.role() == RoleName::Leader {
            return Err("it leads already".into());
        }
        (0..node.ticks_until_due()).for_each(|_| node.tick());
        if matches!(node.role(), RoleName::PreCandidate | RoleName::Candidate) {
            return Ok(());
        }
        Err("it does not campaign".into())
    }

    /// The shortest election timeout passes at all followers but one, so that they no longer
    /// hear from any leader.
    fn forget_leaders(&mut self, except: NodeId) {
        for server in self.servers.iter_mut().filter(|(id, _)| **id != except) {
            if let Ok(node) = server.1.node()
                && node.role() != RoleName::Leader
            {
                (0..100).for_each(|_| node.tick());
            }
        }
    }

    /// Delivers what is in flight now, on one path or on all.
    fn deliver(&mut self, arguments: &[&str], output: &mut String) -> Outcome {
        let only = match arguments.iter().find(|argument| argument.contains("->")) {
            Some(argument) => Some(path(Some(argument))?),
            None => None,
        };
        let count = number(arguments, "count")?.unwrap_or(u64::MAX);
        let mut delivered = 0;
        let mut later = Vec::new();
        for envelope in std::mem::take(&mut self.flight) {
            let path = path_of(&envelope);
            let wanted = only.is_none_or(|only| only == path) && delivered < count;
            if !wanted || only.is_none() && self.held.contains(&path) {
                later.push(envelope);
                continue;
            }
            delivered += 1;
            if self.trace {
                let _ = writeln!(output, "{}", render::envelope(&envelope));
            }
            // What was meant for another life of the receiver finds nobody.
            let receiver = self.server(envelope.to.id)?;
            if receiver.member() == envelope.to
                && let Ok(node) = receiver.node()
            {
                node.step(envelope);
            }
        }
        self.flight = later;
        Ok(())
    }

    fn settle(&mut self, output: &mut String) -> Outcome {
        for _ in 0..1000 {
            if self.flight.iter().all(|envelope| self.held.contains(&path_of(envelope))) {
                return Ok(());
            }
            self.deliver(&[], output)?;
            self.carry_out(output);
        }
        Err("messages go round for ever".into())
    }

    fn partition(&mut self, arguments: &[&str]) -> Outcome {
        let mut groups: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new()];
        for argument in arguments {
            match *argument {
                "|" => groups.push(BTreeSet::new()),
                id => drop(groups.last_mut().ok_or("no group")?.insert(server_id(Some(&id))?)),
            }
        }
        let named: BTreeSet<NodeId> = groups.iter().flatten().copied().collect();
        groups.push(self.servers.keys().filter(|id| !named.contains(id)).copied().collect());
        let group = |id: &NodeId| groups.iter().position(|group| group.contains(id));
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        for from in &ids {
            for to in ids.iter().filter(|to| group(to) != group(from)) {
                self.cut.insert((*from, *to));
            }
        }
        self.flight.retain(|envelope| !self.cut.contains(&path_of(envelope)));
        Ok(())
    }

    fn propose(&mut self, arguments: &[&str], output: &mut String) -> Outcome {
        let (id, commands) = arguments.split_first().ok_or("propose needs a server")?;
        let id = server_id(Some(id))?;
        let batch = commands.iter().map(|it| Payload::new(it.to_string().into_bytes())).collect();
        match self.server(id)?.node()?.propose(batch) {
            Ok(range) => {
                let _ = writeln!(output, "{id} proposed {}..{}", range.start, range.end.previous());
            }
            Err(error) => {
                let _ = writeln!(output, "{id} refused: {error}");
            }
        }
        Ok(())
    }

    fn read(&mut self, id: NodeId, output: &mut String) -> Outcome {
        self.next_read += 1;
        let read = ReadId(self.next_read);
        match self.server(id)?.node()?.request_read(read) {
            Ok(()) => {
                let _ = writeln!(output, "{id} read {read} begun");
            }
            Err(error) => {
                let _ = writeln!(output, "{id} read {read} refused: {error}");
            }
        }
        Ok(())
    }

    fn lose(&mut self, arguments: &[&str]) -> Outcome {
        let first = arguments.get(1).and_then(|index| index.parse().ok()).ok_or("not an index")?;
        self.server(server_id(arguments.first())?)?.lose(first);
        Ok(())
    }

    fn restarted(&mut self, id: NodeId) -> Outcome {
        let member = self.server(id)?.member();
        for (_, server) in self.servers.iter_mut().filter(|(other, _)| **other != id) {
            if let Ok(node) = server.node() {
                node.on_restarted(member);
            }
        }
        Ok(())
    }

    fn rot(&mut self, arguments: &[&str]) -> Outcome {
        let (id, indexes) = arguments.split_first().ok_or("rot needs a server")?;
        for index in indexes {
            let index = index.parse().map_err(|_| "not an index")?;
            self.server(server_id(Some(id))?)?.rot(index)?;
        }
        Ok(())
    }

    fn disk(&mut self, arguments: &[&str]) -> Outcome {
        let server = self.server(server_id(arguments.first())?)?;
        match (arguments.get(1), arguments.get(2)) {
            (Some(&"stall"), None) => server.stalled = true,
            (Some(&"go"), None) => server.stalled = false,
            (Some(&"stops"), Some(ticks)) => {
                server.stood_still_ticks = ticks.parse().map_err(|_| "not a number of ticks")?;
            }
            _ => return Err("a disk stalls, goes, or stops everything for some ticks".into()),
        }
        Ok(())
    }

    /// Those named, or all others, find that the leader of the term they are in is gone.
    fn gone(&mut self, arguments: &[&str]) -> Outcome {
        let (leader, witnesses) = arguments.split_first().ok_or("gone needs a server")?;
        let leader = server_id(Some(leader))?;
        let leader = self.server(leader)?.member();
        let told = number(witnesses, "term")?.map(Term);
        let named = witnesses.iter().filter(|word| !word.contains('='));
        let witnesses = named.map(|id| server_id(Some(id))).collect::<Result<Vec<_>, _>>()?;
        for (id, server) in &mut self.servers {
            let is_named = witnesses.is_empty() || witnesses.contains(id);
            if *id != leader.id
                && is_named
                && let Ok(node) = server.node()
            {
                let term = told.unwrap_or(node.status().term);
                node.on_disconnected(leader, term);
            }
        }
        Ok(())
    }

    fn room(&mut self, arguments: &[&str]) -> Outcome {
        let bytes = arguments.get(1).and_then(|bytes| bytes.parse().ok());
        let bytes = bytes.ok_or("room needs a number of bytes")?;
        self.server(server_id(arguments.first())?)?.node()?.set_room(bytes);
        Ok(())
    }

    fn status(&mut self, arguments: &[&str], output: &mut String) -> Outcome {
        let only = arguments.first().map(|id| server_id(Some(id))).transpose()?;
        for (id, server) in &mut self.servers {
            if only.is_none_or(|only| only == *id) {
                output.push_str(&server.status_text());
            }
        }
        Ok(())
    }

    /// Carries out what the nodes ask for until they ask for nothing more.
    fn carry_out(&mut self, output: &mut String) {
        loop {
            let mut busy = false;
            for server in self.servers.values_mut() {
                let sent = server.carry_out(output, &mut busy);
                let open = sent.into_iter().filter(|it| !self.cut.contains(&path_of(it)));
                self.flight.extend(open);
            }
            if !busy {
                return;
            }
        }
    }
}

/// Changes what an answer to a damaged server says.
fn forge(envelope: &mut Envelope) {
    if let Message::RepairAnswer { entries, .. } = &mut envelope.message {
        for entry in entries {
            // As long as what was written, and claiming to be it.
            let Payload { bytes, checksum } = entry.payload.clone();
            let bytes: Bytes = bytes.iter().map(u8::to_ascii_uppercase).collect();
            entry.payload = Payload { bytes, checksum };
        }
    }
}

fn member(n: u64) -> Member {
    let id = NodeId::new(&format!("s{n}")).expect("a name of a letter and a number is valid");
    Member { id, incarnation: Incarnation(n) }
}

fn server_id(word: Option<&&str>) -> Result<NodeId, String> {
    let word = word.ok_or("a server is missing")?;
    let n = word.trim_start_matches('s').parse().map_err(|_| format!("{word} is no server"))?;
    Ok(member(n).id)
}

fn path(word: Option<&&str>) -> Result<(NodeId, NodeId), String> {
    let (from, to) = word.and_then(|it| it.split_once("->")).ok_or("a path is like 1->2")?;
    Ok((server_id(Some(&from))?, server_id(Some(&to))?))
}

fn path_of(envelope: &Envelope) -> (NodeId, NodeId) {
    (envelope.from.id, envelope.to.id)
}

fn number(arguments: &[&str], name: &str) -> Result<Option<u64>, String> {
    let found = arguments.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
    found.map(|value| value.parse().map_err(|_| format!("{value} is no number"))).transpose()
}
