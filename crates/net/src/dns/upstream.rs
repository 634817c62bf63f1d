//! Asking the servers outside of the cluster.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one server may take to answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How many servers are asked for one question.
const SERVERS: usize = 3;
/// For how long what `resolv.conf` says is taken for current.
const FRESH: Duration = Duration::from_secs(10);
/// Where the host names its nameservers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The nameservers that foreign names are asked of.
pub(super) struct Upstream {
    /// Given by configuration; empty: the host's.
    fixed: Arc<[SocketAddr]>,
    host: Mutex<HostServers>,
    /// The server that answered last goes first.
    preferred: AtomicUsize,
    own: IpAddr,
}

#[derive(Default)]
struct HostServers {
    read: Option<Instant>,
    servers: Arc<[SocketAddr]>,
}

impl Upstream {
    /// `own` is the address of this server, which is never asked.
    pub(super) fn new(mut fixed: Vec<SocketAddr>, own: IpAddr) -> Upstream {
        fixed.retain(|s| s.ip() != own);
        let (host, preferred) = (Mutex::default(), AtomicUsize::new(0));
        Upstream {
            fixed: fixed.into(),
            host,
            preferred,
            own,
        }
    }

    /// Passes a question on and answers what the first server that answers says.
    pub(super) async fn relay(&self, question: &[u8], tcp: bool) -> io::Result<Vec<u8>> {
        let servers = self.servers().await;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "no upstream DNS server");
        for turn in 0..servers.len().min(SERVERS) {
            let index = (first + turn) % servers.len();
            let asked = async {
                if tcp {
                    ask_tcp(servers[index], question).await
                } else {
                    ask_udp(servers[index], question).await
                }
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
            tracing::debug!(server = %servers[index], error = %failure, "upstream DNS server does not answer");
        }
        Err(failure)
    }

    async fn servers(&self) -> Arc<[SocketAddr]> {
        if !self.fixed.is_empty() {
            return self.fixed.clone();
        }
        let current = {
            let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = host.read.is_some_and(|at| at.elapsed() < FRESH);
            host.read.get_or_insert_with(Instant::now);
            (fresh).then(|| host.servers.clone())
        };
        if let Some(servers) = current {
            return servers;
        }
        let text = tokio::fs::read_to_string(Path::new(RESOLV_CONF))
            .await
            .unwrap_or_default();
        let servers: Arc<[SocketAddr]> = nameservers(&text, self.own).into();
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        *host = HostServers {
            read: Some(Instant::now()),
            servers: servers.clone(),
        };
        servers
    }
}

/// The servers that a `resolv.conf` names, without `own`.
fn nameservers(text: &str, own: IpAddr) -> Vec<SocketAddr> {
    let lines = text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| {
        let word = rest.split_whitespace().next()?;
        word.split('%').next()?.parse::<IpAddr>().ok()
    });
    addresses
        .filter(|ip| *ip != own && !ip.is_unspecified())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

/// Asks over UDP from a port of its own and under an id of its own: the client's are
/// known to whoever wants to forge an answer.
async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    let id: [u8; 2] = rand::random();
    let mut sent = question.to_vec();
    swap_id(&mut sent, id)?;
    socket.send(&sent).await?;
    let mut answer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut answer).await?;
        let bytes = &mut answer[..length];
        if answers(&sent, bytes) {
            swap_id(bytes, [question[0], question[1]])?;
            return Ok(bytes.to_vec());
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let mut sent = length.to_be_bytes().to_vec();
    sent.extend_from_slice(question);
    stream.write_all(&sent).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answers(question, &answer) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn swap_id(message: &mut [u8], id: [u8; 2]) -> io::Result<()> {
    message
        .get_mut(..2)
        .ok_or(io::ErrorKind::InvalidData)?
        .copy_from_slice(&id);
    Ok(())
}

/// Whether `answer` is one, to this very question: same id, and the same name.
fn answers(question: &[u8], answer: &[u8]) -> bool {
    let name_end = |m: &[u8]| {
        m.get(12..)?
            .iter()
            .position(|b| *b == 0)
            .map(|n| 12 + n + 5)
    };
    let section = |m: &[u8]| m.get(12..name_end(m)?).map(<[u8]>::to_ascii_lowercase);
    answer.len() >= 12
        && answer[..2] == question[..2]
        && answer[2] & 0x80 != 0
        && section(question).is_some_and(|q| section(answer) == Some(q))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_never_names_ourselves() {
        let text = "# comment\nsearch example.com\nnameserver 10.43.0.10\nnameserver 192.0.2.53 # x\n\
                    nameserver fe80::1%eth0\nnameserver nonsense\n";
        let found = nameservers(text, "10.43.0.10".parse().unwrap());
        let found: Vec<String> = found.iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, ["192.0.2.53:53", "[fe80::1]:53"]);
    }
}
