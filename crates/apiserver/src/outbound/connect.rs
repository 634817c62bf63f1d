//! From an endpoint to a TLS connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::Endpoint;
use super::resolve::{self, ResolveError};
use crate::cache::Cache;

/// How long one address may take to answer.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// How many addresses of one name are tried.
const ADDRESSES: usize = 3;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("lookup {host}: no such host")]
    Lookup { host: String },
    #[error("dial tcp {address}: {}", dial_words(.source))]
    Dial {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{}", tls_words(.0))]
    Tls(io::Error),
    #[error("{0:?} is no name of a server")]
    Name(String),
}

/// What a failed dial is called where upstream's clients look for its words.
fn dial_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => format!("connect: {error}"),
    }
}

fn tls_words(error: &io::Error) -> String {
    use rustls::CertificateError as Fault;
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(fault)) = inner else {
        return format!("tls: {error}");
    };
    let words = match fault {
        Fault::UnknownIssuer | Fault::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        Fault::Expired
        | Fault::ExpiredContext { .. }
        | Fault::NotValidYet
        | Fault::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        Fault::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<&str> = presented
                .iter()
                .map(|name| {
                    let name = name.split_once("(\"").map_or(name.as_str(), |(_, n)| n);
                    name.trim_end_matches("\")")
                })
                .collect();
            format!(
                "certificate is valid for {}, not {}",
                names.join(", "),
                expected.to_str()
            )
        }
        other => format!("{other:?}"),
    };
    format!("tls: failed to verify certificate: x509: {words}")
}

/// A TLS connection.
#[derive(Debug)]
pub(crate) struct Link(TokioIo<TlsStream<TcpStream>>);

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        let (_, session) = self.0.inner().get_ref();
        if session.alpn_protocol() == Some(b"h2") {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Makes connections to one endpoint.
#[derive(Clone)]
pub(crate) struct Connector {
    cache: Arc<Cache>,
    endpoint: Arc<Endpoint>,
    tls: TlsConnector,
}

impl Connector {
    pub(crate) fn new(cache: Arc<Cache>, endpoint: Endpoint, mut tls: ClientConfig) -> Self {
        let http1: &[u8] = b"http/1.1";
        tls.alpn_protocols = if endpoint.http2 {
            vec![b"h2".to_vec(), http1.to_vec()]
        } else {
            vec![http1.to_vec()]
        };
        Self {
            cache,
            endpoint: Arc::new(endpoint),
            tls: TlsConnector::from(Arc::new(tls)),
        }
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Some(to) = &self.endpoint.service {
            return Ok(resolve::service(
                &self.cache,
                &to.namespace,
                &to.name,
                to.port,
            )?);
        }
        let authority = &self.endpoint.authority;
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(443);
        let lookup = || ConnectError::Lookup {
            host: host.to_owned(),
        };
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<SocketAddr> = found.map_err(|_| lookup())?.collect();
        if found.is_empty() {
            Err(lookup())
        } else {
            Ok(found)
        }
    }

    async fn connect(self) -> Result<Link, ConnectError> {
        let stream = dial(&self.addresses().await?).await?;
        // A request is one small write that waits for its answer.
        let _ = stream.set_nodelay(true);
        let name = match &self.endpoint.service {
            Some(service) => service.server_name(),
            None => {
                let host = self.endpoint.authority.host();
                host.trim_matches(['[', ']']).to_owned()
            }
        };
        let server =
            ServerName::try_from(name.clone()).map_err(|_| ConnectError::Name(name.clone()))?;
        let stream = self.tls.connect(server, stream).await;
        Ok(Link(TokioIo::new(stream.map_err(ConnectError::Tls)?)))
    }
}

async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut failed = None;
    for address in addresses.iter().take(ADDRESSES).copied() {
        let dialed = tokio::time::timeout(DIAL_LIMIT, TcpStream::connect(address)).await;
        let dialed = dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match dialed {
            Ok(stream) => return Ok(stream),
            Err(source) => failed = Some(ConnectError::Dial { address, source }),
        }
    }
    Err(failed.unwrap_or(ConnectError::Lookup {
        host: String::new(),
    }))
}

impl tower::Service<Uri> for Connector {
    type Response = Link;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Link, ConnectError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
