//! The services, a file each: what their part of the configuration is, and what they are sent.
//!
//! Invariant: a payload is a pure function of alerts and configuration, and valid whatever the
//! alerts hold.

mod alertmanager;
mod chat;
mod cloudevents;
mod datadoglogs;
mod discord;
mod elasticsearch;
mod kafka;
mod loki;
mod mqtt;
mod nats;
mod opsgenie;
mod otlp;
mod pagerduty;
pub(crate) mod policyreport;
pub(crate) mod rabbitmq;
mod redis;
mod s3;
mod smtp;
mod splunk;
mod teams;
mod webhook;

use crate::forward::Priority;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::publish::{BatchLimits, Publisher};
use crate::forward::tls::TlsOptions;
use crate::forward::wire::{Connected, Protocol};

/// An output that is enabled.
pub(crate) struct Destination {
    /// Its name: the key of its configuration, and of its metrics.
    pub(crate) name: String,
    /// The least priority that it is sent.
    pub(crate) minimum: Option<Priority>,
    /// The only sources that it is sent alerts from, if it is not all.
    pub(crate) sources: Option<&'static [&'static str]>,
    /// How many alerts it is sent at once.
    pub(crate) limits: BatchLimits,
    /// How it is reached.
    pub(crate) sink: Sink,
}

/// How a service is reached.
pub(crate) enum Sink {
    /// By HTTP.
    Http(Box<dyn HttpOutput>, TlsOptions),
    /// By a protocol of its own.
    Own(Box<dyn Publisher>),
    /// By objects of Kubernetes.
    Objects(policyreport::PolicyReports),
}

impl Destination {
    /// A service that speaks HTTP and takes an alert at a time.
    pub(crate) fn http(
        name: &str,
        minimum: Option<Priority>,
        tls: TlsOptions,
        output: impl HttpOutput + 'static,
    ) -> Destination {
        Destination {
            name: name.into(),
            minimum,
            sources: None,
            limits: BatchLimits::SINGLE,
            sink: Sink::Http(Box::new(output), tls),
        }
    }

    /// A service that speaks a protocol of its own.
    pub(crate) fn own(
        name: &str,
        minimum: Option<Priority>,
        protocol: impl Protocol + 'static,
    ) -> Destination {
        Destination {
            name: name.into(),
            minimum,
            sources: None,
            limits: BatchLimits::WAITING,
            sink: Sink::Own(Box::new(Connected::new(protocol))),
        }
    }

    /// The same, in batches.
    pub(crate) fn in_batches(mut self, limits: BatchLimits) -> Destination {
        self.limits = limits;
        self
    }
}

/// Reads the section of one output: no destination if it is not enabled.
pub(crate) type Read =
    fn(&mut Section, &Globals, &mut Vec<String>) -> Result<Vec<Destination>, ConfigError>;

/// Every output by its key, in upstream's order.
pub(crate) const READERS: &[(&str, Read)] = &[
    ("slack", chat::read_slack),
    ("rocketchat", chat::read_rocketchat),
    ("mattermost", chat::read_mattermost),
    ("teams", teams::read),
    ("datadoglogs", datadoglogs::read),
    ("discord", discord::read),
    ("alertmanager", alertmanager::read),
    ("elasticsearch", elasticsearch::read),
    ("loki", loki::read),
    ("nats", nats::read),
    ("aws", s3::read),
    ("smtp", smtp::read),
    ("opsgenie", opsgenie::read),
    ("webhook", webhook::read),
    ("splunk", splunk::read),
    ("cloudevents", cloudevents::read),
    ("kafka", kafka::read),
    ("pagerduty", pagerduty::read),
    ("policyreport", policyreport::read),
    ("rabbitmq", rabbitmq::read),
    ("mqtt", mqtt::read),
    ("redis", redis::read),
    ("otlp", otlp::read),
];

/// What the outputs of one service have in common.
pub(crate) struct Common {
    pub(crate) minimum: Option<Priority>,
    pub(crate) tls: TlsOptions,
}

impl Common {
    /// Reads `minimumpriority`, `mutualtls` and `checkcert`.
    pub(crate) fn read(
        section: &mut Section,
        globals: &Globals,
        notices: &mut Vec<String>,
    ) -> Result<Common, ConfigError> {
        section.ignore(&["maxconcurrentrequests"], notices);
        Ok(Common {
            minimum: section.priority("minimumpriority")?,
            tls: globals.tls(section)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
