//! A repair with loss that is killed: wherever that happens, what it had to keep is there, a log
//! that was touched is marked, and running it again comes to the same end, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;
use verify::cluster::{Run, clean_command, run};
use wal::{Append, Entry, Health, Inspector, Options, ReadOnlyDisk, RealDisk, Wal};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const SEGMENT_BYTES: u64 = 8 << 10;
const MARK: &str = "lost-history";

/// What a repair changes the disk with.
const CALLS: [&str; 6] = ["mkdir", "openat", "pwrite64", "fsync", "rename", "unlink"];

fn main() {
    let arguments = Arguments::from_args();
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let can_trace = works.is_ok_and(|output| output.status.success());
    let mut trials = vec![trial("a_copy_is_made_once_and_half_of_one_is_none", half_made_copies)];
    for (name, damage) in [
        ("a_repair_that_was_killed_anywhere_goes_on_to_the_same_end", Damage::Directory),
        ("so_does_one_of_a_log_whose_beginning_is_missing", Damage::FirstSegment),
        ("so_does_one_of_a_log_in_a_single_segment", Damage::OnlySegment),
    ] {
        trials.push(if can_trace {
            trial(name, move || killed_at_every_call(damage))
        } else {
            Trial::test(format!("{name} (needs a working strace)"), || Ok(()))
                .with_ignored_flag(true)
        });
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(name: &str, story: impl Fn() + Send + 'static) -> Trial {
    let told = move || -> Result<(), Failed> {
        story();
        Ok(())
    };
    Trial::test(name, told)
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Directory,
    FirstSegment,
    OnlySegment,
}

fn segment(log: &Path, number: u64) -> PathBuf {
    log.join(format!("{number:016x}.wal"))
}

/// Makes a log that has lost history; it has several segments, unless it shall have one.
fn make(log: &Path, damage: Damage) {
    let mut options = Options::with_segment_bytes(SEGMENT_BYTES);
    options.log_id = Some(wal::LogId(7));
    let mut wal = Wal::create(RealDisk::open(log).unwrap(), options).unwrap();
    let count = if let Damage::OnlySegment = damage { 8 } else { 60 };
    for index in 1..=count {
        let entry = Entry::new(index, 1, 1, format!("entry {index} ").repeat(40).into_bytes());
        wal.stage(Append { entries: vec![entry], ..Append::default() }).unwrap();
        wal.commit().unwrap();
    }
    assert_eq!(wal.segment_count() == 1, count == 8);
    wal.close().unwrap();
    match damage {
        Damage::FirstSegment => fs::remove_file(segment(log, 1)).unwrap(),
        Damage::Directory | Damage::OnlySegment => {
            let path = segment(log, if count == 8 { 1 } else { 2 });
            let mut contents = fs::read(&path).unwrap();
            // Behind the link: headers and directories of the first batches.
            contents[160..600].iter_mut().for_each(|byte| *byte ^= 1);
            fs::write(&path, contents).unwrap();
        }
    }
}

/// Every file below a directory, the locks apart.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for item in fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
            files.insert(path, Vec::new());
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Puts a directory back as it was.
fn put_back(directory: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for item in fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    let is_directory = |path: &&PathBuf| path.extension().is_none_or(|it| it != "wal");
    for path in files.keys().filter(is_directory) {
        fs::create_dir_all(path).unwrap();
    }
    for (path, contents) in files.iter().filter(|(path, _)| !is_directory(path)) {
        fs::write(path, contents).unwrap();
    }
}

fn kvctl(command: &str, log: &Path, arguments: &[&str]) -> Run {
    let log = log.to_str().unwrap();
    run(clean_command(KVCTL), &[&["wal", command, "--data", log], arguments].concat(), b"")
}

fn repair(log: &Path) -> Run {
    kvctl("repair", log, &["--accept-data-loss"])
}

/// Runs a repair that is killed at the n-th call of one kind; false if it does not come that far.
fn is_killed_at(log: &Path, call: &str, number: u32) -> bool {
    let mut strace = clean_command("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]);
    strace.args(["-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    strace.args([KVCTL, "wal", "repair", "--accept-data-loss", "--data"]).arg(log);
    let status = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.unwrap();
    // It ends as what it traced did.
    status.signal().is_some() || status.code() == Some(137)
}

/// What a kill may leave: a log that was not touched, or one that is marked.
fn assert_safe(log: &Path, before: &BTreeMap<PathBuf, Vec<u8>>, story: &str) {
    let now = tree(log.parent().unwrap());
    let is_in_log = |path: &&PathBuf| path.parent() == Some(log);
    let is_untouched =
        before.keys().filter(is_in_log).all(|path| now.get(path) == before.get(path));
    let inspector = Inspector::open(ReadOnlyDisk::open(log).unwrap()).unwrap();
    let opens = !matches!(inspector.verify(), Ok(Health::Lost(_)));
    drop(inspector);
    let is_marked = now.contains_key(&log.join(MARK));
    assert!(is_marked || (is_untouched && !opens), "{story}: touched and not marked");
    for (path, contents) in before.iter().filter(|(path, _)| path.parent() == Some(log)) {
        let is_kept = now.iter().any(|(held, kept)| held.parent() == Some(log) && kept == contents);
        assert!(is_kept, "{story}: {} is kept nowhere", path.display());
    }
    for arguments in [&["verify"][..], &["repair"]] {
        let checked = kvctl(arguments[0], log, &[]).expect_code(10);
        assert!(!checked.stderr.is_empty(), "{story}");
    }
    assert_eq!(tree(log.parent().unwrap()), now, "{story}: looking changed something");
}

fn killed_at_every_call(damage: Damage) {
    let directory = TempDir::with_prefix("kvctl-suite-").unwrap();
    let directory = directory.path().canonicalize().unwrap();
    let log = directory.join("log");
    make(&log, damage);
    let before = tree(&directory);
    repair(&log).expect_code(0);
    let expected = tree(&directory);
    assert!(expected.contains_key(&log.join(MARK)));
    assert!(expected.contains_key(&directory.join("log.backup-1")));
    let (mut kills, mut number) = (0, 0);
    for call in CALLS {
        loop {
            number += 1;
            put_back(&directory, &before);
            if !is_killed_at(&log, call, number) {
                number = 0;
                break;
            }
            kills += 1;
            let story = format!("killed at {call} {number}");
            assert_safe(&log, &before, &story);
            let again = repair(&log);
            assert!(matches!(again.code, Some(0 | 10)), "{story}: {}", again.stderr);
            let found = tree(&directory);
            let names =
                |tree: &BTreeMap<PathBuf, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&found), names(&expected), "{story}");
            assert!(found == expected, "{story}: other bytes");
        }
    }
    println!("{kills} kills");
    assert!(kills > 30, "{kills}");
}

fn half_made_copies() {
    let directory = TempDir::with_prefix("kvctl-suite-").unwrap();
    let directory = directory.path().canonicalize().unwrap();
    let log = directory.join("log");
    make(&log, Damage::Directory);
    let before = tree(&directory);
    repair(&log).expect_code(0);
    let expected = tree(&directory);
    let copy = directory.join("log.backup-1");

    // Interrupted while it copied.
    put_back(&directory, &before);
    let part = directory.join("log.backup-1.part");
    fs::create_dir(&part).unwrap();
    fs::write(segment(&part, 1), b"half of").unwrap();
    repair(&log).expect_code(0);
    assert!(tree(&directory) == expected, "half a copy is of no use to anybody");

    // Interrupted when the copy was whole.
    put_back(&directory, &before);
    fs::create_dir(&copy).unwrap();
    for path in before.keys().filter(|path| path.parent() == Some(&log)) {
        fs::copy(path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let again = repair(&log).expect_code(0);
    assert!(again.stdout.contains("is copied already"), "{}", again.stdout);
    assert!(tree(&directory) == expected, "one copy is enough");

    // A copy of something else is left alone.
    put_back(&directory, &before);
    fs::create_dir(&copy).unwrap();
    fs::write(segment(&copy, 1), b"of another log").unwrap();
    repair(&log).expect_code(0);
    assert_eq!(fs::read(segment(&copy, 1)).unwrap(), b"of another log");
    let other = directory.join("log.backup-2");
    assert!(fs::read(segment(&other, 2)).unwrap() == before[&segment(&log, 2)]);
}
