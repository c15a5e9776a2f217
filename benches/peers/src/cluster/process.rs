//! Processes that do not outlive this one: each ends when its handle is dropped, and the kernel
//! ends it if this program dies first, however that happens.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use benches::Result;

/// How long a process may take to end in good order.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A process that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A command that ends with this program.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

impl Process {
    /// Starts a command; what it says goes to a file in `directory`.
    pub(crate) fn start(name: &str, mut command: Command, directory: &Path) -> Result<Process> {
        let log = directory.join(format!("{name}.out"));
        let file = File::create(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Process { name: name.to_owned(), child, log })
    }

    /// Its id, which is that of the program: nothing stands between.
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                Err(format!("{} has ended: {status}\n{}", self.name, self.tail()).into())
            }
        }
    }

    /// The last that it said.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
    }

    /// Asks it to end with a signal, and waits until it has.
    pub(crate) fn interrupt(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > STOP_LIMIT {
                return Err(format!("{} does not end", self.name).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end, at most so long, and returns what it printed.
pub(crate) fn output(mut command: Command, limit: Duration) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let streams = (child.stdout.take(), child.stderr.take());
    let (out, err) = (reader(streams.0), reader(streams.1));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Err(format!("not done after {} s", limit.as_secs()).into());
        }
        thread::sleep(Duration::from_millis(2));
    };
    let read = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let (out, err) = (read(out), read(err));
    match status.success() {
        true => Ok(out),
        false => Err(format!("{status}: {}", err.trim()).into()),
    }
}

fn reader(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stream) = stream {
            // What is no text is of no use here.
            let _ = stream.read_to_string(&mut text);
        }
        text
    })
}
