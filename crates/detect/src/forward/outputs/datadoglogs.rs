//! Datadog: its logs API v2, in batches.

use std::sync::Arc;

use serde::Serialize;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::alert::to_json;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::publish::BatchLimits;
use crate::forward::request::Request;

struct DatadogLogs {
    url: String,
    key: String,
    service: String,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let host = section.base_url("host")?;
    let host = host
        .as_deref()
        .unwrap_or("https://http-intake.logs.datadoghq.com");
    let service = section.text_or("service", "")?;
    Ok(section
        .header_text("apikey")?
        .map(|key| {
            let output = DatadogLogs {
                url: format!("{host}/api/v2/logs"),
                key,
                service,
            };
            // The API takes a thousand entries and 5 MB at once.
            Destination::http("datadoglogs", common.minimum, common.tls, output)
                .in_batches(BatchLimits::WAITING)
        })
        .into_iter()
        .collect())
}

#[derive(Serialize)]
struct Entry<'a> {
    ddsource: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    service: &'a str,
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ddtags: String,
}

impl HttpOutput for DatadogLogs {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let entries: Vec<Entry<'_>> = alerts
            .iter()
            .map(|alert| Entry {
                ddsource: "falco",
                hostname: &alert.hostname,
                service: &self.service,
                message: String::from_utf8_lossy(&alert.to_json()).into_owned(),
                ddtags: alert.tags.join(","),
            })
            .collect();
        Request::post(&self.url, to_json(&entries)).header("DD-API-KEY", self.key.as_str())
    }
}
