//! The descriptors that were open when a capture began.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::cursor::{Cursor, put_entry, put_text};
use super::{CaptureError, MOST_PATH_BYTES};
use crate::process::{Anonymous, Fd, FdKind, L4, Text};

/// Sorts of descriptors that are a name behind a number.
const ANONYMOUS: &[(u8, Anonymous)] = &[
    (9, Anonymous::Event),
    (10, Anonymous::Unsupported),
    (11, Anonymous::Signal),
    (12, Anonymous::EventPoll),
    (13, Anonymous::Inotify),
    (14, Anonymous::Timer),
    (15, Anonymous::Netlink),
    (17, Anonymous::Bpf),
    (18, Anonymous::Userfault),
    (19, Anonymous::Uring),
    (20, Anonymous::Memfd),
    (21, Anonymous::Pidfd),
];

const FILE: u8 = 1;
const DIRECTORY: u8 = 2;
const INET4: u8 = 3;
const INET6: u8 = 4;
const SERVER4: u8 = 5;
const SERVER6: u8 = 6;
const FIFO: u8 = 7;
const UNIX: u8 = 8;
const FILE_V2: u8 = 16;

/// The descriptors in a block, read one by one.
#[derive(Clone)]
pub struct FdList<'a> {
    block: Cursor<'a>,
    sized: bool,
}

impl<'a> FdList<'a> {
    pub(super) fn new(block: Cursor<'a>, sized: bool) -> Self {
        Self { block, sized }
    }

    fn read(&mut self) -> Result<Option<(i64, Fd)>, CaptureError> {
        let Some(mut entry) = self.block.entry(self.sized)? else {
            return Ok(None);
        };
        let fd = entry.i64()?;
        let ino = entry.u64()?;
        let kind = read_kind(&mut entry, self.sized)?;
        if !self.sized {
            self.block = entry;
        }
        let mut open = Fd::new(kind);
        open.ino = ino;
        Ok(Some((fd, open)))
    }
}

impl Iterator for FdList<'_> {
    type Item = Result<(i64, Fd), CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read();
        if next.is_err() {
            self.block.left = &[];
        }
        next.transpose()
    }
}

fn ip(entry: &mut Cursor<'_>, v6: bool) -> Result<IpAddr, CaptureError> {
    if v6 {
        let octets: [u8; 16] = entry.take(16)?.try_into().unwrap_or_default();
        return Ok(IpAddr::V6(Ipv6Addr::from(octets)));
    }
    let octets: [u8; 4] = entry.take(4)?.try_into().unwrap_or_default();
    Ok(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn text(entry: &mut Cursor<'_>) -> Result<Text, CaptureError> {
    entry.text().map(Arc::from)
}

fn read_kind(entry: &mut Cursor<'_>, sized: bool) -> Result<FdKind, CaptureError> {
    let number = entry.u8()?;
    Ok(match number {
        FILE => FdKind::File {
            path: text(entry)?,
            flags: 0,
            dev: 0,
        },
        FILE_V2 => FdKind::File {
            flags: entry.u32()?,
            path: text(entry)?,
            dev: if sized {
                entry.u32().unwrap_or_default()
            } else {
                0
            },
        },
        DIRECTORY => FdKind::Directory { path: text(entry)? },
        INET4 | INET6 => {
            let v6 = number == INET6;
            let (source, destination) = (ip(entry, v6)?, ip(entry, v6)?);
            let (source_port, destination_port) = (entry.u16()?, entry.u16()?);
            FdKind::Inet {
                l4: L4::from_number(entry.u8()?),
                v6,
                source: Some(SocketAddr::new(source, source_port)),
                destination: Some(SocketAddr::new(destination, destination_port)),
                server: false,
            }
        }
        SERVER4 | SERVER6 => {
            let address = ip(entry, number == SERVER6)?;
            let address = SocketAddr::new(address, entry.u16()?);
            FdKind::InetServer {
                l4: L4::from_number(entry.u8()?),
                address,
            }
        }
        FIFO => FdKind::Fifo(text(entry)?),
        UNIX => FdKind::Unix {
            source: entry.u64()?,
            destination: entry.u64()?,
            path: text(entry)?,
        },
        other => match ANONYMOUS.iter().find(|(number, _)| *number == other) {
            Some((_, sort)) => FdKind::Other(*sort, text(entry)?),
            // Of a later writer: its length, where there is one, says where it ends.
            None if sized => FdKind::Other(Anonymous::Unsupported, Arc::from(&[][..])),
            None => return Err(entry.corrupt("a descriptor is of no known sort")),
        },
    })
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr, v6: bool) {
    match ip {
        IpAddr::V4(ip) if v6 => out.extend(ip.to_ipv6_mapped().octets()),
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) if v6 => out.extend(ip.octets()),
        IpAddr::V6(_) => out.extend([0; 4]),
    }
}

pub(super) fn write(fd: i64, open: &Fd, out: &mut Vec<u8>) {
    put_entry(out, |out| {
        out.extend(fd.to_le_bytes());
        out.extend(open.ino.to_le_bytes());
        write_kind(&open.kind, out);
    });
}

fn write_kind(kind: &FdKind, out: &mut Vec<u8>) {
    let none = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    match kind {
        FdKind::File { path, flags, dev } => {
            out.push(FILE_V2);
            out.extend(flags.to_le_bytes());
            put_text(out, path, MOST_PATH_BYTES);
            out.extend(dev.to_le_bytes());
        }
        FdKind::Directory { path } => {
            out.push(DIRECTORY);
            put_text(out, path, MOST_PATH_BYTES);
        }
        FdKind::Inet {
            l4,
            v6,
            source,
            destination,
            ..
        } => {
            let (source, destination) = (source.unwrap_or(none), destination.unwrap_or(none));
            let v6 = *v6 || source.is_ipv6() || destination.is_ipv6();
            out.push(if v6 { INET6 } else { INET4 });
            put_ip(out, source.ip(), v6);
            put_ip(out, destination.ip(), v6);
            out.extend(source.port().to_le_bytes());
            out.extend(destination.port().to_le_bytes());
            out.push(*l4 as u8);
        }
        FdKind::InetServer { l4, address } => {
            let v6 = address.is_ipv6();
            out.push(if v6 { SERVER6 } else { SERVER4 });
            put_ip(out, address.ip(), v6);
            out.extend(address.port().to_le_bytes());
            out.push(*l4 as u8);
        }
        FdKind::Fifo(name) => {
            out.push(FIFO);
            put_text(out, name, MOST_PATH_BYTES);
        }
        FdKind::Unix {
            source,
            destination,
            path,
        } => {
            out.push(UNIX);
            out.extend(source.to_le_bytes());
            out.extend(destination.to_le_bytes());
            put_text(out, path, MOST_PATH_BYTES);
        }
        FdKind::Other(sort, name) => {
            let number = ANONYMOUS.iter().find(|(_, other)| other == sort);
            out.push(number.map_or(10, |(number, _)| *number));
            put_text(out, name, MOST_PATH_BYTES);
        }
    }
}
