//! Secrets of the type `kubernetes.io/service-account-token`: filled with a token of their account,
//! gone with it.

mod cleaner;

use crate::context::Context;
use crate::write::{self, WriteError};
use client::{Informer, Key, Queue, Selector};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use tracing::info;

pub(crate) use cleaner::run as run_cleaner;

/// Signs claims with a key of the cluster's.
pub type Sign =
    Arc<dyn Fn(&Value) -> Result<String, Box<dyn Error + Send + Sync>> + Send + Sync + 'static>;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";

/// The Secrets of this type, and none else.
fn secrets(context: &Context) -> Informer<Secret> {
    let of_type = Selector::fields(format!("type={TYPE}"));
    context.informers.get_with(of_type)
}

#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot sign the token of {key}")]
    Sign {
        key: Key,
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Task {
    /// A Secret has to be filled, or to go.
    Fill(Key),
    /// A Secret is gone: its account names it no longer.
    Forget {
        /// The account.
        account: Key,
        /// The account's uid, as the Secret had it; may be empty.
        uid: String,
        /// The Secret.
        secret: String,
    },
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fill(key) => write!(f, "{key}"),
            Self::Forget {
                account, secret, ..
            } => write!(f, "{secret} of {account}"),
        }
    }
}

struct Controller {
    context: Context,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
    queue: Queue<Task>,
    ca_pem: String,
    sign: Sign,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, ca_pem: String, sign: Sign) {
    let controller = Arc::new(Controller {
        secrets: secrets(&context),
        accounts: context.informers.get::<ServiceAccount>(),
        queue: Queue::new(),
        ca_pem,
        sign,
        context,
    });
    controller.listen();
    controller.secrets.synced().await;
    controller.accounts.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("tokens", queue, 2, drain, move |task| {
        let controller = controller.clone();
        async move { controller.work(&task).await }
    })
    .await;
}

/// The account that a Secret names, and the uid that it gives for it (may be empty).
fn account_of(secret: &Secret) -> Option<(Key, String)> {
    let annotations = secret.metadata.annotations.as_ref()?;
    let name = annotations.get(ACCOUNT).filter(|name| !name.is_empty())?;
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let uid = annotations.get(UID).cloned().unwrap_or_default();
    Some((Key::new(namespace, name.as_str()), uid))
}

fn is_meant(account: &ServiceAccount, uid: &str) -> bool {
    uid.is_empty() || account.metadata.uid.as_deref() == Some(uid)
}

/// The Secret as it must be, but for the token; `None` where nothing is missing.
fn filled(secret: &Secret, account: &ServiceAccount, ca_pem: &str) -> Option<Secret> {
    let mut new = secret.clone();
    let data = new.data.get_or_insert_default();
    let empty = |held: Option<&ByteString>| held.is_none_or(|held| held.0.is_empty());
    let needs_ca = !ca_pem.is_empty() && data.get(CA).is_none_or(|ca| ca.0 != ca_pem.as_bytes());
    let needs_namespace = empty(data.get(NAMESPACE));
    if !needs_ca && !needs_namespace && !empty(data.get(TOKEN)) {
        return None;
    }
    if needs_ca {
        data.insert(CA.to_owned(), ByteString(ca_pem.as_bytes().to_vec()));
    }
    if needs_namespace {
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        data.insert(NAMESPACE.to_owned(), ByteString(namespace.into_bytes()));
    }
    let annotations = new.metadata.annotations.get_or_insert_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    annotations.insert(ACCOUNT.to_owned(), text(&account.metadata.name));
    annotations.insert(UID.to_owned(), text(&account.metadata.uid));
    Some(new)
}

/// The claims of a token that never ends.
fn claims(secret: &Secret, account: &ServiceAccount) -> Value {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let namespace = text(&account.metadata.namespace);
    let name = text(&account.metadata.name);
    let sub = format!("system:serviceaccount:{namespace}:{name}");
    json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": text(&secret.metadata.name),
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": text(&account.metadata.uid),
        "sub": sub,
    })
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        let this = self.clone();
        self.secrets.on_change(move |old, new| match (old, new) {
            (_, Some(secret)) => this.queue.add(Task::Fill(Key::of(&**secret))),
            (Some(gone), None) => {
                if let Some((account, uid)) = account_of(gone) {
                    let secret = gone.metadata.name.clone().unwrap_or_default();
                    this.queue.add(Task::Forget {
                        account,
                        uid,
                        secret,
                    });
                }
            }
            (None, None) => {}
        });
        let this = self.clone();
        self.accounts.on_change(move |old, new| {
            let uid = |account: Option<&Arc<ServiceAccount>>| {
                account.and_then(|account| account.metadata.uid.clone())
            };
            if let Some(gone) = old
                && uid(old) != uid(new)
            {
                let key = Key::of(&**gone);
                for secret in this.secrets.list() {
                    if account_of(&secret).is_some_and(|(account, _)| account == key) {
                        this.queue.add(Task::Fill(Key::of(&*secret)));
                    }
                }
            }
        });
    }

    async fn work(&self, task: &Task) -> Result<(), TokenError> {
        match task {
            Task::Fill(key) => self.fill(key).await,
            Task::Forget {
                account,
                uid,
                secret,
            } => Ok(self.forget(account, uid, secret).await?),
        }
    }

    /// The account that is meant: by the cache, or where that has none, by the server.
    async fn account(&self, key: &Key, uid: &str) -> Result<Option<ServiceAccount>, WriteError> {
        if let Some(account) = self.accounts.get_key(key)
            && is_meant(&account, uid)
        {
            return Ok(Some(ServiceAccount::clone(&account)));
        }
        let live = write::read::<ServiceAccount>(&self.context.client, key).await?;
        Ok(live.filter(|account| is_meant(account, uid)))
    }

    async fn fill(&self, key: &Key) -> Result<(), TokenError> {
        let Some(secret) = self.secrets.get_key(key) else {
            return Ok(());
        };
        let Some((named, uid)) = account_of(&secret) else {
            return Ok(());
        };
        let client = &self.context.client;
        let Some(account) = self.account(&named, &uid).await? else {
            info!(account = %named, "deleting: its account does not exist");
            let uid = secret.metadata.uid.as_deref();
            let gone = write::delete::<Secret>(client, key, uid, DeleteParams::default());
            return Ok(settle(gone.await)?);
        };
        let Some(mut new) = filled(&secret, &account, &self.ca_pem) else {
            return Ok(());
        };
        let data = new.data.get_or_insert_default();
        if data.get(TOKEN).is_none_or(|token| token.0.is_empty()) {
            let token = (self.sign)(&claims(&secret, &account));
            let token = token.map_err(|source| TokenError::Sign {
                key: key.clone(),
                source,
            })?;
            data.insert(TOKEN.to_owned(), ByteString(token.into_bytes()));
            info!(account = %named, "filling in its token");
        }
        Ok(settle(
            write::update(client, &*secret, &new).await.map(drop),
        )?)
    }

    async fn forget(&self, account: &Key, uid: &str, secret: &str) -> Result<(), WriteError> {
        let client = &self.context.client;
        let Some(old) = write::read::<ServiceAccount>(client, account).await? else {
            return Ok(());
        };
        if !is_meant(&old, uid) {
            return Ok(());
        }
        let mut new = old.clone();
        if let Some(secrets) = &mut new.secrets {
            secrets.retain(|named| named.name.as_deref() != Some(secret));
        }
        match write::update(client, &old, &new).await {
            Err(error) if client::is_not_found(&error) => Ok(()),
            result => result.map(drop),
        }
    }
}

/// What was changed meanwhile comes again, what is gone does not matter.
fn settle(result: Result<(), WriteError>) -> Result<(), WriteError> {
    match result {
        Err(error) if client::is_not_found(&error) || client::is_conflict(&error) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
