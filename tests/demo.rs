//! `kvctl demo`: the session that a newcomer runs first, and the promise that nothing is left
//! behind whichever way it ends.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;
use verify::cluster::{Run, clean_command, eventually, run, terminal};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(30);

/// A demo whose temporary files lie where the test can look for what is left of them.
fn demo_command(temporary: &Path) -> Command {
    let mut command = clean_command(KVCTL);
    command.env("TMPDIR", temporary);
    command
}

fn piped(lines: &str) -> (Run, TempDir) {
    let temporary = TempDir::with_prefix("kvctl-suite-").unwrap();
    let run = run(demo_command(temporary.path()), &["demo"], lines.as_bytes());
    (run, temporary)
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn the_first_session_works_through_a_killed_leader() {
    let lines = "set ana 4\nget ana\nset d 8\nget d\nshow\n\
                 .kill leader\nset after 1\nget after\n.status\n";
    let (run, temporary) = piped(lines);
    let run = run.expect_code(0);
    let output: Vec<&str> = run.stdout.lines().collect();

    assert_eq!(output[..4], ["ana set to 4", "4", "d set to 8", "8"]);
    let table = output.iter().skip(4).take_while(|line| !line.ends_with("killed"));
    let table: Vec<&str> = table.copied().collect();
    for row in [["ana", "4"], ["d", "8"]] {
        let found = table.iter().any(|line| {
            let cells: Vec<&str> = line.split(['│', '┆']).map(str::trim).collect();
            cells.get(1..3) == Some(&row[..])
        });
        assert!(found, "the table lacks {row:?}:\n{}", run.stdout);
    }
    let killed = output.iter().find_map(|line| line.strip_suffix(" killed")).unwrap();
    let after = output.iter().position(|line| line.ends_with("killed")).unwrap();
    assert_eq!(output[after + 1..after + 3], ["after set to 1", "1"]);
    let leader = output.iter().find(|line| line.contains("LEADER")).unwrap();
    assert!(!leader.contains(killed), "{killed} was killed and cannot lead:\n{}", run.stdout);
    assert!(run.stderr.contains("LEADER"), "elections are told:\n{}", run.stderr);
    assert!(is_empty(temporary.path()), "the end of the input removes the demo's directory");
}

#[test]
fn a_killed_server_starts_again_and_catches_up() {
    // With s3 gone nothing commits without s2, so the last write shows that s2 holds them all.
    let lines = "set a 1\n.kill s2\nset b 2\n.start s2\n.kill s3\nset c 3\n.log s2\n";
    let (run, temporary) = piped(lines);
    let run = run.expect_code(0);
    assert!(run.stderr.contains("s2 recovered"), "{}", run.stderr);
    let (_, log) = run.stdout.split_once("c set to 3\n").unwrap();
    let commands: Vec<&str> =
        log.lines().filter_map(|line| Some(&line[line.find("set ")?..])).collect();
    assert_eq!(commands, ["set a 1", "set b 2", "set c 3"], "{log}");
    assert!(is_empty(temporary.path()));
}

#[test]
fn a_paused_leader_is_replaced() {
    let lines = "set a 1\n.pause leader\nset b 2\nget b\n";
    let (run, temporary) = piped(lines);
    let run = run.expect_code(0);
    assert!(run.stdout.ends_with("b set to 2\n2\n"), "{}", run.stdout);
    assert!(is_empty(temporary.path()), "a paused server is ended like any other");
}

#[test]
fn the_first_error_ends_a_script_and_is_located() {
    let (run, temporary) = piped("set a 1\nget nothing\nset b 2\n");
    let run = run.expect_code(4);
    assert!(run.stderr.contains("in line 2: get nothing"), "{}", run.stderr);
    assert!(!run.stdout.contains("b set"), "nothing after the error is carried out");
    assert!(is_empty(temporary.path()), "an error removes the demo's directory too");
}

/// A demo that is still running, with its standard input open.
struct Running {
    child: Child,
    stdin: ChildStdin,
    temporary: TempDir,
    servers: Vec<Pid>,
}

impl Running {
    /// A demo that has answered its first command.
    fn start() -> Running {
        let temporary = TempDir::with_prefix("kvctl-suite-").unwrap();
        let mut command = demo_command(temporary.path());
        command.arg("demo").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        writeln!(stdin, "set a 1").unwrap();
        assert_eq!(stdout.next().unwrap().unwrap(), "a set to 1");
        let servers = children(child.id());
        assert_eq!(servers.len(), 3, "a demo has three servers");
        Running { child, stdin, temporary, servers }
    }

    /// Waits for the demo to end and then for its servers.
    fn assert_nothing_is_left(mut self, code: Option<i32>) -> PathBuf {
        let status = eventually("the demo's end", LIMIT, || self.child.try_wait().unwrap());
        assert_eq!(status.code(), code);
        for server in &self.servers {
            eventually("the end of a demo's server", LIMIT, || {
                test_kill_process(*server).is_err().then_some(())
            });
        }
        drop(self.stdin);
        let path = self.temporary.path().to_owned();
        if code.is_some() {
            assert!(is_empty(&path), "the demo's directory is removed");
        }
        path
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

/// The child processes of a process.
fn children(parent: u32) -> Vec<Pid> {
    let mut found = BTreeSet::new();
    for task in std::fs::read_dir(format!("/proc/{parent}/task")).unwrap() {
        let list = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap();
        found.extend(list.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
    }
    found.into_iter().map(|pid| Pid::from_raw(pid).unwrap()).collect()
}

#[test]
fn ctrl_c_ends_a_demo_and_its_servers() {
    let demo = Running::start();
    demo.signal(Signal::INT);
    demo.assert_nothing_is_left(Some(130));
}

#[test]
fn sigterm_ends_a_demo_and_its_servers() {
    let demo = Running::start();
    demo.signal(Signal::TERM);
    demo.assert_nothing_is_left(Some(130));
}

#[test]
fn a_demo_that_is_killed_takes_its_servers_along() {
    let demo = Running::start();
    demo.signal(Signal::KILL);
    demo.assert_nothing_is_left(None);
}

/// A demo that was only just started.
struct Beginning {
    child: Child,
    temporary: TempDir,
}

impl Beginning {
    fn start() -> Beginning {
        let temporary = TempDir::with_prefix("kvctl-suite-").unwrap();
        let mut command = demo_command(temporary.path());
        command.arg("demo").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        Beginning { child, temporary }
    }

    /// Signals it and waits for its end, which need not be in good order.
    fn end_by(mut self, signal: Signal) -> (ExitStatus, TempDir) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = eventually("the demo's end", LIMIT, || self.child.try_wait().unwrap());
        (status, self.temporary)
    }
}

#[test]
fn a_signal_right_after_the_start_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let (status, temporary) = Beginning::start().end_by(signal);
        let ended = status.code() == Some(130) || status.signal() == Some(signal.as_raw());
        assert!(ended, "{status}");
        assert!(is_empty(temporary.path()), "{signal:?}");
    }
}

#[test]
fn a_signal_while_the_servers_start_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let demo = Beginning::start();
        eventually("the demo's directory", LIMIT, || {
            (!is_empty(demo.temporary.path())).then_some(())
        });
        let (status, temporary) = demo.end_by(signal);
        assert_eq!(status.code(), Some(130), "{signal:?}");
        assert!(is_empty(temporary.path()), "{signal:?}");
    }
}

#[test]
fn an_empty_line_at_the_prompt_ends_the_demo() {
    let temporary = TempDir::with_prefix("kvctl-suite-").unwrap();
    let (mut ours, theirs) = terminal();
    let mut command = demo_command(temporary.path());
    // The history of whoever runs the suite is not touched.
    command.arg("demo").env("TERM", "xterm").env("XDG_STATE_HOME", temporary.path().join("state"));
    command.stdin(theirs.try_clone().unwrap());
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut screen = ours.try_clone().unwrap();
    let reader = std::thread::spawn({
        let seen = Arc::clone(&seen);
        move || {
            let mut chunk = [0; 1024];
            // The end of the program that has the other end is an error here.
            while let Ok(count) = screen.read(&mut chunk) {
                seen.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        }
    });
    let prompt = b"demo> ";
    eventually("the prompt", LIMIT, || {
        let seen = seen.lock().unwrap();
        seen.windows(prompt.len()).any(|window| window == prompt).then_some(())
    });
    ours.write_all(b"\r").unwrap();
    let status = eventually("the demo's end", LIMIT, || child.try_wait().unwrap());
    let screen = || String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    assert_eq!(status.code(), Some(0), "{}", screen());
    reader.join().unwrap();
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.iter().all(|it| it.as_ref().unwrap().file_name() == "state"), "{left:?}");
}

#[test]
fn empty_lines_of_a_script_are_skipped() {
    let (run, _temporary) = piped("\nset a 1\n\nget a\n");
    assert_eq!(run.expect_code(0).stdout, "a set to 1\n1\n");
}
