//! Writes to the API server: each is conditional on what was read, and says what it was about.
//!
//! Invariant: pods are patched and everything else is put, as the roles of upstream's controllers have
//! it: most may not patch what they may update, and few may put pods, which their nodes write too.

use client::{Client, Key};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ObjectList, Request};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// A request that the API server did not grant.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {kind} {key}")]
pub(crate) struct Refused {
    verb: &'static str,
    kind: String,
    key: Key,
    source: kube::Error,
}

/// A write, or the read before it, that did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Call(Box<Refused>),
    #[error("cannot encode {kind} {key}")]
    Encode {
        kind: String,
        key: Key,
        source: serde_json::Error,
    },
    #[error("cannot build a request to {verb} {kind} {key}")]
    Build {
        verb: &'static str,
        kind: String,
        key: Key,
        source: kube::core::request::Error,
    },
}

impl WriteError {
    /// What the API server said, without what we wanted of it.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Call(refused) => match &refused.source {
                kube::Error::Api(status) => status.message.clone(),
                _ => stdx::chain(self),
            },
            other => stdx::chain(other),
        }
    }
}

/// A kind that these functions can write.
pub(crate) trait Written:
    kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync
{
}
impl<K> Written for K where
    K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync
{
}

fn request<K: Written>(namespace: &str) -> Request {
    Request::new(K::url_path(
        &(),
        (!namespace.is_empty()).then_some(namespace),
    ))
}

fn kind<K: Written>() -> String {
    K::kind(&()).into_owned()
}

/// Creates `object` in `namespace`; answers what the server made of it.
pub(crate) async fn create<K: Written>(
    client: &Client,
    namespace: &str,
    object: &K,
) -> Result<K, WriteError> {
    let meta = object.meta();
    let name = meta.name.as_ref().or(meta.generate_name.as_ref());
    let key = Key::new(namespace, name.map(String::as_str).unwrap_or_default());
    let data = serde_json::to_vec(object).map_err(|source| WriteError::Encode {
        kind: kind::<K>(),
        key: key.clone(),
        source,
    })?;
    let request = request::<K>(namespace)
        .create(&PostParams::default(), data)
        .map_err(|source| WriteError::Build {
            verb: "create",
            kind: kind::<K>(),
            key: key.clone(),
            source,
        })?;
    client.request(request).await.map_err(|source| {
        WriteError::Call(Box::new(Refused {
            verb: "create",
            kind: kind::<K>(),
            key,
            source,
        }))
    })
}

/// Reads an object from the server, not from a cache.
pub(crate) async fn read<K: Written>(client: &Client, key: &Key) -> Result<Option<K>, WriteError> {
    let request = request::<K>(&key.namespace)
        .get(&key.name, &kube::api::GetParams::default())
        .map_err(|source| WriteError::Build {
            verb: "read",
            kind: kind::<K>(),
            key: key.clone(),
            source,
        })?;
    match client.request(request).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if client::is_not_found(&error) => Ok(None),
        Err(source) => Err(WriteError::Call(Box::new(Refused {
            verb: "read",
            kind: kind::<K>(),
            key: key.clone(),
            source,
        }))),
    }
}

/// Like [`read`], by a list: for those who may list and not get.
pub(crate) async fn listed<K: Written + Clone>(
    client: &Client,
    key: &Key,
) -> Result<Option<K>, WriteError> {
    let params = ListParams::default().fields(&format!("metadata.name={}", key.name));
    let request = request::<K>(&key.namespace)
        .list(&params)
        .map_err(|source| WriteError::Build {
            verb: "list",
            kind: kind::<K>(),
            key: key.clone(),
            source,
        })?;
    let found = client.request::<ObjectList<K>>(request).await;
    let found = found.map_err(|source| {
        WriteError::Call(Box::new(Refused {
            verb: "list",
            kind: kind::<K>(),
            key: key.clone(),
            source,
        }))
    })?;
    Ok(found.items.into_iter().next())
}

/// Writes what differs between `old` and `new`, if `old` is still current; answers whether
/// anything did.
pub(crate) async fn update<K: Written>(
    client: &Client,
    old: &K,
    new: &K,
) -> Result<bool, WriteError> {
    Ok(change::<K, IgnoredAny>(client, old, new, None)
        .await?
        .is_some())
}

/// Like [`update`], and answers what the server made of it, if anything differed.
pub(crate) async fn updated<K: Written>(
    client: &Client,
    old: &K,
    new: &K,
) -> Result<Option<K>, WriteError> {
    change(client, old, new, None).await
}

/// Like [`update`], as a patch: for those who may do nothing else.
pub(crate) async fn patched<K: Written>(
    client: &Client,
    old: &K,
    new: &K,
) -> Result<bool, WriteError> {
    Ok(send::<K, IgnoredAny>(client, old, new, None, true)
        .await?
        .is_some())
}

/// Like [`update`], through the status subresource.
pub(crate) async fn update_status<K: Written>(
    client: &Client,
    old: &K,
    new: &K,
) -> Result<bool, WriteError> {
    Ok(change::<K, IgnoredAny>(client, old, new, Some("status"))
        .await?
        .is_some())
}

/// Like [`update`], through another subresource.
pub(crate) async fn update_sub<K: Written>(
    client: &Client,
    old: &K,
    new: &K,
    subresource: &str,
) -> Result<bool, WriteError> {
    Ok(change::<K, IgnoredAny>(client, old, new, Some(subresource))
        .await?
        .is_some())
}

async fn change<K: Written, R: DeserializeOwned>(
    client: &Client,
    old: &K,
    new: &K,
    subresource: Option<&str>,
) -> Result<Option<R>, WriteError> {
    send(client, old, new, subresource, K::plural(&()) == "pods").await
}

async fn send<K: Written, R: DeserializeOwned>(
    client: &Client,
    old: &K,
    new: &K,
    subresource: Option<&str>,
    as_patch: bool,
) -> Result<Option<R>, WriteError> {
    let key = Key::of(old);
    let encode = |source| WriteError::Encode {
        kind: kind::<K>(),
        key: key.clone(),
        source,
    };
    let Some(change) = client::change(old, new).map_err(encode)? else {
        return Ok(None);
    };
    let verb = if subresource.is_some() {
        "update the status of"
    } else {
        "update"
    };
    let to = request::<K>(&key.namespace);
    let request = if as_patch {
        let (params, change) = (PatchParams::default(), Patch::Merge(change));
        match subresource {
            None => to.patch(&key.name, &params, &change),
            Some(sub) => to.patch_subresource(sub, &key.name, &params, &change),
        }
    } else {
        let mut whole = serde_json::to_value(new).map_err(encode)?;
        whole["metadata"]["resourceVersion"] = old.meta().resource_version.clone().into();
        let (params, whole) = (PostParams::default(), whole.to_string().into_bytes());
        match subresource {
            None => to.replace(&key.name, &params, whole),
            Some(sub) => to.replace_subresource(sub, &key.name, &params, whole),
        }
    };
    let request = request.map_err(|source| WriteError::Build {
        verb,
        kind: kind::<K>(),
        key: key.clone(),
        source,
    })?;
    client.request(request).await.map(Some).map_err(|source| {
        WriteError::Call(Box::new(Refused {
            verb,
            kind: kind::<K>(),
            key,
            source,
        }))
    })
}

/// Deletes an object only as it is known.
pub(crate) fn unchanged<K: Written>(params: DeleteParams, object: &K) -> DeleteParams {
    params.preconditions(Preconditions {
        uid: object.meta().uid.clone(),
        resource_version: object.meta().resource_version.clone(),
    })
}

/// Deletes the object with this uid; one that is gone already is fine.
pub(crate) async fn delete<K: Written>(
    client: &Client,
    key: &Key,
    uid: Option<&str>,
    params: DeleteParams,
) -> Result<(), WriteError> {
    let params = match uid {
        Some(uid) => params.preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        None => params,
    };
    let request = request::<K>(&key.namespace)
        .delete(&key.name, &params)
        .map_err(|source| WriteError::Build {
            verb: "delete",
            kind: kind::<K>(),
            key: key.clone(),
            source,
        })?;
    match client.request::<IgnoredAny>(request).await {
        Ok(_) => Ok(()),
        Err(error) if client::is_not_found(&error) => Ok(()),
        Err(source) => Err(WriteError::Call(Box::new(Refused {
            verb: "delete",
            kind: kind::<K>(),
            key: key.clone(),
            source,
        }))),
    }
}
