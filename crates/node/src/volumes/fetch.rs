//! ConfigMaps, Secrets and tokens from the API, at the moment they are needed.
//!
//! Invariant: what a pod starts with is never older than the pod.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, ServiceAccount},
};
use kube::api::{Api, PostParams};

use crate::env::Source;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// It does not exist. The words are upstream's.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// `configmap`, `secret`, `serviceaccounts` …
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The API failed.
    #[error("failed to fetch {kind} \"{name}\"")]
    Api {
        /// What was asked for.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What the API said.
        #[source]
        source: Box<kube::Error>,
    },
}

/// A token and when to replace it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The signed token.
    pub token: String,
    /// At 80 % of its life.
    pub refresh_at: Timestamp,
}

/// The tokens of one pod by audience and lifetime.
pub(crate) type Tokens = Mutex<HashMap<(String, i64), Token>>;

/// Reads objects of one namespace.
#[derive(Clone)]
pub(crate) struct Fetch {
    client: client::Client,
    namespace: String,
}

impl Fetch {
    /// For pods of `namespace`.
    pub(crate) fn new(client: client::Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }

    /// A ConfigMap's data; `None` if it does not exist.
    ///
    /// # Errors
    /// When the API fails.
    pub(crate) async fn config_map(&self, name: &str) -> Result<Option<Source>, FetchError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api
            .get_opt(name)
            .await
            .map_err(|e| failed("configmap", name, e))?;
        Ok(found.map(|cm| {
            let text = cm
                .data
                .into_iter()
                .flatten()
                .map(|(k, v)| (k, v.into_bytes()));
            let binary = cm.binary_data.into_iter().flatten().map(|(k, v)| (k, v.0));
            Source {
                data: text.chain(binary).collect(),
            }
        }))
    }

    /// A Secret's data; `None` if it does not exist.
    ///
    /// # Errors
    /// When the API fails.
    pub(crate) async fn secret(&self, name: &str) -> Result<Option<Source>, FetchError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api
            .get_opt(name)
            .await
            .map_err(|e| failed("secret", name, e))?;
        Ok(found.map(|s| Source {
            data: s
                .data
                .into_iter()
                .flatten()
                .map(|(k, v)| (k, v.0))
                .collect(),
        }))
    }

    /// A service account token bound to `pod`: the one at hand until it is due.
    ///
    /// # Errors
    /// When the API fails or the account does not exist.
    pub(crate) async fn cached_token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        expiration_secs: i64,
        tokens: &Tokens,
    ) -> Result<Token, FetchError> {
        let key = (audience.unwrap_or_default().to_owned(), expiration_secs);
        let at_hand = {
            let tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens
                .get(&key)
                .filter(|t| t.refresh_at > Timestamp::now())
                .cloned()
        };
        if let Some(token) = at_hand {
            return Ok(token);
        }
        let token = self.token(pod, audience, expiration_secs).await?;
        tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, token.clone());
        Ok(token)
    }

    /// A service account token bound to `pod`.
    ///
    /// # Errors
    /// When the API fails or the account does not exist.
    pub(crate) async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        expiration_secs: i64,
    ) -> Result<Token, FetchError> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.as_deref())
            .filter(|n| !n.is_empty())
            .unwrap_or("default");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.map(|a| vec![a.to_owned()]),
                expiration_seconds: Some(expiration_secs),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let now = Timestamp::now();
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|e| match &e {
                kube::Error::Api(s) if s.code == 404 => FetchError::NotFound {
                    kind: "serviceaccount",
                    name: account.to_owned(),
                },
                _ => failed("token of service account", account, e),
            })?;
        let status = answer.status.unwrap_or_default();
        let life = status
            .expiration_timestamp
            .map_or(0, |t| t.0.duration_since(now).as_secs());
        let life = if life > 0 { life } else { expiration_secs };
        // Never older than a day, whatever the API grants.
        let wait = (life * 8 / 10).clamp(1, 86_400);
        Ok(Token {
            token: status.token.unwrap_or_default(),
            refresh_at: now + SignedDuration::from_secs(wait),
        })
    }

    /// The path behind a bound claim on a `hostPath` or `local` volume.
    ///
    /// # Errors
    /// When the claim does not exist; `Ok(None)` when it is unbound or of another sort.
    pub(crate) async fn claim(&self, name: &str) -> Result<Option<String>, FetchError> {
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &self.namespace);
        let claim = claims
            .get_opt(name)
            .await
            .map_err(|e| failed("persistentvolumeclaim", name, e))?
            .ok_or_else(|| FetchError::NotFound {
                kind: "persistentvolumeclaim",
                name: name.to_owned(),
            })?;
        let Some(volume) = claim
            .spec
            .and_then(|s| s.volume_name)
            .filter(|v| !v.is_empty())
        else {
            return Ok(None);
        };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let found = volumes
            .get_opt(&volume)
            .await
            .map_err(|e| failed("persistentvolume", &volume, e))?;
        let spec = found.and_then(|v| v.spec).unwrap_or_default();
        Ok(spec
            .host_path
            .map(|h| h.path)
            .or_else(|| spec.local.map(|l| l.path)))
    }
}

fn failed(kind: &'static str, name: &str, source: kube::Error) -> FetchError {
    FetchError::Api {
        kind,
        name: name.to_owned(),
        source: Box::new(source),
    }
}
