//! Tokens that live in Secrets: what is in one, when it is believed, and what is to be said of its use.
//!
//! Invariant: such a token is good only as long as its Secret holds the very same one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

use super::live::{BoundKind, LiveLookup};
use super::user::{AUTHENTICATED, User, service_account_name};
use crate::metrics::Counter;

/// Who issues them.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";
/// The day of the last use, on the Secret.
pub(crate) const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Since when the token is no longer good, on the Secret.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

static AUTO: Counter = Counter {
    name: "serviceaccount_legacy_auto_token_uses_total",
    help: "Cumulative auto-generated legacy tokens used",
};
static MANUAL: Counter = Counter {
    name: "serviceaccount_legacy_manual_token_uses_total",
    help: "Cumulative manually created legacy tokens used",
};
static INVALID: Counter = Counter {
    name: "serviceaccount_invalid_legacy_auto_token_uses_total",
    help: "Cumulative invalid auto-generated legacy tokens used",
};

/// The claims of a token in a Secret.
#[derive(Clone, Debug, Deserialize)]
pub struct LegacyClaims {
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

/// What the use of credentials has the server say and do, whether or not they are believed.
#[derive(Debug, Default)]
pub struct Remarks {
    /// What the client is told.
    pub warnings: Vec<String>,
    /// What the audit log is told.
    pub annotations: Vec<(&'static str, String)>,
    /// The Secret whose use today is not written down yet.
    pub(crate) used: Option<Used>,
    pub(crate) count: Option<&'static Counter>,
}

/// A Secret whose token was used.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// In UTC.
    pub(crate) day: Date,
}

/// Why a token in a Secret is not believed, though a key of ours signed it. Upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LegacyError {
    /// The claims do not name the same account.
    #[error("sub claim is invalid")]
    Subject,
    /// The Secret is gone, or going.
    #[error("Token has been invalidated")]
    Invalidated,
    /// The Secret holds another token.
    #[error("Token does not match server's copy")]
    Copy,
    /// The account does not exist.
    #[error("serviceaccounts {0:?} not found")]
    NoAccount(String),
    /// The account is being deleted.
    #[error("ServiceAccount {0}/{1} has been deleted")]
    Deleted(String, String),
    /// The account is another one of the same name.
    #[error("ServiceAccount UID ({0}) does not match claim ({1})")]
    OtherAccount(String, String),
    /// The cleaner has found it unused for long.
    #[error(
        "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
    )]
    Marked {
        /// Of both.
        namespace: String,
        /// The Secret.
        secret: String,
        /// The account.
        account: String,
    },
}

impl LegacyClaims {
    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        let all = [&self.namespace, &self.secret, &self.account, &self.uid];
        all.iter().all(|claim| !claim.is_empty())
    }

    /// Checks that everything named is there and the Secret holds this token; gives the user.
    ///
    /// # Errors
    /// [`LegacyError`] says which check failed.
    pub(super) fn check(
        &self,
        token: &str,
        lookup: &dyn LiveLookup,
        now: Timestamp,
        remarks: &mut Remarks,
    ) -> Result<User, LegacyError> {
        let Self {
            sub,
            namespace,
            secret: name,
            account,
            uid,
        } = self;
        if *sub != service_account_name(namespace, account) {
            return Err(LegacyError::Subject);
        }
        let is_going = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
        let secret = lookup
            .object(BoundKind::Secret, namespace, name)
            .filter(|secret| !is_going(secret))
            .ok_or(LegacyError::Invalidated)?;
        let copy = secret["data"]["token"].as_str().unwrap_or_default();
        let copy = STANDARD.decode(copy).unwrap_or_default();
        if !same(&copy, token.as_bytes()) {
            return Err(LegacyError::Copy);
        }
        let Some(found) = lookup.object(BoundKind::ServiceAccount, namespace, account) else {
            return Err(LegacyError::NoAccount(account.clone()));
        };
        if is_going(&found) {
            return Err(LegacyError::Deleted(namespace.clone(), account.clone()));
        }
        let found_uid = found["metadata"]["uid"].as_str().unwrap_or_default();
        if found_uid != uid {
            return Err(LegacyError::OtherAccount(found_uid.to_owned(), uid.clone()));
        }
        remarks.used = self.use_to_note(&secret, now);
        if !label(&secret, INVALID_SINCE).is_empty() {
            let key = "authentication.k8s.io/legacy-token-invalidated";
            remarks
                .annotations
                .push((key, format!("{name}/{namespace}")));
            remarks.count = Some(&INVALID);
            return Err(LegacyError::Marked {
                namespace: namespace.clone(),
                secret: name.clone(),
                account: account.clone(),
            });
        }
        let listed = found["secrets"].as_array().into_iter().flatten();
        let (key, count) = if listed.into_iter().any(|secret| secret["name"] == **name) {
            remarks.warnings.push(
                "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens."
                    .to_owned(),
            );
            (
                "authentication.k8s.io/legacy-token-autogenerated-secret",
                &AUTO,
            )
        } else {
            ("authentication.k8s.io/legacy-token-manual-secret", &MANUAL)
        };
        remarks.annotations.push((key, name.clone()));
        remarks.count = Some(count);
        Ok(User {
            name: sub.clone(),
            uid: uid.clone(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                AUTHENTICATED.to_owned(),
            ],
            ..User::default()
        })
    }

    /// Another server's clock may be a day ahead.
    fn use_to_note(&self, secret: &Value, now: Timestamp) -> Option<Used> {
        let day = now.to_zoned(TimeZone::UTC).date();
        let noted = label(secret, LAST_USED);
        let is_noted =
            noted == day.to_string() || day.tomorrow().is_ok_and(|next| noted == next.to_string());
        let uid = secret["metadata"]["uid"].as_str().unwrap_or_default();
        (!is_noted).then(|| Used {
            namespace: self.namespace.clone(),
            name: self.secret.clone(),
            uid: uid.to_owned(),
            day,
        })
    }
}

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    api::meta::label(object, key).unwrap_or_default()
}

/// Takes as long wherever the two differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b));
    one.len() == other.len() && differing == 0
}
