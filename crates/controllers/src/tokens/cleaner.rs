//! Tokens in Secrets that nobody uses: those that were once made for accounts without being asked for
//! are first marked as no longer good, and removed when nobody misses them.
//!
//! Invariant: a Secret that somebody made, or that a pod mounts, is left alone.

use super::{account_of, is_meant, secrets};
use crate::context::{Clock, Context};
use crate::write::{self, WriteError};
use client::{Informer, Key};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::DeleteParams;
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::{debug, info, warn};

/// How long a token must not have been used (`--legacy-service-account-token-clean-up-period`).
const PERIOD: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How often there is a look.
const EVERY: Duration = Duration::from_hours(24);
const SOON: Duration = Duration::from_secs(60);
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

struct Cleaner {
    context: Context,
    clock: Clock,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, clock: Clock) {
    let cleaner = Cleaner {
        clock,
        secrets: secrets(&context),
        accounts: context.informers.get::<ServiceAccount>(),
        context,
    };
    let drain = cleaner.context.drain.clone();
    let work = async {
        cleaner.secrets.synced().await;
        cleaner.accounts.synced().await;
        cleaner.context.pods.synced().await;
        loop {
            let wait = match cleaner.look((cleaner.clock.0)()).await {
                Ok(()) => EVERY,
                Err(error) => {
                    let error = stdx::chain(&error);
                    warn!(error, "unused tokens are not looked for");
                    SOON
                }
            };
            tokio::time::sleep(wait).await;
        }
    };
    drain.run_until_cancelled(work).await;
}

/// What happens to a Secret.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Mark,
    Delete,
}

fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

fn label(labels: Option<&BTreeMap<String, String>>, key: &str) -> Option<String> {
    labels?.get(key).cloned()
}

/// Decides on a Secret of an account, as of `now`.
fn judge(secret: &Secret, account: &ServiceAccount, is_mounted: bool, now: Timestamp) -> Step {
    let limit = now - PERIOD;
    let meta = &secret.metadata;
    let made = meta.creation_timestamp.as_ref().map(|time| time.0);
    if made.is_none_or(|made| made >= limit) || meta.deletion_timestamp.is_some() {
        return Step::Keep;
    }
    let limit = day(limit);
    if let Some(used) = label(meta.labels.as_ref(), LAST_USED) {
        // What cannot be read may be any day.
        if used.parse::<Date>().map_or(true, |used| used >= limit) {
            return Step::Keep;
        }
    }
    let secrets = account.secrets.iter().flatten();
    let mut names = secrets.map(|named| named.name.as_deref().unwrap_or_default());
    let was_made_for_it = names.any(|name| Some(name) == meta.name.as_deref());
    if !was_made_for_it || is_mounted {
        return Step::Keep;
    }
    let invalid = label(meta.labels.as_ref(), INVALID_SINCE);
    match invalid.and_then(|since| since.parse::<Date>().ok()) {
        None => Step::Mark,
        Some(since) if since >= limit => Step::Keep,
        Some(_) => Step::Delete,
    }
}

/// From when on it is known what is not used: a period after the day on which tracking began.
fn known_from(map: &ConfigMap) -> Option<Timestamp> {
    let since: Date = map.data.as_ref()?.get("since")?.parse().ok()?;
    let next = since.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok()?;
    next.timestamp().checked_add(PERIOD).ok()
}

/// Whether a pod names a Secret anywhere.
fn mounts(pod: &Pod, secret: &str) -> bool {
    // Names in all the places where a pod can have them, without knowing the places: what is named
    // like the Secret and is none keeps it, which harms nobody.
    fn names(value: &serde_json::Value, secret: &str) -> bool {
        match value {
            serde_json::Value::String(text) => text == secret,
            serde_json::Value::Array(all) => all.iter().any(|value| names(value, secret)),
            serde_json::Value::Object(all) => all.values().any(|value| names(value, secret)),
            _ => false,
        }
    }
    serde_json::to_value(&pod.spec).is_ok_and(|spec| names(&spec, secret))
}

impl Cleaner {
    async fn look(&self, now: Timestamp) -> Result<(), WriteError> {
        let key = Key::new("kube-system", TRACKING);
        let map = write::read::<ConfigMap>(&self.context.client, &key).await?;
        let from = map.as_ref().and_then(known_from);
        if from.is_none_or(|from| now < from) {
            debug!("tracked not long enough");
            return Ok(());
        }
        for secret in self.secrets.list() {
            let Some((named, uid)) = account_of(&secret) else {
                continue;
            };
            let Some(account) = self.accounts.get_key(&named) else {
                continue;
            };
            if !is_meant(&account, &uid) {
                continue;
            }
            // Pods are looked through only for the few that may go.
            let step = match judge(&secret, &account, false, now) {
                Step::Keep => Step::Keep,
                step if self.is_mounted(&secret) => {
                    debug!(?step, secret = %Key::of(&*secret), "a pod mounts it");
                    Step::Keep
                }
                step => step,
            };
            if let Err(error) = self.take(&secret, step, now).await {
                // The next look comes to it again; it does not keep the others.
                let error = stdx::chain(&error);
                warn!(secret = %Key::of(&*secret), error, "an unused token stays");
            }
        }
        Ok(())
    }

    fn is_mounted(&self, secret: &Secret) -> bool {
        let key = Key::of(secret);
        self.context.pods.list().iter().any(|pod| {
            pod.metadata.namespace.as_deref() == Some(&key.namespace) && mounts(pod, &key.name)
        })
    }

    async fn take(&self, secret: &Secret, step: Step, now: Timestamp) -> Result<(), WriteError> {
        let (client, key) = (&self.context.client, Key::of(secret));
        let done = match step {
            Step::Keep => Ok(()),
            Step::Mark => {
                let today = day(now).to_string();
                info!(secret = %key, since = today, "a token that nobody uses is good no longer");
                let mut new = secret.clone();
                let labels = new.metadata.labels.get_or_insert_default();
                labels.insert(INVALID_SINCE.to_owned(), today);
                write::patched(client, secret, &new).await.map(drop)
            }
            Step::Delete => {
                info!(secret = %key, "deleting a token that nobody uses");
                let params = write::unchanged(DeleteParams::default(), secret);
                write::delete::<Secret>(client, &key, None, params).await
            }
        };
        super::settle(done)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_was_made_unasked_and_is_long_unused_goes() {
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "secrets": [{"name": "s"}]}))
                .unwrap();
        let secret = |name: &str, made: &str, labels: serde_json::Value| -> Secret {
            serde_json::from_value(json!({"metadata": {
                "name": name, "creationTimestamp": made, "labels": labels}}))
            .unwrap()
        };
        let (old, new) = ("2024-01-01T00:00:00Z", "2025-06-16T00:00:00Z");
        let used = |day: &str| json!({LAST_USED: day});
        let marked = |day: &str| json!({INVALID_SINCE: day});
        for (name, made, labels, mounted, wanted) in [
            ("s", old, json!({}), false, Step::Mark),
            ("s", new, json!({}), false, Step::Keep),
            ("other", old, json!({}), false, Step::Keep),
            ("s", old, json!({}), true, Step::Keep),
            ("s", old, used("2025-06-15"), false, Step::Keep),
            ("s", old, used("2025-06-14"), false, Step::Mark),
            ("s", old, used("yesterday"), false, Step::Keep),
            ("s", old, marked("2025-06-15"), false, Step::Keep),
            ("s", old, marked("2025-06-14"), false, Step::Delete),
            ("s", old, marked("long ago"), false, Step::Mark),
        ] {
            let secret = secret(name, made, labels.clone());
            let step = judge(&secret, &account, mounted, now);
            assert_eq!(step, wanted, "{name} {made} {labels} {mounted}");
        }
        let map = |since: &str| -> ConfigMap {
            serde_json::from_value(json!({"data": {"since": since}})).unwrap()
        };
        let from = known_from(&map("2025-01-31")).unwrap();
        assert_eq!(from.to_string(), "2026-02-01T00:00:00Z");
        assert_eq!(known_from(&map("then")), None);
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "volumes": [
            {"name": "v", "secret": {"secretName": "s"}}]}}))
        .unwrap();
        assert!(mounts(&pod, "s") && !mounts(&pod, "t"));
    }
}
