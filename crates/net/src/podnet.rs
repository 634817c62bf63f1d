//! The pod network: one bridge, one pair of interfaces a pod.

mod setup;

use crate::config::{Config, DnsConfig, HostPort, Layout, pods_table_name, table_name};
use crate::error::NetError;
use crate::ipam::Ipam;
use crate::netlink::{Netlink, Pair, is_present, mac_of};
use crate::nft::{self, Table};
use crate::{netns, ports};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The network of this node's pods. Cloning shares it.
#[derive(Clone)]
pub struct PodNet {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    layout: Layout,
    bridge: u32,
    mtu: u32,
    ipam: Mutex<Ipam>,
    /// Makes interfaces.
    create: Mutex<Netlink>,
    /// Removes them: the kernel waits for readers then, and nobody else shall.
    delete: Mutex<Netlink>,
    table: tokio::sync::Mutex<Table>,
}

/// What a pod is called, and the host ports it asks for.
struct Pod {
    uid: String,
    namespace: String,
    name: String,
    host_ports: Vec<HostPort>,
    netns: PathBuf,
}

impl PodNet {
    /// Makes the bridge, its addresses and the masquerading, or takes over what an
    /// earlier process left. Fails with [`NetError::Clash`] if a range is in use on
    /// this host. Must be called on a tokio runtime, in the host's network namespace.
    pub async fn open(config: Config) -> Result<PodNet, NetError> {
        let layout = config.layout()?;
        let table = Table::new(layout.pods_table.clone());
        let inner = blocking(move || setup::open(config, layout, table)).await?;
        let net = PodNet {
            inner: Arc::new(inner),
        };
        net.program().await?;
        Ok(net)
    }

    /// Gives a pod its address and joins the network namespace at `netns` to the
    /// network. Idempotent for a `uid`: a repeated call answers the same addresses and
    /// mends what is missing. When it returns, host ports are reachable too.
    pub async fn attach(
        &self,
        uid: &str,
        namespace: &str,
        name: &str,
        host_ports: &[HostPort],
        netns: &Path,
    ) -> Result<Vec<IpAddr>, NetError> {
        let pod = Pod {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            host_ports: host_ports.to_vec(),
            netns: netns.to_owned(),
        };
        let inner = self.inner.clone();
        let addresses = blocking(move || inner.attach(&pod)).await?;
        if !host_ports.is_empty() {
            self.program().await?;
        }
        Ok(addresses)
    }

    /// Takes a pod off the network and its address back. Absent is fine.
    pub async fn detach(&self, uid: &str) -> Result<(), NetError> {
        self.forget(vec![uid.to_owned()]).await
    }

    /// Forgets every pod but these: for the start of the node.
    pub async fn retain(&self, uids: &HashSet<String>) -> Result<(), NetError> {
        let gone: Vec<String> = self
            .inner
            .ipam()
            .leases()
            .keys()
            .filter(|u| !uids.contains(*u))
            .cloned()
            .collect();
        let keep: HashSet<String> = uids.iter().map(|u| self.inner.port_name(u)).collect();
        let inner = self.inner.clone();
        blocking(move || inner.remove_ports_except(&keep)).await?;
        self.forget(gone).await
    }

    /// The addresses of an attached pod.
    pub fn address(&self, uid: &str) -> Option<Vec<IpAddr>> {
        self.inner
            .ipam()
            .get(uid)
            .map(crate::ipam::Lease::addresses)
    }

    /// Where pods find the cluster's DNS.
    pub fn dns(&self) -> DnsConfig {
        DnsConfig {
            servers: vec![IpAddr::V4(self.inner.layout.dns)],
            domain: self.inner.config.cluster_domain.clone(),
        }
    }

    /// The node's own address in the pod network, which is the pods' gateway.
    pub fn gateway(&self) -> IpAddr {
        IpAddr::V4(self.inner.layout.gateway)
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Removes everything that an instance made on this host: interfaces, bridge,
    /// nftables tables, and the address record in `data_dir`. Pods lose their network.
    pub async fn cleanup(instance: &str, data_dir: &Path) -> Result<(), NetError> {
        let owned = (instance.to_owned(), data_dir.to_owned());
        blocking(move || setup::remove(&owned.0, &owned.1)).await?;
        for table in [table_name(instance), pods_table_name(instance)] {
            match nft::remove(&table).await {
                // Without the program no table was ever made.
                Ok(()) | Err(crate::NftError::Start(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    async fn forget(&self, uids: Vec<String>) -> Result<(), NetError> {
        if uids.is_empty() {
            return Ok(());
        }
        let inner = self.inner.clone();
        if blocking(move || inner.forget(&uids)).await? {
            self.program().await?;
        }
        Ok(())
    }

    /// Programs the host ports of the leases as they are now. Calls that come while one
    /// is under way find their work done by the next.
    async fn program(&self) -> Result<(), NetError> {
        let mut table = self.inner.table.lock().await;
        let wanted = ports::ruleset(&self.inner.layout, self.inner.ipam().leases().values());
        table.apply(wanted).await?;
        Ok(())
    }
}

impl Inner {
    fn ipam(&self) -> MutexGuard<'_, Ipam> {
        lock(&self.ipam)
    }

    /// Name of the host's end of a pod's pair.
    fn port_name(&self, uid: &str) -> String {
        let digest = Sha256::new()
            .chain_update(&self.config.instance)
            .chain_update("/")
            .chain_update(uid)
            .finalize();
        let mut name = String::from("knv");
        for byte in digest.iter().take(6) {
            name.push_str(&format!("{byte:02x}"));
        }
        name
    }

    fn attach(&self, pod: &Pod) -> Result<Vec<IpAddr>, NetError> {
        let netns = File::open(&pod.netns).map_err(|source| NetError::Netns {
            path: pod.netns.clone(),
            source,
        })?;
        let known = self.ipam().get(&pod.uid).is_some();
        let address = self
            .ipam()
            .lease(&pod.uid, &pod.namespace, &pod.name, &pod.host_ports)?;
        let port = self.port_name(&pod.uid);
        let wired = netns::netlink_in(&netns, &pod.netns).and_then(|mut inside| {
            let failed = |action, object: &str| {
                let object = object.to_owned();
                move |source| NetError::Kernel {
                    action,
                    object,
                    source,
                }
            };
            let present = if known {
                inside.index("eth0").map_err(failed("look up", "eth0"))?
            } else {
                None
            };
            if present.is_none() {
                let pair = Pair {
                    host: &port,
                    bridge: self.bridge,
                    mac: mac_of(address),
                    mtu: self.mtu,
                    alias: &format!("{}/{} {}", pod.namespace, pod.name, pod.uid),
                };
                self.create_pair(&pair, &netns)
                    .map_err(failed("create", &port))?;
            }
            configure(&mut inside, address, self.layout.gateway)
                .map_err(failed("configure eth0 of", &pod.name))
        });
        if let Err(error) = wired {
            if !known {
                let _ = lock(&self.delete).delete_link(&port);
                let _ = self.ipam().release([pod.uid.as_str()]);
            }
            return Err(error);
        }
        Ok(vec![IpAddr::V4(address)])
    }

    fn create_pair(&self, pair: &Pair<'_>, netns: &File) -> io::Result<()> {
        // Not in the match itself: the lock would be held to its end.
        let made = lock(&self.create).create_pair(pair, netns);
        match made {
            // Left by an attempt that was cut off, or its sandbox is gone.
            Err(error) if is_present(&error) => {
                lock(&self.delete).delete_link(pair.host)?;
                lock(&self.create).create_pair(pair, netns)
            }
            result => result,
        }
    }

    /// Answers whether any of them had host ports.
    fn forget(&self, uids: &[String]) -> Result<bool, NetError> {
        for uid in uids {
            let port = self.port_name(uid);
            lock(&self.delete)
                .delete_link(&port)
                .map_err(|source| NetError::Kernel {
                    action: "remove",
                    object: port,
                    source,
                })?;
        }
        let mut ipam = self.ipam();
        let ported = uids
            .iter()
            .any(|u| ipam.get(u).is_some_and(|l| !l.host_ports.is_empty()));
        ipam.release(uids.iter().map(String::as_str))?;
        Ok(ported)
    }

    /// Removes ports of the bridge that belong to no pod that is kept: a crash may have
    /// left one without a lease.
    fn remove_ports_except(&self, keep: &HashSet<String>) -> Result<(), NetError> {
        let failed = |source| NetError::Kernel {
            action: "remove unused ports of",
            object: self.layout.bridge.clone(),
            source,
        };
        let mut netlink = lock(&self.delete);
        for (index, name) in netlink.ports(self.bridge).map_err(failed)? {
            if !keep.contains(&name) {
                netlink.delete_index(index).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Sets up the loopback (always the first interface) and the pod's interface in the pod.
fn configure(
    inside: &mut Netlink,
    address: std::net::Ipv4Addr,
    gateway: std::net::Ipv4Addr,
) -> io::Result<()> {
    let eth0 = inside.index("eth0")?.ok_or(io::ErrorKind::NotFound)?;
    let mut requests = vec![Netlink::set_up(1), Netlink::set_up(eth0)];
    requests.extend(Netlink::pod_requests(eth0, address, gateway));
    inside.send(requests)?.into_iter().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held cannot leave half a change behind in these types.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs kernel work off the async workers.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(NetError::Stopped))
}
