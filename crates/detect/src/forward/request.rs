//! One HTTP request and its answer as values, and what an answer means.
//!
//! Invariant: neither an address nor a header of a request is ever printed: webhooks carry their
//! secret in the path, everybody else in a header.

use std::fmt;
use std::time::Duration;

use super::publish::{Delivery, Failure};

/// Falcosidekick's content type for JSON.
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// A request that is to be sent.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body is to be compressed with gzip on its way.
    pub(crate) gzip: bool,
}

impl Request {
    /// A POST of JSON.
    pub(crate) fn post(url: impl Into<String>, body: Vec<u8>) -> Request {
        Request {
            method: "POST".into(),
            url: url.into(),
            headers: vec![("Content-Type".into(), JSON.into())],
            body,
            gzip: false,
        }
    }

    /// Sets a header, in place of one of that name.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Request {
        self.headers
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets headers that the configuration asks for.
    pub(crate) fn headers<'a>(
        self,
        headers: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Request {
        headers.into_iter().fold(self, |request, (name, value)| {
            request.header(name, value.as_str())
        })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What `Retry-After` said.
    pub(crate) retry_after: Option<Duration>,
    /// The body, as far as it is read.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// What most services mean by a status: 2xx took it, 5xx and 408, 425 and 429 may take it
    /// later, everything else never will.
    pub(crate) fn judge(&self) -> Result<Delivery, Failure> {
        match self.status {
            200..=299 => Ok(Delivery::default()),
            408 | 425 | 429 | 500..=599 => Err(Failure::Later {
                reason: self.reason(),
                after: self.retry_after,
            }),
            status => Err(Failure::Never {
                reason: self.reason(),
                of_content: matches!(status, 400 | 413 | 422),
            }),
        }
    }

    /// Status and the beginning of the body, for the log.
    pub(crate) fn reason(&self) -> String {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(1024)]);
        let body: String = body
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(300)
            .collect();
        match body.trim() {
            "" => format!("status {}", self.status),
            body => format!("status {}: {body}", self.status),
        }
    }
}

/// Credentials of HTTP's basic scheme.
pub(crate) fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(text)
    )
}
