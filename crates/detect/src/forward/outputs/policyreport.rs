//! Kubernetes: alerts as results of PolicyReport and ClusterPolicyReport objects
//! (`wgpolicyk8s.io/v1alpha2`), one report a namespace.
//!
//! Whoever has an API gives an [`ObjectStore`]; what is written is a pure function of the report
//! that is there and the alerts that come. Upstream's timestamp is the second of the minute; here
//! it is the second since 1970, as the type means it.
//!
//! Invariant: a report never has more results than configured, nor is it longer than
//! [`LONGEST_REPORT_BYTES`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Destination, Sink};
use crate::forward::alert::go_text;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::publish::{BatchLimits, Delivery, Failure, Pending, Publisher};
use crate::forward::{Alert, Priority};

const CLUSTER_REPORT: &str = "falco-cluster-policy-report";
const REPORT: &str = "falco-policy-report";
const API_VERSION: &str = "wgpolicyk8s.io/v1alpha2";
/// Objects may be 1.5 MiB in etcd; this leaves room for what others add.
const LONGEST_REPORT_BYTES: usize = 1024 * 1024;
/// How often a write is tried again that somebody else's came before.
const CONFLICTS: usize = 5;
const SOURCES: &[&str] = &["syscall", "syscalls", "k8saudit", "k8s_audit"];

/// Why an object could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ObjectError {
    /// It was written, or made, by somebody else meanwhile.
    #[error("somebody else wrote the object")]
    Conflict,
    /// The API cannot be reached, or cannot do it now.
    #[error("{0}")]
    Unavailable(String),
    /// The API will not do it: no such kind, no right to it, no valid object.
    #[error("{0}")]
    Refused(String),
}

/// Pending work on objects.
pub type ObjectFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, ObjectError>> + Send + 'a>>;

/// Reads and writes reports. The kind is `PolicyReport` with a namespace, else
/// `ClusterPolicyReport`.
pub trait ObjectStore: Send + Sync {
    /// Whether there is such a namespace.
    fn has_namespace<'a>(&'a self, name: &'a str) -> ObjectFuture<'a, bool>;
    /// The report of that name, if there is one.
    fn get<'a>(
        &'a self,
        namespace: Option<&'a str>,
        name: &'a str,
    ) -> ObjectFuture<'a, Option<Value>>;
    /// Makes a report.
    fn create<'a>(&'a self, namespace: Option<&'a str>, report: Value) -> ObjectFuture<'a, ()>;
    /// Writes a report that was read; its resourceVersion must still hold.
    fn update<'a>(&'a self, namespace: Option<&'a str>, report: Value) -> ObjectFuture<'a, ()>;
}

/// What the configuration says about reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReports {
    /// `maxevents`: the most results of a report.
    pub max_events: usize,
    /// `prunebypriority`: whether the mildest results go first instead of the oldest.
    pub prune_by_priority: bool,
    /// `falconamespace`: where results go whose namespace is gone.
    pub fallback_namespace: String,
}

pub(super) fn read(
    section: &mut Section,
    _globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    section.ignore(&["kubeconfig"], notices);
    let enabled = section.flag("enabled", false)?;
    let max_events = section.number("maxevents", 1000)?;
    let reports = PolicyReports {
        max_events: usize::try_from(max_events.max(1)).unwrap_or(usize::MAX),
        prune_by_priority: section.flag("prunebypriority", false)?,
        fallback_namespace: section.text_or("falconamespace", "default")?,
    };
    let minimum = section.priority("minimumpriority")?;
    Ok(enabled
        .then(|| Destination {
            name: "policyreport".into(),
            minimum,
            sources: Some(SOURCES),
            limits: BatchLimits {
                alerts: 100,
                ..BatchLimits::WAITING
            },
            sink: Sink::Objects(reports),
        })
        .into_iter()
        .collect())
}

/// Writes alerts into reports.
pub(crate) struct ReportPublisher {
    reports: PolicyReports,
    objects: Arc<dyn ObjectStore>,
}

impl ReportPublisher {
    pub(crate) fn new(reports: PolicyReports, objects: Arc<dyn ObjectStore>) -> ReportPublisher {
        ReportPublisher { reports, objects }
    }

    async fn write(&self, namespace: Option<&str>, alerts: &[&Alert]) -> Result<(), ObjectError> {
        let mut namespace = namespace;
        if let Some(name) = namespace
            && !self.objects.has_namespace(name).await?
        {
            namespace = Some(&self.reports.fallback_namespace);
        }
        let name = if namespace.is_some() {
            REPORT
        } else {
            CLUSTER_REPORT
        };
        let mut attempts = 0;
        loop {
            let present = self.objects.get(namespace, name).await?;
            let report = self.reports.add(present.as_ref(), namespace, alerts);
            let written = match present {
                Some(_) => self.objects.update(namespace, report).await,
                None => self.objects.create(namespace, report).await,
            };
            attempts += 1;
            match written {
                Err(ObjectError::Conflict) if attempts < CONFLICTS => {}
                written => return written,
            }
        }
    }
}

impl Publisher for ReportPublisher {
    fn publish<'a>(
        &'a mut self,
        alerts: &'a [Arc<Alert>],
    ) -> Pending<'a, Result<Delivery, Failure>> {
        Box::pin(async move {
            let mut places: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
            for (place, alert) in alerts.iter().enumerate() {
                places.entry(namespace_of(alert)).or_default().push(place);
            }
            let mut delivery = Delivery::default();
            for (namespace, places) in places {
                let group: Vec<&Alert> = places
                    .iter()
                    .filter_map(|place| alerts.get(*place).map(Arc::as_ref))
                    .collect();
                match self.write(namespace.as_deref(), &group).await {
                    Ok(()) => {}
                    Err(ObjectError::Refused(reason)) => {
                        delivery.refused += places.len();
                        delivery.reason = Some(reason);
                    }
                    Err(error) => {
                        delivery.again.extend(places);
                        delivery.reason = Some(error.to_string());
                    }
                }
            }
            Ok(delivery)
        })
    }
}

#[derive(Serialize)]
struct ReportResult<'a> {
    source: &'static str,
    policy: &'a str,
    rule: &'a str,
    category: &'static str,
    severity: &'static str,
    timestamp: Seconds,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<[Subject<'a>; 1]>,
    message: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct Seconds {
    seconds: i64,
    nanos: i32,
}

#[derive(Serialize)]
struct Subject<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

impl PolicyReports {
    /// The report that is there, or a new one, with alerts added and its summary counted anew.
    pub(crate) fn add(
        &self,
        present: Option<&Value>,
        namespace: Option<&str>,
        alerts: &[&Alert],
    ) -> Value {
        let mut report = match present {
            Some(Value::Object(report)) => report.clone(),
            _ => new_report(namespace),
        };
        let mut results = match report.remove("results") {
            Some(Value::Array(results)) => results,
            _ => Vec::new(),
        };
        results.extend(alerts.iter().map(|alert| result(alert, namespace)));
        self.prune(&mut results);
        report.insert("summary".into(), summary(&results));
        report.insert("results".into(), Value::Array(results));
        Value::Object(report)
    }

    fn prune(&self, results: &mut Vec<Value>) {
        let mut bytes: Vec<usize> = results
            .iter()
            .map(|result| result.to_string().len())
            .collect();
        let mut total: usize = bytes.iter().sum();
        while results.len() > self.max_events || (total > LONGEST_REPORT_BYTES && results.len() > 1)
        {
            let place = if self.prune_by_priority {
                // Of equals the first is the oldest.
                let mildest = results
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, result)| rank(result));
                mildest.map_or(0, |(place, _)| place)
            } else {
                0
            };
            results.remove(place);
            total -= bytes.remove(place);
        }
    }
}

fn new_report(namespace: Option<&str>) -> Map<String, Value> {
    let labels = Map::from_iter([(
        "app.kubernetes.io/managed-by".to_owned(),
        Value::from("falcosidekick"),
    )]);
    let (kind, name) = match namespace {
        Some(_) => ("PolicyReport", REPORT),
        None => ("ClusterPolicyReport", CLUSTER_REPORT),
    };
    let mut metadata = Map::new();
    metadata.insert("labels".into(), labels.into());
    metadata.insert("name".into(), name.into());
    if let Some(namespace) = namespace {
        metadata.insert("namespace".into(), namespace.into());
    }
    Map::from_iter([
        ("apiVersion".to_owned(), Value::from(API_VERSION)),
        ("kind".to_owned(), kind.into()),
        ("metadata".to_owned(), metadata.into()),
    ])
}

fn result(alert: &Alert, namespace: Option<&str>) -> Value {
    let result = ReportResult {
        source: "Falco",
        policy: &alert.source,
        rule: &alert.rule,
        category: "SI - System and Information Integrity",
        severity: severity(alert.priority),
        timestamp: Seconds {
            seconds: alert.time.as_second(),
            nanos: alert.time.subsec_nanosecond(),
        },
        result: match alert.priority {
            Priority::Debug | Priority::Informational | Priority::Notice => "skip",
            Priority::Warning => "warn",
            _ => "fail",
        },
        resources: subject(alert, namespace).map(|subject| [subject]),
        message: &alert.output,
        properties: alert
            .output_fields
            .iter()
            .map(|(name, value)| (name.as_str(), go_text(value)))
            .collect(),
    };
    serde_json::to_value(result).expect("a struct of texts and numbers")
}

fn severity(priority: Priority) -> &'static str {
    match priority {
        Priority::Debug | Priority::Informational => "info",
        Priority::Notice => "low",
        Priority::Warning => "medium",
        Priority::Error => "high",
        Priority::Critical | Priority::Alert | Priority::Emergency => "critical",
    }
}

fn rank(result: &Value) -> usize {
    let severity = result
        .get("severity")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ["info", "low", "medium", "high", "critical"]
        .iter()
        .position(|known| *known == severity)
        .map_or(0, |place| place + 1)
}

fn summary(results: &[Value]) -> Value {
    let mut summary = Map::new();
    for outcome in ["pass", "fail", "warn", "error", "skip"] {
        let count = results
            .iter()
            .filter(|result| result.get("result").and_then(Value::as_str) == Some(outcome))
            .count();
        summary.insert(outcome.into(), count.into());
    }
    Value::Object(summary)
}

/// The namespace that an alert is about.
fn namespace_of(alert: &Alert) -> Option<String> {
    let named = ["k8s.ns.name", "ka.target.namespace"];
    named
        .iter()
        .find_map(|field| alert.text(field))
        .filter(|name| is_dns_label(name))
        .map(str::to_owned)
}

/// What a namespace may be called: nothing else becomes a part of a path of the API.
fn is_dns_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 63 && name.chars().all(plain)
}

fn subject<'a>(alert: &'a Alert, namespace: Option<&'a str>) -> Option<Subject<'a>> {
    let (name, resource) = match alert.text("k8s.pod.name") {
        Some(name) => (name, "pods"),
        None => {
            let name = alert
                .text("ka.target.name")
                .or_else(|| alert.text("ka.resp.name"))?;
            (name, alert.text("ka.target.resource")?)
        }
    };
    let (api_version, kind) = kind(resource)?;
    Some(Subject {
        api_version,
        kind,
        name: name.into(),
        namespace,
    })
}

/// The resources that the rules on audit events speak of. (Upstream's kind of secrets is
/// `Secrets`.)
fn kind(resource: &str) -> Option<(&'static str, &'static str)> {
    Some(match resource {
        "pods" => ("v1", "Pod"),
        "services" => ("v1", "Service"),
        "secrets" => ("v1", "Secret"),
        "configmaps" => ("v1", "ConfigMap"),
        "namespaces" => ("v1", "Namespace"),
        "serviceaccounts" => ("v1", "ServiceAccount"),
        "daemonsets" => ("apps/v1", "DaemonSet"),
        "deployments" => ("apps/v1", "Deployment"),
        "statefulsets" => ("apps/v1", "StatefulSet"),
        "cronjobs" => ("batch/v1", "CronJob"),
        "jobs" => ("batch/v1", "Job"),
        "clusterroles" => ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        "clusterrolebindings" => ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        "roles" => ("rbac.authorization.k8s.io/v1", "Role"),
        "rolebindings" => ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        _ => return None,
    })
}
