//! What is in a service account token, and when it is believed.
//!
//! Invariant: a token lives no longer than what it is bound to: account, pod, secret or node.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::live::{BoundKind, LiveLookup};
use super::user::{AUTHENTICATED, User, service_account_name};

/// How far clocks may differ, and how long something deleted is still good.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// The claims of a service account token. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// For which servers it is.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When it ends.
    pub exp: f64,
    /// When it was issued.
    pub iat: f64,
    /// By whom.
    pub iss: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    /// When it starts.
    pub nbf: f64,
    /// The user name.
    pub sub: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The account's namespace.
    pub namespace: String,
    /// The node that the pod runs on, or that the token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The pod that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The account.
    pub serviceaccount: Reference,
    /// From when on its use is to be reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<f64>,
}

/// An object by name and UID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its UID.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    })
}

/// Why a token is not believed, though a key of ours signed it. Upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// `exp` is past.
    #[error("service account token has expired")]
    Expired,
    /// `nbf` or `iat` is to come.
    #[error("service account token is not valid yet")]
    NotYet,
    /// The account does not exist.
    #[error("serviceaccounts {name:?} not found")]
    NoAccount {
        /// Its name.
        name: String,
    },
    /// The account is being deleted.
    #[error("service account {namespace}/{name} has been deleted")]
    Deleted {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The account is another one of the same name.
    #[error("service account UID ({found}) does not match claim ({claimed})")]
    OtherAccount {
        /// The UID that it has now.
        found: String,
        /// The one in the token.
        claimed: String,
    },
    /// What the token is bound to is gone, or another one of the same name.
    #[error("service account token has been invalidated")]
    Invalidated,
}

impl Claims {
    /// Checks the times, and that everything named is there; gives the user.
    ///
    /// # Errors
    /// [`ClaimsError`] says which check failed.
    pub fn check(&self, lookup: &dyn LiveLookup, now: Timestamp) -> Result<User, ClaimsError> {
        let (seconds, leeway) = (now.as_duration().as_secs_f64(), LEEWAY.as_secs_f64());
        if seconds - leeway > self.exp {
            return Err(ClaimsError::Expired);
        }
        if seconds + leeway < self.nbf || seconds + leeway < self.iat {
            return Err(ClaimsError::NotYet);
        }
        let Bound {
            namespace,
            node,
            pod,
            secret,
            serviceaccount: account,
            ..
        } = &self.bound;
        let Some(live) = lookup.live(BoundKind::ServiceAccount, namespace, &account.name) else {
            return Err(ClaimsError::NoAccount {
                name: account.name.clone(),
            });
        };
        let is_over = |deleted: Option<Timestamp>| deleted.is_some_and(|at| at + LEEWAY < now);
        if is_over(live.deleted) {
            let (namespace, name) = (namespace.clone(), account.name.clone());
            return Err(ClaimsError::Deleted { namespace, name });
        }
        if live.uid != account.uid {
            let (found, claimed) = (live.uid, account.uid.clone());
            return Err(ClaimsError::OtherAccount { found, claimed });
        }
        let good = |kind, namespace: &str, reference: &Reference| {
            let live = lookup.live(kind, namespace, &reference.name);
            live.is_some_and(|live| live.uid == reference.uid && !is_over(live.deleted))
        };
        let checks = [
            (BoundKind::Secret, namespace.as_str(), secret),
            (BoundKind::Pod, namespace.as_str(), pod),
            // A pod's node is told for information; the pod lives no longer than the node's word.
            (
                BoundKind::Node,
                "",
                if pod.is_some() { &None } else { node },
            ),
        ];
        for (kind, namespace, reference) in checks {
            if reference
                .as_ref()
                .is_some_and(|reference| !good(kind, namespace, reference))
            {
                return Err(ClaimsError::Invalidated);
            }
        }
        Ok(self.user())
    }

    fn user(&self) -> User {
        let Bound {
            namespace,
            node,
            pod,
            serviceaccount: account,
            ..
        } = &self.bound;
        let mut user = User {
            name: service_account_name(namespace, &account.name),
            uid: account.uid.clone(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                AUTHENTICATED.to_owned(),
            ],
            ..User::default()
        };
        let mut extra = |key: &str, value: String| {
            if !value.is_empty() {
                user.extra
                    .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
            }
        };
        if !self.jti.is_empty() {
            extra("credential-id", format!("JTI={}", self.jti));
        }
        for (kind, reference) in [("pod", pod), ("node", node)] {
            let Some(reference) = reference else { continue };
            extra(&format!("{kind}-name"), reference.name.clone());
            extra(&format!("{kind}-uid"), reference.uid.clone());
        }
        user
    }
}
