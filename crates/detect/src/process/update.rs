//! How events change the table.
//!
//! Invariant: an event changes only what it tells. Where a call failed nothing changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::fd::{Anonymous, Fd, FdKind, L4};
use super::table::{AT_FDCWD, Table};
use super::thread::{Executable, Thread};
use super::{Text, no_text};
use crate::event::value::texts;
use crate::event::{Event, EventSchema, EventType as T, SockAddr, SockTuple, Value};

const CL_FILES: u32 = 1 << 0;
const CL_THREAD: u32 = 1 << 13;
const EXE_WRITABLE: i64 = 1 << 0;
const EXE_UPPER_LAYER: i64 = 1 << 1;
const EXE_FROM_MEMFD: i64 = 1 << 2;
const EXE_LOWER_LAYER: i64 = 1 << 3;
const O_CLOEXEC: u32 = 1 << 12;
const O_DIRECTORY: u32 = 1 << 10;
const F_DUPFD: i64 = 1;
const F_SETFD: i64 = 3;
const F_DUPFD_CLOEXEC: i64 = 26;
const CLOSE_RANGE_CLOEXEC: i64 = 1 << 2;
const PR_SET_NAME: i64 = 15;
/// A thread that is made again within this time is the one that is known already: the parent's side
/// of a clone may come before the child's. (Upstream's CLONE_STALE_TIME_NS.)
const CLONE_STALE_NS: u64 = 2_000_000_000;

impl Table {
    /// Changes what is known by an event. What the event ends is gone with the next one.
    pub fn apply(&mut self, event: &Event<'_>) {
        self.finish();
        let tid = event.tid;
        if tid <= 0 {
            return;
        }
        if !event.kind.is_exit() {
            self.entered(event);
        }
        match event.kind {
            T::CLONE_20_X | T::CLONE3_X | T::FORK_20_X | T::VFORK_20_X => self.cloned(event),
            T::EXECVE_16_X | T::EXECVE_17_X | T::EXECVE_18_X | T::EXECVE_19_X | T::EXECVEAT_X => {
                self.executed(event);
            }
            T::PROCEXIT_E | T::PROCEXIT_1_E => self.exited(event),
            _ => {
                // Of this machine more can be found out; a capture has told what it knows.
                if self.proc.is_some() {
                    self.know(tid);
                }
                let changes = event.schema().is_some_and(|schema| {
                    schema.has(EventSchema::MODIFIES_STATE | EventSchema::CREATES_FD)
                });
                if !changes || !event.kind.is_exit() || event.result().is_some_and(failed) {
                    return;
                }
                self.know(tid);
                self.changed(event);
            }
        }
    }

    /// Takes out what the last event ended.
    fn finish(&mut self) {
        if let Some(tid) = self.ended_thread.take() {
            self.remove(tid);
        }
        if let Some((files, fd)) = self.ended_fd.take()
            && let Some(files) = self.files.get_mut(&files)
            && files.fds.contains_key(&fd)
        {
            Arc::make_mut(&mut files.fds).remove(&fd);
        }
    }

    /// Makes sure that there is a thread of that number.
    fn know(&mut self, tid: i64) {
        if self.threads.contains_key(&tid) {
            return;
        }
        let thread = self.look_up(tid).unwrap_or_else(|| {
            self.stats.unknown += 1;
            Thread::unknown(tid)
        });
        let share = self.shared_with_leader(&thread);
        self.insert(thread, share);
    }

    fn shared_with_leader(&self, thread: &Thread) -> Option<u64> {
        let leader = self.threads.get(&thread.pid)?;
        (leader.tid != thread.tid).then_some(leader.files)
    }

    fn entered(&mut self, event: &Event<'_>) {
        let uses_fd = event
            .schema()
            .is_some_and(|schema| schema.has(EventSchema::USES_FD));
        if uses_fd
            && let Some(fd) = event.named("fd").and_then(|fd| fd.int())
            && let Some(thread) = self.threads.get_mut(&event.tid)
        {
            thread.entered = Some((event.kind, fd));
        }
    }

    /// The descriptor that an event is about: its own parameter, or what the enter event told.
    fn fd_of(&self, event: &Event<'_>) -> Option<i64> {
        if let Some(fd) = event.named("fd").and_then(|fd| fd.int()) {
            return Some(fd);
        }
        let (kind, fd) = self.threads.get(&event.tid)?.entered?;
        (kind.0 == event.kind.0 & !1).then_some(fd)
    }

    fn cloned(&mut self, event: &Event<'_>) {
        match event.result() {
            Some(0) => self.child_cloned(event),
            Some(child) if child > 0 => self.parent_cloned(event, child),
            _ => {}
        }
    }

    /// The child's side: it knows who it is, and has the rest of its parent.
    fn child_cloned(&mut self, event: &Event<'_>) {
        let tid = event.tid;
        if let Some(known) = self.threads.get(&tid)
            && known.clone_ns != 0
            && event.timestamp_ns.saturating_sub(known.clone_ns) < CLONE_STALE_NS
            && !known.exited
        {
            return;
        }
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let pid = int("pid").unwrap_or(tid);
        let ptid = int("ptid").unwrap_or(-1);
        let flags = word(int("flags"));
        let from = if flags & CL_THREAD != 0 { pid } else { ptid };
        if from > 0 && from != tid {
            self.know(from);
        }
        let ptid = self.leader_of(ptid);
        let mut thread = self.inherit(from, tid);
        thread.pid = pid;
        thread.ptid = ptid;
        thread.flags = flags;
        thread.vtid = int("vtid").unwrap_or(tid);
        thread.vpid = int("vpid").unwrap_or(-1);
        thread.clone_ns = event.timestamp_ns;
        self.tell_common(event, &mut thread);
        self.insert_cloned(thread, from, flags);
    }

    /// The process of a thread: children are its, whichever thread made them, and stay its when that
    /// thread ends.
    fn leader_of(&self, tid: i64) -> i64 {
        self.threads.get(&tid).map_or(tid, |thread| thread.pid)
    }

    /// The parent's side: makes the child known where its own side was lost, or came from another
    /// namespace and is yet to come.
    fn parent_cloned(&mut self, event: &Event<'_>, child: i64) {
        let parent = event.tid;
        self.know(parent);
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let vtid = int("vtid").unwrap_or(parent);
        // In a namespace of its own the parent sees a number that is not the host's.
        if self.threads.contains_key(&child) || vtid != parent {
            return;
        }
        let flags = word(int("flags"));
        let mut thread = self.inherit(parent, child);
        let leader = self
            .threads
            .get(&parent)
            .map_or(parent, |parent| parent.pid);
        let is_thread = flags & CL_THREAD != 0;
        thread.pid = if is_thread { leader } else { child };
        thread.ptid = leader;
        thread.flags = flags;
        thread.vtid = child;
        thread.vpid = thread.pid;
        thread.clone_ns = event.timestamp_ns;
        self.insert_cloned(thread, if is_thread { leader } else { parent }, flags);
    }

    /// What a new thread has of the one it was made from.
    fn inherit(&self, from: i64, tid: i64) -> Thread {
        let Some(source) = self.threads.get(&from) else {
            return Thread::unknown(tid);
        };
        let mut thread = source.clone();
        thread.tid = tid;
        thread.exited = false;
        thread.entered = None;
        thread
    }

    fn insert_cloned(&mut self, thread: Thread, from: i64, flags: u32) {
        let source = self.threads.get(&from).map(|source| source.files);
        let share = match source {
            Some(files) if flags & (CL_THREAD | CL_FILES) != 0 => Some(files),
            Some(files) => {
                let copy = self.copy_of(files);
                Some(self.new_files(copy))
            }
            None => None,
        };
        if !self.insert(thread, share)
            && let Some(files) = share
            && self.files.get(&files).is_some_and(|files| files.users == 0)
        {
            self.files.remove(&files);
        }
    }

    /// What the long events of clone and exec have in common.
    fn tell_common(&mut self, event: &Event<'_>, thread: &mut Thread) {
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let text = |name: &str| event.named(name).filter(|param| !param.bytes.is_empty());
        if let Some(exe) = text("exe") {
            thread.exe = share(exe.text(), &thread.exe);
        }
        if let Some(args) = event.named("args") {
            thread.args = share(args.bytes, &thread.args);
        }
        if let Some(comm) = text("comm") {
            thread.comm = share(comm.text(), &thread.comm);
        }
        if let Some(cwd) = text("cwd") {
            thread.cwd = share(cwd.text(), &thread.cwd);
        }
        if let Some(cgroups) = text("cgroups") {
            thread.cgroups = share(cgroups.bytes, &thread.cgroups);
            thread.container = self.container(&thread.cgroups);
        }
        let unsigned = |name: &str| int(name).map(i64::cast_unsigned);
        thread.fd_limit = unsigned("fdlimit").unwrap_or(thread.fd_limit);
        thread.major_faults = unsigned("pgft_maj").unwrap_or(thread.major_faults);
        thread.minor_faults = unsigned("pgft_min").unwrap_or(thread.minor_faults);
        thread.vm_size_kib = word(int("vm_size"));
        thread.vm_rss_kib = word(int("vm_rss"));
        thread.vm_swap_kib = word(int("vm_swap"));
        if let Some(uid) = int("uid") {
            thread.uid = word(Some(uid));
        }
        if let Some(gid) = int("gid") {
            thread.gid = word(Some(gid));
        }
        if let Some(start) = unsigned("pidns_init_start_ts").filter(|start| *start != 0) {
            thread.pidns_start_ns = start;
        }
    }

    fn executed(&mut self, event: &Event<'_>) {
        if event.result() != Some(0) {
            return;
        }
        let tid = event.tid;
        self.know(tid);
        let Some(mut thread) = self.threads.get(&tid).cloned() else {
            return;
        };
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        // Whichever thread ran it, it is the leader now, and the only one.
        thread.pid = int("pid").unwrap_or(thread.pid);
        thread.ptid = int("ptid").map_or(thread.ptid, |ptid| self.leader_of(ptid));
        self.tell_common(event, &mut thread);
        if let Some(env) = event.named("env") {
            thread.env = share(env.bytes, &thread.env);
        }
        thread.tty = int("tty").map_or(thread.tty, |tty| word(Some(tty)));
        thread.vpgid = int("vpgid").unwrap_or(thread.vpgid);
        thread.pgid = int("pgid").unwrap_or(thread.pgid);
        thread.loginuid = int("loginuid").map_or(thread.loginuid, |uid| word(Some(uid)));
        let bits = |name: &str, old: u64| int(name).map_or(old, i64::cast_unsigned);
        let caps = &mut thread.capabilities;
        caps.inheritable = bits("cap_inheritable", caps.inheritable);
        caps.permitted = bits("cap_permitted", caps.permitted);
        caps.effective = bits("cap_effective", caps.effective);
        thread.executable = Arc::new(self.executable(event, &thread));
        thread.exec_ns = event.timestamp_ns;
        self.threads.insert(tid, thread);
        self.close_on_exec(tid);
    }

    /// The file that is run: by the kernel's path, or where an old capture has none, by what the
    /// caller said.
    fn executable(&self, event: &Event<'_>, thread: &Thread) -> Executable {
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let has = |bit: i64| int("flags").is_some_and(|flags| flags & bit != 0);
        let text = |name: &str| event.named(name).map(|param| param.text());
        let trusted = text("trusted_exepath").filter(|path| !path.is_empty());
        let path = match trusted.or_else(|| text("filename").filter(|path| !path.is_empty())) {
            Some(path) if path.starts_with(b"memfd:") => Arc::from(path),
            Some(path) => self
                .resolve(thread.tid, AT_FDCWD, path)
                .unwrap_or_else(|| Arc::from(path)),
            None => no_text(),
        };
        let unsigned = |name: &str| int(name).map_or(0, i64::cast_unsigned);
        Executable {
            path,
            writable: has(EXE_WRITABLE),
            upper_layer: has(EXE_UPPER_LAYER),
            lower_layer: has(EXE_LOWER_LAYER),
            from_memfd: has(EXE_FROM_MEMFD),
            ino: unsigned("exe_ino"),
            ctime_ns: unsigned("exe_ino_ctime"),
            mtime_ns: unsigned("exe_ino_mtime"),
        }
    }

    /// After an exec a process has descriptors of its own, without those to be closed.
    fn close_on_exec(&mut self, tid: i64) {
        let Some(old) = self.threads.get(&tid).map(|thread| thread.files) else {
            return;
        };
        let fds = self.copy_of(old);
        let closes = fds.values().any(|fd| fd.close_on_exec);
        let shared = self.files.get(&old).is_some_and(|files| files.users > 1);
        if !closes && !shared {
            return;
        }
        let kept: HashMap<i64, Fd> = fds
            .iter()
            .filter(|(_, open)| !open.close_on_exec)
            .map(|(fd, open)| (*fd, open.clone()))
            .collect();
        let new = self.new_files(Arc::new(kept));
        if let Some(files) = self.files.get_mut(&new) {
            files.users = 1;
        }
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.files = new;
        }
        self.leave_files(old);
    }

    fn exited(&mut self, event: &Event<'_>) {
        let tid = event.tid;
        let reaper = event.named("reaper_tid").and_then(|param| param.int());
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        thread.exited = true;
        self.ended_thread = Some(tid);
        let pid = thread.pid;
        let others = |thread: &Thread| thread.pid == pid && thread.tid != tid && !thread.exited;
        if let Some(reaper) = reaper.filter(|reaper| *reaper > 0)
            && !self.threads.values().any(others)
        {
            for child in self.threads.values_mut() {
                if child.ptid == tid && child.pid != tid {
                    child.ptid = reaper;
                }
            }
        }
    }

    fn changed(&mut self, event: &Event<'_>) {
        let schema_name = event.kind.name().unwrap_or_default();
        match schema_name {
            "open" | "openat" | "openat2" | "creat" | "open_by_handle_at" => self.opened(event),
            "close" => self.closed(event),
            "close_range" => self.closed_range(event),
            "dup" | "dup2" | "dup3" | "fcntl" => self.duplicated(event),
            "pipe" | "pipe2" => self.piped(event),
            "socket" => self.socket(event),
            "socketpair" => self.paired(event),
            "bind" => self.bound(event),
            "connect" => self.connected(event),
            "accept" | "accept4" => self.accepted(event),
            "sendto" | "recvfrom" | "sendmsg" | "recvmsg" => self.spoken(event),
            "chdir" | "fchdir" => self.moved(event),
            "setuid" | "setresuid" | "setreuid" | "setgid" | "setresgid" | "setregid" => {
                self.set_ids(event, schema_name);
            }
            "setsid" | "setpgid" => self.regrouped(event, schema_name),
            "capset" => self.capabilities_set(event),
            "prctl" => self.renamed(event),
            other => self.anonymous(event, other),
        }
    }

    fn opened(&mut self, event: &Event<'_>) {
        let Some(fd) = event.result() else { return };
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let dirfd = int("dirfd").unwrap_or(AT_FDCWD);
        let asked = event
            .named("name")
            .or_else(|| event.named("path"))
            .map(|param| param.text())
            .unwrap_or_default();
        let path = self
            .resolve(event.tid, dirfd, asked)
            .unwrap_or_else(|| Arc::from(asked));
        let flags = word(int("flags"));
        let kind = if flags & O_DIRECTORY != 0 {
            FdKind::Directory {
                path: Arc::clone(&path),
            }
        } else {
            FdKind::File {
                path: Arc::clone(&path),
                flags,
                dev: word(int("dev")),
            }
        };
        let mut open = Fd::new(kind);
        open.ino = int("ino").map_or(0, i64::cast_unsigned);
        open.close_on_exec = flags & O_CLOEXEC != 0;
        open.kernel_path = event
            .kernel_path()
            .filter(|kernel| **kernel != *path)
            .map(Arc::from);
        self.open(event.tid, fd, open);
    }

    fn closed(&mut self, event: &Event<'_>) {
        if let Some(fd) = self.fd_of(event)
            && let Some(thread) = self.threads.get(&event.tid)
        {
            self.ended_fd = Some((thread.files, fd));
        }
    }

    fn closed_range(&mut self, event: &Event<'_>) {
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let (Some(first), Some(last)) = (int("first"), int("last")) else {
            return;
        };
        let only_marks = int("flags").is_some_and(|flags| flags & CLOSE_RANGE_CLOEXEC != 0);
        if let Some(files) = self
            .threads
            .get(&event.tid)
            .and_then(|thread| self.files.get_mut(&thread.files))
        {
            let fds = Arc::make_mut(&mut files.fds);
            let inside = |fd: &i64| (first..=last).contains(fd);
            if only_marks {
                let marked = fds.iter_mut().filter(|(fd, _)| inside(fd));
                marked.for_each(|(_, open)| open.close_on_exec = true);
            } else {
                fds.retain(|fd, _| !inside(fd));
            }
        }
    }

    fn duplicated(&mut self, event: &Event<'_>) {
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let Some(new) = event.result() else { return };
        let mut close_on_exec = word(int("flags")) & O_CLOEXEC != 0;
        let old = if event.kind.name() == Some("fcntl") {
            let fd = self.fd_of(event);
            match int("cmd") {
                Some(F_DUPFD) => {}
                Some(F_DUPFD_CLOEXEC) => close_on_exec = true,
                Some(F_SETFD) => {
                    let marked = int("arg").is_some_and(|arg| arg & 1 != 0);
                    if let Some(fd) = fd {
                        self.change(event.tid, fd, |open| open.close_on_exec = marked);
                    }
                    return;
                }
                _ => return,
            }
            fd
        } else {
            int("oldfd").or_else(|| self.fd_of(event))
        };
        let known = old.and_then(|old| self.fd(event.tid, old)).cloned();
        if let Some(mut open) = known
            && old != Some(new)
        {
            open.close_on_exec = close_on_exec;
            self.open(event.tid, new, open);
        }
    }

    fn piped(&mut self, event: &Event<'_>) {
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let ino = int("ino").map_or(0, i64::cast_unsigned);
        for end in ["fd1", "fd2"] {
            if let Some(fd) = int(end) {
                let mut open = Fd::new(FdKind::Fifo(no_text()));
                open.ino = ino;
                open.close_on_exec = word(int("flags")) & O_CLOEXEC != 0;
                self.open(event.tid, fd, open);
            }
        }
    }

    fn socket(&mut self, event: &Event<'_>) {
        let Some(fd) = event.result() else { return };
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let domain = int("domain").unwrap_or_default();
        let l4 = L4::of_socket(word(int("type")), word(int("proto")));
        let mut open = Fd::new(empty_socket(domain, l4));
        open.close_on_exec = word(int("flags")) & O_CLOEXEC != 0;
        self.open(event.tid, fd, open);
    }

    fn paired(&mut self, event: &Event<'_>) {
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let ends = (int("source").unwrap_or(0), int("peer").unwrap_or(0));
        for end in ["fd1", "fd2"] {
            if let Some(fd) = int(end) {
                let kind = FdKind::Unix {
                    source: ends.0.cast_unsigned(),
                    destination: ends.1.cast_unsigned(),
                    path: no_text(),
                };
                self.open(event.tid, fd, Fd::new(kind));
            }
        }
    }

    fn bound(&mut self, event: &Event<'_>) {
        let Some(fd) = self.fd_of(event) else { return };
        let address = event.named("addr").map(|param| param.value());
        self.change(event.tid, fd, |open| match address {
            Some(Value::SockAddr(SockAddr::Inet(address))) => {
                let l4 = l4_of(open);
                open.kind = FdKind::InetServer { l4, address };
            }
            Some(Value::SockAddr(SockAddr::Unix(bound))) => {
                if let FdKind::Unix { path, .. } = &mut open.kind {
                    *path = Arc::from(bound);
                }
            }
            _ => {}
        });
    }

    fn connected(&mut self, event: &Event<'_>) {
        let Some(fd) = self.fd_of(event) else { return };
        let tuple = event.named("tuple").map(|param| param.value());
        let asked = event.named("addr").map(|param| param.value());
        self.change(event.tid, fd, |open| match (tuple, asked) {
            (Some(Value::SockTuple(tuple)), _) => set_tuple(open, tuple, false),
            (_, Some(Value::SockAddr(SockAddr::Inet(address)))) => {
                set_ends(open, None, Some(address), false);
            }
            _ => {}
        });
    }

    fn accepted(&mut self, event: &Event<'_>) {
        let Some(fd) = event.result() else { return };
        let tuple = event.named("tuple").map(|param| param.value());
        let mut open = match tuple {
            Some(Value::SockTuple(SockTuple::Unix { .. })) => Fd::new(empty_socket(1, L4::None)),
            _ => Fd::new(empty_socket(2, L4::Tcp)),
        };
        if let Some(Value::SockTuple(tuple)) = tuple {
            set_tuple(&mut open, tuple, true);
        }
        let flags = word(event.named("flags").and_then(|param| param.int()));
        open.close_on_exec = flags & O_CLOEXEC != 0;
        self.open(event.tid, fd, open);
    }

    /// A datagram tells whom a socket speaks with.
    fn spoken(&mut self, event: &Event<'_>) {
        let Some(fd) = self.fd_of(event) else { return };
        let Some(Value::SockTuple(tuple)) = event.named("tuple").map(|param| param.value()) else {
            return;
        };
        let inbound = matches!(event.kind.name(), Some("recvfrom" | "recvmsg"));
        self.change(event.tid, fd, |open| {
            let fresh = match &open.kind {
                FdKind::Inet { l4, .. } => *l4 == L4::Udp,
                FdKind::InetServer { l4, .. } => *l4 == L4::Udp,
                _ => false,
            };
            if fresh {
                set_tuple(open, tuple, inbound);
            }
        });
    }

    fn moved(&mut self, event: &Event<'_>) {
        let tid = event.tid;
        let to = match event.named("path") {
            Some(path) => self.resolve(tid, AT_FDCWD, path.text()),
            None => self
                .fd_of(event)
                .and_then(|fd| self.fd(tid, fd)?.path().map(Arc::from)),
        };
        // The threads of a process share it; a thread that does not is rare enough.
        let leader = self.threads.get(&tid).map(|thread| thread.pid);
        for tid in [Some(tid), leader].into_iter().flatten() {
            if let (Some(to), Some(thread)) = (&to, self.threads.get_mut(&tid)) {
                thread.cwd = Arc::clone(to);
            }
        }
    }

    fn set_ids(&mut self, event: &Event<'_>, call: &str) {
        let name = match call {
            "setuid" => "uid",
            "setgid" => "gid",
            "setresuid" | "setreuid" => "euid",
            _ => "egid",
        };
        let id = event.named(name).and_then(|param| param.int());
        let Some(id) = id.map(|id| word(Some(id))).filter(|id| *id != u32::MAX) else {
            return;
        };
        if let Some(thread) = self.threads.get_mut(&event.tid) {
            if call.ends_with("uid") {
                thread.uid = id;
            } else {
                thread.gid = id;
            }
        }
    }

    fn regrouped(&mut self, event: &Event<'_>, call: &str) {
        let int = |name: &str| event.named(name).and_then(|param| param.int());
        let of = int("pid").filter(|pid| *pid > 0).unwrap_or(event.tid);
        if let Some(thread) = self.threads.get_mut(&of) {
            let own_namespace = thread.vtid == thread.tid;
            if call == "setsid" {
                thread.sid = thread.pid;
                thread.pgid = thread.pid;
                thread.vpgid = thread.vpid;
            } else if let Some(group) = int("pgid") {
                let group = if group == 0 { thread.vpid } else { group };
                thread.vpgid = group;
                if own_namespace {
                    thread.pgid = group;
                }
            }
        }
    }

    fn capabilities_set(&mut self, event: &Event<'_>) {
        let bits = |name: &str| event.named(name).and_then(|param| param.uint());
        if let Some(thread) = self.threads.get_mut(&event.tid) {
            let caps = &mut thread.capabilities;
            caps.inheritable = bits("cap_inheritable").unwrap_or(caps.inheritable);
            caps.permitted = bits("cap_permitted").unwrap_or(caps.permitted);
            caps.effective = bits("cap_effective").unwrap_or(caps.effective);
        }
    }

    fn renamed(&mut self, event: &Event<'_>) {
        let option = event.named("option").and_then(|param| param.int());
        let name = event.named("arg2_str").map(|param| param.text());
        if option == Some(PR_SET_NAME)
            && let (Some(name), Some(thread)) = (name, self.threads.get_mut(&event.tid))
        {
            thread.comm = Arc::from(name);
        }
    }

    /// Descriptors without a path.
    fn anonymous(&mut self, event: &Event<'_>, call: &str) {
        let (sort, name): (_, &[u8]) = match call {
            "eventfd" | "eventfd2" => (Anonymous::Event, b""),
            "signalfd" | "signalfd4" => (Anonymous::Signal, b""),
            "timerfd_create" => (Anonymous::Timer, b""),
            "inotify_init" | "inotify_init1" => (Anonymous::Inotify, b""),
            "epoll_create" | "epoll_create1" => (Anonymous::EventPoll, b""),
            "userfaultfd" => (Anonymous::Userfault, b""),
            "io_uring_setup" => (Anonymous::Uring, b""),
            "pidfd_open" => (Anonymous::Pidfd, b""),
            "bpf" => (Anonymous::Bpf, b""),
            "memfd_create" => {
                let name = event.named("name").map(|param| param.text());
                (Anonymous::Memfd, name.unwrap_or_default())
            }
            _ => return,
        };
        // bpf(2) returns a descriptor by some of its commands only: 0, 5, 7 and the like.
        let command = event.named("cmd").and_then(|param| param.int());
        if let Some(fd) = event.result().filter(|fd| *fd > 2 || call != "bpf")
            && (call != "bpf" || matches!(command, Some(0 | 5 | 7 | 13 | 14 | 17 | 18 | 28)))
        {
            self.open(event.tid, fd, Fd::new(FdKind::Other(sort, Arc::from(name))));
        }
    }
}

/// Whether a result is an error; a connection in progress is none.
fn failed(result: i64) -> bool {
    const EINPROGRESS: i64 = -115;
    result < 0 && result != EINPROGRESS
}

/// The low 32 bits of a number, 0 when there is none.
fn word(number: Option<i64>) -> u32 {
    number.map_or(0, |number| {
        u32::try_from(number & 0xffff_ffff).unwrap_or_default()
    })
}

/// `bytes`, shared with `old` where they are the same.
fn share(bytes: &[u8], old: &Text) -> Text {
    if **old == *bytes {
        Arc::clone(old)
    } else {
        Arc::from(bytes)
    }
}

fn empty_socket(domain: i64, l4: L4) -> FdKind {
    match domain {
        1 => FdKind::Unix {
            source: 0,
            destination: 0,
            path: no_text(),
        },
        2 | 10 => FdKind::Inet {
            l4,
            v6: domain == 10,
            source: None,
            destination: None,
            server: false,
        },
        16 => FdKind::Other(Anonymous::Netlink, no_text()),
        _ => FdKind::Other(Anonymous::Unsupported, no_text()),
    }
}

fn l4_of(open: &Fd) -> L4 {
    match &open.kind {
        FdKind::Inet { l4, .. } | FdKind::InetServer { l4, .. } => *l4,
        _ => L4::Unknown,
    }
}

fn set_tuple(open: &mut Fd, tuple: SockTuple<'_>, server: bool) {
    match tuple {
        SockTuple::Inet {
            source,
            destination,
        } => set_ends(open, Some(source), Some(destination), server),
        SockTuple::Unix {
            source,
            destination,
            path,
        } => {
            open.kind = FdKind::Unix {
                source,
                destination,
                path: Arc::from(path),
            };
        }
        SockTuple::Other(_) => {}
    }
}

fn set_ends(
    open: &mut Fd,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    server: bool,
) {
    let v6 = match (&open.kind, source.or(destination)) {
        (FdKind::Inet { v6: true, .. }, _) => true,
        (_, Some(address)) => address.is_ipv6(),
        _ => false,
    };
    open.kind = FdKind::Inet {
        l4: l4_of(open),
        v6,
        source,
        destination,
        server,
    };
}

/// The first text of a list, and the rest with its zero bytes: how `/proc/<pid>/cmdline` is read.
pub(super) fn split_first(list: &[u8]) -> (&[u8], &[u8]) {
    let first = texts(list).next().unwrap_or_default();
    (first, list.get(first.len() + 1..).unwrap_or_default())
}
