//! What was there before us, read from `/proc`.
//!
//! Invariant: a process that ends while it is read is left out, and nothing of `/proc` is believed to
//! be well formed: whoever runs a program chooses its name, its arguments and its paths.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;

use super::fd::{Anonymous, Fd, FdKind, L4};
use super::table::Table;
use super::thread::{Capabilities, Executable, Thread};
use super::update::split_first;
use super::{Text, no_text};

/// Most bytes of arguments and of environment, as the probes cut them.
const TEXT_BYTES: usize = 4096;

/// Why there is no scan.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the processes in {path}")]
pub struct ScanError {
    /// The folder.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// Sockets by their inodes, of one network namespace.
type Sockets = HashMap<u64, FdKind>;

impl Table {
    /// Takes in every process, thread and descriptor that is there, and reads threads from there that
    /// events tell of and that are not known.
    ///
    /// # Errors
    /// When `/proc` cannot be read at all.
    pub fn scan(&mut self, proc: &Path) -> Result<(), ScanError> {
        let entries = fs::read_dir(proc).map_err(|source| ScanError {
            path: proc.to_owned(),
            source,
        })?;
        self.proc = Some(proc.to_owned());
        let mut sockets = HashMap::new();
        for entry in entries.flatten() {
            if let Some(pid) = number_of(&entry.file_name()) {
                self.scan_process(&entry.path(), pid, &mut sockets);
            }
        }
        Ok(())
    }

    fn scan_process(&mut self, folder: &Path, pid: i64, sockets: &mut HashMap<u64, Sockets>) {
        let Some(mut leader) = read_thread(folder, pid) else {
            return;
        };
        leader.container = self.container(&leader.cgroups);
        let fds = read_fds(folder, sockets, self.limits.fds);
        let files = self.new_files(Arc::new(fds));
        self.insert(leader.clone(), Some(files));
        let tasks = fs::read_dir(folder.join("task"));
        for task in tasks.into_iter().flatten().flatten() {
            let Some(tid) = number_of(&task.file_name()).filter(|tid| *tid != pid) else {
                continue;
            };
            let mut thread = leader.clone();
            thread.tid = tid;
            thread.vtid = ids_in(&read(&task.path().join("status")), b"NSpid:")
                .last()
                .copied()
                .unwrap_or(tid);
            thread.comm = Arc::from(read(&task.path().join("comm")).trim_ascii_end());
            self.insert(thread, Some(files));
        }
    }

    /// What `/proc` says of a thread that nobody told of. So many in a row only: a flood of unknown
    /// threads must not be answered by a flood of reads.
    pub(super) fn look_up(&mut self, tid: i64) -> Option<Thread> {
        let proc = self.proc.as_ref()?;
        self.lookups = self.lookups.checked_sub(1)?;
        let folder = proc.join(tid.to_string());
        let status = read(&folder.join("status"));
        let pid = line_after(&status, b"Tgid:").and_then(parse).unwrap_or(tid);
        let mut thread = read_thread(&proc.join(pid.to_string()), pid)?;
        thread.tid = tid;
        thread.vtid = ids_in(&status, b"NSpid:").last().copied().unwrap_or(tid);
        thread.container = self.container(&thread.cgroups);
        Some(thread)
    }

    /// Forgets threads that are gone and whose end was lost. For now and then.
    pub fn forget_gone(&mut self) {
        let Some(proc) = self.proc.clone() else {
            return;
        };
        self.lookups = super::table::LOOKUPS;
        let gone: Vec<i64> = self
            .threads
            .keys()
            .copied()
            .filter(|tid| !proc.join(tid.to_string()).exists())
            .collect();
        for tid in gone {
            self.remove(tid);
        }
    }
}

fn number_of(name: &OsStr) -> Option<i64> {
    parse(name.as_bytes())
}

fn parse(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// At most 64 KiB of a file, nothing when it cannot be read.
fn read(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // What was read before an error counts.
        let _ = file.take(64 << 10).read_to_end(&mut bytes);
    }
    bytes
}

fn link(path: &Path) -> Text {
    fs::read_link(path).map_or_else(|_| no_text(), |to| Arc::from(to.as_os_str().as_bytes()))
}

/// The rest of the line that begins with `key`.
fn line_after<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key))
}

/// The numbers in the line that begins with `key`.
fn ids_in(text: &[u8], key: &[u8]) -> Vec<i64> {
    line_after(text, key)
        .unwrap_or_default()
        .split(u8::is_ascii_whitespace)
        .filter_map(parse)
        .collect()
}

fn hex_in(text: &[u8], key: &[u8]) -> u64 {
    line_after(text, key)
        .and_then(|rest| std::str::from_utf8(rest).ok())
        .and_then(|rest| u64::from_str_radix(rest.trim(), 16).ok())
        .unwrap_or_default()
}

fn word(number: Option<&i64>, unknown: u32) -> u32 {
    number.map_or(unknown, |number| u32::try_from(*number).unwrap_or(unknown))
}

/// A list cut to what the probes would tell, its last text ended.
fn cut(mut list: Vec<u8>) -> Vec<u8> {
    if list.len() > TEXT_BYTES {
        list.truncate(TEXT_BYTES);
        if let Some(last) = list.last_mut() {
            *last = 0;
        }
    }
    if list.last().is_some_and(|last| *last != 0) {
        list.push(0);
    }
    list
}

fn read_thread(folder: &Path, pid: i64) -> Option<Thread> {
    let status = read(&folder.join("status"));
    let stat = read(&folder.join("stat"));
    // The name in parentheses may hold anything; what follows the last one is numbers.
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let comm = stat.get(open + 1..close)?;
    let fields: Vec<i64> = stat
        .get(close + 1..)?
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
        .skip(1)
        .map(|field| parse(field).unwrap_or_default())
        .collect();
    let field = |place: usize| fields.get(place).copied();
    let mut thread = Thread::unknown(pid);
    thread.comm = Arc::from(comm);
    // Field 4 of proc(5) is the first here.
    thread.ptid = field(0)?;
    thread.pgid = field(1)?;
    thread.sid = field(2)?;
    thread.tty = word(field(3).as_ref(), 0);
    thread.minor_faults = field(6).unwrap_or_default().cast_unsigned();
    thread.major_faults = field(8).unwrap_or_default().cast_unsigned();
    thread.uid = word(ids_in(&status, b"Uid:").get(1), u32::MAX);
    thread.gid = word(ids_in(&status, b"Gid:").get(1), u32::MAX);
    thread.vpid = ids_in(&status, b"NSpid:").last().copied().unwrap_or(pid);
    thread.vtid = thread.vpid;
    thread.vpgid = ids_in(&status, b"NSpgid:").last().copied().unwrap_or(-1);
    thread.capabilities = Capabilities {
        inheritable: hex_in(&status, b"CapInh:"),
        permitted: hex_in(&status, b"CapPrm:"),
        effective: hex_in(&status, b"CapEff:"),
    };
    thread.vm_size_kib = word(ids_in(&status, b"VmSize:").first(), 0);
    thread.vm_rss_kib = word(ids_in(&status, b"VmRSS:").first(), 0);
    thread.vm_swap_kib = word(ids_in(&status, b"VmSwap:").first(), 0);
    thread.loginuid = word(parse(&read(&folder.join("loginuid"))).as_ref(), u32::MAX);
    let command = read(&folder.join("cmdline"));
    let (exe, args) = split_first(&command);
    thread.exe = Arc::from(exe);
    thread.args = Arc::from(cut(args.to_vec()));
    thread.env = Arc::from(cut(read(&folder.join("environ"))));
    thread.cwd = link(&folder.join("cwd"));
    thread.root = link(&folder.join("root"));
    thread.cgroups = Arc::from(cgroups(&read(&folder.join("cgroup"))));
    thread.fd_limit = fd_limit(&read(&folder.join("limits")));
    thread.executable = Arc::new(executable(&folder.join("exe"), thread.uid));
    Some(thread)
}

/// `/proc/<pid>/cgroup` as the probes tell it: a line of version 1 for each of its subsystems, the
/// line of version 2 as `unified`.
fn cgroups(lines: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (Some(_), Some(subsystems), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        for subsystem in subsystems.split(|byte| *byte == b',') {
            let name = match subsystem {
                b"" => &b"unified"[..],
                b"blkio" => b"io",
                other => other,
            };
            list.extend_from_slice(name);
            list.push(b'=');
            list.extend_from_slice(path);
            list.push(0);
        }
    }
    list.truncate(TEXT_BYTES * 2);
    list
}

fn fd_limit(limits: &[u8]) -> u64 {
    line_after(limits, b"Max open files")
        .and_then(|rest| {
            rest.split(u8::is_ascii_whitespace)
                .find(|part| !part.is_empty())
        })
        .and_then(parse)
        .map_or(0, i64::cast_unsigned)
}

fn executable(link_to: &Path, uid: u32) -> Executable {
    let path = link(link_to);
    let memfd = path.strip_prefix(b"/memfd:").map(|rest| {
        let rest = rest.strip_suffix(b" (deleted)").unwrap_or(rest);
        [b"memfd:", rest].concat()
    });
    let from_memfd = memfd.is_some();
    let path = memfd.map_or(path, Arc::from);
    let Ok(metadata) = fs::metadata(link_to) else {
        return Executable {
            path,
            from_memfd,
            ..Executable::default()
        };
    };
    let nanoseconds = |seconds: i64, rest: i64| {
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(rest)
            .max(0)
            .cast_unsigned()
    };
    let overlay = nix::sys::statfs::statfs(link_to)
        .is_ok_and(|system| system.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    Executable {
        path,
        // By owner and mode; the probes also know capabilities and read-only mounts.
        writable: metadata.uid() == uid || uid == 0 || metadata.mode() & 0o002 != 0,
        upper_layer: false,
        // Which layer it is in only the kernel knows: the lower one is the common case.
        lower_layer: overlay,
        from_memfd,
        ino: metadata.ino(),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
    }
}

fn read_fds(folder: &Path, sockets: &mut HashMap<u64, Sockets>, limit: usize) -> HashMap<i64, Fd> {
    let mut fds = HashMap::new();
    let Ok(entries) = fs::read_dir(folder.join("fd")) else {
        return fds;
    };
    for entry in entries.flatten().take(limit) {
        let Some(fd) = number_of(&entry.file_name()) else {
            continue;
        };
        let target = link(&entry.path());
        if let Some(open) = describe(&entry.path(), &target, folder, sockets) {
            fds.insert(fd, open);
        }
    }
    fds
}

/// The number in `name:[number]`.
fn inode_in(target: &[u8], name: &[u8]) -> Option<u64> {
    let rest = target.strip_prefix(name)?.strip_suffix(b"]")?;
    parse(rest).map(i64::cast_unsigned)
}

fn describe(
    path: &Path,
    target: &Text,
    folder: &Path,
    sockets: &mut HashMap<u64, Sockets>,
) -> Option<Fd> {
    if let Some(ino) = inode_in(target, b"socket:[") {
        let namespace = fs::metadata(folder.join("ns/net")).map_or(0, |ns| ns.ino());
        let known = sockets
            .entry(namespace)
            .or_insert_with(|| read_sockets(&folder.join("net")));
        let unknown = FdKind::Other(Anonymous::Unsupported, no_text());
        let mut open = Fd::new(known.get(&ino).cloned().unwrap_or(unknown));
        open.ino = ino;
        return Some(open);
    }
    if let Some(ino) = inode_in(target, b"pipe:[") {
        let mut open = Fd::new(FdKind::Fifo(Arc::clone(target)));
        open.ino = ino;
        return Some(open);
    }
    if let Some(sort) = target.strip_prefix(b"anon_inode:") {
        return Some(Fd::new(FdKind::Other(anonymous(sort), no_text())));
    }
    if let Some(name) = target.strip_prefix(b"/memfd:") {
        let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
        return Some(Fd::new(FdKind::Other(Anonymous::Memfd, Arc::from(name))));
    }
    if target.is_empty() {
        return None;
    }
    let metadata = fs::metadata(path).ok();
    let mut open = Fd::new(if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
        FdKind::Directory {
            path: Arc::clone(target),
        }
    } else {
        FdKind::File {
            path: Arc::clone(target),
            flags: 0,
            dev: metadata.as_ref().map_or(0, |metadata| {
                u32::try_from(metadata.dev()).unwrap_or_default()
            }),
        }
    });
    open.ino = metadata.map_or(0, |metadata| metadata.ino());
    Some(open)
}

fn anonymous(sort: &[u8]) -> Anonymous {
    match sort {
        b"[eventfd]" => Anonymous::Event,
        b"[signalfd]" => Anonymous::Signal,
        b"[eventpoll]" => Anonymous::EventPoll,
        b"[timerfd]" => Anonymous::Timer,
        b"inotify" => Anonymous::Inotify,
        b"[userfaultfd]" => Anonymous::Userfault,
        b"[io_uring]" => Anonymous::Uring,
        b"[pidfd]" => Anonymous::Pidfd,
        other if other.starts_with(b"bpf") => Anonymous::Bpf,
        _ => Anonymous::Unsupported,
    }
}

/// The sockets of a network namespace, as `/proc/<pid>/net` lists them.
fn read_sockets(net: &Path) -> Sockets {
    let mut sockets = Sockets::new();
    for (file, l4, v6) in [
        ("tcp", L4::Tcp, false),
        ("udp", L4::Udp, false),
        ("raw", L4::Raw, false),
        ("tcp6", L4::Tcp, true),
        ("udp6", L4::Udp, true),
        ("raw6", L4::Raw, true),
    ] {
        // Whole, not cut: a busy host has many.
        let text = fs::read_to_string(net.join(file)).unwrap_or_default();
        for line in text.lines().skip(1) {
            if let Some((ino, kind)) = inet_socket(line, l4, v6) {
                sockets.insert(ino, kind);
            }
        }
    }
    let text = fs::read(net.join("unix")).unwrap_or_default();
    for line in text.split(|byte| *byte == b'\n').skip(1) {
        if let Some((ino, kind)) = unix_socket(line) {
            sockets.insert(ino, kind);
        }
    }
    sockets
}

fn inet_socket(line: &str, l4: L4, v6: bool) -> Option<(u64, FdKind)> {
    const LISTENS: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let local = endpoint(fields.get(1)?)?;
    let remote = endpoint(fields.get(2)?)?;
    let ino = fields.get(9)?.parse().ok()?;
    let alone = remote.port() == 0;
    let kind = if *fields.get(3)? == LISTENS || (alone && local.port() != 0) {
        FdKind::InetServer { l4, address: local }
    } else {
        FdKind::Inet {
            l4,
            v6,
            source: Some(local),
            destination: Some(remote),
            server: false,
        }
    };
    Some((ino, kind))
}

/// `0100007F:1F90`: words of the address in the machine's order, and the port.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = std::str::from_utf8(word).ok()?;
        octets.extend(u32::from_str_radix(word, 16).ok()?.to_le_bytes());
    }
    let ip = if let Ok(octets) = <[u8; 4]>::try_from(octets.as_slice()) {
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(octets.as_slice()).ok()?,
        ))
    };
    Some(SocketAddr::new(ip, port))
}

fn unix_socket(line: &[u8]) -> Option<(u64, FdKind)> {
    let mut fields = line
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    let pointer = std::str::from_utf8(fields.next()?.strip_suffix(b":")?).ok()?;
    let source = u64::from_str_radix(pointer, 16).ok()?;
    let ino = parse(fields.nth(5)?)?.cast_unsigned();
    let path = fields.next().unwrap_or_default();
    let kind = FdKind::Unix {
        source,
        destination: 0,
        path: Arc::from(path.strip_prefix(b"@").unwrap_or(path)),
    };
    Some((ino, kind))
}
