//! A server tells its story to whoever reads it, and waits for nobody.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use verify::cluster::{Cluster, clean_command, eventually};

const KVCTL: &str = env!("CARGO_BIN_EXE_kvctl-under-test");
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_server_whose_story_nobody_reads_serves_and_ends_in_good_order() {
    let cluster = Cluster::new(KVCTL, 1);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = clean_command(KVCTL);
    command.args(["serve", "--id", "s1", "--config"]).arg(cluster.config());
    command.arg("--exit-with").arg(std::process::id().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer.try_clone().unwrap());
    // This fills the pipe until the reader goes.
    let filling = std::thread::spawn(move || while writer.write_all(&[b'\n'; 4096]).is_ok() {});
    eventually("a full pipe", LIMIT, || {
        let room = rustix::pipe::fcntl_getpipe_size(&reader).unwrap() as u64;
        (rustix::io::ioctl_fionread(&reader).unwrap() == room).then_some(())
    });
    let mut child = command.spawn().unwrap();
    drop(command);
    cluster.kvctl(&["set", "a", "1", "--timeout", "20s"]).expect_code(0);
    cluster.kvctl(&["get", "a"]).expect_code(0);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = eventually("the server's end", LIMIT, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    drop(reader);
    filling.join().unwrap();
}
