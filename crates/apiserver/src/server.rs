//! The server: its start, its requests in process, and its listener.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::status::ApiError;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::annotations::Annotations;
use crate::admission::policy::Policies;
use crate::admission::quota::Turns;
use crate::admission::webhook::Webhooks;
use crate::aggregation::{self, Aggregation};
use crate::alloc::{Addresses, Ports};
use crate::auth::authn::Authenticator;
use crate::auth::rbac::{Attributes, Authorizer, Decision};
use crate::auth::user::User;
use crate::cache::Cache;
use crate::config::{Config, PeerCertificate};
use crate::error::StartError;
use crate::hooks;
use crate::http::{Body, BoxError, error_in, text};
use crate::metrics::{Labels, Metrics};
use crate::negotiate;
use crate::nonresource::{self, documents::Documents};
use crate::outbound::Outbound;
use crate::pipeline::{self, Call};
use crate::query::Query;
use crate::resources::Resources;
use crate::route::Info;
use crate::state::State;
use crate::{bootstrap, definitions, gzip, impersonate, pretty, servers};

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

/// The API server.
pub struct ApiServer {
    state: Arc<State>,
    tasks: TaskTracker,
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
        let state = Arc::new(State {
            authenticator: Authenticator::new(
                cache.clone(),
                config.tokens.clone(),
                config.issuer.clone(),
                config.audiences,
            ),
            authorizer: Authorizer::new(cache.clone()),
            store: config.store,
            cache,
            tokens: config.tokens,
            issuer: config.issuer,
            advertise: config.advertise,
            dialer: config.dialer,
            anonymous: config.anonymous,
            admission: config.admission,
            turns: Turns::default(),
            outbound,
            aggregation: Aggregation::new(config.front_proxy),
            webhooks: Webhooks::default(),
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
        state.bootstrapped.store(true, Ordering::Release);
        tasks.spawn(servers::run(state.clone()));
        tasks.spawn(aggregation::keep_local(state.clone()));
        tasks.spawn(aggregation::keep_availability(state.clone()));
        tasks.spawn(definitions::run(state.clone()));
        Ok(Arc::new(Self { state, tasks }))
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
        self.state.metrics.inflight(1);
        let mut response = match self.dispatch(&info, query, request).await {
            Ok(response) => response,
            Err(error) => {
                if error.code >= 500 {
                    tracing::warn!(verb = info.verb, path = %info.path, code = error.code, "{error}");
                }
                error_in(syntax, &error)
            }
        };
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
        request: Request<Body>,
    ) -> Result<Response<Body>, ApiError> {
        let state = &self.state;
        if !info.is_resource && nonresource::is_public(&info.path) {
            let (method, headers) = (request.method(), request.headers());
            return Ok(nonresource::serve(
                state, method, &info.path, &query, headers,
            ));
        }
        let mut user = self.authenticate(&request)?;
        if let Some(other) = impersonate::requested(&state.authorizer, &user, request.headers())? {
            user = other;
        }
        self.authorize(info, &user)?;
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
        pipeline::serve(call, info.verb, &info.rest, request).await
    }

    fn authenticate(&self, request: &Request<Body>) -> Result<User, ApiError> {
        if let Some(user) = request.extensions().get::<User>() {
            return Ok(user.clone());
        }
        let peer = request.extensions().get::<PeerCertificate>();
        match self
            .state
            .authenticator
            .authenticate(request.headers(), peer)
        {
            Ok(Some(user)) => Ok(user),
            Ok(None) if self.state.anonymous => Ok(User::anonymous()),
            Ok(None) => Err(ApiError::unauthorized()),
            Err(error) => {
                tracing::debug!("unauthenticated: {}", stdx::chain::chain(&error));
                Err(ApiError::unauthorized())
            }
        }
    }

    fn authorize(&self, info: &Info, user: &User) -> Result<(), ApiError> {
        let attributes = Attributes {
            user,
            verb: info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: if info.is_resource { "" } else { &info.path },
        };
        match self.state.authorizer.authorize(&attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
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
                Ok((stream, _)) => {
                    pause.reset();
                    let (server, drain) = (self.clone(), drain.clone());
                    connections.spawn(server.connection(stream, acceptor.clone(), drain));
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
        let peer = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| PeerCertificate(leaf.clone().into_owned()));
        let server = self;
        let service = service_fn(move |request| server.clone().over_wire(request, peer.clone()));
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

    /// A request that came over a connection: nothing in it is trusted but the certificate.
    fn over_wire(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Option<PeerCertificate>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let mut request = request.map(|b| b.map_err(|e| Box::new(e) as BoxError).boxed_unsync());
        request.extensions_mut().remove::<User>();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
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
