//! One run of `kvctl` from beginning to end, with a bound on how long it may take.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// No command that is run by a suite takes longer than this.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl Run {
    /// The same run, if it ended with this code.
    ///
    /// # Panics
    /// If it ended with another one; the message has all that it printed.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Its standard output, parsed.
    ///
    /// # Panics
    /// If that is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON ({error}):\n{}", self.stdout))
    }
}

/// A command that knows nothing of the machine's configuration.
pub fn clean_command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KVCTL_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command with this input and waits for its end.
///
/// # Panics
/// If it does not end in time; it is killed first.
pub fn run<A: AsRef<OsStr>>(mut command: Command, arguments: &[A], input: &[u8]) -> Run {
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kvctl can be started");
    let writer = feed(&mut child, input.to_vec());
    let stdout = collect(child.stdout.take().expect("stdout is piped"));
    let stderr = collect(child.stderr.take().expect("stderr is piped"));
    // Both streams end when the process does, so the wait below does not block.
    let outputs = stdout
        .recv_timeout(RUN_LIMIT)
        .and_then(|out| stderr.recv_timeout(RUN_LIMIT).map(|err| (out, err)));
    let Ok((stdout, stderr)) = outputs else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not end within {RUN_LIMIT:?}");
    };
    let status = child.wait().expect("kvctl can be waited for");
    writer.join().expect("the writer of the input does not panic");
    Run { code: status.code(), stdout, stderr }
}

fn feed(child: &mut Child, input: Vec<u8>) -> thread::JoinHandle<()> {
    let mut stdin = child.stdin.take().expect("stdin is piped");
    thread::spawn(move || {
        // A command that needs no input may end before it has read any.
        let _ = stdin.write_all(&input);
    })
}

fn collect(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (done, collected) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = done.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    collected
}
