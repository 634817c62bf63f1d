//! Having the image of a container: policy, credentials, one pull an image at a time.
//!
//! Invariant: two pods that want the same image pull it one after the other, and
//! different images at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use image::{Image, Images, Keyring, Reference};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::Mutex as AsyncMutex;

use crate::volumes::fetch::Fetch;

/// The registry of images that are part of this program; they are never pulled.
const BUILTIN_REGISTRY: &str = "knarr.local";

/// How the image came to be there, for the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Had {
    /// It was.
    Present,
    /// It was pulled.
    Pulled {
        /// Time of the pull itself.
        took: Duration,
        /// Time with waiting for other pulls.
        with_wait: Duration,
    },
}

/// Why it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// `ErrImagePull`, `InvalidImageName` or `ErrImageNeverPull`.
    pub reason: &'static str,
    /// The whole chain of causes.
    pub message: String,
}

/// Pulls for all pods of the node.
#[derive(Clone)]
pub(crate) struct Puller {
    images: Images,
    locks: Arc<Mutex<HashMap<String, Weak<AsyncMutex<()>>>>>,
}

impl Puller {
    /// For a store.
    pub(crate) fn new(images: Images) -> Self {
        Self {
            images,
            locks: Arc::default(),
        }
    }

    /// Whether the image is there and need not be pulled, without any waiting.
    pub(crate) fn present(&self, container: &Container) -> Option<Image> {
        let name = container.image.as_deref().unwrap_or_default();
        let reference = Reference::parse(name).ok()?;
        let image = self.images.get(&reference.name())?;
        let pull = policy(container) == "Always" && reference.registry() != BUILTIN_REGISTRY;
        (!pull).then_some(image)
    }

    /// Has the image, pulling it if the policy says so. `pulling` is called before a pull.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        fetch: &Fetch,
        pulling: impl FnOnce() + Send,
    ) -> Result<(Image, Had), Refused> {
        let name = container.image.as_deref().unwrap_or_default();
        let reference = Reference::parse(name).map_err(|e| Refused {
            reason: "InvalidImageName",
            message: format!(
                "Failed to apply default image tag \"{name}\": couldn't parse image name \"{name}\": {}",
                e.problem
            ),
        })?;
        if let Some(image) = self.present(container) {
            return Ok((image, Had::Present));
        }
        if policy(container) == "Never" {
            return Err(Refused {
                reason: "ErrImageNeverPull",
                message: format!(
                    "Container image \"{name}\" is not present with pull policy of Never"
                ),
            });
        }
        let auth = self.keyring(pod, fetch).await.lookup(&reference);
        let begun = Instant::now();
        let lock = self.lock(&reference.name());
        let _guard = lock.lock().await;
        // Another pod may have pulled it in the meantime.
        if let Some(image) = self.present(container) {
            return Ok((image, Had::Present));
        }
        pulling();
        let pull = Instant::now();
        match self.images.pull(&reference, &auth, None).await {
            Ok(image) => Ok((
                image,
                Had::Pulled {
                    took: pull.elapsed(),
                    with_wait: begun.elapsed(),
                },
            )),
            Err(e) => Err(Refused {
                reason: "ErrImagePull",
                message: e.message(),
            }),
        }
    }

    fn lock(&self, name: &str) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, l| l.strong_count() > 0);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }

    async fn keyring(&self, pod: &Pod, fetch: &Fetch) -> Keyring {
        let mut keyring = Keyring::default();
        let secrets = pod
            .spec
            .as_ref()
            .and_then(|s| s.image_pull_secrets.as_deref());
        for secret in secrets.unwrap_or_default() {
            // A missing or broken secret is not the end: the registry may not want one.
            let Ok(Some(source)) = fetch.secret(&secret.name).await else {
                continue;
            };
            if let Some(json) = source.data.get(".dockerconfigjson") {
                let _ = keyring.add_docker_config(json);
            }
            if let Some(json) = source.data.get(".dockercfg") {
                let _ = keyring.add_dockercfg(json);
            }
        }
        keyring
    }
}

/// The pull policy; the API server has set the default, this is for objects that escaped it.
fn policy(container: &Container) -> &str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ => {
            let image = container.image.as_deref().unwrap_or_default();
            let last = image.rsplit('/').next().unwrap_or_default();
            let latest = last.ends_with(":latest") || !last.contains([':', '@']);
            if latest { "Always" } else { "IfNotPresent" }
        }
    }
}

/// A duration as Go prints one that was rounded to milliseconds: `345ms`, `1.2s`, `1m5.3s`.
pub(crate) fn go_millis(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = if rest % 1000 == 0 {
        format!("{}s", rest / 1000)
    } else {
        format!("{}.{:03}", rest / 1000, rest % 1000)
            .trim_end_matches('0')
            .to_owned()
            + "s"
    };
    if minutes > 0 {
        format!("{minutes}m{seconds}")
    } else {
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let table = [
            (0, "0ms"),
            (345, "345ms"),
            (1200, "1.2s"),
            (2000, "2s"),
            (65_301, "1m5.301s"),
        ];
        for (millis, want) in table {
            assert_eq!(go_millis(Duration::from_millis(millis)), want);
        }
    }
}
