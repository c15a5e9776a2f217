//! The process that appends until something stops it, and the check of what it leaves behind.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use libtest_mimic::Failed;
use wal::{Append, Check, Ending, Entry, Metadata, Options, RealDisk, Wal};

/// The variable that makes this program a writer in that directory.
pub(crate) const DIRECTORY: &str = "WAL_EXT4_WRITER";
const ENTRIES: &str = "WAL_EXT4_ENTRIES";

const SIGKILL: i32 = 9;

/// How many entries stay in the log.
const KEPT: u64 = 400;

pub(crate) fn program() -> PathBuf {
    std::env::current_exe().expect("this program has a path")
}

fn options() -> Options {
    Options::with_segment_bytes(256 * 1024)
}

/// Every byte of every entry follows from its index.
fn entry(index: u64) -> Entry {
    let length = 40 + (index * 7919) % 1900;
    let payload: Vec<u8> = (0..length).map(|at| (index * 31 + at * 7) as u8).collect();
    Entry::new(index, index / 100, index as u8, payload)
}

/// Appends, and says after each commit up to where it is acknowledged. Ends with a line that says
/// why.
pub(crate) fn run(directory: &Path) {
    let error = write(directory).err().map_or(String::new(), |error| error.to_string());
    println!("end {}", error.replace('\n', " "));
}

fn write(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let entries_wanted: u64 = std::env::var(ENTRIES)?.parse()?;
    let disk = RealDisk::open(directory)?;
    let mut wal = if Wal::exists(&*disk)? {
        Wal::open(disk, options(), Check::default())?.0
    } else {
        Wal::create(disk, options())?
    };
    let begin = wal.last().index;
    while wal.last().index - begin < entries_wanted {
        let last = wal.last().index;
        let count = 1 + last % 7;
        let metadata = Some(Metadata::new(&last.to_le_bytes())?);
        let entries = (last + 1..=last + count).map(entry);
        wal.stage(Append { metadata, entries, reset: None, truncate_after: None })?;
        let is_filling = entries_wanted == u64::MAX;
        if last % 5 == 0 && last > KEPT && !is_filling {
            wal.drop_prefix(last - KEPT)?;
        }
        wal.commit()?;
        println!("acknowledged {}", wal.durable().index);
        std::io::stdout().flush()?;
        while let Some(job) = wal.take_job() {
            wal.finish_job(job.run())?;
        }
    }
    wal.close()?;
    Ok(())
}

/// A running writer.
pub(crate) struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
    outcome: Outcome,
}

/// What a writer has said.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The last index that it was told is durable.
    pub(crate) acknowledged: u64,
    /// Why it ended; empty if it did all that it was asked to, or was killed.
    pub(crate) error: String,
    /// It, or the tracer that ends as it does, was ended by SIGKILL.
    pub(crate) is_killed: bool,
}

impl Writer {
    pub(crate) fn start(
        mut command: Command,
        directory: &Path,
        entries: u64,
    ) -> Result<Writer, Failed> {
        command.env(DIRECTORY, directory).env(ENTRIES, entries.to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("the writer says nothing")?);
        Ok(Writer { child, lines, outcome: Outcome::default() })
    }

    /// Reads one line; false at the end.
    fn read(&mut self) -> Result<bool, Failed> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if let Some(index) = line.trim_end().strip_prefix("acknowledged ") {
            self.outcome.acknowledged = index.parse()?;
        }
        if let Some(error) = line.trim_end().strip_prefix("end ") {
            error.clone_into(&mut self.outcome.error);
        }
        Ok(true)
    }

    /// Waits until an index is acknowledged.
    pub(crate) fn wait_for(&mut self, index: u64) -> Result<u64, Failed> {
        while self.outcome.acknowledged < index {
            if !self.read()? {
                return Err(format!("the writer ended: {}", self.outcome.error).into());
            }
        }
        Ok(self.outcome.acknowledged)
    }

    /// Waits until it ends.
    pub(crate) fn finish(mut self) -> Result<Outcome, Failed> {
        while self.read()? {}
        self.outcome.is_killed = self.child.wait()?.signal() == Some(SIGKILL);
        Ok(std::mem::take(&mut self.outcome))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens what a writer has left: everything acknowledged must be there, and every entry that is
/// there must be the one that was written. Returns the last index, and how the log ended.
pub(crate) fn check(directory: &Path, acknowledged: u64) -> Result<(u64, Ending), Failed> {
    let check = Check { verify_from: 0, floor: Some(acknowledged), suspects: &[] };
    let (wal, recovery) = Wal::open(RealDisk::open(directory)?, options(), check)?;
    if !recovery.lost.is_empty() || !recovery.mended.is_empty() {
        return Err(format!("a crash looks like damage: {recovery:?}").into());
    }
    let (mut next, last) = (wal.log_start().index + 1, wal.last().index);
    while next <= last {
        for found in wal.read(next, last, 1 << 20)? {
            if found != entry(next) {
                return Err(format!("entry {next} is not the one that was written").into());
            }
            next += 1;
        }
    }
    Ok((last, recovery.ending))
}
