//! The name that everything Knarr makes on a host carries, and where its folders are.
//!
//! Two clusters on one machine never touch each other's bridge, nft table, cgroups or run
//! directory: each name has the instance in it, and the instance comes from the data directory.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::config::DEFAULT_DATA_DIR;

/// How long the lock of a process that is gone is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cluster's folders and name on this host.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// `main` for the default data directory, else eight hex digits of its path's hash.
    pub(crate) name: String,
    /// Everything that must survive a reboot.
    pub(crate) data_dir: PathBuf,
    /// Sockets and state of running pods; gone after a reboot.
    pub(crate) run_dir: PathBuf,
}

impl Instance {
    /// The instance of a data directory, which is made when it is missing.
    pub(crate) fn create(data_dir: &Path) -> Result<Self> {
        private_dir(data_dir)?;
        let instance = Self::of(data_dir)?;
        private_dir(&instance.run_dir)?;
        Ok(instance)
    }

    /// The instance of a data directory that may be gone already.
    pub(crate) fn of(data_dir: &Path) -> Result<Self> {
        let absolute = std::path::absolute(data_dir)
            .with_context(|| format!("the data directory {:?}", data_dir.display()))?;
        let data_dir = absolute.canonicalize().unwrap_or(absolute);
        let name = if data_dir == Path::new(DEFAULT_DATA_DIR) {
            "main".to_owned()
        } else {
            format!("{:08x}", fnv(data_dir.as_os_str().as_encoded_bytes()))
        };
        let run_dir = PathBuf::from(format!("/run/knarr-{name}"));
        Ok(Self {
            name,
            data_dir,
            run_dir,
        })
    }
}

/// Held by a running `knarr up`; the kernel frees it, however the process ends.
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Instance {
    fn lock_path(&self) -> PathBuf {
        self.data_dir.join("knarr.lock")
    }

    /// Takes the instance for this process.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.lock_path();
        let until = Instant::now() + PATIENCE;
        loop {
            let file = File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    let write = |file: &mut File| {
                        file.set_len(0)?;
                        file.write_all(format!("{}\n", std::process::id()).as_bytes())
                    };
                    write(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
                    return Ok(Lock { _file: file });
                }
                Err((mut file, _)) => {
                    let mut pid = String::new();
                    // Only for the words; a pid that cannot be read is left out.
                    let _unread = file.read_to_string(&mut pid);
                    let pid = pid.trim();
                    if is_gone(pid) && Instant::now() < until {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    bail!(
                        "another knarr (process {pid}) uses the data directory {}; \
                         stop it, or choose another directory with --data-dir",
                        self.data_dir.display()
                    )
                }
            }
        }
    }

    /// Removes the run directory when no pod is in it.
    pub(crate) fn tidy(&self) {
        // Each fails, as it should, when something is left inside.
        let _kept = std::fs::remove_dir(self.run_dir.join("pods"));
        let _kept = std::fs::remove_dir(&self.run_dir);
    }

    /// The process id of the `knarr up` that holds the lock, if one does.
    pub(crate) fn holder(&self) -> Option<i32> {
        let mut file = File::open(self.lock_path()).ok()?;
        let mut pid = String::new();
        file.read_to_string(&mut pid).ok()?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_free) => None,
            Err(_) => pid.trim().parse().ok(),
        }
    }

    /// Where the logs of containers go: where log shippers look, unless several clusters
    /// share the host.
    pub(crate) fn pod_log_dir(&self) -> PathBuf {
        if self.name == "main" {
            PathBuf::from("/var/log/pods")
        } else {
            self.data_dir.join("log/pods")
        }
    }
}

/// Whether a process has ended. Its lock may be held a moment longer, by a child that it had
/// just forked and that has not come to run its program.
fn is_gone(pid: &str) -> bool {
    pid.parse()
        .is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}

/// Makes a folder that only its owner may enter.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

/// FNV-1a, 32 bits: a stable short name, not a secret.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
