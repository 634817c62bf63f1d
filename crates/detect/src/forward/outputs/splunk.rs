//! Splunk: its HTTP event collector, in batches (events one after the other).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::alert::{AlertWire, to_json};
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::publish::BatchLimits;
use crate::forward::request::Request;

struct Splunk {
    /// The whole address of the collector.
    url: String,
    token: Option<String>,
    headers: BTreeMap<String, String>,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = section.url("host")?;
    let token = section.header_text("token")?;
    let headers = section.headers("customheaders")?;
    Ok(url
        .map(|url| {
            let output = Splunk {
                url,
                token,
                headers,
            };
            Destination::http("splunk", common.minimum, common.tls, output)
                .in_batches(BatchLimits::WAITING)
        })
        .into_iter()
        .collect())
}

#[derive(Serialize)]
struct Event<'a> {
    event: AlertWire<'a>,
    sourcetype: &'static str,
}

impl HttpOutput for Splunk {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let mut body = Vec::new();
        for alert in alerts {
            let event = Event {
                event: alert.as_ref().into(),
                sourcetype: "falcosidekick",
            };
            body.extend(to_json(&event));
            body.push(b'\n');
        }
        let request = Request::post(&self.url, body).headers(&self.headers);
        match &self.token {
            Some(token) => request.header("Authorization", format!("Splunk {token}")),
            None => request,
        }
    }
}
