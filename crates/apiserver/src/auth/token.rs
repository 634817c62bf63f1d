//! Issuing service account tokens: TokenRequest.
//!
//! Invariant: what a token is bound to exists, by UID, when it is issued.

use api::status::ApiError;
use api::validate::FieldError;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::claims::{Bound, Reference};
use super::live::{BoundKind, LiveLookup};
use super::user::service_account_name;

/// What an ordinary projected volume asks for: an hour and a mark by which it is known.
const PROJECTED_SECS: i64 = 3607;
/// Such tokens live a year, so that programs that never read theirs again go on; `warnafter` has
/// the time that was asked for.
const EXTENDED_SECS: i64 = 365 * 24 * 60 * 60;
/// What TokenRequest defaults to, and its bounds.
const DEFAULT_SECS: i64 = 3600;
const SHORTEST_SECS: i64 = 600;
const LONGEST_SECS: i64 = 1 << 32;

/// Issues tokens.
pub struct Issuer<'a> {
    /// Signs them.
    pub keys: &'a pki::TokenKeys,
    /// The claim `iss`.
    pub issuer: &'a str,
    /// The audiences of this API server: the default, and those for which extension is possible.
    pub audiences: &'a [String],
    /// Finds pods, secrets, nodes and the account.
    pub lookup: &'a dyn LiveLookup,
}

impl Issuer<'_> {
    /// Answers `create` of `serviceaccounts/NAME/token`: the TokenRequest with its status.
    ///
    /// # Errors
    /// Upstream's: 404 for the account or what the token is to be bound to, 400, 409 or 422 for a
    /// request that cannot be.
    pub fn issue(
        &self,
        namespace: &str,
        name: &str,
        mut request: Value,
        now: Timestamp,
    ) -> Result<Value, ApiError> {
        if !request.is_object() || !request.get("spec").is_none_or(Value::is_object) {
            return Err(ApiError::bad_request(
                "the object provided is not a TokenRequest",
            ));
        }
        for (field, expected) in [("name", name), ("namespace", namespace)] {
            let given = request["metadata"][field].as_str().unwrap_or_default();
            if !given.is_empty() && given != expected {
                let words = format!(
                    "the {field} of the provided object does not match the {field} sent on the request"
                );
                return Err(ApiError::bad_request(words));
            }
        }
        let account = self.object(BoundKind::ServiceAccount, namespace, name)?;
        let wanted_secs = expiration(&request)?;
        let mut audiences = strings(&request["spec"]["audiences"]);
        if audiences.is_empty() {
            audiences = self.audiences.to_vec();
        }
        let mut bound = Bound {
            namespace: namespace.to_owned(),
            serviceaccount: reference(&account),
            ..Bound::default()
        };
        self.bind(&request["spec"]["boundObjectRef"], name, &mut bound)?;

        let mut lifetime_secs = wanted_secs;
        let is_ours = audiences
            .iter()
            .all(|audience| self.audiences.contains(audience));
        let after = |secs: i64| now.as_second().saturating_add(secs);
        if bound.pod.is_some() && wanted_secs == PROJECTED_SECS && is_ours {
            lifetime_secs = EXTENDED_SECS;
            bound.warnafter = Some(seconds(after(wanted_secs)));
        }
        let claims = json!({
            "aud": audiences,
            "exp": after(lifetime_secs),
            "iat": now.as_second(),
            "iss": self.issuer,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": whole(&bound),
            "nbf": now.as_second(),
            "sub": service_account_name(namespace, name),
        });
        let token = self
            .keys
            .sign(&claims)
            .map_err(|error| ApiError::internal(stdx::chain(&error)))?;
        let ends = Timestamp::from_second(after(wanted_secs)).unwrap_or(Timestamp::MAX);
        request["apiVersion"] = json!("authentication.k8s.io/v1");
        request["kind"] = json!("TokenRequest");
        request["metadata"] = json!({
            "name": name,
            "namespace": namespace,
            "creationTimestamp": whole_seconds(now),
        });
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = json!(wanted_secs);
        request["status"] = json!({"token": token, "expirationTimestamp": whole_seconds(ends)});
        Ok(request)
    }

    /// Looks up what the token is to be bound to.
    fn bind(&self, reference_to: &Value, account: &str, bound: &mut Bound) -> Result<(), ApiError> {
        if reference_to.is_null() {
            return Ok(());
        }
        let text = |field: &str| reference_to[field].as_str().unwrap_or_default();
        let (version, kind, name, uid) =
            (text("apiVersion"), text("kind"), text("name"), text("uid"));
        let is_core = !version.contains('/');
        let namespace = bound.namespace.clone();
        let found = match kind {
            "Pod" if is_core => {
                let pod = self.object(BoundKind::Pod, &namespace, name)?;
                let own = pod["spec"]["serviceAccountName"]
                    .as_str()
                    .unwrap_or_default();
                if own != account {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                if let Some(node) = pod["spec"]["nodeName"]
                    .as_str()
                    .filter(|node| !node.is_empty())
                {
                    let live = self.lookup.live(BoundKind::Node, "", node);
                    let uid = live.map(|live| live.uid).unwrap_or_default();
                    bound.node = Some(Reference {
                        name: node.to_owned(),
                        uid,
                    });
                }
                bound.pod.insert(reference(&pod))
            }
            "Secret" if is_core => bound.secret.insert(reference(&self.object(
                BoundKind::Secret,
                &namespace,
                name,
            )?)),
            "Node" if is_core => {
                bound
                    .node
                    .insert(reference(&self.object(BoundKind::Node, "", name)?))
            }
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                return Err(ApiError::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        if !uid.is_empty() && uid != found.uid {
            let words = format!(
                "Operation cannot be fulfilled on {kind} {name:?}: the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(ApiError::new(409, "Conflict", words));
        }
        Ok(())
    }

    fn object(&self, kind: BoundKind, namespace: &str, name: &str) -> Result<Value, ApiError> {
        let found = self.lookup.object(kind, namespace, name);
        found.ok_or_else(|| ApiError::not_found_named("", kind.plural(), name))
    }
}

fn expiration(request: &Value) -> Result<i64, ApiError> {
    let path = "spec.expirationSeconds";
    let invalid = |value: Value, detail: &str| {
        let errors = [FieldError::invalid(path, value, detail)];
        Err(ApiError::invalid_kind(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            &errors,
        ))
    };
    let wanted = &request["spec"]["expirationSeconds"];
    match wanted.as_i64() {
        None if wanted.is_null() => Ok(DEFAULT_SECS),
        None => invalid(wanted.clone(), "must be a whole number of seconds"),
        Some(..SHORTEST_SECS) => invalid(
            wanted.clone(),
            "may not specify a duration less than 10 minutes",
        ),
        Some(secs) if secs > LONGEST_SECS => invalid(
            wanted.clone(),
            "may not specify a duration larger than 2^32 seconds",
        ),
        Some(secs) => Ok(secs),
    }
}

fn reference(object: &Value) -> Reference {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Reference {
        name: text("name"),
        uid: text("uid"),
    }
}

/// The list of strings in a value.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|item| Some(item.as_str()?.to_owned()))
        .collect()
}

/// The bound objects as a claim, with whole seconds where a float is held.
fn whole(bound: &Bound) -> Value {
    let mut value = serde_json::to_value(bound).unwrap_or_default();
    #[allow(
        clippy::cast_possible_truncation,
        reason = "made of whole seconds by `seconds`"
    )]
    if let Some(warnafter) = bound.warnafter {
        value["warnafter"] = json!(warnafter as i64);
    }
    value
}

/// Exact for all times that there are.
fn seconds(whole: i64) -> f64 {
    SignedDuration::from_secs(whole).as_secs_f64()
}

fn whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

#[cfg(test)]
mod tests;
