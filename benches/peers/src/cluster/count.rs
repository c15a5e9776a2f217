//! Counts the system calls of servers, with `strace -c -f` on each of them. That slows them down,
//! so nothing else is measured meanwhile; counts repeat anyway.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use benches::Result;

use crate::cluster::process::{Process, command};

/// How long it may take until a process is traced.
const ATTACH_LIMIT: Duration = Duration::from_secs(10);

/// What all processes of a system have called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) all: u64,
    /// Those that wait for the disk.
    pub(crate) syncs: u64,
    /// The syncs of each process.
    pub(crate) syncs_of_each: Vec<u64>,
}

/// Tracers, one for each process.
pub(crate) struct Tracing {
    tracers: Vec<(Process, std::path::PathBuf)>,
}

/// Whether calls can be counted here.
pub(crate) fn is_possible() -> bool {
    Command::new("strace").arg("--version").output().is_ok_and(|it| it.status.success())
}

/// Begins to count. Every thread is traced when this returns.
pub(crate) fn begin(ids: &[String], directory: &Path) -> Result<Tracing> {
    let mut tracers = Vec::new();
    for id in ids {
        let counts = directory.join(format!("strace{id}"));
        let mut strace = command(Path::new("strace"));
        strace.args(["-c", "-f", "-q", "-p", id, "-o"]).arg(&counts);
        tracers.push((Process::start(&format!("strace-{id}"), strace, directory)?, counts));
    }
    let begun = Instant::now();
    for id in ids {
        while !is_traced(id)? {
            if begun.elapsed() > ATTACH_LIMIT {
                return Err(format!("strace does not attach to {id}").into());
            }
            sleep(Duration::from_millis(10));
        }
    }
    Ok(Tracing { tracers })
}

fn is_traced(id: &str) -> Result<bool> {
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        // A thread may end meanwhile.
        let status = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == "TracerPid:\t0") {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Tracing {
    /// Ends counting.
    pub(crate) fn end(self) -> Result<Calls> {
        let mut calls = Calls::default();
        for (mut tracer, counts) in self.tracers {
            tracer.interrupt()?;
            let (all, syncs) = parse(&fs::read_to_string(counts)?);
            calls.all += all;
            calls.syncs += syncs;
            calls.syncs_of_each.push(syncs);
        }
        Ok(calls)
    }
}

/// All calls and the syncs in a summary of strace's.
fn parse(summary: &str) -> (u64, u64) {
    let (mut all, mut syncs) = (0, 0);
    for line in summary.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, calls, .., name] = fields[..] else { continue };
        let (Ok(calls), false) = (calls.parse::<u64>(), name == "total") else { continue };
        all += calls;
        if ["fsync", "fdatasync", "msync", "sync_file_range"].contains(&name) {
            syncs += calls;
        }
    }
    (all, syncs)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_summary_is_read_whether_calls_failed_or_not() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 80.10    0.030000           3      1000           fdatasync
 15.00    0.010000           3       200        17 recvfrom
  4.90    0.000001           1         5           msync
------ ----------- ----------- --------- --------- ----------------
100.00    0.040001           3      1205        17 total
";
        assert_eq!(parse(summary), (1205, 1005));
    }
}
