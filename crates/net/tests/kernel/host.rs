//! A machine made of network namespaces.

use net::{Config, PodNet};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Address of the host on its uplink.
pub(crate) const HOST: &str = "192.0.2.2";
/// Address of the other end of the uplink.
pub(crate) const OUTSIDE: &str = "192.0.2.1";

/// A network namespace that lives as long as this value.
#[derive(Clone)]
pub(crate) struct Netns(Arc<File>);

impl Netns {
    pub(crate) fn new() -> Netns {
        std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root is needed");
            Netns(Arc::new(File::open("/proc/thread-self/ns/net").unwrap()))
        })
        .join()
        .unwrap()
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Runs `f` inside.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&*self.0, CloneFlags::CLONE_NEWNET).unwrap();
                f()
            });
            inside.join().unwrap()
        })
    }

    /// Runs a command line inside; answers what it prints.
    pub(crate) fn sh(&self, line: &str) -> String {
        self.run(|| sh(line))
    }

    /// A TCP server that greets with `name` and the address of its client.
    pub(crate) fn serve(&self, address: &str, name: &'static str) {
        let listener = self.run(|| TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip();
                let _ = stream.write_all(format!("{name} {peer}").as_bytes());
            }
        });
    }

    /// A UDP server that answers with `name` and the address of its client.
    pub(crate) fn serve_udp(&self, address: &str, name: &'static str) {
        let socket = self.run(|| UdpSocket::bind(address).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }

    /// What the server at `address` greets with.
    pub(crate) fn ask(&self, address: &str) -> std::io::Result<String> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    pub(crate) fn ask_udp(&self, address: &str) -> std::io::Result<String> {
        let socket = self.run(|| UdpSocket::bind("0.0.0.0:0"))?;
        talk(&socket, address)
    }
}

/// One question and answer over a UDP socket.
pub(crate) fn talk(socket: &UdpSocket, address: &str) -> std::io::Result<String> {
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send_to(b"?", address)?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

pub(crate) fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-ec", line]).output().unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(out.status.success(), "{line}: {}", text(&out.stderr));
    text(&out.stdout)
}

/// The machine that a test runs on.
pub(crate) struct Host {
    pub(crate) netns: Netns,
    pub(crate) outside: Netns,
    directory: tempfile::TempDir,
}

/// Runs a test on a machine of its own.
pub(crate) fn on_host<F: Future<Output = ()>>(test: impl FnOnce(Host) -> F + Send) {
    let _ = tracing_subscriber::fmt()
        .with_test_writer()
        .with_env_filter("net=debug,client=debug")
        .try_init();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root is needed");
            let netns = Netns(Arc::new(File::open("/proc/thread-self/ns/net").unwrap()));
            let outside = Netns::new();
            let peer = outside.path();
            sh(&format!(
                "ip link set lo up
                 ip link add eth0 type veth peer name eth0 netns {}
                 ip link set eth0 mtu 1400 up
                 ip addr add {HOST}/24 dev eth0",
                peer.display()
            ));
            outside.sh(&format!(
                "ip link set lo up; ip link set eth0 up; ip addr add {OUTSIDE}/24 dev eth0"
            ));
            sh(&format!("ip route add default via {OUTSIDE}"));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let directory = tempfile::tempdir().unwrap();
            runtime.block_on(test(Host {
                netns,
                outside,
                directory,
            }));
        });
        thread.join().unwrap();
    });
}

impl Host {
    pub(crate) fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            instance: "t".into(),
            node_name: "here".into(),
            node_ip: HOST.parse().unwrap(),
            pod_cidr: "10.42.0.0/24".parse().unwrap(),
            service_cidr: "10.43.0.0/16".parse().unwrap(),
            data_dir: self.directory.path().to_owned(),
            cluster_domain: "cluster.local".into(),
            upstreams: vec![format!("{OUTSIDE}:53").parse().unwrap()],
            mtu: None,
        }
    }

    pub(crate) async fn open(&self) -> PodNet {
        PodNet::open(self.config()).await.unwrap()
    }
}

/// Attaches a new pod; answers its namespace and address.
pub(crate) async fn pod(net: &PodNet, uid: &str) -> (Netns, IpAddr) {
    let netns = Netns::new();
    let addresses = net
        .attach(uid, "ns", uid, &[], &netns.path())
        .await
        .unwrap();
    (netns, addresses[0])
}
