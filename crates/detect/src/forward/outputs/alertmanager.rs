//! Prometheus Alertmanager: alerts as labels and annotations, by its API v2.
//!
//! Every server of `hostport` is an output of its own, as servers of a cluster expect.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Common, Destination};
use crate::forward::alert::{go_text, to_json};
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::publish::BatchLimits;
use crate::forward::request::Request;
use crate::forward::{Alert, Priority};

const THRESHOLDS: [(i64, Priority); 5] = [
    (10_000, Priority::Critical),
    (1000, Priority::Critical),
    (100, Priority::Critical),
    (10, Priority::Warning),
    (1, Priority::Warning),
];

#[derive(Clone)]
struct Alertmanager {
    url: String,
    headers: BTreeMap<String, String>,
    expires_after_secs: i64,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    severities: BTreeMap<Priority, String>,
    /// Counts of dropped events are told as the highest threshold that they exceed, highest first.
    thresholds: Vec<(i64, Priority)>,
    drop_priority: Priority,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let servers = section.list("hostport")?;
    for server in &servers {
        section.check_url("hostport", server)?;
    }
    let endpoint = section.text_or("endpoint", "/api/v2/alerts")?;
    if endpoint.contains("/v1/") {
        return Err(section.bad(
            "endpoint",
            "Alertmanager has no API v1 since 0.27: use /api/v2/alerts",
        ));
    }
    let mut severities = BTreeMap::new();
    for (name, severity) in section.pairs("customseveritymap")? {
        let priority = Priority::parse(&name).ok_or_else(|| {
            section.bad(
                "customseveritymap",
                &format!("{name:?} is no priority of Falco's"),
            )
        })?;
        severities.insert(priority, severity);
    }
    let expires = section.number("expiresafter", 0)?;
    let output = Alertmanager {
        url: String::new(),
        headers: section.headers("customheaders")?,
        expires_after_secs: i64::try_from(expires)
            .ok()
            .filter(|seconds| *seconds <= 1_000_000_000)
            .ok_or_else(|| section.bad("expiresafter", "is too long"))?,
        labels: section.pairs("extralabels")?,
        annotations: section.pairs("extraannotations")?,
        severities,
        thresholds: thresholds(section)?,
        drop_priority: section
            .priority("dropeventdefaultpriority")?
            .unwrap_or(Priority::Critical),
    };
    let several = servers.len() > 1;
    Ok(servers
        .iter()
        .enumerate()
        .map(|(place, server)| {
            let name = if several {
                format!("alertmanager_{place}")
            } else {
                "alertmanager".into()
            };
            let url = format!("{}{endpoint}", server.trim_end_matches('/'));
            let output = Alertmanager {
                url,
                ..output.clone()
            };
            Destination::http(&name, common.minimum, common.tls.clone(), output).in_batches(
                BatchLimits {
                    alerts: 100,
                    ..BatchLimits::WAITING
                },
            )
        })
        .collect())
}

/// `10000:critical, 100:warning`.
fn thresholds(section: &mut Section) -> Result<Vec<(i64, Priority)>, ConfigError> {
    let key = "dropeventthresholds";
    let mut thresholds = Vec::new();
    for pair in section.list(key)? {
        let threshold = pair.split_once(':').and_then(|(value, priority)| {
            Some((
                value.trim().parse().ok()?,
                Priority::parse(priority.trim())?,
            ))
        });
        thresholds.push(threshold.ok_or_else(|| {
            section.bad(
                key,
                &format!("{pair:?} must be a number, a colon and a priority"),
            )
        })?);
    }
    if thresholds.is_empty() {
        thresholds = THRESHOLDS.into();
    }
    thresholds.sort_by_key(|(value, _)| std::cmp::Reverse(*value));
    Ok(thresholds)
}

impl HttpOutput for Alertmanager {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let payload: Vec<Posted> = alerts.iter().map(|alert| self.posted(alert)).collect();
        Request::post(&self.url, to_json(&payload)).headers(&self.headers)
    }
}

#[derive(Serialize)]
struct Posted {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(rename = "endsAt", skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
}

impl Alertmanager {
    fn posted(&self, alert: &Alert) -> Posted {
        let mut priority = alert.priority;
        let mut labels = BTreeMap::new();
        for (name, value) in &alert.output_fields {
            if name.starts_with("n_evts") || value.is_null() {
                continue;
            }
            if name.starts_with("n_drop") {
                if let Ok(count) = go_text(value).parse() {
                    labels.insert(label(name), self.drops(count, &mut priority));
                }
                continue;
            }
            if value.is_string() || value.is_number() {
                labels.insert(label(name), go_text(value));
            }
        }
        let mut set = |name: &str, value: &str| labels.insert(name.into(), value.into());
        set("source", "falco");
        set("rule", &alert.rule);
        set("alertname", &alert.rule);
        set("eventsource", &alert.source);
        if !alert.hostname.is_empty() {
            set("hostname", &alert.hostname);
        }
        if !alert.tags.is_empty() {
            set("tags", &alert.tags.join(","));
        }
        set("priority", priority.name());
        match self.severities.get(&priority) {
            Some(own) => set("severity", own),
            None => set("severity", severity(priority)),
        };
        labels.extend(self.labels.clone());
        let mut annotations = BTreeMap::from([
            ("info".into(), alert.output.clone()),
            ("description".into(), alert.output.clone()),
            ("summary".into(), alert.rule.clone()),
        ]);
        annotations.extend(self.annotations.clone());
        let expires = (self.expires_after_secs > 0).then(|| {
            alert
                .time
                .checked_add(SignedDuration::from_secs(self.expires_after_secs))
        });
        Posted {
            labels,
            annotations,
            ends_at: expires.and_then(Result::ok),
        }
    }

    /// A count of dropped events as a label of few values; raises the priority as configured.
    fn drops(&self, count: i64, priority: &mut Priority) -> String {
        let (text, least) = if count == 0 {
            ("0".into(), Priority::Warning)
        } else {
            match self.thresholds.iter().find(|(value, _)| count > *value) {
                Some((value, priority)) => (format!(">{value}"), *priority),
                None => (count.to_string(), self.drop_priority),
            }
        };
        *priority = least.max(*priority);
        text
    }
}

/// Names of labels are letters, digits and underscores.
fn label(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}

fn severity(priority: Priority) -> &'static str {
    match priority {
        Priority::Debug | Priority::Informational | Priority::Notice => "information",
        Priority::Warning | Priority::Error => "warning",
        Priority::Critical | Priority::Alert | Priority::Emergency => "critical",
    }
}
