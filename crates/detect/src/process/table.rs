//! The table: threads by their numbers, descriptors by table and number, containers by path.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::cgroup::{Container, Containers, container_of};
use super::{Fd, Text, Thread};

/// How much the table holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads; upstream's default is 262,144.
    pub threads: usize,
    /// Descriptors of one process.
    pub fds: usize,
    /// Paths of control groups whose container is remembered.
    pub cgroups: usize,
    /// Generations that an ancestry goes back.
    pub ancestors: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            threads: 262_144,
            fds: 4096,
            cgroups: 16_384,
            ancestors: 64,
        }
    }
}

/// Counts of what the table did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Threads that are known.
    pub threads: usize,
    /// Threads that events told of and of which nothing else was known.
    pub unknown: u64,
    /// Threads that were not taken in because the table was full.
    pub threads_full: u64,
    /// Descriptors that were not taken in because their process has too many.
    pub fds_full: u64,
}

/// How many unknown threads are looked up in a row.
pub(super) const LOOKUPS: u32 = 1024;

/// The descriptors of a process, which a fork copies only when one of both changes them.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) fds: Arc<HashMap<i64, Fd>>,
    /// How many threads share them.
    pub(super) users: usize,
}

/// Processes, threads and descriptors.
pub struct Table {
    pub(super) limits: Limits,
    pub(super) threads: HashMap<i64, Thread>,
    pub(super) files: HashMap<u64, Files>,
    next_files: u64,
    /// What the last event ended: gone with the next one.
    pub(super) ended_thread: Option<i64>,
    pub(super) ended_fd: Option<(u64, i64)>,
    known: Option<Box<dyn Containers>>,
    by_path: HashMap<Text, Option<Arc<Container>>>,
    pub(super) stats: TableStats,
    /// Where unknown threads are looked up, when the events are of this machine.
    pub(super) proc: Option<PathBuf>,
    /// How many more may be looked up until [`Table::forget_gone`].
    pub(super) lookups: u32,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new(Limits::default(), None)
    }
}

impl Table {
    /// An empty table. `known` is asked for the container of a control group first.
    #[must_use]
    pub fn new(limits: Limits, known: Option<Box<dyn Containers>>) -> Self {
        Self {
            limits,
            threads: HashMap::new(),
            files: HashMap::new(),
            next_files: 1,
            ended_thread: None,
            ended_fd: None,
            known,
            by_path: HashMap::new(),
            stats: TableStats::default(),
            proc: None,
            lookups: LOOKUPS,
        }
    }

    /// What is known of a thread.
    #[must_use]
    pub fn thread(&self, tid: i64) -> Option<&Thread> {
        self.threads.get(&tid)
    }

    /// The leader of a thread's process; the thread itself when the leader is not known.
    #[must_use]
    pub fn process(&self, tid: i64) -> Option<&Thread> {
        let thread = self.threads.get(&tid)?;
        Some(self.threads.get(&thread.pid).unwrap_or(thread))
    }

    /// Every thread, in no order.
    pub fn threads(&self) -> impl Iterator<Item = &Thread> {
        self.threads.values()
    }

    /// The process that made the process of `tid`.
    #[must_use]
    pub fn parent(&self, tid: i64) -> Option<&Thread> {
        let process = self.process(tid)?;
        let parent = self.process(process.ptid)?;
        (parent.pid != process.pid).then_some(parent)
    }

    /// The process that made it, the one that made that, and so on; never in a circle.
    pub fn ancestors(&self, tid: i64) -> impl Iterator<Item = &Thread> {
        let mut next = self.parent(tid);
        let mut seen = HashSet::new();
        std::iter::from_fn(move || {
            let ancestor = next?;
            if seen.len() >= self.limits.ancestors || !seen.insert(ancestor.pid) {
                return None;
            }
            next = self.parent(ancestor.tid);
            Some(ancestor)
        })
    }

    /// The leader of the session of `tid`: the process of that number, or where that is gone the
    /// oldest ancestor of the same session.
    #[must_use]
    pub fn session_leader(&self, tid: i64) -> Option<&Thread> {
        let process = self.process(tid)?;
        if process.sid > 0
            && let Some(leader) = self.threads.get(&process.sid)
        {
            return Some(leader);
        }
        let same = |ancestor: &&Thread| ancestor.sid == process.sid;
        self.ancestors(tid)
            .take_while(same)
            .last()
            .or(Some(process))
    }

    /// A descriptor of a thread.
    #[must_use]
    pub fn fd(&self, tid: i64, fd: i64) -> Option<&Fd> {
        let thread = self.threads.get(&tid)?;
        self.files.get(&thread.files)?.fds.get(&fd)
    }

    /// The descriptors of a thread, in no order.
    pub fn fds(&self, tid: i64) -> impl Iterator<Item = (i64, &Fd)> {
        self.threads
            .get(&tid)
            .and_then(|thread| self.files.get(&thread.files))
            .into_iter()
            .flat_map(|files| files.fds.iter().map(|(fd, open)| (*fd, open)))
    }

    /// A path as `tid` means it: relative to a folder's descriptor, or to the working directory when
    /// that is `AT_FDCWD` (-100). Nothing when the folder is not known.
    #[must_use]
    pub fn resolve(&self, tid: i64, dirfd: i64, path: &[u8]) -> Option<Text> {
        if path.first() == Some(&b'/') {
            return Some(join(b"/", path));
        }
        if dirfd == AT_FDCWD {
            let process = self.process(tid)?;
            return (!process.cwd.is_empty()).then(|| process.absolute(path));
        }
        let folder = self.fd(tid, dirfd)?.path()?;
        Some(join(folder, path))
    }

    /// Counts of what the table did.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        TableStats {
            threads: self.threads.len(),
            ..self.stats
        }
    }

    /// Takes a thread in, with descriptors of its own: none, or a copy of those of `from`.
    pub(super) fn insert(&mut self, mut thread: Thread, share: Option<u64>) -> bool {
        if self.threads.len() >= self.limits.threads && !self.threads.contains_key(&thread.tid) {
            self.stats.threads_full += 1;
            return false;
        }
        self.remove(thread.tid);
        thread.files = match share.filter(|files| self.files.contains_key(files)) {
            Some(files) => files,
            None => self.new_files(Arc::default()),
        };
        if let Some(files) = self.files.get_mut(&thread.files) {
            files.users += 1;
        }
        self.threads.insert(thread.tid, thread);
        true
    }

    /// A new table of descriptors, which nobody uses yet.
    pub(super) fn new_files(&mut self, fds: Arc<HashMap<i64, Fd>>) -> u64 {
        let files = self.next_files;
        self.next_files += 1;
        self.files.insert(files, Files { fds, users: 0 });
        files
    }

    /// The descriptors of `files`, to be copied.
    pub(super) fn copy_of(&self, files: u64) -> Arc<HashMap<i64, Fd>> {
        self.files
            .get(&files)
            .map(|files| Arc::clone(&files.fds))
            .unwrap_or_default()
    }

    /// Forgets a thread.
    pub(super) fn remove(&mut self, tid: i64) {
        if let Some(thread) = self.threads.remove(&tid) {
            self.leave_files(thread.files);
        }
    }

    pub(super) fn leave_files(&mut self, id: u64) {
        if let Some(files) = self.files.get_mut(&id) {
            files.users = files.users.saturating_sub(1);
            if files.users == 0 {
                self.files.remove(&id);
            }
        }
    }

    /// Takes a descriptor in.
    pub(super) fn open(&mut self, tid: i64, fd: i64, open: Fd) {
        let limit = self.limits.fds;
        let Some(files) = self
            .threads
            .get(&tid)
            .and_then(|thread| self.files.get_mut(&thread.files))
        else {
            return;
        };
        if files.fds.len() >= limit && !files.fds.contains_key(&fd) {
            self.stats.fds_full += 1;
            return;
        }
        Arc::make_mut(&mut files.fds).insert(fd, open);
    }

    /// Changes a descriptor, when it is known.
    pub(super) fn change(&mut self, tid: i64, fd: i64, change: impl FnOnce(&mut Fd)) {
        if let Some(files) = self
            .threads
            .get(&tid)
            .and_then(|thread| self.files.get_mut(&thread.files))
            && files.fds.contains_key(&fd)
            && let Some(open) = Arc::make_mut(&mut files.fds).get_mut(&fd)
        {
            change(open);
        }
    }

    /// The container of a list of control groups: by who knows, then by the habits of runtimes.
    pub(super) fn container(&mut self, cgroups: &Text) -> Option<Arc<Container>> {
        if cgroups.is_empty() {
            return None;
        }
        if let Some(found) = self.by_path.get(cgroups) {
            return found.clone();
        }
        let mut found = None;
        for (_, path) in super::cgroup::control_groups(cgroups) {
            let path = String::from_utf8_lossy(path);
            if path == "/" {
                continue;
            }
            let known = self.known.as_mut().and_then(|known| known.container(&path));
            found = known.or_else(|| container_of(&path).map(Arc::new));
            if found.is_some() {
                break;
            }
        }
        if self.by_path.len() >= self.limits.cgroups {
            self.by_path.clear();
        }
        self.by_path.insert(Arc::clone(cgroups), found.clone());
        found
    }
}

/// The descriptor that means the working directory.
pub(super) const AT_FDCWD: i64 = -100;

/// `path` from the folder `base`, with `.` and `..` and double slashes taken out.
pub(super) fn join(base: &[u8], path: &[u8]) -> Text {
    let mut parts: Vec<&[u8]> = Vec::new();
    let relative = path.first() != Some(&b'/');
    let base = if relative { base } else { &[] };
    for part in base.split(slash).chain(path.split(slash)) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    if parts.is_empty() {
        return Arc::from(&b"/"[..]);
    }
    let mut joined = Vec::with_capacity(base.len() + path.len() + 1);
    for part in parts {
        joined.push(b'/');
        joined.extend_from_slice(part);
    }
    Arc::from(joined)
}

fn slash(byte: &u8) -> bool {
    *byte == b'/'
}
