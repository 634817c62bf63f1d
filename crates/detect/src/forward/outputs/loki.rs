//! Grafana Loki: streams by label, in batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::alert::to_json;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::publish::BatchLimits;
use crate::forward::request::{Request, basic};

struct Loki {
    url: String,
    authorization: Option<String>,
    tenant: Option<String>,
    headers: BTreeMap<String, String>,
    format: &'static str,
    /// Fields that are labels besides the usual ones.
    labels: Vec<String>,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = section.base_url("hostport")?;
    let endpoint = section.text_or("endpoint", "/loki/api/v1/push")?;
    let (user, key) = (section.text("user")?, section.text("apikey")?);
    let mut labels = globals.own_fields.clone();
    labels.extend(section.list("extralabels")?);
    let tenant = section.header_text("tenant")?;
    let headers = section.headers("customheaders")?;
    let format = section.choice("format", &["text", "json"])?;
    Ok(url
        .map(|url| {
            let output = Loki {
                url: format!("{url}{endpoint}"),
                authorization: user.zip(key).map(|(user, key)| basic(&user, &key)),
                tenant,
                headers,
                format,
                labels,
            };
            Destination::http("loki", common.minimum, common.tls, output)
                .in_batches(BatchLimits::WAITING)
        })
        .into_iter()
        .collect())
}

#[derive(Serialize)]
struct Push {
    streams: Vec<Stream>,
}

#[derive(Serialize)]
struct Stream {
    stream: BTreeMap<String, String>,
    values: Vec<[String; 2]>,
}

impl HttpOutput for Loki {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let mut streams: BTreeMap<BTreeMap<String, String>, Vec<[String; 2]>> = BTreeMap::new();
        for alert in alerts {
            let line = match self.format {
                "json" => String::from_utf8_lossy(&alert.to_json()).into_owned(),
                _ => alert.output.clone(),
            };
            let time = alert.time.as_nanosecond().to_string();
            streams
                .entry(self.stream(alert))
                .or_default()
                .push([time, line]);
        }
        let streams = streams
            .into_iter()
            .map(|(stream, values)| Stream { stream, values })
            .collect();
        let mut request = Request::post(&self.url, to_json(&Push { streams }))
            .header("Content-Type", "application/json");
        if let Some(tenant) = &self.tenant {
            request = request.header("X-Scope-OrgID", tenant.as_str());
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.as_str());
        }
        request.headers(&self.headers)
    }
}

impl Loki {
    fn stream(&self, alert: &Alert) -> BTreeMap<String, String> {
        let mut stream = BTreeMap::new();
        let mut set = |name: &str, value: &str| stream.insert(name.into(), value.into());
        set("rule", &alert.rule);
        set("source", &alert.source);
        set("priority", alert.priority.name());
        for (label, field) in [
            ("k8s_ns_name", "k8s.ns.name"),
            ("k8s_pod_name", "k8s.pod.name"),
        ] {
            if let Some(value) = alert.text(field) {
                set(label, value);
            }
        }
        for field in &self.labels {
            if let Some(value) = alert.text(field) {
                let label = field.replace('.', "_").replace([']', '['], "");
                set(&label, &value.replace('"', ""));
            }
        }
        if !alert.hostname.is_empty() {
            set("hostname", &alert.hostname);
        }
        if !alert.tags.is_empty() {
            set("tags", &alert.tags.join(","));
        }
        stream
    }
}
