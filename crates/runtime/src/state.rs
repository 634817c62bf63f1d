//! States of containers, in memory, on the wire, and on disk (`DIR/<container>/state.json`).
//!
//! Invariant: the file is replaced atomically, so a reader sees the old or the new state.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One container as the shim knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// How often a container of this name was started before.
    pub attempt: u32,
    /// What it is doing.
    pub state: State,
}

/// What a container is doing. Times are nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Being set up.
    Created,
    /// Running.
    Running {
        /// Process id on the host.
        pid: u32,
        /// When its program was executed.
        started_at_ns: i64,
    },
    /// Ended.
    Exited {
        /// Exit code; 128 + signal when a signal ended it.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The kernel killed a process of it for want of memory.
        oom_killed: bool,
        /// When its program was executed.
        started_at_ns: i64,
        /// When it ended.
        finished_at_ns: i64,
    },
}

impl State {
    /// Whether it has ended.
    pub fn is_exited(&self) -> bool {
        matches!(self, State::Exited { .. })
    }
}

/// What a started container looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process id on the host.
    pub pid: u32,
    /// When its program was executed, nanoseconds since the Unix epoch.
    pub started_at_ns: i64,
}

/// What a container uses now. A controller that is missing reads as `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time used in nanoseconds.
    pub cpu_usage_ns: Option<u64>,
    /// Memory with page cache, in bytes.
    pub memory_usage_bytes: Option<u64>,
    /// Memory less inactive file pages.
    pub memory_working_set_bytes: Option<u64>,
    /// Anonymous memory in bytes.
    pub memory_rss_bytes: Option<u64>,
    /// Page faults.
    pub memory_page_faults: Option<u64>,
    /// Page faults that needed a disk.
    pub memory_major_page_faults: Option<u64>,
    /// Its memory limit in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids_current: Option<u64>,
}

impl From<sys::cgroup::Stats> for Usage {
    fn from(s: sys::cgroup::Stats) -> Usage {
        Usage {
            cpu_usage_ns: s.cpu_usage_ns,
            memory_usage_bytes: s.memory_usage_bytes,
            memory_working_set_bytes: s.memory_working_set_bytes,
            memory_rss_bytes: s.memory_rss_bytes,
            memory_page_faults: s.memory_page_faults,
            memory_major_page_faults: s.memory_major_page_faults,
            memory_limit_bytes: s.memory_limit_bytes,
            pids_current: s.pids_current,
        }
    }
}

pub(crate) const STATE_FILE: &str = "state.json";

/// Writes the state into the container's folder.
pub(crate) fn save(dir: &Path, state: &ContainerState) -> io::Result<()> {
    let temporary = dir.join(".state.json");
    fs::write(&temporary, serde_json::to_vec(state)?)?;
    fs::rename(temporary, dir.join(STATE_FILE))
}

/// All states below a sandbox's folder. Works without a living shim; a container that such a file
/// calls running is lost then.
pub fn read_all(dir: &Path) -> io::Result<Vec<ContainerState>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)?.flatten() {
        if let Ok(bytes) = fs::read(entry.path().join(STATE_FILE))
            && let Ok(state) = serde_json::from_slice(&bytes)
        {
            all.push(state);
        }
    }
    Ok(all)
}

/// Now, in nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
