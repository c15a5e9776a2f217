//! The servers of a demo: real `kvctl serve` processes in a temporary directory, on a loopback
//! address that nobody else uses. They end with the demo, however it ends: each of them asks the
//! kernel to be killed with its parent, and dropping this value kills whoever is left.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::story::Stories;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::ServerAddress;

/// The port of the first server; the others follow.
const FIRST_PORT: u16 = 10_000;
/// How many loopback addresses are tried before giving up.
const HOSTS_TRIED_MAX: u32 = 64;

/// What a server is doing, as far as the demo made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    Paused,
    Ended,
}

struct Server {
    id: String,
    address: SocketAddrV4,
    process: Option<Child>,
    life: Life,
}

/// All servers of a demo.
pub(crate) struct Servers {
    // Declared before the directory: the processes end before their data goes.
    servers: Vec<Server>,
    program: PathBuf,
    config: PathBuf,
    stories: Stories,
    directory: TempDir,
}

impl Servers {
    /// Prepares this many servers. None of them runs yet.
    pub(crate) fn prepare(count: u8, stories: Stories) -> Result<Servers, Failure> {
        let unexpected = |what: &str, error: io::Error| {
            Failure::new(Exit::Unexpected, format!("cannot {what}: {error}"))
        };
        let program = std::env::current_exe()
            .map_err(|error| unexpected("find the program that is running", error))?;
        let directory = TempDir::with_prefix("kvctl-demo-")
            .map_err(|error| unexpected("make a temporary directory", error))?;
        let servers: Vec<Server> = free_addresses(u16::from(count))?
            .into_iter()
            .zip(1..)
            .map(|(address, number)| Server {
                id: format!("s{number}"),
                address,
                process: None,
                life: Life::Ended,
            })
            .collect();
        let config = directory.path().join("kv.toml");
        std::fs::write(&config, config_text(&servers, &directory))
            .map_err(|error| Failure::file("write", &config, &error))?;
        Ok(Servers { servers, program, config, stories, directory })
    }

    /// Where the servers are.
    pub(crate) fn addresses(&self) -> Vec<ServerAddress> {
        let servers = self.servers.iter();
        let address = |server: &Server| ServerAddress {
            id: Some(server.id.clone()),
            address: server.address.to_string(),
        };
        servers.map(address).collect()
    }

    /// Where their data is, while the demo runs.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Starts every server that does not run.
    pub(crate) fn start_all(&mut self) -> Result<(), Failure> {
        let ids: Vec<String> = self.servers.iter().map(|server| server.id.clone()).collect();
        ids.iter().try_for_each(|id| self.start(id))
    }

    /// Starts a server.
    pub(crate) fn start(&mut self, id: &str) -> Result<(), Failure> {
        let (program, config) = (self.program.clone(), self.config.clone());
        let stories = self.stories.clone();
        let server = self.server(id)?;
        if server.runs() {
            return Err(Failure::usage(format!("{id} runs already")));
        }
        let mut command = Command::new(program);
        command.args(["serve", "--id", id, "--config"]).arg(config);
        command.arg("--exit-with").arg(std::process::id().to_string());
        for name in ["KVCTL_CONFIG", "KVCTL_DATA", "KVCTL_ENDPOINTS", "KVCTL_OUTPUT"] {
            command.env_remove(name);
        }
        // Ctrl-C at the prompt is for the demo alone, so the servers are in another group.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            Failure::new(Exit::Unexpected, format!("cannot start {id}: {error}"))
        })?;
        if let Some(stderr) = child.stderr.take() {
            stories.follow(id, stderr);
        }
        (server.process, server.life) = (Some(child), Life::Runs);
        Ok(())
    }

    /// Ends a server at once, as a crash would.
    pub(crate) fn kill(&mut self, id: &str) -> Result<(), Failure> {
        let server = self.server(id)?;
        if !server.runs() {
            return Err(Failure::usage(format!("{id} does not run")));
        }
        server.end();
        Ok(())
    }

    /// Freezes a server; its connections stay open.
    pub(crate) fn pause(&mut self, id: &str) -> Result<(), Failure> {
        self.server(id)?.signal(Signal::STOP, Life::Paused)
    }

    /// Lets a frozen server go on.
    pub(crate) fn resume(&mut self, id: &str) -> Result<(), Failure> {
        self.server(id)?.signal(Signal::CONT, Life::Runs)
    }

    fn server(&mut self, id: &str) -> Result<&mut Server, Failure> {
        let ids: Vec<String> = self.servers.iter().map(|server| server.id.clone()).collect();
        self.servers.iter_mut().find(|server| server.id == id).ok_or_else(|| {
            Failure::usage(format!("there is no server `{id}`"))
                .detail(format!("servers: {} leader", ids.join(" ")))
        })
    }
}

impl Server {
    /// Whether there is a process. One that ended by itself is noticed here.
    fn runs(&mut self) -> bool {
        if let Some(child) = &mut self.process
            && matches!(child.try_wait(), Ok(Some(_)))
        {
            (self.process, self.life) = (None, Life::Ended);
        }
        self.life != Life::Ended
    }

    fn signal(&mut self, signal: Signal, becomes: Life) -> Result<(), Failure> {
        if !self.runs() {
            return Err(Failure::usage(format!("{} does not run", self.id)));
        }
        let Some(child) = &self.process else {
            return Ok(());
        };
        kill_process(Pid::from_child(child), signal).map_err(|error| {
            Failure::new(Exit::Unexpected, format!("cannot signal {}: {error}", self.id))
        })?;
        self.life = becomes;
        Ok(())
    }

    fn end(&mut self) {
        if let Some(mut child) = self.process.take() {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.life = Life::Ended;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn config_text(servers: &[Server], directory: &TempDir) -> String {
    let mut text = "cluster = \"demo\"\n".to_owned();
    for server in servers {
        // Writing to a String cannot fail.
        let _ =
            write!(text, "\n[[server]]\nid = \"{}\"\naddr = \"{}\"\n", server.id, server.address);
    }
    let data = toml_string(&format!("{}/{{id}}", directory.path().display()));
    let _ = write!(text, "\n[node]\ndata = {data}\n");
    text
}

/// A string as TOML writes it: the temporary directory may have any name.
fn toml_string(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Addresses that nobody listens on, all on one loopback host that follows from the process id, so
/// that several demos run side by side and all of them use the ports that a reader expects.
fn free_addresses(count: u16) -> Result<Vec<SocketAddrV4>, Failure> {
    for attempt in 0..HOSTS_TRIED_MAX {
        let spread = std::process::id().wrapping_mul(HOSTS_TRIED_MAX).wrapping_add(attempt);
        let [_, high, middle, low] = spread.to_be_bytes();
        // 127.1.0.0 to 127.63.255.255; the first of 127 belongs to everything else on the machine.
        let host = Ipv4Addr::new(127, 1 + high % 63, middle, low);
        let ports = FIRST_PORT..FIRST_PORT.saturating_add(count);
        let addresses: Vec<SocketAddrV4> =
            ports.map(|port| SocketAddrV4::new(host, port)).collect();
        if addresses.iter().all(|address| TcpListener::bind(address).is_ok()) {
            return Ok(addresses);
        }
    }
    Err(Failure::new(Exit::Unexpected, "found no loopback address with free ports"))
}

#[cfg(test)]
mod tests {
    use super::{free_addresses, toml_string};

    #[test]
    fn a_demo_finds_a_host_of_its_own() {
        let addresses = free_addresses(3).unwrap();
        assert_eq!(
            addresses.iter().map(|a| a.port()).collect::<Vec<_>>(),
            [10_000, 10_001, 10_002]
        );
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn any_directory_can_be_written_into_the_configuration() {
        assert_eq!(toml_string("/tmp/a \"b\"\\c\n"), r#""/tmp/a \"b\"\\c\u000a""#);
    }
}
