//! The recipes: for each system call, the steps that put its parameters (`bpf/call.h`), in the order
//! of upstream's event table.
//!
//! Invariant: a recipe has as many steps as its event type has parameters; an open may have one more,
//! the path that the kernel found. Calls without a recipe are upstream's generic event.

use super::translate::Table;
#[cfg(test)]
use crate::event::EventType;

/// The most steps that a recipe has.
pub(super) const STEPS: usize = 12;

/// A step of a recipe, laid out as the probes read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) kind: u8,
    pub(super) arg: u8,
    pub(super) table: u8,
    pub(super) more: u8,
}

/// The program that makes an event of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Call = 0,
    Exec = 1,
    Clone = 2,
}

/// What there is to know of a call.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) program: Program,
    pub(super) steps: Vec<Step>,
    /// The argument that points to more arguments, and how many bytes those have.
    pub(super) copy: Option<(u8, u8)>,
}

const RESULT: u8 = 63;
const ZERO: u8 = 62;
/// The first argument of those that were copied.
const COPIED: u8 = 6;
/// The first half of those.
const HALF: u8 = 64;

const ON_SUCCESS: u8 = 2;
const OR_IN_PROGRESS: u8 = 4;
const INBOUND: u8 = 1;
const WHOLE: u8 = 8;

const fn step(kind: u8, arg: u8, table: u8, more: u8) -> Step {
    Step {
        kind,
        arg,
        table,
        more,
    }
}

const RET: Step = step(1, RESULT, 0, 0);
const NONE: Step = step(0, 0, 0, 0);
const DEV: Step = step(11, 0, 0, 0);
const INO: Step = step(12, 0, 0, 0);
const FD_PATH: Step = step(13, 0, 0, 0);
const OPEN_PATH: Step = step(14, 0, 0, 0);
const CREAT_FLAGS: Step = step(22, 0, 0, 0);
const SOCKOPT: Step = step(25, 0, 0, 0);
const SOCKOPT_NAME: Step = step(38, 2, Table::SockoptName as u8, 0);

const fn s64(arg: u8) -> Step {
    step(1, arg, 0, 0)
}
const fn fd(arg: u8) -> Step {
    step(2, arg, 0, 0)
}
const fn u32(arg: u8) -> Step {
    step(3, arg, 0, 0)
}
const fn u16(arg: u8) -> Step {
    step(4, arg, 0, 0)
}
const fn u8(arg: u8) -> Step {
    step(5, arg, 0, 0)
}
const fn text(arg: u8) -> Step {
    step(6, arg, 0, 0)
}
const fn bits(arg: u8, table: Table, bytes: u8) -> Step {
    step(7, arg, table as u8, bytes)
}
const fn choice(arg: u8, table: Table, bytes: u8) -> Step {
    step(8, arg, table as u8, bytes)
}
const fn open_flags(arg: u8) -> Step {
    step(9, arg, Table::Open as u8, 0)
}
const fn open_mode(arg: u8, flags: u8) -> Step {
    step(10, arg, 0, flags)
}
const fn sockaddr(arg: u8, length: u8) -> Step {
    step(15, arg, 0, length)
}
const fn tuple(fd: u8, flags: u8, peer: u8) -> Step {
    step(16, fd, flags, peer)
}
const fn queue(what: u8) -> Step {
    step(17, 0, 0, what)
}
const fn data(at: u8, bytes: u8, flags: u8) -> Step {
    step(18, at, flags, bytes)
}
const fn vector(at: u8, count: u8, flags: u8) -> Step {
    step(19, at, flags, count)
}
const fn vector_size(at: u8, count: u8) -> Step {
    step(20, at, 0, count)
}
const fn fd_ino(arg: u8) -> Step {
    step(21, arg, 0, 0)
}
const fn memory(what: u8) -> Step {
    step(23, 0, 0, what)
}
const fn socket_at(arg: u8) -> Step {
    step(24, arg, 0, 0)
}
const fn keyctl(arg: u8) -> Step {
    step(30, arg, 0, 0)
}
const fn capability(which: u8) -> Step {
    step(31, 0, 0, which)
}
const fn socket_flags(arg: u8) -> Step {
    step(34, arg, 0, 0)
}
const fn time(arg: u8) -> Step {
    step(35, arg, 0, 0)
}
const fn poll(list: u8, count: u8) -> Step {
    step(36, list, 0, count)
}
const fn fs_value(what: u8) -> Step {
    step(37, 3, 0, what)
}

const PTRACE_ADDR: Step = step(26, 2, 0, 0);
const PTRACE_DATA: Step = step(27, 3, 0, 0);
const PRCTL_TEXT: Step = step(28, 1, 0, 0);
const PRCTL_INT: Step = step(29, 1, 0, 0);

/// What a call without an event of its own gives: upstream's code, the number.
pub(super) const GENERIC: [Step; 2] = [step(32, 0, 0, 0), step(33, 0, 0, 0)];

/// Events that carry one parameter more than upstream's: the path that the kernel opened, which
/// cannot be changed under the probe as the caller's text can.
#[cfg(test)]
pub(super) fn has_kernel_path(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::OPEN_X | EventType::OPENAT_2_X | EventType::OPENAT2_X | EventType::CREAT_X
    )
}

/// The recipe of the call `name`; nothing when its event is the generic one.
pub(super) fn recipe(name: &str) -> Option<Recipe> {
    if let Some(recipe) = of_processes(name) {
        return Some(recipe);
    }
    let copy = copied(name);
    let steps = files(name)
        .or_else(|| changes(name))
        .or_else(|| descriptors(name))
        .or_else(|| reads(name))
        .or_else(|| sockets(name))
        .or_else(|| ids(name))
        .or_else(|| processes(name))
        .or_else(|| memories(name))
        .or_else(|| kernel(name))?;
    Some(Recipe {
        program: Program::Call,
        steps,
        copy,
    })
}

/// Exec and clone have programs of their own; the one step of clone says where its flags are.
fn of_processes(name: &str) -> Option<Recipe> {
    let (program, step, copy) = match name {
        "execve" | "execveat" => (Program::Exec, None, None),
        "clone" => (Program::Clone, Some(bits(0, Table::Clone, 4)), None),
        "clone3" => (Program::Clone, Some(bits(0, Table::Clone, 4)), Some((0, 8))),
        "fork" => (
            Program::Clone,
            Some(step(0, 0, Table::Clone as u8, 0)),
            None,
        ),
        // Two flags that vfork implies: CLONE_VFORK and CLONE_VM.
        "vfork" => (
            Program::Clone,
            Some(step(3, 0, Table::Clone as u8, 0)),
            None,
        ),
        _ => return None,
    };
    Some(Recipe {
        program,
        steps: step.into_iter().collect(),
        copy,
    })
}

/// The argument that points to more arguments, and their bytes.
fn copied(name: &str) -> Option<(u8, u8)> {
    Some(match name {
        "openat2" => (2, 24),
        "pipe" | "pipe2" => (0, 8),
        "socketpair" => (3, 8),
        "sendmsg" | "recvmsg" => (1, 56),
        "sendmmsg" | "recvmmsg" => (1, 60),
        "nanosleep" => (0, 16),
        "ppoll" => (2, 16),
        "io_uring_setup" => (1, 40),
        "getrlimit" | "setrlimit" => (1, 16),
        "getresuid" | "getresgid" => (0, 4),
        "semop" => (1, 12),
        "prlimit64" => (2, 16),
        _ => return None,
    })
}

fn files(name: &str) -> Option<Vec<Step>> {
    Some(match name {
        "open" => vec![
            RET,
            text(0),
            open_flags(1),
            open_mode(2, 1),
            DEV,
            INO,
            OPEN_PATH,
        ],
        "openat" => vec![
            RET,
            fd(0),
            text(1),
            open_flags(2),
            open_mode(3, 2),
            DEV,
            INO,
            OPEN_PATH,
        ],
        "openat2" => vec![
            RET,
            fd(0),
            text(1),
            open_flags(COPIED),
            open_mode(COPIED + 1, COPIED),
            bits(COPIED + 2, Table::Resolve, 4),
            DEV,
            INO,
            OPEN_PATH,
        ],
        "creat" => vec![RET, text(0), u32(1), DEV, INO, CREAT_FLAGS, OPEN_PATH],
        "open_by_handle_at" => vec![RET, fd(0), open_flags(2), FD_PATH, DEV, INO],
        "stat" | "lstat" | "chdir" | "chroot" | "rmdir" | "unlink" | "getcwd" => vec![RET, text(0)],
        "fstat" | "fchdir" | "getdents" | "getdents64" | "close" => vec![RET, fd(0)],
        "newfstatat" => vec![RET, fd(0), text(1), bits(3, Table::StatAt, 4)],
        "access" => vec![RET, text(0), bits(1, Table::Access, 4)],
        "memfd_create" => vec![RET, text(0), bits(1, Table::Same3, 4)],
        _ => return None,
    })
}

fn changes(name: &str) -> Option<Vec<Step>> {
    Some(match name {
        "mkdir" => vec![RET, text(0), u32(1)],
        "mkdirat" => vec![RET, fd(0), text(1), u32(2)],
        "mknod" => vec![RET, text(0), u32(1), u32(2)],
        "mknodat" => vec![RET, fd(0), text(1), u32(2), u32(3)],
        "unlinkat" => vec![RET, fd(0), text(1), bits(2, Table::UnlinkAt, 4)],
        "rename" | "link" | "symlink" => vec![RET, text(0), text(1)],
        "renameat" => vec![RET, fd(0), text(1), fd(2), text(3)],
        "renameat2" => vec![
            RET,
            fd(0),
            text(1),
            fd(2),
            text(3),
            bits(4, Table::Same3, 4),
        ],
        "linkat" => vec![
            RET,
            fd(0),
            text(1),
            fd(2),
            text(3),
            bits(4, Table::LinkAt, 4),
        ],
        "symlinkat" => vec![RET, text(0), fd(1), text(2)],
        "chmod" => vec![RET, text(0), u32(1)],
        "fchmod" => vec![RET, fd(0), u32(1)],
        "fchmodat" => vec![RET, fd(0), text(1), u32(2)],
        "chown" | "lchown" => vec![RET, text(0), u32(1), u32(2)],
        "fchown" => vec![RET, fd(0), u32(1), u32(2)],
        "fchownat" => vec![
            RET,
            fd(0),
            text(1),
            u32(2),
            u32(3),
            bits(4, Table::LinkAt, 4),
        ],
        "mount" => vec![RET, text(0), text(1), text(2), bits(3, Table::Mount, 4)],
        "umount2" => vec![RET, text(0), bits(1, Table::Same4, 4)],
        "fsconfig" => vec![
            RET,
            fd(0),
            u32(1),
            text(2),
            fs_value(0),
            fs_value(1),
            u32(4),
        ],
        _ => return None,
    })
}

fn descriptors(name: &str) -> Option<Vec<Step>> {
    Some(match name {
        "dup" => vec![RET, fd(0)],
        "dup2" => vec![RET, fd(0), fd(1)],
        "dup3" => vec![RET, fd(0), fd(1), bits(2, Table::OpenFlags, 4)],
        "pipe" => vec![RET, fd(HALF), fd(HALF + 1), fd_ino(HALF)],
        "pipe2" => vec![
            RET,
            fd(HALF),
            fd(HALF + 1),
            fd_ino(HALF),
            bits(1, Table::OpenFlags, 4),
        ],
        "fcntl" => vec![RET, fd(0), choice(1, Table::Fcntl, 1), s64(2)],
        "close_range" => vec![RET, u32(0), u32(1), bits(2, Table::CloseRange, 4)],
        "flock" => vec![RET, fd(0), bits(1, Table::Flock, 4)],
        "ioctl" => vec![RET, fd(0), s64(1), s64(2)],
        "lseek" => vec![RET, fd(0), s64(1), u8(2)],
        "eventfd" => vec![RET, s64(0), u32(ZERO)],
        "eventfd2" => vec![RET, bits(1, Table::OpenFlags, 2), s64(0)],
        "signalfd" => vec![RET, fd(0), u32(ZERO), u8(ZERO)],
        "signalfd4" => vec![RET, bits(3, Table::OpenFlags, 2), fd(0), u32(ZERO)],
        "timerfd_create" => vec![RET, u8(ZERO), u8(ZERO)],
        "inotify_init" => vec![RET, u8(ZERO)],
        "inotify_init1" => vec![RET, bits(0, Table::OpenFlags, 2)],
        "epoll_create" => vec![RET, u32(0)],
        "epoll_create1" => vec![RET, bits(0, Table::EpollCreate, 4)],
        "epoll_wait" => vec![RET, fd(2)],
        "poll" => vec![RET, poll(0, 1), fd(2)],
        "ppoll" => vec![RET, poll(0, 1), time(COPIED), u32(ZERO)],
        "select" => vec![RET],
        "splice" => vec![RET, fd(0), fd(2), s64(4), bits(5, Table::Same4, 4)],
        "sendfile" => vec![RET, s64(ZERO), fd(0), fd(1), s64(3)],
        "copy_file_range" => vec![RET, fd(2), s64(ZERO), fd(0), s64(ZERO), s64(4)],
        "pidfd_open" => vec![RET, fd(0), bits(1, Table::PidfdOpen, 4)],
        "pidfd_getfd" => vec![RET, fd(0), fd(1), u32(2)],
        _ => return None,
    })
}

fn reads(name: &str) -> Option<Vec<Step>> {
    Some(match name {
        "read" => vec![RET, data(1, 2, ON_SUCCESS), fd(0), u32(2)],
        "write" => vec![RET, data(1, 2, 0), fd(0), u32(2)],
        "pread64" => vec![RET, data(1, 2, ON_SUCCESS), fd(0), u32(2), s64(3)],
        "pwrite64" => vec![RET, data(1, 2, 0), fd(0), u32(2), s64(3)],
        "readv" => vec![RET, vector_size(1, 2), vector(1, 2, ON_SUCCESS), fd(0)],
        "writev" => vec![RET, vector(1, 2, 0), fd(0), vector_size(1, 2)],
        "preadv" => vec![
            RET,
            vector_size(1, 2),
            vector(1, 2, ON_SUCCESS),
            fd(0),
            s64(3),
        ],
        "pwritev" => vec![RET, vector(1, 2, 0), fd(0), vector_size(1, 2), s64(3)],
        "process_vm_readv" | "process_vm_writev" => vec![RET, fd(0), vector(1, 2, ON_SUCCESS)],
        _ => return None,
    })
}

fn sockets(name: &str) -> Option<Vec<Step>> {
    // Copied headers: name, its length, vector, its count, control, its length, flags; then the
    // length of a message in a list of them.
    let (peer, iov, count, control, control_bytes) = (6, 8, 9, 10, 11);
    Some(match name {
        "socket" => vec![RET, u32(0), u32(1), u32(2), socket_flags(1)],
        "socketpair" => vec![
            RET,
            fd(HALF),
            fd(HALF + 1),
            socket_at(HALF),
            socket_at(HALF + 1),
            u32(0),
            u32(1),
            u32(2),
        ],
        "connect" => vec![RET, tuple(0, OR_IN_PROGRESS, 1), fd(0), sockaddr(1, 2)],
        "accept" => vec![
            RET,
            tuple(RESULT, INBOUND, ZERO),
            queue(0),
            queue(1),
            queue(2),
        ],
        "accept4" => vec![
            RET,
            tuple(RESULT, INBOUND, ZERO),
            queue(0),
            queue(1),
            queue(2),
            bits(3, Table::OpenFlags, 4),
        ],
        "bind" => vec![RET, sockaddr(1, 2), fd(0)],
        "listen" => vec![RET, fd(0), u32(1)],
        "shutdown" => vec![RET, fd(0), u8(1)],
        "sendto" => vec![RET, data(1, 2, 0), fd(0), u32(2), tuple(0, 0, 4)],
        "recvfrom" => vec![
            RET,
            data(1, 2, ON_SUCCESS),
            tuple(0, INBOUND, 4),
            fd(0),
            u32(2),
        ],
        "sendmsg" => vec![
            RET,
            vector(iov, count, 0),
            fd(0),
            vector_size(iov, count),
            tuple(0, 0, peer),
        ],
        "recvmsg" => vec![
            RET,
            u32(RESULT),
            vector(iov, count, ON_SUCCESS),
            tuple(0, INBOUND, peer),
            data(control, control_bytes, ON_SUCCESS | WHOLE),
            fd(0),
        ],
        "sendmmsg" => vec![
            RET,
            fd(0),
            vector_size(iov, count),
            vector(iov, count, 0),
            tuple(0, 0, peer),
        ],
        "recvmmsg" => vec![
            RET,
            fd(0),
            u32(HALF + 14),
            vector(iov, count, ON_SUCCESS),
            tuple(0, INBOUND, peer),
            data(control, control_bytes, ON_SUCCESS | WHOLE),
        ],
        "getsockname" | "getpeername" => vec![],
        "setsockopt" => vec![
            RET,
            fd(0),
            choice(1, Table::SockoptLevel, 1),
            SOCKOPT_NAME,
            SOCKOPT,
            u32(4),
        ],
        "getsockopt" => vec![
            RET,
            fd(0),
            choice(1, Table::SockoptLevel, 1),
            SOCKOPT_NAME,
            NONE,
            u32(ZERO),
        ],
        _ => return None,
    })
}

fn ids(name: &str) -> Option<Vec<Step>> {
    Some(match name {
        "setuid" | "setgid" => vec![RET, u32(0)],
        "setreuid" | "setregid" => vec![RET, u32(0), u32(1)],
        "setresuid" | "setresgid" => vec![RET, u32(0), u32(1), u32(2)],
        "getuid" | "getgid" | "geteuid" | "getegid" => vec![u32(RESULT)],
        "getresuid" | "getresgid" => vec![RET, u32(HALF), NONE, NONE],
        "setpgid" => vec![RET, fd(0), fd(1)],
        "setsid" => vec![RET],
        "capset" => vec![RET, capability(0), capability(1), capability(2)],
        _ => return None,
    })
}

fn processes(name: &str) -> Option<Vec<Step>> {
    Some(match name {
        "kill" | "tkill" => vec![RET, fd(0), u8(1)],
        "tgkill" => vec![RET, fd(0), fd(1), u8(2)],
        "ptrace" => vec![
            RET,
            PTRACE_ADDR,
            PTRACE_DATA,
            choice(0, Table::Ptrace, 2),
            fd(1),
        ],
        "prctl" => vec![RET, u32(0), PRCTL_TEXT, PRCTL_INT],
        "setns" => vec![RET, fd(0), bits(1, Table::Clone, 4)],
        "unshare" => vec![RET, bits(0, Table::Clone, 4)],
        "seccomp" => vec![RET, s64(0), s64(1)],
        "nanosleep" => vec![RET, time(COPIED)],
        "futex" => vec![RET, s64(0), u16(1), s64(2)],
        "getrlimit" | "setrlimit" => vec![RET, s64(COPIED), s64(COPIED + 1), u8(0)],
        "prlimit64" => vec![
            RET,
            s64(COPIED),
            s64(COPIED + 1),
            s64(ZERO),
            s64(ZERO),
            fd(0),
            u8(1),
        ],
        "semget" => vec![RET, u32(0), u32(1), bits(2, Table::SemGet, 4)],
        "semctl" => vec![RET, u32(0), u32(1), choice(2, Table::SemCtl, 2), u32(3)],
        _ => return None,
    })
}

fn memories(name: &str) -> Option<Vec<Step>> {
    let (size, rss, swap) = (memory(0), memory(1), memory(2));
    Some(match name {
        "brk" => vec![RET, size, rss, swap, s64(0)],
        "mmap" => vec![
            RET,
            size,
            rss,
            swap,
            s64(0),
            s64(1),
            bits(2, Table::Prot, 4),
            bits(3, Table::Mmap, 4),
            fd(4),
            s64(5),
        ],
        "munmap" => vec![RET, size, rss, swap, s64(0), s64(1)],
        "mprotect" => vec![RET, s64(0), s64(1), bits(2, Table::Prot, 4)],
        "mlock" | "munlock" => vec![RET, s64(0), s64(1)],
        "mlock2" => vec![RET, s64(0), s64(1), bits(2, Table::Same3, 4)],
        "mlockall" => vec![RET, bits(0, Table::Same3, 4)],
        "munlockall" => vec![RET],
        "userfaultfd" => vec![RET, bits(0, Table::OpenFlags, 4)],
        _ => return None,
    })
}

fn kernel(name: &str) -> Option<Vec<Step>> {
    Some(match name {
        "bpf" => vec![RET, u32(0)],
        "init_module" => vec![RET, data(0, 1, WHOLE), s64(1), text(2)],
        "finit_module" => vec![RET, fd(0), text(1), bits(2, Table::Same3, 4)],
        "delete_module" => vec![RET, text(0), bits(1, Table::DeleteModule, 4)],
        "keyctl" => vec![RET, u32(0), keyctl(1), keyctl(2), keyctl(3), keyctl(4)],
        "io_uring_setup" => vec![
            RET,
            u32(0),
            u32(HALF),
            u32(HALF + 1),
            bits(HALF + 2, Table::UringSetup, 4),
            u32(HALF + 3),
            u32(HALF + 4),
            bits(HALF + 5, Table::UringFeatures, 4),
        ],
        "io_uring_enter" => vec![
            RET,
            fd(0),
            u32(1),
            u32(2),
            bits(3, Table::Same4, 4),
            u32(ZERO),
        ],
        "io_uring_register" => vec![RET, fd(0), u16(1), s64(2), u32(3)],
        _ => return None,
    })
}
