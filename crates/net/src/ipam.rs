//! Which pod holds which address. One small file, replaced as a whole before an
//! address is handed out.
//!
//! The file is not forced to the disk: a lease outlives this process, not the host's
//! run, and after a reboot no pod holds an address. A damaged file is therefore an
//! error only while the bridge is there.
//!
//! An address that was freed is taken again as late as possible (never used ones
//! first, then the one freed longest ago), so that a peer's stale idea of it has aged.

use crate::config::HostPort;
use crate::error::NetError;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One pod's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) host_ports: Vec<HostPort>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// By pod uid.
    leases: BTreeMap<String, Lease>,
    /// Freed addresses, the one freed longest ago first.
    freed: VecDeque<Ipv4Addr>,
    /// The next address that was never given out.
    next: Option<Ipv4Addr>,
}

/// The leases of one node.
pub(crate) struct Ipam {
    range: Ipv4Net,
    path: PathBuf,
    state: State,
    used: HashSet<Ipv4Addr>,
}

impl Ipam {
    /// Reads the record in `directory`, which is made if absent. `running` says that
    /// pods may hold addresses (the bridge was there before us).
    pub(crate) fn open(directory: &Path, range: Ipv4Net, running: bool) -> Result<Ipam, NetError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| NetError::State { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(at(directory))?;
        let path = directory.join("leases.json");
        let mut state = match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<State>(&bytes) {
                Ok(state) => state,
                Err(source) if running => return Err(NetError::StateDamaged { path, source }),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "address record is damaged and no pod network is there: starting a new one");
                    State::default()
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(source) => return Err(NetError::State { path, source }),
        };
        // Addresses of a range that was configured earlier are of no use.
        let hosts = Hosts::of(range);
        state
            .leases
            .retain(|_, lease| hosts.contains(lease.address));
        state.freed.retain(|a| hosts.contains(*a));
        state.next = state.next.filter(|a| hosts.contains(*a) || *a > hosts.last);
        let used = state.leases.values().map(|l| l.address).collect();
        Ok(Ipam {
            range,
            path,
            state,
            used,
        })
    }

    /// The pod's lease.
    pub(crate) fn get(&self, uid: &str) -> Option<&Lease> {
        self.state.leases.get(uid)
    }

    /// All leases by pod uid.
    pub(crate) fn leases(&self) -> &BTreeMap<String, Lease> {
        &self.state.leases
    }

    /// Gives the pod an address, or the one that it has already, and writes it down.
    pub(crate) fn lease(
        &mut self,
        uid: &str,
        namespace: &str,
        name: &str,
        host_ports: &[HostPort],
    ) -> Result<Ipv4Addr, NetError> {
        if let Some(lease) = self.state.leases.get_mut(uid) {
            let address = lease.address;
            if lease.host_ports != host_ports {
                lease.host_ports = host_ports.to_vec();
                self.save()?;
            }
            return Ok(address);
        }
        let address = self.pick().ok_or_else(|| NetError::Exhausted {
            range: self.range.into(),
            leased: self.used.len(),
        })?;
        let lease = Lease {
            address,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            host_ports: host_ports.to_vec(),
        };
        self.state.leases.insert(uid.to_owned(), lease);
        self.used.insert(address);
        if let Err(error) = self.save() {
            self.state.leases.remove(uid);
            self.used.remove(&address);
            self.state.freed.push_front(address);
            return Err(error);
        }
        Ok(address)
    }

    /// Takes the addresses of those pods back.
    pub(crate) fn release<'a>(
        &mut self,
        uids: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), NetError> {
        let mut changed = false;
        for uid in uids {
            if let Some(lease) = self.state.leases.remove(uid) {
                self.used.remove(&lease.address);
                self.state.freed.push_back(lease.address);
                changed = true;
            }
        }
        if changed { self.save() } else { Ok(()) }
    }

    fn pick(&mut self) -> Option<Ipv4Addr> {
        let hosts = Hosts::of(self.range);
        let mut candidate = self.state.next.unwrap_or(hosts.first);
        while candidate <= hosts.last {
            let after = Ipv4Addr::from_bits(candidate.to_bits().saturating_add(1));
            self.state.next = Some(after);
            if !self.used.contains(&candidate) && !self.state.freed.contains(&candidate) {
                return Some(candidate);
            }
            candidate = after;
        }
        while let Some(freed) = self.state.freed.pop_front() {
            if !self.used.contains(&freed) {
                return Some(freed);
            }
        }
        // A record written by hand or lost in part: whatever is free.
        (hosts.first.to_bits()..=hosts.last.to_bits())
            .map(Ipv4Addr::from_bits)
            .find(|a| !self.used.contains(a))
    }

    fn save(&self) -> Result<(), NetError> {
        let temporary = self.path.with_extension("json.new");
        let written = serde_json::to_vec(&self.state)
            .map_err(std::io::Error::other)
            .and_then(|bytes| {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&temporary)?;
                file.write_all(&bytes)?;
                fs::rename(&temporary, &self.path)
            });
        written.map_err(|source| NetError::State {
            path: self.path.clone(),
            source,
        })
    }
}

/// The addresses of a range that a pod can have: all but the network's own, the
/// gateway's and the broadcast address.
struct Hosts {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

impl Hosts {
    fn of(range: Ipv4Net) -> Hosts {
        Hosts {
            first: Ipv4Addr::from_bits(range.network().to_bits().saturating_add(2)),
            last: Ipv4Addr::from_bits(range.broadcast().to_bits().saturating_sub(1)),
        }
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        self.first <= address && address <= self.last
    }
}

impl Lease {
    /// The address in the type that the API uses.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        vec![IpAddr::V4(self.address)]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_late_as_possible_and_survive_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let range: Ipv4Net = "10.0.0.0/29".parse().unwrap();
        let open = || Ipam::open(directory.path(), range, true).unwrap();
        let last =
            |ipam: &mut Ipam, uid: &str| ipam.lease(uid, "ns", uid, &[]).map(|a| a.octets()[3]);
        let mut ipam = open();
        assert_eq!(last(&mut ipam, "a").unwrap(), 2);
        assert_eq!(last(&mut ipam, "b").unwrap(), 3);
        assert_eq!(last(&mut ipam, "a").unwrap(), 2, "idempotent for a uid");
        ipam.release(["a"]).unwrap();
        let mut ipam = open();
        for (uid, expected) in [("c", 4), ("d", 5), ("e", 6), ("f", 2)] {
            assert_eq!(last(&mut ipam, uid).unwrap(), expected, "{uid}");
        }
        assert!(matches!(
            last(&mut ipam, "g"),
            Err(NetError::Exhausted { leased: 5, .. })
        ));
        ipam.release(["d", "b"]).unwrap();
        let mut ipam = open();
        assert_eq!(
            last(&mut ipam, "h").unwrap(),
            5,
            "the one freed longest ago"
        );
        assert_eq!(last(&mut ipam, "i").unwrap(), 3);
    }

    #[test]
    fn a_damaged_record_is_an_error_only_while_pods_may_run() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("leases.json"), b"{\"leases\":").unwrap();
        let range: Ipv4Net = "10.0.0.0/24".parse().unwrap();
        let running = Ipam::open(directory.path(), range, true);
        assert!(matches!(running, Err(NetError::StateDamaged { .. })));
        assert!(Ipam::open(directory.path(), range, false).is_ok());
    }
}
