//! A real server over TLS that this server calls: webhooks, aggregated APIs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::{Body, full_body};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pki::{Authority, Leaf, San, ServerTls, Usage};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The client's certificate, DER.
    pub peer: Option<Vec<u8>>,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

type Handler = dyn Fn(Asked) -> BoxFuture<'static, Response<Body>> + Send + Sync;

pub struct Https {
    pub address: SocketAddr,
    pub authority: Authority,
    asked: Arc<Mutex<Vec<Asked>>>,
    _dir: TempDir,
}

impl Https {
    /// A server with these names in its certificate; clients may present one of `clients`'.
    pub async fn start(
        names: &[&str],
        clients: Option<&str>,
        handler: impl Fn(Asked) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, names, clients, handler).await
    }

    /// The same at another address.
    pub async fn start_at(
        address: Ipv4Addr,
        names: &[&str],
        clients: Option<&str>,
        handler: impl Fn(Asked) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        let leaf = Leaf {
            common_name: "server".to_owned(),
            organizations: Vec::new(),
            sans: names.iter().map(|n| San::Dns((*n).to_owned())).collect(),
            usage: Usage::Server,
            lifetime: Duration::from_secs(600),
        };
        let tls = ServerTls::new(&authority.issue(&leaf).unwrap(), clients).unwrap();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let acceptor = TlsAcceptor::from(tls.config());
        tokio::spawn(accept(listener, acceptor, handler, asked.clone()));
        Self {
            address,
            authority,
            asked,
            _dir: dir,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The authority as objects carry it.
    pub fn bundle(&self) -> String {
        STANDARD.encode(self.authority.certificate_pem())
    }

    /// What was asked since the last call.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handler: Arc<Handler>,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, handler, asked) = (acceptor.clone(), handler.clone(), asked.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let peer = stream.get_ref().1.peer_certificates();
            let peer = peer.and_then(|chain| chain.first()).map(|c| c.to_vec());
            let service = service_fn(move |request: Request<Incoming>| {
                let (handler, asked, peer) = (handler.clone(), asked.clone(), peer.clone());
                async move {
                    let (mut parts, body) = request.into_parts();
                    // HTTP/2 says it in another place.
                    if let Some(authority) = parts.uri.authority() {
                        let host = authority.as_str().parse().unwrap();
                        parts.headers.entry("host").or_insert(host);
                    }
                    let one = Asked {
                        method: parts.method,
                        path: parts.uri.path().to_owned(),
                        query: parts.uri.query().unwrap_or_default().to_owned(),
                        headers: parts.headers,
                        body: body.collect().await.unwrap().to_bytes(),
                        peer,
                    };
                    asked.lock().unwrap().push(one.clone());
                    Ok::<_, std::convert::Infallible>(handler(one).await)
                }
            });
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A JSON answer.
pub fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(full_body(value.to_string()));
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", kind);
    response
}
