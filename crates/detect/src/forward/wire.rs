//! Services that speak a protocol of their own over TCP or TLS: a connection that is kept while it
//! is used.
//!
//! Invariant: a connection that failed, was broken off in the middle of something or lay idle is
//! never used again; lines and answers that a server sends are bounded.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::alert::Alert;
use super::publish::{Delivery, Failure, Pending, Publisher};
use super::tls::TlsOptions;

/// Servers hang up on clients that say nothing for a minute or two.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// The longest line that is read of a server.
const LONGEST_LINE_BYTES: u64 = 64 * 1024;

/// A stream of bytes in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to a service.
pub(crate) type Stream = BufReader<Box<dyn Io>>;

/// Where a service is, and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the scheme asks for TLS.
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// What follows the first slash.
    pub(crate) path: String,
}

impl Server {
    /// Reads `scheme://user:password@host:port/path`; schemes come with their port and whether
    /// they mean TLS, and the first one is meant where there is none.
    pub(crate) fn parse(text: &str, schemes: &[(&str, u16, bool)]) -> Option<Server> {
        let (name, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (schemes.first()?.0.to_owned(), text),
        };
        let (_, port, tls) = schemes.iter().find(|(scheme, ..)| *scheme == name)?;
        // The address parser knows brackets, escapes and bounds; it wants a scheme with a host.
        let url = reqwest::Url::parse(&format!("server://{rest}")).ok()?;
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let decode = |text: &str| percent_decode(text).filter(|text| !text.is_empty());
        Some(Server {
            host: host.trim_start_matches('[').trim_end_matches(']').into(),
            port: url.port().unwrap_or(*port),
            tls: *tls,
            user: decode(url.username()),
            password: url.password().and_then(decode),
            path: percent_decode(url.path().trim_start_matches('/'))?,
        })
    }

    /// Opens a connection, with TLS from the start if options are given.
    pub(crate) async fn connect(&self, tls: Option<&TlsOptions>) -> Result<Stream, Failure> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| Failure::later(format!("cannot connect: {error}")))?;
        // Answers are waited for; what is small is to leave at once.
        let _ = stream.set_nodelay(true);
        let stream: Stream = BufReader::new(Box::new(stream));
        match tls {
            None => Ok(stream),
            Some(tls) => self.encrypt(stream, tls).await,
        }
    }

    /// Goes on in TLS.
    pub(crate) async fn encrypt(
        &self,
        stream: Stream,
        tls: &TlsOptions,
    ) -> Result<Stream, Failure> {
        let options = tls.clone();
        let config = tokio::task::spawn_blocking(move || options.load())
            .await
            .map_err(Failure::later)?
            .map_err(|error| Failure::later(stdx::chain::chain(&error)))?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| Failure::never("the host's name cannot be checked by TLS"))?;
        // Nothing that came before TLS may count as having come within it.
        if !stream.buffer().is_empty() {
            return Err(Failure::later("the server spoke before TLS was set up"));
        }
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream.into_inner())
            .await
            .map_err(|error| Failure::later(format!("no TLS: {error}")))?;
        Ok(BufReader::new(Box::new(stream)))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let [high, low, tail @ ..] = rest else {
                return None;
            };
            let mut byte = [0];
            hex::decode_to_slice([*high, *low], &mut byte).ok()?;
            bytes.push(byte[0]);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A line without its end.
pub(crate) async fn read_line(stream: &mut Stream) -> Result<String, Failure> {
    let mut line = Vec::new();
    stream
        .take(LONGEST_LINE_BYTES)
        .read_until(b'\n', &mut line)
        .await
        .map_err(broken)?;
    if line.pop() != Some(b'\n') {
        return Err(Failure::later("the server hung up"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// What an error of a connection means.
pub(crate) fn broken(error: std::io::Error) -> Failure {
    Failure::later(format!("the connection broke: {error}"))
}

/// What a server said, fit for a log.
pub(crate) fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// How to speak with a service.
pub(crate) trait Protocol: Send + Sync {
    /// Connects and says who we are.
    fn open(&self) -> Pending<'_, Result<Stream, Failure>>;

    /// Sends alerts and waits until the server has them.
    fn send<'a>(
        &'a self,
        stream: &'a mut Stream,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>>;
}

/// A service and the connection to it.
pub(crate) struct Connected<P> {
    protocol: P,
    open: Option<(Stream, Instant)>,
}

impl<P: Protocol> Connected<P> {
    pub(crate) fn new(protocol: P) -> Connected<P> {
        Connected {
            protocol,
            open: None,
        }
    }
}

impl<P: Protocol> Publisher for Connected<P> {
    fn publish<'a>(
        &'a mut self,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>> {
        Box::pin(async move {
            // Taken out, so that it is gone unless all went well.
            let mut stream = match self.open.take() {
                Some((stream, used)) if used.elapsed() < IDLE_LIMIT => stream,
                _ => self.protocol.open().await?,
            };
            let delivery = self.protocol.send(&mut stream, alerts).await?;
            self.open = Some((stream, Instant::now()));
            Ok(delivery)
        })
    }
}
