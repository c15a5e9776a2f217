//! A server that is there and does not answer: frozen, as a long stall would have it. What a client
//! may conclude depends on what it had sent.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use verify::cluster::{Cluster, clean_command, eventually};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(20);

/// A shell that was asked something and has answered, so that it has a connection.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shell {
    fn connected(cluster: &Cluster, timeout: &str) -> Shell {
        let mut command = clean_command(KVCTL);
        command.args(["shell", "--timeout", timeout]).env("KVCTL_CONFIG", cluster.config());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut shell = Shell { child, stdin, stdout };
        shell.say("set a 1");
        assert_eq!(shell.answer(), "a set to 1");
        shell
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for its end and returns the exit code and what it said on stderr.
    fn end(mut self) -> (Option<i32>, String) {
        let status = eventually("the shell's end", LIMIT, || self.child.try_wait().unwrap());
        let mut told = String::new();
        let stderr = self.child.stderr.take().unwrap();
        for line in BufReader::new(stderr).lines() {
            told.push_str(&line.unwrap());
            told.push('\n');
        }
        (status.code(), told)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_read_that_was_sent_and_not_answered_ends_with_124() {
    for line in ["get a", "log s1"] {
        let cluster = Cluster::started(KVCTL, 1);
        let mut shell = Shell::connected(&cluster, "1s");
        cluster.server("s1").pause();
        shell.say(line);
        let (code, told) = shell.end();
        assert_eq!(code, Some(124), "{told}");
        assert!(told.contains("no answer from s1"), "{told}");
        assert!(told.contains(&format!("in line 2: {line}")), "{told}");
    }
}

#[test]
fn a_write_that_was_sent_and_not_answered_ends_with_8_and_names_its_request() {
    let cluster = Cluster::started(KVCTL, 1);
    let mut shell = Shell::connected(&cluster, "1s");
    cluster.server("s1").pause();
    shell.say("set a 2");
    let (code, told) = shell.end();
    assert_eq!(code, Some(8), "{told}");
    assert_repeated_once(&cluster, &told);
}

/// A write that set `a` to 2 for the first time is repeated as an error says, and was applied once.
fn assert_repeated_once(cluster: &Cluster, told: &str) {
    let (_, repeat) = told.split_once("cannot be applied twice:  ").expect(told);
    let repeat: Vec<&str> = repeat.lines().next().unwrap().split(' ').collect();
    assert_eq!(repeat[..3], ["set", "a", "2"], "{told}");

    cluster.server("s1").resume();
    cluster.kvctl(&repeat).expect_code(0);
    let found = cluster.kvctl(&["get", "a", "-o", "json"]).expect_code(0).json();
    assert_eq!((&found["value"], &found["version"]), (&"2".into(), &2.into()));
}

#[test]
fn ctrl_c_on_a_write_that_was_sent_says_that_its_outcome_is_unknown() {
    let cluster = Cluster::started(KVCTL, 1);
    let mut shell = Shell::connected(&cluster, "60s");
    cluster.server("s1").pause();
    shell.say("set a 2");
    wait_until_sent(&cluster);
    kill_process(Pid::from_child(&shell.child), Signal::INT).unwrap();
    let (code, told) = shell.end();
    assert_eq!(code, Some(130), "{told}");
    assert!(told.contains("a write was under way, its outcome is unknown"), "{told}");
    assert_repeated_once(&cluster, &told);
}

#[test]
fn a_server_that_does_not_even_greet_was_sent_nothing() {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.server("s1").pause();
    for arguments in [["set", "a", "1"].as_slice(), &["get", "a"]] {
        let run = cluster.kvctl(&[arguments, &["--timeout", "500ms"]].concat()).expect_code(3);
        assert!(run.stderr.contains("timed out"), "{}", run.stderr);
    }
}

/// Waits until a frozen server was sent something: it lies in its socket, unread.
fn wait_until_sent(cluster: &Cluster) {
    eventually("something sent to s1", LIMIT, || {
        (cluster.server("s1").unread_bytes() > 0).then_some(())
    });
}

#[test]
fn ctrl_c_ends_a_shell_that_waits_for_an_answer() {
    let cluster = Cluster::started(KVCTL, 1);
    let mut shell = Shell::connected(&cluster, "60s");
    cluster.server("s1").pause();
    shell.say("get a");
    wait_until_sent(&cluster);
    kill_process(Pid::from_child(&shell.child), Signal::INT).unwrap();
    let (code, told) = shell.end();
    assert_eq!(code, Some(130), "{told}");
}

#[test]
fn ctrl_c_ends_a_command_that_waits_for_an_answer() {
    let cluster = Cluster::started(KVCTL, 1);
    cluster.server("s1").pause();
    let mut command = clean_command(KVCTL);
    command.args(["get", "a", "--timeout", "60s"]).env("KVCTL_CONFIG", cluster.config());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_until_sent(&cluster);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = eventually("the command's end", LIMIT, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
}
