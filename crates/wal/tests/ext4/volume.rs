//! An ext4 file system in a file, whose power can be cut.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Failed;
use tempfile::TempDir;

/// `EXT4_IOC_SHUTDOWN`: the file system does nothing more, and its journal is not flushed.
const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
const WITHOUT_FLUSHING_THE_JOURNAL: u32 = 2;

/// A mounted file system of its own, unmounted and removed when it is dropped.
pub(crate) struct Volume {
    directory: TempDir,
    device: String,
    is_mounted: bool,
    /// The image lies on a tmpfs of its own, which may be smaller than the image.
    is_on_tmpfs: bool,
}

fn run(command: &mut Command) -> Result<String, Failed> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

impl Volume {
    pub(crate) fn make(megabytes: u64) -> Result<Volume, Failed> {
        Volume::make_in(tempfile::tempdir()?, megabytes, false)
    }

    /// A file system that promises more space than there is behind it: writing back fails long
    /// after the write, as on a medium that dies.
    pub(crate) fn make_hollow(megabytes: u64, behind: u64) -> Result<Volume, Failed> {
        let directory = tempfile::tempdir()?;
        let size = format!("size={behind}m");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory.path()))?;
        Volume::make_in(directory, megabytes, true)
    }

    /// Puts all the promised space behind a hollow file system.
    pub(crate) fn fill_hollow(&self) -> Result<(), Failed> {
        let options = "remount,size=100%";
        run(Command::new("mount").args(["-o", options]).arg(self.directory.path()))?;
        Ok(())
    }

    fn make_in(directory: TempDir, megabytes: u64, is_on_tmpfs: bool) -> Result<Volume, Failed> {
        let image = directory.path().join("image");
        fs::File::create(&image)?.set_len(megabytes << 20)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        let device = run(Command::new("losetup").args(["-f", "--show"]).arg(&image))?;
        fs::create_dir(directory.path().join("mounted"))?;
        let mut volume = Volume { directory, device, is_mounted: false, is_on_tmpfs };
        volume.mount()?;
        Ok(volume)
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Where a log may live.
    pub(crate) fn path(&self) -> PathBuf {
        // A directory that the log makes itself, so that it must be durable too.
        self.root().join("log")
    }

    fn mount(&mut self) -> Result<(), Failed> {
        run(Command::new("mount").args(["-t", "ext4", &self.device]).arg(self.root()))?;
        self.is_mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), Failed> {
        run(Command::new("umount").arg(self.root()))?;
        self.is_mounted = false;
        Ok(())
    }

    /// From now on nothing reaches the device. What was synced is there, the rest is not.
    pub(crate) fn cut_power(&self) -> Result<(), Failed> {
        let root = fs::File::open(self.root())?;
        // SAFETY: the opcode takes a pointer to a u32, which is what the setter passes.
        unsafe {
            let call = rustix::ioctl::Setter::<SHUTDOWN, u32>::new(WITHOUT_FLUSHING_THE_JOURNAL);
            rustix::ioctl::ioctl(&root, call)?;
        }
        Ok(())
    }

    /// The power is back: the journal is replayed.
    pub(crate) fn mount_again(&mut self) -> Result<(), Failed> {
        self.unmount()?;
        self.mount()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.is_mounted && self.unmount().is_err() {
            // Whoever still has it open must not leave it behind in the tree.
            let _ = run(Command::new("umount").arg("-l").arg(self.root()));
        }
        let _ = run(Command::new("losetup").args(["-d", &self.device]));
        if self.is_on_tmpfs {
            let _ = run(Command::new("umount").arg("-l").arg(self.directory.path()));
        }
    }
}
