//! Elasticsearch and OpenSearch: a document an alert, by itself or in bulk.
//!
//! Upstream names the index by the time of sending and lets the server make up ids. Here it is the
//! alert's own time, and its uuid is the document's id in bulk, so that an alert that comes again
//! after a lost answer is no second document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::alert::{AlertWire, to_json};
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::publish::{BatchLimits, Delivery, Failure};
use crate::forward::request::{Answer, Request, basic};

struct Elasticsearch {
    url: String,
    index: String,
    kind: String,
    pipeline: Option<String>,
    suffix: &'static str,
    authorization: Option<String>,
    headers: BTreeMap<String, String>,
    flatten: bool,
    gzip: bool,
    bulk: bool,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = section.base_url("hostport")?;
    let template = section.flag("createindextemplate", false)?;
    if template {
        notices.push(format!(
            "{}: templates of indices are not created here; fields are flattened as for one",
            section.at("createindextemplate")
        ));
    }
    section.ignore(&["numberofshards", "numberofreplicas"], notices);
    let user = section.text("username")?;
    let password = section.text("password")?;
    let key = section.header_text("apikey")?;
    let mut batching = section.section("batching")?;
    let bulk = batching.flag("enabled", false)?;
    let bytes = batching.number("batchsize", 5 * 1024 * 1024)?;
    let linger = batching.duration("flushinterval", Duration::from_secs(1))?;
    batching.finish(notices);
    let output = Elasticsearch {
        url: url.clone().unwrap_or_default(),
        index: section.text_or("index", "falco")?,
        kind: section.text_or("type", "_doc")?,
        pipeline: section.text("pipeline")?,
        suffix: section.choice("suffix", &["daily", "monthly", "annually", "none"])?,
        authorization: match (user, password, key) {
            (Some(user), Some(password), _) => Some(basic(&user, &password)),
            (_, _, Some(key)) => Some(format!("APIKey {key}")),
            _ => None,
        },
        headers: section.headers("customheaders")?,
        flatten: section.flag("flattenfields", false)? || template,
        gzip: section.flag("enablecompression", false)?,
        bulk,
    };
    let limits = if bulk {
        BatchLimits {
            alerts: 5000,
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            linger,
        }
    } else {
        BatchLimits::SINGLE
    };
    Ok(url
        .map(|_| {
            Destination::http("elasticsearch", common.minimum, common.tls, output)
                .in_batches(limits)
        })
        .into_iter()
        .collect())
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    alert: AlertWire<'a>,
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
}

#[derive(Serialize)]
struct Create<'a> {
    create: Target<'a>,
}

#[derive(Serialize)]
struct Target<'a> {
    #[serde(rename = "_index")]
    index: &'a str,
    #[serde(rename = "_id", skip_serializing_if = "str::is_empty")]
    id: &'a str,
}

impl Elasticsearch {
    fn document(&self, alert: &Alert) -> Vec<u8> {
        let document = |alert: &Alert| {
            to_json(&Document {
                alert: alert.into(),
                timestamp: alert.time,
            })
        };
        if !self.flatten {
            return document(alert);
        }
        let output_fields: BTreeMap<String, Value> = alert
            .output_fields
            .iter()
            .map(|(name, value)| (name.replace('.', "_"), value.clone()))
            .collect();
        document(&Alert {
            output_fields,
            ..alert.clone()
        })
    }

    fn index(&self, alert: &Alert) -> String {
        let format = match self.suffix {
            "none" => return self.index.clone(),
            "monthly" => "%Y.%m",
            "annually" => "%Y",
            _ => "%Y.%m.%d",
        };
        let time = alert.time.to_zoned(TimeZone::UTC);
        format!("{}-{}", self.index, time.strftime(format))
    }
}

impl HttpOutput for Elasticsearch {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let mut body = Vec::new();
        let mut url = format!("{}/_bulk", self.url);
        for alert in alerts {
            let index = self.index(alert);
            if self.bulk {
                let target = Target {
                    index: &index,
                    id: &alert.uuid,
                };
                body.extend(to_json(&Create { create: target }));
                body.push(b'\n');
            } else {
                url = format!("{}/{index}/{}", self.url, self.kind);
            }
            body.extend(self.document(alert));
            if self.bulk {
                body.push(b'\n');
            }
        }
        if let Some(pipeline) = &self.pipeline {
            let query: String = pipeline.bytes().map(query_byte).collect();
            url = format!("{url}?pipeline={query}");
        }
        let mut request = Request::post(url, body);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.as_str());
        }
        request.gzip = self.gzip;
        request.headers(&self.headers)
    }

    fn judge(&self, answer: &Answer, alerts: usize) -> Result<Delivery, Failure> {
        let delivery = answer.judge()?;
        if !self.bulk {
            return Ok(delivery);
        }
        let Ok(bulk) = serde_json::from_slice::<BulkAnswer>(&answer.body) else {
            return Err(Failure::later(
                "the answer to a bulk request cannot be read",
            ));
        };
        Ok(bulk.delivery(alerts))
    }
}

#[derive(Deserialize)]
struct BulkAnswer {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    items: Vec<BTreeMap<String, Item>>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    #[serde(default)]
    error: Option<Value>,
}

impl BulkAnswer {
    /// Each document has a status of its own. One that is there already was sent before.
    fn delivery(&self, alerts: usize) -> Delivery {
        let mut delivery = Delivery::default();
        if !self.errors {
            return delivery;
        }
        let items = self.items.iter().filter_map(|item| item.values().next());
        for (place, item) in items.enumerate().take(alerts) {
            match item.status {
                200..=299 | 409 => continue,
                429 | 500..=599 => delivery.again.push(place),
                _ => delivery.refused += 1,
            }
            if delivery.reason.is_none() {
                let answer = Answer {
                    status: item.status,
                    body: item.error.as_ref().map(to_json).unwrap_or_default(),
                    ..Answer::default()
                };
                delivery.reason = Some(answer.reason());
            }
        }
        delivery
    }
}

fn query_byte(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}
