//! The shim's start: leave the starter, set the sandbox up, say so, serve.
//!
//! Invariant: the starter hears exactly one line on standard output: the pid, or what went wrong;
//! in the second case nothing is left behind.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use serde::{Deserialize, Serialize};

use super::create::chain;
use super::sandbox::{self, Sandbox};
use super::server::Server;
use crate::spec::SandboxSpec;

/// The shim's socket in its folder.
pub(crate) const SOCKET: &str = "shim.sock";
const LOG: &str = "shim.log";

/// The one line that the starter reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Hello {
    Ready { pid: u32 },
    Failed { reason: String },
}

/// `knarr shim --dir DIR`: runs until the sandbox is shut down. `args` are those after `shim`; the
/// sandbox's spec comes as JSON on standard input. Call it first thing in `main`, before any thread.
pub fn shim_main(args: Vec<OsString>) -> ExitCode {
    let dir = match args.as_slice() {
        [flag, dir] if flag == "--dir" => PathBuf::from(dir),
        _ => {
            eprintln!("usage: knarr shim --dir DIR < SPEC");
            return ExitCode::from(2);
        }
    };
    // SAFETY: this process has just been executed and has one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => ExitCode::SUCCESS,
        Ok(ForkResult::Child) => run(&dir),
        Err(errno) => {
            hello(&Hello::Failed {
                reason: format!("cannot fork: {errno}"),
            });
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path) -> ExitCode {
    match set_up(dir) {
        Ok(server) => server.run(),
        Err(reason) => {
            hello(&Hello::Failed { reason });
            let _ = clean_up(dir, Duration::from_secs(2));
            ExitCode::FAILURE
        }
    }
}

fn hello(hello: &Hello) {
    let line = serde_json::to_string(hello).unwrap_or_default();
    let _ = writeln!(io::stdout(), "{line}");
}

fn set_up(dir: &Path) -> Result<Server, String> {
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(told("cannot read the sandbox's spec"))?;
    let spec: SandboxSpec =
        serde_json::from_slice(&bytes).map_err(|e| format!("sandbox spec: {e}"))?;
    leave_starter(dir).map_err(told("cannot leave the starter"))?;

    let path = dir.join(sandbox::SPEC_FILE);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.as_mut()
        .map_or_else(|e| Err(io::Error::from(e.kind())), |f| f.write_all(&bytes))
        .map_err(told("cannot keep the spec"))?;
    drop(bytes);

    let signals = signals().map_err(told("cannot set up signals"))?;
    let sandbox = Sandbox::enter(dir, spec).map_err(|e| chain(&e))?;
    let listener = listen(dir).map_err(told("cannot listen"))?;
    hello(&Hello::Ready {
        pid: std::process::id(),
    });
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(told("/dev/null"))?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .map_err(|e| e.to_string())?;
    Ok(Server::new(sandbox, listener, signals))
}

/// A session of its own, standard error to the shim's own log, orphans to it, nothing inherited.
fn leave_starter(dir: &Path) -> io::Result<()> {
    setsid()?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(dir.join(LOG))?;
    dup2_stderr(&log)?;
    drop(log);
    // SAFETY: nothing here uses descriptors that were inherited.
    unsafe { libc::syscall(libc::SYS_close_range, 3, i32::MAX, 0) };
    nix::unistd::chdir("/")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let _ = nix::sys::prctl::set_name(c"knarr-shim");
    sys::process::become_subreaper()
}

/// The shim learns of children by descriptor, and ends only on request or by SIGKILL.
fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

fn listen(dir: &Path) -> io::Result<UnixListener> {
    let folder = File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(SOCKET);
    let _ = fs::remove_file(&short);
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&short);
    nix::sys::stat::umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Kills and removes what a sandbox left: processes, cgroup, mounts, folder.
pub(crate) fn clean_up(
    dir: &Path,
    patience: Duration,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    match fs::read(dir.join(sandbox::SPEC_FILE)) {
        Ok(bytes) => {
            let spec: SandboxSpec = serde_json::from_slice(&bytes)?;
            let cgroup = sys::cgroup::Cgroups::detect()?.group(&spec.cgroup)?;
            sandbox::clean(&cgroup, dir, patience)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            sys::mount::unmount_below(dir)?;
        }
        Err(error) => return Err(error.into()),
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
