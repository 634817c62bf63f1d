//! The server: its start, its requests in process, and its listener.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::status::ApiError;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::annotations::Annotations;
use crate::admission::policy::{self, Policies};
use crate::admission::quota::Turns;
use crate::admission::webhook::Webhooks;
use crate::aggregation::{self, Aggregation};
use crate::alloc::{Addresses, Ports};
use crate::audit::Audit;
use crate::audit::record::{self, Begun, Record};
use crate::auth::authn::Authenticator;
use crate::auth::certificate::{PeerCertificate, common_name};
use crate::auth::chain::{Chain, ProxyCertificate};
use crate::auth::legacy_token::Remarks;
use crate::auth::node::node_of;
use crate::auth::rbac::{Attributes, Authorizer, Decision};
use crate::auth::user::User;
use crate::cache::Cache;
use crate::config::{Config, PeerAddress};
use crate::error::StartError;
use crate::fairness::{self, Fairness, Flow};
use crate::hooks;
use crate::http::{Body, BoxError, error_in, text};
use crate::metrics::{Labels, Metrics};
use crate::negotiate;
use crate::nonresource::{self, documents::Documents};
use crate::outbound::Outbound;
use crate::pipeline::{self, Call};
use crate::query::Query;
use crate::remote;
use crate::resources::Resources;
use crate::route::Info;
use crate::state::State;
use crate::{bootstrap, definitions, gzip, impersonate, legacy_tokens, pretty, servers};

/// How long a client may take for its TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long connections have to end when the server shuts down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// What a client may send on one HTTP/2 stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// What it may send on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// How many requests one HTTP/2 connection may have open: watches stay open.
const STREAMS_LIMIT: u32 = 1000;

/// What is learned of a request while it is served.
#[derive(Default)]
struct Notes {
    record: Option<Arc<Record>>,
    flow: Option<Flow>,
}

/// The other end of a connection.
struct Peer {
    address: PeerAddress,
    certificate: Option<PeerCertificate>,
    proxy: Option<ProxyCertificate>,
}

/// What is said of a request that the server failed over; the log has the rest.
const PANIC: &str = "This request caused apiserver to panic. Look in the logs for details.";

/// The API server.
pub struct ApiServer {
    state: Arc<State>,
    tasks: TaskTracker,
    authorities: Option<Authorities>,
}

/// Whose client certificates stand for whom, where the front proxy has an authority of its own.
struct Authorities {
    clients: pki::ClientAuthority,
    proxy: pki::ClientAuthority,
}

impl Authorities {
    fn new(config: &Config) -> Result<Option<Self>, StartError> {
        let Some(front) = &config.authentication.front_proxy else {
            return Ok(None);
        };
        let authority = |pem: &str| pki::ClientAuthority::new(pem).map_err(StartError::Authority);
        Ok(Some(Self {
            clients: authority(&config.ca_pem)?,
            proxy: authority(&front.ca_pem)?,
        }))
    }
}

impl ApiServer {
    /// Loads the cache, makes what every cluster has, and is ready.
    ///
    /// # Errors
    /// When the store fails, or one of the server's own objects cannot be made.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let addresses = Addresses::new(config.service_cidr);
        if addresses.size() < 6 {
            return Err(StartError::ServiceNetwork {
                cidr: config.service_cidr,
            });
        }
        let (cache, subscription) = Cache::load(&config.store).await?;
        let tasks = TaskTracker::new();
        let outbound = Outbound::new(cache.clone());
        let authorities = Authorities::new(&config)?;
        let remotes = Arc::new(Outbound::new(cache.clone()));
        let authenticator = Arc::new(Chain::new(
            Authenticator::new(
                cache.clone(),
                config.tokens.clone(),
                config.issuer.clone(),
                config.audiences,
            ),
            cache.clone(),
            config.authentication.clone(),
            Arc::new(remote::Documents(remotes.clone())),
            Some(&remotes),
        ));
        let state = Arc::new(State {
            authenticator: authenticator.clone(),
            authorizer: Authorizer::new(&cache),
            fairness: Fairness::new(config.fairness, &cache),
            store: config.store,
            cache,
            tokens: config.tokens,
            issuer: config.issuer,
            advertise: config.advertise,
            dialer: config.dialer,
            admission: config.admission,
            audit: Arc::new(Audit::new(config.audit, &remotes)),
            turns: Turns::default(),
            outbound,
            aggregation: Aggregation::new(config.front_proxy),
            webhooks: Webhooks::default(),
            conversion_metrics: crate::conversion::ConversionMetrics::default(),
            flights: crate::conversion::Flights::default(),
            policies: Policies::default(),
            drain: config.drain,
            metrics: Metrics::default(),
            addresses,
            ports: Ports::new(config.node_ports),
            documents: Documents::default(),
            resources: Resources::default(),
            bootstrapped: AtomicBool::new(false),
        });
        definitions::set_up(&state);
        hooks::service::set_up(&state)
            .await
            .map_err(StartError::Load)?;
        let (follower, drain) = (state.cache.clone(), state.drain.clone());
        tasks.spawn(follower.follow(state.store.clone(), subscription, drain));
        bootstrap::run(&state, &config.ca_pem).await?;
        fairness::status::refresh(&state).await;
        state.bootstrapped.store(true, Ordering::Release);
        tasks.spawn(servers::run(state.clone()));
        tasks.spawn(aggregation::keep_local(state.clone()));
        tasks.spawn(aggregation::keep_availability(state.clone()));
        tasks.spawn(definitions::run(state.clone()));
        tasks.spawn(legacy_tokens::track(state.clone()));
        tasks.spawn(policy::status::run(state.clone()));
        tasks.spawn(fairness::status::run(state.clone()));
        if let Some(file) = config.authentication.file {
            let (issuer, drain) = (state.issuer.clone(), state.drain.clone());
            tasks.spawn(authenticator.follow(file, issuer, drain));
        }
        Ok(Arc::new(Self {
            state,
            tasks,
            authorities,
        }))
    }

    /// Serves one request. The caller is the [`User`] extension when there is one (trusted: set
    /// it in process only), else who the [`PeerCertificate`] extension or the `Authorization`
    /// header says.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let query = Query::parse(request.uri().query());
        let info = Info::parse(request.method(), request.uri().path(), &query);
        let labels = labels(&self.state.resources, &info);
        let syntax = negotiate::preferred(request.headers());
        let pretty = pretty::wanted(&query, request.headers());
        let gzipped = gzip::accepted(request.headers());
        let id = record::id_of(request.headers());
        let mut notes = Notes::default();
        self.state.metrics.inflight(1);
        let dispatched = self.dispatch(&info, query, request, &id, &mut notes);
        let outcome = AssertUnwindSafe(dispatched).catch_unwind().await;
        let has_panicked = outcome.is_err();
        let outcome = outcome.unwrap_or_else(|_panic| {
            tracing::error!(verb = info.verb, path = %info.path, "a request made the server panic");
            Err(ApiError::internal(PANIC))
        });
        let (response, error) = match outcome {
            Ok(response) => (response, None),
            Err(error) => {
                if error.code >= 500 {
                    tracing::warn!(verb = info.verb, path = %info.path, code = error.code, "{error}");
                }
                (error_in(syntax, &error), Some(error))
            }
        };
        let mut response = match (notes.record, &error) {
            (Some(record), Some(error)) if has_panicked => {
                record.panicked(error).await;
                response
            }
            (Some(record), error) => record.answered(error.as_ref(), response).await,
            (None, _) => response,
        };
        record::echo(&id, &mut response);
        if let Some(flow) = &notes.flow {
            flow.tell(&mut response);
        }
        if !is_stream(&info) {
            if pretty {
                response = pretty::spread(response).await;
            }
            if gzipped {
                response = gzip::compress(response);
            }
        }
        self.state.metrics.inflight(-1);
        self.state
            .metrics
            .finished(labels, response.status().as_u16(), started.elapsed());
        response
    }

    async fn dispatch(
        &self,
        info: &Info,
        query: Query,
        mut request: Request<Body>,
        id: &str,
        notes: &mut Notes,
    ) -> Result<Response<Body>, ApiError> {
        let state = &self.state;
        let is_public = !info.is_resource && nonresource::is_public(&info.path);
        let mut remarks = Remarks::default();
        let found = self.authenticate(info, &mut request, &mut remarks).await;
        let mut user = match found {
            Ok(user) => user,
            Err(_) if is_public => User::anonymous(),
            Err(error) => {
                if let Some(record) = self.record(&request, info, &User::default(), false, id) {
                    let has_certificate = request.extensions().get::<PeerCertificate>().is_some();
                    let attempted = record::attempted(request.headers(), has_certificate);
                    annotate(&record, &remarks);
                    record.unauthenticated(&attempted, &error).await;
                }
                return Err(error);
            }
        };
        let record = self.record(&request, info, &user, true, id);
        let request = match &record {
            Some(record) => {
                annotate(record, &remarks);
                notes.record = Some(record.clone());
                record.received().await?;
                record.hear(request)
            }
            None => request,
        };
        if is_public {
            let (method, headers) = (request.method(), request.headers());
            return Ok(nonresource::serve(
                state, method, &info.path, &query, headers,
            ));
        }
        if let Some(other) = impersonate::requested(&state.authorizer, &user, request.headers())? {
            user = other;
            if let Some(record) = &record {
                record.impersonate(&user);
            }
        }
        // Held until there is an answer; a watch has one as soon as it begins.
        let _seats = self.admit(info, &user, &query, &mut notes.flow).await?;
        self.authorize(info, &user, record.as_deref()).await?;
        let elsewhere = aggregation::serving(state, &info.path);
        let elsewhere = elsewhere.or_else(|| aggregation::openapi_service(state, &info.path));
        if let Some(service) = elsewhere {
            return aggregation::proxy::serve(state, &service, &user, request).await;
        }
        if !info.is_resource {
            let (method, headers) = (request.method(), request.headers());
            return Ok(nonresource::serve(
                state, method, &info.path, &query, headers,
            ));
        }
        let Some(call) = self.call(info, query, &request, user)? else {
            return Ok(text(StatusCode::NOT_FOUND, "404 page not found\n"));
        };
        for warning in remarks.warnings {
            call.warn(warning);
        }
        let annotations = call.annotations.clone();
        let served = pipeline::serve(call, info.verb, &info.rest, request).await;
        if let Some(record) = record {
            record.admitted(annotations.take());
        }
        served
    }

    /// Lets a request in when its turn comes. Those that last as long as their client likes take no
    /// seats, watches apart.
    async fn admit(
        &self,
        info: &Info,
        user: &User,
        query: &Query,
        flow: &mut Option<Flow>,
    ) -> Result<Option<fairness::Permit>, ApiError> {
        if info.verb != "watch" && record::is_long_running(info) {
            return Ok(None);
        }
        let seats = || {
            let limit = query.int("limit").ok().flatten();
            let objects = || {
                let served = &self.state.resources;
                let found = served.find(&info.group, &info.version, &info.resource);
                found.map_or(0, |resource| self.state.kind(&resource).len())
            };
            Fairness::seats(info.verb, limit, objects)
        };
        self.state
            .fairness
            .admit(&attributes(info, user), seats, flow)
            .await
    }

    /// What is written down of a request, if anything is.
    fn record(
        &self,
        request: &Request<Body>,
        info: &Info,
        user: &User,
        known: bool,
        id: &str,
    ) -> Option<Arc<Record>> {
        self.state.audit.policy()?;
        let begun = Begun {
            id,
            info,
            attributes: &attributes(info, user),
            known,
            received: Timestamp::now(),
        };
        Record::begin(&self.state.audit, request, &begun)
    }

    async fn authenticate(
        &self,
        info: &Info,
        request: &mut Request<Body>,
        remarks: &mut Remarks,
    ) -> Result<User, ApiError> {
        if let Some(user) = request.extensions().get::<User>() {
            return Ok(user.clone());
        }
        let chain = &self.state.authenticator;
        let extensions = request.extensions();
        let (peer, proxy) = (extensions.get::<PeerCertificate>(), extensions.get());
        let found = chain
            .authenticate(request.headers(), peer, proxy, remarks)
            .await;
        legacy_tokens::heed(&self.state, remarks).await;
        chain.strip(request.headers_mut());
        let path = if info.is_resource { "" } else { &info.path };
        match found {
            Ok(Some(user)) => Ok(user),
            Ok(None) if chain.allows_anonymous(path) => Ok(User::anonymous()),
            Ok(None) => Err(ApiError::unauthorized()),
            Err(error) => {
                tracing::debug!("unauthenticated: {}", stdx::chain::chain(&error));
                Err(ApiError::unauthorized())
            }
        }
    }

    async fn authorize(
        &self,
        info: &Info,
        user: &User,
        record: Option<&Record>,
    ) -> Result<(), ApiError> {
        let attributes = attributes(info, user);
        let state = &self.state;
        let mut decision = state.authorizer.authorize(&attributes);
        if !decision.is_allowed() && state.store.is_shared() && node_of(user).is_some() {
            // The node may have its pod from another server, and be ahead of this one.
            pipeline::fresh(state).await?;
            decision = state.authorizer.authorize(&attributes);
        }
        let (Decision::Allow(reason) | Decision::NoOpinion(reason)) = &decision;
        if let Some(record) = record {
            let words = if decision.is_allowed() {
                "allow"
            } else {
                "forbid"
            };
            record.annotate("authorization.k8s.io/decision", words);
            record.annotate("authorization.k8s.io/reason", reason);
        }
        if decision.is_allowed() {
            Ok(())
        } else {
            Err(attributes.forbidden(reason))
        }
    }

    /// The call that a resource request is; `None` when nothing serves its path.
    fn call(
        &self,
        info: &Info,
        query: Query,
        request: &Request<Body>,
        user: User,
    ) -> Result<Option<Call>, ApiError> {
        let served = &self.state.resources;
        let Some(res) = served.find(&info.group, &info.version, &info.resource) else {
            return Ok(None);
        };
        let is_namespace = res.group.is_empty() && res.plural == "namespaces";
        if !res.namespaced && !info.namespace.is_empty() && !is_namespace {
            return Ok(None);
        }
        let known = info.subresource.is_empty() || res.subresource(&info.subresource).is_some();
        let named = !info.collection();
        if !known || (res.namespaced && named && info.namespace.is_empty()) {
            return Ok(None);
        }
        let everywhere = res.namespaced && info.namespace.is_empty();
        let refused = match info.verb {
            "create" | "deletecollection" if everywhere => true,
            // A name is for what exists already, apart from subresources.
            "create" => !info.name.is_empty() && info.subresource.is_empty(),
            "update" | "patch" => info.name.is_empty(),
            _ => false,
        };
        if refused {
            return Err(ApiError::method_not_allowed());
        }
        let warnings = match (&*res.group, &*res.plural) {
            ("", "endpoints") => {
                vec![
                    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
                        .to_owned(),
                ]
            }
            ("", "componentstatuses") => {
                vec!["v1 ComponentStatus is deprecated in v1.19+".to_owned()]
            }
            _ => crate::definitions::deprecation(&res).into_iter().collect(),
        };
        let writes = !matches!(info.verb, "get" | "list" | "watch");
        let dry_run = writes && query.dry_run()?;
        Ok(Some(Call {
            state: self.state.clone(),
            user: Arc::new(user),
            namespace: if res.namespaced {
                info.namespace.clone()
            } else {
                String::new()
            },
            resource: res,
            name: info.name.clone(),
            subresource: info.subresource.clone(),
            query,
            headers: request.headers().clone(),
            dry_run,
            warnings: Arc::new(std::sync::Mutex::new(warnings)),
            annotations: Arc::new(Annotations::default()),
            started: Instant::now(),
            conversions: crate::conversion::Memo::default(),
            built_in_only: false,
        }))
    }

    /// Serves a listener until the drain, and ends when its connections have ended.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: pki::ServerTls,
        drain: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(tls.config());
        let connections = TaskTracker::new();
        let mut pause =
            stdx::backoff::Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
        loop {
            let accepted = tokio::select! {
                () = drain.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    pause.reset();
                    let (server, drain) = (self.clone(), drain.clone());
                    let acceptor = acceptor.clone();
                    connections.spawn(server.connection(stream, from.ip(), acceptor, drain));
                }
                Err(error) => {
                    // Out of file descriptors, mostly: it passes.
                    tracing::warn!("accepting a connection: {error}");
                    tokio::time::sleep(pause.next()).await;
                }
            }
        }
        connections.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, connections.wait())
            .await
            .is_err()
        {
            tracing::debug!("connections were still open at the end");
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        from: IpAddr,
        acceptor: TlsAcceptor,
        drain: CancellationToken,
    ) {
        // Small frames (a watch event) are not held back.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream));
        let stream = tokio::select! {
            () = drain.cancelled() => return,
            stream = handshake => stream,
        };
        let stream = match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!("TLS handshake: {error}");
                return;
            }
            Err(_) => return,
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = self.peer(from, chain);
        let server = self;
        let service = service_fn(move |request| server.clone().over_wire(request, &peer));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(30));
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_LIMIT)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!("connection: {error}");
        }
    }

    /// Who is at the other end of a connection, by the certificates that its handshake has accepted.
    fn peer(&self, from: IpAddr, chain: &[CertificateDer<'static>]) -> Peer {
        let (is_client, is_proxy) = match &self.authorities {
            None => (true, false),
            Some(all) => (all.clients.has_signed(chain), all.proxy.has_signed(chain)),
        };
        let leaf = chain.first();
        Peer {
            address: PeerAddress(from.to_canonical()),
            certificate: leaf
                .filter(|_| is_client)
                .map(|leaf| PeerCertificate::new(leaf)),
            proxy: leaf
                .filter(|_| is_proxy)
                .and_then(|leaf| common_name(leaf))
                .map(ProxyCertificate),
        }
    }

    /// A request that came over a connection: nothing in it is trusted but the certificate.
    fn over_wire(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let mut request = request.map(|b| b.map_err(|e| Box::new(e) as BoxError).boxed_unsync());
        let extensions = request.extensions_mut();
        extensions.remove::<User>();
        extensions.insert(peer.address);
        if let Some(certificate) = &peer.certificate {
            extensions.insert(certificate.clone());
        }
        if let Some(proxy) = &peer.proxy {
            extensions.insert(proxy.clone());
        }
        Box::pin(async move { Ok(self.handle(request).await) })
    }

    /// The cache: what reads are served from.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.state.cache
    }

    /// Waits until the server's own tasks have ended, after the drain.
    pub async fn join(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.state.audit.close().await;
    }
}

/// Tells the audit log what was said of the credentials.
fn annotate(record: &Record, remarks: &Remarks) {
    for (key, value) in &remarks.annotations {
        record.annotate(key, value);
    }
}

/// What a request is authorized by.
fn attributes<'a>(info: &'a Info, user: &'a User) -> Attributes<'a> {
    Attributes {
        user,
        verb: info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: if info.is_resource { "" } else { &info.path },
        selectors: &info.selectors,
    }
}

/// Whether an answer goes on and on, or is somebody else's.
fn is_stream(info: &Info) -> bool {
    let sub = info.subresource.as_str();
    info.verb == "watch" || matches!(sub, "exec" | "attach" | "portforward" | "proxy" | "log")
}

/// What a request is counted by; unknown paths are counted together.
fn labels(served: &Resources, info: &Info) -> Labels {
    let known = info.is_resource
        && served
            .find(&info.group, &info.version, &info.resource)
            .is_some();
    let verb = match (info.verb, info.subresource.as_str()) {
        (_, "exec" | "attach" | "portforward" | "proxy" | "log") => "CONNECT",
        ("get" | "head", _) => "GET",
        ("list", _) => "LIST",
        ("watch", _) => "WATCH",
        ("create" | "post", _) => "POST",
        ("update" | "put", _) => "PUT",
        ("patch", _) => "PATCH",
        ("delete", _) => "DELETE",
        ("deletecollection", _) => "DELETECOLLECTION",
        _ => "OTHER",
    };
    let scope = match (
        info.is_resource,
        info.name.is_empty(),
        info.namespace.is_empty(),
    ) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    };
    let keep = |text: &str| {
        if known {
            text.to_owned()
        } else {
            String::new()
        }
    };
    let sub = known
        && served
            .find(&info.group, &info.version, &info.resource)
            .is_some_and(|r| r.subresource(&info.subresource).is_some());
    Labels {
        verb,
        group: keep(&info.group),
        version: keep(&info.version),
        resource: keep(&info.resource),
        subresource: if sub {
            info.subresource.clone()
        } else {
            String::new()
        },
        scope,
    }
}
