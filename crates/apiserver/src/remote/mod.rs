//! Servers that an administrator has named: webhooks of a kubeconfig file, documents of issuers.
//!
//! Invariant: every answer is bounded in size and in time.

mod kubeconfig;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use pki::Trust;

pub use self::kubeconfig::{KubeconfigError, Remote};

use crate::auth::oidc::{Fetch, FetchError};
use crate::http::{empty_body, full_body};
use crate::outbound::{AGENT, CallError, Endpoint, Limits, Outbound, uri};

const DOCUMENT_LIMITS: Limits = Limits {
    time: Duration::from_secs(10),
    answer_bytes: 1 << 20,
};
const ANSWER_LIMIT_BYTES: usize = 1 << 20;

/// Documents that issuers publish.
pub(crate) struct Documents(pub(crate) Arc<Outbound>);

impl Fetch for Documents {
    fn get<'a>(
        &'a self,
        url: &'a str,
        ca_pem: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, FetchError>> {
        Box::pin(async move {
            let fault = |fault: String| FetchError {
                url: url.to_owned(),
                fault,
            };
            let trust = ca_pem.map_or(Trust::System, |pem| Trust::Authorities(pem.to_owned()));
            let to = Endpoint::url(url, trust).map_err(|error| fault(error.to_string()))?;
            let parsed: Uri = url.parse().map_err(|_| fault("invalid URL".to_owned()))?;
            let path = parsed.path_and_query().map_or("/", |path| path.as_str());
            let mut request = Request::new(empty_body());
            *request.uri_mut() = uri(&to, path).map_err(|error| fault(error.to_string()))?;
            let headers = request.headers_mut();
            headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
            let answer = self.0.fetch(&to, None, request, DOCUMENT_LIMITS).await;
            let (status, body) = answer.map_err(|error| fault(error.to_string()))?;
            if status != StatusCode::OK {
                return Err(fault(format!("the server answered {status}")));
            }
            Ok(body)
        })
    }
}

/// Why a webhook gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    /// There was none.
    #[error("calling the webhook")]
    Call(#[from] CallError),
    /// It was none of success.
    #[error("the webhook answered {0}")]
    Status(StatusCode),
    /// Its credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] KubeconfigError),
}

impl WebhookError {
    /// Whether the same call may succeed a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Call(_) => true,
            Self::Status(status) => status.is_server_error() || status.as_u16() == 429,
            Self::Credentials(_) => false,
        }
    }
}

/// A webhook of a kubeconfig file.
#[derive(Clone)]
pub(crate) struct Webhook {
    remote: Remote,
    outbound: Arc<Outbound>,
}

impl Webhook {
    pub(crate) fn new(remote: Remote, outbound: Arc<Outbound>) -> Self {
        Self { remote, outbound }
    }

    /// Posts JSON; the answer of a success.
    pub(crate) async fn post(
        &self,
        body: impl Into<Bytes>,
        time: Duration,
    ) -> Result<Bytes, WebhookError> {
        let to = &self.remote.endpoint;
        let path = if to.path.is_empty() { "/" } else { &to.path };
        let mut request = Request::new(full_body(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri(to, path)?;
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, json.clone());
        headers.insert(header::ACCEPT, json);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(credentials) = self.remote.authorization()? {
            headers.insert(header::AUTHORIZATION, credentials);
        }
        let limits = Limits {
            time,
            answer_bytes: ANSWER_LIMIT_BYTES,
        };
        let identity = self.remote.identity.as_ref();
        let (status, answer) = self.outbound.fetch(to, identity, request, limits).await?;
        if status.is_success() {
            Ok(answer)
        } else {
            Err(WebhookError::Status(status))
        }
    }
}
