//! A server over a real store in a temporary directory, asked in process.

use std::sync::Arc;

use apiserver::admission::Admission;
use apiserver::{ApiServer, Body, Config, FrontProxy, NodeDialer, Stream, User, full_body};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::Store;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Hands the server's end of an in-memory pipe to the test.
pub struct Pipe(pub mpsc::UnboundedSender<(String, tokio::io::DuplexStream)>);

impl NodeDialer for Pipe {
    fn dial(&self, node: &str) -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let sent = self.0.send((node.to_owned(), far));
        Box::pin(async move {
            sent.map_err(|_| std::io::Error::other("no node"))?;
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }
}

pub struct Cluster {
    pub server: Arc<ApiServer>,
    pub store: Store,
    pub drain: CancellationToken,
    pub dials: mpsc::UnboundedReceiver<(String, tokio::io::DuplexStream)>,
    pub dir: TempDir,
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

pub fn master() -> User {
    User {
        name: "admin".to_owned(),
        groups: vec![
            "system:masters".to_owned(),
            "system:authenticated".to_owned(),
        ],
        ..User::default()
    }
}

/// The certificate by which aggregated servers believe the server.
fn front_proxy(dir: &std::path::Path) -> FrontProxy {
    let authority = pki::Authority::load_or_create(&dir.join("front-proxy")).unwrap();
    let pair = authority
        .issue(&pki::Leaf {
            common_name: "front-proxy-client".to_owned(),
            organizations: Vec::new(),
            sans: Vec::new(),
            usage: pki::Usage::Client,
            lifetime: std::time::Duration::from_secs(600),
        })
        .unwrap();
    FrontProxy {
        ca_pem: authority.certificate_pem().to_owned(),
        name: "front-proxy-client".to_owned(),
        identity: tokio::sync::watch::channel(pair).1,
    }
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn start_in(dir: TempDir) -> Self {
        let store = Store::open(&dir.path().join("state.db"), store::Options::default())
            .await
            .unwrap();
        Self::start_over(store, dir, "10.1.2.3:6443").await
    }

    /// A server with admission set up in its own way.
    pub async fn start_admitting(admission: Admission) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db"), store::Options::default())
            .await
            .unwrap();
        Self::start_with(store, dir, "10.1.2.3:6443", admission).await
    }

    /// A server over a store that is open, with its keys in `dir`, reached at an address.
    pub async fn start_over(store: Store, dir: TempDir, advertise: &str) -> Self {
        Self::start_with(store, dir, advertise, Admission::default()).await
    }

    /// A server whose configuration was changed.
    pub async fn start_changed(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db"), store::Options::default())
            .await
            .unwrap();
        Self::start_all(store, dir, "10.1.2.3:6443", change).await
    }

    async fn start_with(store: Store, dir: TempDir, advertise: &str, admission: Admission) -> Self {
        Self::start_all(store, dir, advertise, |config| config.admission = admission).await
    }

    async fn start_all(
        store: Store,
        dir: TempDir,
        advertise: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        pki::install_crypto_provider();
        let tokens = pki::TokenKeys::load_or_create(&dir.path().join("sa.key")).unwrap();
        let drain = CancellationToken::new();
        let (sender, dials) = mpsc::unbounded_channel();
        let mut config = Config {
            store: store.clone(),
            tokens: Arc::new(tokens),
            ca_pem: "test".to_owned(),
            service_cidr: "10.43.0.0/16".parse().unwrap(),
            node_ports: 30000..=32767,
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            audiences: Vec::new(),
            advertise: advertise.parse().unwrap(),
            dialer: Arc::new(Pipe(sender)),
            authentication: apiserver::auth::chain::Authentication::default(),
            admission: Admission::default(),
            audit: apiserver::audit::Options::default(),
            fairness: apiserver::FairnessOptions::default(),
            front_proxy: Some(front_proxy(dir.path())),
            drain: drain.clone(),
        };
        change(&mut config);
        let server = ApiServer::start(config).await.unwrap();
        Self {
            server,
            store,
            drain,
            dials,
            dir,
        }
    }

    /// Stops the server; the directory is left for the next one.
    pub async fn stop(self) -> TempDir {
        self.drain.cancel();
        self.server.join().await;
        drop(self.server);
        self.store.close().await;
        self.dir
    }

    pub async fn raw(&self, request: Request<Body>) -> Response<Body> {
        self.server.handle(request).await
    }

    pub async fn send(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Answer {
        self.send_with(method, path, &[("content-type", kind)], body)
            .await
    }

    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .extension(master());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.raw(request.body(full_body(body)).unwrap()).await;
        answer(response).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send_with(Method::GET, path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            Method::POST,
            path,
            "application/json",
            body.to_string().into(),
        )
        .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(
            Method::PUT,
            path,
            "application/json",
            body.to_string().into(),
        )
        .await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let kind = format!("application/{kind}-patch+json");
        self.send(Method::PATCH, path, &kind, body.to_string().into())
            .await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send_with(Method::DELETE, path, &[], Bytes::new())
            .await
    }

    pub async fn watch(&self, path: &str) -> Watch {
        let request = Request::builder()
            .uri(path)
            .extension(master())
            .body(full_body(""))
            .unwrap();
        let response = self.raw(request).await;
        assert_eq!(response.status(), 200);
        Watch {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }

    /// A namespace with the account that pods need.
    pub async fn namespace(&self, name: &str) {
        if name != "default" {
            self.post("/api/v1/namespaces", &json!({"metadata": {"name": name}}))
                .await
                .ok();
        }
        let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts");
        self.post(&accounts, &json!({"metadata": {"name": "default"}}))
            .await
            .ok();
    }
}

pub async fn answer(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        text,
    }
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status < 300, "{} {}", self.status, self.text);
        self.body
    }

    /// The message of a refusal.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["kind"], "Status", "{}", self.text);
        assert_eq!(self.body["code"], status);
        self.body["message"].as_str().unwrap_or_default().to_owned()
    }
}

pub struct Watch {
    body: Body,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(10), self.body.frame());
            let frame = frame.await.expect("no event in time")?;
            self.buffer
                .extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    /// The next event as `TYPE name`.
    pub async fn short(&mut self) -> String {
        match self.next().await {
            Some(event) => format!(
                "{} {}",
                event["type"].as_str().unwrap_or_default(),
                event["object"]["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
            ),
            None => "end".to_owned(),
        }
    }
}

pub fn config_map(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels},
        "data": {"key": "value"}})
}

pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "main", "image": "image"}]}})
}
