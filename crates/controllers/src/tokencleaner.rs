//! Bootstrap tokens that have ended are removed.

use crate::context::Context;
use crate::write::{self, WriteError};
use client::{Informer, Key, Queue, Selector};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

struct Controller {
    context: Context,
    secrets: Informer<Secret>,
    queue: Queue<Key>,
}

/// When a token ends: never without a time, at once with one that cannot be read.
fn end(secret: &Secret) -> Option<Timestamp> {
    let data = secret.data.as_ref()?.get("expiration")?;
    let text = String::from_utf8_lossy(&data.0);
    if text.is_empty() {
        return None;
    }
    Some(text.parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let of_type = Selector::fields(format!("type={TYPE}"));
    let controller = Arc::new(Controller {
        secrets: context.informers.get_with(of_type),
        queue: Queue::new(),
        context,
    });
    let this = controller.clone();
    controller.secrets.on_change(move |_, new| {
        if let Some(secret) = new
            && secret.metadata.namespace.as_deref() == Some(NAMESPACE)
        {
            this.queue.add(Key::of(&**secret));
        }
    });
    controller.secrets.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("tokencleaner", queue, 1, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(secret) = self.secrets.get_key(key) else {
            return Ok(());
        };
        let Some(end) = end(&secret) else {
            return Ok(());
        };
        let now = Timestamp::now();
        if end > now {
            let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            self.queue.add_after(key.clone(), left);
            return Ok(());
        }
        info!("removing a bootstrap token that has ended");
        let uid = secret.metadata.uid.as_deref();
        write::delete::<Secret>(&self.context.client, key, uid, DeleteParams::default()).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let of = |text: Option<&str>| {
            let mut secret = Secret::default();
            if let Some(text) = text {
                let data = secret.data.get_or_insert_default();
                let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
                data.insert("expiration".to_owned(), bytes);
            }
            end(&secret)
        };
        assert_eq!((of(None), of(Some(""))), (None, None));
        assert_eq!(of(Some("soon")), Some(Timestamp::UNIX_EPOCH));
        let at = of(Some("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(at.to_string(), "2026-01-01T00:00:00Z");
    }
}
