//! Addresses, ports and protocols of sockets.
//!
//! The client is who connects. Local is the end that has an address of this machine; in a container,
//! whose addresses are not known here, it is the end that the thread made.

use std::net::{IpAddr, SocketAddr};

use rules::Values;
use rules::fields::FieldId as F;

use super::{SyscallEvent, put};
use crate::event::SockTuple;
use crate::process::{Fd, FdKind, L4};

/// An address as upstream prints it: IPv6 without brackets, IPv4 in IPv6 as IPv4.
pub(super) fn write_socket_address(address: SocketAddr, store: &mut Vec<u8>) {
    put(
        store,
        format_args!("{}:{}", address.ip().to_canonical(), address.port()),
    );
}

/// Both ends of a connection.
pub(super) fn write_ends(source: SocketAddr, destination: SocketAddr, store: &mut Vec<u8>) {
    write_socket_address(source, store);
    store.extend_from_slice(b"->");
    write_socket_address(destination, store);
}

/// Both ends of a connection, as an event tells them.
pub(super) fn write_tuple(tuple: &SockTuple<'_>, store: &mut Vec<u8>) {
    match tuple {
        SockTuple::Inet {
            source,
            destination,
        } => write_ends(*source, *destination, store),
        SockTuple::Unix {
            source,
            destination,
            path,
        } => {
            put(store, format_args!("{source:x}->{destination:x} "));
            store.extend_from_slice(path);
        }
        SockTuple::Other(family) => put(store, format_args!("family {family}")),
    }
}

/// Whether both ends are IPv4, whatever the socket is.
fn is_mapped(open: &Fd) -> bool {
    let v4 = |end: &SocketAddr| end.ip().to_canonical().is_ipv4();
    matches!(
        &open.kind,
        FdKind::Inet { source: Some(source), destination: Some(destination), .. }
            if v4(source) && v4(destination)
    )
}

/// The letter of a descriptor's type: a socket of IPv6 that speaks IPv4 is one of IPv4.
pub(super) fn type_char(open: &Fd) -> char {
    if is_mapped(open) {
        '4'
    } else {
        open.type_char()
    }
}

/// The name of a descriptor's type.
pub(super) fn type_name(open: &Fd) -> &'static str {
    if is_mapped(open) {
        "ipv4"
    } else {
        open.type_name()
    }
}

/// The letter of a socket's transport.
pub(super) fn transport_letter(open: &Fd) -> Option<u8> {
    match transport(open)? {
        L4::Tcp => Some(b't'),
        L4::Udp => Some(b'u'),
        L4::Icmp => Some(b'i'),
        L4::Raw => Some(b'r'),
        L4::Unknown | L4::None => None,
    }
}

/// The transport of a socket.
pub(super) fn transport(open: &Fd) -> Option<L4> {
    match &open.kind {
        FdKind::Inet { l4, .. } | FdKind::InetServer { l4, .. } => Some(*l4),
        _ => None,
    }
}

/// The ends of a socket, as far as they are known.
struct Ends {
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
    /// Whether it only waits for others.
    listens: bool,
}

impl Ends {
    fn of(open: &Fd) -> Option<Self> {
        match &open.kind {
            // Without both ends upstream knows no roles.
            FdKind::Inet {
                source: Some(source),
                destination: Some(destination),
                ..
            } => Some(Self {
                client: Some(*source),
                server: Some(*destination),
                listens: false,
            }),
            FdKind::Inet {
                source: None,
                destination: Some(destination),
                ..
            } => Some(Self {
                client: None,
                server: Some(*destination),
                listens: false,
            }),
            FdKind::InetServer { address, .. } => Some(Self {
                client: None,
                server: Some(*address),
                listens: true,
            }),
            _ => None,
        }
    }
}

impl SyscallEvent<'_> {
    /// The local and the remote end.
    fn sides(&self, ends: &Ends) -> Option<(SocketAddr, SocketAddr)> {
        let (client, server) = (ends.client?, ends.server?);
        let in_container = self.thread.is_some_and(|thread| thread.container.is_some());
        let client_is_local = match self.open.map(|open| &open.kind) {
            Some(FdKind::Inet { server, .. }) if in_container => !server,
            _ => self.host.has_address(client.ip().to_canonical()),
        };
        Some(if client_is_local {
            (client, server)
        } else {
            (server, client)
        })
    }

    /// Fields of addresses, ports and protocols; false for others.
    pub(super) fn socket_field(&self, field: F, open: &Fd, out: &mut Values<'_>) -> bool {
        let ends = Ends::of(open);
        let ends = ends.as_ref();
        let client = ends.and_then(|ends| ends.client);
        let server = ends.and_then(|ends| ends.server);
        let sides = || ends.and_then(|ends| self.sides(ends));
        let ip = |end: SocketAddr| end.ip().to_canonical();
        let mut push_ip = |address: Option<IpAddr>| {
            if let Some(address) = address {
                out.address(address);
            }
        };
        match field {
            F::FdIp | F::FdNet => {
                push_ip(client.map(ip));
                push_ip(server.map(ip));
                return true;
            }
            F::FdCip | F::FdCnet => {
                push_ip(client.map(ip));
                return true;
            }
            F::FdSip | F::FdSnet => {
                push_ip(server.map(ip));
                return true;
            }
            F::FdLip | F::FdLnet => {
                push_ip(sides().map(|(local, _)| ip(local)));
                return true;
            }
            F::FdRip | F::FdRnet => {
                push_ip(sides().map(|(_, remote)| ip(remote)));
                return true;
            }
            _ => {}
        }
        let port = match field {
            F::FdPort | F::FdProto => {
                for end in [client, server].into_iter().flatten() {
                    out.unsigned(end.port().into());
                }
                return true;
            }
            F::FdCport | F::FdCproto => client,
            F::FdSport => server,
            // Of a socket that listens upstream names no protocol.
            F::FdSproto if ends.is_some_and(|ends| ends.listens) => {
                out.text("");
                return true;
            }
            F::FdSproto => server,
            F::FdLport | F::FdLproto => sides().map(|(local, _)| local),
            F::FdRport | F::FdRproto => sides().map(|(_, remote)| remote),
            _ => return false,
        };
        let Some(port) = port.map(|end| end.port()) else {
            return true;
        };
        match field {
            // Protocols are ports as text: Falco resolves no names of ports.
            F::FdCproto | F::FdSproto | F::FdLproto | F::FdRproto => {
                out.write(|store| put(store, format_args!("{port}")));
            }
            _ => out.unsigned(port.into()),
        }
        true
    }

    /// Whether this end of a socket is the one that is connected to.
    pub(super) fn is_server(&self, open: &Fd) -> bool {
        match &open.kind {
            FdKind::InetServer { .. } => true,
            FdKind::Inet { server: true, .. } => true,
            FdKind::Inet {
                destination: Some(destination),
                ..
            } => {
                let in_container = self.thread.is_some_and(|thread| thread.container.is_some());
                !in_container && self.host.has_address(destination.ip().to_canonical())
            }
            _ => false,
        }
    }
}
