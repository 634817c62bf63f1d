//! Killing all of a cgroup and removing it.
//!
//! Invariant: waiting is bounded; what is gone already is no error.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Cgroup, CgroupError, Version, io_error, is_gone, write};

impl Cgroup {
    /// Sends SIGKILL to every process in this group and below it. Returns at once; the processes
    /// end soon after.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        if let Some(dir) = self.unified_dir()
            && dir.is_dir()
        {
            match fs::write(dir.join("cgroup.kill"), "1") {
                Ok(()) => {}
                Err(e) if is_gone(&e) => {} // a kernel before 5.14
                Err(e) => return Err(io_error("write", &dir.join("cgroup.kill"))(e)),
            }
            if self.cgroups().version() == Version::V2 && dir.join("cgroup.kill").exists() {
                return Ok(());
            }
        }
        // Version 1, and whoever escaped from the version 2 side: frozen, so that none can fork away.
        let tree = self.tree();
        if tree.iter().all(|group| group.pids().is_empty()) {
            return Ok(());
        }
        self.freeze(true);
        for group in &tree {
            for pid in group.pids() {
                if let Ok(pid) = i32::try_from(pid) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
        self.freeze(false);
        Ok(())
    }

    /// Stops (or lets go on) every process of the group, as far as the host can.
    pub fn freeze(&self, frozen: bool) {
        let Ok(dir) = self.dir("freezer") else { return };
        let (file, text) = match (self.cgroups().version(), frozen) {
            (Version::V2, true) => ("cgroup.freeze", "1"),
            (Version::V2, false) => ("cgroup.freeze", "0"),
            (_, true) => ("freezer.state", "FROZEN"),
            (_, false) => ("freezer.state", "THAWED"),
        };
        let _ = write(&dir.join(file), text);
    }

    /// Whether a process is left in this group or below it.
    pub fn is_populated(&self) -> bool {
        self.tree().iter().any(|group| !group.pids().is_empty())
    }

    /// Removes the group and all below it, killing again what is still alive, for `patience` at
    /// most. Idempotent.
    pub fn remove(&self, patience: Duration) -> Result<(), CgroupError> {
        let until = Instant::now() + patience;
        let mut pause = Duration::from_micros(500);
        loop {
            let Err(busy) = self.try_remove()? else {
                return Ok(());
            };
            if Instant::now() >= until {
                return Err(CgroupError::Busy { path: busy });
            }
            self.kill_all()?;
            // The kernel has no event on version 1 that says "now it is empty".
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn try_remove(&self) -> Result<Result<(), std::path::PathBuf>, CgroupError> {
        let tree = self.tree();
        for hierarchy in &self.all.hierarchies {
            for group in &tree {
                let dir = group.dir_in(hierarchy);
                if let Err(path) = remove_dir(&dir)? {
                    return Ok(Err(path));
                }
            }
        }
        Ok(Ok(()))
    }
}

fn remove_dir(dir: &Path) -> Result<Result<(), std::path::PathBuf>, CgroupError> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(Ok(())),
        Err(e) if is_gone(&e) => Ok(Ok(())),
        Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => Ok(Err(dir.into())),
        Err(e) => Err(io_error("remove", dir)(e)),
    }
}
