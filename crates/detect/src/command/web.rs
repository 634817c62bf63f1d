//! A small HTTP server: health, version and metrics as Falco's has them, and the webhook to which an
//! API server sends its audit events.
//!
//! Invariant: a request is bounded, and none waits for the engine: audit events that it has no room for
//! are refused, so that the sender tries again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::fields::AuditEvent;

/// The longest request, in bytes: API servers send batches of some hundred events.
const MOST_BODY_BYTES: usize = 32 << 20;
/// How many audit events wait for the engine.
const CAPACITY: usize = 4096;

/// What the server listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOptions {
    /// Where.
    pub address: SocketAddr,
    /// The path that says whether we are well.
    pub health_path: String,
    /// Whether `/metrics` is served.
    pub metrics: bool,
    /// The path of the webhook for audit events; none if it is empty.
    pub audit_path: String,
    /// A file with certificate and key; without one it is plain HTTP.
    pub certificate: Option<std::path::PathBuf>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// It cannot listen.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Its certificate cannot be used.
    #[error("cannot use the certificate and key in {path}: {problem}")]
    Certificate {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// A server; dropped, it is gone.
#[derive(Debug)]
pub struct Web {
    /// Where it listens.
    pub address: SocketAddr,
    /// The audit events that it was sent.
    pub audit: Receiver<AuditEvent>,
    metrics: Arc<Mutex<String>>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    options: WebOptions,
    metrics: Arc<Mutex<String>>,
    audit: SyncSender<AuditEvent>,
}

impl Web {
    /// Serves from now on.
    ///
    /// # Errors
    /// When it cannot listen, or the certificate cannot be used.
    pub fn serve(options: WebOptions) -> Result<Self, WebError> {
        let fail = |source| WebError::Listen {
            address: options.address,
            source,
        };
        let tls = options.certificate.as_deref().map(acceptor).transpose()?;
        let listener = std::net::TcpListener::bind(options.address).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("web")
            .enable_all()
            .build()
            .map_err(fail)?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(fail)?
        };
        let metrics = Arc::new(Mutex::new(String::new()));
        let (sender, audit) = sync_channel(CAPACITY);
        let shared = Arc::new(Shared {
            options,
            metrics: Arc::clone(&metrics),
            audit: sender,
        });
        runtime.spawn(accept(listener, tls, shared));
        Ok(Self {
            address,
            audit,
            metrics,
            runtime: Some(runtime),
        })
    }

    /// Serves these metrics from now on.
    pub fn tell_metrics(&self, text: String) {
        // Whoever panicked with the lock held left a text behind.
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn acceptor(path: &Path) -> Result<TlsAcceptor, WebError> {
    let fail = |problem: String| WebError::Certificate {
        path: path.to_owned(),
        problem,
    };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fail(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| fail(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| fail(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the web server cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let http = hyper::server::conn::http1::Builder::new();
            // What a client does wrong ends its connection and nothing else.
            let _ended = match tls {
                None => http.serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => http.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let options = &shared.options;
    Ok(match (request.method(), path.as_str()) {
        (&Method::GET, path) if path == options.health_path => {
            respond(StatusCode::OK, JSON, "{\"status\": \"ok\"}")
        }
        (&Method::GET, "/versions") => {
            let versions = serde_json::json!({
                "engine_version_semver": rules::ENGINE.to_string(),
                "knarr_version": env!("CARGO_PKG_VERSION"),
            });
            respond(StatusCode::OK, JSON, versions.to_string())
        }
        (&Method::GET, "/metrics") if options.metrics => {
            let metrics = shared
                .metrics
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            respond(StatusCode::OK, "text/plain; version=0.0.4", metrics.clone())
        }
        (&Method::POST, path) if !path.is_empty() && path == options.audit_path => {
            let body = Limited::new(request.into_body(), MOST_BODY_BYTES)
                .collect()
                .await;
            match body {
                Ok(body) => take(&shared, &body.to_bytes()),
                Err(_) => respond(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    TEXT,
                    "the request is too large\n",
                ),
            }
        }
        _ => respond(StatusCode::NOT_FOUND, TEXT, "404\n"),
    })
}

/// Hands audit events to the engine.
fn take(shared: &Shared, body: &[u8]) -> Response<Full<Bytes>> {
    let events = match AuditEvent::read_all(body) {
        Ok(events) => events,
        Err(error) => {
            let text = stdx::chain(&error);
            return respond(StatusCode::BAD_REQUEST, TEXT, format!("{text}\n"));
        }
    };
    for event in events {
        match event.map(|event| shared.audit.try_send(event)) {
            Ok(Ok(())) => {}
            Ok(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) => {
                let text = "there is no room for more events now\n";
                return respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
            }
            Err(error) => tracing::warn!(%error, "an audit event is passed over"),
        }
    }
    respond(StatusCode::OK, TEXT, "")
}
