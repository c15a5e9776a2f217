//! Servers that stand still: processes that are stopped, disks that hang, fail or are full. Another
//! leads, nothing acknowledged is lost, and no read is stale, neither meanwhile nor afterwards.
//!
//! Tests that need root or a tool that is not there are shown as ignored, with the reason.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use verify::cluster::{Cluster, Settings, eventually};
use verify::load::{Load, found};
use verify::register::Register;

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(30);

/// How long a server or its disk stands still.
const STALL: Duration = Duration::from_secs(5);

/// Within this time another server leads: twice the longest election timeout.
const TAKE_OVER: Duration = Duration::from_secs(2);

fn main() {
    let arguments = Arguments::from_args();
    let (trace, mount) = (cannot_trace(), cannot_mount());
    let trials = vec![
        trial("a_stopped_leader_is_replaced_and_answers_nothing_stale", None, stopped_leader),
        trial("a_stopped_follower_costs_bounded_memory_and_catches_up", None, stopped_follower),
        trial("a_leader_whose_disk_hangs_is_replaced", trace, || hung_disk("inline")),
        trial("a_leader_whose_disk_hangs_beside_it_hands_over", trace, || hung_disk("thread")),
        trial("a_leader_whose_disk_fails_stops_loudly", trace, failed_disk),
        trial("a_leader_whose_disk_is_full_makes_way", mount, full_disk),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(name: &str, obstacle: Option<&'static str>, story: impl Fn() + Send + 'static) -> Trial {
    let told = move || -> Result<(), Failed> {
        story();
        Ok(())
    };
    match obstacle {
        None => Trial::test(name, told),
        Some(obstacle) => Trial::test(format!("{name} ({obstacle})"), told).with_ignored_flag(true),
    }
}

fn cannot_trace() -> Option<&'static str> {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    (!works.is_ok_and(|output| output.status.success())).then_some("needs a working strace")
}

fn cannot_mount() -> Option<&'static str> {
    (!rustix::process::geteuid().is_root()).then_some("needs root")
}

fn number_of(cluster: &Cluster, id: &str) -> usize {
    let found = cluster.servers().iter().position(|server| server.id() == id);
    found.expect("a server of the cluster")
}

fn register(cluster: &Cluster) -> Register {
    let addresses: Vec<_> = cluster.servers().iter().map(|server| server.address()).collect();
    Register::start(&addresses)
}

/// The term in which a server has been elected last.
fn term_of(cluster: &Cluster, leader: &str) -> u64 {
    let story = cluster.server(leader).story();
    let mut terms = story.lines().into_iter().filter_map(|line| {
        let event: serde_json::Value = serde_json::from_str(&line).ok()?;
        (event["event"] == "leader").then(|| event["term"].as_u64())?
    });
    terms.next_back().expect("a leader was elected")
}

/// Waits until another server leads than the one that led `term`.
fn wait_for_another(cluster: &Cluster, old: &str, term: u64) {
    eventually("another leader", TAKE_OVER, || {
        let mut others = cluster.servers().iter().filter(|server| server.id() != old);
        let leads = |line: &String| {
            let event: Option<serde_json::Value> = serde_json::from_str(line).ok();
            event.is_some_and(|event| {
                event["event"] == "leader" && event["term"].as_u64() > Some(term)
            })
        };
        others.any(|server| server.story().lines().iter().any(leads)).then_some(())
    });
}

fn stopped_leader() {
    let cluster = Cluster::started(KVCTL, 3);
    let register = register(&cluster);
    let leader = cluster.leader();
    let term = term_of(&cluster, &leader);
    let begun = Instant::now();
    cluster.server(&leader).pause();
    wait_for_another(&cluster, &leader, term);
    register.wait_for_write();
    // The stall is what is tested, so it lasts its time.
    thread::sleep(STALL.saturating_sub(begun.elapsed()));
    cluster.server(&leader).resume();
    register.wait_for_read(number_of(&cluster, &leader));
    register.wait_for_write();
    register.stop();
    cluster.wait_until_level(LIMIT);
}

/// With the disk on the server's own thread heartbeats stop, and the others elect a leader. With
/// the disk on another they do not, and only the leader itself can know that it is of no use.
fn hung_disk(disk: &str) {
    let extra = format!("[wal]\ndisk = \"{disk}\"\n");
    let mut cluster = Cluster::with(KVCTL, &Settings { servers: 3, extra });
    cluster.start_all();
    let register = register(&cluster);
    let leader = cluster.leader();
    let term = term_of(&cluster, &leader);
    let delay = format!("fdatasync:delay_enter={}:when=1", STALL.as_micros());
    let tracer = Tracer::attach(cluster.server(&leader).pid(), &delay);
    wait_for_another(&cluster, &leader, term);
    register.wait_for_write();
    // In line, it comes back, and the first thing that it does is to stop leading. With a thread it
    // has done so long before.
    cluster.server(&leader).story().wait_for_event("disk-slow", LIMIT);
    let why = cluster.server(&leader).story().wait_for_event("steps-down", LIMIT);
    assert_eq!(why["term"].as_u64(), Some(term), "it had not even heard of a later term");
    tracer.detach();
    register.wait_for_read(number_of(&cluster, &leader));
    register.wait_for_write();
    register.stop();
    cluster.wait_until_level(LIMIT);
}

fn failed_disk() {
    let mut cluster = Cluster::started(KVCTL, 3);
    let addresses: Vec<_> = cluster.servers().iter().map(|server| server.address()).collect();
    let load = Load::start(&addresses, 4, LIMIT);
    let leader = cluster.leader();
    let tracer = Tracer::attach(cluster.server(&leader).pid(), "fdatasync:error=EIO:when=1");
    let status = cluster.server_mut(&leader).wait();
    tracer.detach();
    assert!(!status.success(), "it must not end as if nothing was wrong: {status}");
    let told = cluster.server(&leader).story().lines().join("\n");
    assert!(told.contains("Input/output error"), "{told}");
    cluster.leader();
    let account = load.stop();
    assert!(account.refused.is_empty(), "{:?}", account.refused);
    cluster.start(&leader);
    cluster.wait_until_level(LIMIT);
    account.check(&found(&cluster));
}

fn full_disk() {
    let extra = "[wal]\nsegment = \"4MiB\"\n".to_owned();
    let mut cluster = Cluster::with(KVCTL, &Settings { servers: 3, extra });
    let small = "s1";
    let _mount = Mount::of_size(cluster.server(small).data(), "16m");
    cluster.start_all();
    eventually("the server with the small disk to lead", LIMIT, || {
        let leader = cluster.leader();
        if leader == small {
            return Some(());
        }
        cluster.server_mut(&leader).kill();
        cluster.start(&leader);
        None
    });
    let term = term_of(&cluster, small);
    let value = vec![b'v'; 256 << 10];
    let refusal = eventually("the disk to be full", LIMIT, || {
        let run = cluster.kvctl_with_input(&["set", "large", "-"], &value);
        (run.code != Some(0)).then_some(run)
    });
    assert!(refusal.stderr.contains("no space"), "{}", refusal.stderr);
    refusal.expect_code(6);
    wait_for_another(&cluster, small, term);
    cluster.kvctl_with_input(&["set", "large", "-"], &value).expect_code(0);
    cluster.kvctl(&["set", "after", "1"]).expect_code(0);
    cluster.kill_all();
}

/// What the leader may need beyond what it needs anyway: recent entries, what waits for the stopped
/// follower's socket, and buffers.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

fn stopped_follower() {
    const VALUE_BYTES: usize = 256 << 10;
    const WRITES: usize = 1200;
    let cluster = Cluster::started(KVCTL, 3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    // The same key again and again: the state does not grow, the log does.
    let value = vec![b'v'; VALUE_BYTES];
    write_often(&cluster, &value, 16);
    let before = cluster.server(&leader).resident_bytes();
    cluster.server(&follower).pause();
    write_often(&cluster, &value, WRITES);
    let after = cluster.server(&leader).resident_bytes();
    cluster.server(&follower).resume();
    let grown = after.saturating_sub(before);
    println!("{} MiB written, {} MiB more in memory", (WRITES * VALUE_BYTES) >> 20, grown >> 20);
    assert!(grown < GROWTH_BYTES_MAX, "the leader grew by {grown} bytes");
    assert_eq!(cluster.leader(), leader, "a follower that stands still deposes nobody");
    cluster.wait_until_level(LIMIT);
}

/// Writes one key through one client, some requests at a time.
fn write_often(cluster: &Cluster, value: &[u8], count: usize) {
    use kvstore::client::{Client, ClientOptions, Endpoint};
    let address = |it: &verify::cluster::Server| it.address().to_string();
    let endpoints =
        cluster.servers().iter().map(|it| Endpoint { id: None, address: address(it) }).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(async {
        let options = ClientOptions { endpoints, timeout: LIMIT, ..ClientOptions::default() };
        let client = Client::new(options).expect("the options make sense");
        let mut writes = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (client, value) = (client.clone(), value.to_vec());
            writes.spawn(async move { client.set("large", value).await });
            if writes.len() >= 16 {
                let written = writes.join_next().await.expect("there are some");
                written.expect("a write does not panic").expect("a majority is there");
            }
        }
        for written in writes.join_all().await {
            written.expect("a majority is there");
        }
    });
}

/// `strace` at work on a running process.
struct Tracer {
    child: Child,
}

impl Tracer {
    /// Attaches to a process and all its threads, with something injected.
    fn attach(pid: u32, inject: &str) -> Tracer {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
        strace.args(["-e", &format!("inject={inject}"), "-p", &pid.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Tracer { child: strace.spawn().expect("strace can be started") }
    }

    /// Lets go of the process, if it still runs.
    fn detach(self) {
        drop(self);
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Asked, it leaves its process as it was; it ends by itself when that ends.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A file system of a fixed size in a server's data directory.
struct Mount {
    directory: PathBuf,
}

impl Mount {
    fn of_size(directory: &Path, size: &str) -> Mount {
        std::fs::create_dir_all(directory).expect("a directory can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory);
        assert!(mount.status().expect("mount can be started").success(), "tmpfs can be mounted");
        Mount { directory: directory.to_owned() }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, for after a failure the server may still run.
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
    }
}
