//! Interfaces: the bridge, and the pair that joins a pod to it.

use super::Netlink;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A bridge to make.
pub(crate) struct Bridge<'a> {
    pub(crate) name: &'a str,
    /// Fixed hardware address: a bridge without one takes its ports', and the pods'
    /// view of their gateway would change with every port.
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
}

/// A pair of virtual interfaces: one end a port of the bridge, the other in a pod.
pub(crate) struct Pair<'a> {
    /// Name of the end on the host.
    pub(crate) host: &'a str,
    /// Index of the bridge.
    pub(crate) bridge: u32,
    /// Hardware address of the pod's end.
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    /// What `ip link` shows beside the host's end.
    pub(crate) alias: &'a str,
}

impl Netlink {
    /// Index of the interface of that name.
    pub(crate) fn index(&mut self, name: &str) -> io::Result<Option<u32>> {
        Ok(self.link(name)?.map(|l| l.header.index))
    }

    /// MTU of the interface with that index.
    pub(crate) fn mtu(&mut self, index: u32) -> io::Result<Option<u32>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let found = self.query(RouteNetlinkMessage::GetLink(message), 0)?;
        Ok(links(found)
            .flat_map(|l| l.attributes)
            .find_map(|a| match a {
                LinkAttribute::Mtu(mtu) => Some(mtu),
                _ => None,
            }))
    }

    fn link(&mut self, name: &str) -> io::Result<Option<LinkMessage>> {
        match self.query(RouteNetlinkMessage::GetLink(named(name)), 0) {
            Ok(found) => Ok(links(found).next()),
            Err(error) if super::is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Index and name of every interface.
    pub(crate) fn interfaces(&mut self) -> io::Result<Vec<(u32, String)>> {
        let found = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(links(found)
            .map(|l| (l.header.index, name_of(&l)))
            .collect())
    }

    /// Index and name of every port of a bridge.
    pub(crate) fn ports(&mut self, bridge: u32) -> io::Result<Vec<(u32, String)>> {
        let found = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(links(found)
            .filter(|l| l.attributes.contains(&LinkAttribute::Controller(bridge)))
            .map(|l| (l.header.index, name_of(&l)))
            .collect())
    }

    /// Makes the bridge unless it is there, sets it up, and answers its index and
    /// whether it is new.
    pub(crate) fn ensure_bridge(&mut self, bridge: &Bridge<'_>) -> io::Result<(u32, bool)> {
        let mut message = named(bridge.name);
        up(&mut message);
        message
            .attributes
            .push(LinkAttribute::Address(bridge.mac.to_vec()));
        message.attributes.push(LinkAttribute::Mtu(bridge.mtu));
        let known = self.index(bridge.name)?;
        if let Some(index) = known {
            message.header.index = index;
            message
                .attributes
                .retain(|a| !matches!(a, LinkAttribute::IfName(_)));
            self.one(RouteNetlinkMessage::SetLink(message), 0)?;
            return Ok((index, false));
        }
        message
            .attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
                InfoKind::Bridge,
            )]));
        self.one(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )?;
        let index = self.index(bridge.name)?;
        index
            .map(|i| (i, true))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes a pair in one message: the host's end is a running port of the bridge, the
    /// other end is born as `eth0` in `netns` and never seen on the host. The port may
    /// send back where it received: where `br_netfilter` is active, a translated packet
    /// of a pod to itself, or to another pod, stays on the bridge. (That is also why
    /// ports cannot be isolated from each other.)
    pub(crate) fn create_pair(&mut self, pair: &Pair<'_>, netns: &File) -> io::Result<()> {
        // The kernel makes the peer first, and refuses to set one up that has no other end.
        let mut peer = named("eth0");
        peer.attributes
            .push(LinkAttribute::Address(pair.mac.to_vec()));
        peer.attributes.push(LinkAttribute::Mtu(pair.mtu));
        peer.attributes
            .push(LinkAttribute::NetNsFd(netns.as_raw_fd()));

        let mut host = named(pair.host);
        up(&mut host);
        host.attributes.push(LinkAttribute::Mtu(pair.mtu));
        host.attributes.push(LinkAttribute::Controller(pair.bridge));
        host.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));

        // A port needs no address of its own, link-local ones included.
        let mut port = named(pair.host);
        port.attributes
            .push(LinkAttribute::IfAlias(pair.alias.to_owned()));
        port.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(
                true,
            )])),
        ]));
        let mut quiet = named(pair.host);
        quiet
            .attributes
            .push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
            )]));
        let mut results = self
            .send(vec![
                (
                    RouteNetlinkMessage::NewLink(host),
                    NLM_F_CREATE | NLM_F_EXCL,
                ),
                (RouteNetlinkMessage::NewLink(port), 0),
                (RouteNetlinkMessage::SetLink(quiet), 0),
            ])?
            .into_iter();
        results.next().unwrap_or(Ok(()))?;
        // The last one fails where IPv6 is switched off: there is nothing to quieten.
        results.next().unwrap_or(Ok(()))
    }

    /// Removes an interface; absent is fine.
    pub(crate) fn delete_link(&mut self, name: &str) -> io::Result<()> {
        match self.one(RouteNetlinkMessage::DelLink(named(name)), 0) {
            Err(error) if !super::is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes an interface by its index; absent is fine.
    pub(crate) fn delete_index(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.one(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if !super::is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// The request that sets an interface up.
    pub(crate) fn set_up(index: u32) -> super::Request {
        let mut message = LinkMessage::default();
        message.header.index = index;
        up(&mut message);
        (RouteNetlinkMessage::SetLink(message), 0)
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn up(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}

fn links(found: Vec<RouteNetlinkMessage>) -> impl Iterator<Item = LinkMessage> {
    found.into_iter().filter_map(|m| match m {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    })
}

fn name_of(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}
