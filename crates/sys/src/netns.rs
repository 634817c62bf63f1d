//! Network namespaces: make one, enter one for the length of a closure.
//!
//! Invariant: only a thread of its own ever changes namespace; the caller's thread never does.
//! Nothing is mounted on entering: a new `/sys` would hide the host's cgroups.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

/// Why work inside a network namespace could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The namespace's file could not be opened.
    #[error("cannot open network namespace {}", path.display())]
    Open {
        /// The namespace's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `setns` or `unshare` failed.
    #[error("cannot enter the network namespace")]
    Enter(#[source] Errno),
    /// No thread could be started.
    #[error("cannot start a thread for the network namespace")]
    Thread(#[source] io::Error),
    /// The closure panicked.
    #[error("work inside the network namespace panicked")]
    Panicked,
}

/// Opens a namespace file such as `/proc/PID/ns/net`.
pub fn open(path: &Path) -> Result<OwnedFd, NetnsError> {
    File::open(path)
        .map(OwnedFd::from)
        .map_err(|source| NetnsError::Open {
            path: path.into(),
            source,
        })
}

/// Runs `work` inside the namespace on a thread of its own and returns its result.
/// Blocks: call it from `spawn_blocking` or a dedicated thread.
pub fn with<T: Send>(
    namespace: impl AsFd,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    let namespace = namespace.as_fd();
    on_thread(move || setns(namespace, CloneFlags::CLONE_NEWNET), work)
}

/// As [`with`], for a namespace that is named by its file.
pub fn with_path<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    with(open(path)?, work)
}

/// Makes a fresh network namespace, `lo` up. It lives as long as the descriptor (or a process in it).
pub fn create() -> Result<OwnedFd, NetnsError> {
    let made = on_thread(
        || unshare(CloneFlags::CLONE_NEWNET),
        || {
            loopback_up()?;
            File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
        },
    )?;
    made.map_err(|source| NetnsError::Open {
        path: "/proc/thread-self/ns/net".into(),
        source,
    })
}

fn on_thread<T: Send>(
    enter: impl FnOnce() -> nix::Result<()> + Send,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, move || {
                enter().map_err(NetnsError::Enter).map(|()| work())
            })
            .map_err(NetnsError::Thread)?
            .join()
            .map_err(|_| NetnsError::Panicked)?
    })
}

/// Brings `lo` up in the network namespace of the calling thread.
pub fn loopback_up() -> io::Result<()> {
    let socket = control_socket()?;
    // SAFETY: an all-zero ifreq is valid: it is a plain C struct of integers and bytes.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    // SAFETY: SIOCGIFFLAGS fills the ifreq that is passed, which lives over the call.
    Errno::result(unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &raw mut request,
        )
    })?;
    // SAFETY: SIOCGIFFLAGS has just set this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    #[allow(clippy::cast_possible_truncation, reason = "IFF_UP is 1")]
    let up = flags | libc::IFF_UP as libc::c_short;
    request.ifr_ifru.ifru_flags = up;
    // SAFETY: SIOCSIFFLAGS reads the ifreq that is passed, which lives over the call.
    Errno::result(unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw mut request,
        )
    })?;
    Ok(())
}

fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket() takes no pointers.
    let fd = Errno::result(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    })?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Inode number of a namespace: equal numbers, same namespace.
pub fn inode(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(namespace)?.st_ino)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn works_inside_and_leaves_the_caller_outside() {
        let names = || {
            std::fs::read_to_string("/proc/thread-self/net/dev")
                .unwrap()
                .matches(':')
                .count()
        };
        let own = inode(open(Path::new("/proc/thread-self/ns/net")).unwrap().as_fd()).unwrap();
        let fresh = create().unwrap();
        let inside = with(&fresh, || {
            let here = inode(open(Path::new("/proc/thread-self/ns/net")).unwrap().as_fd()).unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (here, names())
        })
        .unwrap();
        assert_eq!(inside.0, inode(fresh.as_fd()).unwrap());
        assert_ne!(inside.0, own);
        assert_eq!(
            inode(open(Path::new("/proc/thread-self/ns/net")).unwrap().as_fd()).unwrap(),
            own
        );
        let panicked: Result<(), _> = with(&fresh, || panic!("as planned"));
        assert!(matches!(panicked, Err(NetnsError::Panicked)));
    }
}
