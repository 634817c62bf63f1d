//! The HTTP client of probes and hooks: one request a connection, no certificate
//! checks, redirects only on the same host.
//!
//! Invariant: never more than a bound is read of an answer.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// The most that is read of an answer.
const MAX_BODY: usize = 10 * 1024;
/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// Where to send a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Speak TLS.
    pub https: bool,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path with query.
    pub path: String,
    /// Headers by the spec.
    pub headers: Vec<(String, String)>,
}

impl Target {
    /// As a URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A status and the beginning of the body.
    Status(u16, String),
    /// A redirect to another host, which is not followed.
    Elsewhere(String),
}

/// Why there was no answer, in the words of Go's HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("Get \"{url}\": {problem}")]
pub(crate) struct GetError {
    /// The URL.
    pub url: String,
    /// What went wrong.
    pub problem: String,
}

/// Sends a GET and follows redirects on the same host. The caller bounds the time.
///
/// # Errors
/// When the connection fails or the answer is no HTTP.
pub(crate) async fn get(target: &Target, agent: &str) -> Result<Answer, GetError> {
    let mut target = target.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (status, location, body) = once(&target, agent).await.map_err(|problem| GetError {
            url: target.url(),
            problem,
        })?;
        let Some(location) = location.filter(|_| (300..400).contains(&status)) else {
            return Ok(Answer::Status(status, body));
        };
        match follow(&target, &location) {
            Some(next) if next.host == target.host => target = next,
            Some(_) => return Ok(Answer::Elsewhere(body)),
            None => return Ok(Answer::Status(status, body)),
        }
    }
    Err(GetError {
        url: target.url(),
        problem: format!("stopped after {MAX_REDIRECTS} redirects"),
    })
}

fn follow(from: &Target, location: &str) -> Option<Target> {
    let uri: Uri = location.parse().ok()?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut next = from.clone();
    if let Some(host) = uri.host() {
        next.host = host.trim_matches(['[', ']']).to_owned();
        next.https = uri.scheme_str().map_or(from.https, |s| s == "https");
        next.port = uri.port_u16().unwrap_or(if next.https { 443 } else { 80 });
    }
    next.path = if path.starts_with('/') {
        path.to_owned()
    } else {
        let base = from.path.split('?').next().unwrap_or("/");
        let dir = base.rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{dir}/{path}")
    };
    Some(next)
}

async fn once(target: &Target, agent: &str) -> Result<(u16, Option<String>, String), String> {
    let stream = connect(&target.host, target.port).await?;
    if target.https {
        let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(tls());
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())?;
        exchange(stream, target, agent).await
    } else {
        exchange(stream, target, agent).await
    }
}

/// Connects; errors in Go's words.
///
/// # Errors
/// `dial tcp A:P: connect: …`.
pub(crate) async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let shown = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    TcpStream::connect((host, port))
        .await
        .map_err(|e| format!("dial tcp {shown}: connect: {}", errno_words(&e)))
}

fn errno_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        io::ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string(),
    }
}

async fn exchange<S>(
    stream: S,
    target: &Target,
    agent: &str,
) -> Result<(u16, Option<String>, String), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let ask = async move {
        let mut request = Request::get(&target.path)
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let headers = request.headers_mut();
        let value = |text: &str| HeaderValue::from_str(text).map_err(|e| e.to_string());
        headers.insert(header::HOST, value(&target.authority())?);
        headers.insert(header::USER_AGENT, value(agent)?);
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let mut seen = std::collections::HashSet::new();
        for (name, text) in &target.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
            if (name == header::ACCEPT || name == header::USER_AGENT) && text.is_empty() {
                headers.remove(&name);
            } else if seen.insert(name.clone()) {
                headers.insert(name, value(text)?);
            } else {
                headers.append(name, value(text)?);
            }
        }
        let response = sender.send_request(request).await.map_err(|e| chain(&e))?;
        let status = response.status().as_u16();
        let location = response
            .headers()
            .get(header::LOCATION)
            .and_then(|l| l.to_str().ok())
            .map(str::to_owned);
        let body = match Limited::new(response.into_body(), MAX_BODY).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            // Too long or cut off: the status is what counts.
            Err(_) => String::new(),
        };
        Ok((status, location, body))
    };
    tokio::pin!(ask);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut ask => answer,
        // The connection future drives the exchange; the answer may still be buffered in it.
        ended = &mut connection => match ended {
            Ok(()) => ask.await,
            Err(e) => Err(chain(&e)),
        },
    }
}

fn chain(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        "EOF".into()
    } else {
        stdx::chain(error)
    }
}

fn tls() -> Arc<ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<ClientConfig>> = std::sync::OnceLock::new();
    let make = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default TLS versions");
        Arc::new(
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth(),
        )
    };
    Arc::clone(CONFIG.get_or_init(make))
}

/// Probes take any certificate: they check that the program answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
