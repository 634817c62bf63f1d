//! One container as the shim holds it: state, outputs, log, input.
//!
//! Invariant: its state on disk is never older than what a client has been told.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use sys::cgroup::Cgroup;

use super::log::Log;
use super::streams::Output;
use crate::state::{self, ContainerState, State};

/// Bytes read from an output after its container ended, at most.
const LAST_BYTES: usize = 1 << 20;

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) state: ContainerState,
    /// `DIR/<container>`.
    pub(crate) dir: PathBuf,
    pub(crate) cgroup: Cgroup,
    /// Standard output (or the terminal), standard error.
    pub(crate) outputs: Vec<Output>,
    pub(crate) log: Option<Log>,
    /// The write end of its standard input, or the terminal's master.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) stdin_once: bool,
    pub(crate) wants_stdin: bool,
    /// Its processes do not end with the first one.
    pub(crate) shares_pids: bool,
}

impl Container {
    /// Its first process on the host, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self.state.state {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Sets and keeps the state.
    pub(crate) fn become_state(&mut self, new: State) {
        self.state.state = new;
        if let Err(error) = state::save(&self.dir, &self.state) {
            eprintln!("cannot keep the state of {}: {error}", self.state.id);
        }
    }

    /// Its first process has ended: takes the rest of its output, then the exit is on record.
    pub(crate) fn ended(&mut self, code: i32, signal: Option<i32>, scratch: &mut [u8]) {
        let State::Running { started_at_ns, .. } = self.state.state else {
            return;
        };
        if self.shares_pids
            && let Err(error) = self.cgroup.kill_all()
        {
            eprintln!(
                "cannot end the other processes of {}: {error}",
                self.state.id
            );
        }
        for output in &mut self.outputs {
            output.close(scratch, self.log.as_mut(), LAST_BYTES);
        }
        self.stdin = None;
        self.terminal = None;
        let oom_killed = self.cgroup.oom_kills() > 0;
        let finished_at_ns = state::now_ns();
        self.become_state(State::Exited {
            code,
            signal,
            oom_killed,
            started_at_ns,
            finished_at_ns,
        });
    }

    /// Reads what the outputs have, once each.
    pub(crate) fn pump(&mut self, output: usize, scratch: &mut [u8]) {
        if let Some(output) = self.outputs.get_mut(output) {
            output.pump(scratch, self.log.as_mut());
        }
    }

    /// A descriptor that writes to its standard input. With `stdin_once` it is the last one.
    pub(crate) fn take_stdin(&mut self) -> std::io::Result<Option<OwnedFd>> {
        if !self.wants_stdin {
            return Ok(None);
        }
        if let Some(terminal) = &self.terminal {
            return terminal.as_fd().try_clone_to_owned().map(Some);
        }
        if self.stdin_once {
            return Ok(self.stdin.take());
        }
        self.stdin
            .as_ref()
            .map(|fd| fd.as_fd().try_clone_to_owned())
            .transpose()
    }

    /// Removes its cgroup and folder.
    pub(crate) fn remove(&self) -> Result<(), sys::cgroup::CgroupError> {
        self.cgroup.remove(std::time::Duration::from_secs(2))?;
        let _ = fs::remove_dir_all(&self.dir);
        Ok(())
    }
}
