//! Making and removing what all pods of a node share.

use super::Inner;
use crate::clash;
use crate::config::{Config, Layout, bridge_name};
use crate::error::NetError;
use crate::ipam::Ipam;
use crate::netlink::{Bridge, Netlink, mac_of};
use crate::nft::Table;
use ipnet::Ipv4Net;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// MTU in bytes where neither the settings nor a default route name one.
const DEFAULT_MTU: u32 = 1500;

pub(super) fn open(config: Config, layout: Layout, table: Table) -> Result<Inner, NetError> {
    let failed = |action, object: &str| {
        let object = object.to_owned();
        move |source| NetError::Kernel {
            action,
            object,
            source,
        }
    };
    let mut netlink = Netlink::open().map_err(failed("open", "routing netlink"))?;
    let (routes, default) = netlink.host_routes().map_err(failed("list", "routes"))?;
    for (range, flag) in [
        (layout.pod_cidr, "--pod-cidr"),
        (layout.service_cidr, "--service-cidr"),
    ] {
        if let Some(clash) = clash::find(range, flag, &routes, &layout.bridge) {
            return Err(NetError::Clash(clash));
        }
    }
    let inherited = match default {
        Some(index) => netlink
            .mtu(index)
            .map_err(failed("read the MTU of", "the default route"))?,
        None => None,
    };
    let mtu = config.mtu.or(inherited).unwrap_or(DEFAULT_MTU);

    let spec = Bridge {
        name: &layout.bridge,
        mac: mac_of(layout.gateway),
        mtu,
    };
    let (bridge, new) = netlink
        .ensure_bridge(&spec)
        .map_err(failed("set up the bridge", &layout.bridge))?;
    let ipam = Ipam::open(&config.data_dir.join("net"), layout.pod_cidr, !new)?;
    configure(&mut netlink, bridge, &layout)
        .map_err(failed("configure the bridge", &layout.bridge))?;
    // Pods reach each other through this host on one interface, of which the kernel would
    // tell them with redirects; and those use up what it lets itself send of refusals. An
    // interface sends them if its own switch or that of all is on: the others keep theirs.
    sysctl(&format!("ipv4/conf/{}/send_redirects", layout.bridge), "0")?;
    sysctl("ipv4/conf/all/send_redirects", "0")?;
    sysctl(&format!("ipv4/conf/{}/route_localnet", layout.bridge), "1")?;
    sysctl("ipv4/ip_forward", "1")?;

    let delete = Netlink::open().map_err(failed("open", "routing netlink"))?;
    Ok(Inner {
        bridge,
        mtu,
        ipam: Mutex::new(ipam),
        create: Mutex::new(netlink),
        delete: Mutex::new(delete),
        table: tokio::sync::Mutex::new(table),
        config,
        layout,
    })
}

/// Gives the bridge the gateway's and the DNS server's address, and takes away what an
/// earlier configuration gave it. The route to the Services lets this host reach them
/// without a default route: translation happens after the kernel chose a route.
fn configure(netlink: &mut Netlink, bridge: u32, layout: &Layout) -> io::Result<()> {
    let wanted = [
        Ipv4Net::new(layout.gateway, layout.pod_cidr.prefix_len()).map_err(io::Error::other)?,
        Ipv4Net::from(layout.dns),
    ];
    for old in netlink.addresses(bridge)? {
        if !wanted.contains(&old) {
            netlink.delete_address(bridge, old)?;
        }
    }
    let requests = vec![
        Netlink::address(bridge, wanted[0]),
        Netlink::address(bridge, wanted[1]),
        Netlink::range_route(bridge, layout.service_cidr, layout.gateway),
    ];
    netlink.send(requests)?.into_iter().collect()
}

/// Sets a setting of the network namespace unless it is so.
fn sysctl(name: &str, value: &str) -> Result<(), NetError> {
    let path = PathBuf::from("/proc/sys/net").join(name);
    if fs::read(&path).is_ok_and(|found| found.trim_ascii() == value.as_bytes()) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| NetError::Sysctl { path, source })
}

pub(super) fn remove(instance: &str, data_dir: &Path) -> Result<(), NetError> {
    let bridge = bridge_name(instance);
    let failed = |source| NetError::Kernel {
        action: "remove",
        object: bridge.clone(),
        source,
    };
    let mut netlink = Netlink::open().map_err(failed)?;
    if let Some(index) = netlink.index(&bridge).map_err(failed)? {
        for (port, _) in netlink.ports(index).map_err(failed)? {
            netlink.delete_index(port).map_err(failed)?;
        }
        netlink.delete_index(index).map_err(failed)?;
    }
    let state = data_dir.join("net");
    match fs::remove_dir_all(&state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NetError::State {
            path: state,
            source: error,
        }),
        _ => Ok(()),
    }
}
