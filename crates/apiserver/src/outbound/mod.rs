//! Calls that this server makes to others over HTTPS: webhooks, converters, aggregated servers.
//!
//! Invariants: a call has a time limit and an answer that is read has a size limit; connections are
//! reused among calls that trust and present the same, and only among those.

mod connect;
mod endpoint;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pki::{KeyPair, PkiError};
use serde_json::Value;

pub(crate) use self::connect::ConnectError;
pub(crate) use self::endpoint::{Endpoint, EndpointError, trust_bundle};
pub(crate) use self::resolve::{Endpoints, endpoints};

use self::connect::Connector;
use crate::cache::Cache;
use crate::http::{Body, full_body};

/// How many different clients are kept.
const CLIENTS: usize = 200;
/// How long a connection is kept that nobody uses.
const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// After how much silence an HTTP/2 connection is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(30);
/// How much of a foreign answer is repeated in an error.
const QUOTED_BYTES: usize = 512;
/// How long it may take to say so.
const PING_LIMIT: Duration = Duration::from_secs(15);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The endpoint cannot be called as it is configured.
    #[error("{0}")]
    Tls(#[source] PkiError),
    /// The connection failed before the answer was there.
    #[error("{0}")]
    Broken(String),
    /// It took too long.
    #[error("context deadline exceeded")]
    Timeout,
    /// The answer is too large.
    #[error("the answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What was allowed.
        limit_bytes: usize,
    },
    /// The path is none.
    #[error("invalid path {0:?}")]
    Path(String),
}

/// Why a review has no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    /// In upstream's words.
    pub(crate) why: String,
    /// The HTTP status that was answered, or 503.
    pub(crate) code: u16,
}

/// What a call with a small answer is limited to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) answer_bytes: usize,
}

type HttpsClient = Client<Connector, Body>;

/// What makes two calls share connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Its path is empty.
    endpoint: Endpoint,
    /// The certificate that is presented.
    identity: Option<String>,
}

/// A client, and when it was used last.
struct Kept {
    client: HttpsClient,
    used: u64,
}

#[derive(Default)]
struct Clients {
    kept: HashMap<Key, Kept>,
    clock: u64,
}

/// The clients of this server.
pub(crate) struct Outbound {
    cache: Arc<Cache>,
    clients: Mutex<Clients>,
}

impl Outbound {
    /// Clients that find Services in this cache.
    pub(crate) fn new(cache: Arc<Cache>) -> Self {
        Self {
            cache,
            clients: Mutex::default(),
        }
    }

    /// Posts JSON to the endpoint's path and reads the answer.
    pub(crate) async fn post_json(
        &self,
        to: &Endpoint,
        query: &str,
        body: impl Into<Bytes>,
        limits: Limits,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let path = if to.path.is_empty() { "/" } else { &to.path };
        let uri = uri(to, &with_query(path, query))?;
        let mut request = Request::new(full_body(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, json.clone());
        headers.insert(header::ACCEPT, json);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        self.fetch(to, None, request, limits).await
    }

    /// Posts a review to a webhook and reads the one that it answers.
    ///
    /// # Errors
    /// When there is none, or the answer is no JSON.
    pub(crate) async fn review(
        &self,
        to: &Endpoint,
        query: &str,
        review: String,
        limits: Limits,
    ) -> Result<Value, Unanswered> {
        let failed = |why| Unanswered { why, code: 503 };
        let posted = self.post_json(to, query, review, limits).await;
        let (status, bytes) = posted.map_err(|error| {
            let path = with_query(&to.path, query);
            let url = uri(to, &path).map(|uri| uri.to_string());
            failed(format!("Post {:?}: {error}", url.unwrap_or(path)))
        })?;
        if !status.is_success() {
            let why = if status == 404 {
                "the server could not find the requested resource".to_owned()
            } else {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED_BYTES)]);
                let text = text.trim();
                format!(
                    "an error on the server ({text:?}) has prevented the request from succeeding"
                )
            };
            let code = status.as_u16();
            return Err(Unanswered { why, code });
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            failed(format!(
                "couldn't get version/kind; json parse error: {error}"
            ))
        })
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn fetch(
        &self,
        to: &Endpoint,
        identity: Option<&KeyPair>,
        request: Request<Body>,
        limits: Limits,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let client = self.client(to, identity)?;
        let calling = async {
            let answer = client.request(request).await.map_err(broken)?;
            let status = answer.status();
            let bytes = collect(answer.into_body(), limits.answer_bytes).await?;
            Ok((status, bytes))
        };
        let answered = tokio::time::timeout(limits.time, calling).await;
        answered.unwrap_or(Err(CallError::Timeout))
    }

    /// Sends a request whose URI is of [`uri`] and hands its answer on as it comes, upgrades
    /// included.
    pub(crate) async fn send(
        &self,
        to: &Endpoint,
        identity: Option<&KeyPair>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, CallError> {
        let client = self.client(to, identity)?;
        client.request(request).await.map_err(broken)
    }

    fn client(&self, to: &Endpoint, identity: Option<&KeyPair>) -> Result<HttpsClient, CallError> {
        let key = Key {
            endpoint: Endpoint {
                path: String::new(),
                ..to.clone()
            },
            identity: identity.map(|pair| pair.cert_pem.clone()),
        };
        let mut guard = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = &mut *guard;
        clients.clock += 1;
        if let Some(kept) = clients.kept.get_mut(&key) {
            kept.used = clients.clock;
            return Ok(kept.client.clone());
        }
        let tls = pki::client_tls(&to.trust, identity).map_err(CallError::Tls)?;
        let connector = Connector::new(self.cache.clone(), key.endpoint.clone(), tls);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_timeout(PING_LIMIT)
            .build(connector);
        if clients.kept.len() >= CLIENTS {
            let oldest = clients.kept.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                clients.kept.remove(&oldest);
            }
        }
        let kept = Kept {
            client: client.clone(),
            used: clients.clock,
        };
        clients.kept.insert(key, kept);
        Ok(client)
    }
}

/// How this server calls itself.
pub(crate) const AGENT: &str = concat!("knarr/", env!("CARGO_PKG_VERSION"));

/// The whole URI of a path (with its query) at an endpoint.
pub(crate) fn uri(to: &Endpoint, path: &str) -> Result<Uri, CallError> {
    Uri::builder()
        .scheme("https")
        .authority(to.authority.clone())
        .path_and_query(path)
        .build()
        .map_err(|_| CallError::Path(path.to_owned()))
}

/// A path with a query behind it.
fn with_query(path: &str, query: &str) -> String {
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

fn broken(error: hyper_util::client::legacy::Error) -> CallError {
    // The connector's own error is at the end of the chain, else hyper's says most.
    let mut source = std::error::Error::source(&error);
    let mut last = error.to_string();
    while let Some(error) = source {
        if let Some(connect) = error.downcast_ref::<ConnectError>() {
            return CallError::Broken(connect.to_string());
        }
        last = error.to_string();
        source = error.source();
    }
    CallError::Broken(last)
}

/// Boxed, as the compiler cannot see that the body's own future may move between threads.
fn collect(body: Incoming, limit_bytes: usize) -> BoxFuture<'static, Result<Bytes, CallError>> {
    Box::pin(async move {
        match Limited::new(body, limit_bytes).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(CallError::TooLarge { limit_bytes })
            }
            Err(error) => Err(CallError::Broken(error.to_string())),
        }
    })
}
