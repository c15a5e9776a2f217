//! A server of a cluster under test: its place on the disk and on the network, and the process that
//! runs it at the moment.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::proxy::Proxy;
use super::run::clean_command;
use super::story::Story;

/// No server takes longer to end after it was asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A server, whether it runs or not.
#[derive(Debug)]
pub struct Server {
    id: String,
    address: SocketAddrV4,
    data: PathBuf,
    /// Where it asks to be taken in; none for a server of the configuration file.
    join: Vec<SocketAddrV4>,
    /// The relay through which others reach it, and its own configuration file.
    behind: Option<(Proxy, PathBuf)>,
    process: Option<Child>,
    /// The story of each run, the latest last.
    stories: Vec<Story>,
}

impl Server {
    /// A server that was never started.
    pub(super) fn new(id: String, address: SocketAddrV4, data: PathBuf) -> Server {
        Server {
            id,
            address,
            data,
            join: Vec::new(),
            behind: None,
            process: None,
            stories: Vec::new(),
        }
    }

    /// A server that no configuration file lists.
    pub(super) fn joining(mut self, join: Vec<SocketAddrV4>) -> Server {
        self.join = join;
        self
    }

    /// Listens at `own` from the next start on, as the file at `config` says. Others reach it
    /// where it listened before, through a relay.
    pub(super) fn move_behind(&mut self, own: SocketAddrV4, config: PathBuf) {
        self.behind = Some((Proxy::start(self.address, own), config));
        self.address = own;
    }

    /// The relay in front of it.
    ///
    /// # Panics
    /// If there is none.
    pub fn proxy(&self) -> &Proxy {
        let behind = self.behind.as_ref().map(|(proxy, _)| proxy);
        behind.unwrap_or_else(|| panic!("nothing is in front of {}", self.id))
    }

    /// Whether it came later than the configuration file.
    pub(super) fn has_joined(&self) -> bool {
        !self.join.is_empty()
    }

    /// Loses its disk.
    ///
    /// # Panics
    /// If it runs.
    pub fn wipe(&self) {
        assert!(self.process.is_none(), "{} runs", self.id);
        std::fs::remove_dir_all(&self.data).expect("a directory can be removed");
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Where its data lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Whether its process was started and not yet seen to end.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The process id of the running server.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// What the latest run tells.
    ///
    /// # Panics
    /// If it was never started.
    pub fn story(&self) -> &Story {
        self.stories.last().unwrap_or_else(|| panic!("{} was never started", self.id))
    }

    /// Everything that it told, run by run, for the report of a failure.
    pub(super) fn chronicle(&self) -> String {
        let mut text = String::new();
        for (run, story) in self.stories.iter().enumerate() {
            text.push_str(&format!(
                "--- {} run {}\n{}\n",
                self.id,
                run + 1,
                story.lines().join("\n")
            ));
        }
        text
    }

    /// Starts the process.
    ///
    /// # Panics
    /// If it runs already.
    pub(super) fn start(&mut self, program: &str, config: &Path) {
        assert!(self.process.is_none(), "{} runs already", self.id);
        let mut command = clean_command(program);
        command.args(["serve", "--id", &self.id]);
        if self.join.is_empty() {
            let own = self.behind.as_ref().map(|(_, own)| own.as_path());
            command.arg("--config").arg(own.unwrap_or(config));
        } else {
            let join: Vec<String> = self.join.iter().map(ToString::to_string).collect();
            command.args(["--join", &join.join(","), "--addr", &self.address.to_string()]);
            command.arg("--data").arg(&self.data);
        }
        // Should the test's own process die, its servers go with it.
        command.arg("--exit-with").arg(std::process::id().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a server can be started");
        let stderr = child.stderr.take().expect("stderr is piped");
        self.stories.push(Story::follow(stderr));
        self.process = Some(child);
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        let mut child = self.take_child();
        child.kill().expect("a running server can be killed");
        child.wait().expect("a killed server can be waited for");
    }

    /// Asks the process to end in good order, and returns how it ended and how long that took.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.terminate();
        (self.wait(), start.elapsed())
    }

    /// Asks the process to end in good order and does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    /// If it does not within ten seconds.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.take_child();
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a server can be waited for") {
                return status;
            }
            if start.elapsed() > STOP_LIMIT {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{} did not end within {STOP_LIMIT:?}", self.id);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Freezes the process; its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// How much was sent to it that it has not read, by whoever is connected. For a frozen server
    /// it tells that a request has arrived.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn unread_bytes(&self) -> u64 {
        const ESTABLISHED: &str = "01";
        // The kernel prints an address as the number that its bytes are in memory.
        let host = u32::from_ne_bytes(self.address.ip().octets());
        let local = format!("{host:08X}:{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel lists connections");
        let unread = table.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, address, _, ESTABLISHED, queues, ..] = fields[..] else { return None };
            let (_, received) = queues.split_once(':')?;
            (address == local).then(|| u64::from_str_radix(received, 16).ok())?
        });
        unread.sum()
    }

    /// The memory that the process has in use.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the kernel tells of a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes: Option<u64> = kilobytes.and_then(|number| number.trim().parse().ok());
        kilobytes.expect("a size in kB") * 1024
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child()), signal).expect("a running server has a pid");
    }

    fn child(&self) -> &Child {
        self.process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.id))
    }

    fn take_child(&mut self) -> Child {
        self.process.take().unwrap_or_else(|| panic!("{} does not run", self.id))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
