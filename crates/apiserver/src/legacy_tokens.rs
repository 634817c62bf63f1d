//! What the server writes down of tokens in Secrets: since when their use is tracked, and when each
//! was used last. The cleaner of unused ones (a controller) goes by both.

use std::sync::Arc;
use std::time::Duration;

use api::resource;
use api::status::ApiError;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::auth::legacy_token::{LAST_USED, Remarks, Used};
use crate::pipeline::{Call, create, update};
use crate::state::State;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// One that somebody keeps deleting is not made again more often.
const MAKE_EVERY: Duration = Duration::from_mins(30);
const RETRY: Duration = Duration::from_secs(10);

/// Does what the use of credentials asks for.
pub(crate) async fn heed(state: &Arc<State>, remarks: &Remarks) {
    if let Some(counter) = remarks.count {
        state.metrics.count(counter, String::new());
    }
    let Some(used) = &remarks.used else { return };
    if let Err(error) = mark(state, used).await {
        let Used {
            namespace, name, ..
        } = used;
        tracing::error!(namespace, name, %error, "the use of a token is not written down");
    }
}

async fn mark(state: &Arc<State>, used: &Used) -> Result<(), ApiError> {
    let secrets = resource::find("", "v1", "secrets").ok_or_else(ApiError::no_such_path)?;
    let call = Call::internal(state, secrets, &used.namespace, &used.name);
    let changed = update::change(&call, |old| {
        let mut new = old.clone();
        if old["metadata"]["uid"] == *used.uid {
            let labels = &mut new["metadata"]["labels"];
            if !labels.is_object() {
                *labels = json!({});
            }
            labels[LAST_USED] = used.day.to_string().into();
        }
        Ok(new)
    });
    changed.await.map(drop)
}

/// Keeps the ConfigMap that says since when, until the drain.
pub(crate) async fn track(state: Arc<State>) {
    let maps = state.core("configmaps");
    let mut changed = maps.subscribe();
    let mut made: Option<Instant> = None;
    loop {
        changed.borrow_and_update();
        let there = maps.get(NAMESPACE, NAME).map(|map| map.value());
        let again = match there {
            Some(map) if since(&map).is_some() => None,
            there => match made.filter(|at| there.is_none() && at.elapsed() < MAKE_EVERY) {
                Some(at) => Some(at + MAKE_EVERY),
                None => match put(&state, there.is_some()).await {
                    Ok(()) => {
                        made = Some(Instant::now());
                        None
                    }
                    Err(error) => {
                        tracing::warn!(map = NAME, %error, "not written");
                        Some(Instant::now() + RETRY)
                    }
                },
            },
        };
        tokio::select! {
            () = state.drain.cancelled() => return,
            result = changed.changed() => if result.is_err() { return },
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
    }
}

fn since(map: &Value) -> Option<Date> {
    map["data"]["since"].as_str()?.parse().ok()
}

async fn put(state: &Arc<State>, is_there: bool) -> Result<(), ApiError> {
    let maps = resource::find("", "v1", "configmaps").ok_or_else(ApiError::no_such_path)?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date().to_string();
    let call = Call::internal(state, maps, NAMESPACE, NAME);
    let written = if is_there {
        let changed = update::change(&call, |old| {
            let mut new = old.clone();
            if !new["data"].is_object() {
                new["data"] = json!({});
            }
            new["data"]["since"] = today.as_str().into();
            Ok(new)
        });
        changed.await
    } else {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": {"since": today}});
        create::create(&call, map).await
    };
    match written {
        // Another server was first, or somebody took it away.
        Err(error) if matches!(&*error.reason, "AlreadyExists" | "NotFound" | "Conflict") => Ok(()),
        written => written.map(drop),
    }
}
