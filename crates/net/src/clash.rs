//! Does a range that we want overlap something on this host? A pure check of values.

use ipnet::Ipv4Net;
use std::fmt;
use std::net::Ipv4Addr;

/// A route of the host, as far as the check needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostRoute {
    pub(crate) destination: Ipv4Net,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) device: String,
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.device)
    }
}

/// A range that is already in use on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The range that was asked for.
    pub range: Ipv4Net,
    /// The flag that changes it.
    pub flag: &'static str,
    /// The route in the way, as `ip route` prints it.
    pub route: String,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the range {} overlaps this host's route `{}`; choose another with {}",
            self.range, self.route, self.flag
        )
    }
}

/// The first route that makes `range` unusable. Routes of `own` (the bridge) do not
/// count, nor does a wider route through a gateway: ours is more specific, and only
/// what lies behind that gateway in our range is hidden.
pub(crate) fn find(
    range: Ipv4Net,
    flag: &'static str,
    routes: &[HostRoute],
    own: &str,
) -> Option<Clash> {
    routes
        .iter()
        .filter(|r| r.device != own && r.destination.prefix_len() > 0)
        .filter(|r| {
            let inside = range.contains(&r.destination);
            let around = r.destination.contains(&range);
            inside || (around && r.gateway.is_none())
        })
        .map(|r| Clash {
            range,
            flag,
            route: r.to_string(),
        })
        .next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn routes_in_the_way() {
        let route = |text: &str| {
            let words: Vec<&str> = text.split(' ').collect();
            let after = |key: &str| words.iter().position(|w| *w == key).map(|i| words[i + 1]);
            HostRoute {
                destination: words[0].parse().unwrap(),
                gateway: after("via").map(|g| g.parse().unwrap()),
                device: after("dev").unwrap().into(),
            }
        };
        for (text, clashes) in [
            ("0.0.0.0/0 via 192.0.2.1 dev eth0", false),
            ("192.0.2.0/24 dev eth0", false),
            ("10.0.0.0/8 dev eth0", true),
            ("10.0.0.0/8 via 192.0.2.9 dev tun0", false),
            ("10.42.0.0/16 via 192.0.2.9 dev tun0", true),
            ("10.42.7.0/24 via 192.0.2.9 dev tun0", true),
            ("10.42.7.1/32 dev tun0", true),
            ("10.42.0.0/16 dev kn-main", false),
            ("10.42.0.0/16 dev kn-other", true),
        ] {
            let found = find(
                "10.42.0.0/16".parse().unwrap(),
                "--pod-cidr",
                &[route(text)],
                "kn-main",
            );
            assert_eq!(found.is_some(), clashes, "{text}");
        }
        let clash = Clash {
            range: "10.42.0.0/16".parse().unwrap(),
            flag: "--pod-cidr",
            route: "10.0.0.0/8 dev eth0".into(),
        };
        assert_eq!(
            clash.to_string(),
            "the range 10.42.0.0/16 overlaps this host's route `10.0.0.0/8 dev eth0`; choose another with --pod-cidr"
        );
    }
}
