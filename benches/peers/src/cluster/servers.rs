//! How each system is started: fresh, on a loopback address of its own, with its data in a
//! directory of its own, and so that an acknowledged write is on the disks of a majority.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;

use benches::Result;
use load::{cpu_time, resident_bytes};
use verify::cluster::{config_text, free_addresses};

use crate::cluster::process::{Process, command};
use crate::cluster::system::System;
use crate::cluster::tools::{self, Tool};

/// A running system. Its processes end when it is dropped.
#[derive(Debug)]
pub(crate) struct Servers {
    processes: Vec<Process>,
    /// Where clients connect to, in the order of the processes.
    pub(crate) endpoints: Vec<String>,
}

/// Three addresses for each of three servers: for clients, for each other, and one to spare.
struct Addresses(Vec<SocketAddrV4>);

impl Addresses {
    fn client(&self, server: usize) -> SocketAddrV4 {
        self.0[server]
    }

    fn peer(&self, server: usize) -> SocketAddrV4 {
        self.0[3 + server]
    }

    fn spare(&self, server: usize) -> SocketAddrV4 {
        self.0[6 + server]
    }

    /// What `say` says of each server, with commas between.
    fn listed(&self, say: impl Fn(usize) -> String) -> String {
        (0..3).map(say).collect::<Vec<_>>().join(",")
    }
}

/// Starts a system with everything in `directory`, which is empty.
pub(crate) fn start(system: System, tool: &Tool, directory: &Path) -> Result<Servers> {
    let addresses = Addresses(free_addresses(9));
    let commands = match system {
        System::Floor => floor(tool, &addresses, directory),
        System::Kvctl => kvctl(tool, &addresses, directory)?,
        System::Etcd => etcd(tool, &addresses, directory),
        System::Zookeeper => zookeeper(tool, &addresses, directory)?,
        System::Nats => nats(tool, &addresses, directory)?,
        System::Redis => redis(tool, &addresses, directory),
    };
    let endpoints = (0..commands.len()).map(|at| addresses.client(at).to_string()).collect();
    let mut processes = Vec::new();
    for (number, command) in (1..).zip(commands) {
        let name = format!("{}{number}", system.name());
        processes.push(Process::start(&name, command, directory)?);
    }
    Ok(Servers { processes, endpoints })
}

impl Servers {
    /// The ids of the processes.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.processes.iter().map(Process::id).collect()
    }

    /// Fails if one of them has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// What each said last.
    pub(crate) fn last_words(&self) -> String {
        self.processes.iter().map(Process::tail).collect::<Vec<_>>().join("\n")
    }

    /// The processor time that they have used.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let times = self.ids().into_iter().map(|id| Ok(cpu_time(&id)?.as_secs_f64()));
        times.sum()
    }

    /// The memory that they have in use.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.ids().into_iter().map(|id| resident_bytes(&id)).sum()
    }
}

/// The one that leads comes first.
fn floor(tool: &Tool, addresses: &Addresses, directory: &Path) -> Vec<Command> {
    let part = |server: usize| {
        let mut command = command(&tool.program);
        let listen = match server {
            0 => addresses.client(0),
            _ => addresses.peer(server),
        };
        command.arg(if server == 0 { "lead" } else { "follow" });
        command.arg("--listen").arg(listen.to_string());
        command.arg("--file").arg(directory.join(format!("journal{server}")));
        if server == 0 {
            let followers = format!("{},{}", addresses.peer(1), addresses.peer(2));
            command.arg("--followers").arg(followers);
        }
        command
    };
    (0..3).map(part).collect()
}

/// With the settings that a server has if nobody gives it any.
fn kvctl(tool: &Tool, addresses: &Addresses, directory: &Path) -> Result<Vec<Command>> {
    let config = directory.join("kv.toml");
    let clients: Vec<SocketAddrV4> = (0..3).map(|server| addresses.client(server)).collect();
    fs::write(&config, config_text(directory, &clients, ""))?;
    let serve = |number: usize| {
        let mut command = command(&tool.program);
        command.args(["serve", "--id", &format!("s{number}"), "--config"]).arg(&config);
        command
    };
    Ok((1..=3).map(serve).collect())
}

fn etcd(tool: &Tool, addresses: &Addresses, directory: &Path) -> Vec<Command> {
    let cluster = addresses.listed(|at| format!("e{at}=http://{}", addresses.peer(at)));
    let serve = |at: usize| {
        let mut command = command(&tool.program);
        let client = format!("http://{}", addresses.client(at));
        let peer = format!("http://{}", addresses.peer(at));
        command.args(["--name", &format!("e{at}"), "--data-dir"]);
        command.arg(directory.join(format!("e{at}")));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster, "--initial-cluster-state", "new"]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        command
    };
    (0..3).map(serve).collect()
}

/// It forces its log to the disk before it acknowledges, if nobody forbids it.
fn zookeeper(tool: &Tool, addresses: &Addresses, directory: &Path) -> Result<Vec<Command>> {
    let ensemble: Vec<String> = (0..3)
        .map(|at| {
            let (peer, spare) = (addresses.peer(at), addresses.spare(at));
            format!("server.{}={peer}:{}", at + 1, spare.port())
        })
        .collect();
    let mut commands = Vec::new();
    for at in 0..3 {
        let (home, client) = (directory.join(format!("z{at}")), addresses.client(at));
        fs::create_dir(&home)?;
        fs::write(home.join("myid"), (at + 1).to_string())?;
        let log = "log4j.rootLogger=ERROR, out\n\
            log4j.appender.out=org.apache.log4j.ConsoleAppender\n\
            log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n";
        fs::write(home.join("log4j.properties"), log)?;
        let settings = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\n\
            4lw.commands.whitelist=srvr\nadmin.enableServer=false\n\
            dataDir={}\nclientPortAddress={}\nclientPort={}\n{}\n",
            home.display(),
            client.ip(),
            client.port(),
            ensemble.join("\n")
        );
        let file = home.join("zoo.cfg");
        fs::write(&file, settings)?;
        let mut command = command(&tool.program);
        command.args(["-Xmx1000m", "-cp", &tools::zookeeper_classes(&home)]);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(file);
        commands.push(command);
    }
    Ok(commands)
}

fn nats(tool: &Tool, addresses: &Addresses, directory: &Path) -> Result<Vec<Command>> {
    let routes = addresses.listed(|at| format!("\"nats://{}\"", addresses.peer(at)));
    let mut commands = Vec::new();
    for at in 0..3 {
        let (client, peer) = (addresses.client(at), addresses.peer(at));
        let settings = format!(
            "server_name: n{}\nlisten: \"{client}\"\nmax_connections: 10000\n\
            jetstream {{ store_dir: \"{}\", sync_interval: always }}\n\
            cluster {{ name: bench, listen: \"{peer}\", routes: [{routes}] }}\n",
            at + 1,
            directory.join(format!("n{at}")).display()
        );
        let file = directory.join(format!("nats{at}.conf"));
        fs::write(&file, settings)?;
        let mut command = command(&tool.program);
        command.arg("--config").arg(file);
        commands.push(command);
    }
    Ok(commands)
}

/// One server, not three: it has no writes that wait for a majority.
fn redis(tool: &Tool, addresses: &Addresses, directory: &Path) -> Vec<Command> {
    let address = addresses.client(0);
    let mut command = command(&tool.program);
    command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    command.arg("--dir").arg(directory);
    vec![command]
}
