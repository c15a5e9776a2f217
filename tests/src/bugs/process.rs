//! Processes whose processor time is counted and limited.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A process that stands still spends nothing; it ends when so many times its seconds are over. A
/// machine that has much else to do shall not be taken for one.
const PATIENCE: f64 = 20.0;

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` if it was ended for having spent all that it may.
    pub(super) status: Option<ExitStatus>,
    pub(super) output: String,
    pub(super) errors: String,
    pub(super) cpu_seconds: f64,
}

/// Runs a command for so many seconds of processor time at most. What it prints goes through files
/// in `scratch`, so that no pipe fills up.
pub(super) fn run(command: &mut Command, scratch: &Path, limit: f64) -> io::Result<Ended> {
    let (output, errors) = (scratch.join("output"), scratch.join("errors"));
    let begun = Instant::now();
    let before = spent_by_children()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&output)?)
        .stderr(File::create(&errors)?)
        .spawn()?;
    let status = wait(&mut child, limit, begun)?;
    let cpu_seconds = spent_by_children()? - before;
    let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Ended { status, output: read(&output)?, errors: read(&errors)?, cpu_seconds })
}

fn wait(child: &mut Child, limit: f64, begun: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let is_over = begun.elapsed().as_secs_f64() > limit * PATIENCE;
        if is_over || spent(child.id()).is_some_and(|spent| spent > limit) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Fields of a process's line in `/proc`, counted from the one behind its name.
fn stat(process: &str) -> io::Result<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let behind_name = line.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(behind_name.split_whitespace().map(str::to_string).collect())
}

fn seconds(fields: &[String]) -> f64 {
    let ticks: f64 = fields.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// What a process has spent so far; `None` if it is gone.
fn spent(process: u32) -> Option<f64> {
    let fields = stat(&process.to_string()).ok()?;
    Some(seconds(fields.get(11..13)?))
}

/// What the children of this process have spent that have ended.
fn spent_by_children() -> io::Result<f64> {
    let fields = stat("self")?;
    Ok(seconds(fields.get(13..15).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_spends_too_much_is_ended_and_what_it_said_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spender = Command::new("sh");
        spender.args(["-c", "echo here; while :; do :; done"]);
        let ended = run(&mut spender, scratch.path(), 0.3).unwrap();
        assert!(ended.status.is_none(), "it never ends by itself");
        assert_eq!(ended.output, "here\n");
        assert!(ended.cpu_seconds >= 0.25, "{ended:?}");
    }

    #[test]
    fn a_process_that_ends_says_how() {
        let scratch = tempfile::tempdir().unwrap();
        let mut quick = Command::new("sh");
        quick.args(["-c", "echo no >&2; exit 3"]);
        let ended = run(&mut quick, scratch.path(), 5.0).unwrap();
        assert_eq!(ended.status.and_then(|status| status.code()), Some(3));
        assert_eq!(ended.errors, "no\n");
    }
}
