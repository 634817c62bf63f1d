//! What the bytes of a parameter mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::schema::Kind;
use super::view::{number, until_zero};

/// A parameter's meaning. Bytes that do not fit their type are [`Value::Bytes`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing: the probe could not read it.
    Absent,
    /// A number with a sign: results, descriptors, processes.
    Int(i64),
    /// A number without one: flags, ids, sizes, times.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// Text without its zero byte; not always UTF-8.
    Text(&'a [u8]),
    /// Bytes that are no text.
    Bytes(&'a [u8]),
    /// Texts, each ended by a zero byte: iterate with [`texts`].
    Texts(&'a [u8]),
    /// Descriptors with flags: iterate with [`descriptors`].
    Descriptors(&'a [u8]),
    /// An address without port.
    Ip(IpAddr),
    /// One end of a connection.
    SockAddr(SockAddr<'a>),
    /// Both ends of a connection.
    SockTuple(SockTuple<'a>),
}

/// Address families, as upstream numbers them (the kernel's numbers).
const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SockAddr<'a> {
    /// IPv4 or IPv6.
    Inet(SocketAddr),
    /// A unix socket: its path, without the zero byte that an abstract one begins with.
    Unix(&'a [u8]),
    /// Another family.
    Other(u8),
}

/// Both ends of a connection. The source is who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SockTuple<'a> {
    /// IPv4 or IPv6.
    Inet {
        /// Who connects.
        source: SocketAddr,
        /// Who is connected to.
        destination: SocketAddr,
    },
    /// Unix sockets.
    Unix {
        /// The kernel's pointer to one end.
        source: u64,
        /// The kernel's pointer to the other.
        destination: u64,
        /// Where the one that is connected to is bound.
        path: &'a [u8],
    },
    /// Another family.
    Other(u8),
}

impl<'a> Value<'a> {
    pub(super) fn read(kind: Kind, bytes: &'a [u8]) -> Self {
        if bytes.is_empty() {
            return Self::Absent;
        }
        match kind {
            Kind::Int8 => signed(bytes, 1),
            Kind::Int16 => signed(bytes, 2),
            Kind::Int32 | Kind::Fd32 | Kind::Pid32 => signed(bytes, 4),
            Kind::Int64 | Kind::Errno | Kind::Fd | Kind::Pid => signed(bytes, 8),
            Kind::Uint8
            | Kind::SigType
            | Kind::L4Proto
            | Kind::SockFamily
            | Kind::Flags8
            | Kind::EnumFlags8 => unsigned(bytes, 1),
            Kind::Uint16 | Kind::SyscallId | Kind::Port | Kind::Flags16 | Kind::EnumFlags16 => {
                unsigned(bytes, 2)
            }
            Kind::Uint32
            | Kind::Bool
            | Kind::Flags32
            | Kind::EnumFlags32
            | Kind::Uid
            | Kind::Gid
            | Kind::SigSet
            | Kind::Mode => unsigned(bytes, 4),
            Kind::Uint64 | Kind::RelTime | Kind::AbsTime => unsigned(bytes, 8),
            Kind::Double => {
                exact(bytes, 8).map_or(Self::Bytes(bytes), |raw| Self::Double(f64::from_bits(raw)))
            }
            Kind::CharBuf | Kind::FsPath | Kind::FsRelPath => Self::Text(until_zero(bytes)),
            Kind::CharBufArray | Kind::CharBufPairArray => Self::Texts(bytes),
            Kind::FdList => Self::Descriptors(bytes),
            Kind::SockAddr => sock_addr(bytes).map_or(Self::Bytes(bytes), Self::SockAddr),
            Kind::SockTuple => sock_tuple(bytes).map_or(Self::Bytes(bytes), Self::SockTuple),
            Kind::Ipv4Addr | Kind::Ipv6Addr | Kind::IpAddr => {
                ip(bytes).map_or(Self::Bytes(bytes), Self::Ip)
            }
            Kind::None
            | Kind::ByteBuf
            | Kind::Dyn
            | Kind::Ipv4Net
            | Kind::Ipv6Net
            | Kind::IpNet => Self::Bytes(bytes),
        }
    }
}

fn exact(bytes: &[u8], width: usize) -> Option<u64> {
    (bytes.len() == width).then(|| number(bytes, 0, width))
}

fn unsigned(bytes: &[u8], width: usize) -> Value<'_> {
    exact(bytes, width).map_or(Value::Bytes(bytes), Value::Uint)
}

fn signed(bytes: &[u8], width: usize) -> Value<'_> {
    let shift = 64 - 8 * width;
    exact(bytes, width).map_or(Value::Bytes(bytes), |raw| {
        Value::Int((raw << shift).cast_signed() >> shift)
    })
}

/// The texts in a list, each without its zero byte. A last one without a zero byte counts.
pub fn texts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = bytes;
    std::iter::from_fn(move || {
        if left.is_empty() {
            return None;
        }
        let text = until_zero(left);
        left = left.get(text.len() + 1..).unwrap_or_default();
        Some(text)
    })
}

/// The descriptors in a list, with their flags.
pub fn descriptors(bytes: &[u8]) -> impl Iterator<Item = (i64, u16)> {
    let count = usize::try_from(number(bytes, 0, 2)).unwrap_or_default();
    bytes
        .get(2..)
        .unwrap_or_default()
        .chunks_exact(10)
        .take(count)
        .map(|entry| {
            let flags = u16::try_from(number(entry, 8, 2)).unwrap_or_default();
            (number(entry, 0, 8).cast_signed(), flags)
        })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::V4(Ipv4Addr::from(octets)));
    }
    let octets = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(octets)))
}

/// An address in the order of the network, then a port in the order of the machine.
fn inet(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
    let port = u16::from_le_bytes(port.try_into().ok()?);
    Some(SocketAddr::new(ip(address)?, port))
}

fn sock_addr(bytes: &[u8]) -> Option<SockAddr<'_>> {
    let (family, rest) = bytes.split_first()?;
    Some(match *family {
        AF_INET if rest.len() == 6 => SockAddr::Inet(inet(rest)?),
        AF_INET6 if rest.len() == 18 => SockAddr::Inet(inet(rest)?),
        AF_UNIX => SockAddr::Unix(until_zero(rest)),
        other => SockAddr::Other(other),
    })
}

fn sock_tuple(bytes: &[u8]) -> Option<SockTuple<'_>> {
    let (family, rest) = bytes.split_first()?;
    let both = |half: usize| -> Option<SockTuple<'_>> {
        let (source, destination) = rest.split_at_checked(half)?;
        Some(SockTuple::Inet {
            source: inet(source)?,
            destination: inet(destination)?,
        })
    };
    match *family {
        AF_INET if rest.len() == 12 => both(6),
        AF_INET6 if rest.len() == 36 => both(18),
        AF_UNIX if rest.len() >= 16 => Some(SockTuple::Unix {
            source: number(rest, 0, 8),
            destination: number(rest, 8, 8),
            path: until_zero(rest.get(16..)?),
        }),
        other => Some(SockTuple::Other(other)),
    }
}
