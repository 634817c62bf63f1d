//! Addresses, routes and neighbours.

use super::{Netlink, Request};
use crate::clash::HostRoute;
use ipnet::Ipv4Net;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// The hardware address that belongs to an IPv4 address. Derived, so that an address
/// that comes back with another pod finds no stale neighbour entry anywhere.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

impl Netlink {
    /// The requests that configure a pod's interface: its address, the route to the
    /// gateway and through it, and the gateway's hardware address.
    pub(crate) fn pod_requests(eth0: u32, address: Ipv4Addr, gateway: Ipv4Addr) -> Vec<Request> {
        let direct = RouteTo {
            range: Ipv4Net::from(gateway),
            device: eth0,
            scope: RouteScope::Link,
            gateway: None,
            source: None,
        };
        let default = RouteTo {
            range: Ipv4Net::default(),
            device: eth0,
            scope: RouteScope::Universe,
            gateway: Some(gateway),
            source: None,
        };
        vec![
            Self::address(eth0, Ipv4Net::from(address)),
            direct.request(),
            default.request(),
            Self::neighbour(eth0, gateway),
        ]
    }

    /// The request that gives an interface an address.
    pub(crate) fn address(device: u32, address: Ipv4Net) -> Request {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = address.prefix_len();
        message.header.scope = AddressScope::Universe;
        message.header.index = device;
        let ip = IpAddr::V4(address.addr());
        message.attributes.push(AddressAttribute::Local(ip));
        message.attributes.push(AddressAttribute::Address(ip));
        if address.prefix_len() < 31 {
            message
                .attributes
                .push(AddressAttribute::Broadcast(address.broadcast()));
        }
        (
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// The IPv4 addresses of an interface.
    pub(crate) fn addresses(&mut self, device: u32) -> io::Result<Vec<Ipv4Net>> {
        let mut query = AddressMessage::default();
        query.header.family = AddressFamily::Inet;
        let found = self.dump(RouteNetlinkMessage::GetAddress(query))?;
        let of_device = found.into_iter().filter_map(|m| match m {
            RouteNetlinkMessage::NewAddress(a) if a.header.index == device => Some(a),
            _ => None,
        });
        Ok(of_device
            .filter_map(|a| {
                let local = a.attributes.iter().find_map(|x| match x {
                    AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
                    _ => None,
                });
                Ipv4Net::new(local?, a.header.prefix_len).ok()
            })
            .collect())
    }

    /// Takes an address from an interface.
    pub(crate) fn delete_address(&mut self, device: u32, address: Ipv4Net) -> io::Result<()> {
        let (message, _) = Self::address(device, address);
        let RouteNetlinkMessage::NewAddress(message) = message else {
            return Ok(());
        };
        self.one(RouteNetlinkMessage::DelAddress(message), 0)
    }

    /// The request for a route to a directly reachable range, with the source address
    /// of what this host itself sends there.
    pub(crate) fn range_route(device: u32, range: Ipv4Net, source: Ipv4Addr) -> Request {
        RouteTo {
            range,
            device,
            scope: RouteScope::Link,
            gateway: None,
            source: Some(source),
        }
        .request()
    }

    fn neighbour(device: u32, address: Ipv4Addr) -> Request {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = device;
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::Destination(NeighbourAddress::Inet(
                address,
            )));
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(
                mac_of(address).to_vec(),
            ));
        (
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// The IPv4 routes of the main table with the names of their devices, and the
    /// index of the default route's device.
    pub(crate) fn host_routes(&mut self) -> io::Result<(Vec<HostRoute>, Option<u32>)> {
        let names = self.interfaces()?;
        let mut query = RouteMessage::default();
        query.header.address_family = AddressFamily::Inet;
        let mut routes = Vec::new();
        let mut default: Option<(u32, u32)> = None;
        for message in self.dump(RouteNetlinkMessage::GetRoute(query))? {
            let RouteNetlinkMessage::NewRoute(route) = message else {
                continue;
            };
            if route.header.table != RouteHeader::RT_TABLE_MAIN {
                continue;
            }
            let mut destination = Ipv4Addr::UNSPECIFIED;
            let (mut gateway, mut device, mut metric) = (None, None, 0);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(a)) => destination = *a,
                    RouteAttribute::Gateway(RouteAddress::Inet(a)) => gateway = Some(*a),
                    RouteAttribute::Oif(index) => device = Some(*index),
                    RouteAttribute::Priority(p) => metric = *p,
                    _ => {}
                }
            }
            let length = route.header.destination_prefix_length;
            let Ok(destination) = Ipv4Net::new(destination, length) else {
                continue;
            };
            if let Some(index) = device
                && length == 0
                && default.is_none_or(|(_, best)| metric < best)
            {
                default = Some((index, metric));
            }
            let name = names
                .iter()
                .find(|(i, _)| Some(*i) == device)
                .map(|(_, n)| n.clone());
            // A blackhole or unreachable route has no device and reaches nobody.
            let Some(name) = name else { continue };
            routes.push(HostRoute {
                destination,
                gateway,
                device: name,
            });
        }
        Ok((routes, default.map(|(index, _)| index)))
    }
}

struct RouteTo {
    range: Ipv4Net,
    device: u32,
    scope: RouteScope,
    gateway: Option<Ipv4Addr>,
    source: Option<Ipv4Addr>,
}

impl RouteTo {
    fn request(self) -> Request {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = self.range.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = self.scope;
        message.header.kind = RouteType::Unicast;
        if self.range.prefix_len() > 0 {
            let range = RouteAddress::Inet(self.range.addr());
            message.attributes.push(RouteAttribute::Destination(range));
        }
        message.attributes.push(RouteAttribute::Oif(self.device));
        if let Some(gateway) = self.gateway {
            message
                .attributes
                .push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        }
        if let Some(source) = self.source {
            message
                .attributes
                .push(RouteAttribute::PrefSource(RouteAddress::Inet(source)));
        }
        (
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }
}
