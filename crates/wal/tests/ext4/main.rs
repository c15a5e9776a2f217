//! The log on a real kernel: ext4 that loses power, system calls that fail, processes that are
//! killed at a chosen call.
//!
//! A writer process, this same program started again, appends and says after each commit how far
//! it is acknowledged. Whatever happens to it, at least that must be found afterwards, byte for
//! byte. Tests that need root or a tool that is not there are shown as ignored, with the reason.

// The ioctl that cuts the power of a file system has no safe wrapper.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod volume;
mod writer;

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};
use wal::{Ending, RealDisk};

use volume::Volume;
use writer::{Writer, check};

/// How often each story is told; `WAL_EXT4_ROUNDS` asks for more.
fn rounds(default: u64) -> u64 {
    let asked = std::env::var("WAL_EXT4_ROUNDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(default)
}

/// A number that differs from round to round and is the same in every run.
fn vary(round: u64, limit: u64) -> u64 {
    (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % limit
}

fn has_tool(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    found.is_ok_and(|output| output.status.success())
}

/// Why a test that mounts a file system cannot run.
fn cannot_mount() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root");
    }
    let tools = ["losetup", "mkfs.ext4", "mount", "umount"];
    tools.iter().any(|tool| !has_tool(tool)).then_some("needs losetup and mkfs.ext4")
}

fn cannot_trace() -> Option<&'static str> {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    (!works.is_ok_and(|output| output.status.success())).then_some("needs a working strace")
}

fn trial(name: &str, obstacle: Option<&'static str>, story: fn() -> Result<(), Failed>) -> Trial {
    match obstacle {
        None => Trial::test(name, story),
        Some(obstacle) => {
            Trial::test(format!("{name} ({obstacle})"), story).with_ignored_flag(true)
        }
    }
}

fn main() {
    if let Some(directory) = std::env::var_os(writer::DIRECTORY) {
        writer::run(Path::new(&directory));
        return;
    }
    let (mount, trace) = (cannot_mount(), cannot_trace());
    let trials = vec![
        trial("power_cuts_on_ext4_take_nothing_that_was_acknowledged", mount, power_cuts),
        trial("a_full_ext4_refuses_entries_and_keeps_what_it_has", mount, full_disk),
        trial("when_writing_back_fails_nothing_that_was_acknowledged_is_lost", mount, hollow),
        trial("a_failed_fdatasync_ends_the_writer_and_loses_nothing", trace, failed_syncs),
        trial("a_full_disk_in_the_middle_of_a_write_loses_nothing", trace, failed_writes),
        trial("a_writer_killed_at_any_system_call_loses_nothing", trace, kills),
    ];
    // A child that one thread starts holds, until it becomes the new program, what another thread
    // has open, a lock included. So there is one thread.
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit();
}

/// One log lives through many power cuts, each at another moment.
fn power_cuts() -> Result<(), Failed> {
    let mut volume = Volume::make(96)?;
    let mut acknowledged = 0;
    let mut torn = 0;
    for round in 0..rounds(50) {
        let mut writer = Writer::start(Command::new(writer::program()), &volume.path(), 100_000)?;
        let goal = acknowledged + 1 + vary(round, 700);
        acknowledged = writer.wait_for(goal)?;
        volume.cut_power()?;
        acknowledged = acknowledged.max(writer.finish()?.acknowledged);
        volume.mount_again()?;
        let (last, ending) = check(&volume.path(), acknowledged)?;
        torn += u64::from(matches!(ending, Ending::Torn(_)));
        acknowledged = last;
    }
    let cuts = rounds(50);
    println!("tried {cuts} power cuts on ext4, {acknowledged} entries, {torn} torn ends");
    Ok(())
}

fn full_disk() -> Result<(), Failed> {
    let volume = Volume::make(8)?;
    let writer = Writer::start(Command::new(writer::program()), &volume.path(), u64::MAX)?;
    let outcome = writer.finish()?;
    if !outcome.error.contains("no space") {
        return Err(format!("the writer ended with {:?}", outcome.error).into());
    }
    let (last, _) = check(&volume.path(), outcome.acknowledged)?;
    if last != outcome.acknowledged {
        return Err(format!("{last} found, {} acknowledged", outcome.acknowledged).into());
    }
    Ok(())
}

/// The kernel takes every write and finds out later that there is no medium for it. It then counts
/// the pages as clean: reading shows them, and the next fdatasync succeeds.
fn hollow() -> Result<(), Failed> {
    let mut volume = Volume::make_hollow(256, 24)?;
    let writer = Writer::start(Command::new(writer::program()), &volume.path(), u64::MAX)?;
    let outcome = writer.finish()?;
    if outcome.error.is_empty() || outcome.error.contains("no space") {
        return Err(format!("the medium did not fail: {:?}", outcome.error).into());
    }
    // If the log opens at all before the cache is gone, it shows what the medium has.
    volume.fill_hollow()?;
    let opened = check(&volume.path(), outcome.acknowledged).map_or(0, |(last, _)| last);
    volume.mount_again()?;
    let (last, _) = check(&volume.path(), outcome.acknowledged)?;
    println!(
        "{} acknowledged, {opened} found before the cache went, {last} after",
        outcome.acknowledged
    );
    if last < opened {
        return Err(format!("{opened} entries were found and {last} are there").into());
    }
    Ok(())
}

/// Starts a writer under strace, with something injected.
fn traced(directory: &Path, inject: &str, entries: u64) -> Result<writer::Outcome, Failed> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
    strace.arg(writer::program());
    Writer::start(strace, directory, entries)?.finish()
}

fn fail_call(call: &str, error: &str) -> Result<(), Failed> {
    for round in 0..rounds(6) {
        let directory = tempfile::tempdir()?;
        let when = 2 + vary(round, 60);
        let inject = format!("{call}:error={error}:when={when}");
        let outcome = traced(directory.path(), &inject, 300)?;
        // A segment that cannot be made ahead for want of space stops nobody.
        if outcome.error.is_empty() && (error == "EIO" || outcome.acknowledged < 300) {
            return Err(format!("{inject}: the writer did not notice").into());
        }
        if wal::Wal::exists(&*RealDisk::open(directory.path())?)? {
            check(directory.path(), outcome.acknowledged)?;
        } else if outcome.acknowledged > 0 {
            return Err(format!("{inject}: the log is gone").into());
        }
    }
    println!("tried {} injections of {error} into {call}", rounds(6));
    Ok(())
}

fn failed_syncs() -> Result<(), Failed> {
    fail_call("fdatasync", "EIO")
}

fn failed_writes() -> Result<(), Failed> {
    fail_call("pwrite64", "ENOSPC")
}

/// The calls that change a log, each with about how often one life makes it. The tracer counts
/// every call apart, and those of the loader that starts the program too, so `openat` is not here.
const CALLS: [(&str, u64); 5] =
    [("pwrite64", 75), ("fdatasync", 65), ("fsync", 5), ("renameat2", 2), ("unlink", 3)];

fn kills() -> Result<(), Failed> {
    let lives = 4 * rounds(15);
    let (mut killed, mut in_the_middle) = (0, 0);
    for round in 0..lives / 4 {
        let directory = tempfile::tempdir()?;
        // One log, killed several times: while it is made, opened, rotated, and appended to.
        let mut acknowledged = 0;
        for life in 0..4 {
            let (call, count) = CALLS[(round + life) as usize % CALLS.len()];
            let inject = format!("{call}:signal=KILL:when={}", 1 + vary(round * 4 + life, count));
            let outcome = traced(directory.path(), &inject, 150)?;
            killed += u64::from(outcome.is_killed);
            in_the_middle += u64::from(outcome.is_killed && outcome.acknowledged > 0);
            acknowledged = acknowledged.max(outcome.acknowledged);
            if wal::Wal::exists(&*RealDisk::open(directory.path())?)? {
                (acknowledged, _) = check(directory.path(), acknowledged)?;
            } else if acknowledged > 0 {
                return Err(format!("{inject}: the log is gone").into());
            }
        }
    }
    println!("tried {killed} kills in {lives} lives, {in_the_middle} of them between commits");
    // Kills that strike before there is anything to lose prove nothing.
    if killed < lives / 2 || in_the_middle < lives / 4 {
        return Err("too few of the kills struck".into());
    }
    Ok(())
}
