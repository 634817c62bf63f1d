//! The last steps of every process that runs in a container, its first one or exec'ed: limits,
//! working directory, privileges, filter, `execve`.
//!
//! Invariant: these run single-threaded in a child that is about to become the program. On failure
//! the reason goes to the starter through a pipe that `execve` closes.

use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::stat::fstat;
use nix::unistd::{AccessFlags, Gid, Uid, access, fchown};

use crate::caps::Privileges;
use crate::seccomp::Filters;
use crate::spec::{Rlimit, User};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why the program could not be run, in the words that users know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotFound(String),
    #[error("exec: {0:?}: stat {0}: no such file or directory")]
    NoFile(String),
    #[error("exec: {0:?}: permission denied")]
    Denied(String),
    #[error("exec {0}: {1}")]
    Exec(String, Errno),
    #[error("no command specified")]
    NoCommand,
    #[error("chdir to cwd ({0:?}) set in config.json failed: {1}")]
    Cwd(PathBuf, Errno),
    #[error("current working directory is outside of container mount namespace root")]
    CwdOutside,
    #[error("set privileges and seccomp filter: {0}")]
    Privileges(io::Error),
    #[error("set user {0}: {1}")]
    User(u32, Errno),
    #[error("mount cgroups: {0}")]
    Cgroups(io::Error),
    #[error("set propagation of mount {0:?}: {1}")]
    Propagation(PathBuf, Errno),
    #[error("resource limit {0} is unknown")]
    Rlimit(String),
    #[error("resource limit {0}: {1}")]
    SetRlimit(String, Errno),
    #[error("argument or environment holds a NUL byte")]
    Nul(#[from] NulError),
}

/// All that a process needs for its last steps.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) user: User,
    pub(crate) privileges: Privileges,
    pub(crate) filters: Filters,
    pub(crate) rlimits: Vec<Rlimit>,
}

impl Process {
    /// Finds the program. Call it inside the container's root, as the container's user.
    pub(crate) fn find_program(&self) -> Result<PathBuf, ProcessError> {
        let name = self
            .argv
            .first()
            .filter(|n| !n.is_empty())
            .ok_or(ProcessError::NoCommand)?;
        let runnable = |path: &Path| -> Result<(), Errno> {
            let meta = nix::sys::stat::stat(path)?;
            if meta.st_mode & libc::S_IFMT == libc::S_IFDIR {
                return Err(Errno::EACCES);
            }
            // Root may read everything, but run only what has an x bit somewhere.
            access(path, AccessFlags::X_OK)
        };
        if name.contains('/') {
            let path = self.cwd.join(name);
            return match runnable(&path) {
                Ok(()) => Ok(path),
                Err(Errno::ENOENT | Errno::ENOTDIR) => Err(ProcessError::NoFile(name.clone())),
                Err(_) => Err(ProcessError::Denied(name.clone())),
            };
        }
        let path = self
            .env
            .iter()
            .rev()
            .find_map(|e| e.strip_prefix("PATH="))
            .unwrap_or_default();
        let mut denied = false;
        for dir in path.split(':').map(|d| if d.is_empty() { "." } else { d }) {
            let candidate = self.cwd.join(dir).join(name);
            match runnable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(Errno::EACCES | Errno::EPERM) => denied = true,
                Err(_) => {}
            }
        }
        Err(if denied {
            ProcessError::Denied(name.clone())
        } else {
            ProcessError::NotFound(name.clone())
        })
    }

    /// Steps that need the privileges that go next: limits, streams' owner, working directory.
    pub(crate) fn prepare(&mut self) -> Result<(), ProcessError> {
        set_rlimits(&self.rlimits)?;
        own_streams(self.user.uid);
        if self.cwd.as_os_str().is_empty() {
            self.cwd = "/".into();
        }
        enter_cwd(&self.cwd)?;
        if !self.env.iter().any(|e| e.starts_with("HOME=")) {
            self.env.push(format!("HOME={}", home_of(self.user.uid)));
        }
        Ok(())
    }

    /// Drops privileges and becomes the program. Returns only on failure.
    pub(crate) fn become_program(&self, program: &Path) -> ProcessError {
        match self.try_become(program) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn try_become(&self, program: &Path) -> Result<std::convert::Infallible, ProcessError> {
        let strings = |list: &[String]| {
            list.iter()
                .map(|s| CString::new(s.as_str()))
                .collect::<Result<Vec<_>, _>>()
        };
        let (argv, env) = (strings(&self.argv)?, strings(&self.env)?);
        let file = CString::new(program.as_os_str().as_bytes())?;
        // What the shim blocks or ignores must not reach the program.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
        // SAFETY: sets the default action; no handler is involved.
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
        self.privileges
            .drop_all(&self.filters)
            .map_err(ProcessError::Privileges)?;
        nix::unistd::execve(&file, &argv, &env)
            .map_err(|errno| ProcessError::Exec(self.argv[0].clone(), errno))
    }

    /// Becomes the user, keeping capabilities for the last step. For exec'ed processes; libcontainer
    /// does it for first ones.
    pub(crate) fn become_user(&self) -> Result<(), ProcessError> {
        let fail = |errno| ProcessError::User(self.user.uid, errno);
        let mut gids = vec![Gid::from_raw(self.user.gid)];
        gids.extend(
            self.user
                .additional_gids
                .iter()
                .filter(|g| **g != self.user.gid)
                .map(|g| Gid::from_raw(*g)),
        );
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        nix::unistd::setgroups(&gids).map_err(fail)?;
        nix::sys::prctl::set_keepcaps(true).map_err(fail)?;
        nix::unistd::setresgid(gid, gid, gid).map_err(fail)?;
        nix::unistd::setresuid(uid, uid, uid).map_err(fail)?;
        nix::sys::prctl::set_keepcaps(false).map_err(fail)?;
        crate::caps::raise_effective().map_err(ProcessError::Privileges)
    }
}

/// The environment of a container's process, what is always there added. A later line of the same
/// name replaces an earlier one.
pub(crate) fn environment(
    own: &[String],
    added: &[String],
    hostname: &str,
    tty: bool,
) -> Vec<String> {
    let host = format!("HOSTNAME={hostname}");
    let mut defaults = vec![DEFAULT_PATH, host.as_str()];
    if tty {
        defaults.push("TERM=xterm");
    }
    let mut order: Vec<&str> = Vec::new();
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for line in defaults
        .into_iter()
        .chain(own.iter().map(String::as_str))
        .chain(added.iter().map(String::as_str))
    {
        let name = line.split('=').next().unwrap_or(line);
        if values.insert(name, line).is_none() {
            order.push(name);
        }
    }
    order
        .into_iter()
        .filter_map(|name| values.get(name))
        .map(|line| (*line).to_owned())
        .collect()
}

/// The container's user must be able to open `/dev/stdout`; null and the host's files stay as they are.
fn own_streams(uid: u32) {
    for fd in 0..3 {
        // SAFETY: standard descriptors stay open until this process becomes the program.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let Ok(stat) = fstat(fd) else { continue };
        let kind = stat.st_mode & libc::S_IFMT;
        let terminal = kind == libc::S_IFCHR && libc::major(stat.st_rdev) == 136;
        if kind == libc::S_IFIFO || terminal {
            let _ = fchown(fd.as_fd(), Some(Uid::from_raw(uid)), None);
        }
    }
}

fn enter_cwd(cwd: &Path) -> Result<(), ProcessError> {
    if !cwd.is_absolute() {
        return Err(ProcessError::Cwd(cwd.into(), Errno::EINVAL));
    }
    if !cwd.exists() {
        let _ = std::fs::create_dir_all(cwd); // chdir tells what is wrong
    }
    nix::unistd::chdir(cwd).map_err(|errno| ProcessError::Cwd(cwd.into(), errno))?;
    // A path such as /proc/self/fd/7 may lead to a folder of the host.
    match nix::unistd::getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => Err(ProcessError::CwdOutside),
    }
}

fn home_of(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let mut homes = line.filter(|f| f.get(2).and_then(|u| u.parse().ok()) == Some(uid));
    homes
        .find_map(|f| f.get(5).filter(|h| !h.is_empty()).map(|h| (*h).to_owned()))
        .unwrap_or_else(|| "/".into())
}

fn set_rlimits(limits: &[Rlimit]) -> Result<(), ProcessError> {
    use nix::sys::resource::{Resource, setrlimit};
    for limit in limits {
        let resource = match limit.name.trim_start_matches("RLIMIT_") {
            "AS" => Resource::RLIMIT_AS,
            "CORE" => Resource::RLIMIT_CORE,
            "CPU" => Resource::RLIMIT_CPU,
            "DATA" => Resource::RLIMIT_DATA,
            "FSIZE" => Resource::RLIMIT_FSIZE,
            "LOCKS" => Resource::RLIMIT_LOCKS,
            "MEMLOCK" => Resource::RLIMIT_MEMLOCK,
            "MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
            "NICE" => Resource::RLIMIT_NICE,
            "NOFILE" => Resource::RLIMIT_NOFILE,
            "NPROC" => Resource::RLIMIT_NPROC,
            "RSS" => Resource::RLIMIT_RSS,
            "RTPRIO" => Resource::RLIMIT_RTPRIO,
            "SIGPENDING" => Resource::RLIMIT_SIGPENDING,
            "STACK" => Resource::RLIMIT_STACK,
            _ => return Err(ProcessError::Rlimit(limit.name.clone())),
        };
        match setrlimit(resource, limit.soft, limit.hard) {
            // Raising needs CAP_SYS_RESOURCE, which not every host's root has.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(ProcessError::SetRlimit(limit.name.clone(), errno)),
        }
    }
    Ok(())
}

/// Writes the OOM score adjustment of this process. Lowering it may be forbidden: then it stays.
pub(crate) fn set_oom_score_adj(score: i32) {
    let _ = std::fs::write(
        "/proc/self/oom_score_adj",
        score.clamp(-1000, 1000).to_string(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_merge_in_order() {
        let lines = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let own = lines(&["A=1", "PATH=/bin", "A=2", "ODD"]);
        let got = environment(&own, &lines(&["B=3", "HOSTNAME=x"]), "pod", true);
        assert_eq!(
            got,
            lines(&["PATH=/bin", "HOSTNAME=x", "TERM=xterm", "A=2", "ODD", "B=3"])
        );
    }
}
