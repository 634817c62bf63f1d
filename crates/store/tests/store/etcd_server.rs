//! Real etcds on loopback, in a folder of their own, ended by their process ids.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::{EtcdConfig, EtcdTls, Options, Store, StoreError};

/// A cluster of one or more members.
pub(crate) struct EtcdServer {
    members: Vec<Member>,
    scheme: &'static str,
    folder: tempfile::TempDir,
}

struct Member {
    client_port: u16,
    arguments: Vec<String>,
    child: Mutex<Option<Child>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        kill(&mut self.child());
    }
}

impl Member {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl EtcdServer {
    /// One member. `None` when there is no etcd on this machine: the test is skipped and says so.
    pub(crate) fn start(more: &[&str]) -> Option<EtcdServer> {
        EtcdServer::cluster(1, "http", more)
    }

    /// Several members; for `https` the options in `more` name the certificates.
    pub(crate) fn cluster(count: usize, scheme: &'static str, more: &[&str]) -> Option<EtcdServer> {
        let there = Command::new("etcd")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if there.is_err() {
            let words = "SKIPPED: there is no etcd here; apt-get install etcd-server";
            println!("{words}");
            eprintln!("{words}");
            return None;
        }
        // A port that was free a moment ago may be taken now; then all is tried again.
        for _ in 0..5 {
            let server = EtcdServer::plan(count, scheme, more);
            for at in 0..count {
                server.start_member(at);
            }
            if server.comes_up() {
                return Some(server);
            }
        }
        panic!("etcd does not come up");
    }

    fn plan(count: usize, scheme: &'static str, more: &[&str]) -> EtcdServer {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(2 * count);
        let (client, peer) = ports.split_at(count);
        let cluster: Vec<String> = (0..count)
            .map(|at| format!("m{at}=http://127.0.0.1:{}", peer[at]))
            .collect();
        let member = |at: usize| {
            let data = folder.path().join(format!("m{at}"));
            let (client, peer) = (
                format!("{scheme}://127.0.0.1:{}", client[at]),
                format!("http://127.0.0.1:{}", peer[at]),
            );
            let mut arguments = vec![
                format!("--name=m{at}"),
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", cluster.join(",")),
                "--logger=zap".to_owned(),
                "--log-level=error".to_owned(),
            ];
            arguments.extend(more.iter().map(|&argument| argument.to_owned()));
            arguments
        };
        let members = (0..count).map(|at| Member {
            client_port: client[at],
            arguments: member(at),
            child: Mutex::new(None),
        });
        EtcdServer {
            members: members.collect(),
            scheme,
            folder,
        }
    }

    /// Whether every member listens soon.
    fn comes_up(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        self.members.iter().all(|member| {
            loop {
                if TcpStream::connect(("127.0.0.1", member.client_port)).is_ok() {
                    return true;
                }
                let ended = match &mut *member.child() {
                    Some(child) => child.try_wait().unwrap().is_some(),
                    None => true,
                };
                if ended || Instant::now() > deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    }

    /// Starts a member, or starts it again with what it has on its disk.
    pub(crate) fn start_member(&self, at: usize) {
        let child = Command::new("etcd")
            .args(&self.members[at].arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *self.members[at].child() = Some(child);
    }

    /// Kills a member with SIGKILL.
    pub(crate) fn kill_member(&self, at: usize) {
        kill(&mut self.members[at].child());
    }

    /// Sends a signal, such as `STOP`, to a member.
    pub(crate) fn signal_member(&self, at: usize, signal: &str) {
        let pid = self.members[at].child().as_ref().unwrap().id();
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(pid.to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    /// Forgets what a member has on its disk; it must not run.
    pub(crate) fn wipe_member(&self, at: usize) {
        std::fs::remove_dir_all(self.folder.path().join(format!("m{at}"))).unwrap();
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn endpoints(&self) -> String {
        let endpoint =
            |member: &Member| format!("{}://127.0.0.1:{}", self.scheme, member.client_port);
        let list: Vec<String> = self.members.iter().map(endpoint).collect();
        list.join(",")
    }

    pub(crate) async fn connect(
        &self,
        prefix: &str,
        options: Options,
    ) -> Result<Store, StoreError> {
        self.connect_tls(prefix, options, None).await
    }

    pub(crate) async fn connect_tls(
        &self,
        prefix: &str,
        options: Options,
        tls: Option<EtcdTls>,
    ) -> Result<Store, StoreError> {
        Store::connect(&self.config(prefix, tls)?, options).await
    }

    pub(crate) fn config(
        &self,
        prefix: &str,
        tls: Option<EtcdTls>,
    ) -> Result<EtcdConfig, StoreError> {
        EtcdConfig::parse(&format!("{}{prefix}", self.endpoints()), tls)
    }

    /// Which member leads.
    pub(crate) fn leader(&self) -> usize {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            for at in 0..self.members.len() {
                let Some(status) = self.try_call(at, "maintenance/status", "{}") else {
                    continue;
                };
                let (own, leader) = (field(&status, "member_id"), field(&status, "leader"));
                if own.is_some() && own == leader {
                    return at;
                }
            }
            assert!(Instant::now() < deadline, "no leader");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Calls etcd's JSON gateway, as an operator's tool would.
    fn call(&self, method: &str, body: &str) -> String {
        self.try_call(0, method, body).unwrap()
    }

    fn try_call(&self, at: usize, method: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.members[at].client_port)).ok()?;
        let request = format!(
            "POST /v3/{method} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }

    /// Puts a key of somebody else's.
    pub(crate) fn put_foreign(&self, key: &str) {
        let body = format!(
            r#"{{"key": "{}", "value": "eA=="}}"#,
            base64(key.as_bytes())
        );
        self.call("kv/put", &body);
    }

    /// `etcdctl defrag` and `etcdctl alarm disarm`.
    pub(crate) fn defragment_and_disarm(&self) {
        self.call("maintenance/defragment", "{}");
        let status = self.call("maintenance/status", "{}");
        let member = field(&status, "member_id").unwrap();
        let body =
            format!(r#"{{"memberID": "{member}", "action": "DEACTIVATE", "alarm": "NOSPACE"}}"#);
        self.call("maintenance/alarm", &body);
    }

    /// Compacts, as an operator does.
    pub(crate) fn compact(&self, revision: u64) {
        self.call(
            "kv/compaction",
            &format!(r#"{{"revision": "{revision}", "physical": true}}"#),
        );
    }
}

/// The text of a field in flat JSON.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[bits >> (18 - 6 * at) & 63];
            text.push(if at <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}
