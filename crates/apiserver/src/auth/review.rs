//! The reviews: who am I, what may I do, what may they do, whose token is this. Each takes the object
//! that was posted and gives it back with its status.

use std::collections::BTreeMap;

use api::status::ApiError;
use api::validate::FieldError;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::chain::Chain;
use super::legacy_token::Remarks;
use super::rbac::{Attributes, Authorizer, Decision};
use super::selectors::{self, Selectors};
use super::token::strings;
use super::user::User;

const AUTHORIZATION: &str = "authorization.k8s.io";

/// `authorization.k8s.io` SubjectAccessReview.
///
/// # Errors
/// 422 in upstream's words.
pub fn subject_access(authorizer: &Authorizer, review: Value) -> Result<Value, ApiError> {
    let spec = &review["spec"];
    let mut errors = check_attributes(spec);
    let subject = subject(spec);
    if subject.name.is_empty() && subject.groups.is_empty() {
        let words = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", "", words));
    }
    decide(authorizer, &subject, review, "SubjectAccessReview", &errors)
}

/// `authorization.k8s.io` LocalSubjectAccessReview in a namespace.
///
/// # Errors
/// 422 in upstream's words.
pub fn local_subject_access(
    authorizer: &Authorizer,
    namespace: &str,
    review: Value,
) -> Result<Value, ApiError> {
    let spec = &review["spec"];
    let mut errors = check_attributes(spec);
    let subject = subject(spec);
    if subject.name.is_empty() && subject.groups.is_empty() {
        let words = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", "", words));
    }
    let asked = &spec["resourceAttributes"]["namespace"];
    if is_there(&spec["resourceAttributes"]) && asked.as_str().unwrap_or_default() != namespace {
        let path = "spec.resourceAttributes.namespace";
        errors.push(FieldError::invalid(
            path,
            asked.clone(),
            "must match metadata.namespace",
        ));
    }
    if is_there(&spec["nonResourceAttributes"]) {
        let words = "disallowed on this kind of request";
        let value = spec["nonResourceAttributes"].clone();
        errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            value,
            words,
        ));
    }
    decide(
        authorizer,
        &subject,
        review,
        "LocalSubjectAccessReview",
        &errors,
    )
}

/// `authorization.k8s.io` SelfSubjectAccessReview of the caller.
///
/// # Errors
/// 422 in upstream's words.
pub fn self_subject_access(
    authorizer: &Authorizer,
    user: &User,
    review: Value,
) -> Result<Value, ApiError> {
    let errors = check_attributes(&review["spec"]);
    decide(authorizer, user, review, "SelfSubjectAccessReview", &errors)
}

/// `authorization.k8s.io` SelfSubjectRulesReview of the caller.
///
/// # Errors
/// 400 without a namespace.
pub fn self_subject_rules(
    authorizer: &Authorizer,
    user: &User,
    review: Value,
) -> Result<Value, ApiError> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let (rules, faults) = authorizer.rules_for(user, namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        if !rule.resources.is_empty() {
            let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                value["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(value);
        }
        if !rule.urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
        }
    }
    let mut status = json!({
        "incomplete": !faults.is_empty(),
        "resourceRules": resources,
        "nonResourceRules": paths,
    });
    if !faults.is_empty() {
        status["evaluationError"] = json!(faults.join(", "));
    }
    Ok(with_status(review, status))
}

/// `authentication.k8s.io` SelfSubjectReview of the caller.
pub fn self_subject(user: &User, review: Value) -> Value {
    let mut review = with_status(review, json!({"userInfo": user.to_value()}));
    let now = Timestamp::now().as_second();
    if let Ok(now) = Timestamp::from_second(now) {
        review["metadata"]["creationTimestamp"] = json!(now.to_string());
    }
    review
}

/// `authentication.k8s.io` TokenReview.
///
/// # Errors
/// 400 without a token.
pub async fn token(
    authenticator: &Chain,
    review: Value,
    remarks: &mut Remarks,
) -> Result<Value, ApiError> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        let words = "token is required for TokenReview in authentication";
        return Err(ApiError::bad_request(words));
    }
    let mut wanted = strings(&review["spec"]["audiences"]);
    if wanted.is_empty() {
        wanted = authenticator.audiences().to_vec();
    }
    let status = match authenticator
        .token_user(token, &wanted, Timestamp::now(), remarks)
        .await
    {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user.to_value(), "audiences": audiences})
        }
        Err(error) => json!({"user": {}, "error": error.to_string()}),
    };
    Ok(with_status(review, status))
}

fn decide(
    authorizer: &Authorizer,
    user: &User,
    review: Value,
    kind: &str,
    errors: &[FieldError],
) -> Result<Value, ApiError> {
    if !errors.is_empty() {
        return Err(ApiError::invalid_kind(AUTHORIZATION, kind, "", errors));
    }
    let spec = &review["spec"];
    let of = if is_there(&spec["resourceAttributes"]) {
        "resourceAttributes"
    } else {
        "nonResourceAttributes"
    };
    let text = |field: &str| spec[of][field].as_str().unwrap_or_default();
    let (selectors, faults) = Selectors::of_review(&spec["resourceAttributes"]);
    let attributes = Attributes {
        user,
        verb: text("verb"),
        group: text("group"),
        version: match text("version") {
            "" => "*",
            version => version,
        },
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        path: text("path"),
        selectors: &selectors,
    };
    let decision = authorizer.authorize(&attributes);
    let mut status = json!({"allowed": decision.is_allowed()});
    let (Decision::Allow(reason) | Decision::NoOpinion(reason)) = decision;
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    if !faults.is_empty() {
        status["evaluationError"] = json!(faults.join("; "));
    }
    Ok(with_status(review, status))
}

fn with_status(mut review: Value, status: Value) -> Value {
    if !review.is_object() {
        review = Value::Object(Map::new());
    }
    if !review.get("metadata").is_some_and(Value::is_object) {
        review["metadata"] = json!({});
    }
    review["status"] = status;
    review
}

fn is_there(value: &Value) -> bool {
    !value.is_null()
}

fn check_attributes(spec: &Value) -> Vec<FieldError> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (is_there(resource), is_there(path)) {
        (true, true) => {
            let words = "cannot be specified in combination with resourceAttributes";
            vec![FieldError::invalid(
                "spec.nonResourceAttributes",
                path.clone(),
                words,
            )]
        }
        (false, false) => {
            let words =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![FieldError::invalid(
                "spec.resourceAttributes",
                Value::Null,
                words,
            )]
        }
        (true, false) => selectors::check(resource),
        (false, true) => Vec::new(),
    }
}

/// The user that a review is about.
fn subject(spec: &Value) -> User {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    // Keys are compared in lower case, as HTTP headers are.
    let extra: BTreeMap<String, Vec<String>> = extra
        .map(|(key, values)| (key.to_lowercase(), strings(values)))
        .collect();
    User {
        name: text("user"),
        uid: text("uid"),
        groups: strings(&spec["groups"]),
        extra,
    }
}
