//! Services that speak HTTP: sends the requests that outputs make of alerts.
//!
//! Invariant: redirects are not followed, so that no secret goes where it was not configured to;
//! of an answer no more than [`LONGEST_ANSWER_BYTES`] is kept.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::alert::Alert;
use super::publish::{Delivery, Failure, Pending, Publisher};
use super::request::{Answer, Request};
use super::tls::{TlsError, TlsOptions};

const LONGEST_ANSWER_BYTES: usize = 4 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A service that speaks HTTP: what it is sent, and how it answers. Pure.
pub(crate) trait HttpOutput: Send + Sync {
    /// The request for a batch, which is never empty and no longer than the output's limits.
    fn request(&self, alerts: &[Arc<Alert>]) -> Request;

    /// What an answer means for a batch of so many alerts.
    fn judge(&self, answer: &Answer, alerts: usize) -> Result<Delivery, Failure> {
        let _ = alerts;
        answer.judge()
    }
}

/// Sends alerts by HTTP.
pub(crate) struct HttpPublisher {
    output: Box<dyn HttpOutput>,
    client: reqwest::Client,
    direct: reqwest::Client,
}

impl HttpPublisher {
    /// Reads the files that TLS needs.
    pub(crate) fn new(
        output: Box<dyn HttpOutput>,
        tls: &TlsOptions,
    ) -> Result<HttpPublisher, TlsError> {
        let tls = tls.load()?;
        let build = |builder: reqwest::ClientBuilder| {
            builder
                .tls_backend_preconfigured(tls.clone())
                .user_agent(concat!("knarr/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .expect("a client whose TLS is set up builds")
        };
        Ok(HttpPublisher {
            output,
            client: build(reqwest::Client::builder()),
            direct: build(reqwest::Client::builder().no_proxy()),
        })
    }

    async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let url = reqwest::Url::parse(&request.url)
            .map_err(|error| Failure::never(format!("the address is none: {error}")))?;
        let method = reqwest::Method::from_bytes(request.method.as_bytes())
            .map_err(|_| Failure::never("the method is none of HTTP's"))?;
        // What listens on this host is never reached through a proxy.
        let client = if is_loopback(&url) {
            &self.direct
        } else {
            &self.client
        };
        let mut builder = client.request(method, url);
        for (name, value) in &request.headers {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let body = if request.gzip {
            builder = builder.header("Content-Encoding", "gzip");
            gzip(&request.body)
        } else {
            request.body
        };
        let mut response = builder.body(body).send().await.map_err(failed)?;
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        let mut answer = Answer {
            status: response.status().as_u16(),
            retry_after,
            body: Vec::new(),
        };
        while answer.body.len() < LONGEST_ANSWER_BYTES {
            // The status counts; a body that breaks off is judged as far as it came.
            match response.chunk().await {
                Ok(Some(chunk)) => answer.body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        answer.body.truncate(LONGEST_ANSWER_BYTES);
        Ok(answer)
    }
}

impl Publisher for HttpPublisher {
    fn publish<'a>(
        &'a mut self,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>> {
        Box::pin(async move {
            let answer = self.send(self.output.request(alerts)).await?;
            self.output.judge(&answer, alerts.len())
        })
    }
}

/// Errors of the client: what cannot be a request never will be, the rest is the network.
fn failed(error: reqwest::Error) -> Failure {
    let never = error.is_builder();
    let reason = stdx::chain::chain(&error.without_url());
    if never {
        Failure::never(reason)
    } else {
        Failure::later(reason)
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// `Retry-After`: seconds, or a date of HTTP.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    let at: SystemTime = at.timestamp().into();
    Some(at.duration_since(now).unwrap_or_default())
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |value| retry_after(value, now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        let date = "Sun, 06 Nov 1994 08:49:47 GMT";
        assert_eq!(read(date), Some(Duration::from_secs(10)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::ZERO));
        assert_eq!(read("-1"), None);
        assert_eq!(read("soon"), None);
    }
}
