//! A server over a store in a temporary directory, and controllers that come and go.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use apiserver::audit::{self, Event, Policy, Sink};
use apiserver::{ApiServer, NodeDialer, Stream, User};
use client::{Client, Informers};
use controllers::Clock;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// There are no nodes.
struct Nowhere;

impl NodeDialer for Nowhere {
    fn dial(&self, _: &str) -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async { Err(std::io::Error::other("no node")) })
    }
}

/// Keeps what was refused for want of a right.
#[derive(Default)]
struct Refusals(Mutex<Vec<String>>);

impl Sink for Refusals {
    fn name(&self) -> &'static str {
        "refusals"
    }

    fn take(&self, event: Arc<Event>) -> BoxFuture<'_, bool> {
        let text = event.to_json(None).unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        if told["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            self.0.lock().unwrap().push(text);
        }
        Box::pin(async { true })
    }
}

pub struct Cluster {
    server: Arc<ApiServer>,
    tokens: Arc<pki::TokenKeys>,
    refusals: Arc<Refusals>,
    drain: CancellationToken,
    _dir: TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let store = store::Store::open(&path, store::Options::default());
        let keys = pki::TokenKeys::load_or_create(&dir.path().join("sa.key")).unwrap();
        let (tokens, refusals) = (Arc::new(keys), Arc::new(Refusals::default()));
        let rules = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]";
        let drain = CancellationToken::new();
        let server = ApiServer::start(apiserver::Config {
            store: store.await.unwrap(),
            tokens: tokens.clone(),
            ca_pem: "test".to_owned(),
            service_cidr: "10.43.0.0/16".parse().unwrap(),
            node_ports: 30000..=32767,
            issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            audiences: Vec::new(),
            advertise: "10.1.2.3:6443".parse().unwrap(),
            dialer: Arc::new(Nowhere),
            authentication: apiserver::auth::chain::Authentication::default(),
            admission: apiserver::admission::Admission::default(),
            audit: audit::Options {
                policy: Some(Arc::new(Policy::parse(rules).unwrap())),
                sinks: vec![refusals.clone()],
                webhook: None,
            },
            fairness: apiserver::FairnessOptions::default(),
            front_proxy: None,
            drain: drain.clone(),
        })
        .await
        .unwrap();
        Self {
            server,
            tokens,
            refusals,
            drain,
            _dir: dir,
        }
    }

    /// A client that bears a token.
    pub fn bearer(&self, token: &str) -> Client {
        let header = format!("Bearer {token}").parse().unwrap();
        self.asking(move |request| {
            request
                .headers_mut()
                .insert("authorization", http::HeaderValue::clone(&header));
        })
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Client {
        self.user("admin", &["system:masters"])
    }

    fn user(&self, name: &str, groups: &[&str]) -> Client {
        self.asking(as_user(name, groups))
    }

    fn asking(
        &self,
        prepare: impl Fn(&mut http::Request<kube::client::Body>) + Clone + Send + 'static,
    ) -> Client {
        asking(self.server.clone(), prepare)
    }

    /// Starts the controllers at a time of their own.
    pub fn control(&self, clock: Clock) -> Term {
        let drain = self.drain.child_token();
        let informers = Informers::new(
            self.user("system:kube-controller-manager", &[]),
            drain.clone(),
        );
        let server = self.server.clone();
        let accounts = Arc::new(move |account: &'static str| {
            let name = format!("system:serviceaccount:kube-system:{account}");
            asking(server.clone(), as_user(&name, &["system:serviceaccounts"]))
        });
        let keys = self.tokens.clone();
        let options = controllers::Options {
            ca_pem: "test".to_owned(),
            sign_token: Some(Arc::new(move |claims| Ok(keys.sign(claims)?))),
            clock,
            ..controllers::Options::default()
        };
        let work = controllers::run(accounts, informers, options, drain.clone());
        let work = tokio::spawn(work);
        Term { drain, work }
    }

    /// Ends, if nobody was refused for want of a right.
    pub async fn finish(self) {
        self.drain.cancel();
        self.server.join().await;
        let refusals = self.refusals.0.lock().unwrap();
        assert!(refusals.is_empty(), "{refusals:#?}");
    }
}

fn as_user(
    name: &str,
    groups: &[&str],
) -> impl Fn(&mut http::Request<kube::client::Body>) + Clone + Send + 'static {
    let groups = groups.iter().chain(&["system:authenticated"]);
    let user = User {
        name: name.to_owned(),
        groups: groups.map(|group| (*group).to_owned()).collect(),
        ..User::default()
    };
    move |request| {
        request.extensions_mut().insert(user.clone());
    }
}

fn asking(
    server: Arc<ApiServer>,
    prepare: impl Fn(&mut http::Request<kube::client::Body>) + Clone + Send + 'static,
) -> Client {
    client::in_process(tower::service_fn(
        move |mut request: http::Request<kube::client::Body>| {
            let server = server.clone();
            prepare(&mut request);
            async move {
                let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                Ok::<_, std::convert::Infallible>(server.handle(request).await)
            }
        },
    ))
}

/// Controllers at work.
pub struct Term {
    drain: CancellationToken,
    work: JoinHandle<()>,
}

impl Term {
    pub async fn end(self) {
        self.drain.cancel();
        self.work.await.unwrap();
    }
}

/// Tries until there is an answer.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = attempt().await {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
