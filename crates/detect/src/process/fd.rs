//! A file descriptor, as it is known from the scan or from the call that made it.
//!
//! Names are those that upstream prints: a path, `ip:port->ip:port` with the client first, the path of
//! a unix socket behind the kernel's pointers.

use std::fmt;
use std::net::SocketAddr;

use super::Text;

/// Transport protocols, in upstream's numbers (`scap_l4_proto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum L4 {
    /// Not known.
    #[default]
    Unknown = 0,
    /// None: not a network socket.
    None = 1,
    /// TCP.
    Tcp = 2,
    /// UDP.
    Udp = 3,
    /// ICMP.
    Icmp = 4,
    /// Raw packets.
    Raw = 5,
}

impl L4 {
    /// By upstream's number.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::None,
            2 => Self::Tcp,
            3 => Self::Udp,
            4 => Self::Icmp,
            5 => Self::Raw,
            _ => Self::Unknown,
        }
    }

    /// By the arguments of `socket(2)`: type (without its flags) and protocol.
    #[must_use]
    pub fn of_socket(kind: u32, protocol: u32) -> Self {
        match (kind & 0xf, protocol) {
            (3, _) => Self::Raw,
            (_, 1 | 58) => Self::Icmp,
            (1, 0 | 6) => Self::Tcp,
            (2, 0 | 17) => Self::Udp,
            _ => Self::Unknown,
        }
    }

    /// As `fd.l4proto` prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown | Self::None => "<NA>",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Raw => "raw",
        }
    }
}

/// What a descriptor stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FdKind {
    /// A file, a device, or what looks like one.
    File {
        /// Its path; relative to the process's root.
        path: Text,
        /// How it was opened, in upstream's flags.
        flags: u32,
        /// Its device.
        dev: u32,
    },
    /// A folder.
    Directory {
        /// Its path.
        path: Text,
    },
    /// A socket of IPv4 or IPv6.
    Inet {
        /// Transport.
        l4: L4,
        /// Whether the socket is of IPv6, whatever its addresses.
        v6: bool,
        /// Who connects. Nothing before it is connected.
        source: Option<SocketAddr>,
        /// Who is connected to.
        destination: Option<SocketAddr>,
        /// Whether this end was connected to.
        server: bool,
    },
    /// A socket that waits for others.
    InetServer {
        /// Transport.
        l4: L4,
        /// Where.
        address: SocketAddr,
    },
    /// A unix socket.
    Unix {
        /// The kernel's pointer to this end.
        source: u64,
        /// The kernel's pointer to the other end.
        destination: u64,
        /// Where it is bound or connected to.
        path: Text,
    },
    /// A pipe; the name is `pipe:[inode]` for those of the scan.
    Fifo(Text),
    /// Anything else that has no name of its own but a sort.
    Other(Anonymous, Text),
}

/// Sorts of descriptors without a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Anonymous {
    Event,
    Signal,
    EventPoll,
    Inotify,
    Timer,
    Netlink,
    Bpf,
    Userfault,
    Uring,
    Memfd,
    Pidfd,
    Unsupported,
}

/// A descriptor: what it stands for, and its inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fd {
    /// What it stands for.
    pub kind: FdKind,
    /// The inode, 0 when it is not known.
    pub ino: u64,
    /// Whether an exec closes it, as far as calls have told.
    pub close_on_exec: bool,
    /// The path that the kernel opened, where that is another than the one that was asked for.
    pub kernel_path: Option<Text>,
}

impl Fd {
    /// A descriptor of `kind` without an inode.
    #[must_use]
    pub fn new(kind: FdKind) -> Self {
        Self {
            kind,
            ino: 0,
            close_on_exec: false,
            kernel_path: None,
        }
    }

    /// The letter that `fd.typechar` prints.
    #[must_use]
    pub fn type_char(&self) -> char {
        match &self.kind {
            FdKind::File { .. } => 'f',
            FdKind::Directory { .. } => 'd',
            FdKind::Inet { v6: false, .. } => '4',
            FdKind::Inet { v6: true, .. } => '6',
            FdKind::InetServer { address, .. } if address.is_ipv4() => '4',
            FdKind::InetServer { .. } => '6',
            FdKind::Unix { .. } => 'u',
            FdKind::Fifo(_) => 'p',
            FdKind::Other(sort, _) => sort.type_char(),
        }
    }

    /// What `fd.type` prints.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            FdKind::File { .. } => "file",
            FdKind::Directory { .. } => "directory",
            FdKind::Inet { v6: false, .. } => "ipv4",
            FdKind::Inet { v6: true, .. } => "ipv6",
            FdKind::InetServer { address, .. } if address.is_ipv4() => "ipv4",
            FdKind::InetServer { .. } => "ipv6",
            FdKind::Unix { .. } => "unix",
            FdKind::Fifo(_) => "pipe",
            FdKind::Other(sort, _) => sort.type_name(),
        }
    }

    /// The path, where it has one.
    #[must_use]
    pub fn path(&self) -> Option<&[u8]> {
        match &self.kind {
            FdKind::File { path, .. } | FdKind::Directory { path } => Some(path),
            _ => None,
        }
    }

    /// The name that `fd.name` prints.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        match &self.kind {
            FdKind::File { path, .. } | FdKind::Directory { path } => path.to_vec(),
            FdKind::Fifo(name) | FdKind::Other(_, name) => name.to_vec(),
            FdKind::InetServer { address, .. } => Endpoint(*address).to_string().into_bytes(),
            FdKind::Inet {
                source,
                destination,
                ..
            } => match (source, destination) {
                (Some(source), Some(destination)) => {
                    format!("{}->{}", Endpoint(*source), Endpoint(*destination)).into_bytes()
                }
                (Some(only), None) | (None, Some(only)) => Endpoint(*only).to_string().into_bytes(),
                (None, None) => Vec::new(),
            },
            FdKind::Unix {
                source,
                destination,
                path,
            } => {
                let mut name = if *source == 0 && *destination == 0 {
                    Vec::new()
                } else {
                    format!("{source:x}->{destination:x} ").into_bytes()
                };
                name.extend_from_slice(path);
                name
            }
        }
    }
}

/// An address as upstream prints it: IPv6 without brackets.
struct Endpoint(SocketAddr);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.ip(), self.0.port())
    }
}

impl Anonymous {
    fn type_char(self) -> char {
        match self {
            Self::Event => 'e',
            Self::Signal => 's',
            Self::EventPoll => 'l',
            Self::Inotify => 'i',
            Self::Timer => 't',
            Self::Netlink => 'n',
            Self::Bpf => 'b',
            Self::Userfault => 'u',
            Self::Uring => 'r',
            Self::Memfd => 'm',
            Self::Pidfd => 'P',
            Self::Unsupported => 'X',
        }
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Signal => "signalfd",
            Self::EventPoll => "eventpoll",
            Self::Inotify => "inotify",
            Self::Timer => "timerfd",
            Self::Netlink => "netlink",
            Self::Bpf => "bpf",
            Self::Userfault => "userfaultfd",
            Self::Uring => "io_uring",
            Self::Memfd => "memfd",
            Self::Pidfd => "pidfd",
            Self::Unsupported => "unsupported",
        }
    }
}
