//! Any HTTP server: the alert in Falco's JSON, by any method.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::request::Request;

struct Webhook {
    url: String,
    method: String,
    headers: BTreeMap<String, String>,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = section.url("address")?;
    let headers = section.headers("customheaders")?;
    // Upstream takes everything but PUT for POST.
    let method = section.text_or("method", "POST")?.to_ascii_uppercase();
    if reqwest::Method::from_bytes(method.as_bytes()).is_err() {
        return Err(section.bad("method", "is no method of HTTP"));
    }
    Ok(url
        .map(|url| {
            let webhook = Webhook {
                url,
                method,
                headers,
            };
            Destination::http("webhook", common.minimum, common.tls, webhook)
        })
        .into_iter()
        .collect())
}

impl HttpOutput for Webhook {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let body = alerts
            .first()
            .map_or_else(Vec::new, |alert| alert.to_json());
        let mut request = Request::post(&self.url, body).headers(&self.headers);
        request.method.clone_from(&self.method);
        request
    }
}
