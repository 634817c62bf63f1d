//! One kept connection: HTTP/1.1 over mutual TLS.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Target;

/// A connection that is kept.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    /// Connects, shows the certificate, and is ready for requests.
    pub(super) async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(&target.address)
            .await
            .with_context(|| format!("connecting to {}", target.address))?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(target.tls.clone());
        let stream = connector.connect(target.server.clone(), stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: target.address.clone(),
        })
    }

    /// A request whose answer is read whole; how many bytes it had.
    pub(super) async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<usize> {
        let mut response = self.send(method, path, body).await?;
        let status = response.status();
        let (mut size, mut kept) = (0, Vec::new());
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            size += data.len();
            if !status.is_success() {
                kept.extend_from_slice(&data);
            }
        }
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&kept));
        }
        Ok(size)
    }

    /// A request whose answer's body is left to read.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        Ok(self.sender.send_request(request).await?)
    }

    /// What is at a path.
    pub(super) async fn json(&mut self, path: &str) -> Result<serde_json::Value> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("{path} is not JSON"))
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<usize> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post(&mut self, path: &str, body: Bytes) -> Result<usize> {
        self.ask(Method::POST, path, body).await
    }

    pub(super) async fn put(&mut self, path: &str, body: Bytes) -> Result<usize> {
        self.ask(Method::PUT, path, body).await
    }

    pub(super) async fn delete(&mut self, path: &str) -> Result<usize> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }
}
