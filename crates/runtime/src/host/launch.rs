//! Starting a shim's process. Blocking: run on a thread for it.
//!
//! Invariant: the agent never has a zombie of it (the shim forks away and is adopted by init), and
//! the program file cannot be overwritten through a shim, not even by a container.

use std::fs::DirBuilder;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use sys::process::PidFd;

use crate::error::ShimError;
use crate::shim::main::Hello;
use crate::shim::sandbox::SPEC_FILE;
use crate::spec::SandboxSpec;

pub(super) fn launch(exe: &Path, dir: &Path, spec: &SandboxSpec) -> Result<(), ShimError> {
    let fail = |source: io::Error| ShimError::Launch {
        dir: dir.into(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(fail)?;
    if dir.join(SPEC_FILE).exists() {
        return Err(fail(io::ErrorKind::AlreadyExists.into()));
    }
    let spec = serde_json::to_vec(spec).map_err(|e| fail(e.into()))?;
    // Where the kernel has no such clone, the file is run as it is.
    let clone = sys::mount::read_only_clone(exe).ok();
    let program = clone.as_ref().map_or_else(
        || exe.to_owned(),
        |fd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())),
    );
    let mut child = Command::new(program)
        .arg0("knarr")
        .arg("shim")
        .arg("--dir")
        .arg(dir)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(fail)?;
    let told = (|| {
        let mut line = Vec::new();
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&spec)?;
        }
        if let Some(stdout) = child.stdout.take() {
            // One line, not the end: children of the shim may still hold the pipe.
            BufReader::new(stdout.take(64 * 1024)).read_until(b'\n', &mut line)?;
        }
        io::Result::Ok(line)
    })();
    child.wait().map_err(fail)?;
    match serde_json::from_slice(&told.map_err(fail)?) {
        Ok(Hello::Ready { .. }) => Ok(()),
        Ok(Hello::Failed { reason }) => Err(ShimError::Sandbox { reason }),
        Err(_) => Err(fail(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Kills a shim, should it still live, and waits for its end.
pub(super) fn kill(shim: &PidFd) {
    let _ = shim.signal(Signal::SIGKILL);
    let _ = shim.wait(nix::poll::PollTimeout::from(5000u16));
}
