//! The network interfaces of a captured machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cursor::Cursor;
use super::{CaptureError, MOST_PATH_BYTES};

const V4: u16 = 1;
const V6: u16 = 2;
const V4_NO_SPEED: u16 = 3;
const V6_NO_SPEED: u16 = 4;

/// An address of a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// The mask of its network, of the same family.
    pub netmask: IpAddr,
    /// The address for all, of the same family.
    pub broadcast: IpAddr,
    /// Bits per second; 0 when it is not known.
    pub link_speed: u64,
}

impl Interface {
    /// Every address of this machine.
    #[must_use]
    pub fn of_host() -> Vec<Self> {
        let Ok(addresses) = nix::ifaddrs::getifaddrs() else {
            return Vec::new();
        };
        addresses.filter_map(|entry| Self::of(&entry)).collect()
    }

    fn of(entry: &nix::ifaddrs::InterfaceAddress) -> Option<Self> {
        let ip = |address: Option<nix::sys::socket::SockaddrStorage>| -> Option<IpAddr> {
            let address = address?;
            if let Some(v4) = address.as_sockaddr_in() {
                return Some(IpAddr::V4(v4.ip()));
            }
            address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
        };
        let address = ip(entry.address)?;
        let unspecified = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let same = |other: Option<IpAddr>| {
            other
                .filter(|other| other.is_ipv4() == address.is_ipv4())
                .unwrap_or(unspecified)
        };
        Some(Self {
            name: entry.interface_name.clone(),
            address,
            netmask: same(ip(entry.netmask)),
            broadcast: same(ip(entry.broadcast)),
            link_speed: 0,
        })
    }

    pub(super) fn read_all(mut block: Cursor<'_>, sized: bool) -> Result<Vec<Self>, CaptureError> {
        let mut all = Vec::new();
        while let Some(mut entry) = next(&mut block, sized)? {
            let kind = entry.u16()?;
            let name_bytes = usize::from(entry.u16()?);
            let ip = |entry: &mut Cursor<'_>| -> Result<IpAddr, CaptureError> {
                if matches!(kind, V4 | V4_NO_SPEED) {
                    let octets: [u8; 4] = entry.take(4)?.try_into().unwrap_or_default();
                    return Ok(IpAddr::V4(Ipv4Addr::from(octets)));
                }
                let octets: [u8; 16] = entry.take(16)?.try_into().unwrap_or_default();
                Ok(IpAddr::V6(Ipv6Addr::from(octets)))
            };
            if !matches!(kind, V4 | V6 | V4_NO_SPEED | V6_NO_SPEED) {
                return Err(entry.corrupt("an interface is of no known sort"));
            }
            let (address, netmask, broadcast) = (ip(&mut entry)?, ip(&mut entry)?, ip(&mut entry)?);
            let link_speed = if matches!(kind, V4 | V6) {
                entry.u64()?
            } else {
                0
            };
            let name = String::from_utf8_lossy(entry.take(name_bytes)?).into_owned();
            all.push(Self {
                name,
                address,
                netmask,
                broadcast,
                link_speed,
            });
            if !sized {
                block = entry;
            }
        }
        Ok(all)
    }

    /// Those of IPv4 first, as upstream orders them.
    pub(super) fn write_all(all: &[Self], out: &mut Vec<u8>) {
        for v6 in [false, true] {
            for one in all.iter().filter(|one| one.address.is_ipv6() == v6) {
                let mut entry = Vec::new();
                one.write(&mut entry);
                out.extend(u32::try_from(entry.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend(entry);
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let kind = if self.address.is_ipv4() { V4 } else { V6 };
        let name = self.name.as_bytes();
        let name = name.get(..MOST_PATH_BYTES).unwrap_or(name);
        out.extend(kind.to_le_bytes());
        out.extend(u16::try_from(name.len()).unwrap_or(0).to_le_bytes());
        for ip in [self.address, self.netmask, self.broadcast] {
            match (ip, self.address) {
                (IpAddr::V4(ip), IpAddr::V4(_)) => out.extend(ip.octets()),
                (IpAddr::V6(ip), IpAddr::V6(_)) => out.extend(ip.octets()),
                (_, IpAddr::V4(_)) => out.extend([0; 4]),
                (_, IpAddr::V6(_)) => out.extend([0; 16]),
            }
        }
        out.extend(self.link_speed.to_le_bytes());
        out.extend(name);
    }
}

/// The next entry. In this list, unlike the others, a length does not count itself.
fn next<'a>(block: &mut Cursor<'a>, sized: bool) -> Result<Option<Cursor<'a>>, CaptureError> {
    if !sized || block.left.len() < 4 {
        return block.entry(false);
    }
    let length = usize::try_from(block.u32()?).unwrap_or(usize::MAX);
    Ok(Some(Cursor::new(block.kind, block.take(length)?)))
}
