//! The TLS door: certificates, tokens, HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use apiserver::auth::front_proxy::FrontProxy;
use apiserver::empty_body;
use http::Request;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pki::{Authority, KeyPair, Leaf, San, ServerTls, Usage};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Cluster, config_map};

/// Resident memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse().unwrap()
}

pub struct Door {
    address: std::net::SocketAddr,
    authority: Authority,
}

impl Door {
    /// Opens it, and the task that ends with the drain.
    pub async fn open(c: &Cluster) -> (Self, tokio::task::JoinHandle<()>) {
        let authority = Authority::load_or_create(c.dir.path()).unwrap();
        let pair = authority
            .issue(&Leaf {
                common_name: "kube-apiserver".to_owned(),
                organizations: Vec::new(),
                sans: vec![San::Dns("localhost".to_owned())],
                usage: Usage::Server,
                lifetime: Duration::from_secs(3600),
            })
            .unwrap();
        let tls = ServerTls::new(&pair, Some(authority.certificate_pem())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Self {
            address: listener.local_addr().unwrap(),
            authority,
        };
        let serving = tokio::spawn(c.server.clone().serve(listener, tls, c.drain.clone()));
        (door, serving)
    }

    pub async fn connect(
        &self,
        protocol: &[u8],
        user: Option<(&str, &str)>,
    ) -> TlsStream<TcpStream> {
        let pair = user.map(|(name, group)| client(&self.authority, name, &[group]));
        self.connect_with(protocol, pair).await
    }

    async fn connect_with(&self, protocol: &[u8], pair: Option<KeyPair>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(
                CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes())
                    .unwrap(),
            )
            .unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::pem_slice_iter(pair.cert_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }
}

fn client(authority: &Authority, name: &str, groups: &[&str]) -> KeyPair {
    authority
        .issue(&Leaf {
            common_name: name.to_owned(),
            organizations: groups.iter().map(|&group| group.to_owned()).collect(),
            sans: Vec::new(),
            usage: Usage::Client,
            lifetime: Duration::from_secs(3600),
        })
        .unwrap()
}

/// Who the server says that a request with these headers is from; the code of a refusal.
async fn whom(door: &Door, pair: Option<KeyPair>, headers: &[(&str, &str)]) -> Result<Value, u16> {
    let stream = door.connect_with(b"http/1.1", pair).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let task = tokio::spawn(connection);
    let review = "{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"SelfSubjectReview\"}";
    let mut request = Request::builder()
        .method("POST")
        .uri("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("host", "localhost")
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(apiserver::full_body(review)).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    task.abort();
    let body: Value = serde_json::from_slice(&body).unwrap();
    if status == 201 {
        Ok(body["status"]["userInfo"].clone())
    } else {
        Err(status)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_proxy_is_believed_and_nobody_else() {
    pki::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let authority = |name: &str| Authority::load_or_create(&folder.path().join(name)).unwrap();
    let (clients, proxies) = (authority("clients"), authority("proxies"));
    let both = format!("{}{}", clients.certificate_pem(), proxies.certificate_pem());
    let front = FrontProxy {
        ca_pem: proxies.certificate_pem().to_owned(),
        allowed_names: vec!["front".to_owned()],
        username_headers: vec!["X-Remote-User".to_owned()],
        group_headers: vec!["X-Remote-Group".to_owned()],
        ..FrontProxy::default()
    };
    let ca_pem = clients.certificate_pem().to_owned();
    let c = Cluster::start_changed(|config| {
        config.ca_pem = ca_pem;
        config.authentication.front_proxy = Some(front);
    })
    .await;
    let serving = Leaf {
        common_name: "kube-apiserver".to_owned(),
        organizations: Vec::new(),
        sans: vec![San::Dns("localhost".to_owned())],
        usage: Usage::Server,
        lifetime: Duration::from_secs(3600),
    };
    let tls = ServerTls::new(&clients.issue(&serving).unwrap(), Some(&both)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door {
        address,
        authority: clients,
    };
    let serving = tokio::spawn(c.server.clone().serve(listener, tls, c.drain.clone()));

    let says = [
        ("x-remote-user", "jane"),
        ("x-remote-group", "system:masters"),
    ];
    let jane = whom(&door, Some(client(&proxies, "front", &[])), &says)
        .await
        .unwrap();
    assert_eq!(jane["username"], "jane");
    assert_eq!(
        jane["groups"],
        serde_json::json!(["system:masters", "system:authenticated"])
    );
    // The proxy by itself is nobody, and nobody else of its authority is the proxy.
    assert_eq!(
        whom(&door, Some(client(&proxies, "front", &[])), &[]).await,
        Err(401)
    );
    assert_eq!(
        whom(&door, Some(client(&proxies, "other", &[])), &says).await,
        Err(401)
    );
    // A client of the cluster is itself, whatever it says; without a certificate one is nobody.
    let own = client(&door.authority, "front", &["crew"]);
    let own = whom(&door, Some(own), &says).await.unwrap();
    assert_eq!(own["username"], "front");
    assert_eq!(whom(&door, None, &says).await, Err(401));
    c.drain.cancel();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_and_client_certificates() {
    let c = Cluster::start().await;
    let (door, serving) = Door::open(&c).await;

    // HTTP/1.1, an administrator.
    let stream = door
        .connect(b"http/1.1", Some(("root", "system:masters")))
        .await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let one = tokio::spawn(connection);
    let get = |path: &str| {
        Request::builder()
            .uri(path)
            .header("host", "localhost")
            .body(empty_body())
            .unwrap()
    };
    let answer = sender
        .send_request(get("/api/v1/namespaces/default"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(value["metadata"]["name"], "default");

    // HTTP/2: many watches on one connection, and somebody who may nothing.
    let stream = door.connect(b"h2", Some(("root", "system:masters"))).await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let two = tokio::spawn(connection);
    let mut watches = Vec::new();
    for _ in 0..150 {
        let uri = "https://localhost/api/v1/namespaces?watch=1";
        let request = Request::builder().uri(uri).body(empty_body()).unwrap();
        watches.push(sender.send_request(request).await.unwrap().into_body());
    }
    for watch in &mut watches {
        let frame = watch.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(frame.starts_with(b"{\"type\":\"ADDED\""));
    }
    for (user, wanted) in [(Some(("jane", "people")), 403), (None, 401)] {
        let stream = door.connect(b"http/1.1", user).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let task = tokio::spawn(connection);
        let answer = sender.send_request(get("/api/v1/nodes")).await.unwrap();
        assert_eq!(answer.status(), wanted);
        answer.into_body().collect().await.unwrap();
        sender.ready().await.unwrap();
        let health = sender.send_request(get("/readyz")).await.unwrap();
        assert_eq!(health.status(), 200);
        task.abort();
    }

    // The drain ends the watches, and with them the connections and the listener.
    c.drain.cancel();
    for watch in &mut watches {
        while let Some(Ok(_)) = watch.frame().await {}
    }
    drop((sender, watches));
    tokio::time::timeout(Duration::from_secs(5), serving)
        .await
        .unwrap()
        .unwrap();
    one.abort();
    two.abort();
}

/// Ten clients with a thousand watches each, as an operator of many kinds has them: each is told of a
/// write, and what they cost, client and server together, stays small.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_watches() {
    const CLIENTS: usize = 10;
    const WATCHES: usize = 1000;
    let c = Cluster::start().await;
    c.namespace("default").await;
    let maps = "/api/v1/namespaces/default/configmaps";
    c.post(maps, &config_map("seen", serde_json::json!({})))
        .await
        .ok();
    let (door, serving) = Door::open(&c).await;
    let mut kept = Vec::new();
    let mut watches = Vec::new();
    let before = resident_kib();
    for _ in 0..CLIENTS {
        let stream = door.connect(b"h2", Some(("root", "system:masters"))).await;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        kept.push(tokio::spawn(connection));
        let uri = format!("https://localhost{maps}?watch=1");
        let requests = (0..WATCHES).map(|_| {
            let request = Request::builder().uri(&uri).body(empty_body()).unwrap();
            sender.send_request(request)
        });
        for answer in futures::future::join_all(requests).await {
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 200);
            watches.push(answer.into_body());
        }
    }
    let next = |mut body: hyper::body::Incoming| async move {
        let frame = tokio::time::timeout(Duration::from_secs(60), body.frame()).await;
        let data = frame.expect("an event in time").unwrap().unwrap();
        (data.into_data().unwrap(), body)
    };
    let seen = futures::future::join_all(watches.into_iter().map(next)).await;
    let cost = resident_kib().saturating_sub(before) * 1024 / (CLIENTS * WATCHES) as u64;
    println!("{cost} bytes a watch");
    assert!(
        cost < 32 << 10,
        "{cost} bytes a watch, client and server together"
    );
    let start = std::time::Instant::now();
    let change = serde_json::json!({"data": {"key": "other"}});
    c.patch(&format!("{maps}/seen"), "merge", &change)
        .await
        .ok();
    let told = futures::future::join_all(seen.into_iter().map(|(_, body)| next(body))).await;
    println!("{:?} until all were told", start.elapsed());
    for (data, _) in &told {
        assert!(data.starts_with(b"{\"type\":\"MODIFIED\""), "{data:?}");
    }
    drop(told);
    kept.iter().for_each(tokio::task::JoinHandle::abort);
    c.drain.cancel();
    tokio::time::timeout(Duration::from_secs(30), serving)
        .await
        .unwrap()
        .unwrap();
}
