//! ResourceQuotas: what of each is used, counted anew whenever something may have been given back.
//!
//! Invariants: what a write uses is charged by the API server in the transaction of the write, so a
//! count that is written if the quota is still the one that was read before counting has missed
//! nothing; and it is always a count of everything, never an addition to what was counted before.

use crate::collections::{Collection, Collections};
use crate::context::Context;
use crate::pods;
use crate::write::{self, WriteError};
use api::quantity::{Format, Quantity};
use api::quota::{self, Amounts, Measure, Scope};
use client::{Informer, Key, Queue};
use http::HeaderValue;
use http::header::ACCEPT;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource;
use kube::api::ListParams;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

/// One count answers all that is given back so soon after each other.
const GATHER: Duration = Duration::from_millis(50);
/// How often a count that was overtaken is made again at once.
const ATTEMPTS: usize = 4;
/// When it is made again then.
const BUSY: Duration = Duration::from_millis(500);
/// Objects asked for at once.
const PAGE: u32 = 500;
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");

#[derive(Debug, thiserror::Error)]
enum QuotaError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot list {resource} of namespace {namespace}")]
    List {
        resource: String,
        namespace: String,
        source: kube::Error,
    },
    #[error("cannot build a request to list {resource} of namespace {namespace}")]
    Build {
        resource: String,
        namespace: String,
        source: kube::core::request::Error,
    },
    #[error("cannot read the quota {key}")]
    Decode { key: Key, source: serde_json::Error },
}

struct Controller {
    context: Context,
    collections: Collections,
    quotas: Informer<ResourceQuota>,
    queue: Queue<Key>,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, collections: Collections) {
    let controller = Arc::new(Controller {
        quotas: context.informers.get::<ResourceQuota>(),
        collections,
        queue: Queue::new(),
        context,
    });
    let drain = controller.context.drain.clone();
    // Before all kinds are known a count would miss some.
    let known = controller.collections.synced();
    if drain.run_until_cancelled(known).await.is_none() {
        return;
    }
    let this = controller.clone();
    controller.quotas.on_change(move |old, new| {
        // From its first status on a quota is charged; what came before is counted after it.
        let hard = |quota: &ResourceQuota| quota.status.as_ref().and_then(|s| s.hard.clone());
        let same = |old: &Arc<ResourceQuota>, new: &Arc<ResourceQuota>| {
            old.spec == new.spec && hard(old) == hard(new)
        };
        if let Some(new) = new
            && !old.is_some_and(|old| same(old, new))
        {
            this.queue.add(Key::of(&**new));
        }
    });
    let this = controller.clone();
    controller
        .collections
        .on_change(move |collection, old, new| {
            let Some(object) = old else { return };
            let measure = Measure::of(&collection.group, &collection.plural);
            let shrinks = matches!(measure, Some(Measure::Services | Measure::VolumeClaims));
            if new.is_none() || shrinks {
                let (group, plural) = (&collection.group, &collection.plural);
                this.given_back(group, plural, object.namespace(), GATHER);
            }
        });
    let this = controller.clone();
    controller.context.pods.on_change(move |old, new| {
        if let (Some(old), Some(new)) = (old, new)
            && let Some(delay) = gives_back(old, new, Timestamp::now())
        {
            let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
            this.given_back("", "pods", namespace, delay);
        }
    });
    controller.quotas.synced().await;
    let queue = controller.queue.clone();
    client::run("resourcequota", queue, 5, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// When a changed pod may count for less than before, if it may.
fn gives_back(old: &Pod, new: &Pod, now: Timestamp) -> Option<Duration> {
    let resources = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| {
            let main = status.container_statuses.iter().flatten();
            main.chain(status.init_container_statuses.iter().flatten())
        });
        let of = |s: &k8s_openapi::api::core::v1::ContainerStatus| {
            (s.allocated_resources.clone(), s.resources.clone())
        };
        statuses.map(of).collect::<Vec<_>>()
    };
    let ended = pods::is_finished(new) && !pods::is_finished(old);
    let resized =
        old.metadata.generation != new.metadata.generation || resources(old) != resources(new);
    if ended || resized {
        return Some(GATHER);
    }
    let marked = new.metadata.deletion_timestamp.as_ref();
    let marked = marked.filter(|_| old.metadata.deletion_timestamp.is_none())?;
    // One that does not go in time no longer counts.
    let grace = new.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let end = marked.0.checked_add(SignedDuration::from_secs(grace + 1));
    let left = end.unwrap_or(now).duration_since(now);
    Some(Duration::try_from(left).unwrap_or_default().max(GATHER))
}

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    r#continue: String,
    remaining_item_count: Option<i64>,
}

/// What a collection's objects are counted by.
struct Count<'a> {
    measure: Measure,
    group: &'a str,
    plural: &'a str,
    names: &'a [&'a str],
    scopes: &'a [Scope],
}

impl Count<'_> {
    /// Adds what one object uses.
    fn add(&self, used: &mut Amounts, object: &Value, now: Timestamp) {
        let measure = self.measure;
        let within = |scope: &Scope| measure.in_scope(scope, object);
        if self.scopes.iter().all(within) {
            let mut usage = measure.usage(self.group, self.plural, object, now);
            usage.retain(|name, _| self.names.contains(&name.as_str()));
            quota::add(used, &usage);
        }
    }
}

/// The status of a quota of which this much is used: what nobody counts stays as it was, and of what
/// nobody serves there is nothing.
fn status(quota: &ResourceQuota, used: &Amounts) -> ResourceQuotaStatus {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
    let hard = hard.unwrap_or_default();
    let before = quota
        .status
        .as_ref()
        .and_then(|status| status.used.as_ref());
    let amount = |name: &String| match used.get(name) {
        Some(amount) => Some(resource::Quantity(amount.to_string())),
        None if name.starts_with("count/") => Some(resource::Quantity("0".to_owned())),
        None => before?.get(name).cloned(),
    };
    let used: BTreeMap<_, _> = hard
        .keys()
        .filter_map(|name| Some((name.clone(), amount(name)?)))
        .collect();
    ResourceQuotaStatus {
        hard: Some(hard),
        used: Some(used),
    }
}

impl Controller {
    /// Queues the quotas of a namespace that count the objects of a resource.
    fn given_back(&self, group: &str, plural: &str, namespace: &str, delay: Duration) {
        let Some(measure) = Measure::of(group, plural) else {
            return;
        };
        for quota in self.quotas.in_namespace(namespace) {
            let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
            let mut names = hard.into_iter().flat_map(BTreeMap::keys);
            if names.any(|name| measure.tracks(group, plural, name)) {
                self.queue.add_after(Key::of(&*quota), delay);
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<(), QuotaError> {
        let client = &self.context.client;
        for _ in 0..ATTEMPTS {
            // Not the cache's: what is counted after it was read must not be older than it.
            let Some(old) = write::listed::<ResourceQuota>(client, key).await? else {
                return Ok(());
            };
            let used = self.used(key, &old).await?;
            let mut new = old.clone();
            new.status = Some(status(&old, &used));
            match write::update_status(client, &old, &new).await {
                Ok(changed) => {
                    if changed {
                        info!("counted");
                    }
                    return Ok(());
                }
                Err(error) if client::is_not_found(&error) => return Ok(()),
                Err(error) if client::is_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.queue.add_after(key.clone(), BUSY);
        Ok(())
    }

    /// What is used of all that a quota limits.
    async fn used(&self, key: &Key, quota: &ResourceQuota) -> Result<Amounts, QuotaError> {
        let decode = |source| QuotaError::Decode {
            key: key.clone(),
            source,
        };
        let scopes = quota::scopes(&serde_json::to_value(quota).map_err(decode)?);
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        let hard: Vec<&str> = hard
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
            .collect();
        let mut used = Amounts::new();
        for collection in self.collections.namespaced() {
            let (group, plural) = (collection.group.as_str(), collection.plural.as_str());
            let Some(measure) = Measure::of(group, plural) else {
                continue;
            };
            let tracked = hard.iter().copied();
            let names: Vec<&str> = tracked
                .filter(|name| measure.tracks(group, plural, name))
                .collect();
            if names.is_empty() {
                continue;
            }
            let none = names
                .iter()
                .map(|name| ((*name).to_owned(), Quantity::ZERO));
            quota::add(&mut used, &none.collect());
            let count = Count {
                measure,
                group,
                plural,
                names: &names,
                scopes: &scopes,
            };
            self.count(&collection, &key.namespace, &count, &mut used)
                .await?;
        }
        Ok(used)
    }

    /// Adds what the objects of a collection use.
    async fn count(
        &self,
        collection: &Collection,
        namespace: &str,
        count: &Count<'_>,
        used: &mut Amounts,
    ) -> Result<(), QuotaError> {
        if count.measure == Measure::Count {
            // Objects as such are in no scope, and need not be looked at.
            if count.scopes.is_empty() {
                let params = ListParams::default().limit(1);
                let page = self.list(collection, namespace, &params, true).await?;
                let first = i64::try_from(page.items.len()).unwrap_or(0);
                let objects = first + page.metadata.remaining_item_count.unwrap_or(0);
                let objects = Quantity::new(objects, Format::DecimalSI);
                let all = count.names.iter().map(|name| ((*name).to_owned(), objects));
                quota::add(used, &all.collect());
            }
            return Ok(());
        }
        let mut params = ListParams::default().limit(PAGE);
        let now = Timestamp::now();
        loop {
            let page = self.list(collection, namespace, &params, false).await?;
            for object in &page.items {
                count.add(used, object, now);
            }
            if page.metadata.r#continue.is_empty() {
                return Ok(());
            }
            params = params.continue_token(&page.metadata.r#continue);
        }
    }

    async fn list(
        &self,
        collection: &Collection,
        namespace: &str,
        params: &ListParams,
        metadata_only: bool,
    ) -> Result<Page, QuotaError> {
        let (resource, namespace) = (collection.qualified(), namespace.to_owned());
        let request = collection.request(&namespace).list(params);
        let mut request = match request {
            Ok(request) => request,
            Err(source) => {
                return Err(QuotaError::Build {
                    resource,
                    namespace,
                    source,
                });
            }
        };
        if metadata_only {
            request.headers_mut().insert(ACCEPT, METADATA);
        }
        let page = self.context.client.request(request).await;
        page.map_err(|source| QuotaError::List {
            resource,
            namespace,
            source,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn statuses() {
        let quota: ResourceQuota = serde_json::from_value(json!({
            "metadata": {"name": "q"},
            "spec": {"hard": {"pods": "5", "count/gone.example.com": "1", "odd": "1", "new": "1"}},
            "status": {"hard": {"pods": "3"}, "used": {"pods": "3", "odd": "1", "services": "2"}},
        }))
        .unwrap();
        let used = Amounts::from([("pods".to_owned(), Quantity::from_milli(2000))]);
        assert_eq!(
            serde_json::to_value(status(&quota, &used)).unwrap(),
            json!({"hard": {"pods": "5", "count/gone.example.com": "1", "odd": "1", "new": "1"},
                "used": {"pods": "2", "count/gone.example.com": "0", "odd": "1"}})
        );
    }

    #[test]
    fn counts_what_is_in_scope() {
        let scopes = [Scope::from_object(
            &json!({"scopeName": "NotBestEffort", "operator": "Exists"}),
        )];
        let count = Count {
            measure: Measure::Pods,
            group: "",
            plural: "pods",
            names: &["pods", "requests.cpu"],
            scopes: &scopes,
        };
        let pod = |class: &str, phase: &str| {
            let container =
                json!({"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1"}}});
            json!({"spec": {"containers": [container]}, "status": {"qosClass": class, "phase": phase}})
        };
        let mut used = Amounts::new();
        for (class, phase) in [
            ("Burstable", "Running"),
            ("Burstable", "Failed"),
            ("BestEffort", "Running"),
            ("Guaranteed", "Pending"),
        ] {
            count.add(&mut used, &pod(class, phase), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(
            quota::to_value(&used),
            json!({"pods": "2", "requests.cpu": "2"})
        );
    }

    #[test]
    fn when_pods_give_something_back() {
        let pod = |value: Value| serde_json::from_value::<Pod>(value).unwrap();
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let running = || json!({"metadata": {"generation": 1}, "status": {"phase": "Running"}});
        let marked = json!({"metadata": {"generation": 1, "deletionTimestamp": "2026-01-01T00:00:30Z",
            "deletionGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        for (old, new, wanted) in [
            (running(), running(), None),
            (
                running(),
                json!({"metadata": {"generation": 1}, "status": {"phase": "Failed"}}),
                Some(GATHER),
            ),
            (
                running(),
                json!({"metadata": {"generation": 2}, "status": {"phase": "Running"}}),
                Some(GATHER),
            ),
            (
                running(),
                json!({"metadata": {"generation": 1}, "status": {"phase": "Running", "containerStatuses": [
                    {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                        "resources": {"requests": {"cpu": "1"}}}]}}),
                Some(GATHER),
            ),
            (running(), marked.clone(), Some(Duration::from_secs(61))),
            (marked.clone(), marked, None),
        ] {
            assert_eq!(
                gives_back(&pod(old), &pod(new.clone()), now),
                wanted,
                "{new}"
            );
        }
    }
}
